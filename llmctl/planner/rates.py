"""The engine's rates on a processor or a device, by weight type, and the fixed times of a layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from llmctl.planner.memory import bits

UNKNOWN = "unknown"
COMPLETED = "completed"
BatchSteps = Mapping[int, float]
"""By the number of vectors, how many times as long as with one their product takes."""
NO_BATCHES: Mapping[str, BatchSteps] = {}


class DeviceRates(Struct, frozen=True):
    """The rates of one device: weight bytes streamed in decoding and operations done in prefill per second, by weight
    type (None: any other), cache bytes read and attention's operations, and the fixed times of a layer:
    ``layer_s`` in decoding, ``activation_s`` in prefill for each token and element of the embedding. Routed experts
    take ``expert_decode`` and ``expert_prefill`` times as long as other weights, and a layer that has some
    ``expert_layer_s`` more. In prefill every micro-batch costs all weights as much as ``batch_tokens`` tokens would:
    they are read, and the last tiles of a product are not full. ``basis`` names the range in ``speed.toml``, and
    ``estimated_basis`` that of the rates of ``estimated`` weight types. ``batch_steps`` are by weight
    type, empty where none were measured."""

    decode: Mapping[str | None, float]
    prefill: Mapping[str | None, float]
    kv_bytes_per_s: float
    attention_decode_flop_per_s: float
    attention_prefill_flop_per_s: float
    layer_s: float
    basis: str
    activation_s: float = 0.0
    expert_decode: float = 1.0
    expert_prefill: float = 1.0
    expert_layer_s: float = 0.0
    batch_tokens: float = 0.0
    estimated: frozenset[str | None] = frozenset()
    estimated_basis: str = UNKNOWN
    batch_steps: Mapping[str, BatchSteps] = NO_BATCHES

    def basis_of(self, weight_types: Iterable[str]) -> str:
        """The basis of the rates for a model with weights of these types."""
        names = (name if name in self.decode else None for name in weight_types)
        return self.estimated_basis if self.estimated.intersection(names) else self.basis

    def streaming_s(self, type_bytes: Mapping[str, float]) -> float:
        return sum(size / self.decode.get(name, self.decode[None]) for name, size in type_bytes.items())

    def product_s(self, type_bytes: Mapping[str, float]) -> float:
        """Seconds of the matrix products of one token of a batch with these weights, bytes by type."""
        return sum(
            2 * (8 * size / bits(name)) / self.prefill.get(name, self.prefill[None])
            for name, size in type_bytes.items()
        )
