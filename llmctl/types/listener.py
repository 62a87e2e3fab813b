"""Who is told what happens while it happens, and asked where consent is needed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


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

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Consent. With ``yes`` it was given before, and the question is only shown."""

    def progress(self, label: str, *, streams: bool = False, resumes: bool = True) -> AbstractContextManager[Progress]:
        """Shows a transfer while the context lasts. ``streams``: whoever reads the output as data sees it as well;
        ``resumes``: the same command goes on where it was stopped."""
