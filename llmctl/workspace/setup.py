"""The first time on a machine: what suits it, and where its shell looks for completion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from llmctl.errors import NothingFitsError, ResourceError
from llmctl.types.plan import NoFit, Plan, Want
from llmctl.workspace.situation import Situation, want

ADD = "llmctl endpoint add NAME URL --model MODEL   a server of yours"


class Suited(Struct, frozen=True):
    """``plan`` says what suits a machine for what is ``wanted``."""

    plan: Plan
    wanted: Want


def suited(situation: Situation, task: str | None) -> Suited:
    """What suits the machine for ``task``, or for the task that is set. Raises NothingFitsError."""
    wanted = want(situation.settings, task=task)
    planned = situation.pick(situation.candidates(None), wanted)
    if isinstance(planned, NoFit):
        raise NothingFitsError(planned.reason, hint=ADD)
    return Suited(planned, wanted)


class CompletionFile(Struct, frozen=True):
    """The ``file`` from which ``shell`` loads the completion of llmctl by itself."""

    shell: str
    file: Path

    @property
    def is_there(self) -> bool:
        return self.file.exists()

    def write(self, script: str) -> None:
        """Raises ResourceError."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(script, "utf-8")
        except OSError as error:
            raise ResourceError(f"{self.file} can't be written: {error.strerror}") from error


def completion_file(environ: Mapping[str, str]) -> CompletionFile | None:
    """For the user's shell; None where it loads no completion from a folder of the user's."""
    shell = Path(environ.get("SHELL", "")).name
    data = Path(environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    config = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    files = {
        "bash": data / "bash-completion" / "completions" / "llmctl",
        "fish": config / "fish" / "completions" / "llmctl.fish",
    }
    return CompletionFile(shell, files[shell]) if shell in files else None
