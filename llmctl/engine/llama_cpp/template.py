"""Renders a model's chat template in a process of its own.

A template is a program that came with a file: it may multiply strings, loop, or compute a power for hours while it
holds the interpreter. Its process has a limit of memory, and is ended when it takes too long or its parent ends.

What a template can't do is mended where it can be: a system message that it refuses or leaves out goes in front of the
first message of the user, and one that is broken is replaced, with a note for a person.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from msgspec import Struct

from llmctl import child
from llmctl.struct import asdict

if TYPE_CHECKING:
    import jinja2

DEADLINE_S = 5.0  # a template takes milliseconds
MEMORY_BYTES = 256 << 20  # more than the process had when it began
TOO_MUCH_MEMORY = f"needs more than {MEMORY_BYTES >> 20} MB of memory"
REASON_LENGTH = 120
NEEDLE = "needle"
SYSTEM = ("system", "developer")
SAID = (*SYSTEM, "user")
LENGTH = struct.Struct("!Q")
SYSTEM_MOVED = "the model's chat template takes no system message: it stands in front of the first message instead"

Messages = Sequence[Mapping[str, Any]]


class TemplateError(Exception):
    """A template that refuses the messages, or takes too long or too much memory: what it does, for a person."""


class Prompt(Struct, frozen=True):
    """``is_plain``: the messages' text without any template. ``note`` is for a person."""

    text: str
    is_plain: bool = False
    note: str | None = None


def plain(messages: Messages) -> str:
    """A base model continues text; dressing its prompt in another family's template only confuses it."""
    return "\n\n".join(str(message["content"]) for message in messages)


def chatml(messages: Messages) -> str:
    """What most models of unknown template understand, if they know its marks."""
    said = "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)
    return f"{said}<|im_start|>assistant\n"


class Renderer:
    """The process that renders. Made before a model is loaded, it costs a fork. Where it had to be ended, each prompt
    has a process of its own: the template is one that takes too much."""

    def __init__(self) -> None:
        self._process = _forked() if hasattr(os, "fork") else None

    def prepare(self, template: str) -> None:
        """Lets the process compile the template; doesn't wait for it."""
        if self._process is not None:
            with suppress(OSError):
                _send(self._process.to, {"template": template})

    def render(self, template: str, messages: Messages, variables: Mapping[str, Any], *, has_chatml: bool) -> Prompt:
        """The prompt. ``has_chatml``: what takes the place of a broken template may be ChatML, its marks are tokens of
        the model. Raises TemplateError."""
        asked = {"template": template, "messages": messages, "variables": variables, "has_chatml": has_chatml}
        process = self._process or _spawned()
        answer = process.ask(asked)
        if answer is None or process is not self._process:
            self._process = None
            process.end()
        if answer is None:
            raise TemplateError(f"takes longer than {DEADLINE_S:g} s" if process.was_late else TOO_MUCH_MEMORY)
        if "error" in answer:
            raise TemplateError(answer["error"])
        return Prompt(**answer)

    def close(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class _Process:
    """``to`` and ``source`` are our ends of its pipes; ``wait`` returns when it has ended."""

    def __init__(self, pid: int, to: BinaryIO, source: BinaryIO, wait: Callable[[], object]) -> None:
        self.to, self.source = to, source
        self._pid = pid
        self._wait = wait
        self.was_late = False

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """Its answer; None if it has ended, or had to be since it was late."""
        clock = threading.Timer(DEADLINE_S, self._too_late)
        clock.start()
        try:
            _send(self.to, message)
            return _receive(self.source)
        except OSError:
            return None
        finally:
            clock.cancel()
            clock.join()

    def _too_late(self) -> None:
        self.was_late = True
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)

    def end(self) -> None:
        """Nobody waits for the process before, so that its number is nobody else's until here."""
        self._kill()
        self._wait()
        for pipe in (self.to, self.source):
            with suppress(OSError):
                pipe.close()


def _forked() -> _Process:
    """A copy of this process as it is now; it must not have other threads that matter."""
    parent = os.getpid()
    (read_request, write_request), (read_answer, write_answer) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child.end_with_parent(parent)
            os.close(write_request)
            os.close(read_answer)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(nowhere, number)
            serve(os.fdopen(read_request, "rb"), os.fdopen(write_answer, "wb"))
        finally:
            os._exit(0)
    os.close(read_request)
    os.close(write_answer)
    return _Process(pid, os.fdopen(write_request, "wb"), os.fdopen(read_answer, "rb"), lambda: os.waitpid(pid, 0))


def _spawned() -> _Process:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "llmctl.engine.llama_cpp.template", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return _Process(process.pid, cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout), process.wait)


def _send(pipe: BinaryIO, message: Mapping[str, Any]) -> None:
    data = json.dumps(message).encode()
    pipe.write(LENGTH.pack(len(data)) + data)
    pipe.flush()


def _receive(pipe: BinaryIO) -> dict[str, Any] | None:
    """None at the end."""
    length = pipe.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    data = pipe.read(*LENGTH.unpack(length))
    try:
        message: dict[str, Any] = json.loads(data)
    except ValueError:  # the rest is missing
        return None
    return message


def serve(source: BinaryIO, to: BinaryIO) -> None:
    """The process's own side: answers until the other end is closed."""
    _limit_memory()
    while (asked := _receive(source)) is not None:
        try:
            if "messages" not in asked:
                with suppress(Exception):  # it is told when there is a prompt to render
                    _compiled(asked["template"])
                continue
            answer = asdict(_prompt(asked))
        except TemplateError as error:
            answer = {"error": str(error)}
        except MemoryError:
            answer = {"error": TOO_MUCH_MEMORY}
        _send(to, answer)


def _limit_memory() -> None:
    """MEMORY_BYTES more than this process has by now, where the system tells and can limit it."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))


class _RefusalError(Exception):
    """What the template itself says against the messages."""


def _prompt(asked: Mapping[str, Any]) -> Prompt:
    """The first way of writing the messages that the template takes, and with which it leaves nothing out. Raises
    TemplateError, MemoryError."""
    messages, refusal, reason = asked["messages"], None, "it leaves the prompt out"
    for variant, note in _variants(messages):
        try:
            template = _compiled(asked["template"])
            text = template.render({**asked["variables"], **_given(variant)})
        except MemoryError:
            raise
        except _RefusalError as error:
            refusal = _first_line(error)
        except Exception as error:  # noqa: BLE001  # the template is the file's own program and may raise anything
            reason = _first_line(error)
        else:
            if _is_complete(template, text, variant, asked["variables"]):
                return Prompt(text, note=note)
    if refusal is not None:
        raise TemplateError(f"refused: {refusal}")
    return _replaced(asked, reason)


def _replaced(asked: Mapping[str, Any], reason: str) -> Prompt:
    """The messages without their template, which is broken."""
    form = "ChatML" if asked["has_chatml"] else "plain text"
    note = f"its chat template can't be used ({reason}); the prompt is written as {form} instead"
    if not asked["has_chatml"]:
        return Prompt(plain(asked["messages"]), is_plain=True, note=note)
    return Prompt(chatml(asked["messages"]), note=note)


def _variants(messages: Messages) -> Iterator[tuple[Messages, str | None]]:
    """The messages as they are, without a message of the system, and both as lists of parts; with a note for each."""
    ways: list[tuple[Messages, str | None]] = [(messages, None)]
    if any(message["role"] in SYSTEM for message in messages):
        ways.append((_without_system(messages), SYSTEM_MOVED))
    yield from ways
    for way, note in ways:
        yield [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in way], note


def _without_system(messages: Messages) -> Messages:
    system = "\n\n".join(message["content"] for message in messages if message["role"] in SYSTEM)
    others = [dict(message) for message in messages if message["role"] not in SYSTEM]
    first = next((message for message in others if message["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": system}, *others]
    first["content"] = f"{system}\n\n{first['content']}"
    return others


def _is_complete(template: jinja2.Template, text: str, messages: Messages, variables: Mapping[str, Any]) -> bool:
    """Whether the prompt holds what the system and the user said. A template may change their words, so what seems to
    be missing is looked for with a word that none would change."""
    if all(_text_of(message).strip() in text for message in messages if message["role"] in SAID):
        return True
    marked = [{**message, "content": _with_text(message["content"], NEEDLE)} for message in messages]
    try:
        shown = template.render({**variables, **_given(marked)})
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # the template is the file's own program and may raise anything
        return False
    return shown.lower().count(NEEDLE) >= sum(message["role"] in SAID for message in messages)


def _text_of(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _with_text(content: Any, text: str) -> Any:
    return text if isinstance(content, str) else [{"type": "text", "text": text}]


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return "".join(char for char in line if char.isprintable())[:REASON_LENGTH]


def _given(messages: Messages) -> dict[str, Any]:
    """What every template is given, as the library does that most were written for."""
    from datetime import datetime

    def raise_exception(message: object) -> None:
        raise _RefusalError(message)

    return {
        "messages": messages,
        "add_generation_prompt": True,
        "raise_exception": raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        **dict.fromkeys(("functions", "function_call", "tools", "tool_choice")),
    }


@lru_cache(maxsize=2)
def _compiled(template: str) -> jinja2.Template:
    """Compiled as the transformers library does. Raises whatever jinja2 raises."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` says which text is the model's, which matters in training only."""

        tags = {"generation"}  # noqa: RUF012  # as the base class has it

        def parse(self, parser: Any) -> Any:
            parser.stream.skip(1)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.BaseLoader(), trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    return environment.from_string(template)


if __name__ == "__main__":
    child.end_with_parent(int(sys.argv[1]))
    serve(sys.stdin.buffer, sys.stdout.buffer)
