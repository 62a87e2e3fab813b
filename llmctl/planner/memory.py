"""Computes the memory that a model takes, part by part, as the engine would allocate it.

Cache, state, output and repacked weights come out to the byte of what llama.cpp 0c1e570 (2026-10) says it allocates;
the compute buffer has a module of its own. ``tests/bench/memory_against_engine.py`` holds all of it against the
installed engine, ``tests/bench/memory_against_logs.py`` against logs of other people's machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate

from msgspec import Struct

from llmctl.gguf.layers import ENCODERS
from llmctl.gguf.quant import WEIGHT_TYPE_BY_NAME
from llmctl.planner.compute import compressed_cells, flash, padded_cells, windowed_cells
from llmctl.types.machine import Machine
from llmctl.types.model import Layer, Shape, Weights
from llmctl.types.plan import Configuration

MARGIN_BYTES = 512 << 20  # for the process itself, its vocabulary, and what others start meanwhile
MARGIN_SHARE = 0.05
# Of a vocabulary: each token with its text in both directions and its pieces, each merge with both its texts. Anonymous
# memory that loading a vocabulary alone added, llama-cpp-python 0.3.36: 154 and 158 bytes a token at 32,000 and 262,144
# without merges, 130 to 230 more for each merge at 49,152 to 248,320 tokens (Linux, glibc).
TOKEN_BYTES, MERGE_BYTES = 160, 200
ROOM_PARTS, ROOM_BYTES = 5, 8 << 30


# Which weight types the CPU backend lays out anew in a second, anonymous buffer (CPU_REPACK in its log), by what the
# processor must have; what has no rows by the eight is ``Weights.unpackable_bytes``.
# Source: ggml_repack_get_optimal_repack_type in ggml/src/ggml-cpu/repack.cpp of llama.cpp 0c1e570.
REPACKED: Mapping[frozenset[str], frozenset[str]] = {
    frozenset({"AVX2"}): frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
    frozenset({"AVX512"}): frozenset({"Q2_K"}),
    frozenset({"NEON", "DOTPROD"}): frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"}),
    frozenset({"NEON", "MATMUL_INT8"}): frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q1_0"}),
}
METAL = "metal"


def kv_bytes(shape: Shape, configuration: Configuration) -> int:
    """The KV cache of all sequences. Layers with a window keep that many tokens and one micro-batch more, unless
    ``swa_full``. Without flash attention values are kept transposed, in all layers as wide as in the widest (the
    constructor of llama_kv_cache)."""
    cells, windowed = padded_cells(configuration.context), windowed_cells(shape, configuration)
    full_width, window_width = shape.kv_width, shape.kv_window_width
    if not flash(shape, configuration):
        full_width, window_width = full_width + shape.kv_padding, window_width + shape.kv_window_padding
    elements = full_width * cells + window_width * windowed + compressed_elements(shape, configuration)
    return configuration.sequences * element_bytes(configuration.kv_type, elements)


def compressed_elements(shape: Shape, configuration: Configuration) -> int:
    """Elements of the compressed caches, whose cells hold several tokens (llama_kv_cache_dsv4)."""
    return sum(layer.compressed_width * compressed_cells(configuration, layer.compression) for layer in shape.layers)


def element_bytes(kv_type: str, elements: int) -> int:
    """Bytes of ``elements`` of a cache; ``kv_type`` of KV_TYPES. A quantized row is a whole number of ggml's
    blocks: q8_0 takes 34 bytes for 32 elements, q4_0 takes 18."""
    quant = WEIGHT_TYPE_BY_NAME[kv_type.upper()]
    return elements * quant.block_bytes // quant.block_length


def quantizable(shape: Shape) -> bool:
    """Whether llama.cpp can keep this model's cache in a quantized type: a head's key and value must be whole blocks.
    Source: the checks in llama_init_from_model, src/llama-context.cpp. Where the lengths aren't known they are taken
    to be; no model of today's has others."""
    block = WEIGHT_TYPE_BY_NAME["Q8_0"].block_length
    return shape.key_length % block == 0 and shape.value_length % block == 0


def state_bytes(shape: Shape, configuration: Configuration) -> int:
    """Bytes of recurrent state: the same for every sequence, whatever its length."""
    return shape.state_bytes * configuration.sequences


def vocabulary_bytes(shape: Shape) -> int:
    """Bytes of the vocabulary on the process's own heap."""
    return TOKEN_BYTES * (shape.n_vocab or 0) + MERGE_BYTES * shape.n_merge


def repacked_types(machine: Machine) -> frozenset[str]:
    """Weight types that the engine would repack on this CPU: as measured here, else by the processor's features.

    None where a device is there whose driver has host memory of its own kind, even if nothing is put on the device:
    llama.cpp then prefers that to repacking, and maps the file in its place (make_cpu_buft_list and create_tensor,
    src/llama-model.cpp and -loader.cpp). Metal has none.
    """
    if any(gpu.usable and (gpu.engine_backend or "").lower() != METAL for gpu in machine.accelerators):
        return frozenset()
    features = set(machine.cpu.features)
    measured: dict[str, bool] = {}
    for rate in machine.kernels.matrices if machine.kernels is not None else ():
        measured[rate.weight_type] = measured.get(rate.weight_type, False) or rate.repacked
    by_feature = frozenset[str]().union(*(types for needed, types in REPACKED.items() if needed <= features))
    return frozenset(
        {name for name in by_feature if name not in measured}
        | {name for name, repacked in measured.items() if repacked}
    )


def head_bytes(shape: Shape, weights: Weights) -> int:
    """The output head: all that is streamed but not part of a layer, as the header says. Without one, its size at the
    file's mean bits per weight."""
    if weights.layer_bytes:
        return weights.total_bytes - weights.embedding_bytes - sum(weights.layer_bytes)
    streamed = sum(weights.type_bytes.values())
    elements = sum(8 * size / bits(name) for name, size in weights.type_bytes.items())
    if not elements or shape.architecture in ENCODERS:
        return 0
    return min(streamed, round((shape.n_vocab or 0) * shape.n_embd * streamed / elements))


def bits(weight_type: str) -> float:
    """Bits per weight of a ggml type."""
    return WEIGHT_TYPE_BY_NAME[weight_type].bits_per_weight


def margin_bytes(available_bytes: int) -> int:
    """What a plan leaves free on each device: half a gibibyte, or a twentieth of a larger amount."""
    return max(MARGIN_BYTES, round(available_bytes * MARGIN_SHARE))


def room_bytes(available_bytes: int) -> int:
    """What a recommendation leaves of the machine's free memory for the programs that are started next: a fifth, at
    most ROOM_BYTES, and nothing of the first gibibyte. Our judgement; a browser alone takes some 2 GB. A model takes
    its margin out of this."""
    return max(0, min(available_bytes // ROOM_PARTS, ROOM_BYTES, available_bytes - (1 << 30)))


class Stack(Struct, frozen=True, dict=True):
    """A model as it is cut into devices: its layers from the first to the last, and the output head on top.

    Each row has cumulative bytes: ``weights[n]`` of the first ``n`` layers, ``weights[-1]`` of all with the head.
    ``experts`` is the part of the weights that may stay on the CPU.
    """

    weights: Sequence[int]
    experts: Sequence[int]
    kv: Sequence[int]
    state: Sequence[int]

    @property
    def height(self) -> int:
        """Layers, and the head."""
        return len(self.weights) - 1

    @cached_property
    def largest_layer_bytes(self) -> int:
        return max(after - before for before, after in zip(self.weights, self.weights[1:-1], strict=False))

    @cached_property
    def largest_experts_bytes(self) -> int:
        return max(after - before for before, after in zip(self.experts, self.experts[1:], strict=False))


def stack(shape: Shape, weights: Weights, configuration: Configuration) -> Stack:
    """Per layer where header or shape say it of each, else in equal parts. Layers for drafting come last: they cache
    nothing."""
    n_layer, n_weighted, head = shape.n_layer, shape.n_layer + shape.n_draft, head_bytes(shape, weights)
    in_layers = weights.total_bytes - weights.embedding_bytes - head
    kv, state = kv_bytes(shape, configuration), state_bytes(shape, configuration)
    if not shape.layers:
        kv_layers, state_layers = _equal(kv, n_layer), _equal(state, n_layer)
    else:
        kv_layers = [_layer_kv_bytes(shape, layer, configuration) for layer in shape.layers]
        state_layers = [layer.state_bytes * configuration.sequences for layer in shape.layers]
    per_layer = len(weights.layer_bytes) == n_weighted
    drafting = [0] * shape.n_draft
    return Stack(
        weights=_sums([*(weights.layer_bytes if per_layer else _equal(in_layers, n_layer) + drafting), head]),
        experts=_sums(
            [*(weights.layer_expert_bytes if per_layer else _equal(weights.expert_bytes, n_layer) + drafting), 0]
        ),
        kv=_sums([*kv_layers, *drafting, 0]),
        state=_sums([*state_layers, *drafting, 0]),
    )


def _layer_kv_bytes(shape: Shape, layer: Layer, configuration: Configuration) -> int:
    cells = windowed_cells(shape, configuration) if layer.windowed else padded_cells(configuration.context)
    width = layer.kv_width + (0 if flash(shape, configuration) else layer.padding)
    elements = width * cells + layer.compressed_width * compressed_cells(configuration, layer.compression)
    return configuration.sequences * element_bytes(configuration.kv_type, elements)


def _equal(total: int, parts: int) -> list[int]:
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


def _sums(sizes: Iterable[int]) -> list[int]:
    return [0, *accumulate(sizes)]
