"""Speed: what it is made of, and what moves it which way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.planner.cpu_rates import cpu_rates
from llmctl.planner.device_rates import device_rates
from llmctl.planner.speed import Load, speed
from llmctl.planner.streamed import active_bytes, active_expert_bytes, attention_flop, kv_read_bytes
from llmctl.types.machine import KernelRate, Machine
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import Basis, Speed
from tests.planner.machines import EPYC, EPYC_KERNELS, LAPTOP, desktop, knowledge, mac, made, of, placed

CONSTANTS = knowledge().speed


def pace(machine: Machine, name: str = "qwen3.5-4b", *, depth: int = 450, prompt: int = 256, threads: int = 0) -> Speed:
    candidate = of(name)[0]
    shape, weights = candidate.model.shape, candidate.artifact.weights
    placement = placed(machine, shape, weights, 8192)
    threads = threads or machine.cpu.usable_threads
    return speed(machine, shape, weights, placement, threads, Load(prompt, depth), CONSTANTS)


def test_a_token_costs_its_bytes_its_layers_and_its_vocabulary() -> None:
    """By hand: 1 GB of Q4_K and 0.5 GB of Q6_K, ten layers, a vocabulary of 100,000, nothing cached."""
    shape = Shape("llama", 10, 1024, 16, None, 100_000, 8192, kv_width=0)
    weights = Weights(1_500_000_000, 0, 0, {"Q4_K": 1_000_000_000, "Q6_K": 500_000_000}, exact=True)
    placement = placed(EPYC, shape, weights, 2048)
    told = speed(EPYC, shape, weights, placement, 2, Load(256, 0), CONSTANTS)
    streaming = 1 / 38.5 + 0.5 / 34
    expected = streaming + 10 * CONSTANTS.layer_s + 100_000 * CONSTANTS.vocabulary_s
    assert 1 / told.decode_tok_s == pytest.approx(expected, rel=1e-6)
    assert told.basis is Basis.CALIBRATED
    calibrated = CONSTANTS.ranges["calibrated"]
    assert told.decode_low_tok_s == pytest.approx(told.decode_tok_s * calibrated.low)
    assert told.decode_high_tok_s == pytest.approx(told.decode_tok_s * calibrated.high)


def test_prefill_is_operations_and_leaves_the_head_out() -> None:
    """By hand: 4.5 bits a weight, so 1.125 GB of Q4_K are 2e9 weights, 4e9 operations a token; no head, no attention
    to speak of at one token; and the activations of ten layers."""
    shape = Shape("llama", 10, 1024, 16, None, 0, 8192, kv_width=0)
    weights = Weights(1_125_000_000, 0, 0, {"Q4_K": 1_125_000_000}, exact=True)
    told = speed(EPYC, shape, weights, placed(EPYC, shape, weights, 2048), 2, Load(1, 0), CONSTANTS)
    assert 1 / told.prefill_tok_s == pytest.approx(4e9 / 475e9 + 10 * 1024 * CONSTANTS.activation_s, rel=1e-3)
    assert told.first_token_s == pytest.approx(1 / told.prefill_tok_s + 1 / told.decode_tok_s)


def test_only_the_used_experts_are_streamed() -> None:
    (candidate,) = of("gpt-oss-20b")
    shape, weights = candidate.model.shape, candidate.artifact.weights
    active = active_bytes(weights, shape)
    experts = weights.expert_type_bytes["MXFP4"]
    assert active["MXFP4"] == pytest.approx(experts * 4 / 32)
    assert active["Q8_0"] == weights.type_bytes["Q8_0"]
    in_proportion = active_bytes(replace(weights, expert_type_bytes={}), shape)
    assert sum(in_proportion.values()) == pytest.approx(sum(active.values()))


def test_experts_are_streamed_more_slowly_on_the_processor() -> None:
    (candidate,) = of("gpt-oss-20b")
    experts = active_expert_bytes(candidate.artifact.weights, candidate.model.shape)
    rates = cpu_rates(EPYC, 2, CONSTANTS)
    slower = replace(CONSTANTS, expert_share=CONSTANTS.expert_share / 2)
    placement = placed(EPYC, candidate.model.shape, candidate.artifact.weights, 4096)
    told = [
        speed(EPYC, candidate.model.shape, candidate.artifact.weights, placement, 2, Load(1, 0), constants)
        for constants in (CONSTANTS, slower)
    ]
    more_s = 1 / told[1].decode_tok_s - 1 / told[0].decode_tok_s
    assert more_s == pytest.approx(rates.streaming_s(experts) / CONSTANTS.expert_share)
    assert device_rates("cuda", 1e12, CONSTANTS).expert_share == 1.0


def test_a_hybrid_attends_in_few_layers_and_a_window_in_few_tokens() -> None:
    full = Shape("llama", 32, 1024, 16, None, 1000, 8192, kv_width=1000)
    assert attention_flop(full, 2000) == 4 * 32 * 1024 * 2000
    assert attention_flop(replace(full, state_bytes=1), 2000) == 32 * 1024 * 2000
    half = replace(full, kv_width=500, kv_window_width=500, window=100)
    assert attention_flop(half, 2000) == pytest.approx(4 * 32 * 1024 * (1000 + 50))


def test_a_window_bounds_what_is_read_of_the_cache() -> None:
    shape = Shape("gemma3", 18, 640, 4, None, 262_144, 32768, kv_width=1536, kv_window_width=7680, window=512)
    assert kv_read_bytes(shape, 100) == 2 * (1536 + 7680) * 100
    assert kv_read_bytes(shape, 4000) == 2 * (1536 * 4000 + 7680 * 512)
    assert kv_read_bytes(replace(shape, state_bytes=1000), 0) == 2000


@pytest.mark.parametrize("machine", [EPYC, LAPTOP, desktop(), desktop(4), mac()])
def test_depth_and_fewer_threads_never_help(machine: Machine) -> None:
    assert pace(machine, depth=8000).decode_tok_s < pace(machine, depth=0).decode_tok_s
    assert pace(machine, threads=1).decode_tok_s <= pace(machine).decode_tok_s
    assert pace(machine, prompt=4000).prefill_tok_s < pace(machine, prompt=100).prefill_tok_s


def test_the_basis_is_told() -> None:
    assert pace(EPYC).basis is Basis.CALIBRATED
    assert pace(LAPTOP).basis is Basis.MODELLED
    assert pace(desktop()).basis is Basis.MODELLED
    assert pace(replace(desktop(4), kernels=EPYC_KERNELS)).basis is Basis.MODELLED  # a part of it is


def test_a_card_is_faster_than_the_processor_and_half_a_card_lies_between() -> None:
    whole, half, none = (pace(machine, "qwen3.5-9b").decode_tok_s for machine in (desktop(), desktop(4), LAPTOP))
    assert whole > half > none


def test_unknown_memory_is_told_for_the_slowest_kind_with_a_wide_range() -> None:
    unknown = pace(replace(LAPTOP, memory=replace(LAPTOP.memory, bandwidth_bytes_per_s=None)))
    assert unknown.decode_tok_s < pace(LAPTOP).decode_tok_s < unknown.decode_high_tok_s
    assert unknown.decode_high_tok_s / unknown.decode_low_tok_s > 4


def test_a_type_that_was_not_measured_is_told_by_its_likeness_or_as_the_slowest() -> None:
    rates = cpu_rates(EPYC, 2, CONSTANTS)
    like = CONSTANTS.likeness["Q5_0"]
    measured = {one.weight_type: one for one in EPYC_KERNELS}
    assert rates.decode["Q5_0"] == pytest.approx(measured[like.measured].decode_bytes_per_s * like.decode)
    slowest = min(one.decode_bytes_per_s for one in EPYC_KERNELS)
    assert rates.streaming_s({"TQ1_0": slowest}) == pytest.approx(1.0)


def test_a_backend_without_constants_is_taken_for_the_slowest() -> None:
    shares = {name: device_rates(name, 100e9, CONSTANTS).decode[None] for name in (*CONSTANTS.backends, "new", None)}
    assert shares["new"] == shares[None] == min(shares.values())
    assert device_rates("CUDA", 100e9, CONSTANTS) == device_rates("cuda", 100e9, CONSTANTS)


@settings(max_examples=50, deadline=None)
@given(st.floats(1.0, 20.0), st.sampled_from(["qwen3.5-4b", "gemma-3-1b-it", "gpt-oss-20b", "smollm2-135m-instruct"]))
def test_faster_kernels_and_faster_memory_are_never_slower(factor: float, name: str) -> None:
    kernels = tuple(
        KernelRate(one.weight_type, one.decode_bytes_per_s * factor, one.prefill_flop_per_s * factor, one.repacked)
        for one in EPYC_KERNELS
    )
    assert pace(replace(EPYC, kernels=kernels), name).decode_tok_s >= pace(EPYC, name).decode_tok_s
    memory = replace(LAPTOP.memory, bandwidth_bytes_per_s=51.2e9 * factor)
    assert pace(replace(LAPTOP, memory=memory), name).decode_tok_s >= pace(LAPTOP, name).decode_tok_s


def test_the_two_models_on_the_package_index_as_measured_here() -> None:
    """Decode with llama-cpp-python 0.3.36 and 2 threads on the machine whose kernels EPYC has, 2026-11."""
    starter = pace(EPYC, "smollm2-135m-instruct", depth=128)
    assert starter.decode_low_tok_s < 132 < starter.decode_high_tok_s


def test_more_weights_take_longer() -> None:
    for machine in (EPYC, LAPTOP, desktop(), mac()):
        small, large = (made(gib=size) for size in (2, 4))
        told = [
            speed(
                machine,
                one.model.shape,
                one.artifact.weights,
                placed(machine, one.model.shape, one.artifact.weights, 4096),
                machine.cpu.usable_threads,
                Load(256, 450),
                CONSTANTS,
            ).decode_tok_s
            for one in (small, large)
        ]
        assert told[0] > told[1]
