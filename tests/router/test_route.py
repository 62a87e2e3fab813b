"""Every case of the router as a table, and what must never happen as properties."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.errors import LlmctlError, NotFoundError, NothingFitsError, PolicyError, UsageError
from llmctl.router.route import route
from llmctl.types.endpoint import Endpoint, Local, Policy, Remote, Route
from llmctl.types.plan import Fit, NoFit
from tests.fakes.fits import fit_for

FITS = fit_for(Path("/models/here.gguf"))
TO_FETCH = replace(FITS, candidate=replace(FITS.candidate, path=None))
NO_FIT = NoFit("19.2 GB short", (), None)
A, B = Endpoint("a", "https://a/v1", "m"), Endpoint("b", "https://b/v1", "m")

LOCAL_ONLY, PREFER_LOCAL, PREFER_REMOTE, REMOTE_ONLY = Policy

HERE = Local(FITS, "it fits this machine")
FETCHED = Local(TO_FETCH, "it fits this machine")
ASKED = Remote(B, "you asked for it")
REMOTE_FIRST = Remote(A, "the policy is prefer-remote")
REMOTE_ALONE = Remote(A, "the policy is remote-only")
Planned = Fit | NoFit | None

# planned, policy, endpoints -> without a pin, with --local, with --endpoint b
CASES: list[tuple[Planned, Policy, tuple[Endpoint, ...], object, object, object]] = [
    (FITS, LOCAL_ONLY, (), HERE, HERE, PolicyError),
    (FITS, LOCAL_ONLY, (A, B), HERE, HERE, PolicyError),
    (NO_FIT, LOCAL_ONLY, (), NothingFitsError, NothingFitsError, PolicyError),
    (NO_FIT, LOCAL_ONLY, (A, B), NothingFitsError, NothingFitsError, PolicyError),
    (None, LOCAL_ONLY, (A, B), AssertionError, AssertionError, PolicyError),
    (FITS, PREFER_LOCAL, (), HERE, HERE, ASKED),
    (FITS, PREFER_LOCAL, (A, B), replace(HERE, fallback=A), HERE, ASKED),
    (TO_FETCH, PREFER_LOCAL, (A,), replace(FETCHED, fallback=A), FETCHED, ASKED),
    (NO_FIT, PREFER_LOCAL, (), NothingFitsError, NothingFitsError, ASKED),
    (NO_FIT, PREFER_LOCAL, (A, B), Remote(A, "19.2 GB short"), NothingFitsError, ASKED),
    (None, PREFER_LOCAL, (A, B), AssertionError, AssertionError, ASKED),
    (FITS, PREFER_REMOTE, (), HERE, HERE, ASKED),
    (FITS, PREFER_REMOTE, (A, B), replace(REMOTE_FIRST, fallback=FITS), HERE, ASKED),
    (TO_FETCH, PREFER_REMOTE, (A, B), REMOTE_FIRST, FETCHED, ASKED),
    (NO_FIT, PREFER_REMOTE, (), NothingFitsError, NothingFitsError, ASKED),
    (NO_FIT, PREFER_REMOTE, (A, B), REMOTE_FIRST, NothingFitsError, ASKED),
    (None, PREFER_REMOTE, (A, B), REMOTE_FIRST, AssertionError, ASKED),
    (FITS, REMOTE_ONLY, (), NotFoundError, HERE, ASKED),
    (FITS, REMOTE_ONLY, (A, B), REMOTE_ALONE, HERE, ASKED),
    (NO_FIT, REMOTE_ONLY, (), NotFoundError, NothingFitsError, ASKED),
    (NO_FIT, REMOTE_ONLY, (A, B), REMOTE_ALONE, NothingFitsError, ASKED),
    (None, REMOTE_ONLY, (), NotFoundError, AssertionError, ASKED),
    (None, REMOTE_ONLY, (A, B), REMOTE_ALONE, AssertionError, ASKED),
]  # fmt: skip


def outcome(
    planned: Planned, policy: Policy, endpoints: tuple[Endpoint, ...], pinned: Endpoint | None, local: bool
) -> Route | type[Exception]:
    try:
        return route(planned, policy, endpoints, pinned=pinned, local=local)
    except (LlmctlError, AssertionError) as error:
        return type(error)


@pytest.mark.parametrize(
    ("planned", "policy", "endpoints", "unpinned", "with_local", "with_endpoint"),
    CASES,
    ids=[
        f"{planned.reason if isinstance(planned, NoFit) else 'fit' if planned else None}-{policy}-{len(endpoints)}"
        for planned, policy, endpoints, *_ in CASES
    ],
)
def test_table(
    planned: Planned,
    policy: Policy,
    endpoints: tuple[Endpoint, ...],
    unpinned: object,
    with_local: object,
    with_endpoint: object,
) -> None:
    assert outcome(planned, policy, endpoints, None, False) == unpinned
    assert outcome(planned, policy, endpoints, None, True) == with_local
    assert outcome(planned, policy, endpoints, B, False) == with_endpoint
    assert outcome(planned, policy, endpoints, B, True) is UsageError


def test_the_table_is_whole() -> None:
    """Every policy with and without endpoints, for a plan that fits and one that doesn't."""
    seen = {(type(planned), policy, bool(endpoints)) for planned, policy, endpoints, *_ in CASES}
    assert seen >= {(kind, policy, some) for kind in (Fit, NoFit) for policy in Policy for some in (True, False)}


PLANNED = st.sampled_from([FITS, TO_FETCH, NO_FIT, None])
ENDPOINTS = st.lists(st.sampled_from([A, B]), max_size=3).map(tuple)
PINNED = st.sampled_from([A, B, None])


@given(PLANNED, ENDPOINTS, PINNED, st.booleans())
def test_local_only_never_lets_a_prompt_leave(
    planned: Planned, endpoints: tuple[Endpoint, ...], pinned: Endpoint | None, local: bool
) -> None:
    made = outcome(planned, Policy.LOCAL_ONLY, endpoints, pinned, local)
    assert isinstance(made, type) or (isinstance(made, Local) and made.fallback is None)


@given(PLANNED, st.sampled_from(Policy), ENDPOINTS, PINNED)
def test_local_never_lets_a_prompt_leave(
    planned: Planned, policy: Policy, endpoints: tuple[Endpoint, ...], pinned: Endpoint | None
) -> None:
    made = outcome(planned, policy, endpoints, pinned, True)
    assert isinstance(made, type) or (isinstance(made, Local) and made.fallback is None)


@given(PLANNED, st.sampled_from(Policy), ENDPOINTS, PINNED, st.booleans())
def test_what_is_routed_was_given(
    planned: Planned, policy: Policy, endpoints: tuple[Endpoint, ...], pinned: Endpoint | None, local: bool
) -> None:
    """No endpoint that was neither configured nor pinned; a fallback to a file that is here; a reason always."""
    made = outcome(planned, policy, endpoints, pinned, local)
    if isinstance(made, Remote):
        assert made.endpoint in ((pinned,) if pinned else endpoints)
        assert made.fallback is None or made.fallback.candidate.path is not None
        assert made.reason
    elif isinstance(made, Local):
        assert made.fit is planned
        assert made.fallback is None or made.fallback in endpoints
        assert made.reason


@pytest.mark.parametrize(
    ("planned", "policy", "pinned", "says", "hint"),
    [
        (NO_FIT, LOCAL_ONLY, None, "19.2 GB short", "llmctl endpoint add"),
        (FITS, LOCAL_ONLY, A, "the policy is local-only, so no prompt may go to a", "--local"),
        (FITS, REMOTE_ONLY, None, "the policy is remote-only and no endpoint is configured", "llmctl endpoint add"),
    ],
)
def test_errors_say_what_to_do(planned: Planned, policy: Policy, pinned: Endpoint | None, says: str, hint: str) -> None:
    with pytest.raises(LlmctlError) as caught:
        route(planned, policy, (), pinned=pinned)
    assert caught.value.message == says
    assert hint in str(caught.value.hint)
