"""What the commands of a chat do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from msgspec.structs import replace

from llmctl import units
from llmctl.cli.chat.commands import help_lines
from llmctl.cli.chat.session import Leave, name_of
from llmctl.cli.chat.summary import summarise
from llmctl.cli.story import figures
from llmctl.errors import NothingFitsError, UsageError
from llmctl.printable import printable
from llmctl.types.endpoint import Local
from llmctl.types.plan import Fit
from llmctl.units import number_of
from llmctl.workspace import context_files, images, private_paths, transcript

if TYPE_CHECKING:
    from llmctl.cli.chat.session import Session
    from llmctl.workspace.conversation import Turn
    from llmctl.workspace.local_run import Asked

SHOWN_CHARACTERS = 40  # of a prompt in a list


def _help(session: Session, _: str) -> None:
    for line in help_lines():
        session.out.note(line)


def _quit(session: Session, _: str) -> None:
    raise Leave


def _model(session: Session, name: str) -> None:
    if not name:
        session.out.note(f"{session.answering} · {session.used}")
        return
    _switch(session, replace(session.chat.asked, model=name))


def _task(session: Session, task: str) -> None:
    if not task:
        session.out.note(f"task: {session.chat.asked.task or session.chat.settings.task}")
        return
    _switch(session, replace(session.chat.asked, model=None, task=task))


def _switch(session: Session, asked: Asked) -> None:
    """Goes on with what suits ``asked``, after saying what that costs. The conversation stays."""
    run, agreed = None, False
    try:
        run = session.chat.plan(asked)
        if not isinstance(run.planned, Fit):
            raise NothingFitsError(run.planned.reason, hint="/model   says what answers now")
        agreed = _agreed(session, run.planned)
    finally:
        if run is not None and agreed:
            session.chat.take(asked, run)
            session.go_on_with(session.conversation)
        elif not session.chat.is_remote_alone:
            session.chat.keep()
    session.out.note(f"{session.answering} · {session.used}")


def _agreed(session: Session, fit: Fit) -> bool:
    """Whether ``fit`` may answer from now on: nobody is asked where its file does already."""
    if session.chat.fit is not None and fit.candidate.path == session.chat.fit.candidate.path:
        return True
    return session.out.confirm(f"Switching to {name_of(fit)} ({_cost(session, fit)}). Go on?", yes=False)


def _cost(session: Session, fit: Fit) -> str:
    load = "some seconds" if fit.speed.load_s is None else units.seconds(fit.speed.load_s)
    tokens = session.estimate.tokens(session.conversation.messages())
    if not session.conversation.sent:
        return f"{load} to load"
    again = units.seconds(tokens / fit.speed.prefill_tok_s)
    return f"{load} to load, the conversation stays and takes {again} to read again"


def _system(session: Session, text: str) -> None:
    if not text:
        session.out.note(session.conversation.system or "there is no system message")
        return
    session.go_on_with(replace(session.conversation, system=None if text == "off" else text))
    session.out.note("no system message from now on" if text == "off" else "the system message is set")


def _file(session: Session, path: str) -> None:
    if not path:
        raise UsageError("which file?", hint="/file PATH")
    file = context_files.read(str(_path(path)))
    _keep_private(session, path)
    session.files.append(file)
    tokens = round(len(file.text.encode()) / session.estimate.bytes_per_token)
    session.out.note(f"{file.name}, about {tokens:,} tokens, goes before the next prompt")


def _files(session: Session, name: str) -> None:
    """From now on excerpts of that folder or index go before each prompt."""
    from llmctl.workspace import search

    if name == "off":
        session.index = None
    elif name:
        place = name if search.is_index(name) else str(_path(name))
        session.index = search.current(session.out, session.chat.settings, place)
        session.chat.settings = replace(session.chat.settings, prompt_cache=0)  # excerpts are kept in their index alone
    index = session.index
    session.out.note("no excerpts go before prompts" if index is None else f"excerpts of {index.name} go before each")


def _keep_private(session: Session, path: str) -> None:
    """With a file under ``private_paths`` the conversation is private from now on."""
    chat = session.chat
    if not chat.private and private_paths.is_private(session.out, chat.settings, [str(_path(path))]):
        chat.private = True
        session.keeping.stop()


def _image(session: Session, path: str) -> None:
    if not path:
        raise UsageError("which image?", hint="/image PATH")
    image = images.read(str(_path(path)))
    _keep_private(session, path)
    session.images.append(image)
    size = units.size(len(image.data))
    session.out.note(f"{_shown(path)}, {image.media_type}, {size}, goes before the next prompt")


def _retry(session: Session, _: str) -> None:
    turn = _taken_back(session)
    session.ask(turn.prompt)


def _edit(session: Session, _: str) -> None:
    session.draft = _taken_back(session).prompt


def _taken_back(session: Session) -> Turn:
    """The last turn, which is no longer part of the conversation. Raises UsageError where there is none."""
    if not session.conversation.turns:
        raise UsageError("there is no prompt yet")
    turn = session.conversation.turns[-1]
    session.images = list(turn.images)
    session.go_on_with(session.conversation.without_last())
    return turn


def _context(session: Session, argument: str) -> None:
    verb, _, number = argument.partition(" ")
    if verb == "drop" and number.strip().isdecimal():
        dropped = min(int(number), len(session.conversation.sent))
        session.go_on_with(session.conversation.dropping(dropped))
        session.out.note(f"dropped {dropped} of the oldest turns: the model no longer sees them")
    elif argument:
        raise UsageError(f"/context does not take {argument}", hint="/context drop NUMBER")
    session.out.note(session.used)
    if (summary := session.conversation.summary) is not None:
        session.out.note(f"  summary of what was dropped: {_shown(summary)}")
    for position, turn in enumerate(session.conversation.turns, 1):
        tokens = session.tokens_of(turn)
        state = "  (dropped)" if position <= session.conversation.dropped else ""
        session.out.note(f"  {position:3}  about {tokens:6,} tokens  {_shown(turn.prompt)}{state}")


def _summarise(session: Session, _: str) -> None:
    summarise(session)


def _route(session: Session, _: str) -> None:
    for number, turn in enumerate(session.conversation.turns, 1):
        session.out.note(f"  {number:3}  {turn.endpoint or 'this machine':20}  {_shown(turn.prompt)}")
    remote = sum(turn.endpoint is not None for turn in session.conversation.turns)
    session.out.note(f"{remote} of {len(session.conversation.turns)} turns were answered by a server of yours")
    route = session.chat.route
    session.out.note(f"the next prompt: {session.answering} ({route.reason})")
    if isinstance(route, Local) and route.fallback is not None:
        session.out.note(f"  if that fails: {route.fallback.name}, said before anything is sent")


def _stats(session: Session, _: str) -> None:
    if session.last is None:
        raise UsageError("there is no answer yet")
    for line in figures(session.last):
        session.out.note(line)


def _save(session: Session, path: str) -> None:
    if not path:
        raise UsageError("where to?", hint="/save PATH")
    file = _path(path)
    if file.exists() and not typer.confirm(f"{file} exists. Replace it?", default=False, err=True):
        session.out.note("nothing was written")
        return
    transcript.save(file, session.conversation)
    session.out.note(f"{number_of(len(session.conversation.turns), 'turn')} written to {file}, readable by you alone")


def _load(session: Session, path: str) -> None:
    if not path:
        raise UsageError("which conversation?", hint="/load PATH")
    if session.conversation.turns and not typer.confirm("Put away the conversation there is?", default=False, err=True):
        return
    session.go_on_with(transcript.load(_path(path)))
    session.keeping.begin_anew()
    session.out.note(f"{number_of(len(session.conversation.turns), 'turn')}, {session.used}")


def _path(text: str) -> Path:
    """What was typed as a path, with quotes around it or ``~`` before it."""
    from llmctl import paths

    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return paths.home() / text[2:] if text.startswith("~/") else Path(text)


def _shown(prompt: str) -> str:
    return printable(prompt, SHOWN_CHARACTERS)


ACTIONS: Mapping[str, Callable[[Session, str], None]] = {
    "model": _model,
    "task": _task,
    "system": _system,
    "file": _file,
    "files": _files,
    "image": _image,
    "retry": _retry,
    "edit": _edit,
    "context": _context,
    "summarise": _summarise,
    "route": _route,
    "stats": _stats,
    "save": _save,
    "load": _load,
    "help": _help,
    "quit": _quit,
}
