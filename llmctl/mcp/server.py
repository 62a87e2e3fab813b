"""The server: lists the tools, checks what they are given, and answers calls one after the other."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any

import anyio
import msgspec
from anyio import to_thread
from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    TextContent,
)
from msgspec import Struct

from llmctl import __version__
from llmctl.errors import LlmctlError, UsageError
from llmctl.mcp import ask, doctor, models, plan
from llmctl.mcp.call import CallListener
from llmctl.mcp.served_tool import ServedTool
from llmctl.printable import printable

TOOLS = {tool.name: tool for tool in (plan.TOOL, doctor.TOOL, models.MODELS, models.SEARCH, ask.TOOL)}
Ended = SimpleQueue[Exception | None]
"""How a conversation ended."""
INSTRUCTIONS = (
    "What this machine can run of language models, and a private model on it. plan says which model suits a task and "
    "how fast it is here, models which are here already, ask lets one answer."
)


def serve() -> None:
    """Speaks the protocol on stdin and stdout until stdin ends. Ctrl-C ends it at once: KeyboardInterrupt is raised,
    and whatever still reads or computes ends with the process, the engine too. Raises BrokenPipeError if nobody reads.
    """
    ended = Ended()
    # Not in the main thread, which must not wait for a read of stdin or for an engine. Its threads are daemons as well.
    threading.Thread(target=_speak, args=(ended,), daemon=True).start()
    failure = ended.get()
    if failure is not None:
        raise failure


def _speak(ended: Ended) -> None:
    try:
        anyio.run(_converse, ended)
        ended.put(None)
    except Exception as error:  # noqa: BLE001  # raised again by who waits for this thread
        ended.put(error)


async def _converse(ended: Ended) -> None:
    limiter = anyio.CapacityLimiter(1)  # each call may take the whole machine

    async def list_tools(context: Any, page: Any) -> ListToolsResult:
        return ListToolsResult(tools=[tool.described() for tool in TOOLS.values()])

    async def call_tool(context: Any, asked: CallToolRequestParams) -> CallToolResult:
        tool, call = _named(asked.name), CallListener()
        try:
            return await to_thread.run_sync(
                result, tool, asked.arguments or {}, call, abandon_on_cancel=True, limiter=limiter
            )
        finally:
            call.cancel()

    server: Server[Any] = Server(
        "llmctl", version=__version__, instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool
    )
    async with stdio_server() as (read, write):
        try:
            await server.run(read, write, server.create_initialization_options())
        except anyio.get_cancelled_exc_class():  # stdout has failed; stdin is read on until it ends, if it ever does
            ended.put(BrokenPipeError())
            raise


def _named(name: str) -> ServedTool:
    """Raises MCPError, the protocol's own for a tool that there is not."""
    if name not in TOOLS:
        message = f"there is no tool named {printable(name, 100)!r}, there are {', '.join(TOOLS)}"
        raise MCPError(code=INVALID_PARAMS, message=message)
    return TOOLS[name]


def result(tool: ServedTool, given: Mapping[str, Any], call: CallListener) -> CallToolResult:
    """The result of a call; what was wrong is a result as well, so that a model can read it."""
    try:
        return _succeeded(tool.answer(_arguments(tool, given), call))
    except LlmctlError as error:
        return _failed(error, call)


def _arguments(tool: ServedTool, given: Mapping[str, Any]) -> Struct:
    """Raises UsageError for what the tool's schema doesn't allow."""
    try:
        return msgspec.convert(given, tool.arguments)
    except msgspec.ValidationError as error:
        raise UsageError(f"{tool.name} can't be called so: {printable(str(error), 300)}") from error


def _succeeded(made: Struct) -> CallToolResult:
    text = msgspec.json.encode(made).decode()
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=msgspec.json.decode(text))


def _failed(error: LlmctlError, call: CallListener) -> CallToolResult:
    """An error as the command line shows it, and its code for programs."""
    lines = [f"error: {error.message}"]
    if error.hint:
        lines.append(f"  next: {error.hint}")
    if call.sent_to is not None:
        lines.append(f"  the prompt was handed to {call.sent_to} before that")
    fields = {"code": error.code, "message": error.message, "hint": error.hint, "sent_to": call.sent_to}
    return CallToolResult(
        content=[TextContent(type="text", text="\n".join(lines))], structured_content={"error": fields}, is_error=True
    )
