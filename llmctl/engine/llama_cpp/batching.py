"""Continuous batching: one thread computes for all requests, which join and leave between its steps.

A step computes one token of each answer that is being written and, beside them, as many tokens of prompts that are
being read, the same share of each, as take half a second by the speed that was measured (``chunks``). So nobody who
reads an answer waits longer than that for its next token, however long the prompts of others are. While nobody's answer
is being written, a step reads for two seconds at most: whoever comes is begun after it. Exceptions: a machine that
reads fewer than 32 tokens a second reads 16 at least, and what is measured follows the speed by a step or two.
A part of a picture is computed by itself between two steps, all of it at once, as its model needs it: 64 to 256 tokens
for most, up to some thousands for those that see pictures in their own size.
What is asked with a seed is computed by itself (``Generation.is_repeatable``), for which a step takes longer.
While no prompt is being read, a step computes what was drafted for answers, too (``speculation``): beside other answers
that is little, and nothing that would make all of them together slower.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec.structs import replace

from llmctl.engine.llama_cpp.arrivals import Arrivals
from llmctl.engine.llama_cpp.chunks import ChunkSize, parts
from llmctl.engine.llama_cpp.context import Context, DecodeError
from llmctl.engine.llama_cpp.generation import Generation
from llmctl.engine.llama_cpp.prompt_cache import Beginning
from llmctl.engine.llama_cpp.shares import Share, account, chunk, computed_together
from llmctl.engine.llama_cpp.slots import Place, Slot, Slots

WAITING_LIMIT = 32  # generations that wait for a sequence; more are refused
LONGEST_RETRY_S = 60
SMOOTHING = 0.3  # of the last answer, in the average of how long one takes


class BusyError(Exception):
    """Too many wait already. ``retry_after_s``: when there may be room."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} requests are waiting already, as many as may")
        self.retry_after_s = retry_after_s


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
        self.arrivals = Arrivals()
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
                was_idle = not self._waiting and not self._active
                while not self._waiting and not self._active:
                    self._changed.wait()
            if was_idle and len(self.slots.all) > 1:
                self.arrivals.wait()
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
        for shares in computed_together(self._shares()):
            self._compute(shares)
        self._show_picture()

    def _show_picture(self) -> None:
        """Computes the next part of a picture for the one who has waited longest for it."""
        generation = next((generation for generation in self._active if generation.picture is not None), None)
        if generation is None or generation.slot is None or (rows := generation.picture) is None:
            return
        slot, begun = generation.slot, self._clock()
        try:
            rows.encoded.compute(self._context, generation.pictures.position(rows.begin), slot.number)
        except DecodeError as error:
            self._end(generation, error, is_sound=False)
            return
        slot.tokens.extend(generation.prompt[rows.begin : rows.end])
        generation.work.was_alone &= len(self._active) == 1
        generation.work.add_prefill(rows.encoded.rows, self._clock() - begun)

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
        kept = generation.pictures.without_part(place.shared)
        kept = kept if self._context.keep(slot.number, generation.pictures.position(kept)) else 0
        kept = self._read(slot, generation.on_disk.source, kept)
        self.slots.take(slot, generation.prompt, kept, is_private=not generation.uses_cache)
        generation.slot, generation.work.cached_tokens = slot, kept
        if not self._context.can_cut:
            generation.drafter = None
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

    def _shares(self) -> list[Share]:
        """What the next step computes, in the order of sequences: llama.cpp computes neighbours together."""
        reading = [generation for generation in self._active if not generation.is_writing]
        others = len(self._active) - 1
        answering = [
            Share(generation, generation.slot, (generation.last,), *self._draft(generation, others, reading))
            for generation in self._active
            if generation.slot is not None and generation.last is not None
        ]
        chunks = [*self._chunks(reading, len(answering)), *self._repeatable_chunk(reading)]
        return sorted([*answering, *chunks], key=lambda share: share.slot.number)

    def _chunks(self, reading: Iterable[Generation], answers: int) -> Iterator[Share]:
        """What is read of those prompts that are read together."""
        shared = sorted((asked for asked in reading if not asked.is_repeatable), key=lambda asked: asked.left_at_once)
        most = self._context.batch - (answers + len(shared) if answers else 0)
        room = min(self._chunk_size.tokens(answers=answers), most)
        counts = parts(room, [generation.left_at_once for generation in shared], answers=answers)
        return (chunk(generation, count) for generation, count in zip(shared, counts, strict=True) if count)

    def _repeatable_chunk(self, reading: Iterable[Generation]) -> Iterator[Share]:
        """What is read of one of the others, the one that will soonest be read: always as much at once."""
        alone = min((asked for asked in reading if asked.is_repeatable), key=lambda asked: asked.left, default=None)
        if alone is not None and alone.left_at_once:
            yield chunk(alone, min(alone.left_at_once, self._chunk_size.fixed))

    def _draft(self, generation: Generation, others: int, reading: Sequence[Generation]) -> tuple[Sequence[int], float]:
        """The tokens that are drafted for an answer, and the seconds that this took."""
        if reading or generation.drafter is None:
            return (), 0.0
        begun = self._clock()
        return generation.drafter.draft(others), self._clock() - begun

    def _compute(self, shares: Sequence[Share]) -> None:
        """If it can't be done together, each is tried by itself without what was drafted, and only those end that
        fail."""
        rows = [row for share in shares for row in share.rows]
        begun = self._clock()
        try:
            self._context.decode(rows)
        except DecodeError as error:
            if len(shares) == 1 and not shares[0].drafted:
                self._end(shares[0].generation, error, is_sound=False)
                return
            for share in shares:
                held = share.generation.pictures.position(len(share.slot.tokens))
                if self._context.keep(share.slot.number, held):
                    self._compute([replace(share, drafted=())])
                else:
                    self._end(share.generation, error, is_sound=False)
            return
        seconds = self._clock() - begun
        tokens = sum(len(share.tokens) for share in shares if share.reads)
        self._chunk_size.measured(tokens, sum(not share.reads for share in shares), seconds)
        row = -1
        for share in shares:
            row += len(share.tokens)
            self._take(share, row, seconds, is_alone=len(shares) == 1)
            row += len(share.drafted)

    def _take(self, share: Share, row: int, seconds: float, *, is_alone: bool) -> None:
        """Samples behind the last token of ``share``, which the batch's ``row`` has computed, and behind those drafted
        ones that come; what was drafted and doesn't come is forgotten."""
        generation, slot = share.generation, share.slot
        wants_next, was_writing = share.wants_next, generation.is_writing
        slot.tokens.extend(share.tokens)
        held, is_wanted, error = len(slot.tokens), True, None
        try:
            if wants_next:
                is_wanted = self._sample(share, row)
        except Exception as raised:  # noqa: BLE001  # it ends this answer; the thread computes for the others
            is_wanted, error = False, raised
        accepted = len(slot.tokens) - held
        account(share, accepted, seconds, is_alone=is_alone, is_decoding=was_writing)
        is_sound = accepted == len(share.drafted) or self._context.keep(slot.number, len(slot.tokens))
        if not is_wanted:
            self._end(generation, error, is_sound=is_sound)
        elif not is_sound:
            _begin_anew(generation)

    def _sample(self, share: Share, row: int) -> bool:
        """Whether another token is wanted. Raises what sampling raises."""
        generation, most = share.generation, len(share.drafted)
        for at in range(most + 1):
            token = generation.last = generation.sampler.sample(self._context.pointer, row + at)
            if generation.drafter is not None:
                generation.drafter.add(token)
            if not generation.take(token):
                return False
            if at == most or token != share.drafted[at]:
                break
            share.slot.tokens.append(token)
        return True

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
        if generation.drafter is not None:
            generation.drafter.end()
        generation.end(error)


def _begin_anew(generation: Generation) -> None:
    """Reads prompt and answer again, where a memory didn't give up the end of what it held; nothing is drafted then."""
    assert generation.slot is not None and generation.last is not None
    generation.prompt = [*generation.slot.tokens, generation.last]
    generation.slot.tokens = []
    if generation.drafter is not None:
        generation.drafter.end()
    generation.last = generation.drafter = None
