"""One request on its way through the scheduler: its choices as they are written, for the thread that waits for it."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from llmctl.engine.llama_cpp.answer import SampledAnswer
from llmctl.engine.llama_cpp.batching import BusyError, Scheduler
from llmctl.engine.llama_cpp.draft_model import DraftModel, ModelDrafter
from llmctl.engine.llama_cpp.generation import Generation
from llmctl.engine.llama_cpp.mixed_prompt import NO_PICTURES, PromptPictures
from llmctl.engine.llama_cpp.prompt_cache import OnDisk, PromptCache
from llmctl.engine.llama_cpp.repetition import repeats
from llmctl.engine.llama_cpp.sampling import Sampler
from llmctl.engine.llama_cpp.speculation import Drafter, PromptDrafter, StepCosts
from llmctl.engine.llama_cpp.wire import Part

# Tokens that come faster than this go out together: nobody reads faster, and each time the reader wakes up it takes a
# core from threads that wait for each other at every layer.
TOGETHER_S = 0.05
LOOK_S = 0.1  # how often it is looked whether the client is still there while nothing comes


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(eq=False)
class Choice:
    """One of a request's answers. ``most`` tokens at most; ``watches_repetition``: an answer that repeats itself for
    ever is cut."""

    index: int
    answer: SampledAnswer
    sampler: Sampler
    most: int
    watches_repetition: bool
    outbox: queue.SimpleQueue[tuple[Choice, list[Part] | None] | Exception]
    _pieces: list[Part] = field(default_factory=list)
    _sent: float = 0.0

    def take(self, token: int) -> bool:
        """Adds what was sampled; whether another one is wanted."""
        answer = self.answer
        if answer.vocabulary.ends(token) and not answer.closes_thought(token):
            answer.finish = "stop"
            return False
        if self.sampler.last_logprobs is not None:
            self._pieces.append(self.sampler.last_logprobs)
        self._pieces += answer.add(token)
        self.sampler.is_free = answer.is_thinking
        if answer.finish is None and len(answer.tokens) >= self.most:
            answer.finish = "length"
        if answer.finish is None and self.watches_repetition and repeats(answer.tokens):
            answer.finish = "repetition"
        now = time.perf_counter()
        if self._pieces and now - self._sent >= TOGETHER_S:
            self._send(now)
        return answer.finish is None

    def end(self, error: Exception | None) -> None:
        if error is not None:
            self.outbox.put(error)
            return
        self._pieces += self.answer.end()
        if self._pieces:
            self._send(time.perf_counter())
        self.outbox.put((self, None))

    def _send(self, now: float) -> None:
        self.outbox.put((self, self._pieces))
        self._pieces, self._sent = [], now


def _drafter(prompt: Sequence[int], most: int, costs: StepCosts, model: DraftModel | None) -> Drafter:
    return PromptDrafter(prompt, most, costs) if model is None else ModelDrafter(prompt, most, costs, model)


class Completion:
    """What a request's choices write. ``samplers``: one for each choice; they are closed by the scheduler. ``costs``:
    of batches on this engine, by which tokens are drafted, out of the prompt or by ``draft_model``; None: they
    aren't."""

    def __init__(
        self,
        prompt: Sequence[int],
        answers: Sequence[SampledAnswer],
        samplers: Sequence[Sampler],
        *,
        room: int,
        max_tokens: int | None,
        uses_cache: bool,
        costs: StepCosts | None,
        is_repeatable: bool = False,
        draft_model: DraftModel | None = None,
        pictures: PromptPictures = NO_PICTURES,
        prompt_cache: PromptCache | None = None,
        prompt_cache_bytes: int = 0,
    ) -> None:
        """``room``: tokens that the context has for an answer. With a limit of ``prompt_cache_bytes`` the beginning of
        the prompt is looked for in ``prompt_cache``, and left there, unless it has ``pictures``."""
        self._prompt = prompt
        self._prompt_cache = prompt_cache if prompt_cache_bytes and uses_cache and not pictures else None
        self._prompt_cache_bytes = prompt_cache_bytes
        self._outbox: queue.SimpleQueue[tuple[Choice, list[Part] | None] | Exception] = queue.SimpleQueue()
        most = min(max_tokens or room, room)
        self.choices = [
            Choice(index, answer, sampler, most, max_tokens is None, self._outbox)
            for index, (answer, sampler) in enumerate(zip(answers, samplers, strict=True))
        ]
        self.generations = [
            Generation(
                prompt,
                choice.sampler,
                choice.take,
                choice.end,
                uses_cache,
                is_repeatable,
                drafter=None if costs is None or pictures else _drafter(prompt, most, costs, draft_model),
                pictures=pictures,
            )
            for choice in self.choices
        ]

    def run(self, scheduler: Scheduler, is_gone: Callable[[], bool]) -> Iterator[tuple[Choice, list[Part] | None]]:
        """What is certain of each choice as it comes, and None when it has ended. Raises BusyError, ClientGoneError,
        and whatever has ended a choice. Leaving it ends the others."""
        on_disk = OnDisk()
        if self._prompt_cache is not None:
            on_disk = self._prompt_cache.plan(self._prompt, held=scheduler.held(self._prompt))
            self.generations[0].on_disk = on_disk
        try:
            yield from self._written(scheduler, is_gone)
        finally:
            if self._prompt_cache is not None:
                self._prompt_cache.finish(on_disk, self._prompt_cache_bytes)

    def _written(self, scheduler: Scheduler, is_gone: Callable[[], bool]) -> Iterator[tuple[Choice, list[Part] | None]]:
        try:
            scheduler.submit(self.generations)
        except BusyError:
            for choice in self.choices:
                choice.sampler.close()
            raise
        running = len(self.choices)
        try:
            while running:
                try:
                    event = self._outbox.get(timeout=LOOK_S)
                except queue.Empty:
                    event = None
                if is_gone():
                    raise ClientGoneError
                if isinstance(event, Exception):
                    raise event
                if event is not None:
                    running -= event[1] is None
                    yield event
        finally:
            scheduler.cancel(self.generations)
