"""``llmctl plan org/name`` and ``org/name:QUANT``: a plan before a byte of the weights is fetched."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl import catalogue, paths
from llmctl.cli import main
from llmctl.cli.output import Output
from llmctl.hub.headers import RANGE_BYTES
from llmctl.transfer import retry
from llmctl.types.model import Candidate, SourceKind
from llmctl.workspace import remote_models, situation
from llmctl.workspace.situation import Situation
from tests.fakes import gguf_file, projector
from tests.fakes.gguf_file import Fill, Kind, Value
from tests.fakes.hub import COMMIT, FakeHub
from tests.planner.machines import EPYC, knowledge

pytestmark = pytest.mark.usefixtures("engine_known")

REPO = "maker/Small-GGUF"
SHAPE = dataclasses.replace(gguf_file.model_shape("smollm2-360m"), n_vocab=20_000)
QUANTS = ("Q8_0", "Q4_0", "Q5_0", "F16")


def quantized(path: Path, quant: str, **stated: Value) -> Path:
    shape = dataclasses.replace(SHAPE, quant=quant, head_quant=quant)
    metadata = gguf_file.llama_metadata(shape) | {"general.name": "Small 360M"} | stated
    return gguf_file.write(path, metadata, gguf_file.llama_tensors(shape), fill=Fill.SPARSE)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hub")
    return {f"Small-{quant}.gguf": quantized(folder / f"Small-{quant}.gguf", quant) for quant in QUANTS}


@pytest.fixture
def hub(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(retry, "WAITS_S", (0.01,))
    with FakeHub({REPO: dict(files)}) as made:
        made._sha256 |= {(REPO, name): f"{number:064x}" for number, name in enumerate(files)}  # sparse, but large
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


@pytest.fixture
def shelf(hub: FakeHub) -> Situation:
    """Everything on a machine of its own."""
    out = Output("test")
    made = situation.shelf(out)
    return Situation(made.settings, made.catalogue, made.store, out, EPYC, (), knowledge())


def document(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    assert main(["plan", *argv, "--machine", "laptop-16gb", "--json"]) == code
    told = capsys.readouterr()
    assert told.err == ""
    envelope: dict[str, Any] = json.loads(told.out)
    return envelope


def by_quant(candidates: list[Candidate]) -> dict[str, Candidate]:
    return {one.artifact.quant: one for one in candidates}


def test_a_named_quant_is_planned_from_its_header(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], files: dict[str, Path]
) -> None:
    hub.licences[REPO] = "apache-2.0"
    file = files["Small-Q8_0.gguf"]
    choice = document(capsys, f"{REPO}:q8_0")["data"]["choice"]
    size = file.stat().st_size
    assert (choice["model"], choice["name"], choice["quant"]) == (REPO, "Small 360M", "Q8_0")
    assert (choice["source"]["kind"], choice["source"]["repo"]) == ("hub", REPO)
    assert (choice["source"]["file"], choice["source"]["bytes"]) == (file.name, size)
    assert choice["download"]["bytes"] == size and choice["path"] is None
    assert choice["licence"] == "apache-2.0"
    assert hub.sent_bytes <= RANGE_BYTES < size / 100
    local = document(capsys, str(file))["data"]["choice"]
    assert choice["memory"] == local["memory"]


def test_the_screen_says_what_to_type_next(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", f"{REPO}:Q8_0", "--machine", "laptop-16gb"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.splitlines()[-1] == f' llmctl run -m {REPO}:Q8_0 "…"'


def test_a_file_can_be_named(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, f"{REPO}:Small-F16.gguf")["data"]["choice"]["quant"] == "F16"


def test_a_repository_is_all_its_quants_for_the_price_of_one_header(
    hub: FakeHub, shelf: Situation, files: dict[str, Path]
) -> None:
    found = by_quant(shelf.candidates(REPO))
    assert set(found) == set(QUANTS)
    assert hub.sent_bytes <= RANGE_BYTES and hub.count("cdn") == 1
    assert [quant for quant, one in found.items() if one.artifact.weights.exact] == ["Q4_0"]
    for quant, one in found.items():
        true = catalogue.from_file(files[f"Small-{quant}.gguf"])
        told, weights = one.artifact.weights, true.artifact.weights
        assert one.model.shape == true.model.shape
        assert told.total_bytes == pytest.approx(weights.total_bytes, rel=0.005)
        assert told.embedding_bytes == pytest.approx(weights.embedding_bytes, abs=0.01 * weights.total_bytes)
        assert one.artifact.source.bytes == hub.size(REPO, f"Small-{quant}.gguf")
        assert (one.artifact.source.revision, one.path) == (COMMIT, None)


def test_all_quants_are_in_the_plan(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    data = document(capsys, REPO)["data"]
    told = {one["quant"] for one in (data["choice"], *data["alternatives"], *data["rejected"])}
    assert told == set(QUANTS)
    assert {one["model"] for one in (data["choice"], *data["alternatives"], *data["rejected"])} == {REPO}


def test_a_header_that_is_kept_is_used_before_one_is_fetched(hub: FakeHub, shelf: Situation) -> None:
    shelf.candidates(f"{REPO}:F16")
    sent_bytes = hub.sent_bytes
    found = by_quant(shelf.candidates(REPO))
    assert hub.sent_bytes == sent_bytes
    assert [quant for quant, one in found.items() if one.artifact.weights.exact] == ["F16"]


def test_an_unknown_quant_is_answered_with_those_there_are(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    error = document(capsys, f"{REPO}:Q4_K_S", code=4)["error"]
    assert all(quant in error["message"] for quant in QUANTS)
    assert error["hint"] == f"llmctl plan {REPO}:Q4_0"
    assert hub.count("cdn") == 0


REFUSALS = {
    "no such repository": ("maker/Smal-GGUF", {}, 4, REPO),
    "no model in it": ("maker/none", {}, 4, "no whole GGUF model"),
    "gated": (REPO, {"hub_status": 403, "error_code": "GatedRepo"}, 9, "licence"),
    "no token": (REPO, {"hub_status": 401}, 9, "HF_TOKEN"),
    "busy": (REPO, {"hub_status": 429, "retry_after": "3600"}, 5, "3600 s"),
    "broken": (REPO, {"hub_status": 500}, 5, "500"),
    "file host broken": (REPO, {"cdn_status": 500}, 5, "500"),
}


@pytest.mark.parametrize(("repo", "switches", "code", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals(
    repo: str,
    switches: dict[str, Any],
    code: int,
    words: str,
    hub: FakeHub,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.repos = {**hub.repos, "maker/none": {"README.md": b"x"}}
    hub.switch(**switches)
    error = document(capsys, repo, code=code)["error"]
    assert words in f"{error['message']} {error['hint']}"


def test_what_was_looked_at_once_can_be_planned_offline(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = document(capsys, f"{REPO}:Q8_0")["data"]
    asked = len(hub.requests)
    monkeypatch.setenv("LLMCTL_OFFLINE", "1")
    envelope = document(capsys, f"{REPO}:Q8_0")
    assert envelope["data"] == before
    assert len(envelope["warnings"]) == 1 and "offline" in envelope["warnings"][0]
    assert document(capsys, REPO)["data"]["choice"] is not None
    error = document(capsys, f"{REPO}:F16", code=5)["error"]
    assert (error["code"], "offline" in error["message"]) == ("offline", True)
    assert document(capsys, "maker/other", code=5)["error"]["hint"].startswith("llmctl pull maker/other")
    assert len(hub.requests) == asked


def test_a_hub_that_is_away_is_a_warning_if_it_was_asked_before(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    document(capsys, f"{REPO}:Q8_0")
    hub.switch(hub_status=500)
    envelope = document(capsys, f"{REPO}:Q8_0")
    assert "500" in envelope["warnings"][0] and "asked last" in envelope["warnings"][0]


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b'{"commit": "../x", "licence": null, "files": []}', b'{"files": [[1]]}']
)
def test_a_kept_list_that_is_damaged_is_none(
    damage: bytes, hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    document(capsys, f"{REPO}:Q8_0")
    (listing,) = (paths.cache_dir() / "remote").glob("*.json")
    listing.write_bytes(damage)
    monkeypatch.setenv("LLMCTL_OFFLINE", "1")
    assert document(capsys, f"{REPO}:Q8_0", code=5)["error"]["code"] == "offline"


def test_a_split_model_is_planned_with_all_its_parts(hub: FakeHub, shelf: Situation, tmp_path: Path) -> None:
    shape = dataclasses.replace(SHAPE, quant="Q8_0", head_quant="Q8_0")
    metadata, tensors = gguf_file.llama_metadata(shape), gguf_file.llama_tensors(shape)
    parts: dict[str, Path] = {}
    for number, some in enumerate((tensors[:100], tensors[100:200], tensors[200:])):
        figures: dict[str, Value] = {"split.no": Kind(2, "H", number), "split.count": Kind(2, "H", 3)}
        name = f"Small-Q8_0-{number + 1:05}-of-00003.gguf"
        parts[name] = gguf_file.write(
            tmp_path / name, figures if number else {**metadata, **figures}, some, fill=Fill.SPARSE
        )
    hub.repos = {REPO: {f"Q8_0/{name}": file for name, file in parts.items()}}
    hub._sha256 |= {(REPO, f"Q8_0/{name}"): f"{number:064x}" for number, name in enumerate(parts, 9)}
    (found,) = shelf.candidates(f"{REPO}:Q8_0")
    local = catalogue.from_file(next(iter(parts.values())))
    assert found.artifact.weights == local.artifact.weights
    assert found.artifact.weights.total_bytes == pytest.approx(sum(map(gguf_file.tensor_bytes, tensors)))
    assert found.artifact.source.bytes == sum(file.stat().st_size for file in parts.values())
    assert (found.artifact.source.sha256, found.model.parameters) == (None, local.model.parameters)


def test_files_of_another_model_get_their_own_header(hub: FakeHub, shelf: Situation, tmp_path: Path) -> None:
    large = gguf_file.write_model(
        tmp_path / "l", dataclasses.replace(gguf_file.model_shape("llama-3.2-1b"), n_vocab=20_000), fill=Fill.SPARSE
    )
    hub.repos = {REPO: {**hub.repos[REPO], "Large-Q4_0.gguf": large, "Small-Q2_K.gguf": large}}
    hub._sha256 |= {(REPO, name): f"{number:064x}" for number, name in enumerate(hub.repos[REPO], 20)}
    found = shelf.candidates(REPO)
    assert len(found) == len(QUANTS) + 2
    by_file = {one.artifact.source.file: one for one in found}
    assert by_file["Large-Q4_0.gguf"].model.shape.n_layer == by_file["Small-Q2_K.gguf"].model.shape.n_layer == 16
    assert by_file["Small-Q8_0.gguf"].model.shape.n_layer == 32
    labels = sorted(one.artifact.quant for one in found)
    assert labels == sorted(["Large-Q4_0.gguf", "Small-Q4_0.gguf", "Q2_K", "Q8_0", "Q5_0", "F16"])
    assert hub.count("cdn") == 3


def test_a_repository_of_many_models_is_asked_back(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    one = next(iter(hub.repos[REPO].values()))
    hub.repos = {REPO: {f"model-{letter}-Q8_0.gguf": one for letter in "abcdefgh"}}
    hub._sha256 |= {(REPO, name): f"{number:064x}" for number, name in enumerate(hub.repos[REPO], 40)}
    error = document(capsys, REPO, code=4)["error"]
    assert "8 different models" in error["message"] and f"llmctl plan {REPO}:model-" in error["hint"]
    assert hub.count("cdn") == 0
    assert len(hub.repos[REPO]) > remote_models.MAX_MODELS
    assert document(capsys, f"{REPO}:model-c-Q8_0.gguf")["data"]["choice"]["source"]["file"] == "model-c-Q8_0.gguf"


@pytest.fixture
def held(hub: FakeHub, home: Path, files: dict[str, Path]) -> Path:
    """One of the quants is in the hub cache."""
    folder = home / "cache/huggingface/hub/models--maker--Small-GGUF"
    pointer = folder / "snapshots" / COMMIT / "Small-Q8_0.gguf"
    pointer.parent.mkdir(parents=True)
    blob = folder / "blobs" / hub.sha256(REPO, "Small-Q8_0.gguf")
    blob.parent.mkdir()
    blob.hardlink_to(files["Small-Q8_0.gguf"])
    pointer.symlink_to(Path("../../blobs") / blob.name)
    return pointer


def test_what_is_here_by_its_name_needs_no_network(hub: FakeHub, shelf: Situation, held: Path) -> None:
    (found,) = shelf.candidates(f"{REPO}:Q8_0")
    assert (found.path, found.artifact.weights.exact) == (held, True)
    assert hub.requests == []


def test_what_is_here_is_one_of_all_quants_and_its_header_serves(hub: FakeHub, shelf: Situation, held: Path) -> None:
    found = by_quant(shelf.candidates(REPO))
    assert {quant: one.path for quant, one in found.items()} == dict.fromkeys(QUANTS) | {"Q8_0": held}
    assert [quant for quant, one in found.items() if one.artifact.weights.exact] == ["Q8_0"]
    assert hub.count("cdn") == 0


def test_what_is_here_is_shown_when_the_hub_is_away(hub: FakeHub, shelf: Situation, held: Path) -> None:
    hub.switch(hub_status=500)
    (found,) = shelf.candidates(REPO)
    assert found.path == held
    assert isinstance(shelf.listener, Output)
    assert "only what is on this machine" in shelf.listener.warnings[0]


def test_for_another_machine_it_has_to_be_fetched(hub: FakeHub, shelf: Situation, held: Path) -> None:
    (found,) = replace(shelf, elsewhere=True).candidates(f"{REPO}:Q8_0")
    assert (found.path, found.artifact.source.kind) == (None, SourceKind.HUB)


def test_run_does_not_ask_the_hub(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--no-stdin", "-m", f"{REPO}:Q8_0", "Hello"]) == 4
    assert f"llmctl pull {REPO}:Q8_0" in capsys.readouterr().err
    assert hub.requests == []


def test_a_local_split_model_is_planned_with_all_its_parts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, files: dict[str, Path]
) -> None:
    whole = document(capsys, str(files["Small-Q8_0.gguf"]))["data"]["choice"]
    shape = dataclasses.replace(SHAPE, quant="Q8_0", head_quant="Q8_0")
    tensors = gguf_file.llama_tensors(shape)
    parts = [tmp_path / f"Small-{number:05}-of-00002.gguf" for number in (1, 2)]
    count: dict[str, Value] = {"split.count": Kind(2, "H", 2), "split.tensors.count": Kind(5, "i", len(tensors))}
    first = {**gguf_file.llama_metadata(shape), "split.no": Kind(2, "H", 0), **count}
    gguf_file.write(parts[0], first, tensors[:99])
    gguf_file.write(parts[1], {"split.no": Kind(2, "H", 1), **count}, tensors[99:])
    choice = document(capsys, str(parts[1]))["data"]["choice"]
    assert choice["memory"] == whole["memory"]
    parts[1].unlink()
    error = document(capsys, str(parts[0]), code=4)["error"]
    assert "1 of the model's 2 parts are missing: Small-00002-of-00002.gguf" in error["message"]


@pytest.fixture
def seeing(hub: FakeHub, files: dict[str, Path], tmp_path: Path) -> int:
    """The repository with a projector beside its models; the bytes of that file."""
    name = "mmproj-Small-F16.gguf"
    file = projector.write(tmp_path / name, "gemma3", image=896, patch=14, embd=1152, ff=4304, layers=12)
    hub.repos[REPO][name] = file
    hub._sha256[REPO, name] = f"{99:064x}"
    return file.stat().st_size


def test_a_projector_beside_the_model_is_counted(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], files: dict[str, Path], seeing: int
) -> None:
    choice = document(capsys, f"{REPO}:Q8_0")["data"]["choice"]
    alone = document(capsys, str(files["Small-Q8_0.gguf"]))["data"]["choice"]
    more = choice["memory"]["must_fit_bytes"] - alone["memory"]["must_fit_bytes"]
    assert more == pytest.approx(seeing + 121.25 * (1 << 20), rel=0.01)
    assert choice["memory"]["mapped_bytes"] == alone["memory"]["mapped_bytes"]
    assert choice["download"]["bytes"] == pytest.approx(files["Small-Q8_0.gguf"].stat().st_size + seeing, rel=0.001)
    assert any("vision projector" in reason for reason in choice["reasons"])
    assert hub.sent_bytes <= 2 * RANGE_BYTES


def test_what_fits_without_its_projector_only_is_planned_for_text(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], seeing: int, tmp_path: Path
) -> None:
    need = document(capsys, f"{REPO}:Q8_0", "--context", "2048")["data"]["choice"]["memory"]["by_device"][0]
    free = need["total_bytes"] + (100 << 20)  # less than the margin beside the projector, more without it
    small = tmp_path / "small.toml"
    small.write_text(
        f"[memory]\ntotal_bytes = {free}\navailable_bytes = {free}\n"
        '[cpu]\nname = "small"\narch = "x86_64"\nphysical_cores = 4\nlogical_cores = 4\nusable_threads = 4\n'
    )
    assert main(["plan", f"{REPO}:Q8_0", "--context", "2048", "--machine", str(small)]) == 0
    told = capsys.readouterr()
    assert "with its vision projector it doesn't fit" in told.err and "vision projector" not in told.out


def test_a_file_that_is_no_language_model_is_passed_over(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    vocabulary = gguf_file.write(tmp_path / "vocabulary-F16.gguf", gguf_file.llama_metadata(SHAPE))
    hub.repos[REPO][vocabulary.name] = vocabulary
    assert main(["plan", REPO, "--machine", "laptop-16gb"]) == 0
    assert f"warning: {REPO}/vocabulary-F16.gguf holds only a vocabulary, no weights" in capsys.readouterr().err
    assert main(["plan", f"{REPO}:vocabulary-F16.gguf", "--machine", "laptop-16gb"]) == 3
    assert "holds only a vocabulary" in capsys.readouterr().err
