"""Judges one candidate on one machine for one wish: a Fit with all its figures, or a Miss with its gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from msgspec import Struct, field

from llmctl import units
from llmctl.catalogue.knowledge import Knowledge, Task
from llmctl.planner import limits
from llmctl.planner.compute import padded_cells
from llmctl.planner.configure import configure, takes_quantized_cache
from llmctl.planner.cpu_rates import best_threads
from llmctl.planner.devices import borrowed_bytes, devices
from llmctl.planner.drift import drifts
from llmctl.planner.learning import Corrections, corrections, first_load_s
from llmctl.planner.memory import margin_bytes, room_bytes
from llmctl.planner.miss import Miss, miss
from llmctl.planner.placement import Placement, Placer
from llmctl.planner.quality import grade, loss, quantized, rounded_loss, weights_of
from llmctl.planner.reasons import Reasons, kept_bytes, memory_of
from llmctl.planner.speed import Forecaster
from llmctl.planner.variants import best, variants
from llmctl.types.grade import Grade
from llmctl.types.machine import Machine
from llmctl.types.model import Artifact, Candidate, Model, Thinking
from llmctl.types.past import LastPick
from llmctl.types.plan import (
    CPU,
    F16,
    Allocation,
    Basis,
    Configuration,
    Fit,
    RejectionCode,
    Speed,
    Tried,
    Want,
)
from llmctl.types.speed_model import SpeedModel

LEAST_CONTEXT = 2048  # what is offered in place of a task's usual context, if that does not fit
CERTAINLY_LONGER = 2  # a prompt's length is estimated; the engine has the last word unless it can't possibly fit
# A task's floor counts as met by what is this near below it, where that is within the range of the prediction, and its
# limits on time by what is as near above them: they are not that exact either. A floor that was asked for is kept to
# the letter.
NEAR = 0.9
# The same for what was picked before, and on a virtual machine for whatever was measured: its rates differ by so much
# from one minute to the next (20 to 34 GB/s on an idle one with two cores), and a pick must not.
STAYS = 0.75


Allocations = Mapping[tuple[Path, Configuration], Allocation]
"""What the engine said of files on this machine, with the settings it was asked for."""


class Judge(Struct, frozen=True, dict=True):
    """Judges all candidates of one plan. Floors in ``want`` override those of its task. ``last`` is what was picked
    before. ``graded`` caches the grades of unquantized models."""

    machine: Machine
    want: Want
    task: Task
    knowledge: Knowledge
    allocations: Allocations = field(default_factory=dict)
    corrections: Corrections = field(default_factory=lambda: corrections(()))
    last: LastPick | None = None
    graded: dict[tuple[str, bool, bool], Grade | None] = field(default_factory=dict)

    @cached_property
    def _forecaster(self) -> Forecaster:
        return Forecaster(self.machine, self.knowledge.speed)

    @cached_property
    def _threads(self) -> tuple[int, int]:
        """Numbers of threads for decoding and for prefill: as asked for, else the best ones of this machine."""
        decode, prefill = best_threads(self.machine)
        return self.want.threads or decode, self.want.threads or prefill

    @cached_property
    def _reasons(self) -> Reasons:
        return Reasons(self.machine, self.want, self.task, self.knowledge.speed, self.room_bytes)

    @property
    def floor_tok_s(self) -> float:
        return self.task.min_tok_s if self.want.min_tok_s is None else self.want.min_tok_s

    @property
    def room_bytes(self) -> int:
        """Bytes that a recommendation leaves for other programs; 0 for what was asked for by name, or with --tight."""
        spare = self.want.explicit or self.want.tight
        return 0 if spare else room_bytes(self.machine.memory.available_bytes)

    @property
    def _free_bytes(self) -> tuple[int, int]:
        """Free bytes of all devices together, and how many of them a model may take: a quick test before its layers are
        placed."""
        free = self.machine.memory.available_bytes
        most = max(0, free - max(margin_bytes(free), self.room_bytes))
        for device in devices(self.machine):
            of_device = device.memory_free_bytes or 0
            own = of_device - min(of_device, borrowed_bytes(device, of_device))
            free, most = free + own, most + own
        return free, most

    def fit(self, candidate: Candidate) -> Fit | Miss:
        """The candidate with its best settings and all predictions, or the limit, context or memory that it misses.

        Speed is not judged here but in ``too_slow``."""
        model, artifact = candidate.model, candidate.artifact
        download = limits.download_bytes(candidate, self.task)
        if (broken := limits.broken(candidate, self.want, self.task, self.knowledge.quality)) is not None:
            return miss(candidate, broken.code, broken.reason, broken.gap)
        if not self.want.explicit and (broken := self._too_weak(candidate)) is not None:
            return miss(candidate, broken.code, broken.reason, broken.gap)
        trained = model.shape.context_train
        if self.want.context is not None and self.want.context > trained:
            reason = f"handles {trained:,} tokens of context, {self.want.context:,} are asked for"
            return miss(candidate, RejectionCode.CONTEXT, reason, self.want.context / trained - 1)
        prompt = self.want.prompt_tokens or 0
        if self.want.context is None and prompt // CERTAINLY_LONGER > trained:
            reason = f"handles {trained:,} tokens of context, the prompt has about {prompt:,}"
            return miss(candidate, RejectionCode.CONTEXT, reason, prompt / trained - 1)
        if self.want.kv_type not in (None, F16) and not takes_quantized_cache(model.shape):
            needs = "flash attention and heads of whole blocks"
            reason = f"can't keep its KV cache in {self.want.kv_type}: llama.cpp needs {needs} for that"
            return miss(candidate, RejectionCode.CONTEXT, reason, 1.0)
        beside = limits.projector_bytes(candidate, self.task) + artifact.projector_compute_bytes
        free, most = self._free_bytes
        if (short := artifact.weights.total_bytes + beside - most) > 0 and not self.want.explicit:
            if short <= self.room_bytes - margin_bytes(self.machine.memory.available_bytes):
                return self._takes_reserve(candidate, short)
            reason = (
                f"needs {units.size(artifact.weights.total_bytes + beside)} for its weights alone, and "
                f"{units.size(free - most)} must stay free; {units.size(free)} is free: {units.size(short)} short"
            )
            return miss(candidate, RejectionCode.MEMORY, reason, short / max(most, 1), short)
        placer = Placer(self.machine, model.shape, artifact.weights, beside, self.room_bytes)

        def engine(configuration: Configuration) -> Allocation | None:
            return None if candidate.path is None else self.allocations.get((candidate.path, configuration))

        contexts = tuple(self._contexts(trained))
        wants = list(variants(placer, self.want))
        if artifact.weights.total_bytes > placer.room_bytes:
            wants = wants[-1:]  # no settings help; these take the least
        placements = [configure(placer, want, contexts, engine) for want in wants]
        fitting = [placement for placement in placements if not placement.shortages]
        if not fitting:
            return self._short(candidate, min(placements, key=lambda placement: placement.short_bytes))
        return self._fitted(candidate, fitting, download)

    def _too_weak(self, candidate: Candidate) -> limits.Broken | None:
        """The quality that the task asks for and ``candidate`` does not have; None if it does."""
        if self.task.min_quality is None:
            return None
        return limits.too_weak(self.task, self.grade(candidate.model, candidate.artifact, self.thinks(candidate)))

    def too_slow(self, fit: Fit) -> Miss | None:
        """The floor for decoding, or the time limit for the first token or a whole answer, that ``fit`` misses; None if
        it is fast enough."""
        decode_tok_s, answer_s = fit.speed.decode_tok_s, self.answer_s(fit)
        near = self._near(fit.candidate)
        if decode_tok_s < self._least_tok_s(fit.speed, fit.candidate):
            written, floor = units.tok_s(decode_tok_s), units.tok_s(self.floor_tok_s)
            written = f"{decode_tok_s:.2f}" if written == floor else written
            reason = f"fits, but would write {written} tok/s, the floor is {floor}"
            return miss(fit.candidate, RejectionCode.SPEED, reason, self.floor_tok_s / decode_tok_s - 1)
        if answer_s > self._longest_answer_s(near):
            what = "an answer with its thinking" if fit.thinking else "reading the prompt and answering"
            return self._late(fit, what, answer_s, self.task.max_answer_s)
        if (first_s := self._first_s(fit.speed_model)) > self._longest_first_s(near):
            what = f"the {'first word' if self.task.writes else 'result'}"
            return self._late(fit, what, first_s, self.task.max_first_token_s)
        return None

    def _late(self, fit: Fit, what: str, takes_s: float, most_s: float) -> Miss:
        most_s *= self._time_factor
        limit, takes = units.seconds(most_s), units.seconds(takes_s)
        takes = f"{takes_s:.1f} s" if takes == limit else takes
        reason = f"fits, but {what} would take {takes}, the limit for {self.task.name} is {limit}"
        return miss(fit.candidate, RejectionCode.SPEED, reason, takes_s / most_s - 1)

    @property
    def _time_factor(self) -> float:
        """How much longer than usual an answer may take: as much as the user lowered the speed floor."""
        return max(1.0, self.task.min_tok_s / max(self.floor_tok_s, 0.01))

    def _near(self, candidate: Candidate) -> float:
        """The share of the floor that counts as reaching it: all of one that was asked for, of a task's own less."""
        if self.want.min_tok_s is not None:
            return 1.0
        return STAYS if self._was_picked(candidate) or drifts(self.machine) else NEAR

    def _was_picked(self, candidate: Candidate) -> bool:
        return self.last is not None and self.last.is_of(candidate)

    @property
    def good_answer_s(self) -> float:
        """Seconds in which a whole answer is as good as at once, scaled by how far the user lowered the floor."""
        return self.task.good_answer_s * self._time_factor

    def _longest_answer_s(self, near: float) -> float:
        """Seconds that a whole answer may take: the task's limit, scaled likewise."""
        return self.task.max_answer_s * self._time_factor / near

    def _longest_first_s(self, near: float) -> float:
        """Seconds until the first token may come, scaled likewise."""
        return self.task.max_first_token_s * self._time_factor / near

    def _least_tok_s(self, speed: Speed, candidate: Candidate) -> float:
        """The decode rate that counts as reaching the floor; for a new pick that is within the prediction's range."""
        possible = self._was_picked(candidate) or speed.decode_high_tok_s >= self.floor_tok_s
        return self.floor_tok_s * (self._near(candidate) if possible else 1.0)

    def _fast_enough(self, speed: Speed, speed_model: SpeedModel, candidate: Candidate) -> bool:
        near = self._near(candidate)
        return (
            speed.decode_tok_s >= self._least_tok_s(speed, candidate)
            and self._answer_s(speed_model, self.thinks(candidate)) <= self._longest_answer_s(near)
            and self._first_s(speed_model) <= self._longest_first_s(near)
        )

    def answer_s(self, fit: Fit) -> float:
        """Seconds for the task's usual prompt to be read and its usual answer to be written, thoughts included."""
        return self._answer_s(fit.speed_model, fit.thinking)

    def task_tok_s(self, fit: Fit) -> float:
        """The rate that counts for the task: tokens written per second, or read where nothing is written."""
        return fit.speed.decode_tok_s if self.task.writes else fit.speed.prefill_tok_s

    def grade(self, model: Model, artifact: Artifact, thinking: bool) -> Grade | None:
        speaks = self.want.language is not None
        key = model.id, thinking, speaks
        if key not in self.graded:
            areas = weights_of(self.task.evidence, speaks)
            self.graded[key] = grade(model, thinking, areas, self.knowledge.quality)
        return quantized(self.graded[key], loss(model, artifact, self.knowledge.quants), self.knowledge.quants)

    def _contexts(self, trained: int) -> Iterator[int]:
        """The contexts to try: the one asked for, else the task's usual one (more for a long prompt) and its halves."""
        if self.want.context is not None:
            yield self.want.context
            return
        prompt, answer = self.want.prompt_tokens or 0, self.want.answer_tokens or self.task.answer_tokens
        context = min(max(self.task.context, padded_cells(prompt + answer)), trained)
        yield context
        while context // 2 >= max(LEAST_CONTEXT, prompt):
            context //= 2
            yield context

    def thinks(self, candidate: Candidate) -> bool:
        """Whether the model thinks before it answers, for this task."""
        kind = candidate.model.thinking
        return kind is Thinking.ALWAYS or (self.task.think and kind is not Thinking.NEVER)

    def _written(self, thinking: bool) -> int:
        return self.task.answer_tokens + (self.task.thinking_tokens if thinking else 0)

    def _answer_s(self, speed_model: SpeedModel, thinking: bool) -> float:
        return speed_model.task_s(self.task.prompt_tokens, self._written(thinking))

    def _first_s(self, speed_model: SpeedModel) -> float:
        return speed_model.prefill_s(self.task.prompt_tokens)

    def _fitted(self, candidate: Candidate, placements: Sequence[Placement], download: int) -> Fit:
        """The fit with the best of ``placements``, which all have room."""
        model, artifact = candidate.model, candidate.artifact
        thinking = self.thinks(candidate)
        threads = self._threads
        prompt = self.want.prompt_tokens or self.task.prompt_tokens
        answer = self.want.answer_tokens or self._written(thinking)
        uncorrected = [
            self._forecaster.forecast(model.shape, artifact.weights, placement, threads) for placement in placements
        ]
        depth = min(placements[0].configuration.context, prompt + answer / 2)
        forecasts = [
            self.corrections.corrected(
                forecast, candidate, placement.configuration, threads, prompt_tokens=prompt, depth=depth
            )
            for forecast, placement in zip(uncorrected, placements, strict=True)
        ]
        times = [forecast.speed_model.task_s(prompt, answer) for forecast in forecasts]
        enough = [
            self._fast_enough(forecast.at(prompt, depth), forecast.speed_model, candidate) for forecast in forecasts
        ]
        chosen = best(list(zip(placements, times, enough, strict=True)))
        placement, forecast = placements[chosen], forecasts[chosen]
        size = artifact.source.bytes or artifact.weights.total_bytes
        answers = placement.configuration.sequences if self.task.writes else 1
        load_s = self.corrections.load_s(candidate, size) or first_load_s(self.machine.disk, size)
        speed = forecast.at(prompt, depth, load_s, answers)
        tried = [
            Tried(placement.configuration, placement.memory.must_fit_bytes, time_s)
            for placement, time_s in zip(placements, times, strict=True)
        ]
        candidate_grade = self.grade(model, artifact, thinking)
        link = self.machine.network.download_bytes_per_s
        return Fit(
            candidate=candidate,
            configuration=placement.configuration,
            threads=threads[0],
            prefill_threads=threads[1],
            memory=placement.memory,
            speed=speed,
            speed_model=forecast.speed_model,
            uncorrected=uncorrected[chosen].speed_model,
            modelled=uncorrected[chosen].basis is Basis.MODELLED,
            download_bytes=download,
            download_s=None if not download else download / link if link else None,
            reasons=tuple(self._reasons.of(candidate, placement, speed, thinking, tried, candidate_grade)),
            thinking=thinking,
            grade=candidate_grade,
            quantization_loss=rounded_loss(model, artifact, self.knowledge.quants),
            warnings=tuple(self._warnings(candidate)),
            tried=tuple(sorted(tried, key=lambda settings: settings.task_s)),
        )

    def _short(self, candidate: Candidate, placement: Placement) -> Miss:
        device, short = max(placement.shortages.items(), key=lambda item: item[1])
        row = next(row for row in placement.memory.by_device if row.device == device)
        free = row.available_bytes
        kept = units.size(kept_bytes(row, self.room_bytes))
        settings = placement.configuration
        spare = self.room_bytes - margin_bytes(free)
        if device == CPU and short <= spare and len(placement.shortages) == 1:
            return self._takes_reserve(candidate, short)
        least = [f"at {settings.context:,} tokens of context"] if self.want.context is None else []
        least += [f"with a KV cache in {settings.kv_type}"] if settings.kv_type != (self.want.kv_type or F16) else []
        reason = (
            f"needs {' '.join([units.size(free + short), 'of', memory_of(row, self.machine), *least])}, "
            f"counting {kept} that must stay free; {units.size(free)} is free: {units.size(short)} short"
        )
        return miss(candidate, RejectionCode.MEMORY, reason, short / max(free, 1), short, device)

    def _takes_reserve(self, candidate: Candidate, short: int) -> Miss:
        kept, free = units.size(self.room_bytes), self.machine.memory.available_bytes
        reason = f"fits, but takes {units.size(short)} of the {kept} that is kept for other programs"
        return miss(candidate, RejectionCode.ROOM, reason, short / max(free, 1), device=CPU)

    def _warnings(self, candidate: Candidate) -> Iterator[str]:
        if not candidate.model.tasks:
            yield f"{candidate.model.name} has no chat template: it continues text instead of answering"
