"""Chooses the next token of one sequence, by llama.cpp's own samplers.

Each sequence has a sampler of its own: its random numbers, penalties and grammar depend on nothing that other sequences
do. The order of the chain and its defaults are those of llama-cpp-python's ``Llama.generate``.
"""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Mapping
from itertools import starmap
from typing import Any, Self

from msgspec import Struct, field
from msgspec.structs import replace

from llmctl.engine.llama_cpp.native_log import silence
from llmctl.engine.llama_cpp.refused import invalid

PENALIZED_TOKENS = 64  # the last tokens of the answer that the penalties look at
SEED_BITS = 0xFFFFFFFF  # as a seed, llama.cpp takes it for "any"
LOGIT_BIAS_LIMIT = 100.0


class NoTokenError(Exception):
    """No token of the model continues what its grammar allows."""


class SamplingOptions(Struct, frozen=True):
    """``seed`` None: any. ``logit_bias``: token -> what is added to its logit. ``grammar``: GBNF, its rule ``root``.
    ``top_logprobs``: how many likely tokens are told beside each one that was chosen; None: no logprobs."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    grammar: str | None = None
    top_logprobs: int | None = None

    @property
    def takes_likeliest(self) -> bool:
        """Whether nothing but the logits says which token comes."""
        penalties = (self.repeat_penalty, self.frequency_penalty, self.presence_penalty)
        is_plain = penalties == (1.0, 0.0, 0.0) and not self.logit_bias and self.grammar is None
        return is_plain and self.temperature == 0

    def for_choice(self, index: int) -> SamplingOptions:
        """Those of one of several answers to the same request, each of which has a seed of its own."""
        return self if self.seed is None or not index else replace(self, seed=(self.seed + index) & SEED_BITS)


class Logprobs(Struct, frozen=True):
    """Natural logarithms of probabilities before any option changes them. ``top``: the likeliest tokens, in order."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Sampler:
    """``vocab`` is llama.cpp's pointer. Raises RefusedError for options that this model can't follow. Not for two
    threads at once; has to be closed.

    ``is_free``: the grammar waits, as it does while the model thinks. ``last_logprobs``: of the token chosen last.
    """

    def __init__(self, vocab: Any, options: SamplingOptions) -> None:
        import llama_cpp

        self._size = llama_cpp.llama_vocab_n_tokens(vocab)
        self.is_free = False
        self.last_logprobs: Logprobs | None = None
        self._top_logprobs = options.top_logprobs
        self._takes_likeliest = options.takes_likeliest
        self._grammar = None if options.grammar is None else _Grammar(vocab, options.grammar, self._size)
        try:
            self._chain: Any = _chain(self._size, options)
        except BaseException:
            self._free_grammar()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees llama.cpp's memory; may be called again."""
        import llama_cpp

        self._free_grammar()
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None

    def _free_grammar(self) -> None:
        if self._grammar is not None:
            self._grammar.close()
            self._grammar = None

    def sample(self, context: Any, row: int) -> int:
        """The next token by the logits of the batch's ``row``, which counts as said from here on. Raises
        NoTokenError."""
        token = self._chosen(context, row)
        if self._top_logprobs is not None:
            self.last_logprobs = self.logprobs(context, row, token, self._top_logprobs)
        return token

    def _chosen(self, context: Any, row: int) -> int:
        import llama_cpp

        if self._takes_likeliest:
            return self._likeliest(context, row)
        if self._grammar is None or self.is_free:
            token: int = llama_cpp.llama_sampler_sample(self._chain, context, row)
            return token
        token = self._grammar.choose(self._chain, llama_cpp.llama_get_logits_ith(context, row))
        llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def _likeliest(self, context: Any, row: int) -> int:
        """As the chain would choose it, which lists all tokens first: 0.2 ms for those of a large vocabulary."""
        import llama_cpp
        import numpy as np

        pointer = llama_cpp.llama_get_logits_ith(context, row)
        return int(np.ctypeslib.as_array(pointer, shape=(self._size,)).argmax())

    def logprobs(self, context: Any, row: int, token: int, top: int) -> Logprobs:
        import llama_cpp
        import numpy as np

        pointer = llama_cpp.llama_get_logits_ith(context, row)
        logits = np.ctypeslib.as_array(pointer, shape=(self._size,)).astype(np.float64)
        highest = logits.max()
        logarithms = logits - (highest + np.log(np.exp(logits - highest).sum()))
        likeliest = np.argpartition(-logits, min(top, self._size - 1))[:top]
        ordered = sorted(((int(at), float(logarithms[at])) for at in likeliest), key=lambda pair: (-pair[1], pair[0]))
        return Logprobs(token, float(logarithms[token]), tuple(ordered))


def _chain(size: int, options: SamplingOptions) -> Any:
    import llama_cpp as lib

    biased = _biased(size, options.logit_bias)
    seed = secrets.randbits(32) if options.seed is None else options.seed & SEED_BITS
    penalties = (options.repeat_penalty, options.frequency_penalty, options.presence_penalty)
    parts = [lib.llama_sampler_init_logit_bias(size, len(options.logit_bias), biased)] if options.logit_bias else []
    parts.append(lib.llama_sampler_init_penalties(size, PENALIZED_TOKENS, *penalties))
    if options.temperature == 0:
        parts.append(lib.llama_sampler_init_greedy())
    else:
        parts += [
            lib.llama_sampler_init_top_k(options.top_k),
            lib.llama_sampler_init_top_p(options.top_p, 1),
            lib.llama_sampler_init_min_p(options.min_p, 1),
            lib.llama_sampler_init_temp(options.temperature),
            lib.llama_sampler_init_dist(seed),
        ]
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for part in parts:
        lib.llama_sampler_chain_add(chain, part)
    return chain


def _biased(size: int, bias: Mapping[int, float]) -> Any:
    """Raises RefusedError for a token that the model doesn't have: llama.cpp would pass over it."""
    import llama_cpp

    if unknown := [token for token in bias if not 0 <= token < size]:
        raise invalid(f"logit_bias: {unknown[0]} is no token of this model, which has {size:,}")
    return (llama_cpp.llama_logit_bias * len(bias))(*starmap(llama_cpp.llama_logit_bias, bias.items()))


class _Grammar:
    """What the answer may be. Tried on the chosen token first: asking for the whole vocabulary takes long."""

    def __init__(self, vocab: Any, text: str, size: int) -> None:
        import llama_cpp
        import numpy as np

        given = text.encode("utf-8", "replace")  # llama.cpp takes an empty text for no grammar, and reads until a NUL
        usable = bool(given.strip()) and b"\0" not in given
        with silence():  # it shows a grammar that it can't read
            self._sampler: Any = usable and llama_cpp.llama_sampler_init_grammar(vocab, given, b"root")
        if not self._sampler:
            raise invalid("grammar is no GBNF that llama.cpp can read, or its rules begin with themselves")
        self._size = size
        token = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        self._candidates = np.zeros(size, token)

    def close(self) -> None:
        import llama_cpp

        llama_cpp.llama_sampler_free(self._sampler)

    def choose(self, chain: Any, logits: Any) -> int:
        """The chain's choice, among all that the grammar allows; it has accepted that token. Raises NoTokenError."""
        import llama_cpp

        token = self._chosen(chain, self._filled(logits))
        if not self._allows(token):
            candidates = self._filled(logits)
            llama_cpp.llama_sampler_apply(self._sampler, ctypes.byref(candidates))
            if self._candidates["logit"].max() == float("-inf"):
                raise NoTokenError("no token of this model continues what the grammar allows")
            token = self._chosen(chain, candidates)
        llama_cpp.llama_sampler_accept(self._sampler, token)  # it ends the process for a token that it doesn't allow
        return token

    def _filled(self, logits: Any) -> Any:
        import llama_cpp
        import numpy as np

        self._candidates["id"] = np.arange(self._size)
        self._candidates["logit"] = np.ctypeslib.as_array(logits, shape=(self._size,))
        data = self._candidates.ctypes.data_as(llama_cpp.llama_token_data_p)
        return llama_cpp.llama_token_data_array(data, self._size, -1, False)

    def _chosen(self, chain: Any, candidates: Any) -> int:
        import llama_cpp

        llama_cpp.llama_sampler_apply(chain, ctypes.byref(candidates))
        return int(candidates.data[candidates.selected].id)

    def _allows(self, token: int) -> bool:
        import llama_cpp

        data = llama_cpp.llama_token_data(token, 1.0, 0.0)
        candidate = llama_cpp.llama_token_data_array(ctypes.pointer(data), 1, -1, False)
        llama_cpp.llama_sampler_apply(self._sampler, ctypes.byref(candidate))
        return bool(data.logit != float("-inf"))
