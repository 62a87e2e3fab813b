"""A hub with a model that the user's own catalogue names, and a hub cache that other tools have filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmctl.engine.measure import kernels
from llmctl.host import Host
from llmctl.transfer import retry
from llmctl.types.kernels import Kernels
from llmctl.types.machine import Machine
from tests.fakes import other_tools
from tests.fakes.gguf_file import Fill, TensorSpec, write
from tests.fakes.hub import COMMIT, FakeHub
from tests.fakes.kernel_rates import rates

REPO = "maker/tiny-GGUF"
SIZE_BYTES = 2 << 20

MODEL = """
[[model]]
id = "{id}"
name = "{name}"
context = 512
tasks = ["chat"]
[model.sources]
facts = "https://model.example/card"
shape = "https://model.example/config.json"
[model.shape]
architecture = "llama"
n_layer = 2
n_embd = 64
n_head = 4
n_vocab = 320
kv = [{{ layers = 2, heads = 2, head_dim = 16 }}]
"""
FILE = """
[[model.file]]
quant = "{quant}"
repo = "maker/tiny-GGUF"
file = "{id}-{quant}.gguf"
bytes = {bytes}
tensor_bytes = {bytes}
types = {{ Q4_0 = {bytes} }}
"""


def entry(id: str, name: str, **files: int) -> str:
    text = MODEL.format(id=id, name=name)
    return text + "".join(FILE.format(id=id, quant=quant, bytes=size) for quant, size in files.items())


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    tensors = [TensorSpec("token_embd.weight", (256, SIZE_BYTES // 1024), "F32")]
    file = write(tmp_path / "tiny.gguf", {"general.architecture": "llama"}, tensors, fill=Fill.RANDOM)
    models = home / "config" / "llmctl" / "models"
    models.mkdir(parents=True)
    size = file.stat().st_size
    (models / "tiny.toml").write_text(
        entry("tiny", "Tiny 1B", Q4_0=size, Q8_0=size + 1) + entry("vast", "Vast 9T", Q4_0=10**15, Q8_0=2 * 10**15)
    )
    monkeypatch.setattr(retry, "WAITS_S", (0.01,))
    with FakeHub({REPO: {"tiny-Q4_0.gguf": file, "tiny-Q8_0.gguf": file}}) as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


@pytest.fixture
def kernels_known(engine_known: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark is tested where it lives; here it costs nothing."""

    def measure(_: Host, machine: Machine, *__: Any, **___: Any) -> Kernels:
        return rates(kernels.thread_counts(machine.cpu))

    monkeypatch.setattr(kernels, "measure", measure)


Hold = Callable[..., Path]


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    tensors = [TensorSpec("token_embd.weight", (256, 500), "F32")]
    return write(tmp_path / "tiny.gguf", {"general.architecture": "llama"}, tensors, fill=Fill.RANDOM)


@pytest.fixture
def hold(home: Path, gguf: Path) -> Hold:
    """Puts a file into the hub cache, as its tools do."""

    def put(name: str = "tiny-Q4_0.gguf", repo: str = REPO, file: Path = gguf, commit: str = COMMIT) -> Path:
        return other_tools.in_hub_cache(home / "cache/huggingface/hub", repo, file, name=name, commit=commit)

    return put
