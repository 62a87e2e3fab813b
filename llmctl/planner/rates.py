"""What a processor or a device does per second: the engine's rates, by weight type, and what a layer costs beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmctl.planner.memory import bits

UNKNOWN = "unknown"


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
