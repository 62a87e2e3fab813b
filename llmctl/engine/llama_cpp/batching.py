"""Continuous batching: one thread computes for all requests, which join and leave between its steps.

A step computes one token of each answer that is being written and, beside them, as many tokens of prompts that are
being read, the same share of each, as take half a second by the speed that was measured (``chunks``). So nobody who
reads an answer waits longer than that for its next token, however long the prompts of others are. While nobody's answer
is being written, a step reads for two seconds at most: whoever comes is begun after it. Exceptions: a machine that
reads fewer than 32 tokens a second reads 16 at least, and what is measured follows the speed by a step or two.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from llmctl.engine.llama_cpp.chunks import ChunkSize
from llmctl.engine.llama_cpp.context import Context, DecodeError, Row
from llmctl.engine.llama_cpp.prompt_cache import Beginning, OnDisk
from llmctl.engine.llama_cpp.sampling import Sampler
from llmctl.engine.llama_cpp.slots import Place, Slot, Slots

WAITING_LIMIT = 32  # generations that wait for a sequence; more are refused
LONGEST_RETRY_S = 60
SMOOTHING = 0.3  # of the last answer, in the average of how long one takes


class BusyError(Exception):
    """Too many wait already. ``retry_after_s``: when there may be room."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} requests are waiting already, as many as may")
        self.retry_after_s = retry_after_s


@dataclass
class Work:
    """What was computed for one answer. Seconds are those of its steps; ``was_alone`` if no other answer had part in
    them."""

    cached_tokens: int = 0
    prefill_tokens: int = 0
    prefill_s: float = 0.0
    decode_tokens: int = 0
    decode_s: float = 0.0
    was_alone: bool = True


@dataclass(eq=False)
class Generation:
    """One answer to a prompt.

    ``take`` is given each token that was sampled, and says whether another one is wanted; ``end`` is called once, with
    None or the error that ended it. Both are called by the thread that computes and must not wait for anybody.
    """

    prompt: Sequence[int]
    sampler: Sampler
    take: Callable[[int], bool]
    end: Callable[[Exception | None], None]
    uses_cache: bool = True
    on_disk: OnDisk = field(default_factory=OnDisk)
    work: Work = field(default_factory=Work)
    slot: Slot | None = None
    last: int | None = None  # the token that was sampled last; it isn't computed yet
    is_cancelled: bool = False

    @property
    def is_writing(self) -> bool:
        return self.last is not None

    @property
    def left(self) -> int:
        """Tokens of the prompt that are still to be read."""
        return 0 if self.slot is None else max(0, len(self.prompt) - len(self.slot.tokens))

    @property
    def left_at_once(self) -> int:
        """Of those, the ones before the place at which the beginning is to be written to disk."""
        held = 0 if self.slot is None else len(self.slot.tokens)
        return self.on_disk.write_at - held if held < self.on_disk.write_at else self.left


class _Share(Struct, frozen=True):
    """What a step computes for one generation."""

    generation: Generation
    slot: Slot
    tokens: Sequence[int]

    @property
    def reads(self) -> bool:
        return not self.generation.is_writing

    @property
    def wants_next(self) -> bool:
        return self.generation.is_writing or len(self.tokens) == self.generation.left

    @property
    def rows(self) -> Iterable[Row]:
        first, last = len(self.slot.tokens), len(self.tokens) - 1
        for at, token in enumerate(self.tokens):
            yield Row(token, first + at, self.slot.number, at == last and self.wants_next)


class Scheduler:
    """Gives the sequences of ``context`` to generations, in the order in which they came. ``clock`` gives seconds."""

    def __init__(
        self,
        context: Context,
        sequences: int,
        waiting_limit: int = WAITING_LIMIT,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.slots = Slots(sequences, can_cut=context.can_cut)
        self._context = context
        self._chunk_size = ChunkSize(context.batch, is_shared=sequences > 1)
        self._clock = clock
        self._waiting_limit = waiting_limit
        self._waiting: deque[Generation] = deque()
        self._active: list[Generation] = []
        self._changed = threading.Condition()
        self._idle_since = time.monotonic()
        self._answer_s = 1.0  # how long an answer takes, on average

    @property
    def idle_s(self) -> float:
        """For how long there has been no generation, 0 while there is one."""
        with self._changed:
            return 0.0 if self._active or self._waiting else time.monotonic() - self._idle_since

    def submit(self, generations: Sequence[Generation]) -> None:
        """All of them, or none. Raises BusyError."""
        with self._changed:
            waiting = len(self._waiting)
            if waiting + len(generations) > self._waiting_limit + len(self.slots.free):
                rounds = 1 + waiting / len(self.slots.all)
                raise BusyError(waiting, max(1, min(LONGEST_RETRY_S, round(rounds * self._answer_s))))
            self._waiting.extend(generations)
            self._changed.notify()

    def cancel(self, generations: Iterable[Generation]) -> None:
        """Their sequences are free after the step that is being computed. Harmless for those that have ended."""
        with self._changed:
            for generation in generations:
                generation.is_cancelled = True

    def run(self) -> None:
        """Computes for ever."""
        while True:
            with self._changed:
                while not self._waiting and not self._active:
                    self._changed.wait()
            try:
                self.step()
            except Exception as error:  # noqa: BLE001  # nobody must wait for a thread that has ended
                self._end_all(error)

    def _end_all(self, error: Exception) -> None:
        for generation in list(self._active):
            self._end(generation, error, is_sound=False)
        with self._changed:
            waiting = list(self._waiting)
            self._waiting.clear()
        for generation in waiting:
            self._close(generation, error)

    def step(self) -> None:
        """Lets those leave that were cancelled and those join for whom there is room, then computes a batch."""
        for generation in [generation for generation in self._active if generation.is_cancelled]:
            self._end(generation, None)
        if self._waiting:
            self._admit()
        for generation in self._active:
            self._write(generation)
        if shares := self._shares():
            self._compute(shares)

    def _admit(self) -> None:
        with self._changed:
            for generation in list(self._waiting):
                uses_cache = generation.uses_cache
                if generation.is_cancelled:
                    self._waiting.remove(generation)
                    self._idle_since = time.monotonic()
                    self._close(generation, None)
                elif (place := self.slots.place(generation.prompt, uses_cache=uses_cache)) is not None:
                    self._waiting.remove(generation)
                    self._begin(generation, place)

    def _begin(self, generation: Generation, place: Place) -> None:
        slot = place.slot
        if place.source is not slot:
            self._context.copy(place.source.number, slot.number)
        kept = place.shared if self._context.keep(slot.number, place.shared) else 0
        kept = self._read(slot, generation.on_disk.source, kept)
        self.slots.take(slot, generation.prompt, kept, is_private=not generation.uses_cache)
        generation.slot, generation.work.cached_tokens = slot, kept
        self._active.append(generation)

    def _read(self, slot: Slot, source: Beginning | None, kept: int) -> int:
        """How many tokens the slot holds, of which ``kept`` were there and more may be on disk."""
        if source is None or source.shared <= kept:
            return kept
        is_read = self._context.load(slot.number, source.tokens, source.file)
        return source.shared if is_read and self._context.keep(slot.number, source.shared) else 0

    def _write(self, generation: Generation) -> None:
        on_disk, slot = generation.on_disk, generation.slot
        if on_disk.target is None or on_disk.is_written or slot is None or len(slot.tokens) != on_disk.write_at:
            return
        on_disk.is_written = self._context.save(slot.number, slot.tokens, on_disk.target)
        on_disk.write_at = 0

    def held(self, prompt: Sequence[int]) -> int:
        """How many of the first tokens of ``prompt`` some sequence holds at this moment."""
        return self.slots.held(prompt)

    def _shares(self) -> list[_Share]:
        """What the next step computes, in the order of sequences: llama.cpp computes neighbours together."""
        shares = [
            _Share(generation, generation.slot, (generation.last,))
            for generation in self._active
            if generation.slot is not None and generation.last is not None
        ]
        room = min(self._chunk_size.tokens(beside_answers=bool(shares)), self._context.batch - len(shares))
        reading = [generation for generation in self._active if not generation.is_writing]
        for at, generation in enumerate(sorted(reading, key=lambda generation: generation.left)):
            assert generation.slot is not None
            begin = len(generation.slot.tokens)
            count = min(generation.left_at_once, -(-room // (len(reading) - at)))
            room -= count
            if count:
                shares.append(_Share(generation, generation.slot, generation.prompt[begin : begin + count]))
        return sorted(shares, key=lambda share: share.slot.number)

    def _compute(self, shares: Sequence[_Share]) -> None:
        """If it can't be done together, each is tried by itself, and only those end that fail."""
        rows = [row for share in shares for row in share.rows]
        begun = self._clock()
        try:
            self._context.decode(rows)
        except DecodeError as error:
            if len(shares) == 1:
                self._end(shares[0].generation, error, is_sound=False)
                return
            for share in shares:
                held = len(share.slot.tokens)
                if self._context.keep(share.slot.number, held):
                    self._compute([share])
                else:
                    self._end(share.generation, error, is_sound=False)
            return
        seconds = self._clock() - begun
        self._chunk_size.measured(sum(len(share.tokens) for share in shares if share.reads), seconds)
        row = -1
        for share in shares:
            row += len(share.tokens)
            self._account(share, seconds, is_alone=len(shares) == 1)
            if share.wants_next:
                self._sample(share, row)
            else:
                share.slot.tokens.extend(share.tokens)

    def _account(self, share: _Share, seconds: float, *, is_alone: bool) -> None:
        work = share.generation.work
        work.was_alone &= is_alone
        if share.generation.is_writing:
            work.decode_tokens += 1
            work.decode_s += seconds
        else:
            work.prefill_tokens += len(share.tokens)
            work.prefill_s += seconds

    def _sample(self, share: _Share, row: int) -> None:
        generation = share.generation
        share.slot.tokens.extend(share.tokens)
        try:
            generation.last = generation.sampler.sample(self._context.pointer, row)
            is_wanted = generation.take(generation.last)
        except Exception as error:  # noqa: BLE001  # it ends this answer; the thread computes for the others
            self._end(generation, error)
            return
        if not is_wanted:
            self._end(generation, None)

    def _end(self, generation: Generation, error: Exception | None, *, is_sound: bool = True) -> None:
        """``is_sound``: what its sequence holds is what it is said to hold."""
        slot, work = generation.slot, generation.work
        assert slot is not None
        with self._changed:
            self._idle_since = time.monotonic()
            self._active.remove(generation)
        if not is_sound or not generation.uses_cache:
            self._context.keep(slot.number, 0)
            slot.tokens = []
        self.slots.release(slot)
        self._answer_s += SMOOTHING * (work.prefill_s + work.decode_s - self._answer_s)
        self._close(generation, error)

    def _close(self, generation: Generation, error: Exception | None) -> None:
        generation.sampler.close()
        generation.end(error)
