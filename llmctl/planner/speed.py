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

from collections.abc import Mapping
from dataclasses import dataclass

from llmctl.catalogue.knowledge import Core, SpeedConstants
from llmctl.planner.memory import bits, element_bytes, head_bytes
from llmctl.planner.placement import Placement
from llmctl.types.machine import KernelRate, Machine
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import F16, Basis, Speed

UNKNOWN = "unknown"
HYBRID_ATTENTION = 0.25  # three of four layers are recurrent in Qwen3.5 and its successors, more in other hybrids


@dataclass(frozen=True, slots=True)
class Rates:
    """What one device does: bytes streamed and operations done per second, by weight type (None: any), and the times
    that a layer costs beside that: ``layer_s`` in decoding, ``activation_s`` in prefill for each token and element of
    the embedding. Experts are streamed at ``expert_share`` of the rate. ``basis`` names the range in ``speed.toml``."""

    decode: Mapping[str | None, float]
    prefill: Mapping[str | None, float]
    kv_bytes_per_s: float
    layer_s: float
    basis: str
    activation_s: float = 0.0
    expert_share: float = 1.0

    @property
    def attention_flop_per_s(self) -> float:
        """The matrix rate of f16, which keys and values are kept in."""
        return self.prefill.get("F16", self.prefill[None])

    def streaming_s(self, type_bytes: Mapping[str, float]) -> float:
        return sum(size / self.decode.get(name, self.decode[None]) for name, size in type_bytes.items())

    def products_s(self, type_bytes: Mapping[str, float], tokens: int) -> float:
        """Matrix products of ``tokens`` tokens with weights of so many bytes."""
        return sum(
            2 * (8 * size / bits(name)) * tokens / self.prefill.get(name, self.prefill[None])
            for name, size in type_bytes.items()
        )


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked: a prompt of ``prompt_tokens`` (for the first token), and ``depth`` tokens already in the cache
    while the answer is written."""

    prompt_tokens: int
    depth: int


def cpu_rates(machine: Machine, threads: int, constants: SpeedConstants) -> Rates:
    """The CPU's, with ``threads`` of the usable ones (all types slow down in proportion)."""
    share = min(1.0, threads / max(1, machine.cpu.usable_threads))
    if machine.kernels:
        by_type = _by_type(machine.kernels, constants)
        decode = {name: flow * share for name, (flow, _) in by_type.items()}
        prefill = {name: operations * share for name, (_, operations) in by_type.items()}
        fastest = max(rate.decode_bytes_per_s for rate in machine.kernels) * share
        basis: str = Basis.CALIBRATED
    else:
        core, bandwidth = core_of(machine, constants), machine.memory.bandwidth_bytes_per_s
        memory = constants.memory_share * (bandwidth or core.memory_bytes_per_s)
        fastest = min(core.decode_bytes_per_s * threads, memory)
        decode, prefill = {None: fastest}, {None: core.prefill_flop_per_s * threads}
        basis = "cpu" if bandwidth else UNKNOWN
    return Rates(
        decode,
        prefill,
        kv_bytes_per_s=fastest * constants.kv_share,
        layer_s=constants.layer_s,
        basis=basis,
        activation_s=constants.activation_s,
        expert_share=constants.expert_share,
    )


def core_of(machine: Machine, constants: SpeedConstants) -> Core:
    """The best instruction set of this processor that something is known about."""
    return next(one for one in constants.cores if not one.feature or one.feature in machine.cpu.features)


def device_rates(backend: str | None, bandwidth: float | None, constants: SpeedConstants) -> Rates:
    """A device's, from its bandwidth. A backend without constants of its own is taken for the slowest there is."""
    slowest = min(constants.backends.values(), key=lambda one: one.share)
    known = constants.backends.get((backend or "").lower(), slowest)
    flow = bandwidth or constants.unknown_device_bytes_per_s
    stream, flop = known.share * flow, known.prefill_flop_per_byte * flow
    return Rates({None: stream}, {None: flop}, stream, known.layer_s, "device" if bandwidth else UNKNOWN)


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


def active_bytes(weights: Weights, shape: Shape) -> dict[str, float]:
    """Bytes that one token streams, by weight type: all of them, of routed experts the used share."""
    used, experts = active_expert_bytes(weights, shape), _expert_bytes(weights)
    return {name: size - experts.get(name, 0) + used.get(name, 0) for name, size in weights.type_bytes.items()}


def active_expert_bytes(weights: Weights, shape: Shape) -> dict[str, float]:
    """The part of it that lies in routed experts."""
    share = shape.n_expert_used / shape.n_expert if shape.n_expert else 1.0
    return {name: size * share for name, size in _expert_bytes(weights).items()}


def _expert_bytes(weights: Weights) -> Mapping[str, float]:
    if weights.expert_type_bytes or not weights.expert_bytes:
        return weights.expert_type_bytes
    total = sum(weights.type_bytes.values())
    return {name: size * weights.expert_bytes / total for name, size in weights.type_bytes.items()}


def body_bytes(weights: Weights, shape: Shape) -> dict[str, float]:
    """The same without the output head: what a prompt's tokens go through."""
    active = active_bytes(weights, shape)
    share = max(0.0, 1 - head_bytes(shape, weights) / max(1.0, sum(active.values())))
    return {name: size * share for name, size in active.items()}


def _by_type(kernels: tuple[KernelRate, ...], constants: SpeedConstants) -> dict[str | None, tuple[float, float]]:
    """Rates of every type: measured, told by its likeness to a measured one, or (None) those of the slowest."""
    found: dict[str | None, tuple[float, float]] = {
        one.weight_type: (one.decode_bytes_per_s, one.prefill_flop_per_s) for one in kernels
    }
    slowest = min(flow for flow, _ in found.values()), min(operations for _, operations in found.values())
    for name, like in constants.likeness.items():
        if name not in found and like.measured in found:
            flow, operations = found[like.measured]
            found[name] = flow * like.decode, operations * like.prefill
    found[None] = slowest
    return found


def kv_read_bytes(shape: Shape, depth: int, kv_type: str = F16) -> int:
    """Cache and recurrent state that one token reads (the state is written back too)."""
    windowed = min(depth, shape.window or depth)
    return element_bytes(kv_type, shape.kv_width * depth + shape.kv_window_width * windowed) + 2 * shape.state_bytes


def attention_flop(shape: Shape, depth: int) -> float:
    """Operations of one token's attention over ``depth`` others: two for the scores and two for the sums, per layer,
    cached token and element of the queries, which are as wide as the embedding to a good approximation. Of a hybrid's
    layers a share attends, of windowed ones each to its window at most."""
    layers = shape.n_layer * (HYBRID_ATTENTION if shape.state_bytes else 1.0)
    cached = shape.kv_width + shape.kv_window_width
    windowed = shape.kv_window_width / cached if cached else 0.0
    seen = depth * (1 - windowed) + min(depth, shape.window or depth) * windowed
    return 4.0 * layers * shape.n_embd * seen
