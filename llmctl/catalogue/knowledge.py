"""Tables of tasks, benchmarks, quantizations and speed constants, read from ``profiles/*.toml``.

These files ship with llmctl, so a mistake in one is a ConfigError that names file and field, not a warning.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from llmctl.catalogue.device_constants import read_devices
from llmctl.catalogue.processors import read_processors
from llmctl.catalogue.speed_constants import SpeedConstants, read_speed
from llmctl.errors import UsageError
from llmctl.files.decode import Table, read_toml

Result = TypeVar("Result")


class Task(Struct, frozen=True):
    """A task: its usual lengths, its floors and limits.

    ``needs`` is the word that a model's own tasks must have; ``evidence`` the weight of each area of benchmarks.
    ``min_tok_s`` the decode floor and ``because``, why it is that; 0 where nothing is written (embedding, reranking).
    ``max_first_token_s`` the longest until the answer begins, thoughts left out; ``max_answer_s`` the longest a whole
    answer may take, prompt read and thoughts included; one in ``good_answer_s`` is as good as at once;
    ``prompt_tokens``, ``answer_tokens``, ``thinking_tokens`` what is usual; ``think`` whether a model that can choose
    is told to think; ``sees`` that it needs its projector; ``min_quality`` the index below which no model is of use for
    the task, None where any is.
    """

    name: str
    min_tok_s: float
    because: str
    max_first_token_s: float
    max_answer_s: float
    good_answer_s: float
    context: int
    prompt_tokens: int
    needs: str
    evidence: Mapping[str, float]
    answer_tokens: int = 0
    thinking_tokens: int = 0
    think: bool = False
    sees: bool = False
    min_quality: int | None = None

    @property
    def writes(self) -> bool:
        return self.answer_tokens > 0


class BenchmarkScale(Struct, frozen=True):
    """The scale of one published benchmark: logit(share of the way from ``worst`` to ``best``) = ``intercept`` +
    ``slope`` x ability, give or take ``spread``. ``area`` is what it measures, ``languages`` those it is in beside
    English. See ``planner.quality``."""

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

    benchmarks: Mapping[str, BenchmarkScale]
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

    def require_task(self, name: str) -> Task:
        """The task of that name. Raises UsageError."""
        if name not in self.tasks:
            raise UsageError(f"there is no task named {name!r}, only {', '.join(self.tasks)}")
        return self.tasks[name]


@functools.cache
def load_knowledge(folder: Path) -> Knowledge:
    """All tables out of the folder ``profiles/``, read once a process. Raises ConfigError."""
    devices = read_toml(folder / "backends.toml", read_devices)
    families = read_toml(folder / "processors.toml", read_processors)
    return Knowledge(
        tasks=read_tasks(folder),
        quality=read_toml(folder / "benchmarks.toml", _quality),
        quants=read_toml(folder / "quants.toml", _quants),
        speed=read_toml(folder / "speed.toml", partial(read_speed, devices=devices, families=families)),
    )


def task_names(folder: Path) -> list[str]:
    """The names that ``--task`` takes, in the file's order."""
    return list(read_tasks(folder))


@functools.cache
def read_tasks(folder: Path) -> Mapping[str, Task]:
    """The tasks by name, out of the folder ``profiles/``, read once a process. Raises ConfigError."""
    return read_toml(folder / "tasks.toml", _tasks)


def _tasks(table: Table) -> Mapping[str, Task]:
    return {name: row.fill(Task, name=name) for name, row in table.named_tables().items()}


def _quality(table: Table) -> Quality:
    benchmarks = {}
    for name, row in table.table("benchmark").named_tables().items():
        row.text("source")
        benchmarks[name] = row.fill(BenchmarkScale, name=name)
    index = table.table("index")
    zero, per_ability = index.number("zero"), index.number("per_ability")
    return index.fill(Quality, benchmarks=benchmarks, index_zero=zero, index_per_ability=per_ability)


def _quants(table: Table) -> QuantLoss:
    quants = {}
    for name, row in table.table("quant").named_tables().items():
        row.text("source")
        quants[name] = row.fill(Quant)
    loss = table.table("loss")
    return loss.fill(QuantLoss, quants=quants, native=frozenset(loss.texts("native")))
