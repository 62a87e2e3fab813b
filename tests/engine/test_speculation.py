"""Drafted tokens: what is guessed, when it pays, and that answers are the same with and without."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.engine.llama_cpp.batching import Scheduler
from llmctl.engine.llama_cpp.context import Context, DecodeError
from llmctl.engine.llama_cpp.generation import Generation
from llmctl.engine.llama_cpp.prompt_lookup import LONGEST, Match, PromptLookup
from llmctl.engine.llama_cpp.sampling import Sampler
from llmctl.engine.llama_cpp.speculation import MOST_BESIDE_OTHERS, MOST_DRAFTED, PromptDrafter, StepCosts
from tests.fakes.memory import VOCABULARY, Likeliest, Memory, following

STEP_S = 0.01
# Steps that a batch of so many rows takes as long as: as measured with weights that llama.cpp doesn't repack, as with
# those that it does, about as on a card, and where a batch saves nothing.
PLAIN = {1: 1, 2: 1.6, 3: 3, 4: 3.6, 8: 7.7, 16: 5.5, 32: 10.8}
REPACKED = {1: 1, 2: 1.1, 3: 1.4, 4: 1.5, 8: 2.4, 16: 3.6, 32: 7.6}
CARD = {1: 1, 2: 1.03, 4: 1.06, 8: 1.1, 16: 1.3, 32: 1.6}
NO_GAIN = {rows: float(rows) for rows in range(1, MOST_DRAFTED + 2)}
MACHINES = {"plain": PLAIN, "repacked": REPACKED, "card": CARD, "no gain": NO_GAIN}
DICE = random.Random(1)
TEXT = [DICE.randrange(1000) for _ in range(1000)]
OTHER = [DICE.randrange(1000, 9000) for _ in range(1000)]


@pytest.mark.parametrize(
    ("text", "match", "behind"),
    [
        ([], None, []),
        ([1, 2, 3], None, []),
        ([1, 2, 3, 9, 3], None, []),
        ([1, 2, 3, 4, 9, 1, 2], Match(2, 2), [3, 4, 9, 1, 2, 3]),
        ([1, 2, 3, 1, 2, 4, 8, 1, 2], Match(2, 5), [4, 8, 1, 2, 4, 8]),
        ([7, 1, 2, 3, 6, 1, 2, 4, 7, 1, 2], Match(3, 3), [3, 6, 1, 2, 4, 7]),
        ([5, 5, 5, 5], Match(3, 3), [5, 5, 5, 5, 5, 5]),
        ([*range(20), 30, *range(20)], Match(LONGEST, 20), [30, 0, 1, 2, 3, 4]),
    ],
    ids=["empty", "nothing twice", "one token", "in a prompt", "the last of two", "the longest", "a loop", "a copy"],
)
def test_what_stood_behind_the_same_tokens(text: list[int], match: Match | None, behind: list[int]) -> None:
    lookup = PromptLookup(text[: len(text) // 2], len(text))
    for token in text[len(text) // 2 :]:
        lookup.add(token)
    assert lookup.match() == match
    assert match is None or lookup.behind(match, 6) == behind


@dataclass
class Timed:
    """What an answer has taken on a machine where batches cost what ``steps`` says, in steps of one token each."""

    prompt: Sequence[int]
    answer: Sequence[int]
    steps: Mapping[int, float]
    costs: StepCosts = field(default_factory=StepCosts)
    drafted: list[int] = field(default_factory=list)
    taken: float = 0.0

    def __post_init__(self) -> None:
        drafter = PromptDrafter(self.prompt, len(self.answer), self.costs)
        drafter.add(self.answer[0])
        at = 1
        while at < len(self.answer):
            drafts = drafter.draft(others=0)
            rows, begun = 1 + len(drafts), at
            for draft in (*drafts, None):
                drafter.add(self.answer[at])
                at += 1
                if at == len(self.answer) or self.answer[at - 1] != draft:
                    break
            steps = self.steps.get(rows) or max(value for size, value in self.steps.items() if size < rows)
            drafter.took(rows, at - begun, steps * STEP_S)
            self.drafted.append(len(drafts))
            self.taken += steps

    @property
    def gain(self) -> float:
        return (len(self.answer) - 1) / self.taken


@pytest.mark.parametrize(
    ("machine", "least"), [("plain", 1.7), ("repacked", 2.5), ("card", 4.0), ("no gain", 0.95)], ids=str
)
def test_a_text_repeated_with_a_word_changed_is_written_faster(machine: str, least: float) -> None:
    changed = [OTHER[at] if at % 50 == 25 else token for at, token in enumerate(TEXT)]
    assert Timed(TEXT, changed, MACHINES[machine]).gain >= least


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 8, 16])
def test_what_does_not_pay_costs_little(machine: str, length: int) -> None:
    """The same words come again and again, and go on in another way each time."""
    ends = iter(OTHER)
    answer = [token for _ in range(600 // (length + 3)) for token in (*TEXT[:length], *(next(ends) for _ in range(3)))]
    assert Timed([1, 2, 3], answer, MACHINES[machine]).gain >= 0.97


def test_drafting_ends_and_begins_again_within_an_answer() -> None:
    """A copy, then words that only look like one, then a copy again."""
    ends = iter(OTHER)
    decoy = [token for at in range(60) for token in (*TEXT[at * 2 : at * 2 + 3], next(ends), next(ends))]
    timed = Timed(TEXT, [*TEXT[:300], *decoy, *TEXT[500:800]], PLAIN)
    first, between, last = timed.drafted[:40], timed.drafted[60:-40], timed.drafted[-20:]
    assert max(first) >= 15 <= max(last)
    assert max(between) <= 1


@pytest.mark.parametrize("machine", MACHINES)
def test_a_disturbed_batch_is_timed_again(machine: str) -> None:
    costs, quiet = StepCosts(), MACHINES[machine]
    for rows in quiet:
        costs.add(rows, 0.01 * (quiet[rows] if rows == 1 else 2 * quiet[rows]))
    disturbed = Timed(TEXT, TEXT, quiet, costs).gain
    assert disturbed >= 0.7 * Timed(TEXT, TEXT, quiet).gain


def test_nothing_is_drafted_before_a_step_was_timed_nor_behind_the_end() -> None:
    drafter = PromptDrafter([1, 2, 3, 4, 5, 6, 7, 8], 5, StepCosts())
    for token in (1, 2, 3):
        drafter.add(token)
    assert drafter.draft(others=0) == ()
    drafter.took(1, 1, 1.0)
    assert len(drafter.draft(others=0)) <= 1
    drafter.add(4)
    assert drafter.draft(others=0) == ()


def test_beside_others_little_is_drafted() -> None:
    """As many tokens a second, all answers together, must come of it."""
    costs = StepCosts()
    for rows in CARD:
        costs.add(rows, CARD[rows])
        costs.add(rows, CARD[rows])
    drafter = PromptDrafter(TEXT, 400, costs)
    for token in TEXT[:200]:
        drafter.add(token)
    assert len(drafter.draft(others=0)) > MOST_BESIDE_OTHERS
    assert len(drafter.draft(others=3)) == MOST_BESIDE_OTHERS
    for rows in (5, 6, 8):
        costs.add(rows, 5.0)
        costs.add(rows, 5.0)
    assert drafter.draft(others=3) == (), "a batch of eight takes five times as long as one of four"


class Scripted:
    """A drafter that is right as often as ``are_right`` says, of an answer that is known."""

    def __init__(self, prompt: Sequence[int], wanted: int, counts: Iterator[int], are_right: Iterator[bool]) -> None:
        self._text, self._end = list(prompt), len(prompt) + wanted
        self._counts, self._are_right = counts, are_right

    def draft(self, others: int) -> Sequence[int]:
        text, drafts = list(self._text), []
        for _ in range(max(0, min(next(self._counts), self._end - len(text) - 1))):
            is_right = next(self._are_right)
            drafts.append(following(text) if is_right else (following(text) + 1) % VOCABULARY)
            text.append(drafts[-1])
        return drafts

    def add(self, token: int) -> None:
        self._text.append(token)

    def took(self, rows: int, tokens: int, seconds: float) -> None: ...

    def end(self) -> None: ...


class Stubborn(Memory):
    """Doesn't always give up the end of a sequence, as a window that has moved on."""

    refuses: Iterator[bool]

    def keep(self, sequence: int, length: int) -> bool:
        held = self.held[sequence]
        if 0 < length < len(held) and next(self.refuses):
            held.clear()
            return False
        return super().keep(sequence, length)


@dataclass
class Wanted:
    prompt: list[int]
    count: int
    stop: int | None

    @property
    def alone(self) -> list[int]:
        said: list[int] = []
        while not said or (len(said) < self.count and said[-1] != self.stop):
            said.append(following(self.prompt + said))
        return said


wanted = st.builds(
    Wanted, st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(1, 40), st.none() | st.integers(0, 49)
)


def endless(dice: random.Random, draw: Callable[[random.Random], Any]) -> Iterator[Any]:
    while True:
        yield draw(dice)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(wanted, min_size=1, max_size=6),
    st.integers(0, 1 << 30),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.sampled_from([0.0, 0.3]),
    st.booleans(),
)
def test_answers_are_the_same_with_and_without(
    sequences: int, asked: list[Wanted], seed: int, right: float, refused: float, can_cut: bool
) -> None:
    """Whatever is drafted, how often it is right, and whether the memory gives up what was wrong."""
    dice, opened = random.Random(seed), Likeliest.opened
    memory = Stubborn(sequences, length=100, batch=128, can_cut=can_cut)
    memory.refuses = endless(dice, lambda dice: dice.random() < refused)
    scheduler = Scheduler(cast(Context, memory), sequences)
    said: list[list[int]] = [[] for _ in asked]
    generations = []
    for want, tokens in zip(asked, said, strict=True):

        def take(token: int, want: Wanted = want, tokens: list[int] = tokens) -> bool:
            tokens.append(token)
            return len(tokens) < want.count and token != want.stop

        counts = endless(dice, lambda dice: dice.choice([0, 1, 3, 7]))
        are_right = endless(dice, lambda dice: dice.random() < right)
        drafter = Scripted(want.prompt, want.count, counts, are_right)
        generations.append(
            Generation(want.prompt, cast(Sampler, Likeliest()), take, lambda error: None, drafter=drafter)
        )
    scheduler.submit(generations)
    while scheduler.idle_s == 0:
        scheduler.step()
        assert [slot.tokens for slot in scheduler.slots.all] == memory.held
    assert said == [want.alone for want in asked]
    assert Likeliest.opened == opened
    for generation, tokens in zip(generations, said, strict=True):
        work = generation.work
        assert work.decode_tokens <= len(tokens)
        assert work.accepted_tokens <= work.drafted_tokens
        assert can_cut or not work.drafted_tokens


def scheduled(memory: Memory, wanted: int, counts: int, take: Callable[[int], bool], ends: list[Any]) -> Generation:
    drafter = Scripted([1], wanted, endless(random.Random(0), lambda _: counts), endless(random.Random(0), lambda _: 1))
    return Generation([1], cast(Sampler, Likeliest()), take, ends.append, drafter=drafter)


def test_a_step_brings_all_that_was_drafted_rightly() -> None:
    memory, tokens = Memory(1, length=100), list[int]()
    scheduler = Scheduler(cast(Context, memory), 1)

    def take(token: int) -> bool:
        tokens.append(token)
        return len(tokens) < 33

    generation = scheduled(memory, 33, 7, take, [])
    scheduler.submit([generation])
    while scheduler.idle_s == 0:
        scheduler.step()
    assert [len(batch) for batch in memory.batches] == [1, 8, 8, 8, 8]
    work = generation.work
    assert (work.decode_tokens, work.drafted_tokens, work.accepted_tokens, work.plain_tokens) == (32, 28, 28, 0)


def test_nothing_is_drafted_while_a_prompt_is_read() -> None:
    memory = Memory(2, length=400, batch=128)
    scheduler = Scheduler(cast(Context, memory), 2)
    scheduler.submit([scheduled(memory, 90, 7, lambda _: True, [])])
    scheduler.step()
    ends = list[Any]()
    scheduler.submit([Generation([2] * 300, cast(Sampler, Likeliest()), lambda _: False, ends.append)])
    while not ends:
        scheduler.step()
        assert sum(row.sequence == 0 for row in memory.batches[-1]) == 1
    scheduler.step()
    assert len(memory.batches[-1]) == 8


def test_what_cannot_be_computed_with_drafts_is_computed_without() -> None:
    answer = Wanted([1], 3, None).alone
    memory, tokens, ends = Memory(1, failing=frozenset({following([1, *answer])})), list[int](), list[Any]()
    scheduler = Scheduler(cast(Context, memory), 1)

    def take(token: int) -> bool:
        tokens.append(token)
        return len(tokens) < 4

    scheduler.submit([scheduled(memory, 9, 7, take, ends)])
    while scheduler.idle_s == 0:
        scheduler.step()
    assert (tokens, ends) == (Wanted([1], 4, None).alone, [None])


def test_an_error_within_drafted_tokens_ends_that_answer_alone() -> None:
    memory, ends = Memory(2, length=100), list[Any]()
    scheduler = Scheduler(cast(Context, memory), 2)
    told: list[int] = []

    def fail(token: int) -> bool:
        told.append(token)
        if len(told) == 4:
            raise DecodeError("in the middle")
        return True

    scheduler.submit([scheduled(memory, 90, 7, fail, ends)])
    while scheduler.idle_s == 0:
        scheduler.step()
        assert [slot.tokens for slot in scheduler.slots.all] == memory.held
    assert (told, [type(end) for end in ends]) == (Wanted([1], 4, None).alone, [DecodeError])
    assert len(scheduler.slots.free) == 2


def test_who_leaves_in_the_middle_of_drafts_frees_the_sequence() -> None:
    memory, ends = Memory(1, length=4000), list[Any]()
    scheduler = Scheduler(cast(Context, memory), 1)
    generation = scheduled(memory, 3000, 7, lambda _: True, ends)
    scheduler.submit([generation])
    for _ in range(3):
        scheduler.step()
    scheduler.cancel([generation])
    scheduler.step()
    assert ends == [None] and scheduler.idle_s > 0


def test_what_was_disturbed_for_long_is_tried_again() -> None:
    costs = StepCosts()
    for rows in (1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32):
        costs.add(rows, STEP_S * (1 if rows == 1 else 100))
    assert Timed(TEXT, TEXT[:20], CARD, costs).gain < 1.1
    assert Timed(TEXT, TEXT, CARD, costs).gain > 1.5
