"""What past runs teach: a table of cases, and that nothing spoils a prediction."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.planner import plan
from llmctl.planner.learning import LEAST_APART, ONCE_APART, START_S
from llmctl.types.machine import Disk
from llmctl.types.past import PastRun
from llmctl.types.plan import Basis, Fit, Plan, Want
from llmctl.types.speed_model import SpeedModel
from tests.planner.machines import EPYC, knowledge, made

WANT = Want(context=4096, explicit=True, min_tok_s=0, repack=True, flash_attention=False, prompt_tokens=500)
CANDIDATE = made()
SOURCE = CANDIDATE.artifact.source


def fit(*past: PastRun, want: Want = WANT) -> Fit:
    answer = plan(EPYC, [CANDIDATE], want, knowledge(), past=past)
    assert isinstance(answer, Plan)
    return answer.choice


def ran(**fields: Any) -> PastRun:
    """This candidate with the settings that it is planned with."""
    usual: dict[str, Any] = {
        "model": CANDIDATE.model.id,
        "quant": "Q4_K_M",
        "file_bytes": SOURCE.bytes,
        "sha256": None,
        "kv_type": "f16",
        "gpu_layers": 0,
        "repack": True,
        "flash_attention": False,
        "threads": 2,
        "prefill_threads": 2,
        "decode": 1.0,
        "prefill": 1.0,
        "load_s": 2.0,
        "depth": 600.0,
        "read_tokens": 500,
        "modelled": False,
    }
    return PastRun(**{**usual, **fields})


def other(name: str, **fields: Any) -> PastRun:
    return ran(model=name, file_bytes=(SOURCE.bytes or 0) // 2, **fields)


BEFORE = fit()


def a_third(ratio: float) -> float:
    """What one other model teaches: a third of the way, as factors go."""
    return float(ratio ** (1 / 3))


THREE = [other("a", decode=0.8), other("b", decode=0.1), other("c", decode=0.9)]

# name, runs, factor on decoding, factor on prefill, whether it counts as measured
CASES = [
    ("nothing", [], 1, 1, False),
    ("one run", [ran(decode=0.8, prefill=1.2)], 0.8, 1.2, True),
    ("two: the faster", [ran(decode=0.8), ran(decode=0.9)], 0.9, 1, True),
    ("three: the median", [ran(decode=0.8), ran(decode=0.1), ran(decode=0.9)], 0.8, 1, True),
    ("only the last five", [ran(decode=9)] * 9 + [ran(decode=0.5)] * 5, 0.5, 1, True),
    ("too short an answer", [ran(decode=None, prefill=0.7)], 1, 0.7, False),
    ("too short a prompt", [ran(decode=0.7, prefill=None)], 0.7, 1, True),
    ("neither", [ran(decode=None, prefill=None)], 1, 1, False),
    ("other settings tell as much, but are not it", [ran(decode=0.8, repack=False)], 0.8, 1, False),
    ("the same settings go first", [ran(decode=0.8), ran(decode=0.5, repack=False)], 0.8, 1, True),
    ("other threads", [ran(decode=0.8, threads=1)], 0.8, 1, False),
    ("on a card", [ran(decode=0.5, gpu_layers=9)], 1, 1, False),
    ("another quantization is another file", [other("made-4b", quant="Q8_0", decode=0.8)], a_third(0.8), 1, False),
    ("one other model", [other("a", decode=0.8, prefill=2)], a_third(0.8), a_third(2), False),
    ("one other model, often", [other("a", decode=0.8)] * 20, a_third(0.8), 1, False),
    ("three others", THREE, 0.8**0.6, 1, False),
    ("its own goes before others", [other("a", decode=0.5), ran(decode=0.9)], 0.9, 1, True),
    ("what was predicted by estimated rates", [ran(decode=0.5, modelled=True)], 1, 1, False),
    ("others likewise", [other("a", decode=0.5, modelled=True)], 1, 1, False),
    ("far deeper in the context: as much, but not it", [ran(decode=0.8, depth=9000)], 0.8, 1, False),
    ("somewhat deeper", [ran(decode=0.8, depth=2000)], 0.8, 1, True),
    ("hardly any context", [ran(decode=0.8, depth=20)], 0.8, 1, True),
    ("own prefill, others' decoding", [other("a", decode=0.5), ran(decode=None, prefill=2)], a_third(0.5), 2, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("runs", "decode", "prefill", "measured"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_what_is_learned(runs: list[PastRun], decode: float, prefill: float, measured: bool) -> None:
    after = fit(*runs)
    assert after.speed.decode_tok_s == pytest.approx(BEFORE.speed.decode_tok_s * decode)
    assert after.speed.prefill_tok_s == pytest.approx(BEFORE.speed.prefill_tok_s * prefill)
    assert after.speed.basis == (Basis.MEASURED if measured else Basis.CALIBRATED)
    assert after.uncorrected == BEFORE.speed_model, "what the next run is held against has learned nothing"
    assert after.memory == BEFORE.memory


@pytest.mark.parametrize("window", [None, 64])
def test_a_pace_that_is_so_many_times_faster(window: int | None) -> None:
    speed_model = SpeedModel(0.1, 0.001, 0.002, 0.01, 0.001, 0.002, window, 128, ubatch_s=0.5, ubatch=256, turns=2)
    faster = speed_model.faster(2, 4)
    for tokens, depth in ((1, 0), (100, 0), (1000, 500)):
        assert faster.decode_s(depth) == pytest.approx(speed_model.decode_s(depth) / 2)
        assert faster.prefill_s(tokens, depth) == pytest.approx(speed_model.prefill_s(tokens, depth) / 4)
    assert speed_model.prefill_s(0) == 0, "an answer to nothing"


def half(fit: Fit) -> tuple[float, float]:
    speed = fit.speed
    return 1 - speed.decode_low_tok_s / speed.decode_tok_s, speed.decode_high_tok_s / speed.decode_tok_s - 1


def test_the_range_is_as_wide_as_the_runs_are_apart() -> None:
    uncorrected = half(BEFORE)
    assert half(fit(ran(decode=0.8))) == pytest.approx([min(apart, ONCE_APART) for apart in uncorrected])
    assert half(fit(*[ran(decode=0.8)] * 4)) == pytest.approx([LEAST_APART] * 2)
    apart = half(fit(ran(decode=0.80), ran(decode=0.74), ran(decode=0.84)))
    assert apart == pytest.approx([0.06 / 0.80] * 2)
    assert half(fit(ran(decode=0.8), ran(decode=0.1), ran(decode=0.8))) == pytest.approx(uncorrected), "never wider"
    assert half(fit(other("a", decode=0.8))) == pytest.approx(uncorrected)


def test_what_ran_at_the_beginning_of_a_context_narrows_no_range_deep_in_it() -> None:
    deep = replace(WANT, prompt_tokens=3900)
    shallow, there = [ran(decode=0.8, depth=100, read_tokens=100)] * 4, [ran(decode=0.8, depth=3900)] * 4
    assert half(fit(*shallow, want=deep)) == pytest.approx(half(BEFORE))
    assert half(fit(*there, want=deep)) == pytest.approx([LEAST_APART] * 2)


def test_a_file_is_known_by_its_sum_whatever_it_is_called() -> None:
    with_sum = replace(CANDIDATE.artifact, source=replace(SOURCE, sha256="ab" * 32))
    candidate = replace(CANDIDATE, artifact=with_sum)

    def factor(run: PastRun) -> float:
        answer = plan(EPYC, [candidate], WANT, knowledge(), past=[run])
        assert isinstance(answer, Plan)
        return answer.choice.speed.decode_tok_s / BEFORE.speed.decode_tok_s

    assert factor(ran(model="renamed", sha256="ab" * 32, decode=0.5)) == pytest.approx(0.5)
    assert factor(ran(sha256="cd" * 32, decode=0.5)) == pytest.approx(a_third(0.5)), "the same name, another file"
    assert factor(ran(sha256=None, decode=0.5)) == pytest.approx(0.5), "nobody told its sum then"


def test_settings_are_not_chosen_by_what_ran_with_one_of_them() -> None:
    free = replace(WANT, repack=None, flash_attention=None, prompt_tokens=3000, answer_tokens=200)
    before = fit(want=free)
    slow = ran(decode=0.7, prefill=0.7, repack=before.configuration.repack)
    assert fit(slow, want=free).configuration == before.configuration


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([], None),
        ([ran(load_s=3)], 3),
        ([ran(load_s=9), ran(load_s=3), ran(load_s=4)], 4),
        ([ran(load_s=30)] + [ran(load_s=3)] * 5, 3),
        ([other("a", load_s=1)], 2),
        ([ran(model="tiny", file_bytes=1000, load_s=0.3)], None),
        ([ran(model="unknown", file_bytes=None, load_s=0.3)], None),
        ([ran(decode=None, prefill=None, load_s=3)], 3),
    ],
)
def test_how_long_it_loads(runs: list[PastRun], expected: float | None) -> None:
    assert fit(*runs).speed.load_s == (None if expected is None else pytest.approx(expected))


def test_the_first_load_is_told_by_the_disk() -> None:
    size = SOURCE.bytes or 0
    disk = Disk("/models", 10**12, read_bytes_per_s=size / 4)

    def load_s(*past: PastRun, disk: Disk | None) -> float | None:
        answer = plan(replace(EPYC, disk=disk), [CANDIDATE], WANT, knowledge(), past=past)
        assert isinstance(answer, Plan)
        return answer.choice.speed.load_s

    assert load_s(disk=disk) == pytest.approx(4 + START_S)
    assert load_s(disk=None) is load_s(disk=Disk("/models", 10**12)) is None
    assert load_s(ran(load_s=3), disk=disk) == 3, "as it was the last time"
