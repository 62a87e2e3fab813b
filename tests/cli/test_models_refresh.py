"""``llmctl models refresh`` against a hub that has other files than the user's catalogue believes."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl import catalogue, paths
from llmctl.cli import main
from llmctl.gguf.header import read_file
from llmctl.gguf.shape import shape, weights
from llmctl.transfer import retry
from llmctl.types.model import Model, Working
from tests.fakes import gguf_file
from tests.fakes.gguf_file import Fill
from tests.fakes.hub import COMMIT, FakeHub

REPO = "maker/Small-GGUF"
SHAPE = dataclasses.replace(gguf_file.model_shape("smollm2-360m"), n_vocab=1_000)
SHA256 = {"Small-Q8_0.gguf": f"{8:064x}", "Small-Q4_0.gguf": f"{4:064x}"}
OWN = """\
# mine, by hand
[[model]]
id = "small-360m"   # a comment that has to stay
name = "Small 360M"
context = 8192
tasks = ["chat"]
[model.sources]
facts = "https://model.example/card"
shape = "https://model.example/config.json"
[model.shape]
architecture = "llama"
n_layer = 31
n_embd = 960
n_head = 15
n_ff = 2560
n_vocab = 1_000
kv = [{ layers = 31, heads = 5, head_dim = 64 }]
"""
FILE = """\
[[model.file]]
quant = "QUANT"
repo = "maker/Small-GGUF"
file = "Small-QUANT.gguf"
tensor_bytes = TENSORS
types = { QUANT = TENSORS }
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {}
    for quant in ("Q8_0", "Q4_0"):
        one = dataclasses.replace(SHAPE, quant=quant, head_quant=quant)
        path = tmp_path / f"Small-{quant}.gguf"
        made[path.name] = gguf_file.write(
            path, gguf_file.llama_metadata(one), gguf_file.llama_tensors(one), fill=Fill.SPARSE
        )
    return made


@pytest.fixture
def own(home: Path) -> Path:
    """The user's file: the Q4_0 is believed to be smaller than it is, the Q5_0 isn't on the hub."""
    folder = paths.overlay_dir()
    folder.mkdir(parents=True)
    text = OWN
    for quant, size_bytes in (("Q4_0", 150_000_000), ("Q5_0", 240_000_000), ("Q8_0", 360_000_000)):
        text += FILE.replace("QUANT", quant).replace("TENSORS", str(size_bytes))
    file = folder / "mine.toml"
    file.write_text(text, "utf-8")
    return file


@pytest.fixture
def hub(files: dict[str, Path], own: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(retry, "WAITS_S", (0.01,))
    with FakeHub({REPO: dict(files)}) as made:
        made._sha256 |= {(REPO, name): sha256 for name, sha256 in SHA256.items()}  # sparse, but large
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


def known() -> Model:
    loaded = catalogue.load(paths.profiles_dir() / "models", paths.overlay_dir())
    assert loaded.problems == ()
    return catalogue.find(loaded, "small-360m")


def told(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    assert main(["models", "refresh", *argv, "--json"]) == code
    envelope: dict[str, Any] = json.loads(capsys.readouterr().out)
    return envelope


def differences(data: dict[str, Any]) -> dict[tuple[str | None, str], tuple[Any, Any]]:
    (row,) = data["models"]
    return {(one["quant"], one["field"]): (one["old"], one["new"]) for one in row["differences"]}


def test_off_a_terminal_it_shows_and_writes_nothing(
    hub: FakeHub, own: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = own.read_text("utf-8")
    assert main(["models", "refresh", "small-360m"]) == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    size_bytes = files["Small-Q4_0.gguf"].stat().st_size
    assert lines[0] == ["small-360m"]
    assert ["Q4_0", "bytes", "none", "→", f"{size_bytes:,}"] in lines
    assert ["Q4_0", "sha256", "none", "→", "000000000000…"] in lines
    assert ["Q5_0", "file", "Small-Q5_0.gguf", "→", "none"] in lines
    assert ["shape", "n_layer", "31", "→", "32"] in lines
    assert "Nothing was written: llmctl models refresh --yes" in err
    assert [file.name for file in own.parent.iterdir()] == ["mine.toml"] and own.read_text("utf-8") == before


def test_with_yes_the_catalogue_is_what_the_hub_says(
    hub: FakeHub, own: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = own.read_text("utf-8")
    data = told(capsys, "small-360m", "--yes")["data"]
    assert data["written"] == str(own.parent / "refreshed.toml")
    assert own.read_text("utf-8") == before
    model = known()
    by_quant = {artifact.quant: artifact for artifact in model.artifacts}
    assert set(by_quant) == {"Q4_0", "Q8_0"}
    for quant, artifact in by_quant.items():
        file = files[f"Small-{quant}.gguf"]
        assert artifact.source.bytes == file.stat().st_size
        assert artifact.source.sha256 == SHA256[file.name]
        assert artifact.source.revision == COMMIT
    header = read_file(files["Small-Q4_0.gguf"])
    read = weights(header)
    exact = by_quant["Q4_0"].weights
    assert exact.exact and not by_quant["Q8_0"].weights.exact
    by_layer: dict[str, Any] = dict.fromkeys(("layer_bytes", "layer_expert_bytes"), ())
    by_layer |= dict.fromkeys(("matrix_bytes", "expert_matrix_bytes"), 0)
    assert replace(exact, **by_layer) == replace(read, **by_layer)  # an overlay keeps sums
    by_head: dict[str, Any] = {"layers": (), "n_head_full": 0, "heads": (), "working": Working()}
    assert replace(model.shape, **by_head) == replace(shape(header), **by_head)
    assert hub.count("cdn") == 1  # one header, of the smallest file
    assert told(capsys, "small-360m")["data"]["models"][0]["differences"] == []  # the second time there is no news


def test_without_headers_one_question_is_enough(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    found = differences(told(capsys, "small-360m", "--no-headers", "--yes")["data"])
    assert hub.count("cdn") == 0 and hub.count("hub") == 1
    assert {quant for quant, _ in found} == {"Q4_0", "Q5_0", "Q8_0"}
    assert all(not artifact.weights.exact for artifact in known().artifacts)
    for artifact in known().artifacts:
        assert artifact.weights.total_bytes <= (artifact.source.bytes or 0) < 1.1 * artifact.weights.total_bytes


def test_a_size_that_changes_later_is_told_again(
    hub: FakeHub, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    told(capsys, "small-360m", "--no-headers", "--yes")
    old_bytes = files["Small-Q8_0.gguf"].stat().st_size
    with files["Small-Q8_0.gguf"].open("ab") as file:
        file.truncate(old_bytes + 4096)
    hub._sha256[REPO, "Small-Q8_0.gguf"] = f"{88:064x}"
    found = differences(told(capsys, "small-360m", "--no-headers", "--yes")["data"])
    assert found["Q8_0", "bytes"] == (old_bytes, old_bytes + 4096)
    assert found["Q8_0", "sha256"] == (f"{8:064x}", f"{88:064x}")
    assert {quant for quant, _ in found} == {"Q8_0"}
    assert {artifact.source.sha256 for artifact in known().artifacts} == {f"{4:064x}", f"{88:064x}"}


def test_what_else_stands_in_the_file_stays(hub: FakeHub, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "small-360m", "--yes")
    file = own.parent / "refreshed.toml"
    mine = OWN.replace("small-360m", "other-360m").replace("Small 360M", "Other") + FILE.replace(
        "QUANT", "Q4_0"
    ).replace("TENSORS", "150_000_000")
    file.write_text(f"# my note\n{file.read_text('utf-8')}\n{mine}", "utf-8")
    hub._sha256[REPO, "Small-Q8_0.gguf"] = f"{88:064x}"
    told(capsys, "small-360m", "--yes")
    text = file.read_text("utf-8")
    assert text.startswith("# my note\n") and "# a comment that has to stay" in text and f"{88:064x}" in text
    document = tomllib.loads(text)
    assert [one["id"] for one in document["refreshed"]] == ["small-360m"]
    assert [one["id"] for one in document["model"]] == ["other-360m"]
    assert known().id == "small-360m"


def test_a_file_that_cannot_be_edited_is_left_alone(
    hub: FakeHub, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = own.parent / "refreshed.toml"
    file.write_text("refreshed = [[[", "utf-8")
    error = told(capsys, "small-360m", "--yes", code=10)["error"]
    assert str(file) in error["message"]
    assert file.read_text("utf-8") == "refreshed = [[["


def test_a_busy_hub_is_asked_again(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.switch(hub_status=429, times=1, retry_after="0")
    assert ("Q4_0", "bytes") in differences(told(capsys, "small-360m", "--no-headers")["data"])
    assert hub.count("hub") == 2


def test_a_hub_that_stays_busy(hub: FakeHub, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.switch(hub_status=429, retry_after="3600")
    error = told(capsys, "small-360m", "--yes", code=5)["error"]
    assert error["code"] == "network" and "asks to wait 3600 s" in error["message"]
    assert [file.name for file in own.parent.iterdir()] == ["mine.toml"]


def test_a_hub_that_cannot_be_reached(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = told(capsys, "small-360m", code=5)["error"]
    assert "127.0.0.1" in error["message"] and error["hint"]


def test_offline_is_said_with_the_way_out(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMCTL_OFFLINE", "1")
    error = told(capsys, "small-360m", code=5)["error"]
    assert error["code"] == "offline" and "LLMCTL_OFFLINE" in error["hint"]
    assert hub.requests == []


def test_all_models_go_on_past_a_repository_that_is_gone(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    """The hub here knows none of the shipped models' repositories."""
    envelope = told(capsys)
    rows = {row["id"]: row for row in envelope["data"]["models"]}
    assert len(rows) >= 61
    assert [id for id, row in rows.items() if row["differences"]] == ["small-360m"]
    assert rows["qwen3-8b"]["problem"] and "Qwen/Qwen3-8B-GGUF" in rows["qwen3-8b"]["problem"]
    assert any(warning.startswith("qwen3-8b: ") for warning in envelope["warnings"])
    assert rows["smollm2-135m-instruct"]["id"] and hub.count("cdn") == 0


def test_a_model_whose_files_are_all_gone_stays(hub: FakeHub, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.repos = {REPO: {"README.md": b"moved"}}
    envelope = told(capsys, "small-360m", "--yes")
    assert "all its files are gone" in envelope["warnings"][0]
    assert envelope["data"]["written"] is None
    assert len(known().artifacts) == 3


def test_an_unknown_name(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert "small-360m" in told(capsys, "small-361m", code=4)["error"]["message"]


def test_what_is_no_hub_repositorys_is_not_said_to_have_been_asked_for(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "refresh", "smollm2-135m-instruct"]) == 0
    assert "Nothing was asked for" in capsys.readouterr().err and hub.requests == []
