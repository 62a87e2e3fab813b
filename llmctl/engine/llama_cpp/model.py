"""The model that the worker has loaded: from a request to the chunks of its answer."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Generator, Mapping
from typing import Any

from msgspec.structs import replace

from llmctl.engine.llama_cpp.answer import SampledAnswer, behind_the_last_message
from llmctl.engine.llama_cpp.batching import Scheduler
from llmctl.engine.llama_cpp.completion import Completion
from llmctl.engine.llama_cpp.context import Context
from llmctl.engine.llama_cpp.conversation import Choose, Tools
from llmctl.engine.llama_cpp.embedding import EmbeddingRequest, embedder
from llmctl.engine.llama_cpp.loading import load
from llmctl.engine.llama_cpp.prompt_cache import PromptCache, identity_of
from llmctl.engine.llama_cpp.refused import RefusedError, invalid
from llmctl.engine.llama_cpp.rendering import RenderedPrompt, TemplateError, plain
from llmctl.engine.llama_cpp.request import ChatRequest
from llmctl.engine.llama_cpp.sampling import Sampler, SamplingOptions
from llmctl.engine.llama_cpp.speculation import StepCosts
from llmctl.engine.llama_cpp.template import Renderer
from llmctl.engine.llama_cpp.tool_formats import forced, format_of
from llmctl.engine.llama_cpp.tools import ToolParser
from llmctl.engine.llama_cpp.vocabulary import LONGEST_TOKEN_BYTES, Vocabulary
from llmctl.engine.llama_cpp.wire import Chunks
from llmctl.thoughts.marks import Marks, opened_at_the_end


class LoadedModel:
    """One loaded model, and the thread that computes for all requests."""

    def __init__(self, job: Mapping[str, Any], renderer: Renderer, tell: Callable[[float], None]) -> None:
        """``tell`` hears how much is loaded."""
        import llama_cpp

        from llmctl.engine.llama_cpp.footprint import Footprint

        self.name = str(job["model"])
        self._renderer = renderer
        self._footprint = Footprint()
        model = load(job, tell)
        self._context = Context(model, job)
        self.build = ", ".join(filter(None, (f"llama-cpp-python {llama_cpp.__version__}", self._footprint.build)))
        self._template = _chat_template(model)
        if self._template is not None:
            renderer.prepare(self._template)
        self._rendering = threading.Lock()
        self._tool_format = format_of(self._template or "")
        self._vocabulary = Vocabulary(llama_cpp.llama_model_get_vocab(model), self.name, self._template or "")
        self._embedder = embedder(model, self._context, self._vocabulary, int(job["ubatch"]))
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
        from llmctl.engine.measure.preemption import Preemption

        if self._embedder is not None:
            raise invalid("messages: this engine has an embedding model, which answers none")
        prompt = self._prompt(request)
        tokens = self._tokens(prompt)
        completion = self._completion(request, tokens, self._opened(prompt, request))
        preemption = Preemption()
        note = prompt.note
        chunks = Chunks(self.name, self._vocabulary.bytes_of)
        for choice, parts in completion.run(self.scheduler, is_gone):
            if note is not None:
                yield chunks.note(note)
                note = None
            if parts is None:
                yield chunks.finished(choice.index, choice.answer.finish)
            else:
                yield from chunks.of(choice.index, parts)
        yield chunks.last(self._end(len(tokens), completion, preemption.per_s()))

    def embeddings(self, request: EmbeddingRequest) -> dict[str, Any]:
        """Raises RefusedError."""
        if self._embedder is None:
            raise invalid("input: this engine has a model that writes answers, it gives no embeddings")
        return self._embedder.answer(request, self.name)

    def _prompt(self, request: ChatRequest) -> RenderedPrompt:
        tools = () if request.tools.choose is Choose.NONE else request.tools.definitions
        if self._template is None:
            if tools or any("tool_calls" in message or message["role"] == "tool" for message in request.messages):
                raise invalid("tools: this model has no chat template, so it takes none")
            return RenderedPrompt(plain(request.messages), is_plain=True)
        variables = dict(request.variables)
        if "enable_thinking" in variables:
            variables.setdefault("thinking", variables["enable_thinking"])  # DeepSeek's and Granite's name for it
        variables |= {"bos_token": self._vocabulary.bos, "eos_token": self._vocabulary.eos}
        has_chatml = self._vocabulary.has_chatml
        try:
            with self._rendering:
                return self._renderer.render(
                    self._template, request.messages, variables, has_chatml=has_chatml, tools=tools
                )
        except TemplateError as error:
            raise RefusedError(400, "template", f"the model's chat template {error}") from error

    def _tokens(self, prompt: RenderedPrompt) -> list[int]:
        context = self._context.length
        text = prompt.text.encode("utf-8", "replace")
        if len(text) > context * LONGEST_TOKEN_BYTES:  # tokenizing it would take long, to the same end
            raise _too_long(f"more than {context:,}", context)
        add_bos = prompt.is_plain or prompt.note is not None  # a template writes it by itself
        tokens = self._vocabulary.tokens(text, add_bos=add_bos, special=not prompt.is_plain)
        if len(tokens) >= context:
            raise _too_long(f"{len(tokens):,}", context)
        return tokens

    def _opened(self, prompt: RenderedPrompt, request: ChatRequest) -> Marks | None:
        """The marks with which the prompt has opened a thought."""
        if prompt.is_plain:
            return None
        end = behind_the_last_message(prompt.text, request.messages, self._vocabulary.rows)
        return opened_at_the_end(end, self._vocabulary.rows)

    def _completion(self, request: ChatRequest, tokens: list[int], opened: Marks | None) -> Completion:
        answers = [
            SampledAnswer(self._vocabulary, opened, request.stop, self._tool_parser(request.tools), request.calls_once)
            for _ in range(request.choices)
        ]
        options = self._sampling(request)
        samplers = [Sampler(self._vocabulary.pointer, options.for_choice(index)) for index in range(request.choices)]
        for sampler in samplers:
            sampler.is_free = opened is not None
        return Completion(
            tokens,
            answers,
            samplers,
            room=self._context.length - len(tokens),
            max_tokens=request.max_tokens,
            uses_cache=self._uses_cache and request.uses_cache,
            costs=self._costs if request.may_draft else None,
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


def _chat_template(model: Any) -> str | None:
    """The chat template that the file brings along."""
    import llama_cpp

    key, size = b"tokenizer.chat_template", 1 << 16
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = llama_cpp.llama_model_meta_val_str(model, key, buffer, size)
        if length < size:
            return buffer.value.decode("utf-8", "replace") if length >= 0 else None
        size = length + 1


def _too_long(tokens: str, context: int) -> RefusedError:
    return RefusedError(400, "context_length_exceeded", f"the prompt is {tokens} tokens, local context is {context:,}")
