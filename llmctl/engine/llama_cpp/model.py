"""The model that the worker has loaded: from a request to the chunks of its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from llmctl.engine.llama_cpp.answer import SampledAnswer, behind_the_last_message
from llmctl.engine.llama_cpp.batching import Scheduler
from llmctl.engine.llama_cpp.completion import Completion
from llmctl.engine.llama_cpp.context import Context
from llmctl.engine.llama_cpp.conversation import Choose, Tools
from llmctl.engine.llama_cpp.draft_model import DraftModel
from llmctl.engine.llama_cpp.loading import load
from llmctl.engine.llama_cpp.metadata import text_of
from llmctl.engine.llama_cpp.mixed_prompt import NO_PICTURES, PromptPictures
from llmctl.engine.llama_cpp.native_log import NativeLog
from llmctl.engine.llama_cpp.pictures import MARKER, Picture
from llmctl.engine.llama_cpp.pooling import pooled
from llmctl.engine.llama_cpp.projector import CutPart, VisionProjector
from llmctl.engine.llama_cpp.prompt_cache import PromptCache, identity_of
from llmctl.engine.llama_cpp.refused import RefusedError, invalid
from llmctl.engine.llama_cpp.rendering import RenderedPrompt, TemplateError, plain
from llmctl.engine.llama_cpp.request import ChatRequest, WritingRequest
from llmctl.engine.llama_cpp.rerank import Reranker
from llmctl.engine.llama_cpp.sampling import Sampler, SamplingOptions
from llmctl.engine.llama_cpp.speculation import StepCosts
from llmctl.engine.llama_cpp.template import Renderer
from llmctl.engine.llama_cpp.text_completion import TextChunks, TextCompletionRequest
from llmctl.engine.llama_cpp.tool_formats import forced, format_of
from llmctl.engine.llama_cpp.tools import ToolParser
from llmctl.engine.llama_cpp.vocabulary import LONGEST_TOKEN_BYTES, Vocabulary
from llmctl.engine.llama_cpp.wire import Chunks
from llmctl.thoughts.marks import Marks, opened_at_the_end

CHAT_TEMPLATE, RERANK_TEMPLATE = b"tokenizer.chat_template", b"tokenizer.chat_template.rerank"


class LoadedModel:
    """One loaded model, and the thread that computes for all requests."""

    def __init__(
        self, job: Mapping[str, Any], renderer: Renderer, tell: Callable[[float], None], log: NativeLog
    ) -> None:
        """``tell`` hears how much is loaded, ``log`` the projector's lines."""
        import llama_cpp

        from llmctl.engine.llama_cpp.footprint import Footprint

        self.name = str(job["model"])
        self._renderer = renderer
        self._footprint = Footprint()
        model = load(job, tell)
        self._context = Context(model, job)
        self.build = ", ".join(filter(None, (f"llama-cpp-python {llama_cpp.__version__}", self._footprint.build)))
        self._template = text_of(model, CHAT_TEMPLATE)
        if self._template is not None:
            renderer.prepare(self._template)
        self._rendering = threading.Lock()
        self._tool_format = format_of(self._template or "")
        self.vocabulary = Vocabulary(llama_cpp.llama_model_get_vocab(model), self.name, self._template or "")
        self.pooled = pooled(model, self._context, self.vocabulary, int(job["ubatch"]))
        self.reranker: Reranker | None = None
        if self.pooled is not None and self.pooled.ranks:
            self.reranker = Reranker(self.pooled, self.vocabulary, text_of(model, RERANK_TEMPLATE))
        self._projector = None if job.get("projector") is None else VisionProjector(job, model, log)
        draft = job.get("draft")
        self._draft_model = None if draft is None else DraftModel(draft, self.vocabulary, str(job["file"]))
        self._uses_cache = bool(job.get("prompt_cache", True))
        self._costs = StepCosts()
        self._prompt_cache = PromptCache(identity_of(job, self.build), can_cut=self._context.can_cut_saved)
        self.scheduler = Scheduler(self._context, int(job["sequences"]))
        threading.Thread(target=self.scheduler.run, daemon=True).start()

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    def stream(self, request: ChatRequest, is_gone: Callable[[], bool]) -> Generator[dict[str, Any], None, None]:
        """The chunks of one chat completion; the last one carries usage and timings. ``is_gone``: whether the client
        has left. Raises RefusedError, BusyError, ClientGoneError, and whatever ends an answer."""

        self._require_writing("messages")
        with self.scheduler.arrivals.coming():
            prompt = self._prompt(request)
            tokens, parts = self._tokens(prompt, request.pictures)
            completion = self._answering(request, prompt, tokens, parts)
        chunks = Chunks(self.name, self.vocabulary.bytes_of)
        notes = [] if prompt.note is None else [chunks.note(prompt.note)]
        yield from self._chunks(chunks, completion, len(tokens), is_gone, notes)

    def _answering(
        self, request: ChatRequest, prompt: RenderedPrompt, tokens: list[int], parts: Sequence[CutPart]
    ) -> Completion:
        """Raises RefusedError."""
        opened = self._opened(prompt, request)
        answers = [
            SampledAnswer(self.vocabulary, opened, request.stop, self._tool_parser(request.tools), request.calls_once)
            for _ in range(request.choices)
        ]
        return self._completion(
            request,
            self._sampling(request),
            tokens,
            answers,
            is_free=opened is not None,
            pictures=self._encoded(parts, request),
        )

    def length(self, request: ChatRequest) -> int:
        """Tokens of the prompt. Raises RefusedError, also for one that is longer than the context."""
        self._require_writing("messages")
        tokens, _ = self._tokens(self._prompt(request), request.pictures)
        return len(tokens)

    def go_on(
        self, request: TextCompletionRequest, is_gone: Callable[[], bool]
    ) -> Generator[dict[str, Any], None, None]:
        """As ``stream``, for a text that goes on."""
        self._require_writing("prompt")
        with self.scheduler.arrivals.coming():
            tokens = self._text_tokens(request.prompt)
            answers = [
                SampledAnswer(self.vocabulary, None, request.stop, is_literal=True) for _ in range(request.choices)
            ]
            completion = self._completion(request, request.sampling, tokens, answers)
        yield from self._chunks(TextChunks(self.name, self.vocabulary.bytes_of), completion, len(tokens), is_gone)

    def _require_writing(self, field: str) -> None:
        """Raises RefusedError."""
        if self.reranker is not None:
            raise invalid(f"{field}: this engine has a model that ranks texts, which answers none")
        if self.pooled is not None:
            raise invalid(f"{field}: this engine has an embedding model, which answers none")

    def _chunks(
        self,
        chunks: Chunks | TextChunks,
        completion: Completion,
        prompt_tokens: int,
        is_gone: Callable[[], bool],
        notes: Sequence[dict[str, Any]] = (),
    ) -> Generator[dict[str, Any], None, None]:
        """What the choices write as it comes, behind the ``notes``."""
        from llmctl.engine.measure.preemption import Preemption

        preemption = Preemption()
        for choice, parts in completion.run(self.scheduler, is_gone):
            yield from notes
            notes = ()
            if parts is None:
                yield chunks.finished(choice.index, choice.answer)
            else:
                yield from chunks.of(choice.index, parts)
        yield chunks.last(self._end(prompt_tokens, completion, preemption.per_s()))

    def _prompt(self, request: ChatRequest) -> RenderedPrompt:
        tools = () if request.tools.choose is Choose.NONE else request.tools.definitions
        if self._template is None:
            if tools or any("tool_calls" in message or message["role"] == "tool" for message in request.messages):
                raise invalid("tools: this model has no chat template, so it takes none")
            return RenderedPrompt(plain(request.messages, continues=request.continues), is_plain=True)
        variables = dict(request.variables)
        if "enable_thinking" in variables:
            variables.setdefault("thinking", variables["enable_thinking"])  # DeepSeek's and Granite's name for it
        variables |= {"bos_token": self.vocabulary.bos, "eos_token": self.vocabulary.eos}
        has_chatml = self.vocabulary.has_chatml
        try:
            with self._rendering:
                return self._renderer.render(
                    self._template,
                    request.messages,
                    variables,
                    has_chatml=has_chatml,
                    tools=tools,
                    continues=request.continues,
                )
        except TemplateError as error:
            raise RefusedError(400, "template", f"the model's chat template {error}") from error

    def _tokens(self, prompt: RenderedPrompt, pictures: Sequence[Picture]) -> tuple[list[int], list[CutPart]]:
        """Those of the prompt, and which of them are parts of pictures. Raises RefusedError."""
        add_bos = prompt.is_plain or prompt.note is not None  # a template writes it by itself
        if pictures and self._projector is None:
            raise invalid(f"{pictures[0].name} is an image, and this engine reads text alone")
        if not pictures or self._projector is None:
            return self._fitting(prompt.text, add_bos=add_bos, special=not prompt.is_plain), []
        if prompt.text.count(MARKER) != len(pictures):
            raise RefusedError(400, "template", "the model's chat template takes no images")
        text = f"{prompt.text}\n" if prompt.text.endswith(MARKER) else prompt.text  # an answer goes on from a text
        self._require_short(text.encode("utf-8", "replace"))
        tokens, parts = self._projector.cut(text, pictures, add_special=add_bos, parse_special=not prompt.is_plain)
        self._require_room(tokens)
        return tokens, parts

    def _encoded(self, parts: Sequence[CutPart], request: ChatRequest) -> PromptPictures:
        """Raises RefusedError."""
        if self._projector is None or not parts:
            return NO_PICTURES
        return self._projector.encoded(parts, keeps=self._uses_cache and request.uses_cache)

    def _text_tokens(self, prompt: str | Sequence[int]) -> list[int]:
        if isinstance(prompt, str):
            tokens = self._fitting(prompt, add_bos=True, special=True)
            if not tokens:
                raise invalid("prompt must not be empty: this model has no token that begins a text")
            return tokens
        self.vocabulary.require(prompt, "prompt")
        self._require_room(prompt)
        return list(prompt)

    def _fitting(self, prompt: str, *, add_bos: bool, special: bool) -> list[int]:
        """Raises RefusedError for a prompt that is longer than the context."""
        text = prompt.encode("utf-8", "replace")
        self._require_short(text)
        tokens = self.vocabulary.tokens(text, add_bos=add_bos, special=special)
        self._require_room(tokens)
        return tokens

    def _require_short(self, text: bytes) -> None:
        """Raises RefusedError for a text that would take long to tokenize, and surely not fit."""
        if len(text) > self._context.length * LONGEST_TOKEN_BYTES:
            raise _too_long(f"more than {self._context.length:,}", self._context.length)

    def _require_room(self, tokens: Sequence[int]) -> None:
        """Raises RefusedError."""
        if len(tokens) >= self._context.length:
            raise _too_long(f"{len(tokens):,}", self._context.length)

    def _opened(self, prompt: RenderedPrompt, request: ChatRequest) -> Marks | None:
        """The marks with which the prompt has opened a thought."""
        if prompt.is_plain:
            return None
        rows = self.vocabulary.rows
        if not request.continues:
            return opened_at_the_end(behind_the_last_message(prompt.text, request.messages, rows), rows)
        begun = request.messages[-1]["content"].lstrip()
        opened = opened_at_the_end(begun, rows)
        return opened if opened is not None and begun.startswith(opened.open) else None  # else it writes about marks

    def _completion(
        self,
        request: WritingRequest,
        options: SamplingOptions,
        tokens: list[int],
        answers: Sequence[SampledAnswer],
        *,
        is_free: bool = False,
        pictures: PromptPictures = NO_PICTURES,
    ) -> Completion:
        samplers = [Sampler(self.vocabulary.pointer, options.for_choice(index)) for index in range(request.choices)]
        for sampler in samplers:
            sampler.is_free = is_free
        return Completion(
            tokens,
            answers,
            samplers,
            room=self._context.length - len(tokens),
            max_tokens=request.max_tokens,
            uses_cache=self._uses_cache and request.uses_cache and not request.is_repeatable,
            is_repeatable=request.is_repeatable,
            costs=self._costs if request.may_draft else None,
            draft_model=self._draft_model,
            pictures=pictures,
            prompt_cache=self._prompt_cache,
            prompt_cache_bytes=request.prompt_cache_bytes,
        )

    def _tool_parser(self, tools: Tools) -> ToolParser | None:
        """Raises RefusedError."""
        if tools.choose is Choose.NONE:
            return None
        if self._tool_format is None:
            raise invalid("tools: this engine doesn't know how this model writes calls of tools")
        return ToolParser(self._tool_format, tools)

    def _sampling(self, request: ChatRequest) -> SamplingOptions:
        """A call that must come is forced by a grammar. Raises RefusedError where that can't be."""
        if request.tools.choose is not Choose.REQUIRED or self._tool_format is None:
            return request.sampling
        grammar = forced(self._tool_format, request.tools)
        if grammar is None:
            raise invalid(f"tool_choice: calls can't be forced in the form of this model ({self._tool_format.name})")
        return replace(request.sampling, grammar=grammar)

    def _end(self, prompt_tokens: int, completion: Completion, preempted_per_s: float | None) -> dict[str, Any]:
        """Usage, the time that computing took, and what it all has added to memory. The last token that was sampled has
        not been computed. What took part in the same steps as other requests says nothing of this machine's speed, so
        there are no times then."""
        works = [generation.work for generation in completion.generations]
        completion_tokens = sum(len(choice.answer.tokens) for choice in completion.choices)
        timings: dict[str, Any] = {
            "prompt_n": sum(work.prefill_tokens for work in works),
            "predicted_n": sum(work.decode_tokens for work in works),
            "draft_n": sum(work.drafted_tokens for work in works),
            "draft_n_accepted": sum(work.accepted_tokens for work in works),
            "draft_n_compared": sum(work.compared_tokens for work in works),
        }
        if all(work.was_alone for work in works):
            timings["prompt_ms"] = sum(work.prefill_s for work in works) * 1000
            timings["predicted_ms"] = sum(work.decode_s for work in works) * 1000
            timings["plain_n"] = sum(work.plain_tokens for work in works)
            timings["plain_ms"] = sum(work.plain_s for work in works) * 1000
            timings["preempted_per_s"] = preempted_per_s
        return {
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
                "prompt_tokens_details": {"cached_tokens": works[0].cached_tokens},
            },
            "timings": timings,
            "memory": self._footprint.added(),
        }


def _too_long(tokens: str, context: int) -> RefusedError:
    return RefusedError(400, "context_length_exceeded", f"the prompt is {tokens} tokens, local context is {context:,}")
