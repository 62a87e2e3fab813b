"""Completes the measured rates of the engine's kernels: estimates those that other programs disturbed from the others.

A figure that was not measured is estimated by likeness, from the nearest kind of measured ones that there is:

1. the same kernel with other numbers of threads, where other kernels were measured here with both
2. other kernels with the same number of threads
3. the same kernel with other numbers of threads
4. other kernels with any number of threads
5. any kernel that is limited by the same thing: by memory, or by the processor's arithmetic
6. what a core of this processor is known to do (``profiles/speed.toml``)

each times the ratio of the two in a complete measurement, ``SpeedConstants.reference``. A figure that was measured in
disturbed passes only is a lower bound: the estimate is never below it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from statistics import median
from typing import Any, NamedTuple

from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.planner.memory import repacked_types
from llmctl.planner.processor import knows_processor, modelled
from llmctl.types.kernels import AttentionRate, BatchRate, Kernels, MatrixRate, NodeRate
from llmctl.types.machine import Machine

Row = MatrixRate | BatchRate | AttentionRate | NodeRate
BATCHES = "batches"
ROWS: Mapping[str, type[Any]] = {
    "matrices": MatrixRate,
    "experts": MatrixRate,
    "attention": AttentionRate,
    "overheads": NodeRate,
    BATCHES: BatchRate,
}
LIMITED_BY_MEMORY = frozenset({"decode_bytes_per_s", "alone_bytes_per_s", "shared_bytes_per_s"})
LIMITED_BY_ARITHMETIC = frozenset({"prefill_flop_per_s", "batch_flop_per_s"})
NO_LIMIT: frozenset[str] = frozenset()
LIMITS = {rate: rates for rates in (LIMITED_BY_MEMORY, LIMITED_BY_ARITHMETIC) for rate in rates}
MOST_UNCERTAIN = 0.1  # of the figures with all threads, for the others to be believed
SLOWER_THAN_ONE = 0.97  # of one thread's rate: what several do less than that with was disturbed


class Figure(NamedTuple):
    """The key of one rate: the field of ``Kernels``, the kind of its row, the rate's name, the number of threads."""

    group: str
    kind: tuple[object, ...]
    rate: str
    threads: int

    @property
    def limit(self) -> frozenset[str]:
        """The rates that the same thing limits."""
        return LIMITS.get(self.rate, NO_LIMIT)


Figures = Mapping[Figure, float]


class KernelFigures(NamedTuple):
    """``certain`` figures come from undisturbed passes; ``bounds`` are lower bounds from disturbed ones, 0 where there
    was no pass."""

    certain: Figures
    bounds: Figures

    def kernels(self) -> Kernels:
        """The figures as rows of ``Kernels``. A rate that is in neither is 0 and uncertain."""
        rows: dict[str, dict[tuple[object, ...], Any]] = {group: {} for group in ROWS}
        for group, kind, _, threads in (*self.certain, *self.bounds):
            figures = {rate: Figure(group, kind, rate, threads) for rate in rates_of(ROWS[group])}
            values = {rate: self.certain.get(figure, self.bounds.get(figure, 0.0)) for rate, figure in figures.items()}
            uncertain = tuple(rate for rate, figure in figures.items() if figure not in self.certain)
            rows[group][kind, threads] = ROWS[group](*kind, threads=threads, **values, uncertain=uncertain)
        return of_groups({group: made.values() for group, made in rows.items()})


def of_groups(rows: Mapping[str, Iterable[Any]]) -> Kernels:
    """The ``Kernels`` with these rows, by group."""
    groups: dict[str, Any] = {group: tuple(of_group) for group, of_group in rows.items()}
    return Kernels(**groups)


def joined(old: Kernels, new: Kernels) -> Kernels:
    """The faster of both measurements of each figure: the slower one was disturbed. A certain figure is never replaced
    by an uncertain one."""
    certain: dict[Figure, float] = {}
    bounds: dict[Figure, float] = {}
    for kernel_figures in (measured(old), measured(new)):
        for into, figures in ((certain, kernel_figures.certain), (bounds, kernel_figures.bounds)):
            into |= {figure: max(value, into.get(figure, 0.0)) for figure, value in figures.items()}
    return KernelFigures(certain, bounds).kernels()


@lru_cache(maxsize=8)  # a plan asks for those of one machine some hundred times
def measured(kernels: Kernels) -> KernelFigures:
    """The figures of ``kernels``. A rate that is zero is a bound that says nothing. Several threads that were slower
    than one were disturbed: no product is like that on an idle machine. Where most of those that can be compared were,
    so were the rest with so many threads."""
    certain: dict[Figure, float] = {}
    bounds: dict[Figure, float] = {}
    for group in ROWS:
        for row in getattr(kernels, group):
            for rate in rates_of(type(row)):
                value, figure = getattr(row, rate), Figure(group, _kind(row), rate, row.threads)
                if math.isfinite(value) and row.threads > 0:
                    into = bounds if rate in row.uncertain or not value else certain
                    into[figure] = max(value, into.get(figure, 0.0))
    for figure in _implausible(certain, {**bounds, **certain}):
        bounds[figure] = max(certain.pop(figure), bounds.get(figure, 0.0))
    return KernelFigures(certain, bounds)


def _implausible(certain: Figures, all_figures: Figures) -> set[Figure]:
    compared: dict[tuple[frozenset[str], int], list[tuple[Figure, bool]]] = {}
    for figure, value in certain.items():
        alone = all_figures.get(figure._replace(threads=1))
        if figure.threads > 1 and figure.limit and alone:
            slower = value < SLOWER_THAN_ONE * alone
            compared.setdefault((figure.limit, figure.threads), []).append((figure, slower))
    most = {key for key, figures in compared.items() if 2 * sum(slower for _, slower in figures) > len(figures)}
    slower_ones = {figure for figures in compared.values() for figure, slower in figures if slower}
    return slower_ones | {figure for figure in certain if (figure.limit, figure.threads) in most}


def completed(machine: Machine, constants: SpeedConstants, counts: Iterable[int] = ()) -> Kernels:
    """The rates of ``machine`` with all of its usable threads: every kernel that the reference has, and whatever else
    was measured; overheads with ``counts`` threads, too. Estimates are named in each row's ``uncertain``.

    Where more than MOST_UNCERTAIN of it was disturbed, what seems undisturbed was slowed down as well: other programs
    use the memory. If the processor's cores are known, all that was measured is then a lower bound.
    """
    own, usable = measured(machine.kernels or Kernels(())), machine.cpu.usable_threads
    reference = measured(constants.reference).certain
    kinds = {(figure.group, figure.kind): None for figure in (*own.certain, *own.bounds)}
    kinds |= dict.fromkeys(_left_out(machine, reference))
    if knows_processor(machine, constants) and _much_disturbed(own, kinds, usable):
        own = KernelFigures({}, {**own.bounds, **own.certain})
    estimates = Estimates(machine, own, constants)
    rows: dict[str, list[Any]] = {group: [] for group in ROWS}
    for group, kind in kinds:
        for threads in dict.fromkeys((usable, *(counts if group == "overheads" else ()))):
            rows[group].append(_row(group, kind, threads, estimates))
    return of_groups(rows)


def _much_disturbed(own: KernelFigures, kinds: Iterable[tuple[str, tuple[object, ...]]], usable: int) -> bool:
    """Batches aside: earlier versions didn't measure them."""
    wanted = sum(len(rates_of(ROWS[group])) for group, _ in kinds if group != BATCHES)
    certain = sum(figure.threads == usable and figure.group != BATCHES for figure in own.certain)
    return certain < (1 - MOST_UNCERTAIN) * wanted


def scaling(certain: Figures, rate: str, usual: int) -> dict[int, float]:
    """The matrix kernels' ``rate`` by number of threads, as shares of that with the ``usual`` number: the medians over
    all that were measured with both. Empty where none were."""
    shares: dict[int, list[float]] = {}
    for figure, value in certain.items():
        whole = certain.get(figure._replace(threads=usual))
        if figure.group == "matrices" and figure.rate == rate and whole:
            shares.setdefault(figure.threads, []).append(value / whole)
    return {threads: median(values) for threads, values in shares.items()}


class Estimates:
    """The figures of one machine, estimated where they were not measured undisturbed."""

    def __init__(self, machine: Machine, own: KernelFigures, constants: SpeedConstants) -> None:
        self.machine, self.own, self.constants = machine, own, constants
        self.reference = measured(constants.reference).certain
        self._usual = max(figure.threads for figure in self.reference)
        self._scalings: dict[tuple[str, int], dict[int, float]] = {}
        self._by_rate: dict[tuple[str, str], list[Figure]] = {}
        self._by_kernel: dict[tuple[object, ...], list[Figure]] = {}
        for figure in own.certain:
            self._by_rate.setdefault((figure.group, figure.rate), []).append(figure)
            self._by_kernel.setdefault(figure[:3], []).append(figure)

    def of(self, figure: Figure) -> tuple[float, bool]:
        """The figure, and whether it is certain."""
        certain = self.own.certain.get(figure)
        if certain is not None:
            return certain, True
        return max(self._estimate(figure), self._bound(figure)), False

    def _bound(self, figure: Figure) -> float:
        """The lower bound of a figure: more threads are at least as fast as fewer."""
        return max(
            (
                bound
                for other, bound in self.own.bounds.items()
                if other[:3] == figure[:3]
                and (other.threads == figure.threads or (figure.limit and other.threads < figure.threads))
            ),
            default=0.0,
        )

    def _estimate(self, figure: Figure) -> float:
        by_threads = self._by_threads(figure)
        if by_threads is not None:
            return by_threads
        likely = next(self._by_likeness(figure), None)
        return self._by_core(figure) if likely is None else median(likely)

    def _by_threads(self, figure: Figure) -> float | None:
        """From the same kernel, by what the number of threads does to others here."""
        likely = []
        for other in self._same_kernel(figure):
            ratio = self._scaling(figure.rate, other.threads).get(figure.threads)
            likely += [] if ratio is None else [self.own.certain[other] * ratio]
        return median(likely) if likely else None

    def _by_likeness(self, figure: Figure) -> Iterator[list[float]]:
        """Estimates from each kind of measured figures that there is, the likest first."""
        certain = self.own.certain
        alike = self._by_rate.get((figure.group, figure.rate), [])
        kinds: tuple[Iterable[Figure], ...] = (
            [other for other in alike if other.threads == figure.threads],
            self._same_kernel(figure),
            alike,
            (other for other in certain if other.limit and other.limit == figure.limit),
        )
        own = self._in_reference(figure)
        for others in kinds:
            likely = [own * certain[other] / self._in_reference(other) for other in others]
            if likely:
                yield likely

    def _same_kernel(self, figure: Figure) -> list[Figure]:
        return self._by_kernel.get(figure[:3], [])

    def _scaling(self, rate: str, usual: int) -> dict[int, float]:
        if (rate, usual) not in self._scalings:
            self._scalings[rate, usual] = scaling(self.own.certain, rate, usual)
        return self._scalings[rate, usual]

    def _in_reference(self, figure: Figure) -> float:
        """The figure of the complete measurement: with as many threads, else by Amdahl's law; of a kernel that it does
        not have, the median of its group."""
        if figure in self.reference:
            return self.reference[figure]
        usual = figure._replace(threads=self._usual)
        likely = self.reference.get(usual) or median(
            value for other, value in self.reference.items() if other._replace(kind=()) == usual._replace(kind=())
        )
        return likely * self._speedup(figure, figure.threads) / self._speedup(figure, self._usual)

    def _speedup(self, figure: Figure, threads: int) -> float:
        if figure.rate == "nodes_per_s":  # the threads wait for each other, however many there are
            return 1.0
        memory = figure.limit is LIMITED_BY_MEMORY
        shared = self.constants.decode_shared if memory else self.constants.prefill_shared
        return 1 / (shared + (1 - shared) / threads)

    def _by_core(self, figure: Figure) -> float:
        """From what is known of such a processor: that it does the first kernel of the reference so fast."""
        if not figure.limit:
            return self._in_reference(figure)
        memory = figure.limit is LIMITED_BY_MEMORY
        stream, flop = modelled(self.machine, figure.threads, self.constants)
        first = self.constants.reference.matrices[0]
        rate = "decode_bytes_per_s" if memory else "prefill_flop_per_s"
        same = self._in_reference(Figure("matrices", _kind(first), rate, figure.threads))
        return self._in_reference(figure) * (stream if memory else flop) / same


def _left_out(machine: Machine, reference: Figures) -> Iterator[tuple[str, tuple[object, ...]]]:
    """The kernels of the reference that the engine has here."""
    repacked = repacked_types(machine)
    for group, kind in dict.fromkeys((figure.group, figure.kind) for figure in reference):
        if ROWS[group] not in (MatrixRate, BatchRate) or not kind[1] or kind[0] in repacked:
            yield group, kind


def _row(group: str, kind: tuple[object, ...], threads: int, estimates: Estimates) -> Any:
    made, uncertain = {}, []
    for rate in rates_of(ROWS[group]):
        made[rate], certain = estimates.of(Figure(group, kind, rate, threads))
        uncertain += [] if certain else [rate]
    return ROWS[group](*kind, threads=threads, **made, uncertain=tuple(uncertain))


def _kind(row: Row) -> tuple[object, ...]:
    match row:
        case MatrixRate():
            return row.weight_type, row.repacked
        case BatchRate():
            return row.weight_type, row.repacked, row.columns
        case AttentionRate():
            return row.kv_type, row.flash
    return ()


def rates_of(row: type[Any]) -> tuple[str, ...]:
    """The names of a row's figures."""
    return tuple(name for name in row.__struct_fields__ if name.endswith("_per_s"))
