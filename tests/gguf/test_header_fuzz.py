"""Whatever is done to a header, reading it ends soon, in a Header or in an IntegrityError."""

from __future__ import annotations

import json
import struct
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl.errors import IntegrityError, UnsupportedFileError
from llmctl.gguf.header import MAX_ALIGNMENT, read_header
from llmctl.gguf.layers import INDEXED, RECURRENCES, WINDOWS
from llmctl.gguf.quant import quant_label
from llmctl.gguf.shape import shape, weights
from llmctl.planner import plan
from llmctl.types.header import Header, Scalar
from llmctl.types.plan import Want
from tests.fakes.gguf_file import TensorSpec, Value, header
from tests.planner.machines import EPYC, desktop, knowledge, made
from tests.properties import examples

TENSORS = [
    TensorSpec("token_embd.weight", (64, 10), "Q8_0"),
    TensorSpec("blk.0.attn_norm.weight", (64,), "F32"),
    TensorSpec("output.weight", (64, 10), "Q8_0"),
]
FIGURES: dict[str, Value] = {
    "general.architecture": "llama",
    "general.alignment": 32,
    "llama.block_count": 2,
    "llama.context_length": 512,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": [2, 1],
    "llama.rope.freq_base": 1e4,
    "tokenizer.ggml.tokens": ["a", "bc", "def"] * 4,
    "tokenizer.chat_template": "{{ messages }}",
}
RICH = header(FIGURES, TENSORS)
# the places where a number steers the reader, so that most mutations hit something that matters
HOT = [index for index, byte in enumerate(RICH) if byte == 0 and index % 4 == 0] + list(range(24))
STEERING = [0, 1, 8, 9, 255, 2**16, 2**31, 2**32 - 1, 2**32, 2**40, 2**63, 2**64 - 1]
NUMBERS = st.sampled_from(STEERING)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    raw = bytearray(RICH)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.one_of(st.sampled_from(HOT), st.integers(0, len(RICH) - 1))) % max(len(raw), 1)
        match draw(st.sampled_from(["byte", "u32", "u64", "delete", "insert", "cut"])):
            case "byte" if raw:
                raw[at] = draw(st.integers(0, 255))
            case "u32":
                raw[at : at + 4] = struct.pack("<I", draw(NUMBERS) & 0xFFFFFFFF)
            case "u64":
                raw[at : at + 8] = struct.pack("<Q", draw(NUMBERS))
            case "delete":
                del raw[at : at + draw(st.integers(1, 16))]
            case "insert":
                raw[at:at] = draw(st.binary(min_size=1, max_size=16))
            case _:
                del raw[max(at, 1) :]
    return bytes(raw)


@examples(600, deadline=1000, suppress_health_check=[HealthCheck.too_slow])
@given(raw=mutated(), sized=st.booleans())
def test_no_mutation_does_worse_than_an_integrity_error(raw: bytes, sized: bool) -> None:
    try:
        parsed = read_header(BytesIO(raw), size_bytes=len(raw) if sized else None)
    except (IntegrityError, UnsupportedFileError) as error:
        assert error.message.isprintable(), error.message
        return
    assert parsed.data_offset <= len(raw) + MAX_ALIGNMENT
    assert all(tensor.nbytes > 0 for tensor in parsed.tensors)
    assert quant_label(parsed)
    make_sense(parsed)


def make_sense(parsed: Header) -> None:
    try:
        facts, by_role = shape(parsed), weights(parsed)
    except IntegrityError as error:
        assert error.message.isprintable(), error.message
        return
    assert (
        min(facts.n_layer, facts.n_head + 1, facts.kv_width + 1, facts.kv_window_width + 1, facts.state_bytes + 1) >= 1
    )
    assert facts.window is None or facts.window > 0
    assert by_role.total_bytes >= sum(by_role.type_bytes.values()) + by_role.embedding_bytes
    like = made()
    candidate = replace(like, model=replace(like.model, shape=facts), artifact=replace(like.artifact, weights=by_role))
    for machine in (EPYC, desktop()):
        plan(machine, [candidate], Want(explicit=True), knowledge())


@examples(300, deadline=1000)
@given(raw=st.binary(max_size=200))
def test_no_bytes_after_the_magic_do_worse_either(raw: bytes) -> None:
    with pytest.raises((IntegrityError, UnsupportedFileError)):
        read_header(BytesIO(b"GGUF" + struct.pack("<I", 3) + raw), size_bytes=None)


FOUND = Path(__file__).parents[1] / "fixtures" / "headers"
TOLD: dict[str, str] = json.loads((FOUND / "expected.json").read_text())


@pytest.mark.parametrize("name", TOLD)
def test_what_mutations_have_found(name: str) -> None:
    """One of each kind out of 30,000 mutated headers: none took over 0.1 s, or more than 25 MB of memory."""
    raw = (FOUND / name).read_bytes()
    with pytest.raises(IntegrityError) as caught:
        read_header(BytesIO(raw), size_bytes=len(raw) if "weights" in name else None)
    assert caught.value.message == TOLD[name]


KEYS = [
    "block_count",
    "nextn_predict_layers",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length_swa",
    "attention.key_length_mla",
    "attention.value_length_mla",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.shared_kv_layers",
    "attention.recurrent_layers",
    "attention.indexer.key_length",
    "attention.indexer.types",
    "expert_count",
    "expert_used_count",
    "full_attention_interval",
    "ssm.conv_kernel",
    "ssm.inner_size",
    "wkv.head_size",
    "token_shift_count",
    "shortconv.l_cache",
    "kda.head_dim",
    "vocab_size",
]
ANY_NUMBER = st.one_of(st.integers(0, 100), st.integers(-(2**63), 2**64 - 1))
ANY_VALUE = st.one_of(
    ANY_NUMBER,
    st.floats(),
    st.booleans(),
    st.text(max_size=5),
    st.lists(st.integers(0, 4), max_size=9).map(tuple),
    st.lists(st.one_of(ANY_NUMBER, st.floats(), st.booleans()), max_size=9).map(tuple),
)
ARCHITECTURES = st.sampled_from(sorted({"llama", "bert", "dream"} | set(WINDOWS) | set(RECURRENCES) | INDEXED))
NEEDED = st.fixed_dictionaries(
    {key: st.integers(0, 9) for key in ("block_count", "context_length", "embedding_length", "attention.head_count")}
)


@examples(600, deadline=1000)
@given(architecture=ARCHITECTURES, needed=NEEDED, figures=st.dictionaries(st.sampled_from(KEYS), ANY_VALUE, max_size=6))
def test_no_figures_make_a_shape_fail_otherwise(
    architecture: str, needed: dict[str, int], figures: dict[str, Scalar | tuple[int | float | bool, ...]]
) -> None:
    metadata = {f"{architecture}.{key}": value for key, value in (needed | figures).items()}
    make_sense(Header(3, architecture, metadata, {}, read_header(BytesIO(RICH), size_bytes=None).tensors, 0))
