"""The speed of devices that nobody measured: what it is made of, and what moves it which way."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.planner.device_rates import BEND, device_rates, link_bytes_per_s
from llmctl.planner.parts import DeviceShare
from llmctl.planner.placement import Placer
from llmctl.planner.speed import Forecast, Forecaster
from llmctl.planner.streamed import fixed_layers
from llmctl.types.kernels import Kernels, MatrixRate
from llmctl.types.machine import Accelerator, AcceleratorKind, Machine
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import Basis, Configuration
from llmctl.types.speed_model import SpeedModel
from tests.planner.machines import GIB, LAPTOP, knowledge, of

CONSTANTS = knowledge().speed
DEVICES = CONSTANTS.devices
CARD = Accelerator(
    "cuda0",
    "NVIDIA GeForce RTX 4090",
    "NVIDIA",
    AcceleratorKind.DISCRETE,
    24 * GIB,
    24 * GIB,
    bandwidth_bytes_per_s=1008e9,
    compute_capability="8.9",
    compute_flop_per_s=165e12,
    engine_backend="CUDA",
    usable=True,
    pcie="gen4 x16",
)
DENSE, EXPERTS = "qwen3-8b", "gpt-oss-20b"
NAMES = st.sampled_from([DENSE, EXPERTS, "qwen3.5-4b", "gemma-3-1b-it", "llama-3.2-3b-instruct"])


def with_cards(*cards: Accelerator) -> Machine:
    return replace(LAPTOP, accelerators=cards)


def forecast(machine: Machine, name: str, **settings: Any) -> Forecast:
    candidate = of(name)[0]
    placer = Placer(machine, candidate.model.shape, candidate.artifact.weights)
    configuration = Configuration(8192, **{"gpu_layers": placer.height, **settings})
    return Forecaster(machine, CONSTANTS).forecast(placer.shape, placer.weights, placer.place(configuration), (8, 8))


def streamed(card: Accelerator) -> float:
    return device_rates(card, True, CONSTANTS).decode[None]


def test_a_token_costs_its_bytes_and_its_layers() -> None:
    """By hand: 1 GB of Q4_K and 0.5 GB of Q8_0 in ten layers, all on one card."""
    shape = Shape("llama", 10, 1024, 16, None, 0, 8192, kv_width=0)
    weights = Weights(1_500_000_000, 0, 0, {"Q4_K": 1_000_000_000, "Q8_0": 500_000_000}, exact=True)
    placer = Placer(with_cards(CARD), shape, weights)
    made = Forecaster(placer.machine, CONSTANTS).forecast(
        shape, weights, placer.place(Configuration(512, gpu_layers=11)), (8, 8)
    )
    cuda = DEVICES.backends["cuda"]
    of_memory, of_cores = cuda.share * 1008e9, cuda.bytes_per_flop * 2 * 165e12  # GeForce: the table has half its rate
    stream = (of_memory**-BEND + of_cores**-BEND) ** (-1 / BEND)
    assert 0.97 * of_memory < stream < of_memory
    expected = 1e9 / (stream * DEVICES.types["Q4_K"]) + 0.5e9 / stream + 10 * cuda.layer_s
    assert made.speed_model.token_s == pytest.approx(expected)


def test_prefill_is_told_by_compute_and_large_devices_are_not_filled() -> None:
    cuda = DEVICES.backends["cuda"]
    (geforce,) = (kind.prefill for kind in cuda.factors if "GeForce" in kind.these)
    flop = device_rates(CARD, True, CONSTANTS).prefill[None]
    assert flop == pytest.approx(geforce * sqrt(165e12 * cuda.prefill_flop_per_s))
    small = device_rates(replace(CARD, compute_flop_per_s=3e12), True, CONSTANTS).prefill[None]
    assert small == pytest.approx(DEVICES.peak_share * 3e12)
    unknown = device_rates(replace(CARD, compute_flop_per_s=None), True, CONSTANTS).prefill[None]
    assert unknown == pytest.approx(cuda.prefill_flop_per_byte * 1008e9)


def test_layers_that_only_mix_or_only_feed_are_half_of_others() -> None:
    whole = Shape("llama", 52, 2688, 32, None, 0, 8192, kv_width=0)
    assert fixed_layers(whole) == 52
    assert fixed_layers(replace(whole, architecture="nemotron_h_moe")) == 26


@pytest.mark.parametrize(
    ("capability", "slower"), [("8.0", True), ("9.0", True), ("8.6", False), ("12.0", False), (None, False)]
)
def test_some_kinds_stream_at_less(capability: str | None, slower: bool) -> None:
    assert (streamed(replace(CARD, compute_capability=capability)) < streamed(CARD)) == slower


def test_a_chip_is_known_by_a_whole_word_of_its_name() -> None:
    apple = replace(CARD, vendor="Apple", compute_capability=None, engine_backend="Metal")
    third, first, other = (streamed(replace(apple, name=f"Apple {chip}")) for chip in ("M3 Max", "M1 Max", "M12"))
    assert first < third == other


def test_cores_limit_what_is_streamed_from_memory_that_is_fast_enough() -> None:
    """The A100 with 2,039 GB/s has the same cores as the one with 1,935, and answers no faster; the H100 has more."""
    plain = replace(CARD, name="A100", compute_capability="8.0", compute_flop_per_s=312e12)
    slower, faster = (streamed(replace(plain, bandwidth_bytes_per_s=rate)) for rate in (1935e9, 2039e9))
    newer = replace(plain, compute_capability="9.0", compute_flop_per_s=756e12, bandwidth_bytes_per_s=2039e9)
    assert slower < faster < 1.01 * slower < streamed(newer)
    assert faster < 0.5 * 2039e9


def test_apples_cores_limit_k_quants_more_than_others_and_only_where_memory_is_faster() -> None:
    """The M1 Ultra with 48 of 64 cores has the same memory: it answers slower, most of all with K-quants."""
    whole = replace(CARD, name="Apple M1 Ultra", vendor="Apple", compute_capability=None, engine_backend="Metal")
    whole = replace(whole, bandwidth_bytes_per_s=800e9, compute_flop_per_s=20.8e12)
    cut = replace(whole, compute_flop_per_s=15.6e12)
    small = replace(whole, bandwidth_bytes_per_s=100e9)
    whole_rates, cut_rates, small_rates = (device_rates(card, True, CONSTANTS).decode for card in (whole, cut, small))
    assert cut_rates[None] < 0.9 * whole_rates[None]
    assert cut_rates["Q4_K"] / whole_rates["Q4_K"] < cut_rates[None] / whole_rates[None]
    assert whole_rates["Q4_K"] < 0.9 * whole_rates[None]
    assert small_rates["Q4_K"] == pytest.approx(small_rates[None], rel=0.001)


def test_a_layer_with_experts_is_begun_more_often_on_a_backend_that_begins_slower() -> None:
    for name, backend in DEVICES.backends.items():
        rates = device_rates(replace(CARD, engine_backend=name), True, CONSTANTS)
        assert rates.expert_layer_s == pytest.approx(DEVICES.expert_layers * backend.layer_s)


def test_a_backend_without_constants_is_taken_for_the_slowest_and_an_unknown_one_for_the_vendors_own() -> None:
    shares = {name: streamed(replace(CARD, engine_backend=name)) for name in (*DEVICES.backends, "new")}
    assert shares["new"] == min(shares.values())
    for vendor, backend in (("NVIDIA", "cuda"), ("AMD", "rocm"), ("Apple", "metal"), ("Intel", "sycl")):
        card = replace(CARD, vendor=vendor)
        assert streamed(replace(card, engine_backend=None)) == streamed(replace(card, engine_backend=backend))
    nobodys = replace(CARD, vendor="new", engine_backend=None)
    assert streamed(nobodys) == streamed(replace(nobodys, engine_backend="new"))


def test_without_flash_attention_each_head_reads_its_keys_for_itself() -> None:
    """Llama 3.2 3B has three heads to one of keys: 7 GB are read instead of 2.3 with 20,000 tokens."""
    flash, plain = (
        forecast(with_cards(CARD), "llama-3.2-3b-instruct", flash_attention=on).speed_model for on in (True, False)
    )
    assert flash.decode_s(0) == plain.decode_s(0)
    gained, lost = flash.decode_s(20_000) - flash.decode_s(0), plain.decode_s(20_000) - plain.decode_s(0)
    assert lost > 2 * gained


def test_a_device_of_unknown_bandwidth_is_told_for_the_slowest_with_a_wide_range() -> None:
    unknown = forecast(with_cards(replace(CARD, bandwidth_bytes_per_s=None, compute_flop_per_s=None)), DENSE)
    assert unknown.speed_model.decode_tok_s(0) < forecast(with_cards(CARD), DENSE).speed_model.decode_tok_s(0) / 4
    assert unknown.range.high / unknown.range.low > 4


@settings(max_examples=60, deadline=None)
@given(
    NAMES,
    st.floats(1.0, 8.0),
    st.sampled_from(["bandwidth_bytes_per_s", "compute_flop_per_s"]),
    st.integers(1, 20),
    st.sampled_from(["cuda", "vulkan", "rocm", "sycl"]),
)
def test_more_bandwidth_and_more_compute_are_never_slower(
    name: str, factor: float, what: str, layers: int, backend: str
) -> None:
    card = replace(CARD, engine_backend=backend)
    changed: dict[str, Any] = {what: getattr(card, what) * factor}
    plain, better = (
        forecast(with_cards(accelerator), name, gpu_layers=layers).speed_model
        for accelerator in (card, replace(card, **changed))
    )
    for depth, prompt in ((0, 1), (500, 512), (6000, 3000)):
        assert better.decode_s(depth) <= plain.decode_s(depth) * (1 + 1e-9)
        assert better.prefill_s(prompt) <= plain.prefill_s(prompt) * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(NAMES, st.integers(1, 8000), st.integers(1, 8000))
def test_depth_is_never_faster(name: str, depth: int, more: int) -> None:
    speed_model = forecast(with_cards(CARD), name).speed_model
    assert speed_model.decode_s(depth + more) >= speed_model.decode_s(depth)
    assert speed_model.prefill_s(512, depth + more) >= speed_model.prefill_s(512, depth)
    assert speed_model.prefill_s(depth + more) >= speed_model.prefill_s(depth)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 1.0), st.integers(1, 33))
def test_fewer_bytes_are_never_slower(share: float, layers: int) -> None:
    shape = Shape("llama", 32, 4096, 32, None, 128_000, 8192, kv_width=65_536)
    paces = []
    for size in (8_000_000_000, round(8_000_000_000 * share)):
        weights = Weights(size, 0, 0, {"Q4_K": size}, exact=True)
        placer = Placer(with_cards(CARD), shape, weights)
        placement = placer.place(Configuration(8192, gpu_layers=layers))
        paces.append(Forecaster(placer.machine, CONSTANTS).forecast(shape, weights, placement, (8, 8)).speed_model)
    assert paces[1].token_s <= paces[0].token_s * (1 + 1e-9)
    assert paces[1].prefill_s(512) <= paces[0].prefill_s(512) * (1 + 1e-9)


def test_layers_on_two_cards_take_as_long_as_on_one_and_prompts_go_in_turns() -> None:
    single, two = (
        forecast(with_cards(*cards), DENSE).speed_model for cards in ((CARD,), (CARD, replace(CARD, id="cuda1")))
    )
    assert two.token_s == pytest.approx(single.token_s, rel=1e-6)
    assert two.prefill_s(512) == pytest.approx(single.prefill_s(512), rel=1e-6)  # one micro-batch: nobody waits
    assert 0.5 < two.prefill_s(4096) / single.prefill_s(4096) < 0.6
    slow = replace(CARD, id="cuda1", bandwidth_bytes_per_s=250e9)
    mixed, slower = (forecast(with_cards(*cards), DENSE).speed_model for cards in ((CARD, slow), (slow,)))
    assert single.token_s < mixed.token_s < slower.token_s


def test_turns_gain_more_the_longer_the_prompt() -> None:
    speed_model = SpeedModel(0.01, 0.0, 0.0, 1e-3, 0.0, 0.0, None, 0, ubatch_s=0.1, ubatch=512, turns=4)
    alone = replace(speed_model, turns=1)
    gains = [alone.prefill_s(tokens) / speed_model.prefill_s(tokens) for tokens in (1, 512, 1024, 8192, 1_000_000)]
    assert gains[:2] == pytest.approx([1, 1])
    assert gains == sorted(gains)
    assert gains[-1] == pytest.approx(4, rel=0.01)


def test_experts_on_the_cpu_cost_its_memory_in_decoding_and_the_link_in_prefill() -> None:
    whole = forecast(with_cards(CARD), EXPERTS).speed_model
    kept = forecast(with_cards(CARD), EXPERTS, cpu_expert_layers=24).speed_model
    narrow = forecast(with_cards(replace(CARD, pcie="gen3 x4")), EXPERTS, cpu_expert_layers=24).speed_model
    assert narrow.token_s == kept.token_s > 1.5 * whole.token_s
    size = of(EXPERTS)[0].artifact.weights.expert_bytes
    for speed_model, pcie in ((kept, "gen4 x16"), (narrow, "gen3 x4")):
        link = link_bytes_per_s(replace(CARD, pcie=pcie), DEVICES)
        assert speed_model.ubatch_s - whole.ubatch_s == pytest.approx(size / link, rel=0.01)
    large = forecast(with_cards(CARD), EXPERTS, cpu_expert_layers=24, ubatch=2048).speed_model
    assert large.prefill_tok_s(4096) > kept.prefill_tok_s(4096)  # fewer copies


def test_a_layer_with_its_experts_on_the_cpu_goes_there_and_back() -> None:
    candidate = of(EXPERTS)[0]
    placer = Placer(with_cards(CARD), candidate.model.shape, candidate.artifact.weights)
    free = replace(CONSTANTS, devices=replace(DEVICES, split_s=1e-12))

    def token_s(constants: SpeedConstants, **settings: Any) -> float:
        placement = placer.place(Configuration(8192, **{"gpu_layers": placer.height, **settings}))
        forecaster = Forecaster(placer.machine, constants)
        return forecaster.forecast(placer.shape, placer.weights, placement, (8, 8)).speed_model.token_s

    for places, layers in (({"cpu_expert_layers": 10}, 10), ({}, 0), ({"gpu_layers": 0}, 0)):
        added = token_s(CONSTANTS, **places) - token_s(free, **places)
        assert added == pytest.approx(layers * DEVICES.split_s, abs=1e-9)


@pytest.mark.parametrize(
    ("pcie", "kind", "expected"),
    [
        ("gen4 x16", AcceleratorKind.DISCRETE, 0.9 * 31.5e9),
        ("gen3 x8", AcceleratorKind.DISCRETE, 0.9 * 7.88e9),
        (None, AcceleratorKind.DISCRETE, 12e9),
        ("gen9 x1", AcceleratorKind.DISCRETE, 12e9),
        (None, AcceleratorKind.UNIFIED, float("inf")),
    ],
)
def test_the_link(pcie: str | None, kind: AcceleratorKind, expected: float) -> None:
    assert link_bytes_per_s(replace(CARD, pcie=pcie, kind=kind), DEVICES) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "cpu", "card"),
    [
        ({"gpu_layers": 0}, (1, 1, 1), None),
        ({"gpu_layers": 25}, (0, 0, 0), (1, 1, 1)),
        ({"gpu_layers": 25, "cpu_expert_layers": 24}, (0, 0, 1), (1, 1, 0)),
        ({"gpu_layers": 25, "cpu_expert_layers": 12}, (0, 0, 0.5), (1, 1, 0.5)),
        ({"gpu_layers": 13, "cpu_expert_layers": 12}, (0.5, None, 0.5), (0.5, None, 0.5)),
    ],
)
def test_what_each_holds(
    settings: dict[str, Any], cpu: tuple[float | None, ...], card: tuple[float | None, ...] | None
) -> None:
    candidate = of(EXPERTS)[0]
    placer = Placer(with_cards(CARD), candidate.model.shape, candidate.artifact.weights)
    parts = placer.place(Configuration(4096, **settings)).parts

    def shares(part: DeviceShare) -> tuple[float, ...]:
        return part.layers, part.dense, part.experts

    for part, expected in zip(parts, (cpu, card), strict=False):
        for share, wanted in zip(shares(part), expected or (), strict=True):
            assert wanted is None or share == pytest.approx(wanted, abs=1e-6)
    assert len(parts) == 1 + (card is not None)
    assert [sum(column) for column in zip(*map(shares, parts), strict=True)] == pytest.approx([1, 1, 1])


def test_what_was_measured_on_a_card_stands_above_its_figures() -> None:
    rates = Kernels((MatrixRate("Q4_K", False, 0, 300e9, 20e12), MatrixRate("Q8_0", False, 0, 330e9, 18e12)))
    modelled, measured = (device_rates(card, True, CONSTANTS) for card in (CARD, replace(CARD, kernels=rates)))
    assert (measured.decode["Q4_K"], measured.prefill["Q8_0"]) == (300e9, 18e12)
    assert (measured.decode[None], measured.prefill[None]) == (300e9, 18e12)
    assert measured.layer_s == modelled.layer_s
    assert (modelled.basis, measured.basis) == ("device", Basis.CALIBRATED)
