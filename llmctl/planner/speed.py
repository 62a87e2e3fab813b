"""How fast a placed model will run: from what one token reads, and from what the engine's kernels were measured to do.

Decoding one token streams every matrix of the model once (of the routed experts, the used share), reads the KV cache so
far and computes with it, and costs a fixed time per layer and per vocabulary entry:

    seconds = sum over weight types of bytes / rate + KV bytes / KV rate + attention's operations / its rate
              + layers x layer_s + vocabulary x vocabulary_s

On the CPU the rates are those of ``Machine.kernels``; where nothing was measured, the memory's bandwidth times the
share of it that llama.cpp reaches, and no more than the cores can take. On a device they are its bandwidth times its
backend's share. Prefill does two operations per weight and token, at the kernels' rate or in proportion to bandwidth,
the attention's, and on the CPU a fixed time per token, layer and element of the embedding for all that lies between
the products; logits are made for the last token only.

Every constant stands in ``profiles/speed.toml`` with where it was measured or fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.planner.cpu_rates import cpu_rates
from llmctl.planner.device_rates import device_rates
from llmctl.planner.placement import Placement
from llmctl.planner.streamed import (
    active_bytes,
    active_expert_bytes,
    attention_flop,
    body_bytes,
    kv_read_bytes,
)
from llmctl.types.machine import Machine
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import Basis, Speed


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked: a prompt of ``prompt_tokens`` (for the first token), and ``depth`` tokens already in the cache
    while the answer is written."""

    prompt_tokens: int
    depth: int


def speed(
    machine: Machine,
    shape: Shape,
    weights: Weights,
    placement: Placement,
    threads: int,
    load: Load,
    constants: SpeedConstants,
) -> Speed:
    """Decode at ``load.depth`` with its range, prefill of ``load.prompt_tokens``, and both for the first token."""
    parts = [(cpu_rates(machine, threads, constants), 1 - placement.offloaded)]
    if placement.accelerator is not None and placement.offloaded:
        device = placement.accelerator
        parts.append(
            (device_rates(device.engine_backend, device.bandwidth_bytes_per_s, constants), placement.offloaded)
        )
    active, experts = active_bytes(weights, shape), active_expert_bytes(weights, shape)
    body = body_bytes(weights, shape)
    kv_read = kv_read_bytes(shape, load.depth, placement.configuration.kv_type)
    attending = attention_flop(shape, load.depth)
    scores = load.prompt_tokens * attention_flop(shape, load.prompt_tokens) / 2  # half of the pairs are masked
    token_s = (shape.n_vocab or 0) * constants.vocabulary_s
    prompt_s = 0.0
    for rates, share in parts:
        if share <= 0:
            continue
        token_s += share * rates.streaming_s(active)
        token_s += share * rates.streaming_s(experts) * (1 / rates.expert_share - 1)
        token_s += share * (kv_read / rates.kv_bytes_per_s + shape.n_layer * rates.layer_s)
        token_s += share * attending / (rates.attention_flop_per_s * constants.attention_decode_share)
        prompt_s += share * rates.products_s(body, load.prompt_tokens)
        prompt_s += share * scores / (rates.attention_flop_per_s * constants.attention_prefill_share)
        prompt_s += share * load.prompt_tokens * shape.n_layer * shape.n_embd * rates.activation_s
    bases = [rates.basis for rates, share in parts if share > 0]
    worst = min((constants.ranges[name] for name in bases), key=lambda one: one.low)
    decode = 1 / token_s
    return Speed(
        decode_tok_s=decode,
        decode_low_tok_s=decode * worst.low,
        decode_high_tok_s=decode * worst.high,
        prefill_tok_s=load.prompt_tokens / prompt_s,
        first_token_s=prompt_s + token_s,
        basis=Basis.CALIBRATED if bases == [Basis.CALIBRATED] else Basis.MODELLED,
    )
