"""Speed: what it is made of, and what moves it which way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl.planner.cpu_rates import CpuSettings, at, best_threads, cpu_rates
from llmctl.planner.placement import Placer
from llmctl.planner.speed import Forecast, Forecaster
from llmctl.planner.streamed import active_bytes, cell_bytes, cell_flop
from llmctl.types.kernels import Kernels, MatrixRate, NodeRate
from llmctl.types.machine import Machine
from llmctl.types.model import Layer, Shape, Weights
from llmctl.types.plan import Basis, Configuration, Speed
from tests.fakes.kernel_rates import scaled
from tests.planner.machines import EPYC, EPYC_KERNELS, LAPTOP, desktop, knowledge, mac, made, of, placed

CONSTANTS = knowledge().speed


USUAL = CpuSettings(threads=2, prefill_threads=2, repack=True, flash_attention=False, kv_type="f16")


def forecast(machine: Machine, shape: Shape, weights: Weights, *, threads: int = 2, **settings: Any) -> Forecast:
    if settings:
        placement = Placer(machine, shape, weights).place(Configuration(8192, **settings))
    else:
        placement = placed(machine, shape, weights, 8192)
    return Forecaster(machine, CONSTANTS).forecast(shape, weights, placement, (threads, threads))


def speed_of(
    machine: Machine, name: str = "qwen3.5-4b", *, depth: int = 450, prompt: int = 256, threads: int = 0, **more: Any
) -> Speed:
    candidate = of(name)[0]
    threads = threads or machine.cpu.usable_threads
    return forecast(machine, candidate.model.shape, candidate.artifact.weights, threads=threads, **more).at(
        prompt, depth
    )


def test_a_token_costs_its_bytes_its_layers_and_its_vocabulary() -> None:
    """By hand: 1 GB of Q4_K and 0.5 GB of Q6_K, ten layers, a vocabulary of 100,000, nothing cached."""
    shape = Shape("llama", 10, 1024, 16, None, 100_000, 8192, kv_width=0)
    weights = Weights(1_500_000_000, 0, 0, {"Q4_K": 1_000_000_000, "Q6_K": 500_000_000}, exact=True)
    made = forecast(EPYC, shape, weights).at(256, 0)
    streaming = 1 / 43.6 + 0.5 / 40.5
    expected = streaming + 10 * CONSTANTS.layer_nodes / 1.59e6 + 100_000 * CONSTANTS.vocabulary_s
    assert 1 / made.decode_tok_s == pytest.approx(expected, rel=1e-6)
    assert made.basis is Basis.CALIBRATED
    calibrated = CONSTANTS.ranges["calibrated"]
    assert made.decode_low_tok_s == pytest.approx(made.decode_tok_s * calibrated.low)
    assert made.decode_high_tok_s == pytest.approx(made.decode_tok_s * calibrated.high)


def test_prefill_is_operations_and_leaves_the_head_out() -> None:
    """By hand: 4.5 bits a weight, so 1.125 GB of Q4_K are 2e9 weights, 4e9 operations a token; no head, no attention
    to speak of at one token; and the passes over ten layers' activations."""
    shape = Shape("llama", 10, 1024, 16, None, 0, 8192, kv_width=0)
    weights = Weights(1_125_000_000, 0, 0, {"Q4_K": 1_125_000_000}, exact=True)
    for repack, flop_per_s in ((True, 469e9), (False, 896e9)):
        made = forecast(EPYC, shape, weights, repack=repack)
        expected = 4e9 / flop_per_s + 10 * 1024 * CONSTANTS.layer_passes / 8e9
        assert 1 / made.at(1, 0).prefill_tok_s == pytest.approx(expected, rel=1e-3)
        assert made.at(1, 0).first_token_s == pytest.approx(
            made.speed_model.prefill_s(1) + made.speed_model.decode_s(1)
        )


def test_attention_reads_the_cache_and_computes_for_every_head() -> None:
    """By hand: 16 layers of 8 heads of keys and values of 64 elements, and 32 of queries: four to each."""
    shape = Shape("llama", 16, 2048, 32, None, 0, 8192, kv_width=16 * 2 * 8 * 64, key_length=64, value_length=64)
    weights = Weights(0, 0, 0, {}, exact=True)
    cell = forecast(EPYC, shape, weights).speed_model.cell_s
    assert cell == pytest.approx(2 * 16 * 2 * 8 * 64 / 13.3e9)  # what was measured with four
    alone = forecast(EPYC, replace(shape, n_head=8), weights).speed_model.cell_s
    assert alone == pytest.approx(2 * 16 * 2 * 8 * 64 / 22.7e9)  # and with one
    pair = forecast(EPYC, shape, weights).speed_model.pair_s
    assert pair == pytest.approx(16 * 32 * 4 * 64 / 172e9)


def test_only_the_used_experts_are_streamed() -> None:
    (candidate,) = of("gpt-oss-20b")
    shape, weights = candidate.model.shape, candidate.artifact.weights
    active = active_bytes(weights, shape)
    experts = weights.expert_type_bytes["MXFP4"]
    assert active["MXFP4"] == pytest.approx(experts * 4 / 32)
    assert active["Q8_0"] == weights.type_bytes["Q8_0"]
    in_proportion = active_bytes(replace(weights, expert_type_bytes={}), shape)
    assert sum(in_proportion.values()) == pytest.approx(sum(active.values()))


def test_experts_go_at_rates_of_their_own() -> None:
    rates = cpu_rates(EPYC, USUAL, CONSTANTS)
    assert (rates.expert_decode, rates.expert_prefill) == pytest.approx((43.6 / 48, 469 / 230))
    plain = cpu_rates(EPYC, replace(USUAL, repack=False), CONSTANTS)
    assert (plain.expert_decode, plain.expert_prefill) == pytest.approx((33.2 / 32, 896 / 750))
    weights = Weights(2_000, 0, 1_000, {"Q4_K": 2_000}, exact=True, expert_type_bytes={"Q4_K": 1_000})
    shape = Shape("llama", 0, 64, 1, None, 0, 8192, kv_width=0, n_expert=4, n_expert_used=2)
    token_s = forecast(EPYC, shape, weights).speed_model.token_s
    assert token_s == pytest.approx(1_000 / 43.6e9 + 500 / 48e9)


def test_a_hybrid_attends_in_few_layers_and_a_window_in_few_tokens() -> None:
    full = Shape("llama", 32, 1024, 16, None, 1000, 8192, kv_width=1000)
    assert cell_flop(full) == (4 * 32 * 1024, 0)
    assert cell_flop(replace(full, state_bytes=1)) == (32 * 1024, 0)
    half = replace(full, kv_width=500, kv_window_width=500, window=100)
    assert cell_flop(half) == pytest.approx((4 * 16 * 1024, 4 * 16 * 1024))
    layers = (Layer(100), Layer(0, state_bytes=1), Layer(100, windowed=True), Layer(100, windowed=True))
    exact = replace(full, layers=layers, key_length=64, value_length=32)
    assert cell_flop(exact) == (2 * 16 * 96, 2 * 2 * 16 * 96)


def test_a_window_bounds_what_is_read_of_the_cache() -> None:
    shape = Shape("gemma3", 18, 640, 4, None, 262_144, 32768, kv_width=1536, kv_window_width=7680, window=512)
    assert cell_bytes(shape, "f16") == (2 * 1536, 2 * 7680)
    assert cell_bytes(shape, "q8_0") == (1536 * 34 / 32, 7680 * 34 / 32)
    answer = forecast(EPYC, shape, Weights(1_000, 0, 0, {"Q4_K": 1_000}, exact=True)).speed_model
    assert answer.decode_s(4000) - answer.decode_s(1000) == pytest.approx(3000 * answer.cell_s)
    assert answer.decode_s(500) - answer.decode_s(0) == pytest.approx(500 * (answer.cell_s + answer.window_cell_s))


@pytest.mark.parametrize("machine", [EPYC, LAPTOP, desktop(), desktop(4), mac()])
def test_depth_and_fewer_threads_never_help(machine: Machine) -> None:
    assert speed_of(machine, depth=8000).decode_tok_s < speed_of(machine, depth=0).decode_tok_s
    assert speed_of(machine, threads=1).decode_tok_s <= speed_of(machine).decode_tok_s
    assert speed_of(machine, prompt=4096).prefill_tok_s < speed_of(machine, prompt=512).prefill_tok_s


def test_the_basis_is_told() -> None:
    assert speed_of(EPYC).basis is Basis.CALIBRATED
    assert speed_of(LAPTOP).basis is Basis.MODELLED
    assert speed_of(desktop()).basis is Basis.MODELLED
    assert speed_of(replace(desktop(4), kernels=EPYC_KERNELS)).basis is Basis.MODELLED  # a part of it is


def test_a_card_is_faster_than_the_processor_and_half_a_card_lies_between() -> None:
    whole, half, none = (speed_of(machine, "qwen3.5-9b").decode_tok_s for machine in (desktop(), desktop(4), LAPTOP))
    assert whole > half > none


def test_unknown_memory_is_told_for_the_slowest_kind_with_a_wide_range() -> None:
    unknown = speed_of(replace(LAPTOP, memory=replace(LAPTOP.memory, bandwidth_bytes_per_s=None)))
    assert unknown.decode_tok_s < speed_of(LAPTOP).decode_tok_s < unknown.decode_high_tok_s
    assert unknown.decode_high_tok_s / unknown.decode_low_tok_s > 4


def test_a_type_that_was_not_measured_is_told_by_its_likeness_or_as_the_slowest() -> None:
    rates = cpu_rates(EPYC, USUAL, CONSTANTS)
    like = CONSTANTS.likeness["IQ4_NL"]
    measured = {row.weight_type: row for row in EPYC_KERNELS.matrices if row.repacked}
    assert rates.decode["IQ4_NL"] == pytest.approx(measured[like.measured].decode_bytes_per_s * like.decode)
    assert rates.streaming_s({"TQ1_0": 28.7e9}) == pytest.approx(1.0)


def test_the_layout_is_the_one_that_is_asked_for_where_there_are_two() -> None:
    for repack, q4_k in ((True, 43.6e9), (False, 33.2e9)):
        rates = cpu_rates(EPYC, replace(USUAL, repack=repack), CONSTANTS)
        assert (rates.decode["Q4_K"], rates.decode["Q6_K"]) == pytest.approx((q4_k, 40.5e9))


def test_fewer_threads_are_told_by_what_was_measured_with_them() -> None:
    single = cpu_rates(EPYC, replace(USUAL, threads=1), CONSTANTS)
    assert single.decode["Q6_K"] == pytest.approx(40.5e9 * 30.9 / 42.4)  # the middle one of three ratios
    assert single.prefill["Q6_K"] == pytest.approx(762e9)
    scaling = {2: 0.5, 4: 1.1, 8: 1.0}
    assert [at(scaling, threads) for threads in (0, 1, 2, 3, 6, 8, 16)] == pytest.approx(
        [0, 0.25, 0.5, 0.8, 1.05, 1, 1]
    )


def test_the_best_number_of_threads_is_what_was_measured_to_be() -> None:
    assert best_threads(LAPTOP) == (8, 8)
    assert best_threads(EPYC) == (2, 2)
    rates = ((8, 40e9, 100e9), (6, 43e9, 90e9), (4, 41e9, 60e9))
    kernels = Kernels(
        tuple(MatrixRate("Q4_K", False, *figures) for figures in rates), overheads=(NodeRate(8, 1e6, 1e9),)
    )
    assert best_threads(replace(LAPTOP, kernels=kernels)) == (6, 8)
    barely = (MatrixRate("Q4_K", False, 8, 40e9, 100e9), MatrixRate("Q4_K", False, 4, 41e9, 60e9))
    assert best_threads(replace(LAPTOP, kernels=Kernels(barely))) == (8, 8)


@settings(max_examples=50, deadline=None)
@given(st.floats(1.0, 20.0), st.sampled_from(["qwen3.5-4b", "gemma-3-1b-it", "gpt-oss-20b", "smollm2-135m-instruct"]))
def test_faster_kernels_and_faster_memory_are_never_slower(factor: float, name: str) -> None:
    kernels = scaled(EPYC_KERNELS, factor)
    assert speed_of(replace(EPYC, kernels=kernels), name).decode_tok_s >= speed_of(EPYC, name).decode_tok_s
    memory = replace(LAPTOP.memory, bandwidth_bytes_per_s=51.2e9 * factor)
    assert speed_of(replace(LAPTOP, memory=memory), name).decode_tok_s >= speed_of(LAPTOP, name).decode_tok_s


def test_the_two_models_on_the_package_index_as_measured_here() -> None:
    """Decode with llama-cpp-python 0.3.36 and 2 threads on the machine whose kernels EPYC has, 2026-11."""
    starter = speed_of(EPYC, "smollm2-135m-instruct", depth=128)
    assert starter.decode_low_tok_s < 132 < starter.decode_high_tok_s


def test_more_weights_take_longer() -> None:
    for machine in (EPYC, LAPTOP, desktop(), mac()):
        small, large = (
            forecast(machine, candidate.model.shape, candidate.artifact.weights)
            for candidate in (made(gib=2), made(gib=4))
        )
        assert small.at(256, 450).decode_tok_s > large.at(256, 450).decode_tok_s


def test_looped_layers_are_streamed_once_for_each_pass() -> None:
    """A hundred bytes of layers and ten of a head, run twice."""
    weights = Weights(115, 5, 0, {"Q8_0": 110}, True, layer_bytes=(60, 40))
    once = Shape("nanbeige", 2, 64, 4, 128, 1000, 512, kv_width=128)
    assert active_bytes(weights, once) == {"Q8_0": 110}
    assert active_bytes(weights, replace(once, n_layer=4, passes=2)) == {"Q8_0": pytest.approx(210)}
