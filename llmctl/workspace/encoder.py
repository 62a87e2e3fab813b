"""Engines that read texts and write none: which one, its file here, and texts handed to it in groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from llmctl.errors import ContextError, NothingFitsError, PolicyError, UnsupportedFileError, UsageError
from llmctl.shell import command
from llmctl.types.listener import Listener
from llmctl.types.plan import Fit, Want
from llmctl.workspace.texts import GivenText

if TYPE_CHECKING:
    from llmctl.settings import Settings
    from llmctl.types.engine import LoadedEngine
    from llmctl.types.model import Candidate

BYTES_PER_TOKEN = 3  # of UTF-8: English has four to five, source code some three
MARK_TOKENS = 16  # what stands around a text
TEXTS_AT_ONCE = 32
CHARACTERS_AT_ONCE = 32 << 10  # some ten thousand tokens: seconds of work, after which there is news
PLACE = re.compile(r"\w+\[(\d+)\] (.*)", re.DOTALL)  # the engine's name of one of several texts
DOES: Mapping[str, str] = {"embed": "makes vectors", "rerank": "scores texts"}
"""task -> what a model for it does."""


class EncoderOptions(Struct, frozen=True):
    """How texts are read. ``model`` None: the best for the task; ``context`` tokens for each text; ``truncate``: the
    end of a longer one is left out; ``local``: also where a policy wants servers alone; ``insist`` as ``Pool`` has it;
    ``yes`` is the consent to a download."""

    model: str | None = None
    context: int | None = None
    threads: int | None = None
    truncate: bool = False
    local: bool = False
    insist: bool = False
    yes: bool = False


def chosen(listener: Listener, settings: Settings, task: str, options: EncoderOptions, longest_bytes: int) -> Fit:
    """What is to read texts of at most ``longest_bytes``, its file on this machine, fetched with consent if need be.

    Raises PolicyError, NothingFitsError, UnsupportedFileError for a model that is for something else, and what
    ``choose.obtain`` raises.
    """
    from llmctl.workspace import choose, situation

    _require_local(settings, task, options)
    shelf = situation.shelf(listener, loaded=settings)
    candidates = shelf.candidates(options.model)
    able = [candidate for candidate in candidates if task in candidate.model.tasks]
    if not able:
        name = candidates[0].model.name if candidates else "nothing here"
        raise UnsupportedFileError(
            f"{name} is no model that {DOES[task]}", hint=command("llmctl", "plan", "--task", task)
        )
    at_hand = any(candidate.path for candidate in able)
    looked_at = situation.look(listener, before=shelf, measure=not at_hand)
    wanted = _want(settings, task, options, able, longest_bytes)
    planned = choose.planned(looked_at, able, wanted)
    if not isinstance(planned, Fit):
        raise NothingFitsError(planned.reason, hint=command("llmctl", "plan", "--task", task))
    choose.tell_what_is_missing(listener, planned, named=options.model is not None)
    fit = choose.obtain(listener, looked_at, planned, wanted, named=True, yes=options.yes)
    for warning in fit.warnings:
        listener.warn(warning)
    return fit


def _require_local(settings: Settings, task: str, options: EncoderOptions) -> None:
    from llmctl.types.policy import Policy

    if settings.policy is Policy.REMOTE_ONLY and not options.local:
        raise PolicyError(
            f"the policy is {settings.policy}, and {task} works on this machine alone", hint=f"llmctl {task} --local …"
        )


def _want(
    settings: Settings, task: str, options: EncoderOptions, candidates: Sequence[Candidate], longest_bytes: int
) -> Want:
    """A context that the longest text fits into, as far as one of the models can have it."""
    most = max(candidate.model.shape.context_train for candidate in candidates)
    tokens = min(longest_bytes // BYTES_PER_TOKEN + MARK_TOKENS, most)
    return Want(
        task=task,
        context=options.context,
        threads=options.threads or settings.threads,
        prompt_tokens=None if options.truncate else tokens,
        explicit=options.model is not None,
    )


@contextmanager
def lent(listener: Listener, settings: Settings, fit: Fit, *, insist: bool) -> Iterator[LoadedEngine]:
    """The engine, which then ends or stays as the settings have it."""
    from llmctl.engine.pool import Pool

    pool = Pool(keep_alive_s=settings.keep_alive, insist=insist, listener=listener)
    with pool, pool.lease(fit) as engine:
        listener.loaded(fit, engine)
        yield engine


def groups(texts: Sequence[GivenText]) -> Iterator[Sequence[GivenText]]:
    """Texts that are handed over together."""
    first = characters = 0
    for at, text in enumerate(texts):
        characters += len(text.text)
        if at > first and (at - first == TEXTS_AT_ONCE or characters > CHARACTERS_AT_ONCE):
            yield texts[first:at]
            first, characters = at, len(text.text)
    if first < len(texts):
        yield texts[first:]


def asked(
    engine: LoadedEngine, fit: Fit, task: str, path: str, fields: Mapping[str, Any], group: Sequence[GivenText]
) -> dict[str, Any]:
    """The engine's answer. Raises ContextError for a text that is too long and UsageError for one that can't be read,
    each with the place where it stands, and what ``endpoint.local`` raises."""
    from llmctl.endpoint.local import ask_document

    try:
        return ask_document(engine, path, fields)
    except UsageError as error:
        match = PLACE.fullmatch(error.message)
        if match is None:
            raise
        message = f"{group[int(match[1])].place} {match[2]}"
        if isinstance(error, ContextError):
            raise ContextError(message, hint=_remedy(fit, task)) from error
        raise UsageError(message) from error


def _remedy(fit: Fit, task: str) -> str:
    most = fit.candidate.model.shape.context_train
    cut = f"llmctl {task} --truncate …   leaves its end out"
    return cut if most <= fit.context else f"llmctl {task} --context {most} …   is what the model can read; {cut}"


def prefixed(texts: Sequence[GivenText], prefix: str) -> Sequence[GivenText]:
    return [replace(text, text=prefix + text.text) for text in texts] if prefix else texts
