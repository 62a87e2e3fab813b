"""The model that the worker has loaded: from a request to the chunks of its answer."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import io
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from llmctl.engine.llama_cpp.repetition import repeats
from llmctl.engine.llama_cpp.request import SEED_BITS, ChatRequest, RefusedError
from llmctl.engine.llama_cpp.template import Prompt, Renderer, TemplateError, plain
from llmctl.thoughts.marks import Marks, marks_for, opened_at_the_end
from llmctl.thoughts.splitter import ThoughtSplitter, keep
from llmctl.types.piece import Piece, PieceKind

BATCH = 512  # tokens that are handed over at once: the binding's own number
# Tokens that come faster than this go out together: nobody reads faster, and each time the reader wakes up it takes a
# core from threads that wait for each other at every layer.
TOGETHER_S = 0.03
LONGEST_TOKEN_BYTES = 256
ENDS_OF_MARKS = (">", "]", "▷")
GGML_LOG_LEVEL_ERROR = 4  # ggml.h, enum ggml_log_level
LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)  # ggml.h, ggml_log_callback


class FilePath(str):
    """A path that the binding encodes as the system does, whatever it asks for: a name may hold bytes that are not
    UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


class Model:
    """One loaded model and the lock that gives its single sequence to one request at a time."""

    def __init__(self, job: Mapping[str, Any], errors: deque[str], renderer: Renderer) -> None:
        import llama_cpp

        from llmctl.engine.llama_cpp.footprint import Footprint
        from llmctl.engine.llama_cpp.loading import KV_TYPES, loads_as
        from llmctl.engine.measure.preemption import Preemption

        self.name = str(job["model"])
        self._turn = threading.Lock()
        self._renderer = renderer

        def keep_errors(level: int, text: bytes, _: object) -> None:
            if level == GGML_LOG_LEVEL_ERROR:
                errors.append(text.decode("utf-8", "replace").strip())

        self._log = LOG_CALLBACK(keep_errors)  # ctypes does not hold a reference for us
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        self._footprint = Footprint()
        # verbose=True keeps llama-cpp-python from pointing our file descriptors at /dev/null, which would swallow
        # the last words of a crash; what it prints itself in that mode is of no use to anybody.
        with contextlib.redirect_stderr(io.StringIO()), loads_as(job):
            self._llama: Any = llama_cpp.Llama(
                model_path=FilePath(job["file"]),
                n_ctx=int(job["context"]),
                n_threads=int(job["threads"]),
                n_threads_batch=int(job["prefill_threads"]),
                n_ubatch=int(job["ubatch"]),
                n_batch=max(int(job["ubatch"]), BATCH),
                type_k=KV_TYPES[job["kv_type"]],
                type_v=KV_TYPES[job["kv_type"]],
                flash_attn=bool(job["flash_attention"]),
                swa_full=bool(job["swa_full"]),
                verbose=True,
            )
        self._llama.verbose = False
        self._preemption = Preemption()
        self.build = ", ".join(filter(None, (f"llama-cpp-python {llama_cpp.__version__}", self._footprint.build)))
        self._template: str | None = self._llama.metadata.get("tokenizer.chat_template")
        if self._template is not None:
            renderer.prepare(self._template)
        self._vocabulary = Vocabulary(self._llama, self.name, self._template or "")

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    def stream(self, request: ChatRequest) -> Iterator[dict[str, Any]]:
        """The chunks of one chat completion; the last one carries usage and timings. Raises RefusedError."""
        import llama_cpp

        prompt = self._prompt(request)
        tokens = self._tokens(prompt)
        with self._turn:
            llama_cpp.llama_perf_context_reset(self._llama.ctx)
            self._preemption.begin()
            if prompt.note is not None:
                yield {**self._chunk({}, None), "notes": [prompt.note]}
            opened = None
            if not prompt.is_plain:
                end = _behind_the_last_message(prompt.text, request.messages, self._vocabulary.rows)
                opened = opened_at_the_end(end, self._vocabulary.rows)
            answer = _Answer(self._vocabulary, opened, request.stop)
            yield from self._batches(self._decoded(tokens, request, answer), answer)
            yield self._last(len(tokens), answer)

    def _prompt(self, request: ChatRequest) -> Prompt:
        if self._template is None:
            return Prompt(plain(request.messages), is_plain=True)
        variables = dict(request.variables)
        if "enable_thinking" in variables:
            variables.setdefault("thinking", variables["enable_thinking"])  # DeepSeek's and Granite's name for it
        variables |= {"bos_token": self._vocabulary.bos, "eos_token": self._vocabulary.eos}
        has_chatml = self._vocabulary.has_chatml
        try:
            return self._renderer.render(self._template, request.messages, variables, has_chatml=has_chatml)
        except TemplateError as error:
            raise RefusedError(400, "template", f"the model's chat template {error}") from error

    def _tokens(self, prompt: Prompt) -> list[int]:
        context = self._llama.n_ctx()
        text = prompt.text.encode("utf-8", "replace")
        if len(text) > context * LONGEST_TOKEN_BYTES:  # tokenizing it would take long, to the same end
            raise _too_long(f"more than {context:,}", context)
        add_bos = prompt.is_plain or prompt.note is not None  # a template writes it by itself
        tokens: list[int] = self._llama.tokenize(text, add_bos=add_bos, special=not prompt.is_plain)
        if len(tokens) >= context:
            raise _too_long(f"{len(tokens):,}", context)
        return tokens

    def _decoded(self, tokens: list[int], request: ChatRequest, answer: _Answer) -> Iterator[list[Piece]]:
        """Token by token, what has become certain of the answer; ``answer.finish`` tells how it ended."""
        seed = request.seed
        if seed is None:  # as the binding does
            seed = random.Random(self._llama._seed).randint(0, SEED_BITS)  # noqa: S311
        self._llama.set_seed(seed)
        room = self._llama.n_ctx() - len(tokens)
        most = min(request.max_tokens or room, room)
        for token in self._llama.generate(tokens, **request.sampling):
            answer.sampled += 1
            if self._vocabulary.ends(token) and not answer.closes_thought(token):
                answer.finish = "stop"
                break
            yield answer.add(token)
            if answer.finish is None and len(answer.tokens) >= most:
                answer.finish = "length"
            if answer.finish is None and request.max_tokens is None and repeats(answer.tokens):
                answer.finish = "repetition"
            if answer.finish is not None:
                break
        yield answer.end()

    def _batches(self, decoded: Iterator[list[Piece]], answer: _Answer) -> Iterator[dict[str, Any]]:
        waiting: list[Piece] = []
        sent = 0.0
        for pieces in decoded:
            waiting += pieces
            now = time.perf_counter()
            if waiting and now - sent >= TOGETHER_S:
                yield from self._chunks(waiting)
                waiting, sent = [], now
        yield from self._chunks(waiting)
        yield self._chunk({}, answer.finish or "length")

    def _chunks(self, pieces: list[Piece]) -> Iterator[dict[str, Any]]:
        for kind, some in groupby(pieces, key=lambda piece: piece.kind):
            if kind is PieceKind.THOUGHTS_SO_FAR:
                yield {**self._chunk({}, None), "thoughts_so_far": True}
            else:
                name = "content" if kind is PieceKind.TEXT else "reasoning_content"
                yield self._chunk({name: "".join(piece.text for piece in some)}, None)

    def _chunk(self, delta: Mapping[str, str], finish: str | None) -> dict[str, Any]:
        return {
            "object": "chat.completion.chunk",
            "model": self.name,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }

    def _last(self, prompt_tokens: int, answer: _Answer) -> dict[str, Any]:
        """Usage, llama.cpp's own clock, and what it all has added to memory. The last token that was sampled has not
        been evaluated. llama.cpp counts a single token of a prompt, of which the cache held the rest, as decoded, and
        says 1 where it has counted none."""
        import llama_cpp

        perf = llama_cpp.llama_perf_context(self._llama.ctx)
        decoded = max(answer.sampled - 1, 0)
        completion_tokens = len(answer.tokens)
        return {
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
            "timings": {
                "prompt_n": perf.n_p_eval + (max(perf.n_eval - decoded, 0) if decoded else 0),
                "prompt_ms": perf.t_p_eval_ms,
                "predicted_n": decoded,
                "predicted_ms": perf.t_eval_ms,
                "preempted_per_s": self._preemption.per_s(),
            },
            "memory": self._footprint.added(),
        }


class Vocabulary:
    """The tokens of a model as an answer is made of them."""

    def __init__(self, llama: Any, name: str, template: str) -> None:
        self._llama = llama
        self._buffer = ctypes.create_string_buffer(LONGEST_TOKEN_BYTES)
        self.rows = marks_for(name)
        self.lone = [row for row in self.rows if row.stands_in(template) or self._is_token(row.close[0])]
        self.bos, self.eos = self.text(llama.token_bos()), self.text(llama.token_eos())
        self._marks: dict[int, str] = {}

    @property
    def has_chatml(self) -> bool:
        return self._is_token("<|im_start|>")

    def _is_token(self, text: str) -> bool:
        return len(self._tokens(text)) == 1

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._llama.tokenize(text.encode(), add_bos=False, special=True)
        return tokens

    def text(self, token: int) -> str:
        """A token's text even if it is a control token; empty for no token."""
        return self._piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    def ends(self, token: int) -> bool:
        import llama_cpp

        return bool(llama_cpp.llama_vocab_is_eog(self._llama._model.vocab, token))

    def bytes_of(self, token: int) -> bytes:
        """What a token is in text: nothing for a control token."""
        return self._piece(token, special=False)

    def _piece(self, token: int, *, special: bool) -> bytes:
        """The binding's own function loses tokens of more than 32 bytes."""
        import llama_cpp

        vocab = self._llama._model.vocab
        length = llama_cpp.llama_token_to_piece(vocab, token, self._buffer, len(self._buffer), 0, special)
        if length < 0:
            self._buffer = ctypes.create_string_buffer(-length)
            length = llama_cpp.llama_token_to_piece(vocab, token, self._buffer, -length, 0, special)
        return self._buffer.raw[:length]

    def mark(self, token: int) -> str:
        """The text of a control token if it is, or is part of, a mark of thoughts that this model uses; else empty."""
        if token not in self._marks:
            text = self.text(token)
            used = [row for row in self.rows if any(text in mark for mark in row.all)] if len(text) > 2 else []
            self._marks[token] = text if any(self._uses(row) for row in used) else ""
        return self._marks[token]

    def _uses(self, row: Marks) -> bool:
        """Whether a mark of the row begins with a token of its own, as no text does that was cut into words."""
        marks = (*row.open, *row.close) if row.lone_close else row.open
        return any(self.text(token).endswith(ENDS_OF_MARKS) for mark in marks for token in self._tokens(mark)[:1])


@dataclass
class _Answer:
    """What has been sampled, and what of it is certain."""

    vocabulary: Vocabulary
    opened: Marks | None
    stop: tuple[str, ...]
    tokens: list[int] = field(default_factory=list)
    sampled: int = 0
    finish: str | None = None

    def __post_init__(self) -> None:
        rows = self.vocabulary.rows
        self._splitter = ThoughtSplitter(rows, opened=self.opened, lone=self.vocabulary.lone)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # the beginning of what may be a text to stop at
        self._stopped = False
        self._control: set[str] = set()

    def closes_thought(self, token: int) -> bool:
        """Whether a token that ends an answer ends a thought here: <|end|> does both."""
        return self.vocabulary.text(token) in self._splitter.closes

    def add(self, token: int) -> list[Piece]:
        self.tokens.append(token)
        written = self.vocabulary.bytes_of(token)
        if not written and (mark := self.vocabulary.mark(token)):
            self._control.add(mark)
            return self._certain(self._splitter.feed(self._decoder.decode(b"", final=True) + mark))
        return self._certain(self._splitter.feed(self._decoder.decode(written)))

    def end(self) -> list[Piece]:
        pieces = self._splitter.feed(self._decoder.decode(b"", final=True))
        pieces = self._certain([*pieces, *self._splitter.end(complete=self.finish == "stop")])
        held, self._held = self._held, ""
        return [*pieces, Piece(PieceKind.TEXT, held)] if held else pieces

    def _certain(self, pieces: list[Piece]) -> list[Piece]:
        """Without control tokens that were no mark where they stood, and cut at the texts to stop at."""
        certain = []
        for piece in pieces:
            text = piece.text
            for mark in self._control:
                text = text.replace(mark, "")
            if piece.kind is PieceKind.TEXT and self.stop:
                text = self._until_stop(text)
            if text or piece.kind is PieceKind.THOUGHTS_SO_FAR:
                certain.append(Piece(piece.kind, text))
        return certain

    def _until_stop(self, text: str) -> str:
        if self._stopped:
            return ""
        text, self._held = self._held + text, ""
        at = min((at for at in map(text.find, self.stop) if at >= 0), default=-1)
        if at >= 0:
            self.finish, self._stopped = "stop", True
            return text[:at]
        certain, self._held = keep(text, self.stop)
        return certain


def _behind_the_last_message(prompt: str, messages: Sequence[Mapping[str, str]], rows: Sequence[Marks]) -> str:
    """What the template has written behind the last message, in which there may be anything. Marks are no part of
    its words: "hi" is not the middle of <think>."""
    marks = [mark for row in rows for mark in (*row.open, *row.close)]
    masked, said = prompt, messages[-1]["content"].strip()
    for mark in marks:
        masked, said = (text.replace(mark, "\0" * len(mark)) for text in (masked, said))
    at = masked.rfind(said) if said else -1
    return prompt if at < 0 else prompt[at + len(said) :]


def _too_long(tokens: str, context: int) -> RefusedError:
    return RefusedError(400, "context_length_exceeded", f"the prompt is {tokens} tokens, local context is {context:,}")
