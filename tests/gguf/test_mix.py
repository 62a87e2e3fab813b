"""Weights told by a file's size, against what llama.cpp's own quantizer would write.

The expected bytes by type are ``llama_model_quantize`` with ``dry_run`` of llama-cpp-python 0.3.36 for files of these
shapes; ``tests/bench/weights_by_size.py`` compares more of them.
"""

from __future__ import annotations

import dataclasses
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl.gguf.header import read_header
from llmctl.gguf.mix import base_type, weights_by_size
from llmctl.gguf.quant import FILE_TYPES, WEIGHT_TYPE_BY_NAME
from llmctl.gguf.shape import weights
from llmctl.types.header import Header
from tests.fakes import gguf_file, real_tensors
from tests.properties import examples

LABELS = {
    "Q4_K_M": "Q4_K",
    "Q4_K_S": "Q4_K",
    "UD-Q4_K_XL": "Q4_K",
    "Q6_K_L": "Q6_K",
    "UD-IQ2_M": "IQ2_S",
    "IQ4_NL": "IQ4_NL",
    "IQ3_XXS": "IQ3_XXS",
    "UD-Q8_K_XL": "Q8_0",
    "MXFP4_MOE": "MXFP4",
    "q4_0": "Q4_0",
    "F16": "F16",
    "tiny-instruct": None,
    "": None,
}


@pytest.mark.parametrize(("label", "expected"), LABELS.items())
def test_the_type_that_a_label_means(label: str, expected: str | None) -> None:
    assert base_type(label) == expected


def test_every_label_of_llama_cpp_means_a_type() -> None:
    assert [label for label in FILE_TYPES.values() if base_type(label) is None] == []


def made(name: str, quant: str = "F16", head: str = "F16") -> Header:
    shape = dataclasses.replace(gguf_file.model_shape(name), quant=quant, head_quant=head, n_vocab=2048)
    return read_header(
        BytesIO(gguf_file.header(gguf_file.llama_metadata(shape), gguf_file.llama_tensors(shape))), size_bytes=None
    )


# (shape, label): bytes by type, of the token table where it is only looked up, and of all tensors
QUANTIZED = {
    ("smollm2-135m", "Q8_0"): ({"Q8_0": 114057216}, 0, 114197760),
    ("smollm2-135m", "Q6_K"): ({"Q8_0": 85856256, "Q6_K": 21772800}, 0, 107769600),
    ("smollm2-135m", "Q4_K_M"): (
        {"Q8_0": 2898432, "Q5_0": 53678592, "Q6_K": 10160640, "Q4_K": 7962624},
        0,
        74840832,
    ),
    ("smollm2-135m", "Q4_0"): ({"Q8_0": 1253376, "Q4_0": 59719680}, 0, 61113600),
    ("smollm2-135m", "Q3_K_L"): (
        {"Q8_0": 1253376, "Q4_0": 37324800, "Q5_1": 9953280, "Q5_K": 18247680},
        0,
        66919680,
    ),
    ("llama-2-7b", "Q8_0"): ({"Q8_0": 6889668608}, 8912896, 6899646464),
    ("llama-2-7b", "Q5_K_M"): ({"Q5_K": 3771727872, "Q6_K": 818872320}, 5767168, 4597432320),
    ("llama-2-7b", "Q4_K_M"): ({"Q4_K": 3085959168, "Q6_K": 818872320}, 4718592, 3910615040),
    ("llama-2-7b", "IQ4_XS"): (
        {"IQ4_XS": 3344564224, "Q5_K": 123994112, "Q6_K": 6881280},
        4456448,
        3480961024,
    ),
    ("llama-2-7b", "Q2_K"): ({"Q2_K": 1299185664, "Q3_K": 1081344000, "Q6_K": 6881280}, 2752512, 2391228416),
}


@pytest.mark.parametrize(("shape", "label"), QUANTIZED)
@pytest.mark.parametrize("quant", ["F16", "Q4_0"])
def test_weights_are_those_that_the_quantizer_would_write(shape: str, label: str, quant: str) -> None:
    by_type, embedding_bytes, data_bytes = QUANTIZED[shape, label]
    estimate = weights_by_size(made(shape, quant, "Q8_0" if quant == "Q4_0" else quant), label, data_bytes)
    assert estimate is not None and not estimate.exact
    assert estimate.total_bytes == pytest.approx(data_bytes, rel=1e-3)
    assert estimate.embedding_bytes == pytest.approx(embedding_bytes, rel=1e-2)
    moved = (
        sum(abs(by_type.get(name, 0) - estimate.type_bytes.get(name, 0)) for name in {*by_type, *estimate.type_bytes})
        / 2
    )
    assert moved <= 0.02 * data_bytes


def test_types_that_a_model_was_released_in_stay() -> None:
    header = made("tiny")
    experts = replace(header.tensors[7], name="blk.0.ffn_up_exps.weight", type="MXFP4", nbytes=64 * 128 // 32 * 17)
    header = replace(header, tensors=(*header.tensors[:7], experts, *header.tensors[8:]))
    stored = [
        tensor.nbytes if tensor is experts or len(tensor.shape) == 1 else tensor.nbytes * 17 // 32
        for tensor in header.tensors
    ]
    estimate = weights_by_size(header, "Q8_0", sum(stored))
    assert estimate is not None
    assert estimate.type_bytes == {
        "Q8_0": weights(made("tiny", "Q8_0", "Q8_0")).type_bytes["Q8_0"] - 8704,
        "MXFP4": 4352,
    }


@pytest.mark.parametrize(
    ("label", "data_bytes"),
    [
        ("Q4_K_M", 500_000_000),  # a larger model's
        ("Q4_K_M", 30_000_000),
        ("Q4_K_M", 0),
        ("Q4_K_M", -1),
        ("instruct", 70_000_000),
    ],
)
def test_a_file_of_another_model_is_recognised(label: str, data_bytes: int) -> None:
    assert weights_by_size(made("smollm2-135m"), label, data_bytes) is None


@examples(100)
@given(label=st.sampled_from(sorted(FILE_TYPES.values())), data_bytes=st.integers(-(2**63), 2**63))
def test_no_size_makes_it_fail(label: str, data_bytes: int) -> None:
    estimate = weights_by_size(made("tiny"), label, data_bytes)
    if estimate is not None:
        assert estimate.total_bytes == pytest.approx(data_bytes, rel=0.01)
        assert estimate.type_bytes.keys() <= WEIGHT_TYPE_BY_NAME.keys()
        assert all(size >= 0 for size in estimate.type_bytes.values())


def test_a_dynamic_mix_keeps_what_is_not_experts_in_8_bits() -> None:
    header = real_tensors.header("qwen3moe-30b", "Q4_K_M")
    size = weights(header).total_bytes
    plain, dynamic = weights_by_size(header, "Q4_K_M", size), weights_by_size(header, "UD-Q4_K_XL", size)
    whole = weights(real_tensors.header("qwen3moe-30b", "Q8_0"))
    assert plain is not None
    assert dynamic is not None
    beside = [weights.total_bytes - weights.expert_bytes for weights in (plain, dynamic, whole)]
    assert beside[0] < 0.75 * beside[1]
    assert beside[1] == beside[2]
    assert dynamic.total_bytes == pytest.approx(size, abs=1000)


def test_a_dynamic_mix_without_experts_is_as_any_other() -> None:
    header = real_tensors.header("qwen3-4b", "Q4_K_M")
    size = round(1.02 * weights(header).total_bytes)
    assert weights_by_size(header, "UD-Q4_K_M", size) == weights_by_size(header, "Q4_K_M", size)
