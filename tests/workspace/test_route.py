"""What would answer and why: the same that does answer, without loading, fetching or sending anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.cli import main
from llmctl.cli.output import Output
from llmctl.cli.route import show
from llmctl.errors import ContextError, LlmctlError, NotFoundError, NothingFitsError, OfflineError, PolicyError
from llmctl.settings import Settings, load
from llmctl.types.endpoint import LOCAL_FAILURES, Endpoint, LeaveReason, Side
from llmctl.types.plan import Fit, NoFit
from llmctl.types.policy import Policy
from llmctl.types.request import Request
from llmctl.workspace.local_run import LocalRun
from llmctl.workspace.route import Routed, routed
from tests.fakes.chat_server import DONE, ChatServer, event, stream
from tests.fakes.fits import fit_for

FIT = fit_for(Path("/models/here.gguf"))
NOTHING = NoFit("no model fits: 9 GB of 8 GB", (), None)
OFFICE = Endpoint("office", "https://llm.example.internal/v1", "qwen3-32b")
NAMED = dict.fromkeys(LOCAL_FAILURES, "-m here names what is to answer")
TOO_LONG = "word " * (FIT.context + 1)


def settings(policy: Policy = Policy.PREFER_LOCAL, *endpoints: Endpoint, offline: bool = False) -> Settings:
    return replace(load(), policy=policy, endpoints=endpoints, offline=offline)


def decided(
    planned: Fit | NoFit,
    loaded: Settings,
    prompt: str = "hi",
    *,
    private: bool = False,
    local: bool = False,
    endpoint: str | None = None,
    named: bool = False,
) -> Routed:
    run = LocalRun(planned, NAMED if named else {})
    return routed(loaded, replace(Request.of(prompt), private=private), lambda: run, local=local, endpoint=endpoint)


Decides = Callable[[], Routed]
PREFER_LOCAL, PREFER_REMOTE = Policy.PREFER_LOCAL, Policy.PREFER_REMOTE


@pytest.mark.parametrize(
    ("decides", "why", "fallback", "stays"),
    [
        (lambda: decided(FIT, settings(Policy.LOCAL_ONLY)), None, None, "no server was added"),
        (lambda: decided(FIT, settings(Policy.LOCAL_ONLY, OFFICE)), None, None, "the policy is local-only"),
        (lambda: decided(FIT, settings(PREFER_LOCAL)), None, None, "no server was added"),
        (lambda: decided(FIT, settings(PREFER_LOCAL, OFFICE)), None, Side.REMOTE, None),
        (lambda: decided(FIT, settings(PREFER_LOCAL, OFFICE), named=True), None, None, None),
        (lambda: decided(FIT, settings(PREFER_LOCAL, OFFICE), local=True), None, None, "--local"),
        (lambda: decided(FIT, settings(PREFER_LOCAL, OFFICE), private=True), None, None, "the prompt is private"),
        (
            lambda: decided(FIT, settings(PREFER_LOCAL, OFFICE, offline=True)), None, None,
            "llmctl is set to stay offline, and no server is on this machine",
        ),
        (lambda: decided(NOTHING, settings(PREFER_LOCAL, OFFICE)), LeaveReason.NOTHING_FITS, None, None),
        (
            lambda: decided(FIT, settings(PREFER_LOCAL, OFFICE), TOO_LONG), LeaveReason.PROMPT_TOO_LONG, None, None,
        ),
        (lambda: decided(FIT, settings(PREFER_REMOTE, OFFICE)), LeaveReason.PREFER_REMOTE, Side.LOCAL, None),
        (lambda: decided(FIT, settings(Policy.REMOTE_ONLY, OFFICE)), LeaveReason.REMOTE_ONLY, None, None),
        (lambda: decided(FIT, settings(PREFER_LOCAL, OFFICE), endpoint="office"), LeaveReason.PINNED, None, None),
    ],
)  # fmt: skip
def test_the_route(decides: Decides, why: LeaveReason | None, fallback: Side | None, stays: str | None) -> None:
    made = decides()
    assert made.answers.side is (Side.LOCAL if why is None else Side.REMOTE)
    assert made.left_because is why
    assert (None if made.fallback is None else made.fallback.side) is fallback
    assert made.stays_because == stays
    assert [reason.left_because for reason in made.reasons] == list(LeaveReason)
    assert [reason.left_because for reason in made.reasons if reason.holds] == ([] if why is None else [why])


@pytest.mark.parametrize(
    ("decides", "error"),
    [
        (lambda: decided(NOTHING, settings(Policy.LOCAL_ONLY)), NothingFitsError),
        (lambda: decided(FIT, settings(Policy.LOCAL_ONLY, OFFICE), endpoint="office"), PolicyError),
        (lambda: decided(FIT, settings(PREFER_LOCAL, OFFICE), endpoint="office", private=True), PolicyError),
        (lambda: decided(FIT, settings(PREFER_LOCAL, OFFICE), endpoint="nowhere"), NotFoundError),
        (lambda: decided(FIT, settings(Policy.REMOTE_ONLY, OFFICE, offline=True)), OfflineError),
        (lambda: decided(FIT, settings(PREFER_LOCAL, OFFICE), TOO_LONG, named=True), ContextError),
        (lambda: decided(FIT, settings(Policy.LOCAL_ONLY), TOO_LONG), ContextError),
    ],
)
def test_what_run_refuses_is_refused(decides: Decides, error: type[LlmctlError]) -> None:
    with pytest.raises(error):
        decides()


def test_the_figures() -> None:
    made = {reason.left_because: reason for reason in decided(FIT, settings(PREFER_LOCAL, OFFICE), "hi " * 9).reasons}
    assert made[LeaveReason.PROMPT_TOO_LONG].says == f"the prompt has about 25 tokens, the context is {FIT.context:,}"
    assert made[LeaveReason.NOTHING_FITS].says.startswith(f"{FIT.candidate.model.id} fits: ")
    assert made[LeaveReason.PINNED].says == "no --endpoint is given"
    named = decided(FIT, settings(PREFER_LOCAL, OFFICE), named=True)
    assert {reason.left_because for reason in named.reasons if reason.barred} == LOCAL_FAILURES


TO_FETCH = replace(FIT, candidate=replace(FIT.candidate, path=None), download_bytes=3 * 10**9)


@pytest.mark.parametrize(
    ("planned", "own", "holds", "says"),
    [
        (FIT, {}, False, "nothing to fetch; max_first_token and max_download would limit that"),
        (FIT, {"max_first_token": 0.0}, True, " (limit: 0.0 s), nothing to fetch"),
        (FIT, {"max_first_token": 1e6}, False, "nothing to fetch"),
        (TO_FETCH, {"max_download": 10**9}, True, "3.0 GB to fetch (limit: 1.0 GB)"),
        (TO_FETCH, {"max_download": 10**10}, False, "3.0 GB to fetch (limit: 10.0 GB)"),
    ],
)
def test_limits_of_the_users_own(planned: Fit, own: dict[str, Any], holds: bool, says: str) -> None:
    made = decided(planned, replace(settings(PREFER_LOCAL, OFFICE), **own))
    assert (made.left_because is LeaveReason.LIMIT_MISSED) is holds
    reasons = {reason.left_because: reason for reason in made.reasons}
    limit = reasons[LeaveReason.LIMIT_MISSED]
    assert limit.holds is holds and says in limit.says
    wanting = "" if planned is FIT else "the model has to be fetched first; server_meanwhile is false"
    assert reasons[LeaveReason.DOWNLOADING].says == (wanting or "the model is here")


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("command", [("route",), ("run", "--dry-run")], ids=["route", "run"])
def test_nothing_is_sent(command: tuple[str, ...], capsys: pytest.CaptureFixture[str], home: Path) -> None:
    with ChatServer(stream(event("Hi", finish="stop"), DONE)) as server:
        assert main(["endpoint", "add", "office", server.url, "-m", "m"]) == 0
        capsys.readouterr()
        assert main([*command, "-e", "office", "--json", "hi"]) == 0
        data = json.loads(capsys.readouterr().out)["data"]
        assert data["answers"]["endpoint"] == "office" and data["left_because"] == "pinned"
        assert main([*command, "-e", "office", "hi"]) == 0
        shown = capsys.readouterr().out
        assert shown.splitlines()[:2] == [f"office ({server.host}): m", "  because   you asked for it"]
        assert main([*command, "--local", "-m", "qwen3.5-4b", "hi"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("this machine: qwen3.5-4b") and "leaves    never: --local" in shown
        assert server.connections == 0
    assert not list(home.rglob("*.gguf")) and not list(home.rglob("receipts*"))


LAB = Endpoint("lab", "https://lab.example.internal/v1", "m")


@pytest.mark.parametrize(
    ("planned", "policy", "shown"),
    [
        (FIT, PREFER_LOCAL, ["this machine", "office", "lab"]),
        (NOTHING, PREFER_LOCAL, ["office", "lab"]),
        (FIT, PREFER_REMOTE, ["office", "lab", "this machine"]),
        (FIT, Policy.LOCAL_ONLY, ["this machine"]),
    ],
)
def test_who_comes_next(
    planned: Fit | NoFit, policy: Policy, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    show(Output("route", as_json=False), decided(planned, settings(policy, OFFICE, LAB)))
    first, *lines = capsys.readouterr().out.splitlines()
    then = [line.removeprefix("  if not    ") for line in lines if line.startswith("  if not")]
    assert [line.partition(":")[0].partition(" (")[0] for line in (first, *then)] == shown
