"""What every deployment of a cluster says: its figures, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from llmctl import __version__, units
from llmctl.planner.parallel import UTILIZATION, WORKING_BYTES, Cluster, Spread


class ClusterDeployment(Struct, frozen=True):
    """``model`` is its name for clients, ``repo`` where its original weights are."""

    model: str
    repo: str
    spread: Spread
    cluster: Cluster
    users: int
    context: int
    parameters: int

    @property
    def copies(self) -> int:
        """As many as the users need, no more."""
        return max(1, -(-self.users // max(1, self.spread.requests)))

    @property
    def requests_at_once(self) -> int:
        """For each copy."""
        return -(-self.users // self.copies)

    @property
    def engine_arguments(self) -> dict[str, int | float]:
        """vLLM's own, by the names of its fields."""
        return {
            "tensor_parallel_size": self.spread.tensor,
            "pipeline_parallel_size": self.spread.pipeline,
            "max_model_len": self.context,
            "max_num_seqs": self.requests_at_once,
            "gpu_memory_utilization": UTILIZATION,
        }

    def reasons(self, program: str) -> Iterator[str]:
        """Lines for a comment at the top."""
        at, size = self.spread, units.size
        yield f"{self.repo} by {program}, planned by llmctl {__version__}; nothing of it was run."
        yield f"{self.users} at once, {self.context:,} tokens of context each (max_model_len, max_num_seqs)."
        yield (
            f"{self.parameters:,} parameters in bfloat16 on {at.tensor} GPU(s) of {at.pipeline} machine(s): "
            f"{size(at.weights_bytes)} on each (tensor_parallel_size, pipeline_parallel_size)."
        )
        yield (
            f"vLLM takes {UTILIZATION:.0%} of {size(self.cluster.gpu_bytes)} (gpu_memory_utilization); "
            f"{size(WORKING_BYTES)} of it are our allowance for activations, {size(at.cache_bytes)} are for the cache."
        )
        yield (
            f"A token takes {at.token_bytes:,} bytes of each GPU: room for {at.requests:,} requests of the whole "
            f"context in one copy; {self.copies} of the {at.copies} copies that there is room for are started."
        )
        yield f"If {self.repo} isn't in bfloat16 (FP8, MXFP4), it takes less than that."
