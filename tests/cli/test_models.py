"""``llmctl models`` from the outside."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmctl import catalogue, paths
from llmctl.cli import complete, main
from llmctl.store import Store, last_used
from tests.fakes import command, other_tools
from tests.fakes.gguf_file import Value, write

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


# list


def test_the_catalogue_has_a_line_for_each_model_smallest_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--all"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["id", "size", "context", "licence"]
    assert sorted(line.split()[0] for line in lines) == sorted(model.id for model in KNOWN)
    assert lines[0].startswith("smollm2-135m-instruct  ") and " 135M " in lines[0] and "Q4_1" in lines[0]
    assert lines[-1].startswith("mixtral-8x22b-instruct") and " 140.6B " in lines[-1]


def test_the_catalogue_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    envelope = document(capsys, "list", "--all")
    assert envelope["command"] == "models list"
    rows = {row["id"]: row for row in envelope["data"]["models"]}
    assert len(rows) == len(KNOWN)
    row = rows["qwen3.5-4b"]
    assert row["licence"] == "Apache-2.0" and row["context"] == 262_144
    assert row["quants"] == ["Q4_K_M", "UD-Q4_K_XL", "Q6_K", "Q8_0"]
    assert row["installed"] == []
    assert [id for id, one in rows.items() if one["starter"]] == ["smollm2-135m-instruct"]


def listed(capsys: pytest.CaptureFixture[str], *argv: str) -> set[str]:
    assert main(["models", "list", "--all", *argv]) == 0
    return {line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]}


def test_the_catalogue_by_openness_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    levels = [listed(capsys, "--open", level) for level in ("weights", "data", "full")]
    assert levels[0] > levels[1] >= levels[2] >= {"apertus-70b-instruct", "olmo-3.1-32b-think", "smollm3-3b"}
    assert "qwen3-8b" in levels[0] - levels[1] and "gemma-3-27b-it" not in levels[0]
    assert listed(capsys, "--licence", "mit") == {model.id for model in KNOWN if model.licence == "MIT"}
    gemma = listed(capsys, "--licence", "gemma-terms-of-use")
    assert gemma == listed(capsys, "--licence", "LicenseRef-Gemma-Terms-of-Use") and "gemma-3-27b-it" in gemma
    assert listed(capsys, "--licence", "Apache-2.0", "--open", "full") == levels[2]


def test_a_filter_says_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--all", "--open", "data"]) == 0
    told = capsys.readouterr().err
    assert "weights, training data, tuning data graded open" in told
    assert "by a relative's grades" in told and "were not graded" in told


def test_filters_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--open", "full"]) == 2
    assert "llmctl models list --all --open weights" in capsys.readouterr().err
    assert main(["models", "list", "--all", "--licence", "GPL-3.0-only"]) == 4
    assert "Apache-2.0" in capsys.readouterr().err
    assert main(["models", "list", "--all", "--open", "ajar"]) == 2


def test_search_lists_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "search", "Qwen3", "CODER"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["qwen3-coder-30b-a3b", "qwen3-coder-next"]
    rows = document(capsys, "search", "deepseek")["data"]["models"]
    assert all(
        row["distilled_from"].startswith("DeepSeek-R1") and row["base_model"].startswith("Qwen/") for row in rows
    )


def test_search_offers_near_names_or_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "search", "quen"]) == 0
    out, err = capsys.readouterr()
    assert "qwen3-0.6b" in out and "almost that" in err
    assert document(capsys, "search", "quen")["data"]["near"] is True
    assert main(["models", "search", "xyzzyplugh"]) == 4
    assert "no model fits 'xyzzyplugh'" in capsys.readouterr().err


def test_a_machine_without_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "llmctl models list --all" in err
    assert document(capsys, "list")["data"] == {"models": [], "total_bytes": 0}


def test_everything_on_this_machine_and_whose_it_is(
    hold: Hold, home: Path, gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hold()
    hold("mmproj-F16.gguf", file=write(tmp_path / "clip", {"general.architecture": "clip"}))
    parts: dict[str, Value] = {"split.no": 0, "split.count": 2, "general.architecture": "llama"}
    hold("big-Q6_K-00001-of-00002.gguf", "maker/big-GGUF", write(tmp_path / "part", parts))
    other_tools.ollama(home / ".ollama/models", gguf)
    other_tools.lm_studio(home / ".lmstudio/models", gguf, "someone/Tiny-GGUF", "Tiny-Q8_0.gguf")
    other_tools.llama_cpp(home / "cache/llama.cpp", gguf, "org/gemma-GGUF", "gemma-IQ4_XS.gguf")
    assert main(["models", "list"]) == 0
    out, err = capsys.readouterr()
    lines = [re.split(r"  +", line) for line in out.splitlines()]
    assert lines[0] == ["name", "quant", "size", "last used", "whose"]
    assert [line[:2] + line[4:] for line in lines[1:]] == [
        ["llama3.2:1b", "F32", "ollama"],
        ["maker/big-GGUF", "Q6_K (1 of 2 parts)", "hub cache"],
        [REPO, "Q4_0", "hub cache"],
        [REPO, "mmproj-F16", "hub cache"],
        ["org/gemma-GGUF", "IQ4_XS", "llama.cpp"],
        ["someone/Tiny-GGUF", "Q8_0", "LM Studio"],
    ]
    assert {line[3] for line in lines[1:]} == {"never"}
    assert err.startswith("6 models, 2 MB")
    rows = document(capsys, "list")["data"]["models"]
    assert [row["owner"] for row in rows] == [
        "ollama", "hub_cache", "hub_cache", "hub_cache", "llama_cpp", "lm_studio",
    ]  # fmt: skip
    assert rows[0]["bytes"] == gguf.stat().st_size and rows[0]["last_used"] is None


def test_what_the_catalogue_knows_goes_by_its_name(hold: Hold, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = next(one for one in KNOWN if one.id == "qwen3.5-4b")
    source = model.artifacts[0].source
    assert source.repo
    hold(source.file, source.repo)
    (row,) = document(capsys, "list")["data"]["models"]
    assert (row["name"], row["quant"], row["in_catalogue"]) == ("qwen3.5-4b", "Q4_K_M", True)


def test_a_name_that_would_drive_the_terminal(home: Path, gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other_tools.lm_studio(home / ".lmstudio/models", gguf, "some\x1b[2Jone/Tiny-GGUF", "Tiny-Q8_0.gguf")
    code, seen = command.at_a_terminal(["models", "list"], "")
    assert code == 0 and "someone/Tiny-GGUF" in seen
    assert main(["models", "list"]) == 0
    assert "\x1b" not in seen + capsys.readouterr().out  # what goes through a pipe is shown somewhere, too
    assert main(["models", "rm", "--yes", "someone/Tiny-GGUF"]) == 2
    told = capsys.readouterr()
    assert "LM Studio" in told.err and "\x1b" not in told.out + told.err


def test_what_is_here_is_completed(hold: Hold, home: Path, gguf: Path) -> None:
    hold()
    source = next(one for one in KNOWN if one.id == "qwen3.5-4b").artifacts[0].source
    hold(source.file, source.repo or "")
    other_tools.ollama(home / ".ollama/models", gguf)
    assert complete.held("") == ["llama3.2:1b", f"{REPO}:Q4_0", "qwen3.5-4b:Q4_K_M"]
    assert complete.held("maker/") == [f"{REPO}:Q4_0"]


def test_a_newer_revision_of_the_same_file(hold: Hold, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = hold(commit="f" * 40)
    os.utime(old.parent, (1, 1))
    newer = write(tmp_path / "newer", {"general.architecture": "llama", "x": 1})
    hold(file=newer)
    rows = document(capsys, "list")["data"]["models"]
    assert sorted((row["path"], row["replaced"]) for row in rows) == sorted(
        [(str(old), True), (str(old.parents[1] / COMMIT / old.name), False)]
    )
    assert main(["models", "list"]) == 0
    assert "hub cache, replaced" in capsys.readouterr().out


def test_when_a_model_was_last_used(
    hold: Hold, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hold()
    Store().used(path)
    assert main(["models", "list"]) == 0
    assert "  just now  " in capsys.readouterr().out
    record = home / "data/llmctl/used.json"
    record.write_text(json.dumps({str(path.resolve()): time.time() - 3 * 86_400 - 60, "/gone": 1.0}))
    assert main(["models", "list"]) == 0
    assert "  3 days ago  " in capsys.readouterr().out
    assert document(capsys, "list")["data"]["models"][0]["last_used"].startswith("20")
    last_used.record(path)
    assert list(json.loads(record.read_text())) == [str(path.resolve())]  # what is gone is forgotten


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"PATH": "yesterday"}', b'{"PATH": 1e99}', b"[" * 99_999])
def test_a_record_that_makes_no_sense(raw: bytes, hold: Hold, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = hold()
    record = home / "data/llmctl/used.json"
    record.parent.mkdir(parents=True)
    record.write_bytes(raw.replace(b"PATH", str(path.resolve()).encode()))
    assert document(capsys, "list")["data"]["models"][0]["last_used"] is None
    Store().used(path)
    assert document(capsys, "list")["data"]["models"][0]["last_used"] is not None


def test_a_disk_that_is_not_mounted_is_an_error_and_no_empty_list(
    hold: Hold, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold()
    disk, cache = tmp_path / "disk", home / "cache/huggingface"
    disk.mkdir()
    cache.rename(disk / "hf")
    monkeypatch.setenv("HF_HOME", str(disk / "hf"))
    mounted = [disk]
    monkeypatch.setattr(Path, "is_mount", lambda path: path in mounted)
    assert len(document(capsys, "list")["data"]["models"]) == 1
    mounted.clear()
    shutil.rmtree(disk / "hf")
    for arguments in (["models", "list"], ["pull", "qwen3.5-4b:Q4_K_M"]):
        assert main(arguments) == 7
        err = capsys.readouterr().err
        assert f"{disk} is not mounted" in err
    (record,) = home.rglob("mounts.json")
    assert f"gone for good: rm {record}" in err
    (disk / "hf/hub").mkdir(parents=True)  # somebody has made it, and it is as empty as before
    assert main(["models", "list"]) == 7
    record.unlink()
    assert main(["models", "list"]) == 0


def test_a_disk_whose_own_folder_is_the_store(
    hold: Hold, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mount point stays when it is gone, and is empty."""
    hold()
    disk, cache = tmp_path / "disk", home / "cache/huggingface/hub"
    shutil.copytree(cache, disk, symlinks=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(disk))
    mounted = [disk]
    monkeypatch.setattr(Path, "is_mount", lambda path: path in mounted)
    assert len(document(capsys, "list")["data"]["models"]) == 1
    mounted.clear()
    for entry in disk.iterdir():
        shutil.rmtree(entry)
    (disk / ".locks").mkdir()  # as a tool of the hub's leaves it
    (disk / "version.txt").touch()
    for arguments in (["models", "list"], ["models", "prune"], ["pull", "qwen3.5-4b:Q8_0"]):
        assert main(arguments) == 7
        assert f"the models are in {disk}, and {disk} is not mounted" in capsys.readouterr().err
    shutil.rmtree(disk)
    shutil.copytree(cache, disk, symlinks=True)  # the models were brought to the other disk: that is the store now
    assert len(document(capsys, "list")["data"]["models"]) == 1


def test_a_disk_that_is_remembered_before_the_store_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setenv("HF_HOME", str(disk / "hf"))
    mounted = [disk]
    monkeypatch.setattr(Path, "is_mount", lambda path: path in mounted)
    assert main(["models", "list"]) == 0
    mounted.clear()
    capsys.readouterr()
    assert main(["models", "list"]) == 7
    assert f"{disk} is not mounted" in capsys.readouterr().err


# show


def test_show_tells_facts_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "Gemma 4 E4B"]) == 0
    text = capsys.readouterr().out
    assert "gemma-4-e4b-it" in text and "Apache-2.0" in text and "7.5B, 4.5B active" in text
    assert "https://huggingface.co/google/gemma-4-E4B-it" in text
    assert "MMLU-Pro" in text and "69.4 ts" in text
    assert "grades for Gemma-3-27B-IT: another release of the family was graded, not this one" in text
    assert "◐ partial: base weights, weights, training code" in text and "○ closed:  training data, tuning data" in text
    assert "--open weights: no, for weights" in text
    assert "CC BY 4.0" in text and "osai-index.eu" in text
    assert "unsloth/gemma-4-E4B-it-GGUF" in text and "5.1 GB" in text


def test_show_tells_a_distillation_from_its_teacher_and_a_derived_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "deepseek-r1-distill-qwen-32b"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Qwen2.5 32B R1-Distill ")
    assert "base model  Qwen/Qwen2.5-32B" in text and "from DeepSeek-R1, which this is not" in text
    assert "~19.8 GB" in text and "llmctl models refresh deepseek-r1-distill-qwen-32b" in text


def test_show_knows_what_quants_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "qwen3.5-4b:q6_k"]) == 0
    capsys.readouterr()
    assert main(["models", "show", "qwen3.5-4b:q9"]) == 4
    assert "has no q9 in the catalogue, but Q4_K_M" in capsys.readouterr().err


def test_show_names_the_file_for_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "gemma-3-4b-it"]) == 0
    assert re.search(r"projector +851 MB  bartowski/google_gemma-3-4b-it-GGUF mmproj", capsys.readouterr().out)


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
    """`llmctl models list --all | head -1`"""
    with command.spawn("models", "list", "--all") as child:
        assert child.stdout and child.stderr
        assert os.read(child.stdout.fileno(), 2) == b"id"
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(timeout=30) in (0, 141)
