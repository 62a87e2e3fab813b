"""``llmctl run``: a prompt in, an answer out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.errors import LlmctlError, UsageError

if TYPE_CHECKING:
    from llmctl.cli.held import HeldBack
    from llmctl.engine.worker_process import Engine
    from llmctl.settings import Settings
    from llmctl.types.answer import Answer, Message, Piece, Sampling
    from llmctl.types.endpoint import Endpoint
    from llmctl.types.plan import Fit
    from llmctl.workspace.local_run import LocalRun

WHOLE_ENDS = (None, "stop", "end_turn", "eos", "stop_sequence", "tool_calls", "function_call")


def run(
    prompt: Annotated[
        str | None, typer.Argument(help="What to ask. What comes in on stdin stands before it; - is stdin alone.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="NAME[:QUANT], any of `models list`, or FILE.gguf.", autocompletion=complete.models
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="What the model is chosen for.", autocompletion=complete.tasks)
    ] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="Instructions before the prompt.")] = None,
    context: Annotated[int | None, typer.Option("--context", "-c", min=256, help="Tokens of context.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", "-n", min=1, help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0, max=2, help="Sampling.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="For an answer that can be repeated.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads to decode with.")] = None,
    local: Annotated[bool, typer.Option("--local", help="On this machine or not at all.")] = False,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", "-e", help="On this server or not at all.", autocompletion=complete.endpoints),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Yes to every question, downloads included.")] = False,
    no_stdin: Annotated[
        bool, typer.Option("--no-stdin", help="Leave stdin alone, for loops and pipes that nobody closes.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Fetch nothing, and ask no server on another machine.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the answer.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, at the end.")] = False,
) -> None:
    """Answer a prompt with the model that suits this machine.

    \b
    Examples:
      llmctl run "Explain mmap in two sentences."
      git diff | llmctl run --task code "Write the commit message" > msg.txt
      llmctl run -m qwen3.5-4b:Q4_K_M --json "Hello"

    The answer goes to stdout as it is written, everything else to stderr. Without -m the best model on this machine
    answers; if there is none, the best for it is offered for download (--yes: fetched). When nothing fits or the
    engine fails, and you have added a server with `llmctl endpoint add`, it answers instead, and stderr says so before
    anything is sent. A model that you name answers or nothing does, and no project file makes a prompt leave. Otherwise
    nothing leaves this machine. What an answer took of memory and time is kept for `llmctl doctor`, without a word of
    it.

    Exit codes: 0 answered, 3 nothing fits, 4 no such model (or it needs a download and nobody said yes), 5 network,
    6 a broken file, 7 disk full, 8 the engine failed, 9 access, 10 configuration, 11 policy, 130 Ctrl-C.
    """
    from llmctl.cli.prompt import prompt as whole
    from llmctl.cli.prompt import utf8
    from llmctl.types.answer import Message, Sampling
    from llmctl.workspace import configuration
    from llmctl.workspace.local_run import Asked, local_run

    out = Output("run", as_json=json, quiet=quiet)
    if local and endpoint is not None:
        raise UsageError("--local and --endpoint exclude each other")
    _require_names({"--model": model, "--endpoint": endpoint, "--task": task})
    text = whole(out, prompt, no_stdin=no_stdin)
    messages = ([Message("system", utf8(system))] if system else []) + [Message("user", text)]
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    loaded = configuration.load(out)
    loaded = replace(loaded, offline=loaded.offline or offline)
    asked = Asked(model, task, context, threads, _estimated_tokens(messages), max_tokens)
    ask(out, loaded, messages, sampling, lambda: local_run(out, loaded, asked, yes=yes, local=local), local, endpoint)


def _require_names(options: Mapping[str, str | None]) -> None:
    """Raises UsageError for an option that was given nothing, as by an empty variable: it is not the same as none."""
    for option, value in options.items():
        if value is not None and not value.strip():
            raise UsageError(f"{option} was given an empty name", hint="llmctl run --help")


def ask(
    out: Output,
    loaded: Settings,
    messages: list[Message],
    sampling: Sampling,
    here: Callable[[], LocalRun],
    local: bool = False,
    endpoint: str | None = None,
) -> None:
    """Streams the answer to stdout and the story to stderr. What was written before an error stays written.

    ``here`` is called only if this machine may answer. Raises what the router raises.
    """
    story = Story(out, limited=sampling.max_tokens is not None)
    try:
        answered = _execute(loaded, messages, sampling, here, story, local=local, endpoint=endpoint)
    except KeyboardInterrupt:
        story.stopped()
        raise
    except LlmctlError as error:
        story.end_line()
        if not (out.as_json and story.has_receipt):
            raise
        out.failed(error, story.receipt(None))
        raise typer.Exit(error.exit_code) from error
    story.finished(answered)


def _execute(
    loaded: Settings,
    messages: list[Message],
    sampling: Sampling,
    here: Callable[[], LocalRun],
    story: Story,
    *,
    local: bool,
    endpoint: str | None,
) -> Answer:
    from llmctl.engine.worker_process import Worker
    from llmctl.router.answer import answer
    from llmctl.router.route import route
    from llmctl.types.endpoint import Policy

    pinned = None if endpoint is None else loaded.endpoint(endpoint)
    policy, endpoints, offline = loaded.policy, loaded.endpoints, loaded.offline
    if pinned is not None or (policy is Policy.REMOTE_ONLY and not local):
        decided = route(None, policy, endpoints, pinned=pinned, offline=offline)
        return answer(decided, messages, sampling, listener=story, so_far=story.so_far)
    worker = Worker()  # imports the engine while we plan
    try:
        ready = here()
        decided = route(ready.planned, policy, endpoints, local=local, offline=offline, barred=ready.barred)
        return answer(
            decided,
            messages,
            sampling,
            listener=story,
            worker=worker,
            so_far=story.so_far,
            record=loaded.history,
        )
    finally:
        worker.close()


def _estimated_tokens(messages: list[Message]) -> int:
    """Tokens of a prompt before a tokenizer has seen it: three bytes of UTF-8 each.

    English prose has four to five bytes a token and source code some three, so this errs to the safe side. The exact
    number is the engine's; it decides whether the prompt fits.
    """
    return sum(len(message.content.encode()) for message in messages) // 3 + 16


class Story:
    """What a person is told while it happens, on stderr, and the answer's text on stdout."""

    def __init__(self, out: Output, *, limited: bool) -> None:
        """``limited``: the user asked for an answer of a certain length, so that its end is no surprise."""
        from llmctl.router.answer import Progress

        self.out = out
        self._limited = limited
        self.so_far = Progress()
        self._thinking = False
        self._held: HeldBack | None = None

    def loaded(self, fit: Fit, engine: Engine) -> None:
        from llmctl.store import Store

        candidate = fit.candidate
        if candidate.path is not None:
            Store().used(candidate.path)
        self.out.note(
            f"{candidate.model.id} {candidate.artifact.quant} · local · {fit.context:,} tokens of context · "
            f"loaded in {units.seconds(engine.load_s)}"
        )
        if not engine.has_chat_template:
            self.out.warn("this is a base model without a chat template: it continues your text")

    def leaving(self, endpoint: Endpoint, host: str, reason: str) -> None:
        from llmctl.cli.held import PIPE_S, TERMINAL_S, HeldBack

        self._held = HeldBack(self.out.piece, TERMINAL_S if sys.stdout.isatty() else PIPE_S)
        self.out.must_say(f"→ {endpoint.name} ({host}, {endpoint.model}): {reason}")

    def staying(self, reason: str) -> None:
        self.out.warn(f"{reason}; this machine answers instead")

    def piece(self, piece: Piece) -> None:
        from llmctl.types.answer import PieceKind

        if piece.kind is PieceKind.NOTE:
            self.out.warn(piece.text)
            return
        if piece.kind is PieceKind.THOUGHTS_SO_FAR:
            self._were_thoughts()
            return
        if piece.kind is PieceKind.REASONING:
            self._thinking = True
            self.out.thought(piece.text)
            return
        self._end_thought()
        (self._held.add if self._held else self.out.piece)(piece.text)

    def _were_thoughts(self) -> None:
        """What came as text so far: it goes to stderr if it isn't on stdout by now."""
        text = self._held.take() if self._held else None
        if text is not None:
            self._thinking = True
            self.out.thought(text)
        elif not self.out.as_json:
            self.out.warn("what was written so far were the model's thoughts: their beginning isn't marked")

    def _end_thought(self) -> None:
        if self._thinking:
            self._thinking = False
            self.out.thought("\n")

    def end_line(self) -> None:
        """A final newline, so that what follows does not stand on the last line of the answer or the thoughts."""
        self._end_thought()
        if self._held is not None:
            self._held.release()
        if self.so_far.text and not self.so_far.text[-1].endswith("\n"):
            self.out.piece("\n")

    @property
    def has_receipt(self) -> bool:
        """Whether there is something to account for although there is no answer: text, or a prompt that left."""
        return bool(self.so_far.text) or self.so_far.left is not None

    def receipt(self, finish_reason: str | None) -> dict[str, object]:
        text = "".join(self.so_far.text)
        return {"text": text, "left_machine": self.so_far.left, "finish_reason": finish_reason}

    def stopped(self) -> None:
        self.end_line()
        if self.has_receipt:
            self.out.data(self.receipt("interrupted"))
        self.out.note("stopped")

    def finished(self, answer: Answer) -> None:
        from llmctl.types.plan import Basis

        self.end_line()
        if not answer.text:
            self.out.warn("the model answered nothing")
        if (warning := _early_end(answer, limited=self._limited)) is not None:
            self.out.warn(warning)
        timings, usage = answer.timings, answer.usage
        parts = [f"{units.count(usage.completion_tokens)} tokens", f"{units.tok_s(timings.decode_tok_s)} tok/s"]
        if answer.predicted is not None:
            pace = units.tok_s(answer.predicted.decode_tok_s)
            guess = answer.predicted.basis is Basis.MODELLED
            parts[1] += f" (guessed {pace}: llmctl doctor measures)" if guess else f" (promised {pace})"
        self.out.note(" · ".join([*parts, f"first token {units.seconds(timings.first_token_s)}"]))
        self.out.data(answer)


def _early_end(answer: Answer, *, limited: bool) -> str | None:
    """Why the answer ended before it was whole, in words; None where it is, or was as long as was asked for."""
    from llmctl.types.endpoint import Side

    reason, is_remote = answer.finish_reason, answer.route.side is Side.REMOTE
    if reason == "length":
        if limited:
            return None
        if is_remote:
            return "the answer was cut off at the server's limit (-n NUMBER asks for more tokens, if it gives them)"
        return "the answer was cut off: the context is used up (--context takes more)"
    if reason == "repetition":
        return "the answer was cut off: it had begun to repeat itself for ever (-n TOKENS lets it go on)"
    if reason in WHOLE_ENDS or not is_remote:
        return None
    if reason == "refusal":
        return "the model refused to answer"
    if reason == "content_filter":
        return "the answer was cut off by the server's content filter"
    return f"the server ended the answer: {reason}"
