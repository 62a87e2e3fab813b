"""What speaks for a candidate, in words: its memory, what its quality stands on, its settings, its speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmctl import units
from llmctl.catalogue.knowledge import Task
from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.planner import limits
from llmctl.planner.cpu_rates import core_of
from llmctl.planner.devices import shares_memory
from llmctl.planner.memory import margin_bytes
from llmctl.planner.placement import Placement
from llmctl.types.grade import Grade, GradeBasis
from llmctl.types.machine import Machine
from llmctl.types.model import Candidate, Model
from llmctl.types.plan import CPU, F16, UBATCH, Basis, Configuration, DeviceMemory, Speed, Tried, Want

DISAGREEING = 0.05  # formulas that are further off the engine's own sums than this are told


@dataclass(frozen=True, slots=True)
class Reasons:
    """What all candidates of one plan are told by. ``room_bytes`` of memory are left to other programs."""

    machine: Machine
    want: Want
    task: Task
    constants: SpeedConstants
    room_bytes: int

    def of(
        self,
        candidate: Candidate,
        placement: Placement,
        pace: Speed,
        thinking: bool,
        tried: Sequence[Tried],
        told: Grade | None,
    ) -> Iterator[str]:
        """What is told of a candidate that fits. ``tried`` begins with the engine's defaults."""
        shape, settings = candidate.model.shape, placement.configuration
        for row in placement.memory.by_device:
            kept = units.size(kept_bytes(row, self.room_bytes))
            free = f"{units.size(row.available_bytes)} of {memory_of(row, self.machine)}"
            yield f"needs {units.size(row.total_bytes)}, {free} is free; {kept} of it stay so"
        yield from _grounds(candidate.model, told, thinking)
        artifact = candidate.artifact
        if seeing := limits.projector_bytes(candidate, self.task):
            size = units.size(seeing + artifact.projector_compute_bytes)
            yield f"{size} of it for its vision projector, by formulas; llmctl run answers text and leaves it out"
        usual = self.task.context if self.want.context is None else self.want.context
        if settings.context < usual:
            why = "what it was trained for" if settings.context == shape.context_train else "what fits"
            yield f"{settings.context:,} tokens of context instead of {usual:,}: {why}"
        if placement.accelerator is not None:
            layers = max(0, settings.gpu_layers - 1 - shape.n_draft)  # the output head goes first, then draft layers
            names = [row.device for row in placement.memory.by_device[1:]]
            where = placement.accelerator.name if len(names) == 1 else f"{len(names)} GPUs"
            yield f"{layers} of {shape.n_layer} layers on {where}"
            if shares_memory(placement.accelerator):
                taken = units.size(sum(row.total_bytes for row in placement.memory.by_device))
                yield f"that GPU's memory is the machine's own: {taken} of it in all"
        if settings.cpu_expert_layers:
            layers = min(settings.cpu_expert_layers, shape.n_layer)
            yield f"the experts of {layers} of {shape.n_layer} layers stay on the CPU"
        if settings.kv_type != (self.want.kv_type or F16):
            yield f"the KV cache is kept in {settings.kv_type}, half the size of f16: what fits"
        if settings.ubatch < UBATCH:
            yield f"prompts are read {settings.ubatch} tokens at once instead of {UBATCH}: what fits"
        yield from _changed(settings, tried, self.task.writes)
        if placement.memory.disagreement > DISAGREEING:
            takes, formulas = placement.memory.must_fit_bytes, placement.memory.analytic_must_fit_bytes
            yield f"the engine takes {units.size(takes)}, by our formulas it would be {units.size(formulas)}"
        prompt = self.want.prompt_tokens or self.task.prompt_tokens
        loads = "" if pace.load_s is None else f", once it is loaded, which takes {units.seconds(pace.load_s)}"
        answers = "has its first token after" if self.task.writes else "is read in"
        yield f"a prompt of {prompt:,} tokens {answers} {units.seconds(pace.first_token_s)}{loads}"
        if thinking:
            yield f"thinks before it answers, usually some {self.task.thinking_tokens:,} tokens: counted in its time"
        yield self._basis(placement, pace)

    def _basis(self, placement: Placement, pace: Speed) -> str:
        if pace.basis is Basis.MEASURED:
            return "speed is measured: it ran here with these settings"
        if pace.basis is Basis.CALIBRATED:
            return "speed is calibrated: the engine's kernels were measured here"
        if placement.accelerator is not None and (bandwidth := placement.accelerator.bandwidth_bytes_per_s):
            return f"speed is modelled from the device's {units.rate(bandwidth)}"
        if placement.accelerator is not None or not self.machine.memory.bandwidth_bytes_per_s:
            slowest = core_of(self.machine, self.constants).memory_bytes_per_s
            if placement.accelerator is not None:
                slowest = self.constants.unknown_device_bytes_per_s
            told = f"told for the slowest kind, {units.rate(slowest)}"
            return f"the memory's speed isn't known: {told}, it may be several times that"
        return f"speed is modelled from the memory's {units.rate(self.machine.memory.bandwidth_bytes_per_s)}"


def kept_bytes(row: DeviceMemory, room_bytes: int) -> int:
    """What stays free of a device: on the machine's own memory, ``room_bytes`` for other programs."""
    return max(margin_bytes(row.available_bytes), room_bytes if row.device == CPU else 0)


def memory_of(row: DeviceMemory, machine: Machine) -> str:
    names = (one.name for one in machine.accelerators if one.id == row.device)
    return "memory" if row.device == CPU else f"the {next(names, row.device)}'s memory"


def _changed(settings: Configuration, tried: Sequence[Tried], writes: bool) -> Iterator[str]:
    """What differs from the engine's defaults, which were tried first, and what it gains."""
    usual = tried[0]
    if settings == usual.configuration:
        return
    task_s = next(one.task_s for one in tried if one.configuration == settings)
    what = []
    if settings.repack != usual.configuration.repack:
        what.append("weights as they lie in the file, without the copy for the processor's fast kernels")
    if settings.flash_attention != usual.configuration.flash_attention:
        what.append("flash attention")
    expected = "the expected prompt and answer take" if writes else "the expected text takes"
    gain = f"{expected} {units.seconds(task_s)} instead of {units.seconds(usual.task_s)}"
    if what:
        yield f"{' and '.join(what)}: {gain}"


def _grounds(model: Model, told: Grade | None, thinking: bool) -> Iterator[str]:
    """What the quality stands on, and what a model is not."""
    if told is None:
        yield "nothing was published of its quality, nor of a relative's: it stands behind all that was tested"
    elif told.basis is GradeBasis.RELATIVES:
        between = " and ".join(told.relatives)
        yield f"nothing was published of its quality: estimated, with caution, from {between} of its family"
    else:
        mode = "plain answers" if thinking else "thinking"
        other = f", {told.converted} of them with {mode}, which count less" if told.converted else ""
        results = "1 published result" if told.results == 1 else f"{told.results} published results"
        low = ", none of them for this: it is put at the low end" if told.cautious else ""
        yield f"its quality of {told.index:.0f} stands on {results}{other}{low}"
    if model.distilled_from is not None:
        yield f"a distillation: {model.base_model}, trained on what {model.distilled_from} wrote, and not that model"
