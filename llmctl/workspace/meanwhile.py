"""A server answers while the model that is to answer here is fetched by a process of its own."""

from __future__ import annotations

import subprocess
import sys

from llmctl.net import host_of
from llmctl.shell import command
from llmctl.store import Store
from llmctl.types.endpoint import Endpoint
from llmctl.types.listener import Listener
from llmctl.types.model import Candidate, SourceKind
from llmctl.types.plan import Fit, Want
from llmctl.workspace import choose
from llmctl.workspace.situation import Situation


def answers_meanwhile(
    listener: Listener, looked_at: Situation, fit: Fit, wanted: Want, server: Endpoint, *, yes: bool
) -> bool:
    """Whether ``server`` may answer while the file of ``fit``, which isn't here, is fetched: the setting
    ``server_meanwhile``, or a person who is asked, says so. The fetch, to which that person agrees as well, goes on
    when this process ends. Raises what ``choose.agree`` raises."""
    name, host = choose.name_of(fit.candidate), host_of(server.url)
    question = f"{name} has to be fetched first. May {server.name} ({host}) answer this prompt meanwhile?"
    if not (looked_at.settings.server_meanwhile or listener.confirm(question, yes=False, by_default=False)):
        return False
    if not is_being_fetched(looked_at.store, fit.candidate):
        choose.tell_what_is_missing(listener, fit, named=False)
        choose.agree(listener, looked_at, fit, wanted, yes=yes)
        start(name)
    listener.note(f"{name} is fetched meanwhile; {command('llmctl', 'pull', names=[name])}   shows how far it is")
    return True


def better_that_is_fetched(looked_at: Situation, fit: Fit, wanted: Want) -> Fit | None:
    """What would run instead of ``fit``, the starter, and is being fetched, where a server may answer meanwhile."""
    if not looked_at.settings.server_meanwhile:
        return None
    better = choose.better(looked_at, fit, wanted)
    return better if better is not None and is_being_fetched(looked_at.store, better.candidate) else None


def is_being_fetched(store: Store, candidate: Candidate) -> bool:
    """Whether a process fetches the model's file now."""
    from filelock import FileLock, Timeout

    source = candidate.artifact.source
    if candidate.path is not None or source.kind is not SourceKind.HUB or source.sha256 is None:
        return False
    from llmctl.store.layout import Repository

    place = Repository(store.hub, source.repo or "").lock(source.sha256)
    if not place.exists():
        return False
    try:
        with FileLock(place, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def start(name: str) -> None:
    """Lets a process of its own fetch the model. A fetch that fails is begun again, where it had stopped, by the next
    command that needs the model."""
    nothing = subprocess.DEVNULL
    arguments = [sys.executable, "-P", "-m", "llmctl", "pull", "--quiet", "--", name]
    subprocess.Popen(arguments, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
