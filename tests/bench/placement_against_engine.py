"""What is planned for one and two cards beside what llama.cpp does with it, on devices that compute nothing.

    python tests/bench/placement_against_engine.py [--every] [NAME ...]

Each model of the tests, as a file of weights that are a hole, is planned for a card that holds all of it, one that
doesn't, two that share it and two that are too small; llama.cpp is then given the same settings and devices. With
``--every`` one model of each architecture, as a file of nine layers in 16 bits, whose tensors the engine itself asks
for (``tensor_lists.py``). Prints every row that is not the same to the layer or is off by more than 2 % of its bytes,
then a summary. Ends with 1 if a layer lies elsewhere, or a device is planned with too little by more than that.

What pools texts is planned with more on the CPU: the buffer of its output grows with the first text, after this.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from llmctl.gguf.header import read_file
from llmctl.gguf.shape import shape, weights
from llmctl.planner.placement import Placement
from llmctl.types.machine import Machine
from tests.bench import tensor_lists
from tests.bench.children import asked
from tests.fakes.devices import Placed, build, placements
from tests.fakes.gguf_file import Fill, TensorSpec, write
from tests.fakes.real_shapes import models
from tests.fakes.real_tensors import LAYERS, tensors
from tests.planner.machines import GIB, placed, with_cards

MIB = 1 << 20
QUANT = "Q4_K_M"
CLOSE = 0.02
SLACK_BYTES = 32 << 20  # what is less than that is no matter on a device with little
CONTEXT = 8192
IN_FULL = (
    *(".bias", "ffn_gate_inp.", "conv.", "conv1d.", "position_embd.", "_x.", "ssm_", "rope_", "altup", "hc_"),
    "time_mix",
)
"""Parts of the names of tensors that are in 32 bits in any file."""
NO_TENSORS = ("gemma4-e4b", "gemma4-e2b")  # theirs are not written down in real_tensors


@dataclass(frozen=True)
class Row:
    """One device of one placement: bytes planned and bytes that llama.cpp takes; ``misplaced`` is None, or how the
    layers lie otherwise."""

    model: str
    cards: str
    device: str
    planned: tuple[int, int, int]
    taken: tuple[int, int, int]
    misplaced: str | None = None

    @property
    def off(self) -> float:
        return sum(self.planned) / max(sum(self.taken), 1) - 1

    def __str__(self) -> str:
        pairs = (
            f"{name} {own / MIB:.1f}/{theirs / MIB:.1f}"
            for name, own, theirs in zip(("weights", "cache", "compute"), self.planned, self.taken, strict=True)
        )
        wrong = f"  {self.misplaced}" if self.misplaced else ""
        return f"{self.model:22} {self.cards:24} {self.device:6} {' '.join(pairs)} {self.off:+.2%}{wrong}"


def main() -> int:
    every = sys.argv[1:2] == ["--every"]
    names = sys.argv[1 + every :] or (of_each_architecture() if every else with_tensors())
    compare = compared_short if every else compared
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        for name in names:
            found = list(compare(name, library, Path(folder)))
            rows += found
            for row in found:
                if row.misplaced or abs(row.off) > CLOSE:
                    print(row, flush=True)
    offs = sorted(abs(row.off) for row in rows)
    wrong = [row for row in rows if row.misplaced]
    short = [row for row in rows if row.off < -CLOSE and sum(row.taken) - sum(row.planned) > SLACK_BYTES]
    print(f"{len(rows)} devices of {len({row.model for row in rows})} models: {len(wrong)} with layers elsewhere")
    print(f"bytes: median {median(offs):.2%}, nine of ten {offs[len(offs) * 9 // 10]:.2%}, worst {offs[-1]:.2%}")
    print(f"off by more than {CLOSE:.0%}: {sum(off > CLOSE for off in offs)}, too low by that {len(short)}")
    return 1 if wrong or short else 0


def with_tensors() -> list[str]:
    known = [name for name, metadata in models().items() if metadata["general.architecture"] in LAYERS]
    return [name for name in known if name not in NO_TENSORS]


def of_each_architecture() -> list[str]:
    """The first model of each."""
    first = {metadata["general.architecture"]: name for name, metadata in reversed(models().items())}
    return sorted(first.values())


def compared(name: str, library: Path, folder: Path) -> Iterator[Row]:
    """All placements of one model, device by device."""
    file = write(folder / f"{name}.gguf", models()[name], tensors(name, QUANT), fill=Fill.SPARSE)
    yield from _compared(name, file, library)


def compared_short(name: str, library: Path, folder: Path) -> Iterator[Row]:
    """The same of a few layers; nothing where the engine doesn't tell which tensors they need."""
    metadata = tensor_lists.shortened(models()[name])
    try:
        shapes = asked(tensor_lists.__file__, metadata)
    except SystemExit as error:
        print(f"{name} left out: {str(error).strip().splitlines()[-1][:150]}", file=sys.stderr)
        return
    specs = [TensorSpec(part, tuple(shape), _short_type(part, shape)) for part, shape in shapes.items()]
    yield from _compared(name, write(folder / f"{name}.gguf", metadata, specs, fill=Fill.SPARSE), library)


def _short_type(name: str, shape: Sequence[int]) -> str:
    return "F32" if len(shape) == 1 or any(part in name for part in IN_FULL) else "F16"


def _compared(name: str, file: Path, library: Path) -> Iterator[Row]:
    header = read_file(file)
    figures, of_file = shape(header), weights(header)
    size = of_file.total_bytes / GIB
    context = min(CONTEXT, figures.context_train)
    several = ((3 * size + 8,), (0.6 * size + 1,), (0.7 * size + 2.5, 0.6 * size + 2.5), (0.35 * size + 1,) * 2)
    machines = [with_cards(*cards, memory_gib=3 * size + 40) for cards in several]
    plans = [(machine, placed(machine, figures, of_file, context)) for machine in machines]
    used = [(machine, plan) for machine, plan in plans if plan.configuration.gpu_layers]
    free = [[device.memory_free_bytes or 0 for device in machine.accelerators] for machine, _ in used]
    wanted = [(memory_bytes, plan.configuration) for memory_bytes, (_, plan) in zip(free, used, strict=True)]
    for (machine, plan), answer in zip(used, placements(library, file, wanted), strict=True):
        yield from rows_of(name, machine, plan, figures.n_layer + figures.n_draft, answer)
    file.unlink()


def rows_of(name: str, machine: Machine, plan: Placement, n_layer: int, answer: Placed | str) -> Iterator[Row]:
    cards = "+".join(f"{(device.memory_free_bytes or 0) / GIB:.1f}" for device in machine.accelerators)
    if isinstance(answer, str):
        print(f"{name} on {cards} left out: {answer.strip().splitlines()[-1][:150]}", file=sys.stderr)
        return
    layers = plan.configuration.gpu_layers
    expected = (f"{layers}/{n_layer + 1}", list(range(n_layer + 1 - layers)))
    lies = (answer.offloaded, [layer for layer in answer.cpu_layers if layer < n_layer])
    misplaced = None if lies == expected else f"planned {expected}, llama.cpp has {lies}"
    for row in plan.memory.by_device:
        taken = taken_bytes(answer, row.device)
        planned = (row.weights_bytes + row.repacked_bytes, row.kv_bytes + row.state_bytes, row.compute_bytes)
        yield Row(name, cards, row.device, planned, taken, misplaced)


def taken_bytes(answer: Placed, device: str) -> tuple[int, int, int]:
    """Weights, cache and compute on the device that the plan calls so; the CPU's with the output's buffer."""
    buffers: Sequence[Sequence[int]]
    if device == "cpu":
        on_host = [sizes for name, sizes in answer.buffers.items() if not name.startswith("FAKE") or "Host" in name]
        buffers = [*on_host, (0, 0, round(answer.output_mib * MIB))] if not _counted(answer) else on_host
    else:
        buffers = [answer.buffers.get(f"FAKE{device.removeprefix('cuda')}", (0, 0, 0))]
    weights_bytes, cache_bytes, compute_bytes = (sum(sizes) for sizes in zip(*buffers, strict=True))
    return weights_bytes, cache_bytes, compute_bytes


def _counted(answer: Placed) -> bool:
    """Whether the output's buffer is in the sums already: llama.cpp counts it as context."""
    return any("Host" in name and sizes[1] for name, sizes in answer.buffers.items())


if __name__ == "__main__":
    sys.exit(main())
