"""``llmctl models`` from the outside."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from llmctl import catalogue, paths
from llmctl.cli import main

KNOWN = catalogue.load(paths.profiles_dir() / "models").models


def document(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    assert main(["models", *argv, "--json"]) == code
    told = capsys.readouterr()
    assert told.err == ""
    envelope: dict[str, Any] = json.loads(told.out)
    return envelope


def test_the_list_has_a_line_for_each_model_smallest_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["id", "size", "context", "licence"]
    assert sorted(line.split()[0] for line in lines) == sorted(model.id for model in KNOWN)
    assert lines[0].startswith("smollm2-135m-instruct  ") and " 135M " in lines[0] and "Q4_1" in lines[0]
    assert lines[-1].startswith("gpt-oss-120b") and " 116.8B " in lines[-1]


def test_the_list_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    envelope = document(capsys, "list")
    assert envelope["command"] == "models list"
    rows = {row["id"]: row for row in envelope["data"]["models"]}
    assert len(rows) == len(KNOWN)
    row = rows["qwen3.5-4b"]
    assert row["licence"] == "Apache-2.0" and row["context"] == 262_144
    assert row["quants"] == ["Q8_0", "UD-Q4_K_XL", "Q4_K_M"]
    assert row["installed"] == []
    assert [id for id, one in rows.items() if one["starter"]] == ["smollm2-135m-instruct"]


def test_show_tells_facts_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "Gemma 4 E4B"]) == 0
    text = capsys.readouterr().out
    assert "gemma-4-e4b-it" in text and "Apache-2.0" in text and "8.0B, 4.5B active" in text
    assert "https://huggingface.co/google/gemma-4-E4B-it" in text
    assert "MMLU-Pro" in text and "69.4 ts" in text
    assert "graded on Gemma-3-27B-IT" in text and "family other release" in text
    assert "◐ weights" in text and "○ training data" in text
    assert "CC BY 4.0" in text and "osai-index.eu" in text
    assert "unsloth/gemma-4-E4B-it-GGUF" in text and "5.1 GB" in text


@pytest.mark.parametrize("model", KNOWN, ids=lambda model: model.id)
def test_show_as_data(capsys: pytest.CaptureFixture[str], model: Any) -> None:
    data = document(capsys, "show", model.id)["data"]
    assert data["id"] == model.id
    assert len(data["files"]) == len(model.artifacts)
    assert all(file["path"] is None for file in data["files"])
    assert all(one["source"] for one in data["evidence"])
    assert main(["models", "show", model.id]) == 0
    assert "None" not in capsys.readouterr().out


def test_an_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    envelope = document(capsys, "show", "llama-3.2", code=4)
    assert envelope["error"]["code"] == "not_found"
    assert "llama-3.2-1b-instruct" in envelope["error"]["message"]


def test_a_reader_who_has_had_enough_is_left_in_peace() -> None:
    """`llmctl models list | head -1`"""
    child = subprocess.Popen(
        [sys.executable, "-m", "llmctl", "models", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    assert child.stdout and child.stderr
    assert child.stdout.read(2) == b"id"
    child.stdout.close()
    complaint = child.stderr.read()
    child.stderr.close()
    assert complaint == b""
    assert child.wait(timeout=30) in (0, 141)
