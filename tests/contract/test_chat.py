"""`llmctl chat` at a real pseudo-terminal: keys go in, what is on the screen and what a server got is looked at."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.chat_server import DONE, ChatServer, Handler, Reply, event, stream
from tests.fakes.command import llmctl
from tests.fakes.connections import trace, watch
from tests.fakes.scripted_model import write_scripted
from tests.fakes.terminal import Terminal

pytestmark = pytest.mark.usefixtures("measured")

ENTER, ESCAPE, UP, CTRL_C, CTRL_D, CTRL_U = "\r", "\x1b", "\x1b[A", "\x03", "\x04", "\x15"
HI = stream(event("Hi "), event("there.", finish="stop"), DONE)


@pytest.fixture
def config(home: Path) -> Path:
    file = home / "config" / "llmctl" / "config.toml"
    file.parent.mkdir(parents=True)
    return file


@contextmanager
def chat_with_server(
    config: Path, *replies: Reply, lines: str = "", arguments: tuple[str, ...] = ()
) -> Iterator[tuple[Terminal, ChatServer]]:
    with ChatServer(*replies) as server:
        config.write_text(f'{lines}\n[endpoints.desk]\nurl = "{server.url}"\nmodel = "m"\n')
        with Terminal("chat", "--endpoint", "desk", *arguments) as terminal:
            terminal.see("you ›")
            yield terminal, server


def asked(server: ChatServer, number: int = -1) -> list[tuple[str, Any]]:
    """Role and content of each message of a request."""
    body = json.loads(server.requests[number].body)
    return [(message["role"], message["content"]) for message in body["messages"]]


def leave(terminal: Terminal) -> None:
    """Ctrl-D, again if it came between two prompts, where the terminal itself takes it."""
    for _ in range(60):
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            terminal.send(CTRL_D)
            assert terminal.ended(within_s=1) == 0
            return
    raise AssertionError(f"it does not leave: {terminal.shown[-200:]!r}")


@pytest.mark.parametrize("stdin", [None, "hello\n"])
def test_without_a_terminal_it_is_a_usage_error_that_names_run(stdin: str | None) -> None:
    done = llmctl("chat", stdin=stdin, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert "llmctl run" in done.stderr


def test_the_conversation_goes_with_every_prompt_and_the_server_is_named_before(config: Path, home: Path) -> None:
    with chat_with_server(config, HI) as (terminal, server):
        terminal.send("first" + ENTER)
        terminal.see(r"→ desk \(127\.0\.0\.1.*\n.*Hi there\.")
        terminal.see("desk\n")
        terminal.send("/system be brief" + ENTER)
        terminal.see("is set")
        terminal.see("you ›")
        terminal.send("second" + ESCAPE + ENTER + "line\\" + ENTER + "third" + ENTER)
        terminal.see("Hi there")
        terminal.see("tok/s · desk")
        assert asked(server) == [
            ("system", "be brief"),
            ("user", "first"),
            ("assistant", "Hi there."),
            ("user", "second\nline\nthird"),
        ]
        terminal.send("/retry" + ENTER)
        terminal.see("tok/s · desk")
        assert asked(server, 2) == asked(server, 1)
        terminal.send("/route" + ENTER)
        terminal.see("2 of 2 turns were answered by a server")
        terminal.send("/edit" + ENTER)
        terminal.see("third")
        terminal.send(" changed" + ENTER)
        terminal.see("tok/s · desk")
        assert asked(server)[-1] == ("user", "second\nline\nthird changed")
        terminal.send("/save talk.json" + ENTER)
        terminal.see("2 turns written")
        terminal.send("/save talk.json" + ENTER)
        terminal.see("Replace it")
        terminal.send("n" + ENTER)
        terminal.see("nothing was written")
        leave(terminal)
    saved = home / "talk.json"
    assert saved.stat().st_mode & 0o777 == 0o600
    kept = [file for file in home.rglob("*") if file.is_file() and b"second" in file.read_bytes()]
    assert kept == [saved]


def test_older_turns_are_summed_up_on_request_and_never_in_silence(config: Path) -> None:
    summary = stream(event("They greeted "), event("each other.", finish="stop"), DONE)
    with chat_with_server(config, HI, HI, summary, HI) as (terminal, server):
        terminal.send("/summarise" + ENTER)
        terminal.see("nothing to sum up")
        for prompt in ("first", "second"):
            terminal.see("you ›")
            terminal.send(prompt + ENTER)
            terminal.see("tok/s · desk")
        terminal.see("you ›")
        terminal.send("/summarise" + ENTER)
        terminal.see(r"summing up the oldest 1 turn:\n→ desk .*\nThey greeted each other\.\n.* in place of 1 turn")
        assert [role for role, _ in asked(server)] == ["user", "assistant", "user"]
        terminal.see("you ›")
        terminal.send("third" + ENTER)
        terminal.see("tok/s · desk")
        assert asked(server) == [
            ("system", "Summary of our conversation so far:\nThey greeted each other."),
            ("user", "second"),
            ("assistant", "Hi there."),
            ("user", "third"),
        ]
        terminal.send("/context" + ENTER)
        terminal.see(r"summary of what was dropped: They greeted each other\.\n.* 1 .*first\s+\(dropped\)")
        leave(terminal)


def test_two_hundred_pasted_lines_are_one_prompt_and_an_image_goes_before_the_next(config: Path, home: Path) -> None:
    text = "\n".join(f"line {number} 漢字 שלום" for number in range(200))
    with chat_with_server(config, HI) as (terminal, server):
        terminal.paste(text)
        terminal.see("line 199")
        terminal.resize(50, 12)
        terminal.send(ENTER)
        terminal.see("tok/s · desk")
        assert asked(server) == [("user", text)]
        terminal.send("/file missing.txt" + ENTER)
        terminal.see("missing.txt is not there")
        (home / "dot.gif").write_bytes(b"GIF89a\1\0\1\0\0\0\0;")
        terminal.send("/image dot.gif" + ENTER)
        terminal.see("image/gif")
        terminal.send("what?" + ENTER)
        terminal.see("tok/s · desk")
        image, text = asked(server)[-1][1]
        assert (image["type"], text) == ("image_url", {"type": "text", "text": "what?"})
        leave(terminal)


def test_ctrl_c_stops_the_answer_and_keeps_it_and_twice_at_the_prompt_leaves(config: Path) -> None:
    def slow(handler: Handler) -> None:
        handler.head(200, Content_Type="text/event-stream", Transfer_Encoding="chunked")
        handler.chunk(event("Half an answer, "))
        handler.rfile.read(1)  # until the client has gone

    with chat_with_server(config, slow, HI) as (terminal, server):
        terminal.send("go on" + ENTER)
        terminal.see("Half an answer")
        terminal.send(CTRL_C)
        terminal.see("stays in the conversation")
        terminal.see("you ›")
        terminal.send("and?" + ENTER)
        terminal.see("tok/s · desk")
        assert asked(server) == [("user", "go on"), ("assistant", "Half an answer, "), ("user", "and?")]
        terminal.see("you ›")
        terminal.send(CTRL_C)
        terminal.see("again leaves")
        terminal.send("text")
        terminal.send(CTRL_C)
        assert terminal.ended() == 0


def test_what_could_drive_the_terminal_is_not_written_to_it(config: Path) -> None:
    evil = stream(event("a\x1b]0;title\x07b \u202egnp.exe\x9b2J "), event("漢字 שלום 👍🏽", finish="stop"), DONE)
    with chat_with_server(config, evil) as (terminal, _):
        terminal.send("hi" + ENTER)
        terminal.see("漢字 שלום 👍🏽")
        assert not [mark for mark in ("\x1b]0;title", "\u202e", "\x9b") if mark in terminal.raw]
        leave(terminal)


def test_conversations_are_kept_on_disk_where_that_is_set_and_go_on(config: Path, home: Path) -> None:
    kept = home / "data" / "llmctl" / "chat_history"
    with chat_with_server(config, HI, lines="chat_history = true") as (terminal, _):
        terminal.send("remember me" + ENTER)
        terminal.see("tok/s · desk")
        leave(terminal)
    assert kept.stat().st_mode & 0o777 == 0o600
    with chat_with_server(config, HI, lines="chat_history = true", arguments=("-c",)) as (terminal, server):
        assert "going on with 1 turn, the last: remember me" in terminal.shown
        recall(terminal, "remember me")
        terminal.send("and?" + ENTER)
        terminal.see("tok/s · desk")
        assert asked(server) == [("user", "remember me"), ("assistant", "Hi there."), ("user", "and?")]
        leave(terminal)
    assert "deleted: 1 conversation and 2 prompts" in llmctl("chat", "--forget").stderr
    assert not [file for file in home.rglob("*") if file.is_file() and b"remember me" in file.read_bytes()]
    assert "no prompts are kept" in llmctl("chat", "--forget").stderr


def recall(terminal: Terminal, prompt: str) -> None:
    """Presses Up until the history, which is read meanwhile, has the prompt."""
    for _ in range(20):
        terminal.send(UP)
        with contextlib.suppress(AssertionError):
            terminal.see(prompt, within_s=1)
            terminal.send(CTRL_U)
            return
    raise AssertionError(f"{prompt} is not recalled")


def test_one_engine_serves_the_session_and_long_conversations_drop_their_oldest_turns_openly(
    tmp_path: Path, home: Path
) -> None:
    model = write_scripted(tmp_path / "tiny.gguf", ["Yes", " indeed"])
    hook, connections = watch(tmp_path)
    private = {"PYTHONPATH": hook, "LLMCTL_CHAT_HISTORY": "1"}
    with Terminal("chat", "-m", str(model), "--context", "256", "--local", "--private", **private) as terminal:
        terminal.see("you ›")
        engines: set[int] = set()
        for prompt in ("a" * 60, "b" * 60):
            terminal.send(prompt + ENTER)
            terminal.see(r"of 256 tokens · .* tok/s")
            engines |= engines_of(terminal)
        assert len(engines) == 1
        terminal.send("c" * 80 + ENTER)
        terminal.see(r"Drop .*oldest")
        terminal.send("n" + ENTER)
        terminal.see("Nothing was sent")
        terminal.send(ENTER)  # the prompt has come back
        terminal.see(r"Drop .*oldest")
        terminal.send("y" + ENTER)
        terminal.see("dropped .*oldest")
        terminal.see(r"of 256 tokens · .* tok/s")
        terminal.send("/context" + ENTER)
        terminal.see(r"1 .*a{30}.*\(dropped\)")
        leave(terminal)
    assert not [pid for pid in engines if psutil.pid_exists(pid)]
    assert not [file for file in home.rglob("*") if file.is_file() and b"aaaa" in file.read_bytes()]
    seen = connections()
    assert seen, "the hook saw nothing, not even the way to the engine"
    assert [line for line in seen if "127.0.0.1" not in line] == []


def test_with_local_nothing_but_this_machine_is_connected_to(tmp_path: Path, config: Path) -> None:
    """Seen from outside the process, where there is strace; a server that could take the prompt is not asked."""
    model = write_scripted(tmp_path / "tiny.gguf", ["Yes"])
    prefix, peers = trace(tmp_path)
    with ChatServer(HI) as server:
        config.write_text(f'policy = "prefer-remote"\n[endpoints.desk]\nurl = "{server.url}"\nmodel = "m"\n')
        with Terminal("chat", "-m", str(model), "--context", "256", "--local", prefix=prefix) as terminal:
            terminal.see("you ›")
            terminal.send("hi" + ENTER)
            terminal.see(r"of 256 tokens · .* tok/s")
            leave(terminal)
        assert server.connections == 0
    assert peers() or not prefix, "the way to the engine must be seen"
    assert [peer for peer in peers() if not peer.startswith("127.0.0.1:")] == []


def engines_of(terminal: Terminal) -> set[int]:
    return {child.pid for child in psutil.Process(terminal.process.pid).children()}


def test_another_model_goes_on_with_the_conversation_after_its_cost_was_said(tmp_path: Path) -> None:
    first = write_scripted(tmp_path / "first.gguf", ["One"])
    second = write_scripted(tmp_path / "second.gguf", ["Two"])
    with Terminal("chat", "-m", str(first), "--context", "256", "--local") as terminal:
        terminal.see("you ›")
        terminal.send("hi" + ENTER)
        terminal.see("One\n.*tok/s")
        before = engines_of(terminal)
        for answer, going_on in (("n", "first"), ("y", "second")):
            terminal.see("you ›")
            terminal.send(f"/model {second}" + ENTER)
            terminal.see(r"Switching to second .* \(.* to load, the conversation\s+stays")
            terminal.send(answer + ENTER)
            terminal.see(rf"{going_on} .* · this machine · (about )?[0-9]+ of 256 tokens")
        terminal.see("you ›")
        terminal.send("and?" + ENTER)
        terminal.see("Two\n.*tok/s")
        assert len(engines_of(terminal)) == 1
        assert engines_of(terminal) != before
        leave(terminal)
