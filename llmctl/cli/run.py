"""``llmctl run``: a prompt in, an answer out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.cli.story import Story
from llmctl.cli.wrap import WrappedOutput
from llmctl.errors import ContextError, LlmctlError, UsageError
from llmctl.workspace.truncation import Dropped

Shorten = Callable[["Request", ContextError], "Request"]

if TYPE_CHECKING:
    from llmctl.settings import Settings
    from llmctl.types.answer import Answer
    from llmctl.types.plan import Fit, NoFit
    from llmctl.types.request import Request
    from llmctl.workspace.local_run import LocalRun


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
    file: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", help="Text before the prompt: any text, PDF, .docx, .xlsx, .pptx. Repeatable."),
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", help="A template around the prompt.", autocompletion=complete.templates)
    ] = None,
    truncate: Annotated[
        Dropped | None, typer.Option("--truncate", help="What goes of files and stdin if they are too long.")
    ] = None,
    context: Annotated[int | None, typer.Option("--context", "-c", min=256, help="Tokens of context.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", "-n", min=1, help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0, max=2, help="Sampling.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="For an answer that can be repeated.")] = None,
    stop: Annotated[list[str] | None, typer.Option("--stop", help="Ends the answer. Repeatable.")] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", help="The answer is JSON of this schema: a FILE, or JSON itself.")
    ] = None,
    json_object: Annotated[bool, typer.Option("--json-object", help="The answer is a JSON object.")] = False,
    threads: Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads to decode with.")] = None,
    local: Annotated[bool, typer.Option("--local", help="On this machine or not at all.")] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Never leaves this machine, whatever the policy says.")
    ] = False,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", "-e", help="On this server or not at all.", autocompletion=complete.endpoints),
    ] = None,
    keep_alive: Annotated[
        str | None,
        typer.Option("--keep-alive", help="How long the model stays loaded: 30s, 5m, 1h, 0, or -1 for ever."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Yes to every question, downloads included.")] = False,
    no_stdin: Annotated[
        bool, typer.Option("--no-stdin", help="Leave stdin alone, for loops and pipes that nobody closes.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Fetch nothing, and ask no server on another machine.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the answer.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Tokens, times and memory of the answer, on stderr.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, at the end.")] = False,
) -> None:
    """Answer a prompt with the model that suits this machine.

    \b
    Examples:
      llmctl run "Explain mmap in two sentences."
      git diff | llmctl run --task code "Write the commit message" > msg.txt
      llmctl run -m qwen3.5-4b:Q4_K_M --json "Hello"
      llmctl run -f report.pdf -f notes.md --truncate middle "What do they disagree on?"
      llmctl run --schema person.json "Ada Lovelace, born 1815" | jq .name

    Files stand before what comes in on stdin, and that before the prompt. A prompt that is too long is refused with
    both numbers; with --truncate the head, the middle or the tail of files and stdin is dropped, and stderr says how
    much. A template is a text with {{input}} in it: NAME.md in the folder templates beside the configuration, or in
    .llmctl/templates.

    The answer goes to stdout as it is written, everything else to stderr. Without -m the best model on this machine
    answers; if there is none, the best for it is offered for download (--yes: fetched). When nothing fits or the
    engine fails, and you have added a server with `llmctl endpoint add`, it answers instead, and stderr says so
    before anything is sent. A model that you name answers or nothing does, and no project file makes a prompt
    leave. Otherwise nothing leaves this machine. What an answer took of memory and time is kept for `llmctl
    doctor`, without a word of it.

    Exit codes: 0 answered, 3 nothing fits, 4 no such model (or it needs a download and nobody said yes), 5 network,
    6 a broken file, 7 disk full, 8 the engine failed, 9 access, 10 configuration, 11 policy, 130 Ctrl-C.
    """
    from llmctl.cli.answer_form import response_format
    from llmctl.cli.prompt import prompt as whole
    from llmctl.cli.prompt import utf8
    from llmctl.cli.shortening import Shortening
    from llmctl.types.request import Message, Request, Sampling
    from llmctl.workspace import configuration
    from llmctl.workspace.local_run import Asked, local_run

    out = (WrappedOutput if sys.stdout.isatty() else Output)("run", as_json=json, quiet=quiet)
    if local and endpoint is not None:
        raise UsageError("--local and --endpoint exclude each other")
    _require_names({"--model": model, "--endpoint": endpoint, "--task": task, "--template": template})
    form = response_format(schema, json_object=json_object)
    text = whole(out, prompt, no_stdin=no_stdin, files=file or (), template=template)
    instructions = (Message.of("system", utf8(system)),) if system else ()
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed, stop=_stops(stop))
    request = Request(
        (*instructions, Message.of("user", text.text())), response_format=form, sampling=sampling, private=private
    )
    loaded = configuration.load(out)
    loaded = replace(loaded, offline=loaded.offline or offline)
    tokens = None if truncate else _estimated_tokens(request)  # what will be cut needs no context of its own
    asked = Asked(model, task, context, threads, tokens or 0, max_tokens)
    shorten = None if truncate is None else Shortening(out, text, truncate).shortened
    if keep_alive is not None:
        loaded = replace(loaded, keep_alive=_duration_s("--keep-alive", keep_alive))

    def here() -> LocalRun:
        return local_run(out, loaded, asked, yes=yes, local=local or private)

    ask(out, loaded, request, here, local, endpoint, insist=keep_alive is not None, shorten=shorten, stats=stats)


def _stops(stop: list[str] | None) -> tuple[str, ...] | None:
    if stop and not all(stop):
        raise UsageError("--stop was given nothing", hint="llmctl run --help")
    return tuple(stop) if stop else None


def _require_names(options: Mapping[str, str | None]) -> None:
    """Raises UsageError for an option that was given nothing, as by an empty variable: it is not the same as none."""
    for option, value in options.items():
        if value is not None and not value.strip():
            raise UsageError(f"{option} was given an empty name", hint="llmctl run --help")


def _duration_s(option: str, text: str) -> float:
    """Raises UsageError."""
    from llmctl.settings.table import DURATIONS

    try:
        return units.duration_s(text)
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}, it must be {DURATIONS}", hint="llmctl run --help") from error


def ask(
    out: Output,
    loaded: Settings,
    request: Request,
    here: Callable[[], LocalRun],
    local: bool = False,
    endpoint: str | None = None,
    *,
    insist: bool = False,
    shorten: Shorten | None = None,
    stats: bool = False,
) -> None:
    """Streams the answer to stdout and the story to stderr. What was written before an error stays written.

    ``here`` is called only if this machine may answer; ``insist`` as ``Pool`` has it; ``shorten`` makes less of a
    request that is too long. Raises what the router raises.
    """
    from llmctl.cli.answer_form import is_json

    story = Story(out, limited=request.sampling.max_tokens is not None, stats=stats)
    try:
        answered = _execute(
            loaded, request, here, story, local=local, endpoint=endpoint, insist=insist, shorten=shorten
        )
    except KeyboardInterrupt:
        story.stopped()
        raise
    except LlmctlError as error:
        story.end_line()
        if not (out.as_json and story.has_receipt):
            raise
        out.failed(error, story.receipt(None))
        raise typer.Exit(error.exit_code) from error
    if request.response_format is not None and not is_json(answered.text):
        out.warn("the answer is not JSON, which was asked for")
    story.finished(answered)


def _execute(
    loaded: Settings,
    request: Request,
    here: Callable[[], LocalRun],
    story: Story,
    *,
    local: bool,
    endpoint: str | None,
    insist: bool,
    shorten: Shorten | None,
) -> Answer:
    from llmctl.engine.pool import Pool
    from llmctl.router.answer import answer
    from llmctl.router.route import route
    from llmctl.types.endpoint import LeaveReason, Policy
    from llmctl.workspace.session_engine import SessionEngine

    pinned = None if endpoint is None else loaded.endpoint(endpoint)
    policy, endpoints, offline = loaded.policy, loaded.endpoints, loaded.offline
    planned: Fit | NoFit | None = None
    barred: dict[LeaveReason, str] = {}
    pool = Pool(keep_alive_s=loaded.keep_alive, insist=insist, listener=story)
    with pool, closing(SessionEngine(pool)) as engine:
        if pinned is None and (policy is not Policy.REMOTE_ONLY or local):
            pool.prepare()  # imports the engine while we plan
            ready = here()
            planned, barred = ready.planned, dict(ready.barred)
        if shorten is not None:
            barred[LeaveReason.PROMPT_TOO_LONG] = "--truncate makes it shorter"
        decided = route(
            planned,
            policy,
            endpoints,
            pinned=pinned,
            local=local,
            offline=offline,
            barred=barred,
            private=request.private,
        )
        lease = pool.lease if shorten is None else engine.lend  # asked again without loading again
        while True:
            try:
                return answer(decided, request, listener=story, lease=lease, so_far=story.so_far, record=loaded.history)
            except ContextError as error:
                if shorten is None:
                    raise
                request = shorten(request, error)


def _estimated_tokens(request: Request) -> int:
    """Tokens of a prompt before a tokenizer has seen it: three bytes of UTF-8 each.

    English prose has four to five bytes a token and source code some three, so this errs to the safe side. The exact
    number is the engine's; it decides whether the prompt fits.
    """
    return sum(len(message.text.encode()) for message in request.messages) // 3 + 16
