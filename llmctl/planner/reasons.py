"""The reasons for a candidate, in words: its memory, its quality, its settings, its speed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct

from llmctl import units
from llmctl.catalogue.knowledge import Task
from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.planner import limits
from llmctl.planner.devices import shares_memory
from llmctl.planner.memory import margin_bytes
from llmctl.planner.placement import Placement
from llmctl.planner.processor import core_of, family_of, knows_processor
from llmctl.types.grade import Grade, GradeBasis
from llmctl.types.machine import Machine
from llmctl.types.model import Candidate, Model
from llmctl.types.plan import CPU, F16, UBATCH, Basis, Configuration, DeviceMemory, Speed, Tried, Want

DISAGREEING = 0.05  # formulas that are further off the engine's own sums than this are reported


class Reasons(Struct, frozen=True):
    """Makes the reasons of all candidates of one plan. ``room_bytes`` of memory are left to other programs."""

    machine: Machine
    want: Want
    task: Task
    constants: SpeedConstants
    room_bytes: int

    def of(
        self,
        candidate: Candidate,
        placement: Placement,
        speed: Speed,
        thinking: bool,
        tried: Sequence[Tried],
        grade: Grade | None,
    ) -> Iterator[str]:
        """The reasons for a candidate that fits, one sentence each. ``tried`` begins with the engine's defaults."""
        shape, settings = candidate.model.shape, placement.configuration
        for row in placement.memory.by_device:
            kept, needs = units.size(kept_bytes(row, self.room_bytes)), units.size(row.total_bytes)
            spared = "kept for other programs" if row.device == CPU else "left as a margin"
            free = f"{units.size(row.available_bytes)} is free, {kept} of that {spared}"
            yield f"needs {needs} of {memory_of(row, self.machine)}: {free}"
        yield from _grounds(candidate.model, grade, thinking)
        artifact = candidate.artifact
        if seeing := limits.projector_bytes(candidate, self.task):
            size = units.size(seeing + artifact.projector_compute_bytes)
            yield f"{size} of that for its vision projector, an estimate; it is loaded where a prompt has images"
        usual = self.task.context if self.want.context is None else self.want.context
        if settings.context < usual:
            why = "it was trained for no more" if settings.context == shape.context_train else "no more fits"
            yield f"{settings.context:,} tokens of context instead of {usual:,}: {why}"
        if placement.accelerator is not None:
            layers = max(0, settings.gpu_layers - 1 - shape.n_draft)  # the output head goes first, then draft layers
            used = [row.device for row in placement.memory.by_device[1:]]
            yield f"{layers} of {shape.n_layer} layers on {_cards(used, self.machine)}"
            if shares_memory(placement.accelerator):
                taken = units.size(sum(row.total_bytes for row in placement.memory.by_device))
                yield f"the GPU shares the machine's memory: the model takes {taken} of it in all"
        if settings.cpu_expert_layers:
            layers = min(settings.cpu_expert_layers, shape.n_layer)
            yield f"the experts of {layers} of {shape.n_layer} layers stay on the CPU"
        if settings.kv_type != (self.want.kv_type or F16):
            yield f"the KV cache is kept in {settings.kv_type}, half the size of f16, so that it fits"
        if settings.ubatch < UBATCH:
            yield f"prompts are read {settings.ubatch} tokens at once instead of {UBATCH}, so that it fits"
        yield from _changed(settings, tried, self.task.writes)
        if placement.memory.disagreement > DISAGREEING:
            takes, formulas = placement.memory.must_fit_bytes, placement.memory.analytic_must_fit_bytes or 0
            apart = f"{100 * placement.memory.disagreement:.0f} % {'less' if takes > formulas else 'more'}"
            yield f"the engine allocates {units.size(takes)}; llmctl's formulas say {apart}"
        prompt = self.want.prompt_tokens or self.task.prompt_tokens
        loads = "" if speed.load_s is None else f", once it is loaded, which takes {units.seconds(speed.load_s)}"
        begins = "the answer to a prompt of {:,} tokens begins after" if self.task.writes else "{:,} tokens are read in"
        yield f"{begins.format(prompt)} {units.seconds(speed.first_token_s)}{loads}"
        if speed.together_tok_s is not None:
            yield _together(settings.sequences, speed)
        if thinking:
            yield f"thinks before it answers, usually some {self.task.thinking_tokens:,} tokens, included in its time"
        yield self._basis(placement, speed)

    def _basis(self, placement: Placement, speed: Speed) -> str:
        if speed.basis is Basis.MEASURED:
            return "speed is measured: it ran here with these settings"
        if speed.basis is Basis.CALIBRATED:
            return "speed is calibrated: the engine's kernels were measured here"
        if placement.accelerator is None and self.machine.kernels is not None:
            return (
                "speed is modelled: while the engine's kernels were measured, other programs kept the processor busy "
                "(llmctl doctor --measure)"
            )
        if placement.accelerator is not None and (bandwidth := placement.accelerator.bandwidth_bytes_per_s):
            return f"speed is modelled from the device's {units.rate(bandwidth)}"
        if placement.accelerator is None and knows_processor(self.machine, self.constants):
            return "speed is modelled from measurements of two cores of such a processor"
        family = family_of(self.machine, self.constants)
        if placement.accelerator is None and family is not None and not self.machine.memory.bandwidth_bytes_per_s:
            channels = units.number_of(family.channels, "channel")
            return (
                f"speed is modelled for {family.memory} in {channels}, which such processors have at least where all "
                "are filled"
            )
        if placement.accelerator is not None or not self.machine.memory.bandwidth_bytes_per_s:
            slowest = core_of(self.machine, self.constants).memory_bytes_per_s
            if placement.accelerator is not None:
                slowest = self.constants.unknown_device_bytes_per_s
            assumed = f"modelled for the slowest kind, {units.rate(slowest)}"
            return f"the memory's speed isn't known: speed is {assumed}, and may be several times that"
        return f"speed is modelled from the memory's {units.rate(self.machine.memory.bandwidth_bytes_per_s)}"


def _together(answers: int, speed: Speed) -> str:
    """What several answers at once have, together and each."""
    whole, low, high = speed.together_tok_s or 0.0, speed.together_low_tok_s or 0.0, speed.together_high_tok_s or 0.0
    span = f"{units.tok_s(low)}–{units.tok_s(high)}"
    each = units.tok_s(whole / answers)
    return f"{answers} answers at once have {units.tok_s(whole)} tok/s ({span}) together, {each} each"


def kept_bytes(row: DeviceMemory, room_bytes: int) -> int:
    """What stays free of a device: on the machine's own memory, ``room_bytes`` for other programs."""
    return max(margin_bytes(row.available_bytes), room_bytes if row.device == CPU else 0)


def memory_of(row: DeviceMemory, machine: Machine) -> str:
    return "memory" if row.device == CPU else f"the {card_name(row.device, machine)}'s memory"


def card_name(device: str, machine: Machine) -> str:
    """The name of a GPU, with its id if another one has the same name."""
    names = {accelerator.id: accelerator.name for accelerator in machine.accelerators}
    name = names.get(device, device)
    return f"{name} ({device})" if list(names.values()).count(name) > 1 else name


def _cards(devices: Sequence[str], machine: Machine) -> str:
    """The GPUs that share the layers: "2 x GeForce RTX 3060" where they are alike."""
    names = {accelerator.id: accelerator.name for accelerator in machine.accelerators}
    counts = Counter(names.get(device, device) for device in devices)
    return " and ".join(name if number == 1 else f"{number} x {name}" for name, number in counts.items())


def _changed(settings: Configuration, tried: Sequence[Tried], writes: bool) -> Iterator[str]:
    """What differs from the engine's defaults, which were tried first, and what it gains."""
    usual = tried[0]
    if settings == usual.configuration:
        return
    chosen = next(settings_tried for settings_tried in tried if settings_tried.configuration == settings)
    what = []
    if settings.repack != usual.configuration.repack:
        what.append("weights as they lie in the file, without the copy for the processor's fast kernels")
    if settings.flash_attention != usual.configuration.flash_attention:
        what.append("flash attention")
    if what:
        yield f"{' and '.join(what)}: {_gain(chosen, usual, writes)}"


def _gain(chosen: Tried, usual: Tried, writes: bool) -> str:
    """How much time the settings save beside the engine's defaults, or how much memory where they save no time."""
    takes = "the expected prompt and answer take" if writes else "the expected text takes"
    percent, less_bytes = round(100 * (1 - chosen.task_s / usual.task_s)), usual.must_fit_bytes - chosen.must_fit_bytes
    defaults = "with the engine's defaults"
    if percent >= 1:
        return f"{takes} {units.seconds(chosen.task_s)}, {percent} % less than {defaults}"
    if less_bytes <= 0:
        return f"{takes} {units.seconds(chosen.task_s)}"
    longer = f"{-percent} % longer than" if percent < 0 else "as long as"
    return f"{takes} {longer} {defaults}, and {units.size(less_bytes)} less memory"


def _grounds(model: Model, grade: Grade | None, thinking: bool) -> Iterator[str]:
    """What the quality index is made of, and what a distillation is not."""
    if grade is None:
        yield "no benchmark results were published for it or its family: it ranks below every tested model"
    elif grade.basis is GradeBasis.RELATIVES:
        between = " and ".join(grade.relatives)
        yield f"no benchmark results were published for it: its quality is a low estimate from {between} of its family"
    else:
        mode = "plain answers" if thinking else "thinking"
        other = f", {grade.converted} of them with {mode}, which count less" if grade.converted else ""
        results = "1 published result" if grade.results == 1 else f"{grade.results} published results"
        low = "; none is for this task, so it is put at the low end of its range" if grade.cautious else ""
        yield f"its quality of {grade.index:.0f} comes from {results}{other}{low}"
    if model.distilled_from is not None:
        yield f"a distillation: {model.base_model} trained on what {model.distilled_from} wrote; it is not that model"
