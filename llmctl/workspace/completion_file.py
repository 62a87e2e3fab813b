"""Where a shell looks for completions, and putting a script there."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from msgspec import Struct

from llmctl import paths
from llmctl.errors import ResourceError
from llmctl.files import atomic

BASH_COMPLETION = (  # what loads the files of the folder when they are needed
    "/usr/share/bash-completion/bash_completion",
    "/etc/profile.d/bash_completion.sh",
    "/opt/homebrew/etc/profile.d/bash_completion.sh",
    "/usr/local/etc/profile.d/bash_completion.sh",
)


class InstalledScript(Struct, frozen=True):
    """``line`` is what the shell needs in its ``start_file`` to load the ``file``; both None where it needs nothing."""

    file: Path
    line: str | None = None
    start_file: str | None = None


def install(shell: str, script: str) -> InstalledScript:
    """Writes ``script`` where ``shell`` (bash, zsh, fish, powershell) looks for it. Raises ResourceError,
    ConfigError."""
    installed = place(shell)
    try:
        atomic.write(installed.file, script.encode(), mode=atomic.SHARED)
    except OSError as error:
        raise ResourceError(f"{installed.file} can't be written: {error.strerror}") from error
    return installed


def place(shell: str) -> InstalledScript:
    """Raises ConfigError where there is no home folder."""
    match shell:
        case "bash":
            own = os.environ.get("BASH_COMPLETION_USER_DIR")
            file = (
                Path(own) if own else _base("XDG_DATA_HOME", ".local/share") / "bash-completion"
            ) / "completions/llmctl"
            if any(map(os.path.exists, BASH_COMPLETION)):
                return InstalledScript(file)
            return InstalledScript(file, f". {shlex.quote(str(file))}", "~/.bashrc")
        case "zsh":
            functions = paths.home() / ".zfunc"
            line = f"fpath+=({shlex.quote(str(functions))}); autoload -Uz compinit && compinit"
            return InstalledScript(functions / "_llmctl", line, "~/.zshrc")
        case "fish":
            return InstalledScript(_base("XDG_CONFIG_HOME", ".config") / "fish/completions/llmctl.fish")
        case _:
            file = paths.data_dir() / "llmctl.ps1"
            return InstalledScript(file, ". '{}'".format(str(file).replace("'", "''")), "the file that $PROFILE names")


def _base(variable: str, otherwise: str) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if os.path.isabs(value) else paths.home() / otherwise  # noqa: PTH117
