"""How fast a placed model will run: from what one token reads, and from what the engine's kernels were measured to do.

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

from dataclasses import dataclass

from llmctl.catalogue.speed_constants import Range, SpeedConstants
from llmctl.planner.compute import flash
from llmctl.planner.cpu_rates import CpuSettings, cpu_rates
from llmctl.planner.device_rates import device_rates
from llmctl.planner.memory import repacked_types
from llmctl.planner.placement import Placement
from llmctl.planner.rates import Rates
from llmctl.planner.streamed import active_bytes, active_expert_bytes, body_bytes, cell_bytes, cell_flop
from llmctl.types.machine import Machine
from llmctl.types.model import Shape, Weights
from llmctl.types.pace import Pace
from llmctl.types.plan import Basis, Speed

Threads = tuple[int, int]
"""Those of decoding and those of prefill."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """``pace`` on its ``basis``. What is measured should lie within ``range`` of it four times in five."""

    pace: Pace
    basis: Basis
    range: Range

    def at(self, prompt_tokens: int, depth: float) -> Speed:
        """Prefill and first token of a prompt of so many tokens, decoding with ``depth`` tokens before it."""
        decode, prefill = self.pace.decode_tok_s(depth), self.pace.prefill_tok_s(prompt_tokens)
        return Speed(
            decode_tok_s=decode,
            decode_low_tok_s=decode * self.range.low,
            decode_high_tok_s=decode * self.range.high,
            prefill_tok_s=prefill,
            first_token_s=self.pace.prefill_s(prompt_tokens) + self.pace.decode_s(prompt_tokens),
            basis=self.basis,
        )


def forecast(
    machine: Machine, shape: Shape, weights: Weights, placement: Placement, threads: Threads, constants: SpeedConstants
) -> Forecast:
    """How fast it will be, whatever it is asked."""
    settings = placement.configuration
    flashes = flash(shape, settings)
    repacks = settings.repack and bool(repacked_types(machine))
    on_cpu = CpuSettings(*threads, repacks, flashes, settings.kv_type)
    parts = [(cpu_rates(machine, on_cpu, constants), 1 - placement.offloaded)]
    if placement.accelerator is not None and placement.offloaded:
        device = placement.accelerator
        parts.append(
            (device_rates(device.engine_backend, device.bandwidth_bytes_per_s, constants), placement.offloaded)
        )
    parts = [(rates, share) for rates, share in parts if share > 0]
    active, experts = active_bytes(weights, shape), active_expert_bytes(weights, shape)
    body = body_bytes(weights, shape)
    full_bytes, window_bytes = cell_bytes(shape, settings.kv_type)
    full_flop, window_flop = cell_flop(shape)

    def token_s(rates: Rates) -> float:
        streamed = rates.streaming_s(active) + (rates.expert_decode - 1) * rates.streaming_s(experts)
        return streamed + 2 * shape.state_bytes / rates.kv_bytes_per_s + shape.n_layer * rates.layer_s

    def cell_s(rates: Rates, size: float, flop: float) -> float:
        return size / rates.kv_bytes_per_s + flop / rates.attention_decode_flop_per_s

    def prompt_s(rates: Rates) -> float:
        products = rates.product_s(body) + (rates.expert_prefill - 1) * rates.product_s(experts)
        return products + shape.n_layer * shape.n_embd * rates.activation_s

    told = Pace(
        token_s=(shape.n_vocab or 0) * constants.vocabulary_s + sum(share * token_s(one) for one, share in parts),
        cell_s=sum(share * cell_s(one, full_bytes, full_flop) for one, share in parts),
        window_cell_s=sum(share * cell_s(one, window_bytes, window_flop) for one, share in parts),
        prompt_s=sum(share * prompt_s(one) for one, share in parts),
        pair_s=sum(share * full_flop / one.attention_prefill_flop_per_s for one, share in parts),
        window_pair_s=sum(share * window_flop / one.attention_prefill_flop_per_s for one, share in parts),
        window=shape.window,
        batch=0 if flashes else settings.ubatch,
    )
    bases = [rates.basis for rates, _ in parts]
    basis = Basis.CALIBRATED if bases == [Basis.CALIBRATED] else Basis.MODELLED
    return Forecast(told, basis, min((constants.ranges[name] for name in bases), key=lambda one: one.low))
