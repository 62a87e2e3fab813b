"""Requests that join and leave between the steps of one thread, with a memory that objects to every mistake."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.engine.llama_cpp.batching import BusyError, Scheduler
from llmctl.engine.llama_cpp.chunks import ARRIVING_S, LEAST, UNMEASURED, WRITING_S
from llmctl.engine.llama_cpp.context import Context, DecodeError
from llmctl.engine.llama_cpp.generation import Generation
from llmctl.engine.llama_cpp.sampling import Sampler
from llmctl.engine.llama_cpp.slots import LEAST_FRESH
from tests.fakes.memory import Likeliest, Memory, following


def scheduler_of(memory: Memory, waiting_limit: int = 8) -> Scheduler:
    return Scheduler(cast(Context, memory), memory.sequences, waiting_limit, clock=lambda: memory.now_s)


@dataclass
class Asked:
    """A generation with what it was given: ``wanted`` tokens, fewer if the token ``stop`` comes."""

    prompt: list[int]
    wanted: int = 4
    stop: int | None = None
    uses_cache: bool = True
    tokens: list[int] = field(default_factory=list)
    ends: list[Exception | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generation = Generation(
            self.prompt, cast(Sampler, Likeliest()), self._take, self.ends.append, self.uses_cache
        )

    def _take(self, token: int) -> bool:
        self.tokens.append(token)
        return len(self.tokens) < self.wanted and token != self.stop

    @property
    def alone(self) -> list[int]:
        """What it is given if nobody else asks."""
        said: list[int] = []
        while not said or (len(said) < self.wanted and said[-1] != self.stop):
            said.append(following(self.prompt + said))
        return said


def finish(scheduler: Scheduler) -> int:
    """The number of steps until all have ended."""
    steps = 0
    while scheduler.idle_s == 0:
        scheduler.step()
        steps += 1
        assert steps < 10_000, "it goes on for ever"
    return steps


def computed(memory: Memory) -> int:
    return sum(map(len, memory.batches))


# Few tokens, so that beginnings are the same, also long ones, which are copied.
prompts = st.builds(
    lambda begin, end: [1] * begin + end,
    st.sampled_from([0, 0, 10, 80, 120]),
    st.lists(st.integers(0, 1), min_size=1, max_size=20),
)
asked = st.builds(
    Asked,
    prompts,
    st.integers(1, 20),
    stop=st.none() | st.integers(0, 49),
    uses_cache=st.sampled_from([True, True, False]),
)
actions = st.lists(st.one_of(asked, st.integers(0, 5), st.just("step"), st.just("step")), max_size=40)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 4), actions, st.booleans())
def test_any_schedule(sequences: int, actions: Sequence[Any], can_cut: bool) -> None:
    """Whoever joins, leaves and stops when: an answer is the one that is given alone, and no sequence is lost."""
    memory = Memory(sequences, length=200, can_cut=can_cut)
    scheduler, opened = scheduler_of(memory), Likeliest.opened
    submitted: list[Asked] = []
    cancelled: list[Asked] = []
    for action in actions:
        match action:
            case Asked():
                fresh = Asked(action.prompt, action.wanted, action.stop, action.uses_cache)
                try:
                    scheduler.submit([fresh.generation])
                    submitted.append(fresh)
                except BusyError:
                    fresh.generation.sampler.close()
            case int() if action < len(submitted):
                scheduler.cancel([submitted[action].generation])
                cancelled.append(submitted[action])
            case _:
                scheduler.step()
                _check_what_is_held(scheduler, memory)
    finish(scheduler)
    for one in submitted:
        assert one.ends == [None]
        assert one.tokens == one.alone or (one in cancelled and one.tokens == one.alone[: len(one.tokens)])
    assert len(scheduler.slots.free) == sequences
    assert Likeliest.opened == opened
    _check_what_is_held(scheduler, memory)


def _check_what_is_held(scheduler: Scheduler, memory: Memory) -> None:
    assert [sequence.tokens for sequence in scheduler.slots.all] == memory.held


@pytest.mark.parametrize("token_s", [0.1, 0.02, 0.005, 0.001, 0.0001])
def test_each_answer_has_a_token_in_every_step_beside_a_long_prompt(token_s: float) -> None:
    """And a step takes half a second at most, once it is known how fast prompts are read."""
    memory = Memory(3, length=4000, batch=512, token_s=token_s)
    scheduler = scheduler_of(memory)
    writers = [Asked([at], wanted=400) for at in range(2)]
    scheduler.submit([one.generation for one in writers])
    scheduler.step()
    long = Asked([5] * 3000, wanted=1)
    scheduler.submit([long.generation])
    scheduler.step()
    assert len(memory.batches[-1]) == UNMEASURED + 1 + len(writers)
    while not long.ends:
        before, begun_s = [len(one.tokens) for one in writers], memory.now_s
        scheduler.step()
        assert [len(one.tokens) for one in writers] == [count + 1 for count in before]
        assert memory.now_s - begun_s <= max(WRITING_S, token_s * LEAST) + token_s * (1 + len(writers)) + 1e-6
    assert memory.batches[-1][-1].position == 2999


@pytest.mark.parametrize(("token_s", "reads"), [(0.0001, 512), (0.005, 256), (0.02, 64), (1.0, LEAST)])
def test_who_comes_while_a_prompt_is_read_waits_for_one_step(token_s: float, reads: int) -> None:
    memory = Memory(2, length=4000, batch=512, token_s=token_s)
    scheduler = scheduler_of(memory)
    scheduler.submit([Asked([5] * 3000, wanted=1).generation])
    for _ in range(3):
        begun_s = memory.now_s
        scheduler.step()
    assert len(memory.batches[-1]) == reads
    assert memory.now_s - begun_s <= max(ARRIVING_S, token_s * LEAST) + 1e-6
    short = Asked([1] * 5, wanted=1)
    scheduler.submit([short.generation])
    scheduler.step()
    assert short.ends == [None]


def test_a_prompt_to_which_nobody_can_come_is_read_in_whole_batches() -> None:
    memory = Memory(1, length=4000, batch=512, token_s=1.0)
    scheduler = scheduler_of(memory)
    scheduler.submit([Asked([5] * 1200, wanted=1).generation])
    finish(scheduler)
    assert [len(batch) for batch in memory.batches] == [512, 512, 176]


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    memory = Memory(3, length=4000, batch=512)
    scheduler = scheduler_of(memory)
    writer, long, short = Asked([1], wanted=100), Asked([2] * 3000), Asked([3] * 60, wanted=1)
    scheduler.submit([writer.generation])
    scheduler.step()
    scheduler.submit([long.generation, short.generation])
    scheduler.step()
    assert short.ends == [None]
    assert len(memory.batches[-1]) == UNMEASURED + 2, "what the short one leaves is the long one's"


def test_sequences_are_given_in_the_order_of_asking() -> None:
    scheduler = scheduler_of(Memory(1))
    everybody = [Asked([at], wanted=3) for at in range(5)]
    ended: list[int] = []
    for at, one in enumerate(everybody):
        one.generation.end = lambda error, at=at: ended.append(at)  # type: ignore[misc]
        scheduler.submit([one.generation])
    finish(scheduler)
    assert ended == [0, 1, 2, 3, 4]


def test_more_than_may_wait_are_refused() -> None:
    scheduler = scheduler_of(Memory(2), waiting_limit=3)
    for _ in range(5):
        scheduler.submit([Asked([1]).generation])
    with pytest.raises(BusyError, match="5 requests are waiting") as refused:
        scheduler.submit([Asked([1]).generation])
    assert 1 <= refused.value.retry_after_s <= 60
    finish(scheduler)
    scheduler.submit([Asked([1]).generation])


def test_only_what_cannot_be_computed_ends() -> None:
    memory = Memory(3, failing=frozenset({99}))
    scheduler = scheduler_of(memory)
    good, bad, other = Asked([1, 2]), Asked([3, 99]), Asked([4] * 40)
    scheduler.submit([one.generation for one in (good, bad, other)])
    finish(scheduler)
    assert isinstance(bad.ends[0], DecodeError)
    assert (good.ends, other.ends) == ([None], [None])
    assert (good.tokens, other.tokens) == (good.alone, other.alone)
    _check_what_is_held(scheduler, memory)


def test_an_error_of_one_sampler_ends_one_answer() -> None:
    scheduler = scheduler_of(Memory(2))
    good, bad = Asked([1]), Asked([2])

    def fail(context: Any, row: int) -> int:
        raise ValueError("no token")

    bad.generation.sampler.sample = fail  # type: ignore[method-assign]
    scheduler.submit([good.generation, bad.generation])
    finish(scheduler)
    assert good.ends == [None] and isinstance(bad.ends[0], ValueError)
    assert len(scheduler.slots.free) == 2


@pytest.mark.parametrize("is_reading", [False, True])
def test_who_leaves_frees_the_sequence_with_the_next_step(is_reading: bool) -> None:
    scheduler = scheduler_of(Memory(1, length=4000))
    leaving, waiting = Asked([1] * (500 if is_reading else 2), wanted=1000), Asked([2], wanted=1)
    scheduler.submit([leaving.generation])
    scheduler.step()
    scheduler.submit([waiting.generation])
    scheduler.cancel([leaving.generation])
    scheduler.step()
    assert leaving.ends == [None] and waiting.ends == [None]


def test_what_was_read_is_not_read_again() -> None:
    memory = Memory(2, length=4000, batch=512)
    scheduler = scheduler_of(memory)
    prompt = [at % 7 for at in range(3000)]
    first, again = Asked(prompt), Asked(prompt)
    for one in (first, again):
        scheduler.submit([one.generation])
        finish(scheduler)
    assert first.generation.work.prefill_tokens == 3000
    assert (again.generation.work.cached_tokens, again.generation.work.prefill_tokens) == (
        3000 - LEAST_FRESH,
        LEAST_FRESH,
    )
    assert again.tokens == first.tokens
    turn = Asked([*prompt, *first.tokens, *[3] * 10])
    scheduler.submit([turn.generation])
    finish(scheduler)
    assert turn.generation.work.prefill_tokens == 11, "the last token that was said, and those of the next turn"
    assert turn.tokens == turn.alone


def test_a_memory_that_cannot_be_cut_is_read_anew_and_continued_where_it_ends() -> None:
    memory = Memory(1, length=4000, batch=512, can_cut=False)
    scheduler = scheduler_of(memory)
    prompt = [at % 7 for at in range(300)]
    first, again = Asked(prompt), Asked(prompt)
    for one in (first, again):
        scheduler.submit([one.generation])
        finish(scheduler)
    assert (again.generation.work.cached_tokens, again.tokens) == (0, first.tokens)
    turn = Asked([*prompt, *again.tokens, *[3] * 10])
    scheduler.submit([turn.generation])
    finish(scheduler)
    assert turn.generation.work.prefill_tokens == 11
    assert turn.tokens == turn.alone


def test_nobody_waits_for_what_cannot_be_shared() -> None:
    memory = Memory(2, length=4000, batch=512, can_cut=False)
    scheduler = scheduler_of(memory)
    prompt = [at % 7 for at in range(1000)]
    both = [Asked([*prompt, at]) for at in range(2)]
    scheduler.submit([one.generation for one in both])
    scheduler.step()
    assert {row.sequence for row in memory.batches[0]} == {0, 1}
    finish(scheduler)
    assert [one.tokens for one in both] == [one.alone for one in both]


def test_a_beginning_that_others_are_reading_is_read_once() -> None:
    """Also n answers to one prompt: they are generations with the same prompt."""
    memory = Memory(4, length=4000, batch=512)
    scheduler = scheduler_of(memory)
    prompt = [at % 7 for at in range(1000)]
    everybody = [Asked([*prompt, *[at] * 10], wanted=5) for at in range(4)]
    scheduler.submit([one.generation for one in everybody])
    finish(scheduler)
    assert [one.tokens for one in everybody] == [one.alone for one in everybody]
    assert computed(memory) < 1000 + 4 * 20


def test_without_a_cache_nothing_is_kept() -> None:
    memory = Memory(2, length=4000, batch=512)
    scheduler = scheduler_of(memory)
    for _ in range(2):
        one = Asked([1] * 500, uses_cache=False)
        scheduler.submit([one.generation])
        finish(scheduler)
        assert one.generation.work.cached_tokens == 0
        assert memory.held == [[], []]


def test_nobody_finds_what_was_asked_without_a_cache() -> None:
    memory = Memory(2, length=4000, batch=512)
    scheduler = scheduler_of(memory)
    private, other = Asked([1] * 500, wanted=50, uses_cache=False), Asked([1] * 500)
    for one in (private, other):
        scheduler.submit([one.generation])
        scheduler.step()
    assert (other.generation.work.cached_tokens, other.generation.slot is not None) == (0, True)
    finish(scheduler)


def test_two_conversations_keep_their_sequences() -> None:
    memory = Memory(2, length=4000, batch=512)
    scheduler = scheduler_of(memory)
    turns = {name: [name] * 200 for name in (1, 2)}
    for _ in range(3):
        for name in (1, 2):
            one = Asked([*turns[name], *[9] * 10])
            scheduler.submit([one.generation])
            finish(scheduler)
            turns[name] = [*one.prompt, *one.tokens]
            fresh = one.generation.work.prefill_tokens
    assert fresh == 11


def test_how_long_nobody_has_asked() -> None:
    scheduler = scheduler_of(Memory(1))
    one = Asked([1])
    scheduler.submit([one.generation])
    assert scheduler.idle_s == 0.0
    finish(scheduler)
    assert 0 < scheduler.idle_s < 60


@pytest.mark.parametrize("sequences", [1, 2])
def test_those_that_come_together_are_begun_together(sequences: int) -> None:
    memory = Memory(sequences, length=200)
    scheduler = scheduler_of(memory)
    threading.Thread(target=scheduler.run, daemon=True).start()
    first, second = Asked([1, 2, 3]), Asked([4, 5, 6])
    with scheduler.arrivals.coming():
        scheduler.submit([first.generation])
        time.sleep(0.005)  # enough for the thread to compute the first, if it didn't wait
        scheduler.submit([second.generation])
    while not (first.ends and second.ends):
        time.sleep(0.001)
    assert {row.sequence for row in memory.batches[0]} == set(range(sequences))
