"""Which endpoint is asked first, and which is left alone: tables over what was seen of them."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.errors import AccessError, CertificateError, LlmctlError, NetworkError, UnreachableError
from llmctl.router import kept_availability
from llmctl.router.availability import (
    FIRST_REST_S,
    LONGEST_REST_S,
    MOST_FAILURES,
    PROBE_S,
    UNKNOWN,
    Availability,
    ordered,
    resting,
)
from llmctl.types.endpoint import Endpoint

NOW_S = 1_800_000_000.0
A, B, C = (Endpoint(name, f"https://{name}/v1", "m") for name in "abc")
OTHER_MODEL = Endpoint("o", "https://o/v1", "other")
FIRST = Endpoint("f", "https://f/v1", "m", priority=2)


@pytest.mark.parametrize(
    ("endpoints", "busy", "expected"),
    [
        ((A, B), {}, "ab"),
        ((A, B), {"a": 1}, "ba"),
        ((A, B, C), {"a": 2, "b": 1, "c": 1}, "bca"),
        ((A, OTHER_MODEL, B), {}, "abo"),
        ((A, OTHER_MODEL, B), {"a": 5}, "bao"),
        ((OTHER_MODEL, A, B), {"o": 9}, "oab"),
        ((A, FIRST), {"f": 9}, "fa"),
        ((), {}, ""),
    ],
)
def test_the_order(endpoints: tuple[Endpoint, ...], busy: dict[str, int], expected: str) -> None:
    seen = {name: Availability(busy=count) for name, count in busy.items()}
    assert "".join(endpoint.name for endpoint in ordered(endpoints, seen)) == expected


@given(
    st.lists(st.sampled_from([A, B, C, OTHER_MODEL, FIRST]), unique=True).map(tuple),
    st.dictionaries(st.sampled_from("abcof"), st.builds(Availability, busy=st.integers(0, 9))),
)
def test_the_order_loses_nobody_and_keeps_to_priorities(
    endpoints: tuple[Endpoint, ...], seen: dict[str, Availability]
) -> None:
    made = ordered(endpoints, seen)
    assert sorted(made, key=str) == sorted(endpoints, key=str)
    assert [endpoint.priority for endpoint in made] == sorted((each.priority for each in made), reverse=True)
    assert ordered(made, seen) == made


def failed(times: int, *, retry_after_s: float | None = None) -> Availability:
    made = UNKNOWN
    for _ in range(times):
        made = made.failed("it can't be reached", NOW_S, retry_after_s)
    return made


@pytest.mark.parametrize(
    ("seen", "rest_s"),
    [
        (failed(1), 0),
        (failed(MOST_FAILURES), FIRST_REST_S),
        (failed(MOST_FAILURES + 1), 2 * FIRST_REST_S),
        (failed(MOST_FAILURES + 2), 4 * FIRST_REST_S),
        (failed(99), LONGEST_REST_S),
        (failed(1, retry_after_s=45), 45),
        (failed(1, retry_after_s=9e9), LONGEST_REST_S),
        (failed(MOST_FAILURES).probed(NOW_S + FIRST_REST_S), FIRST_REST_S + PROBE_S),
        (failed(1).probed(NOW_S), 0),
        (UNKNOWN.probed(NOW_S), 0),
        (Availability(failures=5, rests_until_s=NOW_S + 1e6), 0),  # the clock was set back
    ],
)
def test_how_long_it_is_left_alone(seen: Availability, rest_s: float) -> None:
    assert seen.rests(NOW_S + rest_s - 1) is (rest_s > 0)
    assert not seen.rests(NOW_S + rest_s + 1)


def test_the_words() -> None:
    seen = {"a": failed(MOST_FAILURES), "b": failed(1)}
    says = resting((A, B, C), seen, NOW_S)
    assert says == {"a": "failed 2 times in a row (it can't be reached), it is asked again in 30 s"}


# What is kept, between calls and processes

DEAD, BROKEN = UnreachableError("gone"), NetworkError("broke off")


def ask(endpoint: Endpoint, error: LlmctlError | None, among: tuple[Endpoint, ...] = ()) -> None:
    try:
        with kept_availability.noted(endpoint, among):
            if error is not None:
                raise error
    except LlmctlError as raised:
        assert raised is error


@pytest.mark.parametrize(
    ("ends", "failures"),
    [
        ([None], 0),
        ([DEAD], 1),
        ([DEAD, BROKEN], 2),
        ([DEAD, BROKEN, None], 0),
        ([DEAD, AccessError("401")], 0),
        ([CertificateError("expired")] * 3, 0),
    ],
)
def test_failures_in_a_row_are_kept(ends: list[LlmctlError | None], failures: int) -> None:
    for error in ends:
        ask(A, error)
    assert kept_availability.look((A,)).get("a", UNKNOWN).failures == failures
    assert "gone" not in json.dumps(str(kept_availability.file().read_bytes()) if failures else "")


def test_another_address_is_another_server() -> None:
    ask(A, DEAD)
    assert kept_availability.look((Endpoint("a", "https://elsewhere/v1", "m"), B)) == {}


def test_one_call_at_a_time_looks_whether_it_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ask(A, DEAD)
    ask(A, DEAD)
    later_s = time.time() + FIRST_REST_S + 1
    monkeypatch.setattr("time.time", lambda: later_s)
    assert not kept_availability.look((A,))["a"].rests(later_s)
    with kept_availability.noted(A, ()):
        assert kept_availability.look((A,))["a"].rests(later_s), "the others leave it alone meanwhile"
    assert kept_availability.look((A,)) == {}


def test_prompts_of_other_processes_count_until_those_end() -> None:
    with kept_availability.noted(A, (A, B)), kept_availability.noted(A, (A, B)):
        assert kept_availability.look((A, B))["a"].busy == 2
        ended = subprocess.Popen(["true"])
        ended.wait()
        text = kept_availability.file().read_text().replace(f'"pid": {os.getpid()}', f'"pid": {ended.pid}', 1)
        kept_availability.file().write_text(text)
        assert kept_availability.look((A, B))["a"].busy == 1
    assert kept_availability.look((A, B)).get("a", UNKNOWN).busy == 0
    with kept_availability.noted(A, (A, OTHER_MODEL)):
        assert kept_availability.look((A,)).get("a", UNKNOWN).busy == 0, "nobody shares its work"


@pytest.mark.parametrize("content", ["", "[", '{"a https://a/v1": {"failures": "many"}}', "\0" * 9])
def test_a_file_that_can_be_read_by_nobody_is_as_none(content: str) -> None:
    kept_availability.file().parent.mkdir(parents=True, exist_ok=True)
    kept_availability.file().write_text(content)
    assert kept_availability.look((A,)) == {}
    ask(A, DEAD)
    assert kept_availability.look((A,))["a"].failures == 1
