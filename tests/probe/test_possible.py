"""Machines that somebody wrote down: each number is refused by its name, or what is planned with it is finite."""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from llmctl import catalogue
from llmctl.catalogue import Knowledge
from llmctl.cli import main
from llmctl.cli.output import jsonable
from llmctl.errors import ConfigError
from llmctl.paths import profiles_dir
from llmctl.planner import plan
from llmctl.probe.described.document import read_machine
from llmctl.struct import asdict
from llmctl.types.machine import Accelerator, AcceleratorKind, Cache, Cpu, Disk, Machine, Memory, Network
from llmctl.types.model import Candidate
from llmctl.types.plan import Plan, Want
from llmctl.workspace.document import candidate_document
from tests.fakes.kernel_rates import RATES
from tests.properties import examples

GIB = 1 << 30
CARD = Accelerator(
    "0000:01:00.0",
    "GeForce RTX 3090",
    "NVIDIA",
    AcceleratorKind.DISCRETE,
    24 * GIB,
    23 * GIB,
    bandwidth_bytes_per_s=936e9,
    engine_backend="CUDA",
    usable=True,
    shared_bytes=0,
    power_limit_w=350.0,
    compute_flop_per_s=142e12,
    engine_device="CUDA0",
)
MACHINE = Machine(
    memory=Memory(32 * GIB, 20 * GIB, 24 * GIB, "memory.max", GIB, 41.5e9, "measured"),
    cpu=Cpu("AMD EPYC", "x86_64", 8, 16, 6, ("AVX2",), 4, "quota", (Cache(3, 32 << 20, 2),)),
    accelerators=(CARD,),
    disk=Disk("/models", 10**12),
    network=Network(True, 12.5e6),
    kernels=RATES,
)
DOCUMENT = json.loads(json.dumps(asdict(MACHINE)))
FILES = {  # a plan of each costs a millisecond and more, and there are hundreds
    "qwen3.5-4b": ("Q4_K_M",),
    "smollm2-135m-instruct": ("Q4_1",),
    "gpt-oss-20b": ("MXFP4",),
    "qwen3.6-35b-a3b": ("UD-Q6_K_XL",),
}
NO_NUMBERS = [0, -1, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1e-9, 1e308, 1 << 62, 1 << 63, 10**400]


def numbers(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the numbers of a document stand."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from numbers(item, (*path, key))


PATHS = list(numbers(DOCUMENT))


def changed(path: Sequence[str | int], value: object) -> dict[str, Any]:
    document: dict[str, Any] = copy.deepcopy(DOCUMENT)
    *parents, last = path
    table: Any = document
    for key in parents:
        table = table[key]
    table[last] = value
    return document


@functools.cache
def candidates() -> tuple[tuple[Candidate, ...], Knowledge]:
    known = catalogue.load(profiles_dir() / "models")
    files = tuple(
        candidate
        for name, quants in FILES.items()
        for candidate in catalogue.candidates(known, name, find=lambda source: None)
        if candidate.artifact.quant in quants
    )
    assert len(files) == sum(map(len, FILES.values()))
    return files, catalogue.load_knowledge(profiles_dir())


def planned(machine: Machine) -> Any:
    """Everything that a plan says of the machine."""
    given, knowledge = candidates()
    answer = plan(machine, given, Want(prompt_tokens=2000, answer_tokens=300), knowledge)
    if not isinstance(answer, Plan):
        return answer
    fits = (answer.choice, *answer.alternatives, *answer.picks.values(), *(one.fit for one in answer.changes))
    return [fit.reasons for fit in fits], [candidate_document(fit) for fit in fits]


def assert_finite(value: Any) -> None:
    if isinstance(value, float):
        assert math.isfinite(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            assert_finite(item)
    assert not (isinstance(value, str) and {"inf", "nan"} & set(value.replace(",", " ").split()))


def refused_or_planned(folder: Path, path: Sequence[str | int], value: object) -> None:
    file = folder / "machine.json"
    file.write_text(json.dumps(changed(path, value)), "utf-8")
    try:
        machine = read_machine(str(file), folder)
    except ConfigError as error:
        assert str(path[-1]) in error.message
        assert str(file) in error.message
    else:
        answer = planned(machine)
        assert_finite(answer if isinstance(answer, tuple) else jsonable(answer))


@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), value=st.sampled_from(NO_NUMBERS) | st.floats() | st.integers())
def test_every_number_is_refused_by_name_or_planned_with(
    tmp_path: Path, path: tuple[str | int, ...], value: float
) -> None:
    refused_or_planned(tmp_path, path, value)


@pytest.mark.parametrize("path", sorted({path for path in PATHS if "kernels" not in path}, key=str), ids=str)
def test_no_number_at_all(tmp_path: Path, path: tuple[str | int, ...]) -> None:
    for value in NO_NUMBERS:
        refused_or_planned(tmp_path, path, value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cpu]\nusable_threads = 0", "machine.cpu.usable_threads must be from 1 to 65,536, it is 0"),
        ("[cpu]\nphysical_cores = 0", "machine.cpu.physical_cores must be from 1 to 65,536, it is 0"),
        ("[cpu]\nperformance_cores = 0", "machine.cpu.performance_cores must be from 1 to 65,536, it is 0"),
        (
            "bandwidth_bytes_per_s = 1e-320",
            "machine.memory.bandwidth_bytes_per_s must be from 1e06 to 1e15, it is 1e-320",
        ),
        ("bandwidth_bytes_per_s = 0", "machine.memory.bandwidth_bytes_per_s must be from 1e06 to 1e15, it is 0.0"),
        (
            "available_bytes = 9_000_000_000",
            "machine.memory.available_bytes must be at most total_bytes, 8,000,000,000",
        ),
        (
            '[[accelerators]]\nname = "x"\nmemory_total_bytes = 1\nmemory_free_bytes = 2',
            "machine.accelerators[0].memory_free_bytes must be at most memory_total_bytes, 1, it is 2",
        ),
        ("[network]\ndownload_bytes_per_s = 1e-320", "machine.network.download_bytes_per_s must be from 1 to 1e12"),
    ],
)
def test_the_field_and_both_numbers_are_told(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "machine.toml"
    file.write_text(f"[memory]\ntotal_bytes = 8_000_000_000\n{text}\n", "utf-8")
    assert main(["plan", "--machine", str(file)]) == ConfigError.exit_code
    error = capsys.readouterr().err
    assert f"error: {file}: {message}" in error
    assert "Traceback" not in error
