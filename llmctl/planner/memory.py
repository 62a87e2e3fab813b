"""What a model takes in memory, and on which device: the engine's own sums, without the engine.

Every formula was compared with what llama.cpp 0c1e570 (2026-10) logs when it loads: the two package-index models, and
files of ten shapes from 0.6B to 70B at 512 to 32,768 tokens. KV cache, repacked weights and output buffer come out to
the byte, the compute buffer within 1 % (attention without flash attention, micro-batch 512).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from llmctl.gguf.quant import QUANT_BY_NAME
from llmctl.types.machine import Accelerator, AcceleratorKind, Machine
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import DeviceMemory, MemoryPlan

KV_TYPE = "f16"
KV_ELEMENT_BYTES = 2
CELL_PAD = 256  # llama.cpp rounds a cache's cells up to this
UBATCH = 512  # llama.cpp's default micro-batch
FLOAT_BYTES = 4

MARGIN_BYTES = 512 << 20  # for the process itself, its vocabulary, and what others start meanwhile
MARGIN_SHARE = 0.05

CPU = "cpu"

# Which weight types the CPU backend lays out anew in a second, anonymous buffer (CPU_REPACK in its log), by what the
# processor must have; rows must also come in eights, as they do in every model here.
# Source: ggml_repack_get_optimal_repack_type in ggml/src/ggml-cpu/repack.cpp of llama.cpp 0c1e570.
REPACKED: Mapping[frozenset[str], frozenset[str]] = {
    frozenset({"AVX2"}): frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
    frozenset({"AVX512"}): frozenset({"Q2_K"}),
    frozenset({"NEON", "DOTPROD"}): frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"}),
    frozenset({"NEON", "MATMUL_INT8"}): frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q1_0"}),
}


def padded_cells(context: int) -> int:
    return -(-context // CELL_PAD) * CELL_PAD


def kv_bytes(shape: Shape, context: int) -> int:
    """The KV cache in f16 for one sequence. Layers with a window keep that many tokens and one micro-batch more
    (``swa_full`` off)."""
    cells = padded_cells(context)
    windowed = min(cells, padded_cells((shape.window or 0) + min(UBATCH, context)))
    return (shape.kv_width * cells + shape.kv_window_width * windowed) * KV_ELEMENT_BYTES


def compute_bytes(shape: Shape, context: int) -> int:
    """The compute buffer, reserved for a whole micro-batch, and the output buffer.

    The graph's largest moment is one of three: the logits of every token beside two rows of the embedding's width;
    the attention scores of every head with their mask, beside the residual, the queries and what a layer caches; or
    the feed-forward network's three rows beside five of the embedding's width. ``n_ff`` is not known of every model,
    and never decides where a vocabulary is of today's size.
    """
    rows = min(UBATCH, padded_cells(context)) * FLOAT_BYTES
    vocabulary = shape.n_vocab or 0
    cached = (shape.kv_width + shape.kv_window_width) // shape.n_layer
    logits = rows * (vocabulary + 2 * shape.n_embd)
    attention = rows * (padded_cells(context) * (shape.n_head + 1) + 5 * shape.n_embd + cached)
    feed_forward = rows * (3 * (shape.n_ff or 0) + 5 * shape.n_embd)
    return max(logits, attention, feed_forward) + vocabulary * FLOAT_BYTES


def transfer_bytes(shape: Shape, context: int) -> int:
    """What the CPU still reserves when a device computes everything: embeddings in and out, and the mask."""
    return min(UBATCH, padded_cells(context)) * FLOAT_BYTES * (padded_cells(context) + 2 * shape.n_embd)


def repacked_types(machine: Machine) -> frozenset[str]:
    """Weight types that the engine would repack on this CPU: as measured here, else by the processor's features."""
    features = set(machine.cpu.features)
    known = {one.weight_type: one.repacked for one in machine.kernels}
    by_feature = frozenset[str]().union(*(types for needed, types in REPACKED.items() if needed <= features))
    return frozenset(
        {name for name in by_feature if name not in known} | {name for name, repacked in known.items() if repacked}
    )


def head_bytes(shape: Shape, weights: Weights) -> int:
    """The output head, at the file's mean bits per weight: what is streamed but not part of a layer."""
    streamed = sum(weights.type_bytes.values())
    elements = sum(8 * size / bits(name) for name, size in weights.type_bytes.items())
    if not elements:
        return 0
    return min(streamed, round((shape.n_vocab or 0) * shape.n_embd * streamed / elements))


def bits(weight_type: str) -> float:
    """Bits per weight of a ggml type."""
    return QUANT_BY_NAME[weight_type].bits_per_weight


def margin_bytes(available_bytes: int) -> int:
    """What a plan leaves free on each device: half a gibibyte, or a twentieth of a larger amount."""
    return max(MARGIN_BYTES, round(available_bytes * MARGIN_SHARE))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the layers go. ``gpu_layers`` counts as llama.cpp does: the output head is one more than the layers.

    ``offloaded`` is the share of the streamed weights that lies on ``accelerator``. ``shortages`` has the bytes that
    are missing on each device that has no room, margin included: none if it fits.
    """

    memory: MemoryPlan
    gpu_layers: int
    offloaded: float
    accelerator: Accelerator | None
    shortages: Mapping[str, int]

    @property
    def short_bytes(self) -> int:
        return max(self.shortages.values(), default=0)


def place(machine: Machine, shape: Shape, weights: Weights, context: int, gpu_layers: int | None) -> Placement:
    """As many layers as fit on the usable accelerator with the most free memory, or exactly ``gpu_layers`` of them;
    the rest on the CPU. Never on the sum of several devices."""
    accelerator = _roomiest(machine)
    if accelerator is None:
        return _placed(machine, shape, weights, context, 0, None)
    everything = shape.n_layer + 1
    if gpu_layers is not None:
        wanted = everything if gpu_layers < 0 else min(gpu_layers, everything)
        return _placed(machine, shape, weights, context, wanted, accelerator if wanted else None)

    def too_large(layers: int) -> bool:
        return accelerator.id in _placed(machine, shape, weights, context, layers, accelerator).shortages

    most = bisect_left(range(1, everything + 1), True, key=too_large)
    best = _placed(machine, shape, weights, context, most, accelerator if most else None)
    if best.short_bytes and most:  # what is left for the CPU does not fit it; without the device it may be clearer why
        return min(best, _placed(machine, shape, weights, context, 0, None), key=lambda one: one.short_bytes)
    return best


def _roomiest(machine: Machine) -> Accelerator | None:
    """A card before what is integrated, which llama.cpp leaves out where there is a card
    (llama_prepare_model_devices() in src/llama.cpp)."""
    usable = [one for one in machine.accelerators if one.usable and one.memory_free_bytes]
    cards = [one for one in usable if one.kind is AcceleratorKind.DISCRETE]
    return max(cards or usable, key=lambda one: one.memory_free_bytes or 0, default=None)


def borrowed_bytes(accelerator: Accelerator, needed_bytes: int) -> int:
    """How much of what the device needs lies in the machine's own memory: nothing with a card, all of it with a
    unified chip, what goes beyond its carve-out with an APU. Where nothing is said of sharing, the kind tells."""
    if accelerator.shared_bytes is None:
        return 0 if accelerator.kind is AcceleratorKind.DISCRETE else needed_bytes
    free_bytes = accelerator.memory_free_bytes or 0
    own_bytes = max(0, (accelerator.memory_total_bytes or free_bytes) - accelerator.shared_bytes)
    return max(0, needed_bytes - min(own_bytes, free_bytes))


def _placed(
    machine: Machine, shape: Shape, weights: Weights, context: int, layers: int, accelerator: Accelerator | None
) -> Placement:
    streamed = sum(weights.type_bytes.values())
    head = head_bytes(shape, weights)
    in_layers = min(layers, shape.n_layer)
    on_device = (streamed - head) * in_layers // shape.n_layer + (head if layers > shape.n_layer else 0)
    share = on_device / streamed if streamed else 0.0
    anonymous = repacked_types(machine)
    repacked = round(sum(size for name, size in weights.type_bytes.items() if name in anonymous) * (1 - share))
    kv, compute = kv_bytes(shape, context), compute_bytes(shape, context)
    kv_there, state_there = kv * in_layers // shape.n_layer, shape.state_bytes * in_layers // shape.n_layer
    host = _device(
        CPU,
        weights.total_bytes - on_device - repacked,
        repacked,
        kv - kv_there,
        shape.state_bytes - state_there,
        transfer_bytes(shape, context) if layers > shape.n_layer else compute,
        machine.memory.available_bytes,
    )
    rows = [host]
    if accelerator is not None:
        free = accelerator.memory_free_bytes or 0
        rows.append(_device(accelerator.id, on_device, 0, kv_there, state_there, compute, free))
    needs = {row.device: row.total_bytes for row in rows}
    if accelerator is not None:
        needs[CPU] += borrowed_bytes(accelerator, needs[accelerator.id])  # the same memory, counted once, in full
    short = {row.device: needs[row.device] + margin_bytes(row.available_bytes) - row.available_bytes for row in rows}
    there = sum(row.total_bytes for row in rows[1:])
    memory = MemoryPlan(tuple(rows), host.total_bytes - host.weights_bytes + there, weights.total_bytes)
    return Placement(memory, layers, share, accelerator, {name: size for name, size in short.items() if size > 0})


def _device(name: str, weights: int, repacked: int, kv: int, state: int, compute: int, available: int) -> DeviceMemory:
    total = weights + repacked + kv + state + compute
    return DeviceMemory(name, weights, repacked, kv, state, compute, total, available)
