"""``llmctl score`` and ``llmctl he demo``: three commands with files between them, and no key on the side of the
vectors."""

from __future__ import annotations

import json
import random
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmctl.cli import main
from llmctl.encrypted_scoring import container, library
from llmctl.encrypted_scoring.asker import asked
from llmctl.encrypted_scoring.parameters import parameters
from llmctl.encrypted_scoring.quantized import quantized, scores
from llmctl.workspace import he_demo
from tests.contract.test_page import row
from tests.fakes.encoder import write_encoder

DIMENSIONS = 48
KEY_LINE = "llmctl-key:AQAgZo6yGqzhWYA5dKTGfwi0FS0pvtEHNf0I-YzN1v4JVwgABAABAAE"
SERVER = """
import sys
from pathlib import Path
from llmctl.workspace import score
score.answer(Path("question.he"), Path("vectors.npy"), Path("scores.he"))
print("answered", flush=True)
sys.stdin.read()
"""


def rows(count: int, seed: int = 1) -> list[list[float]]:
    source = random.Random(seed)
    return [[source.gauss(0, 1) for _ in range(DIMENSIONS)] for _ in range(count)]


@pytest.fixture
def kept(home: Path) -> list[list[float]]:
    """Vectors in ``vectors.npy`` and ``vectors.jsonl`` of the working directory, the third in ``question.npy``."""
    made = rows(100)
    np.save(home / "vectors.npy", np.array(made, np.float32))
    np.save(home / "question.npy", np.array(made[2:3], np.float32))
    lines = (json.dumps({"id": number, "embedding": row}) for number, row in enumerate(made))
    (home / "vectors.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return made


@pytest.mark.parametrize("file", ["vectors.npy", "vectors.jsonl"])
def test_a_question_finds_what_it_is_nearest_to(
    kept: list[list[float]], home: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    assert main(["score", "ask", "--vector", "question.npy"]) == 0
    assert main(["score", "answer", "question.he", file]) == 0
    assert capsys.readouterr().out == "question.he\nscores.he\n"
    assert main(["score", "open", "scores.he", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert set(data) == row("score open")
    assert data["vectors"] == 100 and data["noise_budget_bits"] > 20
    best = max(data["scores"], key=lambda row: row["exact"])
    assert best["number"] == 2
    assert best["score"] == pytest.approx(sum(number * number for number in kept[2]), rel=0.02)
    assert main(["score", "open", "scores.he", "--best", "1"]) == 0
    assert re.fullmatch(r"2 +\d+\.\d{4}\n", capsys.readouterr().out)
    assert stat.S_IMODE((home / "question.he.key").stat().st_mode) == 0o600


@pytest.mark.usefixtures("measured")
def test_scores_of_a_real_embedder_are_those_in_clear(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(write_encoder(home / "tiny.gguf"))
    texts = ["blue sky", "rent", "deposit of the flat", "sky", "blue"]
    assert main(["embed", *texts, "-m", model, "--npy", "vectors.npy"]) == 0
    assert main(["score", "ask", texts[0], "-m", model, "--quiet"]) == 0
    assert main(["score", "answer", "question.he", "vectors.npy"]) == 0
    capsys.readouterr()
    assert main(["score", "open", "scores.he", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    vectors = quantized(np.load(home / "vectors.npy").tolist())
    question = quantized([np.load(home / "vectors.npy").tolist()[0]])
    assert [row["exact"] for row in data["scores"]] == scores(question.rows[0], vectors.rows)
    assert max(data["scores"], key=lambda row: row["exact"])["number"] == 0


def words_of(secret: Any) -> bytes:
    """A part of a secret key as it lies in memory, and so in no file but the key's, which is packed."""
    plaintext = secret.data()
    return b"".join(int(plaintext.data(at)).to_bytes(8, "little") for at in range(8))


def memory_of(pid: int | str) -> Iterator[bytes]:
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            begin, end = (int(number, 16) for number in span.split("-"))
            if "rw" in rights:
                try:
                    memory.seek(begin)
                    yield memory.read(end - begin)
                except (OSError, ValueError, OverflowError):  # the system's own pages
                    continue


@contextmanager
def answering(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process that has scored the question, still there."""
    command = [sys.executable, "-P", "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder) as process:
        assert process.stdout is not None and process.stdout.readline() == b"answered\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="another system's memory is read in another way")
def test_the_side_of_the_vectors_never_holds_the_secret_key(kept: list[list[float]], home: Path) -> None:
    question, key = asked(kept[2])
    container.write(home / "question.he", question)
    in_memory = library.read_secret_key(library.context(parameters(DIMENSIONS)), key.parts[0])
    secret = words_of(in_memory)
    assert any(secret in piece for piece in memory_of("self")), "the search finds it where it is"
    with answering(home) as process:
        assert not any(secret in piece for piece in memory_of(process.pid))
    written = [file for file in home.rglob("*") if file.is_file()]
    assert home / "scores.he" in written
    for file in written:
        raw = file.read_bytes()
        assert secret not in raw and key.parts[0][200:300] not in raw


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ask"], 2, "a question is a text, or --vector FILE"),
        (["ask", "--vector", "vectors.npy"], 2, "has 100 vectors, a question is one"),
        (["ask", "--vector", "gone.npy"], 4, "there is no file gone.npy"),
        (["answer", "vectors.npy", "vectors.npy"], 6, "is no llmctl-question/1 file"),
        (["answer", "question.he.key", "vectors.npy"], 6, "must be llmctl-question/1"),
        (["open", "question.he"], 6, "must be llmctl-scores/1"),
        (["answer", "question.he", "short.npy"], 2, "48 dimensions and the vectors 3"),
        (["answer", "question.he", "broken.npy"], 2, "holds no vectors"),
        (["answer", "cut.he", "vectors.npy"], 6, "it is cut off"),
    ],
)
def test_what_can_t_be_done_is_said(
    kept: list[list[float]],
    home: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    assert main(["score", "ask", "--vector", "question.npy"]) == 0
    np.save(home / "short.npy", np.array([[1.0, 2.0, 3.0]]))
    (home / "broken.npy").write_bytes(b"\x93NUMPY")
    (home / "cut.he").write_bytes((home / "question.he").read_bytes()[:-10])
    assert main(["score", *arguments]) == code
    assert words in capsys.readouterr().err


def test_the_demonstration_measures_what_it_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = he_demo.measured(size=48, rounds=1)
    monkeypatch.setattr(he_demo, "measured", lambda: small)
    assert main(["he", "demo"]) == 0
    told = capsys.readouterr().out
    for figure in ("33 s per token on eight RTX 4090 (arXiv 2601.18511)", "2.62 s per token on one RTX PRO 6000"):
        assert figure in told
    assert "softmax" in told and "llmctl endpoint add --seal-key" in told
    assert main(["he", "demo", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert set(data) == row("he demo")
    assert data["products_per_token"] == pytest.approx(12 * 12 + 50257 / 768)
    assert data["token_s"] == pytest.approx(data["products_per_token"] * data["product"]["server_s"])


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (["score", "ask", "hi"], "tenseal", "llmctl[he]"),
        (["he", "demo"], "tenseal", "llmctl[he]"),
        (["endpoint", "add", "desk", "http://127.0.0.1:9", "--seal-key", KEY_LINE], "pyhpke", "llmctl[sealed]"),
    ],
)
def test_without_its_extra_a_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "is not installed" in told and f'pip install "{extra}"' in told
