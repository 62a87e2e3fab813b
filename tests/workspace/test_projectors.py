"""The projector that goes with a model whose file is here."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmctl import catalogue
from llmctl.store import Store
from llmctl.workspace.projectors import with_projector, without
from tests.fakes import gguf_file, projector

pytestmark = pytest.mark.usefixtures("engine_known")

SHAPE = gguf_file.model_shape("tiny")


def lay(folder: Path, name: str) -> Path:
    if "mmproj" in name.lower():
        return projector.write(folder / name, "gemma3", image=896, patch=14, embd=64, ff=128, layers=2)
    return gguf_file.write_model(folder / name, SHAPE, fill=gguf_file.Fill.SPARSE)


CASES = {
    "beside": (["tiny-Q4_0.gguf", "mmproj-F16.gguf"], True),
    "beside two quants": (["tiny-Q4_0.gguf", "tiny-Q8_0.gguf", "mmproj-F16.gguf"], True),
    "of another model": (["tiny-Q4_0.gguf", "large-Q8_0.gguf", "mmproj-large-F16.gguf"], False),
    "of this one of two": (["tiny-Q4_0.gguf", "large-Q8_0.gguf", "mmproj-tiny-F16.gguf"], True),
    "of nobody's name beside two models": (["tiny-Q4_0.gguf", "large-Q8_0.gguf", "mmproj-F16.gguf"], False),
    "none": (["tiny-Q4_0.gguf"], False),
}


@pytest.mark.parametrize(("files", "found"), CASES.values(), ids=list(CASES))
def test_it_is_found_beside_its_model(files: list[str], found: bool, tmp_path: Path) -> None:
    path, *_ = [lay(tmp_path, name) for name in files]
    alone = catalogue.from_file(path)
    seeing = with_projector(alone, Store())
    assert bool(seeing.artifact.projector_bytes) is found
    assert bool(seeing.artifact.projector_compute_bytes) is found
    assert (seeing.projector is not None and seeing.projector.name == files[-1]) is found
    assert without(seeing).artifact == alone.artifact


def test_one_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    alone = catalogue.from_file(lay(tmp_path, "tiny-Q4_0.gguf"))
    (tmp_path / "mmproj-F16.gguf").write_bytes(b"GGUF, but no more")
    assert with_projector(alone, Store()) == alone
