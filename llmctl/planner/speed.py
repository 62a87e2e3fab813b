"""Predicts how fast a placed model runs, from what one token reads and how fast the engine's kernels are.

Decoding one token streams every matrix of the model once (of the routed experts, the used share), reads the KV cache so
far and computes with it, and costs a fixed time per layer and per vocabulary entry:

    seconds = sum over weight types of bytes / rate + KV bytes / KV rate + attention's operations / its rate
              + layers x layer_s + vocabulary x vocabulary_s

On the CPU the rates are those of ``Machine.kernels``; where nothing was measured, the memory's bandwidth times the
share of it that llama.cpp reaches, and no more than the cores can take. On a device they are its bandwidth times its
backend's share. Prefill does two operations per weight and token, at the kernels' rate or in proportion to bandwidth,
the attention's, and on the CPU a time per token, layer and element of the embedding for all that lies between the
products; logits are made for the last token only.

What no kernel was measured for stands in ``profiles/speed.toml``, with where it was measured or fitted.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llmctl.catalogue.speed_constants import Range, SpeedConstants
from llmctl.planner.compute import flash
from llmctl.planner.cpu_rates import CpuSettings, cpu_rates
from llmctl.planner.device_rates import LEAST_BATCH, device_rates, link_bytes_per_s
from llmctl.planner.drift import NONE, drift, widened
from llmctl.planner.kernel_rows import completed
from llmctl.planner.memory import repacked_types
from llmctl.planner.parts import DeviceShare
from llmctl.planner.placement import COPIES, Placement
from llmctl.planner.rates import COMPLETED, DeviceRates
from llmctl.planner.streamed import cell_bytes, cell_flop
from llmctl.planner.work import work_of
from llmctl.types.kernels import Kernels
from llmctl.types.machine import Machine
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import Basis, Configuration, Speed
from llmctl.types.speed_model import SpeedModel

DRAFT_ROWS = 16  # tokens that are drafted and computed at once: on CPUs kernels are far from their best with fewer
MEASURED = frozenset({Basis.CALIBRATED, COMPLETED})  # bases that rest on what was measured at some time
Threads = tuple[int, int]
"""Those of decoding and those of prefill."""


class Forecast(Struct, frozen=True):
    """``speed_model`` on its ``basis``. What is measured should lie within ``range`` of it four times in five, of
    several answers together within ``together`` if that is wider. ``drift`` is the part of ``range`` that is the
    machine's own: no run of a model makes it narrower, but many of them tell."""

    speed_model: SpeedModel
    basis: Basis
    range: Range
    together: Range
    drift: Range = NONE

    def at(self, prompt_tokens: int, depth: float, load_s: float | None = None, answers: int = 1) -> Speed:
        """The speed of prefill and first token for a prompt, and of decoding with ``depth`` tokens before: of one
        answer, and of so many together."""
        decode, prefill = self.speed_model.decode_tok_s(depth), self.speed_model.prefill_tok_s(prompt_tokens)
        together = self.speed_model.together_tok_s(depth, answers) if answers > 1 else None
        return Speed(
            decode_tok_s=decode,
            decode_low_tok_s=decode * self.range.low,
            decode_high_tok_s=decode * self.range.high,
            prefill_tok_s=prefill,
            prefill_low_tok_s=prefill * self.range.prefill_low,
            prefill_high_tok_s=prefill * self.range.prefill_high,
            first_token_s=self.speed_model.prefill_s(prompt_tokens) + self.speed_model.decode_s(prompt_tokens),
            basis=self.basis,
            load_s=load_s,
            together_tok_s=together,
            together_low_tok_s=together and together * min(self.range.low, self.together.low),
            together_high_tok_s=together and together * max(self.range.high, self.together.high),
        )


class Forecaster:
    """Predicts speeds on one machine. Its rates with each setting are worked out once."""

    def __init__(self, machine: Machine, constants: SpeedConstants) -> None:
        self.machine, self.constants = machine, constants
        self._repacks = bool(repacked_types(machine))
        self._drift = drift(machine, constants)
        self._rates_by_settings: dict[tuple[str, CpuSettings], DeviceRates] = {}
        self._kernels_by_threads: dict[Threads, Kernels] = {}

    def forecast(self, shape: Shape, weights: Weights, placement: Placement, threads: Threads) -> Forecast:
        """The predicted speed of a placed model, for a prompt and an answer of any length."""
        constants, settings = self.constants, placement.configuration
        flashes = flash(shape, settings)
        on_cpu = CpuSettings(*threads, settings.repack and self._repacks, flashes, settings.kv_type)
        parts = [(self._rates(part, on_cpu), part) for part in placement.parts if _holds(part)]
        readers = _readers(parts, settings, constants)
        work = work_of(shape, weights, constants)
        split_s = _split_layers(shape, placement.parts[0]) * constants.devices.split_s
        vocabulary_s = placement.parts[0].dense * (shape.n_vocab or 0) * constants.vocabulary_s
        full_bytes, window_bytes = cell_bytes(shape, settings.kv_type)
        full_flop, window_flop = cell_flop(shape)

        def step_s(answers: int) -> float:
            return split_s + answers * vocabulary_s + sum(work.step_s(rates, part, answers) for rates, part in parts)

        def cell_s(size: float, flop: float) -> float:
            return sum(
                part.layers * (size / rates.kv_bytes_per_s + flop / rates.attention_decode_flop_per_s)
                for rates, part in parts
            )

        def pair_s(flop: float) -> float:
            return sum(part.layers * flop / rates.attention_prefill_flop_per_s for rates, part, _ in readers)

        speed_model = SpeedModel(
            token_s=split_s + vocabulary_s + sum(work.token_s(rates, part) for rates, part in parts),
            cell_s=cell_s(full_bytes, full_flop),
            window_cell_s=cell_s(window_bytes, window_flop),
            prompt_s=sum(work.prompt_s(rates, part) for rates, part, _ in readers),
            pair_s=pair_s(full_flop),
            window_pair_s=pair_s(window_flop),
            window=shape.window,
            batch=0 if flashes else settings.ubatch,
            ubatch_s=sum(work.ubatch_s(*reader) for reader in readers),
            ubatch=settings.ubatch,
            turns=1 if _holds(placement.parts[0]) else min(len(parts), COPIES),
            steps_s=tuple((answers, step_s(answers)) for answers in _numbers(settings.sequences)),
        )
        bases = [rates.basis_of(weights.type_bytes) for rates, _ in parts]
        basis = Basis.CALIBRATED if set(bases) == {Basis.CALIBRATED} else Basis.MODELLED
        widest = min((constants.ranges[name] for name in bases), key=lambda factors: factors.low)
        moves = self._drift if set(bases) <= MEASURED and _holds(placement.parts[0]) else NONE
        return Forecast(speed_model, basis, widened(widest, moves), constants.ranges["together"], moves)

    def _rates(self, part: DeviceShare, on_cpu: CpuSettings) -> DeviceRates:
        key = part.accelerator.id if part.accelerator else "", on_cpu
        if key not in self._rates_by_settings:
            if part.accelerator is None:
                kernels = self._kernels((on_cpu.threads, on_cpu.prefill_threads))
                self._rates_by_settings[key] = cpu_rates(self.machine, on_cpu, self.constants, kernels)
            else:
                self._rates_by_settings[key] = device_rates(part.accelerator, on_cpu.flash_attention, self.constants)
        return self._rates_by_settings[key]

    def _kernels(self, threads: Threads) -> Kernels | None:
        """The machine's kernels, completed once for all settings with so many threads. None where none were
        measured."""
        if self.machine.kernels is None:
            return None
        if threads not in self._kernels_by_threads:
            self._kernels_by_threads[threads] = completed(self.machine, self.constants, threads)
        return self._kernels_by_threads[threads]


def _numbers(answers: int) -> list[int]:
    """Numbers of tokens at once that ``SpeedModel.steps_s`` has, for so many answers: powers of two, the last, and a
    draft's."""
    powers = {2**power for power in range(1, answers.bit_length())}
    return sorted(powers | {answers, DRAFT_ROWS} - {1})


def _holds(part: DeviceShare) -> bool:
    return part.dense > 1e-9 or part.experts > 1e-9 or part.layers > 1e-9


def _split_layers(shape: Shape, on_cpu: DeviceShare) -> float:
    """Layers that a device computes but for their experts, which the CPU does."""
    return shape.n_layer * max(0.0, on_cpu.experts - on_cpu.layers)


def _readers(
    parts: Sequence[tuple[DeviceRates, DeviceShare]], settings: Configuration, constants: SpeedConstants
) -> list[tuple[DeviceRates, DeviceShare, float]]:
    """For each part, the rates of the device that computes prompts with its weights, and bytes per second of copying
    them there. What the CPU holds is computed by the first device, to which it is copied for each micro-batch
    (offload_op in ggml-backend.cpp)."""
    devices = [(rates, part.accelerator) for rates, part in parts if part.accelerator is not None]
    readers = []
    for rates, part in parts:
        copied = float("inf")
        if part.accelerator is None and devices and settings.ubatch >= LEAST_BATCH:
            rates, copied = devices[0][0], link_bytes_per_s(devices[0][1], constants.devices)
        readers.append((rates, part, copied))
    return readers
