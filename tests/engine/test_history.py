"""The record of runs: what it holds and what not, its size, and that neither haste nor a broken line hurts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl import paths
from llmctl.engine.history import LEAST_ANSWER, LIMIT_BYTES, MeasuredRun, PredictedRun, Run, past, read, record, run_of
from llmctl.engine.worker_process import Engine
from llmctl.errors import ResourceError
from llmctl.host import Host
from llmctl.probe import cpu as processor
from llmctl.struct import asdict
from llmctl.types.endpoint import Address
from llmctl.types.event import Finished, Measured, Usage
from llmctl.types.plan import DeviceMemory, MemoryPlan
from llmctl.types.speed_model import SpeedModel
from tests.fakes.fits import fit_for

RUN = Run(
    date="2026-10-03T12:00:00Z",
    model="smollm2-135m-instruct",
    quant="Q4_1",
    file_bytes=98_362_432,
    sha256="ab" * 32,
    context=8192,
    kv_type="f16",
    gpu_layers=0,
    threads=2,
    prefill_threads=2,
    repack=True,
    flash_attention=False,
    engine="llama-cpp-python 0.3.36, ggml 0.25.3 d25f87b",
    processor="AMD EPYC",
    prompt_tokens=131,
    prefill_tokens=100,
    completion_tokens=40,
    load_s=0.21,
    predicted=PredictedRun(363_397_120, 0, 100.0, 960.0),
    measured=MeasuredRun(213_000_000, None, 99.5, 480.0, 9.0),
)
UNKNOWN = replace(
    RUN, file_bytes=None, sha256=None, prompt_tokens=None, prefill_tokens=None, completion_tokens=None,
    predicted=PredictedRun(1, 0, None, None), measured=MeasuredRun(None, None, None, None, None),
)  # fmt: skip


def place() -> Path:
    return paths.data_dir() / "history.jsonl"


class Started(Engine):
    """An engine that was started, without its process."""

    def __init__(self) -> None:
        self.address = Address("http://127.0.0.1:1/v1", "m", "a-secret-token")
        self.load_s = 0.25
        self.build = "llama-cpp-python 0.3.36, ggml 1 abc"
        self.sequences = 1


def test_nothing_was_recorded_yet() -> None:
    assert read() == ()


def test_what_is_recorded_is_read_again_in_order() -> None:
    runs = (RUN, UNKNOWN, replace(RUN, model="ünïcode:\n{}"))
    for run in runs:
        record(run)
    assert read() == runs
    assert len(place().read_bytes().splitlines()) == len(runs)


def test_only_its_owner_can_read_it() -> None:
    for number in range(2 * LIMIT_BYTES // 500):
        record(replace(RUN, load_s=float(number)))
    modes = {file.name: file.stat().st_mode & 0o777 for file in place().parent.iterdir() if file.suffix == ".jsonl"}
    assert modes == {"history.jsonl": 0o600, "history.old.jsonl": 0o600}


def test_it_does_not_grow_and_keeps_the_latest() -> None:
    for number in range(500):
        record(replace(RUN, prompt_tokens=number))
    kept = [run.prompt_tokens for run in read()]
    assert kept == list(range(500 - len(kept), 500))
    assert 90 <= len(kept) <= 220
    assert sum(file.stat().st_size for file in place().parent.iterdir()) < 2 * LIMIT_BYTES + 2000


LINE = json.dumps(asdict(RUN)).encode()


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\n\n",
        LINE[:200],  # the machine stopped in the middle
        LINE[:200] + b"\n",
        b"\x00" * 300,
        b"\xff\xfe\n",
        b"[" * 20_000,
        b"null\n[]\n{}\n7\n",
        LINE.replace(b'"context": 8192', b'"context": -1'),
        LINE.replace(b'"context": 8192', b'"context": "8192"'),
        LINE.replace(b'"context": 8192', b'"kontext": 8192'),  # another version's
        LINE.replace(b"99.5", b"NaN"),
        LINE.replace(b"8192", b"9" * 5000),
    ],
)
def test_a_broken_line_costs_nothing_but_itself(broken: bytes) -> None:
    record(RUN)
    with place().open("ab") as file:
        file.write(broken)
    record(UNKNOWN)
    assert read() == (RUN, UNKNOWN)


def test_where_nothing_can_be_written(home: Path) -> None:
    (home / "data").write_text("no folder")
    record(RUN)
    assert read() == ()


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    place().parent.mkdir(parents=True)
    place().symlink_to("/dev/full")
    with pytest.raises(ResourceError, match=r"the disk is full: .*history\.jsonl could not be written"):
        record(RUN)


MANY = """
import sys
from msgspec.structs import replace
from llmctl.engine.history import record
from tests.engine.test_history import RUN
for number in range(int(sys.argv[2])):
    record(replace(RUN, model=sys.argv[1], prompt_tokens=number))
"""


def test_runs_at_the_same_time_lose_nothing() -> None:
    """Four processes whose lines make the file begin anew once in between."""
    each = LIMIT_BYTES // len(LINE) * 3 // 8  # one and a half files in all
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen([sys.executable, "-c", MANY, f"m{number}", str(each)], cwd=root) for number in range(4)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert (place().parent / "history.old.jsonl").exists()
    made = sorted((run.model, run.prompt_tokens) for run in read())
    assert made == [(f"m{number}", turn) for number in range(4) for turn in range(each)]


def test_what_a_run_tells_of_itself() -> None:
    fit = fit_for(Path("/home/somebody/private/my model.gguf"), context=4096, threads=2)
    rows = tuple(DeviceMemory(name, 500, 0, 30, 0, 20, 550, 9999) for name in ("cpu", "0000:01:00.0", "0000:02:00.0"))
    memory = MemoryPlan(rows, must_fit_bytes=50 + 2 * 550, mapped_bytes=1500)
    fit = replace(fit, memory=memory, configuration=replace(fit.configuration, gpu_layers=7))
    speed_model = SpeedModel(0.1, 0.001, 0.0, 0.01, 0.001, 0.0, None, 0)
    fit = replace(fit, speed_model=speed_model.faster(0.5, 0.5), uncorrected=speed_model)
    finished = Finished("stop", Usage(10, 20), 4, measured=Measured(40, 1000), preempted_per_s=7.0)
    made = run_of(fit, Started(), finished, 9.5, 88.0)
    # 20 tokens after 10 have 20 before them on average; 4 tokens of the prompt after 6 that were in the cache, 8.
    assert (made.predicted.anonymous_bytes, made.predicted.device_bytes) == (50, 1100)
    assert made.predicted.decode_tok_s == pytest.approx(1 / 0.12)
    assert made.predicted.prefill_tok_s == pytest.approx(1 / 0.018)
    assert made.measured == MeasuredRun(40, 1000, 9.5, 88.0, 7.0)
    assert (made.model, made.quant, made.context, made.threads, made.gpu_layers) == ("under-test", "Q4_1", 4096, 2, 7)
    assert (made.engine, made.load_s) == ("llama-cpp-python 0.3.36, ggml 1 abc", 0.25)
    assert (made.prompt_tokens, made.prefill_tokens, made.completion_tokens) == (10, 4, 20)
    record(made)
    written = place().read_text()
    assert "somebody" not in written and "my model" not in written and "secret" not in written
    assert read() == (made,)


@pytest.mark.parametrize(
    ("drafted", "plain_tokens", "decode_tok_s"), [(0, 100, 9.5), (64, 100, 50.0), (64, LEAST_ANSWER - 1, None)]
)
def test_the_rate_of_a_run_is_the_one_without_drafted_tokens(
    drafted: int, plain_tokens: int, decode_tok_s: float | None
) -> None:
    """What the machine does is what is predicted; drafts have their own figures."""
    finished = Finished(
        *("stop", Usage(10, 200), 4),
        drafted_tokens=drafted,
        accepted_tokens=drafted // 2,
        plain_tokens=plain_tokens,
        plain_s=2.0,
    )
    made = run_of(fit_for(None), Started(), finished, 9.5, 88.0)
    assert made.measured.decode_tok_s == decode_tok_s
    record(made)
    assert [(run.drafted_tokens, run.accepted_tokens) for run in read()] == [(drafted, drafted // 2)]


def test_an_engine_that_tells_nothing_of_memory() -> None:
    made = run_of(fit_for(None), Started(), Finished("stop", Usage(None, None)), None, None)
    assert made.measured == MeasuredRun(None, None, None, None, None)
    assert made.predicted.decode_tok_s is None and made.predicted.prefill_tok_s is None


def taught(**fields: Any) -> tuple[float | None, float | None]:
    """Factors on decoding and prefill of a run that is RUN but for these figures."""
    measured = {
        name: fields.pop(name) for name in ("decode_tok_s", "prefill_tok_s", "preempted_per_s") if name in fields
    }
    run = replace(RUN, processor=processor.name(Host()), measured=replace(RUN.measured, **measured), **fields)
    (past_run,) = past([run], RUN.engine)
    return past_run.decode, past_run.prefill


def test_where_in_the_context_it_ran_and_what_its_prediction_came_from() -> None:
    run = replace(RUN, processor=processor.name(Host()), prompt_tokens=900, completion_tokens=200, prefill_tokens=30)
    (past_run,) = past([replace(run, predicted=replace(run.predicted, modelled=True))], RUN.engine)
    assert (past_run.depth, past_run.read_tokens, past_run.modelled) == (1000, 30, True)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (0.995, 0.5)),
        ({"completion_tokens": 15}, (None, 0.5)),
        ({"completion_tokens": None}, (None, 0.5)),
        ({"prefill_tokens": 63}, (0.995, None)),
        ({"preempted_per_s": 300.0}, (None, None)),
        ({"decode_tok_s": None}, (None, 0.5)),
        ({"decode_tok_s": 0.0}, (None, 0.5)),
        ({"decode_tok_s": 10.0}, (0.1, 0.5)),  # nobody disturbed it: that is how slow it is
        ({"decode_tok_s": 10.0, "preempted_per_s": None}, (None, 0.5)),
        ({"decode_tok_s": 80.0, "preempted_per_s": None}, (0.8, 0.5)),
        ({"predicted": PredictedRun(1, 0, None, None)}, (None, None)),
    ],
)
def test_what_a_run_teaches(fields: dict[str, Any], expected: tuple[float | None, float | None]) -> None:
    assert taught(**fields) == expected


def test_only_runs_of_this_engine_and_processor_teach() -> None:
    own = replace(RUN, processor=processor.name(Host()))
    assert len(past([own, replace(own, processor="another"), replace(own, engine="another")], RUN.engine)) == 1


def test_it_has_no_place_for_text() -> None:
    """Whoever adds a field adds it here, and has thought of what it tells of its user."""
    annotations: dict[str, Any] = Run.__annotations__
    assert {name for name, kind in annotations.items() if "str" in kind} == {
        "date", "model", "quant", "sha256", "kv_type", "engine", "processor", "draft",
    }  # fmt: skip
