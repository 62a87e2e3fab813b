"""What computing with a model's weights takes on one device: for a token, for several at once, and for a prompt."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.planner.batches import batch_s, routed_batch_s
from llmctl.planner.memory import head_bytes
from llmctl.planner.parts import DeviceShare
from llmctl.planner.rates import DeviceRates
from llmctl.planner.streamed import active_bytes, active_expert_bytes, fixed_layers
from llmctl.types.model import Shape, Weights


class Work(Struct, frozen=True):
    """Bytes by weight type that a token goes through: ``experts`` are the routed ones that it uses, ``dense`` all
    others, ``body`` those without the head. Attention is left out of all times."""

    shape: Shape
    constants: SpeedConstants
    dense: Mapping[str, float]
    experts: Mapping[str, float]
    body: Mapping[str, float]

    def token_s(self, rates: DeviceRates, part: DeviceShare) -> float:
        """Seconds for one token of an answer."""
        streamed = part.dense * rates.streaming_s(self.dense)
        streamed += part.experts * rates.expert_decode * rates.streaming_s(self.experts)
        return streamed + self._fixed_s(rates, part, 1)

    def step_s(self, rates: DeviceRates, part: DeviceShare, answers: int) -> float:
        """Seconds for a token of each of so many answers."""
        dense_s = batch_s(rates, self.dense, answers, self.constants)
        routed_s = rates.expert_decode * routed_batch_s(rates, self.shape, self.experts, answers, self.constants)
        return part.dense * dense_s + part.experts * routed_s + self._fixed_s(rates, part, answers)

    def _fixed_s(self, rates: DeviceRates, part: DeviceShare, answers: int) -> float:
        """For what lies between the products, and recurrent states."""
        layer_s = rates.layer_s + (rates.expert_layer_s if self.shape.n_expert else 0.0)
        states_s = answers * 2 * self.shape.state_bytes / rates.kv_bytes_per_s
        return part.layers * (states_s + fixed_layers(self.shape) * layer_s)

    def prompt_s(self, rates: DeviceRates, part: DeviceShare) -> float:
        """Seconds for each token of a prompt."""
        products = part.dense * rates.product_s(self.body)
        products += part.experts * rates.expert_prefill * rates.product_s(self.experts)
        return products + part.layers * self.shape.n_layer * self.shape.n_embd * rates.activation_s

    def ubatch_s(self, rates: DeviceRates, part: DeviceShare, copied_bytes_per_s: float) -> float:
        """Seconds for each micro-batch of a prompt besides: it goes through all experts, and all is copied where it
        lies elsewhere."""
        shape = self.shape
        unused = shape.n_expert / shape.n_expert_used if shape.n_expert and shape.n_expert_used else 1.0
        products = part.dense * rates.product_s(self.body) + part.experts * unused * rates.product_s(self.experts)
        size = part.dense * sum(self.body.values()) + part.experts * unused * sum(self.experts.values())
        return rates.batch_tokens * products + size / copied_bytes_per_s


def work_of(shape: Shape, weights: Weights, constants: SpeedConstants) -> Work:
    experts = active_expert_bytes(weights, shape)
    dense = _without(active_bytes(weights, shape), experts)
    return Work(shape, constants, dense, experts, _less(dense, head_bytes(shape, weights)))


def _less(all_bytes: Mapping[str, float], size: float) -> dict[str, float]:
    """``all_bytes`` by type, less ``size`` in proportion: logits are made for the last token of a prompt only."""
    share = max(0.0, 1 - size / max(1.0, sum(all_bytes.values())))
    return {name: share * size_of_type for name, size_of_type in all_bytes.items()}


def _without(all_bytes: Mapping[str, float], some: Mapping[str, float]) -> dict[str, float]:
    return {name: max(0.0, size - some.get(name, 0.0)) for name, size in all_bytes.items()}
