"""The one door to the machine: files, environment, globbing and short commands, below a root that tests can move."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

READ_LIMIT_BYTES = 1 << 20  # /proc and /sys files are small; whatever is larger is not what we asked for


@dataclass(frozen=True)
class Host:
    """This machine (``Host()``) or a recorded one (``Host(root=folder, environ={...})``).

    Nothing here raises: what cannot be read or run is None, because a probe returns notes instead of exceptions.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def live(self) -> bool:
        """True for the machine we are on: only then may commands run and libraries be loaded."""
        return self.root == Path("/")

    def path(self, name: str) -> Path:
        """The place of an absolute path below the root."""
        return self.root / name.lstrip("/")

    def read(self, name: str) -> str | None:
        """Text of a small file, undecodable bytes replaced; None if it isn't there or can't be read."""
        try:
            with self.path(name).open("rb") as file:
                return file.read(READ_LIMIT_BYTES).decode("utf-8", "replace")
        except (OSError, ValueError):
            return None

    def read_int(self, name: str) -> int | None:
        """The whole number that a file holds; None for anything else."""
        text = self.read(name)
        try:
            return None if text is None else int(text.strip())
        except ValueError:
            return None

    def exists(self, name: str) -> bool:
        try:
            return self.path(name).exists()
        except (OSError, ValueError):
            return False

    def glob(self, pattern: str) -> list[str]:
        """Absolute names (as seen from the root) that match, sorted."""
        try:
            found = sorted(self.root.glob(pattern.lstrip("/")))
        except (OSError, ValueError):
            return []
        return ["/" + str(path.relative_to(self.root)) for path in found]

    def run(self, argv: Sequence[str], *, timeout_s: float) -> str | None:
        """Standard output of a command that ended well within its time; None otherwise, and on recorded machines."""
        if not self.live:
            return None
        try:
            done = subprocess.run(
                list(argv),
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=timeout_s,
                check=True,
                env=dict(self.environ),
            )
        except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: a null byte in an argument
            return None
        return done.stdout.decode("utf-8", "replace")
