"""`llmctl mcp` with the protocol's own client over stdio: what the tools tell, what they refuse, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import psutil
import pytest

from llmctl import Workspace, paths
from llmctl.cli import main
from llmctl.net import host_of
from llmctl.types.endpoint import LeaveReason
from llmctl.types.plan import Plan
from tests.fakes.chat_server import DONE, ChatServer, event, stream
from tests.fakes.command import engine_of, preloaded, wait_for_end
from tests.fakes.preloaded import Forked

if TYPE_CHECKING:  # every worker collects these tests, and the protocol's library takes half a second to import
    from mcp.types import CallToolResult, Tool

pytestmark = pytest.mark.usefixtures("measured")

COMMAND = [sys.executable, "-m", "llmctl", "mcp"]
HELLO = stream(event("Hello", finish="stop"), DONE)
Calls = list[tuple[str, dict[str, Any]]]


def session(calls: Calls) -> tuple[list[Tool], list[CallToolResult], str]:
    """The tools, the results of the calls, which the client holds against the tools' schemas, and what the protocol
    says to a call of no tool."""
    from mcp import Client, MCPError
    from mcp.client.stdio import StdioServerParameters

    async def talk() -> tuple[list[Tool], list[CallToolResult], str]:
        server = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=dict(os.environ), cwd=Path.cwd())
        async with Client(server) as client:
            tools = (await client.list_tools()).tools
            results = [await client.call_tool(name, arguments) for name, arguments in calls]
            try:
                await client.call_tool("run", {})
            except MCPError as error:
                return tools, results, error.error.message
        raise AssertionError("a tool that there is not was called")

    return anyio.run(talk)


def called(name: str, arguments: dict[str, Any]) -> CallToolResult:
    """The result of one call, without a server."""
    from llmctl.mcp.call import CallListener
    from llmctl.mcp.server import TOOLS, result

    return result(TOOLS[name], arguments, CallListener())


def fields(answer: CallToolResult) -> dict[str, Any]:
    assert not answer.is_error, answer.content
    made: dict[str, Any] = answer.structured_content
    (content,) = answer.content
    assert content.type == "text" and json.loads(content.text) == made  # for clients that know text alone
    return made


def code(answer: CallToolResult) -> str:
    assert answer.is_error, answer.structured_content
    error: dict[str, Any] = answer.structured_content["error"]
    (content,) = answer.content
    assert content.type == "text" and content.text.startswith(f"error: {error['message']}")
    assert "Traceback" not in content.text
    return str(error["code"])


def configure(server: ChatServer, policy: str) -> None:
    file = paths.config_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'policy = "{policy}"\n[endpoints.office]\nurl = "{server.url}"\nmodel = "m"\n')


def test_what_an_agent_learns(endless_file: Path) -> None:
    asked = {"prompt": "Name a colour.", "model": str(endless_file), "max_tokens": 4, "context": 512}
    calls: Calls = [("plan", {"task": "code"}), ("doctor", {}), ("models", {}), ("search", {"words": "qwen coder"})]
    calls += [("ask", asked), ("ask", {"prompt": 1}), ("ask", {"prompt": "word " * (2 << 20)})]
    tools, results, no_tool = session(calls)
    plan, doctor, models, search, answer = map(fields, results[:5])

    assert [tool.name for tool in tools] == ["plan", "doctor", "models", "search", "ask"]
    assert [tool.name for tool in tools if not (tool.annotations and tool.annotations.read_only_hint)] == ["ask"]
    assert all(tool.input_schema["additionalProperties"] is False for tool in tools)
    own = Workspace().plan(task="code")
    assert isinstance(own, Plan)
    assert plan["task"] == "code" and plan["choice"]["model"] == own.choice.candidate.model.id
    assert len(plan["alternatives"]) == min(len(own.alternatives), 5)
    assert doctor["memory_total_bytes"] == Workspace().machine.memory.total_bytes
    assert doctor["error"] is None and {check["id"] for check in doctor["checks"]}
    assert models == {"models": [], "total_bytes": 0, "warnings": []}
    assert search["matches"] == len(search["models"]) and "qwen" in search["models"][0]["id"]
    assert (answer["side"], answer["left_machine"]) == ("local", None)
    assert answer["text"] and answer["completion_tokens"] <= 4
    assert list(map(code, results[5:])) == ["usage", "nothing_fits"]
    assert no_tool == "there is no tool named 'run', there are plan, doctor, models, search, ask"


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "no prompt": ("ask", {}, "usage"),
    "an empty prompt": ("ask", {"prompt": ""}, "usage"),
    "a prompt that is a number": ("ask", {"prompt": 1}, "usage"),
    "private in words": ("ask", {"prompt": "hi", "private": "yes"}, "usage"),
    "private, misspelt": ("ask", {"prompt": "hi", "privat": True}, "usage"),
    "no context": ("ask", {"prompt": "hi", "context": 0}, "usage"),
    "more tokens than there are": ("ask", {"prompt": "hi", "max_tokens": 1 << 40}, "usage"),
    "a name without end": ("ask", {"prompt": "hi", "model": "m" * 100_000}, "usage"),
    "a model that would have to be fetched": ("ask", {"prompt": "hi"}, "not_found"),
    "a model that isn't": ("ask", {"prompt": "hi", "model": "nonesuch"}, "not_found"),
    "a file that isn't": ("ask", {"prompt": "hi", "model": "./no.gguf"}, "not_found"),
    "a plan of no task": ("plan", {"task": "nonesuch"}, "usage"),
    "a plan of no model": ("plan", {"model": "nonesuch"}, "not_found"),
    "a plan of what the hub may have": ("plan", {"model": "org/name"}, "not_found"),
    "a plan of an address": ("plan", {"model": "https://example.com/a.gguf"}, "usage"),
    "a search that finds nothing": ("search", {"words": "zzqqxx"}, "not_found"),
    "an argument for none": ("models", {"all": True}, "usage"),
}


@pytest.mark.parametrize(("name", "arguments", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(name: str, arguments: dict[str, Any], wanted: str) -> None:
    assert code(called(name, arguments)) == wanted


def asked(**arguments: Any) -> CallToolResult:
    """The tool itself, without a process around it."""
    return called("ask", {"prompt": "hi", **arguments})


@pytest.mark.parametrize(
    ("policy", "private", "outcome"),
    [
        ("local-only", False, "not_found"),  # a model fits, and nobody said yes to its download
        ("prefer-local", False, "not_found"),
        ("prefer-remote", True, "not_found"),
        ("remote-only", True, "policy"),
    ],
)
def test_a_prompt_that_stays(policy: str, private: bool, outcome: str) -> None:
    with ChatServer(HELLO) as server:
        configure(server, policy)
        assert code(asked(private=private)) == outcome
    assert server.requests == []


def test_a_prompt_that_fits_nothing_stays_unlike_that_of_run() -> None:
    with ChatServer(HELLO) as server:
        configure(server, "prefer-local")
        too_long = "word " * (2 << 20)
        assert code(asked(prompt=too_long)) == "nothing_fits"
        assert server.requests == []
        assert Workspace().ask(too_long).route.left_because is LeaveReason.NOTHING_FITS
    assert len(server.requests) == 1


@pytest.mark.parametrize("policy", ["prefer-remote", "remote-only"])
def test_a_policy_that_asks_servers(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    with ChatServer(HELLO) as server:
        configure(server, policy)
        answer = fields(asked(system="Be brief."))
    assert (answer["text"], answer["side"], answer["endpoint"]) == ("Hello", "remote", "office")
    assert answer["left_machine"]["bytes"] == len(server.requests[0].body)
    assert capsys.readouterr().err.startswith("→ office (127.0.0.1")


def test_an_error_says_that_the_prompt_had_left() -> None:
    with ChatServer(stream(event("He"))) as server:
        configure(server, "remote-only")
        answer = asked()
    assert code(answer) == "network"
    assert answer.structured_content["error"]["sent_to"] == host_of(server.url)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith("llmctl.mcp.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert main(["mcp"]) == 2
    assert capsys.readouterr().err == (
        "error: agents are spoken to by the package mcp, 2.3 or newer, which is not installed\n"
        '  next: pip install "llmctl[mcp]"\n'
    )


Process = subprocess.Popen[bytes] | Forked


class Raw:
    """The server's process, and lines of JSON to and from it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.request(0, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=CLIENT)
        self.answer(0)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def send(self, message: Mapping[str, Any]) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def request(self, number: int, method: str, **parameters: Any) -> None:
        self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": parameters})

    def answer(self, number: int) -> dict[str, Any]:
        """The answer to a request. Whatever else comes on stdout is a message, too."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message: dict[str, Any] = json.loads(line)
            assert message["jsonrpc"] == "2.0"
            if message.get("id") == number:
                return message
        raise AssertionError("stdout has ended")

    def engine_at_work(self) -> psutil.Process:
        """The engine of a call, which writes by the time that it has used this much of CPU."""
        return engine_of(self.process, after_s=0.4)


CLIENT = {"name": "test", "version": "1"}


@contextmanager
def raw(start: Callable[[], Process]) -> Iterator[Raw]:
    with start() as process:
        try:
            yield Raw(process)
        finally:
            process.kill()


def by_itself() -> subprocess.Popen[bytes]:
    """With all that Python does when it ends."""
    pipe = subprocess.PIPE
    return subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=pipe)


def close_stdin(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()


def close_stdout(process: Process) -> None:
    assert process.stdout is not None and process.stdin is not None
    process.stdout.close()
    process.stdin.write(b'{"jsonrpc":"2.0","id":3,"method":"ping"}\n')
    process.stdin.flush()


def ctrl_c(process: Process) -> None:
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("end", "exit_code"),
    [(close_stdin, 0), (ctrl_c, 130), (close_stdout, 141)],
    ids=["stdin is closed", "Ctrl-C", "stdout is closed"],
)
def test_it_ends_in_the_middle_of_an_answer(end: Callable[[Process], None], exit_code: int, endless_file: Path) -> None:
    with raw(by_itself) as server:
        server.request(1, "tools/call", name="ask", arguments={"prompt": "hi", "model": str(endless_file)})
        engine = server.engine_at_work()
        end(server.process)
        assert server.process.wait(timeout=30) == exit_code
        assert server.process.stderr is not None and server.process.stderr.read() == b""
    wait_for_end(engine)


def test_a_call_that_is_cancelled_and_lines_that_are_no_messages(endless_file: Path) -> None:
    lines = [b"", b"null", b"[]", b'{"jsonrpc": "2.0"', b"\xff\xfe\x00", b"[" * 100_000, b"x" * (10 << 20)]
    lines += [b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"\\ud800","arguments":[]}}']
    with raw(lambda: preloaded().start("mcp")) as server:
        server.request(1, "tools/call", name="ask", arguments={"prompt": "hi", "model": str(endless_file)})
        engine = server.engine_at_work()
        server.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        for line in lines:
            server.write(line + b"\n")
        server.request(2, "tools/call", name="models", arguments={})
        assert server.answer(2)["result"]["structuredContent"]["models"] == []
        wait_for_end(engine)
