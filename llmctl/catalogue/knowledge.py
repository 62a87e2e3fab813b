"""What is known about tasks, benchmarks, quantization and speed: ``profiles/*.toml`` as frozen tables.

These files ship with llmctl, so a mistake in one is a ConfigError that names file and field, not a warning.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from llmctl.catalogue.device_constants import read_devices
from llmctl.catalogue.schema import Table, WrongFieldError
from llmctl.catalogue.speed_constants import SpeedConstants, read_speed
from llmctl.errors import ConfigError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Task:
    """``min_tok_s`` the decode floor and ``because``, why it is that; ``max_answer_s`` the longest a whole answer may
    take, prompt read and thoughts included; ``prompt_tokens``, ``answer_tokens``, ``thinking_tokens`` what is usual;
    ``think`` whether a model that can choose is told to think."""

    name: str
    min_tok_s: float
    because: str
    max_answer_s: float
    context: int
    prompt_tokens: int
    answer_tokens: int
    thinking_tokens: int
    think: bool


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark's line: logit(share above ``chance`` of ``top``) = ``intercept`` + ``slope`` x ability, give or
    take ``spread``. See ``planner.quality``."""

    name: str
    chance: float
    top: float
    intercept: float
    slope: float
    spread: float


@dataclass(frozen=True, slots=True)
class Quality:
    """The benchmarks' lines, and what turns ability into the index. See ``planner.quality``."""

    benchmarks: Mapping[str, Benchmark]
    index_zero: float
    index_per_ability: float
    thinking_gain: float
    thinking_gain_spread: float
    doubt: float


@dataclass(frozen=True, slots=True)
class Quant:
    """A quantization by its label: mean ``bits`` per weight of a file, and ``divergence``, the mean KL divergence from
    the unquantized reference model."""

    bits: float
    divergence: float


@dataclass(frozen=True, slots=True)
class QuantLoss:
    """What quantization costs, see ``planner.quality``. Labels in ``native`` are how their models were released; less
    than ``negligible`` index points are too few to tell."""

    quants: Mapping[str, Quant]
    native: frozenset[str]
    index_per_divergence: float
    reference_parameters: float
    size_exponent: float
    most_per_size: float
    negligible: float


@dataclass(frozen=True, slots=True)
class Knowledge:
    tasks: Mapping[str, Task]
    quality: Quality
    quants: QuantLoss
    speed: SpeedConstants


def load_knowledge(folder: Path) -> Knowledge:
    """All of it, out of ``profiles/``. Raises ConfigError."""
    devices = _read(folder / "backends.toml", read_devices)
    return Knowledge(
        tasks=_read(folder / "tasks.toml", _tasks),
        quality=_read(folder / "benchmarks.toml", _quality),
        quants=_read(folder / "quants.toml", _quants),
        speed=_read(folder / "speed.toml", partial(read_speed, devices=devices)),
    )


def task_names(folder: Path) -> list[str]:
    """The names that ``--task`` takes, in the file's order."""
    return list(_read(folder / "tasks.toml", _tasks))


def _read(file: Path, parse: Callable[[Table], Result]) -> Result:
    try:
        with file.open("rb") as stream:
            table = Table(tomllib.load(stream), "")
        result = parse(table)
        table.end()
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number too long, nesting too deep
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    except WrongFieldError as error:
        raise ConfigError(f"{file}: {error}") from error
    return result


def _tasks(table: Table) -> Mapping[str, Task]:
    tasks = {}
    for name, one in table.named_tables().items():
        tasks[name] = Task(
            name=name,
            min_tok_s=one.number("min_tok_s"),
            because=one.text("because"),
            max_answer_s=one.number("max_answer_s"),
            context=one.count("context"),
            prompt_tokens=one.count("prompt_tokens"),
            answer_tokens=one.count("answer_tokens"),
            thinking_tokens=one.count("thinking_tokens"),
            think=one.flag("think"),
        )
        one.end()
    return tasks


def _quality(table: Table) -> Quality:
    benchmarks = {}
    for name, one in table.table("benchmark").named_tables().items():
        one.text("source")
        benchmarks[name] = Benchmark(
            name,
            one.number("chance"),
            one.number("top"),
            one.number("intercept"),
            one.number("slope"),
            one.number("spread"),
        )
        one.end()
    index = table.table("index")
    quality = Quality(
        benchmarks,
        index.number("zero"),
        index.number("per_ability"),
        index.number("thinking_gain"),
        index.number("thinking_gain_spread"),
        index.number("doubt"),
    )
    index.end()
    return quality


def _quants(table: Table) -> QuantLoss:
    quants = {}
    for name, one in table.table("quant").named_tables().items():
        one.text("source")
        quants[name] = Quant(one.number("bits"), one.number("divergence"))
        one.end()
    loss = table.table("loss")
    result = QuantLoss(
        quants,
        frozenset(loss.texts("native")),
        loss.number("index_per_divergence"),
        loss.number("reference_parameters"),
        loss.number("size_exponent"),
        loss.number("most_per_size"),
        loss.number("negligible"),
    )
    loss.end()
    return result
