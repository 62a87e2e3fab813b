"""Commands that are pasted: a shell must read back what was meant, and run nothing of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from llmctl.shell import command

HOSTILE = (
    "$(touch ran)",
    "`touch ran`",
    "a; touch ran",
    "a && touch ran",
    "a | tee ran",
    "> ran",
    "two words",
    "it's",
    'say "hi"',
    "*",
    "~",
    "$HOME",
    "a\\",
    "#none",
    "!!",
    "",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_shell_reads_back_what_was_meant(name: str, home: Path) -> None:
    line = command("printf", "%s\\n", names=[name])
    done = subprocess.run(["sh", "-c", line], capture_output=True, cwd=home, check=True, timeout=10)
    assert done.stdout.decode() == f"{name}\n"
    assert not (home / "ran").exists()


@pytest.mark.parametrize(
    ("words", "names", "line"),
    [
        (("llmctl", "pull"), ["org/name:Q4_K_M"], "llmctl pull org/name:Q4_K_M"),
        (("llmctl", "pull"), ["--yes"], "llmctl pull -- --yes"),
        (("llmctl", "pull", "--from", "/a b"), ["-x:Q4_0"], "llmctl pull --from '/a b' -- -x:Q4_0"),
        (("llmctl", "run", "-m", Path("/a b.gguf")), [], "llmctl run -m '/a b.gguf'"),
    ],
)
def test_what_begins_with_a_dash_is_no_option(words: tuple[str | Path, ...], names: list[str], line: str) -> None:
    assert command(*words, names=names) == line


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\nb", "caf\udce9f", "a\u202eb'\\", "\x07$(touch ran)`touch ran`"])
def test_what_would_drive_the_terminal_is_spelt_out(name: str, home: Path) -> None:
    line = command("printf", "%s.", names=[name])
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", line], capture_output=True, cwd=home, check=True, timeout=10)
    assert done.stdout == os.fsencode(f"{name}.")
    assert not (home / "ran").exists()
