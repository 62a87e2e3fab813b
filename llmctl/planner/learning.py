"""Corrects predicted speed by past runs: of the same model, and with less weight of others on the same device.

A run gives two factors, measured over predicted, for decoding and for prefill. For a file that ran here they are the
medians of its last LAST_RUNS, those with the same settings if there are any. Where some of them were as deep in the
context as is planned for, the speed is measured, and its range as wide as these runs were apart, and while they are few
as wide as a virtual machine's own drift: what a run of a hundred tokens shows is not what four thousand will be like.
For other models they are the median over the models that ran on the same kind of device, drawn towards 1: with n models
by n / (n + DOUBT), as the one model's error may well be its own.

What was predicted from estimated rates was held against them, and says nothing of predictions from measured ones; nor
the reverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median, median_high
from typing import TypeVar

from msgspec import Struct

from llmctl.catalogue.speed_constants import Range
from llmctl.planner.speed import Forecast, Threads
from llmctl.types.machine import Disk
from llmctl.types.model import Candidate
from llmctl.types.past import PastRun
from llmctl.types.plan import Basis, Configuration

Key = TypeVar("Key")
LAST_RUNS = 5
DOUBT = 2.0
# Half of the range for a speed that was measured, as a share of it, is not less than this: a floor that is assumed, as
# a few runs that happen to agree don't tell how far apart others will be.
LEAST_APART = 0.05
ONCE_APART = 0.10  # the same with a single run, of which nobody knows how far the next will be; assumed too
# A load time is scaled to files up to so many times larger: with a much smaller one, most is the engine's own start.
LIKE_SIZE = 4
START_S = 0.5  # of the engine, with a small file from the system's cache: two cores of an AMD EPYC
# A run speaks for depths, and for lengths of prompts, up to so many times its own. Where fewer than SHALLOW tokens are
# held or read, weights are nearly all there is to go through, so all such runs are alike.
LIKE_DEPTH = 4
SHALLOW = 512


class Factors(Struct, frozen=True):
    """Measured over predicted speed."""

    decode: float = 1.0
    prefill: float = 1.0


class Corrections(Struct, frozen=True):
    """Past runs, the oldest first, also by the file's name and size and by its sha256; ``others`` has the factors for
    files that didn't run, by whether layers are on a GPU and whether the prediction is a modelled one."""

    past: Sequence[PastRun]
    by_name: Mapping[object, Sequence[PastRun]]
    by_sum: Mapping[object, Sequence[PastRun]]
    others: Mapping[tuple[bool, bool], Factors]

    def corrected(
        self,
        forecast: Forecast,
        candidate: Candidate,
        settings: Configuration,
        threads: Threads,
        *,
        prompt_tokens: int,
        depth: float,
    ) -> Forecast:
        """``forecast`` corrected by the runs of this file, else by those of other files on the same kind of device. It
        is to hold for a prompt of ``prompt_tokens`` and, in decoding, at ``depth``."""
        if not self.past:
            return forecast
        kind = settings.gpu_layers > 0, forecast.basis is Basis.MODELLED
        own = [run for run in self._of(candidate) if _kind(run) == kind]
        alike = [run for run in own if _settings(run) == _asked(settings, threads)]
        factors = _factors(alike or own, self.others.get(kind, Factors()))
        speed_model = forecast.speed_model.faster(factors.decode, factors.prefill)
        wrote = _decode(run for run in alike if _as_deep(run.depth, depth))
        read = _prefill(run for run in alike if _as_deep(run.read_tokens, prompt_tokens))
        low, high = _edges(wrote, factors.decode, forecast.drift.low, forecast.drift.high)
        prefill_low, prefill_high = _edges(
            read, factors.prefill, forecast.drift.prefill_low, forecast.drift.prefill_high
        )
        narrower = Range(
            low=max(forecast.range.low, low),
            high=min(forecast.range.high, high),
            prefill_low=max(forecast.range.prefill_low, prefill_low),
            prefill_high=min(forecast.range.prefill_high, prefill_high),
        )
        basis = Basis.MEASURED if wrote else forecast.basis
        return Forecast(speed_model, basis, narrower, forecast.together, forecast.drift)

    def load_s(self, candidate: Candidate, size_bytes: int) -> float | None:
        """Seconds until the engine answers: as for the last runs of this file, else in proportion to those of files
        that are not much smaller; None where nothing of the kind was loaded here."""
        own = [run.load_s for run in self._of(candidate) if run.load_s > 0][-LAST_RUNS:]
        if own:
            return median(own)
        rates = [
            run.file_bytes / run.load_s
            for run in self.past
            if run.file_bytes and run.load_s > 0 and run.file_bytes * LIKE_SIZE >= size_bytes
        ][-LAST_RUNS:]
        return size_bytes / median(rates) if rates else None

    def _of(self, candidate: Candidate) -> list[PastRun]:
        source, quant = candidate.artifact.source, candidate.artifact.quant
        named = self.by_name.get((candidate.model.id, quant, source.bytes), ())
        if source.sha256 is None:
            return list(named)
        return [*(run for run in named if run.sha256 is None), *self.by_sum.get(source.sha256, ())]


def first_load_s(disk: Disk | None, size_bytes: int) -> float | None:
    """Seconds until the engine answers where nothing was loaded here before: it starts, and reads the file once, none
    of it from the system's cache. None where the disk wasn't measured."""
    if disk is None or not disk.read_bytes_per_s:
        return None
    return START_S + size_bytes / disk.read_bytes_per_s


def corrections(past: Sequence[PastRun]) -> Corrections:
    """The corrections from ``past`` runs, worked out once for all candidates."""
    others = {}
    for kind, runs in _grouped(past, _kind).items():
        each = _grouped(runs, _file).values()
        others[kind] = Factors(_shrunk(map(_decode, each)), _shrunk(map(_prefill, each)))
    return Corrections(past, _grouped(past, _file), _grouped(past, lambda run: run.sha256), others)


def _grouped(past: Iterable[PastRun], key: Callable[[PastRun], Key]) -> dict[Key, list[PastRun]]:
    groups: dict[Key, list[PastRun]] = {}
    for run in past:
        groups.setdefault(key(run), []).append(run)
    return groups


def _shrunk(runs: Iterable[list[float]]) -> float:
    models = [median_high(factors) for factors in runs if factors]
    return float(median(models) ** (len(models) / (len(models) + DOUBT))) if models else 1.0


def _factors(runs: Sequence[PastRun], otherwise: Factors) -> Factors:
    """Median factors of ``runs``, ``otherwise`` where there are none. Of two runs the faster counts: what slowed the
    other one down may be gone the next time."""
    decode, prefill = _decode(runs), _prefill(runs)
    return Factors(
        median_high(decode) if decode else otherwise.decode, median_high(prefill) if prefill else otherwise.prefill
    )


def _apart(runs: Sequence[float], middle: float) -> float:
    """The largest distance of a run from ``middle``, as a share of it, but not less than LEAST_APART (ONCE_APART)."""
    least = LEAST_APART if len(runs) > 1 else ONCE_APART
    return max([least, *(abs(factor / middle - 1) for factor in runs)]) if runs else math.inf


def _edges(runs: Sequence[float], middle: float, drift_low: float, drift_high: float) -> tuple[float, float]:
    """The range that ``runs`` leave, as shares of their ``middle``; of fewer than LAST_RUNS it is not narrower than
    the machine's own drift."""
    half = _apart(runs, middle)
    if len(runs) >= LAST_RUNS:
        return 1 - half, 1 + half
    return min(1 - half, drift_low), max(1 + half, drift_high)


def _as_deep(ran: float, planned: float) -> bool:
    """Whether a run with so many tokens says how another with ``planned`` will be."""
    low, high = sorted((max(ran, SHALLOW), max(planned, SHALLOW)))
    return high <= LIKE_DEPTH * low


def _decode(runs: Iterable[PastRun]) -> list[float]:
    return [run.decode for run in runs if run.decode is not None][-LAST_RUNS:]


def _prefill(runs: Iterable[PastRun]) -> list[float]:
    return [run.prefill for run in runs if run.prefill is not None][-LAST_RUNS:]


def _kind(run: PastRun) -> tuple[bool, bool]:
    """Whether layers were on a GPU, and whether the prediction was a modelled one."""
    return run.gpu_layers > 0, run.modelled


def _file(run: PastRun) -> tuple[str, str, int | None]:
    return run.model, run.quant, run.file_bytes


def _settings(run: PastRun) -> tuple[object, ...]:
    return run.kv_type, run.gpu_layers, run.repack, run.flash_attention, run.threads, run.prefill_threads


def _asked(settings: Configuration, threads: Threads) -> tuple[object, ...]:
    return settings.kv_type, settings.gpu_layers, settings.repack, settings.flash_attention, *threads
