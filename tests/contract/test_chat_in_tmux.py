"""`llmctl chat` in tmux: every command is typed, and what stands on the screen is looked at."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmctl import paths
from llmctl.cli.chat.commands import help_lines
from tests.fakes.chat_server import DONE, ChatServer, event, stream
from tests.fakes.command import argv

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")

SAYS = stream(event("Es ist 漢字 und שלום 👍, "), event("so sagt man.", finish="stop"), DONE)
PASTED = "\n".join(f"line {number} 漢字 שלום" for number in range(200))
# What is typed, and what of it stands on the screen.
TYPED = (
    ("/help", "leave (Ctrl-D does, too)"),
    ("hello 漢字", "Es ist 漢字 und שלום 👍, so sagt man."),
    ("/stats", "first token after"),
    ("/context", "1  about"),
    ("/system kurz", "the system message is set"),
    ("/system", "kurz"),
    ("/file notes.txt", "goes before the next prompt"),
    ("/image cat.png", "cat.png is not there"),
    ("/route", "1 of 1 turns were answered by a server of yours"),
    ("/retry", "so sagt man."),
    ("/save talk.json", "1 turn written to talk.json"),
    ("/load talk.json", "Put away the conversation there is?"),
    ("y", "1 turn, about"),
    ("/summarise", "nothing to sum up"),
    ("/model nosuch", "error:"),
    ("/task nosuch", "error:"),
    ("/files off", "files"),
    ("/nosuch", "there is no command /nosuch"),
    ("/edit", "… hello 漢字"),
)


@dataclass
class Screen:
    """A window of a tmux of its own."""

    socket: Path

    def tmux(self, *arguments: str, given: str | None = None) -> str:
        command = ["tmux", "-S", str(self.socket), "-f", os.devnull, *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=30).stdout

    @property
    def lines(self) -> str:
        return self.tmux("capture-pane", "-p", "-J")

    def see(self, words: str) -> None:
        """Waits until ``words`` stand on the screen."""
        deadline = time.monotonic() + 30
        while words not in self.lines:
            assert time.monotonic() < deadline, f"{words!r} is not on the screen:\n{self.lines}"
            time.sleep(0.05)

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)
        self.press("Enter")

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def clear(self) -> None:
        """Between two prompts: what is seen from now on is new."""
        self.see("you ›")
        self.press("C-l")
        deadline = time.monotonic() + 30
        while len(self.lines.split("\n\n")[0].strip().splitlines()) > 1:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.05)


@pytest.fixture
def screen(tmp_path: Path, home: Path) -> Iterator[Screen]:
    (home / "notes.txt").write_text("the cat is grey\n")
    with ChatServer(SAYS) as server:
        paths.config_file().parent.mkdir(parents=True)
        paths.config_file().write_text(f'[endpoints.desk]\nurl = "{server.url}"\nmodel = "smollm2"\n')
        shown = Screen(tmp_path / "tmux")
        command = shlex.join(argv("chat", "--endpoint", "desk"))
        shown.tmux("new-session", "-d", "-x", "90", "-y", "30", f"{command}; echo left $?; cat")
        try:
            shown.see("you ›")
            yield shown
        finally:
            shown.tmux("kill-server")


def test_every_command_and_what_the_screen_shows(screen: Screen) -> None:
    for typed, words in TYPED:
        screen.type(typed)
        screen.see(words)
        if not typed.startswith(("/edit", "/load")):
            screen.clear()
    screen.press("C-c")
    screen.see("Ctrl-C again leaves")
    screen.type("/quit")
    screen.see("left 0")


def test_none_is_left_out() -> None:
    named = {line.split()[0] for line in help_lines() if line.strip().startswith("/")}
    assert named == {typed.split()[0] for typed, _ in TYPED if typed.startswith("/") and typed != "/nosuch"} | {"/quit"}


def test_a_paste_a_narrow_screen_and_keys_that_stop(screen: Screen) -> None:
    screen.tmux("load-buffer", "-", given=PASTED)
    screen.tmux("paste-buffer", "-p")
    screen.see("line 199 漢字 שלום")
    screen.tmux("resize-window", "-x", "40", "-y", "12")
    screen.see("line 199 漢字 שלום")
    screen.press("Enter")
    screen.see("so sagt man.")
    screen.tmux("resize-window", "-x", "100", "-y", "30")
    screen.see("you ›")
    screen.press("C-c")
    screen.see("Ctrl-C again leaves")
    screen.type("hello")
    screen.see("so sagt man.")
    screen.clear()
    screen.press("C-d")
    screen.see("left 0")
