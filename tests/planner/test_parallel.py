"""How many GPUs a model takes: a table, and what must hold for all."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llmctl.planner.parallel import WORKING_BYTES, Cluster, Spread, TooFewGpus, spread, token_bytes
from llmctl.types.model import Heads, Shape

GB = 10**9
# 32 layers with 8 heads of keys and values, 128 elements each, as Llama 3.1 8B: 131,072 bytes for a token.
EIGHT = Shape(
    "llama", 32, 4096, 32, 14336, 128_256, 131_072, 32 * 8 * 128 * 2, key_length=128, heads=(Heads(128, 128, 4),)
)
LATENT = replace(EIGHT, latent=True)


def made(shape: Shape, parameters: int, cluster: Cluster, users: int, context: int = 8192) -> Spread | TooFewGpus:
    return spread(shape, parameters, cluster, users=users, context=context)


@pytest.mark.parametrize(
    ("parameters", "cluster", "users", "tensor", "pipeline", "copies"),
    [
        (8 * GB, Cluster(1, 1, 24 * GB), 1, 1, 1, 1),  # 16 GB of weights, 2 for work, 1.1 a request, in 21.6
        (8 * GB, Cluster(1, 2, 24 * GB), 3, 1, 1, 2),
        (8 * GB, Cluster(1, 2, 24 * GB), 4, 1, 1, 2),  # three in one copy
        (8 * GB, Cluster(1, 2, 24 * GB), 7, 2, 1, 1),  # six in two copies, ten in one that has the weights once
        (8 * GB, Cluster(1, 4, 16 * GB), 1, 2, 1, 2),
        (70 * GB, Cluster(1, 8, 24 * GB), 1, 8, 1, 1),
        (70 * GB, Cluster(2, 4, 24 * GB), 1, 4, 2, 1),  # more than one machine holds
        (8 * GB, Cluster(1, 3, 24 * GB), 1, 1, 1, 3),
        (16 * GB, Cluster(1, 3, 24 * GB), 1, 2, 1, 1),  # 32 heads aren't a multiple of 3
        (8 * GB, Cluster(8, 1, 24 * GB), 20, 1, 1, 8),  # copies instead of one that is spread over machines
    ],
)
def test_the_fewest_gpus(
    parameters: int, cluster: Cluster, users: int, tensor: int, pipeline: int, copies: int
) -> None:
    answer = made(EIGHT, parameters, cluster, users)
    assert isinstance(answer, Spread)
    assert (answer.tensor, answer.pipeline, answer.copies) == (tensor, pipeline, copies)
    assert answer.requests * answer.copies >= users
    whole = answer.weights_bytes + WORKING_BYTES + answer.requests * 8192 * answer.token_bytes
    assert whole <= answer.usable_bytes == cluster.gpu_bytes * 9 // 10


def test_too_few() -> None:
    answer = made(EIGHT, 70 * GB, Cluster(1, 4, 24 * GB), 1)
    assert isinstance(answer, TooFewGpus)
    needed = 35 * GB + WORKING_BYTES + 8192 * 32_768
    assert answer.short_by_bytes == needed - 24 * GB * 9 // 10


def test_as_many_more_bytes_as_are_said_would_do() -> None:
    cluster = Cluster(1, 4, 24 * GB)
    lacking = made(EIGHT, 70 * GB, cluster, 1)
    assert isinstance(lacking, TooFewGpus)
    enough = replace(cluster, gpu_bytes=cluster.gpu_bytes + -(-lacking.short_by_bytes * 10 // 9) + 1)
    assert isinstance(made(EIGHT, 70 * GB, enough, 1), Spread)


@pytest.mark.parametrize(
    ("shape", "tensor", "of_each"),
    [(EIGHT, 2, 65_536), (EIGHT, 8, 16_384), (EIGHT, 16, 16_384), (LATENT, 8, 131_072)],
)
def test_what_each_gpu_keeps_of_a_token(shape: Shape, tensor: int, of_each: int) -> None:
    """Eight heads are divided eight ways at most; a latent vector not at all."""
    assert token_bytes(shape) == 131_072
    parameters = tensor * 9 * GB  # so many that it takes all of them
    answer = made(shape, parameters, Cluster(1, tensor, 24 * GB), 1, context=16)
    assert isinstance(answer, Spread)
    assert (answer.tensor, answer.token_bytes) == (tensor, of_each)
