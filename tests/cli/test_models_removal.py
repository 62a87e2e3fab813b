"""``llmctl models rm``, ``verify`` and ``prune`` as they are typed, at a terminal and elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmctl import catalogue, paths
from llmctl.cli import main
from tests.fakes import command, other_tools
from tests.fakes.gguf_file import overwrite, write

KNOWN = catalogue.load(paths.profiles_dir() / "models").models
REPO = "maker/tiny-GGUF"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def document(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    assert main(["models", *argv, "--json"]) == code
    told = capsys.readouterr()
    assert told.err == ""
    envelope: dict[str, Any] = json.loads(told.out)
    return envelope


Hold = Callable[..., Path]


# rm


def test_rm_asks_and_says_what_it_frees(hold: Hold, gguf: Path) -> None:
    path = hold()
    code, seen = command.at_a_terminal(["models", "rm", f"{REPO}:Q4_0"], "n")
    assert (code, path.is_file()) == (0, True)
    assert f"{REPO}:Q4_0" in seen and "512 kB" in seen and "Remove it" in seen
    code, seen = command.at_a_terminal(["models", "rm", f"{REPO}:Q4_0"], "y")
    assert (code, path.is_file()) == (0, False)
    assert "512 kB freed" in seen


def test_rm_away_from_a_terminal_needs_a_yes(hold: Hold, capsys: pytest.CaptureFixture[str]) -> None:
    path = hold()
    assert main(["models", "rm", REPO]) == 2
    err = capsys.readouterr().err
    assert "nobody said yes" in err and f"llmctl models rm --yes {REPO}" in err
    assert path.is_file()
    assert main(["models", "rm", REPO, "--yes"]) == 0
    assert not path.exists()


def test_rm_as_data(hold: Hold, gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hold()
    hold("tiny-Q8_0.gguf")  # the same bytes
    size = gguf.stat().st_size
    data = document(capsys, "rm", f"{REPO}:q4_0", "--yes")["data"]
    row = {"name": REPO, "quant": "Q4_0", "owner": "hub_cache", "bytes": size}
    assert data == {"removed": [row], "freed_bytes": 0}
    data = document(capsys, "rm", REPO, "--yes")["data"]
    assert data["freed_bytes"] == size


def test_rm_takes_the_projector_with_the_last_model(hold: Hold, gguf: Path, tmp_path: Path, home: Path) -> None:
    other = write(tmp_path / "other", {"general.architecture": "llama", "x": 1})
    clip = write(tmp_path / "clip", {"general.architecture": "clip"})
    first, second = hold(), hold("tiny-Q8_0.gguf", file=other)
    projector = hold("mmproj-F16.gguf", file=clip)
    assert main(["models", "rm", f"{REPO}:Q4_0", "--yes"]) == 0
    assert [path.is_file() for path in (first, second, projector)] == [False, True, True]
    assert main(["models", "rm", f"{REPO}:Q8_0", "--yes"]) == 0
    assert not (home / "cache/huggingface/hub/models--maker--tiny-GGUF").exists()


def test_rm_of_what_another_tool_holds(home: Path, gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = other_tools.ollama(home / ".ollama/models", gguf)
    assert main(["models", "rm", "llama3.2:1b", "--yes"]) == 2
    err = capsys.readouterr().err
    assert "belongs to ollama" in err and "ollama rm llama3.2:1b" in err
    assert path.is_file()


def test_rm_of_what_is_not_here(hold: Hold, capsys: pytest.CaptureFixture[str]) -> None:
    hold()
    assert main(["models", "rm", "maker/tiny", "--yes"]) == 4
    assert f"did you mean {REPO}" in capsys.readouterr().err


# verify


def test_verify(hold: Hold, home: Path, gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hold()
    other_tools.lm_studio(home / ".lmstudio/models", gguf, "someone/Tiny-GGUF", "Tiny-Q8_0.gguf")
    assert main(["models", "verify"]) == 0
    lines = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        [f"{REPO}:Q4_0", "512 kB", "hub cache", "sound"],
        [
            "someone/Tiny-GGUF:Q8_0",
            "512 kB",
            "LM Studio",
            "whole, not checked against the publisher",
        ],
    ]


def test_verify_finds_one_wrong_byte(hold: Hold, capsys: pytest.CaptureFixture[str]) -> None:
    path = hold()
    overwrite(path.resolve(), 100_000, b"!")
    assert main(["models", "verify", REPO]) == 6
    out, err = capsys.readouterr()
    assert out.rstrip().endswith("WRONG")
    assert f"error: {REPO}:Q4_0 is not what it must be: it has sha256" in err
    assert f"llmctl models rm --yes {REPO}:Q4_0 && llmctl pull {REPO}:Q4_0" in err
    envelope = document(capsys, "verify", code=6)
    assert envelope["error"]["code"] == "integrity"
    (file,) = envelope["data"]["files"]
    assert file["state"] == "wrong" and file["sha256"] != file["expected_sha256"] == path.resolve().name


def test_verify_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "verify"]) == 0
    assert main(["models", "verify", "nonesuch"]) == 4


# prune


def test_prune_shows_and_does_nothing_until_somebody_says_yes(
    hold: Hold, gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = hold()
    blob = path.resolve()
    path.unlink()
    assert main(["models", "prune"]) == 0
    out, err = capsys.readouterr()
    assert re.split(r"  +", out.strip()) == ["orphan", REPO, "512 kB", "nothing points to it"]
    assert "Nothing was removed: llmctl models prune --yes" in err
    assert blob.is_file()
    data = document(capsys, "prune")["data"]
    assert (data["removed"], data["freed_bytes"], data["bytes"]) == (False, 0, gguf.stat().st_size)
    assert command.at_a_terminal(["models", "prune"], "")[0] == 0  # Enter is no
    assert blob.is_file()
    code, seen = command.at_a_terminal(["models", "prune"], "y")
    assert code == 0 and "512 kB freed" in seen
    assert not blob.exists()
    assert main(["models", "prune", "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().err


def test_prune_as_data(hold: Hold, gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hold().unlink()
    data = document(capsys, "prune", "--yes")["data"]
    assert data["removed"] is True and data["freed_bytes"] == data["bytes"] == gguf.stat().st_size
    assert [one["kind"] for one in data["leftovers"]] == ["orphan"]
