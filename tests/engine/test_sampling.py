"""The next token, chosen by llama.cpp's own samplers from the logits of a model of random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llmctl.engine.llama_cpp.refused import RefusedError
from llmctl.engine.llama_cpp.sampling import Sampler, SamplingOptions
from tests.fakes.gguf_file import Fill, llama_metadata, llama_tensors, model_shape, write

TINY = model_shape("tiny")
PROMPT = b"The capital of France is"
TOKENS = 8


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import llama_cpp

    file = tmp_path_factory.mktemp("model") / "model.gguf"
    write(file, llama_metadata(TINY), llama_tensors(TINY), fill=Fill.RANDOM)
    model = llama_cpp.Llama(str(file), n_ctx=128, n_threads=1, n_threads_batch=1, verbose=False)
    yield model
    model.close()


def sampler(llama: Any, **options: Any) -> Sampler:
    return Sampler(llama._model.vocab, SamplingOptions(**options))


def answered(llama: Any, sampler: Sampler, most: int = TOKENS) -> list[int]:
    llama.reset()
    llama.eval(llama.tokenize(PROMPT))
    tokens: list[int] = []
    while len(tokens) < most:
        tokens.append(sampler.sample(llama.ctx, -1))
        if tokens[-1] == llama.token_eos():
            break
        llama.eval(tokens[-1:])
    return tokens


def text(llama: Any, tokens: list[int]) -> str:
    written: bytes = llama.detokenize(tokens)
    return written.decode()


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 1},
        {"seed": 2, "top_k": 5, "top_p": 0.5},
        {"seed": 3, "min_p": 0.2, "temperature": 2.0},
        {"seed": 4, "temperature": 1.5, "repeat_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": 0.5},
        {"temperature": 0.0},
        {"temperature": 0.0, "repeat_penalty": 1.5},
    ],
)
def test_the_binding_chooses_the_same_tokens(llama: Any, options: dict[str, Any]) -> None:
    with sampler(llama, **options) as ours:
        said = answered(llama, ours)
    llama.set_seed(options.get("seed", 0))
    given = {"temp" if name == "temperature" else name: value for name, value in options.items() if name != "seed"}
    theirs = [token for token, _ in zip(llama.generate(llama.tokenize(PROMPT), **given), range(TOKENS), strict=False)]
    assert said == theirs[: len(said)]


def test_a_seed_gives_the_same_tokens_whatever_another_sequence_draws(llama: Any) -> None:
    llama.reset()
    llama.eval(llama.tokenize(PROMPT))
    with sampler(llama, seed=7, temperature=3.0) as alone:
        expected = [alone.sample(llama.ctx, -1) for _ in range(20)]
    with sampler(llama, seed=7, temperature=3.0) as first, sampler(llama, seed=8, temperature=3.0) as second:
        drawn = [(first.sample(llama.ctx, -1), second.sample(llama.ctx, -1)) for _ in range(20)]
    assert [pair[0] for pair in drawn] == expected
    assert [pair[1] for pair in drawn] != expected


def test_no_seed_is_any_seed(llama: Any) -> None:
    llama.reset()
    llama.eval(llama.tokenize(PROMPT))
    drawn = set()
    for _ in range(3):
        with sampler(llama, temperature=5.0, top_k=0, top_p=1.0, min_p=0.0) as first:
            drawn.add(tuple(first.sample(llama.ctx, -1) for _ in range(8)))
    assert len(drawn) == 3


def test_a_bias_forbids_and_forces(llama: Any) -> None:
    with sampler(llama, temperature=0) as plain:
        (likeliest,) = answered(llama, plain, 1)
    with sampler(llama, temperature=0, logit_bias={likeliest: -100.0}) as forbidding:
        assert answered(llama, forbidding, 1) != [likeliest]
    with sampler(llama, seed=1, logit_bias={300: 100.0}) as forcing:
        assert answered(llama, forcing, 3) == [300, 300, 300]


@pytest.mark.parametrize("token", [-1, 1 << 40])
def test_a_bias_for_no_token_is_refused(llama: Any, token: int) -> None:
    with pytest.raises(RefusedError, match="logit_bias"):
        sampler(llama, logit_bias={token: 1.0})


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"seed": 1}, {"seed": 2, "temperature": 3.0}])
def test_a_grammar_is_followed(llama: Any, options: dict[str, Any]) -> None:
    grammar = 'root ::= "{\\"name\\": \\"" [a-z]{3,8} "\\"}"'
    with sampler(llama, **options, grammar=grammar) as first:
        tokens = answered(llama, first, 40)
    assert tokens[-1] == llama.token_eos()
    assert json.loads(text(llama, tokens[:-1]))["name"].islower()


def test_a_grammar_waits_until_it_counts(llama: Any) -> None:
    with sampler(llama, temperature=0.0, grammar='root ::= "42"') as first, sampler(llama, temperature=0.0) as plain:
        first.is_free = True
        free = answered(llama, first, 4)
        assert free == answered(llama, plain, 4)
        first.is_free = False
        assert text(llama, answered(llama, first)[:-1]) == "42"


@pytest.mark.parametrize(
    "grammar", ["", " ", 'root ::= "a" \0', 'other ::= "x"', "root ::= root", 'root ::= missing "x"', "{"]
)
def test_a_grammar_that_is_none_is_refused(llama: Any, grammar: str) -> None:
    with pytest.raises(RefusedError, match="grammar"):
        sampler(llama, grammar=grammar)


def test_a_bias_against_all_that_a_grammar_allows_loses(llama: Any) -> None:
    digits = {llama.tokenize(digit.encode(), add_bos=False)[0]: -100.0 for digit in "0123456789"}
    with sampler(llama, temperature=0.0, grammar="root ::= [0-9]", logit_bias=digits) as first:
        assert text(llama, answered(llama, first)[:-1]).isdecimal()


def test_the_same_grammar_may_be_followed_by_two(llama: Any) -> None:
    options = {"seed": 1, "grammar": 'root ::= "yes" | "no"'}
    with sampler(llama, **options) as first, sampler(llama, **options) as second:
        assert answered(llama, first) == answered(llama, second)


def test_logprobs_are_of_the_raw_distribution(llama: Any) -> None:
    import numpy as np

    llama.reset()
    llama.eval(llama.tokenize(PROMPT))
    with sampler(llama, temperature=0.0) as first:
        token = first.sample(llama.ctx, -1)
        logprobs = first.logprobs(llama.ctx, -1, token, 5)
        everything = first.logprobs(llama.ctx, -1, token, llama.n_vocab())
        assert first.logprobs(llama.ctx, -1, token, 0).top == ()
    assert len(logprobs.top) == 5
    assert logprobs.top[0] == (token, logprobs.logprob)
    assert list(logprobs.top) == sorted(logprobs.top, key=lambda pair: -pair[1])
    assert np.exp([logprob for _, logprob in everything.top]).sum() == pytest.approx(1)


def test_closing_twice_does_no_harm(llama: Any) -> None:
    first = sampler(llama, grammar='root ::= "x"')
    first.close()
    first.close()
