"""`llmctl embed` and `llmctl rerank` as scripts meet them: what stands on stdout and stderr, and the exit code."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmctl.cli import main
from tests.fakes.command import argv, document, kill_engine_of, llmctl, preloaded, spawn
from tests.fakes.connections import trace
from tests.fakes.encoder import WIDTH, encoders

LINES = '{"id": "a", "text": "one"}\n"two"\n'


@pytest.fixture(scope="module")
def folder(measured_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and what is remembered of the machine and of them: once for all tests of this module."""
    return encoders(tmp_path_factory.mktemp("encoders"), measured_cache)


@pytest.fixture(autouse=True)
def remembered(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


@pytest.fixture
def model(folder: Path) -> str:
    return str(folder / "tiny.gguf")


@pytest.fixture
def ranker(folder: Path) -> str:
    return str(folder / "ranker.gguf")


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_in_and_out(model: str) -> None:
    done = llmctl("embed", "-m", model, stdin=LINES)
    assert done.returncode == 0, done.stderr
    first, second = rows(done.stdout)
    assert (first["id"], second["id"]) == ("a", 1)
    assert set(first) == {"id", "embedding", "dimensions", "tokens", "truncated"}
    assert len(first["embedding"]) == first["dimensions"] == WIDTH
    assert "tiny F32 · local · " in done.stderr and f"2 texts · 10 tokens · {WIDTH} dimensions" in done.stderr


def test_csv_npy_and_json_have_the_same_numbers(model: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = home / "texts.jsonl"
    texts.write_text(LINES)
    asked = ("embed", "-m", model, "-f", str(texts), "-q")
    assert main([*asked]) == 0
    expected = [row["embedding"] for row in rows(capsys.readouterr().out)]
    assert main([*asked, "--csv"]) == 0
    head, *table = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head == ["id", *map(str, range(WIDTH))] and [row[0] for row in table] == ["a", "1"]
    assert [[float(cell) for cell in row[1:]] for row in table] == expected
    assert main([*asked, "--npy", "vectors.npy"]) == 0
    assert capsys.readouterr().out == ""
    array = np.load("vectors.npy")
    assert array.dtype == np.float32 and array.tolist() == np.array(expected, np.float32).tolist()
    assert main([*asked, "--json"]) == 0
    *events, whole = rows(capsys.readouterr().out)
    assert [event["embedding"] for event in events] == expected
    assert {event["event"] for event in events} == {"embedding"}
    assert whole["data"]["texts"] == 2 and whole["data"]["dimensions"] == WIDTH


def test_the_best_documents_first(ranker: str) -> None:
    done = llmctl("rerank", "fruit", "--lines", "-m", ranker, "--top", "2", stdin="an apple\nthe moon\nseven\n")
    assert done.returncode == 0, done.stderr
    best, second = rows(done.stdout)
    assert set(best) == {"id", "index", "score", "text", "truncated"}
    assert best["score"] >= second["score"] and best["text"] in ("an apple", "the moon", "seven")
    assert "3 documents · " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("embed",), 2, "there is no text"),
        (("embed", "--lines", "-f", "nowhere.txt"), 4, "nowhere.txt is not there"),
        (("embed", "-m", "", "a"), 2, "--model was given an empty name"),
        (("embed", "-m", "nonesuch", "a"), 4, "there is no model named 'nonesuch'"),
        (("embed", "--csv", "--json", "a"), 2, "only one of --csv, --npy and --json"),
        (("embed", "--keep-alive", "soon", "a"), 2, "--keep-alive is 'soon'"),
        (("embed", "--as", "poem", "a"), 2, "poem"),
        (("embed", "a"), 4, "nobody said yes"),
        (("rerank",), 2, "missing argument 'query'"),
        (("rerank", "a"), 2, "there is no document"),
        (("rerank", "a", "b"), 4, "nobody said yes"),
    ],
)
def test_what_is_refused(
    arguments: tuple[str, ...],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert main([*arguments]) == code
    written = capsys.readouterr()
    assert words in written.out + written.err


def test_a_text_that_is_too_long(model: str) -> None:
    long = "x" * 100
    done = llmctl("embed", "-m", model, "--json", "short", long)
    assert done.returncode == 2
    error = document(done)["error"]
    assert error["code"] == "context" and error["message"].startswith("text 2 is 102 tokens, from 1 to 64")
    done = llmctl("embed", "-m", model, "--truncate", long)
    assert done.returncode == 0 and rows(done.stdout)[0]["truncated"] is True
    assert "warning: 1 text of 1 cut off at the end" in done.stderr


def test_an_engine_that_stays(model: str) -> None:
    from llmctl.workspace import engines

    try:
        assert llmctl("embed", "-m", model, "--keep-alive", "5m", "a").returncode == 0
        (engine,) = engines.staying()
        done = llmctl("embed", "-m", model, "a")
        assert "· already loaded" in done.stderr and engines.staying()[0].pid == engine.pid
    finally:
        engines.stop(None)


def test_a_reader_that_has_had_enough(model: str) -> None:
    lines = "".join(f'"text {at}"\n' for at in range(3000))
    with preloaded().start("embed", "-m", model) as command:
        assert command.stdin is not None and command.stdout is not None and command.stderr is not None
        command.stdin.write(lines.encode())
        command.stdin.close()
        assert command.stdout.readline()
        command.stdout.close()
        stderr = command.stderr.read()
        assert command.wait(timeout=60) == 141
    assert b"Traceback" not in stderr


def test_ctrl_c(model: str) -> None:
    lines = "".join(f'"text {at}"\n' for at in range(20000))
    with preloaded().start("embed", "-m", model) as command:
        assert command.stdin is not None and command.stdout is not None and command.stderr is not None
        command.stdin.write(lines.encode())
        command.stdin.close()
        first = command.stdout.readline()
        command.send_signal(signal.SIGINT)
        rest, stderr = command.stdout.read(), command.stderr.read()
        assert command.wait(timeout=60) == 130
    assert all(row["dimensions"] == WIDTH for row in rows((first + rest).decode()))
    assert b"Traceback" not in stderr


def test_nothing_is_connected_to_but_the_engine(model: str, tmp_path: Path) -> None:
    prefix, seen = trace(tmp_path)
    command = [*prefix, *argv("embed", "--local", "-m", model, "a")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    peers = seen()
    assert not [peer for peer in peers if not peer.startswith("127.0.0.1:")]
    assert peers or not prefix


def test_a_bar_at_the_terminal_and_the_vectors_in_a_file(model: str, home: Path) -> None:
    terminal, other_end = pty.openpty()
    (home / "texts").write_text("".join(f"text {at}\n" for at in range(100)))
    arguments = ("embed", "-m", model, "--lines", "-f", str(home / "texts"))
    with open(os.devnull) as nothing:
        streams = {"stdin": nothing.fileno(), "stderr": other_end}
        process = preloaded().start(*arguments, streams=streams, environment={"TERM": "xterm"})
    with process:
        os.close(other_end)
        shown = threading.Thread(target=_drain, args=(terminal, seen := bytearray()))
        shown.start()
        assert process.stdout is not None
        written = rows(process.stdout.read().decode())
        assert process.wait(timeout=60) == 0
        shown.join(timeout=60)
    os.close(terminal)
    assert [row["id"] for row in written] == list(range(100))
    assert b"embedding" in seen and b"/100" in seen and b"dimensions" in seen and b"[0." not in seen


def _drain(terminal: int, seen: bytearray) -> None:
    with contextlib.suppress(OSError):  # Linux says so when nobody has the other end any more
        while piece := os.read(terminal, 4096):
            seen += piece


def test_an_engine_that_is_killed(model: str, home: Path) -> None:
    texts = home / "texts"
    texts.write_text("".join(f"text {at} of some words\n" for at in range(20000)))
    with spawn("embed", "-m", model, "--lines", "-f", str(texts)) as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.readline()
        kill_engine_of(process, after_s=0.0)
        rest, stderr = process.stdout.read(), process.stderr.read().decode()
        assert process.wait(timeout=60) == 8
    assert "the engine died: it was killed" in stderr and "Traceback" not in stderr
    assert all(row["dimensions"] == WIDTH for row in rows((first + rest).decode()))
