"""How a model in its original weights is spread over the GPUs of one or several machines, for vLLM.

Sources of the rules: vLLM's documentation, "Parallelism and Scaling": tensor parallel inside a machine, as many ways as
GPUs are needed, pipeline parallel over machines; its engine arguments: ``--gpu-memory-utilization`` is 0.9 unless said
otherwise; its models: the number of attention heads must be a multiple of the tensor parallel size, and heads of keys
and values are copied where there are fewer of them than ways.
"""

from __future__ import annotations

from msgspec import Struct

from llmctl.types.model import Shape

UTILIZATION = 0.9
BF16_BYTES = 2
WORKING_BYTES = 2 * 10**9  # of each GPU, for activations and CUDA graphs: an allowance of ours; vLLM measures it


class Cluster(Struct, frozen=True):
    """``machines`` like each other, each with ``gpus`` of ``gpu_bytes`` of memory."""

    machines: int
    gpus: int
    gpu_bytes: int


class Spread(Struct, frozen=True):
    """One copy of a model on ``tensor`` GPUs of each of ``pipeline`` machines, and how many ``copies`` there is room
    for. Bytes are those of one GPU; ``requests`` of the whole context fit in the memory of one copy at once."""

    tensor: int
    pipeline: int
    copies: int
    weights_bytes: int
    token_bytes: int
    cache_bytes: int
    usable_bytes: int
    requests: int

    @property
    def gpus(self) -> int:
        """Those of one copy."""
        return self.tensor * self.pipeline


class TooFewGpus(Struct, frozen=True):
    """The model doesn't fit, or not for so many users: ``short_by_bytes`` on each GPU of the widest spread."""

    short_by_bytes: int
    widest: Spread


def spread(shape: Shape, parameters: int, cluster: Cluster, *, users: int, context: int) -> Spread | TooFewGpus:
    """The fewest GPUs for a copy, its weights in bfloat16, with which all copies that have room hold a cache for
    ``users`` at ``context`` tokens. Copies know nothing of each other, so they come before a wider spread."""
    ways = [ways for ways in range(1, cluster.gpus + 1) if shape.n_head % ways == 0]
    sizes = [(tensor, 1) for tensor in ways]
    sizes += [(ways[-1], pipeline) for pipeline in range(2, min(cluster.machines, shape.n_layer) + 1)]
    candidates = [_spread(shape, parameters, cluster, tensor, pipeline, context) for tensor, pipeline in sizes]
    for candidate in candidates:
        if candidate.requests * candidate.copies >= users:
            return candidate
    widest = max(candidates, key=lambda candidate: (candidate.requests * candidate.copies, candidate.gpus))
    share = -(-users // widest.copies)
    needed = widest.weights_bytes + WORKING_BYTES + share * context * widest.token_bytes
    return TooFewGpus(max(1, needed - widest.usable_bytes), widest)


def token_bytes(shape: Shape) -> int:
    """What one token of context takes in bfloat16, all layers together; windows are counted as whole: vLLM may keep
    more of them than the window."""
    return round((shape.kv_width + shape.kv_window_width) * BF16_BYTES * shape.passes)


def _spread(shape: Shape, parameters: int, cluster: Cluster, tensor: int, pipeline: int, context: int) -> Spread:
    usable = int(cluster.gpu_bytes * UTILIZATION)
    weights = -(-parameters * BF16_BYTES // (tensor * pipeline))
    per_token = -(-token_bytes(shape) // (min(tensor, _kv_heads(shape)) * pipeline))
    cache = max(0, usable - weights - WORKING_BYTES)
    per_machine = cluster.gpus // tensor
    copies = per_machine * cluster.machines if pipeline == 1 else cluster.machines // pipeline
    return Spread(tensor, pipeline, copies, weights, per_token, cache, usable, cache // max(1, per_token * context))


def _kv_heads(shape: Shape) -> int:
    """Ways in which a cache can be divided: heads of keys and values, 1 for a latent vector, which each GPU keeps."""
    if shape.latent or not shape.heads:
        return 1
    return max(1, min(shape.n_head // max(1, heads.group) for heads in shape.heads))
