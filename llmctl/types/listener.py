"""Who hears what happens while it happens, and gives consent where it is needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from llmctl.types.endpoint import Endpoint
    from llmctl.types.engine import LoadedEngine
    from llmctl.types.event import Event
    from llmctl.types.plan import Fit


TellShare = Callable[[float], None]
"""Called now and then with how much of something is done: 0 to 1, never less than before."""


class Progress(Protocol):
    """Called often and from the thread that transfers. ``total_bytes`` is None where nobody knows it.

    ``done_bytes`` may fall when a transfer has to start over; a display need not show that.
    """

    def __call__(self, done_bytes: int, total_bytes: int | None, /) -> None: ...


class Listener(Protocol):
    """What a use case says while it runs: the command line prints it, a Python program does as it likes."""

    @property
    def interactive(self) -> bool:
        """Whether a question may be asked at all."""

    def note(self, text: str) -> None:
        """A line of the story, for a person."""

    def warn(self, text: str) -> None:
        """Something that should be known."""

    def confirm(self, question: str, *, yes: bool, by_default: bool = True) -> bool:
        """Consent. With ``yes`` it was given before, and the question is only shown. Enter means ``by_default``."""

    def progress(self, label: str, *, streams: bool = False, resumes: bool = True) -> AbstractContextManager[Progress]:
        """Shows a transfer while the context lasts. ``streams``: whoever reads the output as data sees it as well;
        ``resumes``: the same command goes on where it was stopped."""

    def loading(self, fit: Fit) -> AbstractContextManager[TellShare]:
        """The model of ``fit`` is loaded while the context lasts. Nothing is told of a load that takes no time."""

    def loaded(self, fit: Fit, engine: LoadedEngine) -> None:
        """The model of ``fit`` is ready to answer on this machine."""

    def leaving(self, endpoint: Endpoint, host: str, reason: str) -> None:
        """The prompt is about to leave this machine. Called before the first byte does; raising stops it."""

    def staying(self, reason: str) -> None:
        """The endpoint could not be reached; the local model answers instead."""

    def event(self, event: Event) -> None:
        """Something of the answer has come, or its end."""


class SilentListener:
    """A Listener that shows nothing and agrees to nothing new; a listener for some of it overrides the rest."""

    @property
    def interactive(self) -> bool:
        return False

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def confirm(self, question: str, *, yes: bool, by_default: bool = True) -> bool:
        return yes

    def progress(self, label: str, *, streams: bool = False, resumes: bool = True) -> AbstractContextManager[Progress]:
        return nullcontext(lambda done_bytes, total_bytes: None)

    def loading(self, fit: Fit) -> AbstractContextManager[TellShare]:
        return nullcontext(lambda share: None)

    def loaded(self, fit: Fit, engine: LoadedEngine) -> None: ...

    def leaving(self, endpoint: Endpoint, host: str, reason: str) -> None: ...

    def staying(self, reason: str) -> None: ...

    def event(self, event: Event) -> None: ...
