"""What is known about tasks, benchmarks, quantization and speed: ``profiles/*.toml`` as frozen tables.

These files ship with llmctl, so a mistake in one is a ConfigError that names file and field, not a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import tomli
from msgspec import Struct

from llmctl.catalogue.device_constants import read_devices
from llmctl.catalogue.speed_constants import SpeedConstants, read_speed
from llmctl.errors import ConfigError
from llmctl.files.decode import FieldError, Table

Result = TypeVar("Result")


class Task(Struct, frozen=True):
    """What is usual of a task and what it takes.

    ``needs`` is the word that a model's own tasks must have; ``evidence`` the weight of each area of benchmarks.
    ``min_tok_s`` the decode floor and ``because``, why it is that; 0 where nothing is written (embedding, reranking).
    ``max_first_token_s`` the longest until the answer begins, thoughts left out; ``max_answer_s`` the longest a whole
    answer may take, prompt read and thoughts included; ``prompt_tokens``, ``answer_tokens``, ``thinking_tokens`` what
    is usual; ``think`` whether a model that can choose is told to think; ``sees`` that it needs its projector.
    """

    name: str
    min_tok_s: float
    because: str
    max_first_token_s: float
    max_answer_s: float
    context: int
    prompt_tokens: int
    answer_tokens: int
    thinking_tokens: int
    think: bool
    sees: bool
    needs: str
    evidence: Mapping[str, float]

    @property
    def writes(self) -> bool:
        return self.answer_tokens > 0


class Benchmark(Struct, frozen=True):
    """One benchmark's line: logit(share of the way from ``worst`` to ``best``) = ``intercept`` + ``slope`` x ability,
    give or take ``spread``. ``area`` is what it measures, ``languages`` those it is in beside English. See
    ``planner.quality``."""

    name: str
    area: str
    worst: float
    best: float
    intercept: float
    slope: float
    spread: float
    languages: tuple[str, ...] = ()


class Quality(Struct, frozen=True):
    """The benchmarks' lines, and what turns ability into the index. See ``planner.quality``.

    ``usual`` is the ability of a model of 8B of 2025-01-01 that nothing else is known of, give or take
    ``usual_spread``; it grows ``per_doubling`` of the size and ``per_year``.
    """

    benchmarks: Mapping[str, Benchmark]
    index_zero: float
    index_per_ability: float
    thinking_gain: float
    thinking_gain_spread: float
    doubt: float
    doubt_estimated: float
    usual: float
    per_doubling: float
    per_year: float
    usual_spread: float


class Quant(Struct, frozen=True):
    """A quantization by its label: mean ``bits`` per weight of a file, and ``divergence``, the mean KL divergence from
    the unquantized reference model."""

    bits: float
    divergence: float


class QuantLoss(Struct, frozen=True):
    """What quantization costs, see ``planner.quality``. Labels in ``native`` are how their models were released; less
    than ``negligible`` index points are too few to tell."""

    quants: Mapping[str, Quant]
    native: frozenset[str]
    index_per_divergence: float
    reference_parameters: float
    size_exponent: float
    most_per_size: float
    negligible: float


class Knowledge(Struct, frozen=True):
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
            table = Table(tomli.load(stream), "")
        result = parse(table)
        table.end()
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error
    except FieldError as error:
        raise ConfigError(f"{file}: {error}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number too long, nesting too deep
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    return result


def _tasks(table: Table) -> Mapping[str, Task]:
    tasks = {}
    for name, row in table.named_tables().items():
        tasks[name] = Task(
            name=name,
            min_tok_s=row.number("min_tok_s"),
            because=row.text("because"),
            max_first_token_s=row.number("max_first_token_s"),
            max_answer_s=row.number("max_answer_s"),
            context=row.count("context"),
            prompt_tokens=row.count("prompt_tokens"),
            answer_tokens=row.count_or_none("answer_tokens") or 0,
            thinking_tokens=row.count_or_none("thinking_tokens") or 0,
            think=row.flag("think"),
            sees=row.flag("sees"),
            needs=row.text("needs"),
            evidence=row.numbers("evidence"),
        )
        row.end()
    return tasks


def _quality(table: Table) -> Quality:
    benchmarks = {}
    for name, row in table.table("benchmark").named_tables().items():
        row.text("source")
        benchmarks[name] = Benchmark(
            name,
            row.text("area"),
            row.number("worst"),
            row.number("best"),
            row.number("intercept"),
            row.number("slope"),
            row.number("spread"),
            row.texts("languages"),
        )
        row.end()
    index = table.table("index")
    quality = Quality(
        benchmarks,
        index.number("zero"),
        index.number("per_ability"),
        index.number("thinking_gain"),
        index.number("thinking_gain_spread"),
        index.number("doubt"),
        index.number("doubt_estimated"),
        index.number("usual"),
        index.number("per_doubling"),
        index.number("per_year"),
        index.number("usual_spread"),
    )
    index.end()
    return quality


def _quants(table: Table) -> QuantLoss:
    quants = {}
    for name, row in table.table("quant").named_tables().items():
        row.text("source")
        quants[name] = Quant(row.number("bits"), row.number("divergence"))
        row.end()
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
