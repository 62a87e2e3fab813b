"""Every case of the router as a table, and what must never happen as properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl.errors import (
    ContextError,
    DecodingError,
    EngineDiedError,
    EngineError,
    LlmctlError,
    NotFoundError,
    NothingFitsError,
    OfflineError,
    PolicyError,
    UsageError,
)
from llmctl.router.barred import barred
from llmctl.router.limits import WaitLimits
from llmctl.router.route import reason_of, route
from llmctl.settings import Project
from llmctl.types.endpoint import LOCAL_FAILURES, Barred, Endpoint, LeaveReason, Local, Remote, Route
from llmctl.types.plan import Fit, NoFit
from llmctl.types.policy import Policy
from tests.fakes.fits import fit_for

FITS = fit_for(Path("/models/here.gguf"))
TO_FETCH = replace(FITS, candidate=replace(FITS.candidate, path=None))
NO_FIT = NoFit("19.2 GB short", (), None)
A, B = Endpoint("a", "https://a/v1", "m"), Endpoint("b", "https://b/v1", "m")

LOCAL_ONLY, PREFER_LOCAL, PREFER_REMOTE, REMOTE_ONLY = Policy

HERE = Local(FITS, "it fits this machine")
FETCHED = Local(TO_FETCH, "it fits this machine")
ASKED = Remote(B, LeaveReason.PINNED, "you asked for it")
REMOTE_FIRST = Remote(A, LeaveReason.PREFER_REMOTE, "the policy is prefer-remote")
REMOTE_ALONE = Remote(A, LeaveReason.REMOTE_ONLY, "the policy is remote-only")
HANDED_OVER = Remote(A, LeaveReason.NOTHING_FITS, "19.2 GB short")
Planned = Fit | NoFit | None

# planned, policy, endpoints -> without a pin, with --local, with --endpoint b
CASES: list[tuple[Planned, Policy, tuple[Endpoint, ...], object, object, object]] = [
    (FITS, LOCAL_ONLY, (), HERE, HERE, PolicyError),
    (FITS, LOCAL_ONLY, (A, B), HERE, HERE, PolicyError),
    (NO_FIT, LOCAL_ONLY, (), NothingFitsError, NothingFitsError, PolicyError),
    (NO_FIT, LOCAL_ONLY, (A, B), NothingFitsError, NothingFitsError, PolicyError),
    (None, LOCAL_ONLY, (A, B), AssertionError, AssertionError, PolicyError),
    (FITS, PREFER_LOCAL, (), HERE, HERE, ASKED),
    (FITS, PREFER_LOCAL, (A, B), replace(HERE, fallback=A, others=(B,)), HERE, ASKED),
    (TO_FETCH, PREFER_LOCAL, (A,), replace(FETCHED, fallback=A), FETCHED, ASKED),
    (NO_FIT, PREFER_LOCAL, (), NothingFitsError, NothingFitsError, ASKED),
    (NO_FIT, PREFER_LOCAL, (A, B), replace(HANDED_OVER, others=(B,)), NothingFitsError, ASKED),
    (None, PREFER_LOCAL, (A, B), AssertionError, AssertionError, ASKED),
    (FITS, PREFER_REMOTE, (), HERE, HERE, ASKED),
    (FITS, PREFER_REMOTE, (A, B), replace(REMOTE_FIRST, fallback=FITS, others=(B,)), HERE, ASKED),
    (TO_FETCH, PREFER_REMOTE, (A, B), replace(REMOTE_FIRST, others=(B,)), FETCHED, ASKED),
    (NO_FIT, PREFER_REMOTE, (), NothingFitsError, NothingFitsError, ASKED),
    (NO_FIT, PREFER_REMOTE, (A, B), replace(REMOTE_FIRST, others=(B,)), NothingFitsError, ASKED),
    (None, PREFER_REMOTE, (A, B), replace(REMOTE_FIRST, others=(B,)), AssertionError, ASKED),
    (FITS, REMOTE_ONLY, (), NotFoundError, HERE, ASKED),
    (FITS, REMOTE_ONLY, (A, B), replace(REMOTE_ALONE, others=(B,)), HERE, ASKED),
    (NO_FIT, REMOTE_ONLY, (), NotFoundError, NothingFitsError, ASKED),
    (NO_FIT, REMOTE_ONLY, (A, B), replace(REMOTE_ALONE, others=(B,)), NothingFitsError, ASKED),
    (None, REMOTE_ONLY, (), NotFoundError, AssertionError, ASKED),
    (None, REMOTE_ONLY, (A, B), replace(REMOTE_ALONE, others=(B,)), AssertionError, ASKED),
]  # fmt: skip


WAITS = WaitLimits(first_token_s=5.0, download_bytes=10**9)
SLOW = replace(FITS, speed=replace(FITS.speed, first_token_s=4.0, load_s=2.0))
LARGE = replace(TO_FETCH, download_bytes=2 * 10**9)
QUICK = replace(FITS, speed=replace(FITS.speed, first_token_s=4.0, load_s=None))
SLOW_WORDS = "under-test Q4_1 would write its first token after 6.0 s, your limit is 5.0 s"
LARGE_WORDS = "under-test Q4_1 is a download of 2.0 GB, your limit is 1.0 GB"
MISSED, DOWNLOADING = LeaveReason.LIMIT_MISSED, LeaveReason.DOWNLOADING
STAYS: Barred = dict.fromkeys(LOCAL_FAILURES, "-m here names what is to answer")


@pytest.mark.parametrize(
    ("planned", "given", "made"),
    [
        (SLOW, {"limits": WAITS}, Remote(A, MISSED, SLOW_WORDS, SLOW, (B,))),
        (SLOW, {"limits": replace(WAITS, counts_load=False)}, Local(SLOW, "it fits this machine", A, {}, (B,))),
        (SLOW, {}, Local(SLOW, "it fits this machine", A, {}, (B,))),
        (SLOW, {"limits": WAITS, "barred": STAYS}, Local(SLOW, "it fits this machine", A, STAYS, (B,))),
        (SLOW, {"limits": WAITS, "local": True}, Local(SLOW, "it fits this machine")),
        (SLOW, {"limits": WAITS, "private": True}, Local(SLOW, "it fits this machine")),
        (SLOW, {"limits": WAITS, "policy": LOCAL_ONLY}, Local(SLOW, "it fits this machine")),
        (SLOW, {"limits": WAITS, "resting": {"a": "", "b": ""}}, Local(SLOW, "it fits this machine", A, {}, (B,))),
        (SLOW, {"limits": WAITS, "resting": {"a": ""}}, Remote(B, MISSED, SLOW_WORDS, SLOW, (A,))),
        (QUICK, {"limits": WAITS}, Local(QUICK, "it fits this machine", A, {}, (B,))),
        (LARGE, {"limits": WAITS}, Remote(A, MISSED, LARGE_WORDS, None, (B,))),
        (LARGE, {"limits": WAITS, "resting": {"a": "", "b": ""}}, Remote(A, MISSED, LARGE_WORDS, None, (B,))),
        (LARGE, {}, Local(LARGE, "it fits this machine", A, {}, (B,))),
        (replace(LARGE, candidate=FITS.candidate), {"limits": WAITS}, None),
        (
            LARGE,
            {"fetched": LARGE},
            Remote(A, DOWNLOADING, "under-test Q4_1 has to be fetched first (2.0 GB)", None, (B,)),
        ),
        (
            FITS,
            {"fetched": LARGE},
            Remote(A, DOWNLOADING, "under-test Q4_1 has to be fetched first (2.0 GB)", FITS, (B,)),
        ),
        (LARGE, {"fetched": LARGE, "barred": STAYS}, Local(LARGE, "it fits this machine", A, STAYS, (B,))),
        (LARGE, {"fetched": LARGE, "local": True}, Local(LARGE, "it fits this machine")),
    ],
)
def test_the_users_own_limits(planned: Fit, given: dict[str, Any], made: Route | None) -> None:
    routed = route(planned, **{"policy": PREFER_LOCAL, "endpoints": (A, B), **given})
    assert routed == made if made is not None else isinstance(routed, Local)


def outcome(
    planned: Planned,
    policy: Policy,
    endpoints: tuple[Endpoint, ...],
    pinned: Endpoint | None,
    local: bool,
    private: bool = False,
) -> Route | type[Exception]:
    try:
        return route(planned, policy, endpoints, pinned=pinned, local=local, private=private)
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
def test_a_private_prompt_never_leaves(
    planned: Planned, policy: Policy, endpoints: tuple[Endpoint, ...], pinned: Endpoint | None, local: bool
) -> None:
    """It is answered as with --local, but for what asks for a server."""
    made = outcome(planned, policy, endpoints, pinned, local, private=True)
    if local and pinned is not None:
        assert made is UsageError
    elif pinned is not None or (policy is Policy.REMOTE_ONLY and not local):
        assert made is PolicyError
    else:
        assert made == outcome(planned, policy, endpoints, None, True)


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


# Offline: no server on another machine, whatever the policy

NEAR = Endpoint("near", "http://127.0.0.1:8080/v1", "m")
NUMBERED = Endpoint("numbered", "http://[::1]:8080/v1", "m")
NAMED_ALIKE = Endpoint("alike", "https://localhost.example/v1", "m")


@pytest.mark.parametrize(
    ("planned", "policy", "endpoints", "pinned", "expected"),
    [
        (FITS, PREFER_LOCAL, (A, B), None, HERE),
        (FITS, PREFER_LOCAL, (A, NEAR), None, replace(HERE, fallback=NEAR)),
        (NO_FIT, PREFER_LOCAL, (A, B), None, NothingFitsError),
        (NO_FIT, PREFER_LOCAL, (NAMED_ALIKE,), None, NothingFitsError),
        (NO_FIT, PREFER_LOCAL, (A, NEAR), None, Remote(NEAR, LeaveReason.NOTHING_FITS, "19.2 GB short")),
        (FITS, PREFER_REMOTE, (A,), None, HERE),
        (NO_FIT, PREFER_REMOTE, (A,), None, NothingFitsError),
        (NO_FIT, PREFER_REMOTE, (NUMBERED,), None, replace(REMOTE_FIRST, endpoint=NUMBERED)),
        (None, REMOTE_ONLY, (A, B), None, OfflineError),
        (None, REMOTE_ONLY, (A, NEAR), None, replace(REMOTE_ALONE, endpoint=NEAR)),
        (None, REMOTE_ONLY, (), None, NotFoundError),
        (FITS, PREFER_LOCAL, (A, B), B, OfflineError),
        (FITS, PREFER_LOCAL, (A, B), NAMED_ALIKE, OfflineError),
        (FITS, PREFER_LOCAL, (A, NEAR), NEAR, replace(ASKED, endpoint=NEAR)),
    ],
)
def test_offline(
    planned: Planned,
    policy: Policy,
    endpoints: tuple[Endpoint, ...],
    pinned: Endpoint | None,
    expected: Route | type[Exception],
) -> None:
    try:
        made: object = route(planned, policy, endpoints, pinned=pinned, offline=True)
    except LlmctlError as error:
        made = type(error)
    assert made == expected


# What is barred: who decided what

PROJECT = Project(Path("llmctl.toml"), {"min_tok_s": 1e9}, {"min_tok_s": None})
SAYS_PROJECT = "llmctl.toml sets min_tok_s = 1000000000.0"
OTHER = replace(FITS, configuration=replace(FITS.configuration, context=FITS.context // 2))


@pytest.mark.parametrize(
    ("planned", "own", "says"),
    [
        (NO_FIT, FITS, SAYS_PROJECT),
        (NO_FIT, TO_FETCH, SAYS_PROJECT),
        (NO_FIT, None, SAYS_PROJECT),
        (FITS, OTHER, SAYS_PROJECT),
        (FITS, None, SAYS_PROJECT),
        (FITS, FITS, None),
        (NO_FIT, NO_FIT, None),
        (FITS, NO_FIT, None),
    ],
)
def test_a_project_file_may_not_make_it_leave(planned: Fit | NoFit, own: Fit | NoFit | None, says: str | None) -> None:
    made = barred(planned, project=PROJECT, own=own)
    assert made == ({} if says is None else dict.fromkeys(LOCAL_FAILURES, says))


@pytest.mark.parametrize("planned", [FITS, NO_FIT])
def test_what_was_named_answers_or_nothing_does(planned: Fit | NoFit) -> None:
    made = barred(planned, named="-m x.gguf", project=PROJECT, own=FITS, context=512)
    assert made == dict.fromkeys(LOCAL_FAILURES, "-m x.gguf names what is to answer")


def test_a_context_that_was_asked_for_bars_longer_prompts_only() -> None:
    assert set(barred(FITS, context=512)) == {LeaveReason.PROMPT_TOO_LONG}
    assert barred(FITS) == {}


def test_a_barred_plan_that_does_not_fit_says_why_nothing_was_sent() -> None:
    bars = {LeaveReason.NOTHING_FITS: SAYS_PROJECT}
    with pytest.raises(NothingFitsError) as caught:
        route(NO_FIT, PREFER_LOCAL, (A,), barred=bars)
    assert caught.value.message == f"19.2 GB short; {SAYS_PROJECT}, so nothing was sent to a"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("llmctl run --endpoint a")


@given(PLANNED, st.sampled_from(Policy), ENDPOINTS, st.sets(st.sampled_from(sorted(LOCAL_FAILURES))))
def test_a_barred_reason_never_makes_it_leave(
    planned: Planned, policy: Policy, endpoints: tuple[Endpoint, ...], reasons: set[LeaveReason]
) -> None:
    bars: Barred = dict.fromkeys(reasons, "somebody said so")
    try:
        made = route(planned, policy, endpoints, barred=bars)
    except (LlmctlError, AssertionError):
        return
    assert not (isinstance(made, Remote) and made.why in bars)
    if isinstance(made, Local) and made.fallback is not None:
        assert made.barred == bars


@pytest.mark.parametrize(
    ("error", "loaded", "expected"),
    [
        (ContextError("too long"), True, LeaveReason.PROMPT_TOO_LONG),
        (EngineError("can't load"), False, LeaveReason.NOT_LOADED),
        (EngineDiedError("signal 9"), False, LeaveReason.ENGINE_FAILED),
        (EngineDiedError("signal 9"), True, LeaveReason.ENGINE_FAILED),
        (DecodingError("decoding failed"), True, LeaveReason.ENGINE_FAILED),
        (EngineError("refused the request (400)"), True, None),
        (UsageError("no"), True, None),
    ],
)
def test_the_reason_of_a_failure(error: LlmctlError, loaded: bool, expected: LeaveReason | None) -> None:
    assert reason_of(error, loaded=loaded) is expected


@pytest.mark.parametrize("reason", LeaveReason)
def test_every_reason_has_words(reason: LeaveReason) -> None:
    assert reason.when.endswith(".")
    assert reason.decided_by.startswith("you, by ")


# Servers that rest after failures

WHY = "failed 2 times in a row"
BOTH = {"a": WHY, "b": WHY}


@pytest.mark.parametrize(
    ("planned", "policy", "resting", "expected"),
    [
        (FITS, PREFER_LOCAL, {"a": WHY}, replace(HERE, fallback=B, others=(A,))),
        (FITS, PREFER_LOCAL, BOTH, replace(HERE, fallback=A, others=(B,))),
        (NO_FIT, PREFER_LOCAL, {"a": WHY}, replace(HANDED_OVER, endpoint=B, others=(A,))),
        (FITS, REMOTE_ONLY, {"a": WHY}, replace(REMOTE_ALONE, endpoint=B, others=(A,))),
        (FITS, REMOTE_ONLY, BOTH, replace(REMOTE_ALONE, others=(B,))),
        (FITS, PREFER_REMOTE, {"a": WHY}, replace(REMOTE_FIRST, endpoint=B, fallback=FITS)),
        (FITS, PREFER_REMOTE, {"b": WHY}, replace(REMOTE_FIRST, fallback=FITS)),
        (FITS, PREFER_REMOTE, BOTH, Local(FITS, f"a {WHY}")),
        (TO_FETCH, PREFER_REMOTE, BOTH, replace(REMOTE_FIRST, others=(B,))),
        (NO_FIT, PREFER_REMOTE, {"a": WHY}, replace(REMOTE_FIRST, endpoint=B, others=(A,))),
        (FITS, LOCAL_ONLY, BOTH, HERE),
    ],
)
def test_a_server_that_rests_comes_last_or_not_at_all(
    planned: Planned, policy: Policy, resting: dict[str, str], expected: Route
) -> None:
    assert route(planned, policy, (A, B), resting=resting) == expected
    assert route(planned, Policy.PREFER_LOCAL, (A, B), pinned=A, resting=resting) == Remote(
        A, LeaveReason.PINNED, "you asked for it"
    ), "what is named is asked"
