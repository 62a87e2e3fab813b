"""What llama.cpp's memory gives back of a sequence, with tiny models of each kind of memory."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from llmctl.engine.llama_cpp.batching import Scheduler
from llmctl.engine.llama_cpp.context import Context, DecodeError, Row
from llmctl.engine.llama_cpp.generation import Generation
from llmctl.engine.llama_cpp.loading import load
from llmctl.engine.llama_cpp.sampling import Sampler, SamplingOptions
from llmctl.struct import asdict
from llmctl.types.plan import Configuration
from tests.fakes.gguf_file import (
    Fill,
    TensorSpec,
    Value,
    header,
    llama_metadata,
    llama_tensors,
    model_shape,
    padded,
    write,
)

TINY = model_shape("tiny")
WIDTH, INNER = TINY.n_embd, 2 * TINY.n_embd
WINDOW = 32
LONG = 900  # tokens: beyond the window of a cache that llama.cpp rounds up to 256 slot and more
Tokens = list[int]
QUIET = llama_cpp.llama_log_callback(lambda level, text, data: None)


def tokenizer() -> dict[str, Value]:
    return {key: value for key, value in llama_metadata(TINY).items() if key.startswith("tokenizer.")}


def figures(architecture: str, **own: Value) -> dict[str, Value]:
    common: dict[str, Value] = {
        "block_count": 1,
        "context_length": 4096,
        "embedding_length": WIDTH,
        "vocab_size": TINY.n_vocab,
    }
    common |= {"attention.layer_norm_rms_epsilon": 1e-5}
    named = {f"{architecture}.{key.replace('__', '.')}": value for key, value in (common | own).items()}
    return {"general.architecture": architecture, **named, **tokenizer()}


def save(file: Path, metadata: Mapping[str, Value], block: Mapping[str, tuple[int, ...]]) -> Path:
    shapes = {"token_embd.weight": (WIDTH, TINY.n_vocab), "output_norm.weight": (WIDTH,)}
    shapes |= {f"blk.0.{name}": shape for name, shape in block.items()}
    source = np.random.default_rng(1)
    with file.open("wb") as out:
        out.write(header(metadata, [TensorSpec(name, shape, "F32") for name, shape in shapes.items()]))
        for name, shape in shapes.items():
            out.seek(padded(out.tell()))
            values = source.normal(0, 0.2, shape[::-1]) if len(shape) > 1 else np.ones(shape)
            values = -abs(values) if name.endswith("ssm_a") else values  # a state that fades
            out.write(values.astype(np.float32).tobytes())
    return file


def plain(file: Path) -> Path:
    return write(file, llama_metadata(TINY), llama_tensors(TINY), fill=Fill.RANDOM)


def recurrent(file: Path) -> Path:
    own: dict[str, Value] = {"feed_forward_length": 0, "attention__head_count": 0}
    own |= {"ssm__conv_kernel": 4, "ssm__inner_size": INNER, "ssm__state_size": 16, "ssm__time_step_rank": 4}
    block: dict[str, tuple[int, ...]] = {"attn_norm.weight": (WIDTH,), "ssm_in.weight": (WIDTH, 2 * INNER)}
    block |= {"ssm_conv1d.weight": (4, INNER), "ssm_conv1d.bias": (INNER,), "ssm_x.weight": (INNER, 4 + 2 * 16)}
    block |= {"ssm_dt.weight": (4, INNER), "ssm_dt.bias": (INNER,), "ssm_a": (16, INNER), "ssm_d": (INNER,)}
    return save(file, figures("mamba", **own), {**block, "ssm_out.weight": (INNER, WIDTH)})


def windowed(file: Path) -> Path:
    own: dict[str, Value] = {"feed_forward_length": WIDTH, "attention__head_count": 4, "attention__head_count_kv": 4}
    own |= {"attention__key_length": 16, "attention__value_length": 16, "attention__sliding_window": WINDOW}
    names = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    block: dict[str, tuple[int, ...]] = {f"{name}.weight": (WIDTH,) for name in names}
    block |= {"attn_q_norm.weight": (16,), "attn_k_norm.weight": (16,)}
    matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    block |= {f"{name}.weight": (WIDTH, WIDTH) for name in matrices}
    return save(file, figures("gemma3", **own), block)


def context_of(file: Path, sequences: int = 2) -> Context:
    llama_cpp.llama_log_set(QUIET, ctypes.c_void_p(0))
    settings = asdict(Configuration(1024, ubatch=64, sequences=sequences))
    return Context(load({"file": str(file), **settings}), {**settings, "threads": 1, "prefill_threads": 1})


def read(context: Context, sequence: int, tokens: Tokens, begin: int = 0) -> Any:
    """Computes what follows ``tokens``, of which the first ``begin`` are there."""
    last = len(tokens) - 1
    for first in range(begin, len(tokens), 64):
        chunk = range(first, min(first + 64, len(tokens)))
        context.decode([Row(tokens[at], at, sequence, at == last) for at in chunk])
    pointer = llama_cpp.llama_get_logits_ith(context.pointer, len(chunk) - 1)
    return np.ctypeslib.as_array(pointer, shape=(TINY.n_vocab,)).copy()


def text(length: int) -> Tokens:
    return [259 + 7 * at % 700 for at in range(length)]


@pytest.mark.parametrize(
    ("model", "length", "kept", "is_kept"),
    [
        (plain, LONG, LONG - 10, True),
        (plain, LONG, 1, True),
        (plain, LONG, LONG, True),
        (windowed, LONG, LONG - 10, True),
        (windowed, LONG, LONG, True),
        (windowed, LONG, 100, False),
        (windowed, 30, 10, True),
        (recurrent, 100, 90, False),
        (recurrent, 100, 100, True),
        (plain, 100, 0, True),
        (recurrent, 100, 0, True),
    ],
)
def test_what_is_kept(tmp_path: Path, model: Callable[[Path], Path], length: int, kept: int, is_kept: bool) -> None:
    """And what follows is what a sequence says that has read it all itself."""
    context = context_of(model(tmp_path / "model.gguf"))
    tokens = text(length)
    read(context, 0, tokens)
    assert context.keep(0, kept) is is_kept
    following = [*tokens[:kept], *text(20)]
    said = read(context, 0, following, kept if is_kept else 0)
    context.keep(1, 0)
    assert np.allclose(said, read(context, 1, following), atol=0.05)


@pytest.mark.parametrize("model", [plain, windowed])
def test_a_copy_goes_on_like_the_original(tmp_path: Path, model: Callable[[Path], Path]) -> None:
    context = context_of(model(tmp_path / "model.gguf"), sequences=3)
    tokens = text(LONG)
    read(context, 0, tokens)
    read(context, 1, text(50))
    context.copy(0, 1)
    assert context.keep(1, LONG - 5)
    following = [*tokens[: LONG - 5], *text(20)]
    assert np.allclose(read(context, 1, following, LONG - 5), read(context, 2, following), atol=0.05)
    assert context.keep(0, LONG), "the original is as it was"


@pytest.mark.parametrize(("model", "kept"), [(plain, LONG - 5), (windowed, LONG), (recurrent, LONG)])
def test_what_was_saved_goes_on_in_another_context(tmp_path: Path, model: Callable[[Path], Path], kept: int) -> None:
    file, saved, tokens = model(tmp_path / "model.gguf"), tmp_path / "saved", text(LONG)
    saved.touch(0o600)
    first, second = context_of(file), context_of(file)
    read(first, 1, tokens)
    assert first.save(1, tokens, saved)
    read(second, 0, text(50))
    assert second.load(0, tokens, saved) and second.keep(0, kept)
    following = [*tokens[:kept], *text(20)]
    assert np.allclose(read(second, 0, following, kept), read(first, 0, following), atol=0.05)
    assert not second.load(0, tokens[:-1], saved), "other tokens than were asked for"
    assert second.keep(0, 0) and not first.save(0, tokens, tmp_path / "nowhere" / "saved")


def test_a_token_that_does_not_exist_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    context = context_of(plain(tmp_path / "model.gguf"))
    read(context, 0, text(10))
    with pytest.raises(DecodeError, match="llama_decode returned -1"):
        context.decode([Row(text(11)[-1], 10, 0, True), Row(1 << 30, 0, 1, True)])
    assert context.keep(0, 10) and context.keep(1, 0)


def test_each_sequence_has_its_own_room(tmp_path: Path) -> None:
    assert [context_of(plain(tmp_path / "model.gguf"), sequences=count).length for count in (1, 4)] == [1024, 1024]


@pytest.mark.parametrize("model", [plain, windowed, recurrent])
def test_random_schedules(tmp_path: Path, model: Callable[[Path], Path]) -> None:
    """Requests that join and leave at random say what they say alone, and no sequence is lost. Rounding differs with
    the size of a batch: one answer of ten may turn at a word that was as likely."""
    file = model(tmp_path / "model.gguf")
    context = context_of(file, sequences=3)
    scheduler, alone = Scheduler(context, 3, waiting_limit=100), Scheduler(context_of(file, sequences=1), 1)
    vocabulary = llama_cpp.llama_model_get_vocab(llama_cpp.llama_get_model(context.pointer))
    source = random.Random(1)
    said: list[tuple[Generation, Tokens]] = []
    for _ in range(40):
        prompt = text(source.choice([0, 80, 200])) + [300 + source.randrange(500) for _ in range(source.randint(1, 30))]
        said.append(_generation(vocabulary, prompt, source.randint(1, 12)))
        scheduler.submit([said[-1][0]])
        if source.random() < 0.2:
            scheduler.cancel([source.choice(said)[0]])
        for _ in range(source.randint(0, 4)):
            scheduler.step()
    while scheduler.idle_s == 0:
        scheduler.step()
    assert len(scheduler.slots.free) == 3
    whole = [(generation, tokens) for generation, tokens in said if not generation.is_cancelled]
    assert len(whole) > 20
    differing = 0
    for generation, tokens in whole:
        same, expected = _generation(vocabulary, generation.prompt, len(tokens))
        alone.submit([same])
        while alone.idle_s == 0:
            alone.step()
        differing += tokens != expected
    assert differing <= len(whole) // 10


def _generation(vocabulary: Any, prompt: Sequence[int], most: int) -> tuple[Generation, Tokens]:
    tokens: Tokens = []

    def take(token: int) -> bool:
        tokens.append(token)
        return len(tokens) < most

    sampler = Sampler(vocabulary, SamplingOptions(temperature=0))
    return Generation(prompt, sampler, take, lambda error: None), tokens


class WrongAtTimes:
    """Drafts the known ``answer``, every third token of it wrong."""

    def __init__(self, answer: Tokens) -> None:
        self._answer, self._said = answer, 0

    def draft(self, others: int) -> Tokens:
        ahead = self._answer[self._said : self._said + 7]
        return [token + (at % 3 == 2) for at, token in enumerate(ahead[:-1])]

    def add(self, token: int) -> None:
        self._said += 1

    def took(self, rows: int, tokens: int, seconds: float) -> None: ...

    def end(self) -> None: ...


@pytest.mark.parametrize("model", [plain, windowed, recurrent])
def test_wrong_drafts_leave_no_trace_in_memory(tmp_path: Path, model: Callable[[Path], Path]) -> None:
    """Also behind a window that has moved on; what can't go back isn't asked to. Rounding as above."""
    context = context_of(model(tmp_path / "model.gguf"), sequences=1)
    vocabulary = llama_cpp.llama_model_get_vocab(llama_cpp.llama_get_model(context.pointer))
    scheduler, differing = Scheduler(context, 1), 0
    for length in (5, 50, 300, 600):
        answers: list[Tokens] = []
        for drafts in (False, True):
            generation, tokens = _generation(vocabulary, text(length), 40)
            generation.drafter = WrongAtTimes(answers[0]) if drafts else None
            scheduler.submit([generation])
            while scheduler.idle_s == 0:
                scheduler.step()
            assert (generation.work.drafted_tokens > 0) is (drafts and model is not recurrent)
            answers.append(tokens)
        differing += answers[0] != answers[1]
    assert differing <= 1
