"""What a vision projector takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmctl.errors import IntegrityError
from llmctl.gguf.header import read_file
from llmctl.gguf.projector import projector
from tests.fakes import gguf_file
from tests.fakes import projector as fake

MIB = 1 << 20
# The compute buffers that llama.cpp's clip of llama-cpp-python 0.3.36 logs for files of these shapes, in MiB.
LOGGED = {
    "gemma3-4b": ({"kind": "gemma3", "image": 896, "patch": 14, "embd": 1152, "ff": 4304, "layers": 27}, 121.25),
    "smolvlm2-2.2b": ({"kind": "idefics3", "image": 384, "patch": 14, "embd": 1152, "ff": 4304, "layers": 27}, 21.58),
    "smolvlm-500m": ({"kind": "idefics3", "image": 512, "patch": 16, "embd": 768, "ff": 3072, "layers": 12}, 21.0),
    "pixtral at 448": (
        {"kind": "pixtral", "image": 448, "patch": 14, "embd": 1024, "ff": 4096, "layers": 24, "gated": True},
        64.62,
    ),
}


@pytest.mark.parametrize(("shape", "mib"), LOGGED.values(), ids=list(LOGGED))
def test_its_buffer_is_what_llama_cpp_logs(shape: dict[str, Any], mib: float, tmp_path: Path) -> None:
    file = fake.write(tmp_path / "mmproj.gguf", **shape)
    sizes = projector(read_file(file))
    assert sizes.compute_bytes / MIB == pytest.approx(mib, rel=0.012)
    assert sizes.weights_bytes == pytest.approx(file.stat().st_size, rel=0.001)


def test_an_image_of_any_size_is_what_llama_cpp_warms_up_with(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"patch": 14, "embd": 1280, "ff": 3420, "layers": 2, "gated": True}
    first, other = (
        projector(read_file(fake.write(tmp_path / f"{image}.gguf", "qwen2.5vl_merger", image=image, **shape)))
        for image in (0, 560)
    )
    assert first == other and first.compute_bytes == 8464 * 4 * (3 * 3420 + 4 * 1280)


def test_what_is_no_projector(tmp_path: Path) -> None:
    model = gguf_file.write_model(tmp_path / "model.gguf", gguf_file.model_shape("smollm2-135m"))
    with pytest.raises(IntegrityError, match="is no projector"):
        projector(read_file(model, whole=False))


def test_hostile_figures_make_no_endless_number(tmp_path: Path) -> None:
    file = fake.write(tmp_path / "mmproj.gguf", "gemma3", image=2**32 - 1, patch=1, embd=64, ff=64, layers=1)
    assert projector(read_file(file)).compute_bytes <= 8192**2 * 4 * 256
