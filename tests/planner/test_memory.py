"""Memory against llama.cpp's own figures, and where layers go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.planner.memory import (
    CPU,
    MARGIN_BYTES,
    borrowed_bytes,
    compute_bytes,
    head_bytes,
    kv_bytes,
    margin_bytes,
    padded_cells,
    place,
    repacked_types,
)
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, KernelRate
from llmctl.types.model import Shape, Weights
from tests.planner.machines import EPYC, GIB, LAPTOP, desktop, mac, of

MIB = 1 << 20


def llama(
    n_layer: int, n_embd: int, n_head: int, n_head_kv: int, head: int, n_ff: int, n_vocab: int, full: int | None = None
) -> Shape:
    """``full`` of the layers cache everything; the others have a window of 512."""
    per_layer = 2 * n_head_kv * head
    full = n_layer if full is None else full
    return Shape(
        "llama",
        n_layer,
        n_embd,
        n_head,
        n_ff,
        n_vocab,
        131_072,
        per_layer * full,
        kv_window_width=per_layer * (n_layer - full),
        window=512 if full < n_layer else None,
    )


SMOLLM2_135M = llama(30, 576, 9, 3, 64, 1536, 49_152)
GEMMA3_270M = llama(18, 640, 4, 1, 256, 2048, 262_144, full=3)

# What llama.cpp (llama-cpp-python 0.3.36, CPU, flash attention off, swa_full off) logged for the two package-index
# models, and for files of these shapes with few layers: "KV buffer size" and "compute buffer size" in MiB.
LOGGED = [
    (SMOLLM2_135M, 512, 11.25, 98.25),
    (SMOLLM2_135M, 2048, 45.0, 99.38),
    (SMOLLM2_135M, 4096, 90.0, 99.38),
    (SMOLLM2_135M, 8192, 180.0, 166.38),
    (GEMMA3_270M, 512, 9.0, 515.75),
    (GEMMA3_270M, 2048, 21.0, 514.50),
    (GEMMA3_270M, 4096, 27.0, 514.50),
    (GEMMA3_270M, 8192, 39.0, 514.50),
    (llama(2, 4096, 32, 8, 128, 14336, 128_256), 2048, 16.0, 266.5),
    (llama(2, 4096, 32, 8, 128, 14336, 128_256), 8192, 64.0, 572.0),
    (llama(2, 4096, 32, 8, 128, 14336, 128_256), 32768, 256.0, 2156.0),
    (llama(2, 4096, 32, 32, 128, 11008, 32_000), 512, 16.0, 105.5),
    (llama(2, 4096, 32, 32, 128, 11008, 32_000), 4096, 128.0, 320.0),
    (llama(2, 2560, 32, 8, 128, 9728, 151_936), 8192, 64.0, 563.0),  # qwen3
    (llama(2, 1024, 16, 8, 128, 3072, 151_936), 16384, 128.0, 562.0),  # qwen3
    (llama(6, 1152, 4, 1, 256, 6912, 262_144, full=1), 8192, 13.0, 516.5),
    (llama(1, 8192, 64, 8, 128, 28672, 128_256), 4096, 16.0, 604.0),
    (llama(1, 8192, 64, 8, 128, 28672, 128_256), 32768, 128.0, 4244.0),
    (llama(2, 2560, 40, 8, 64, 8192, 100_352), 16384, 64.0, 1339.0),
]


@pytest.mark.parametrize(("shape", "context", "kv_mib", "compute_mib"), LOGGED)
def test_buffers_are_those_of_the_log(shape: Shape, context: int, kv_mib: float, compute_mib: float) -> None:
    assert kv_bytes(shape, context) == kv_mib * MIB
    output = (shape.n_vocab or 0) * 4
    assert compute_bytes(shape, context) - output == pytest.approx(compute_mib * MIB, rel=0.015)


def test_cells_come_in_256() -> None:
    assert [padded_cells(n) for n in (1, 256, 257, 4000)] == [256, 256, 512, 4096]


@pytest.mark.parametrize(
    ("features", "repacked"),
    [
        ((), set()),
        (("AVX2",), {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
        (("AVX2", "AVX512"), {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4", "Q2_K"}),
        (("NEON",), set()),
        (("NEON", "DOTPROD"), {"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"}),
    ],
)
def test_types_that_are_repacked(features: tuple[str, ...], repacked: set[str]) -> None:
    machine = replace(LAPTOP, cpu=Cpu("x", "x", 4, 4, 4, features))
    assert repacked_types(machine) == repacked


def test_what_was_measured_here_stands_above_the_table() -> None:
    kernels = (KernelRate("Q4_K", 1e9, 1e9, repacked=False), KernelRate("Q6_K", 1e9, 1e9, repacked=True))
    assert repacked_types(replace(LAPTOP, kernels=kernels)) == {"Q4_0", "Q6_K", "IQ4_NL", "MXFP4"}


def test_the_repacked_copy_is_that_of_the_log() -> None:
    """gemma-3-270m Q4_K_M: CPU_REPACK 12.66 MiB, which is its Q4_K weights; the file stays mapped beside it."""
    weights = Weights(
        246_587_904, 0, 0, {"Q8_0": 179_824_640, "Q5_0": 43_591_680, "Q4_K": 13_271_040, "Q6_K": 9_676_800}, exact=True
    )
    placement = place(EPYC, GEMMA3_270M, weights, 2048, None)
    (row,) = placement.memory.by_device
    assert row.repacked_bytes == pytest.approx(12.66 * MIB, rel=0.001)
    assert row.weights_bytes + row.repacked_bytes == weights.total_bytes == placement.memory.mapped_bytes
    anonymous = row.repacked_bytes + row.kv_bytes + row.state_bytes + row.compute_bytes
    assert placement.memory.must_fit_bytes == anonymous
    assert placement.memory.must_fit_bytes == pytest.approx((12.66 + 21 + 514.5 + 1) * MIB, rel=0.001)


def test_columns_add_up_on_every_device() -> None:
    for machine in (EPYC, LAPTOP, desktop(), desktop(3), mac()):
        for candidate in of("qwen3.5-9b"):
            memory = place(machine, candidate.model.shape, candidate.artifact.weights, 8192, None).memory
            for row in memory.by_device:
                parts = (row.weights_bytes, row.repacked_bytes, row.kv_bytes, row.state_bytes, row.compute_bytes)
                assert sum(parts) == row.total_bytes
                assert min(parts) >= 0
            streamed = sum(row.weights_bytes + row.repacked_bytes for row in memory.by_device)
            assert streamed == candidate.artifact.weights.total_bytes == memory.mapped_bytes


def test_the_head_is_found_by_its_size() -> None:
    """Llama 3.1 8B Q4_K_M: its header has an output head of 430,940,160 bytes."""
    (candidate,) = of("llama-3.1-8b-instruct")
    assert head_bytes(candidate.model.shape, candidate.artifact.weights) == pytest.approx(430_940_160, rel=0.35)


class TestDevices:
    nine = of("qwen3.5-9b:UD-Q4_K_XL")[0]
    shape, weights = nine.model.shape, nine.artifact.weights

    def test_all_layers_and_the_head_where_they_fit(self) -> None:
        placement = place(desktop(), self.shape, self.weights, 8192, None)
        assert placement.gpu_layers == self.shape.n_layer + 1
        assert placement.offloaded == 1.0
        host, card = placement.memory.by_device
        assert (host.device, card.device) == (CPU, "cuda0")
        assert host.kv_bytes == 0 and host.repacked_bytes == 0
        assert host.weights_bytes >= self.weights.embedding_bytes  # the token table stays
        assert card.weights_bytes == sum(self.weights.type_bytes.values())

    def test_some_layers_where_not(self) -> None:
        placement = place(desktop(4), self.shape, self.weights, 8192, None)
        assert 0 < placement.gpu_layers < self.shape.n_layer
        assert not placement.shortages
        one_more = place(desktop(4), self.shape, self.weights, 8192, placement.gpu_layers + 1)
        assert list(one_more.shortages) == ["cuda0"]

    def test_none_where_there_is_no_room_for_one(self) -> None:
        placement = place(desktop(0.6), self.shape, self.weights, 8192, None)
        assert (placement.gpu_layers, placement.accelerator) == (0, None)
        assert not placement.shortages

    def test_what_is_asked_for_and_nothing_else(self) -> None:
        assert place(desktop(), self.shape, self.weights, 8192, 7).gpu_layers == 7
        assert place(desktop(), self.shape, self.weights, 8192, -1).gpu_layers == self.shape.n_layer + 1
        assert place(desktop(), self.shape, self.weights, 8192, 0).accelerator is None
        assert place(desktop(4), self.shape, self.weights, 8192, 999).short_bytes > 0
        assert place(EPYC, self.shape, self.weights, 8192, 20).gpu_layers == 0  # there is no device

    def test_never_on_the_sum_of_two_cards(self) -> None:
        one = desktop(4)
        second = replace(one.accelerators[0], id="cuda1", memory_free_bytes=round(4.5 * GIB))
        both = place(replace(one, accelerators=(*one.accelerators, second)), self.shape, self.weights, 8192, None)
        alone = place(replace(one, accelerators=(second,)), self.shape, self.weights, 8192, None)
        assert both == alone

    def test_a_card_that_the_engine_cannot_use_is_left_alone(self) -> None:
        machine = desktop()
        card = replace(machine.accelerators[0], usable=False, why="engine built for CPU only")
        assert place(replace(machine, accelerators=(card,)), self.shape, self.weights, 8192, None).accelerator is None

    @pytest.mark.parametrize(
        ("kind", "total", "free", "shared", "needed", "borrowed"),
        [
            (AcceleratorKind.DISCRETE, 12, 11, None, 5, 0),
            (AcceleratorKind.DISCRETE, 12, 11, 0, 5, 0),
            (AcceleratorKind.UNIFIED, 48, 40, None, 5, 5),
            (AcceleratorKind.UNIFIED, 48, 40, 48, 5, 5),
            (AcceleratorKind.INTEGRATED, None, None, None, 5, 5),
            # an APU: 4 of its own, 16 of the machine's
            (AcceleratorKind.INTEGRATED, 20, 18, 16, 3, 0),
            (AcceleratorKind.INTEGRATED, 20, 18, 16, 10, 6),
            (AcceleratorKind.INTEGRATED, 20, 2, 16, 10, 8),
        ],
    )
    def test_what_a_device_borrows_from_the_machine(
        self,
        kind: AcceleratorKind,
        total: int | None,
        free: int | None,
        shared: int | None,
        needed: int,
        borrowed: int,
    ) -> None:
        card = Accelerator("0", "GPU", "AMD", kind, total, free, shared_bytes=shared)
        assert borrowed_bytes(card, needed) == borrowed

    def test_unified_memory_is_counted_once(self) -> None:
        roomy = place(mac(), self.shape, self.weights, 8192, None)
        assert roomy.gpu_layers == self.shape.n_layer + 1 and not roomy.shortages
        both = sum(row.total_bytes for row in roomy.memory.by_device)
        tight = place(mac(memory_gib=both / GIB), self.shape, self.weights, 8192, -1)
        assert list(tight.shortages) == [CPU]
        assert tight.shortages[CPU] == pytest.approx(margin_bytes(both), abs=2)


FREE = st.integers(min_value=200 * MIB, max_value=80 * GIB)


@settings(max_examples=60, deadline=None)
@given(
    FREE, FREE, st.sampled_from([2048, 8192, 32768]), st.sampled_from(["qwen3.5-9b", "gemma-4-e4b-it", "gpt-oss-20b"])
)
def test_what_fits_leaves_the_margin_free_on_every_device(host: int, card: int, context: int, name: str) -> None:
    for machine in (desktop(card / GIB, memory_gib=host / GIB), mac(host / GIB, card / GIB)):
        candidate = of(name)[0]
        placement = place(machine, candidate.model.shape, candidate.artifact.weights, context, None)
        for row in placement.memory.by_device:
            if row.device not in placement.shortages:
                assert row.total_bytes + margin_bytes(row.available_bytes) <= row.available_bytes
        assert placement.short_bytes >= 0
        assert bool(placement.shortages) == (placement.short_bytes > 0)


@settings(max_examples=60, deadline=None)
@given(FREE, st.integers(min_value=0, max_value=8 * GIB))
def test_more_device_memory_never_means_fewer_layers_there(free: int, more: int) -> None:
    candidate = of("qwen3.5-9b")[0]
    shape, weights = candidate.model.shape, candidate.artifact.weights
    less, lots = (place(desktop(size / GIB), shape, weights, 8192, None) for size in (free, free + more))
    assert less.gpu_layers <= lots.gpu_layers


def test_the_margin_is_stated() -> None:
    assert margin_bytes(1 * GIB) == MARGIN_BYTES == 512 * MIB
    assert margin_bytes(100 * GIB) == 5 * GIB
