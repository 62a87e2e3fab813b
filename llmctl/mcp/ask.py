"""The tool ``ask``: a prompt in, an answer out, made on this machine unless a policy asks servers without asking."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

from msgspec import Meta, Struct

from llmctl.mcp.call import CallListener
from llmctl.mcp.served_tool import Count, Name, ServedTool
from llmctl.types.answer import Answer, LeftMachine
from llmctl.types.endpoint import Side
from llmctl.types.policy import Policy
from llmctl.types.request import Message, Request, Sampling
from llmctl.workspace.workspace import Workspace

LEAVES = frozenset({Policy.PREFER_REMOTE, Policy.REMOTE_ONLY})
"""The policies by which the user has said that prompts go to servers. With prefer-local a server takes over where this
machine fails, and a person is told before it does: nobody is told here."""


class AskArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked, and how it is to be answered."""

    prompt: Annotated[str, Meta(min_length=1)]
    system: Annotated[str | None, Meta(description="Instructions before the prompt")] = None
    model: Annotated[
        Name | None, Meta(description="A model on this machine, as the tool models labels it; the best one without")
    ] = None
    task: Annotated[Name | None, Meta(description="Picks the model that is best for it: code, translate …")] = None
    context: Annotated[Count | None, Meta(description="Tokens of context, for prompt and answer")] = None
    max_tokens: Annotated[Count | None, Meta(description="How long the answer may be")] = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    seed: Annotated[int, Meta(ge=0, lt=1 << 32)] | None = None
    private: Annotated[bool, Meta(description="It never leaves this machine, whatever the policy")] = False


class AskResult(Struct, frozen=True):
    """``side`` says where the answer was made: local is this machine, remote a server of the user's, its ``endpoint``.
    ``left_machine`` is what was sent, and to whom; null where nothing left."""

    text: str
    side: Side
    endpoint: str | None
    model: str
    quant: str | None
    reason: str
    left_machine: LeftMachine | None
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str | None
    total_s: float
    decode_tok_s: float | None
    warnings: tuple[str, ...]


def ask(asked: AskArguments, call: CallListener) -> AskResult:
    """Raises what ``Workspace.ask`` raises, and UsageError once the call is cancelled."""
    workspace = Workspace(call)
    stream = workspace.stream(
        request_of(asked),
        model=asked.model,
        task=asked.task,
        context=asked.context,
        local=not asked.private and workspace.settings.for_task(asked.task).policy not in LEAVES,
    )
    with closing(stream):
        for event in stream:
            call.require_wanted()
            if isinstance(event, Answer):
                return result_of(event, call)
    raise AssertionError("the last event is the answer")


def request_of(asked: AskArguments) -> Request:
    instructions = (Message.of("system", asked.system),) if asked.system else ()
    sampling = Sampling(max_tokens=asked.max_tokens, temperature=asked.temperature, seed=asked.seed)
    return Request((*instructions, Message.of("user", asked.prompt)), sampling=sampling, private=asked.private)


def result_of(answer: Answer, call: CallListener) -> AskResult:
    route, usage, timings = answer.route, answer.usage, answer.timings
    return AskResult(
        text=answer.text,
        side=route.side,
        endpoint=route.endpoint,
        model=route.model,
        quant=route.quant,
        reason=route.reason,
        left_machine=answer.left_machine,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        finish_reason=answer.finish_reason,
        total_s=timings.total_s,
        decode_tok_s=timings.decode_tok_s,
        warnings=tuple(call.warnings),
    )


TOOL = ServedTool(
    name="ask",
    title="Ask a private model",
    description=(
        "The answer of a language model on this machine to a prompt. Nothing is fetched: the model must be here. The "
        "prompt stays on this machine unless the user's policy is prefer-remote or remote-only; the result says where "
        "the answer was made, and what left."
    ),
    arguments=AskArguments,
    result=AskResult,
    answer=ask,
    computes=True,
    asks_servers=True,
)
