"""``llmctl run``: a prompt in, an answer out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli import complete, options
from llmctl.cli.output import Output
from llmctl.cli.story import Story
from llmctl.cli.terminal import answer_output, lay_out
from llmctl.errors import LlmctlError, UsageError
from llmctl.workspace.truncation import Dropped

if TYPE_CHECKING:
    from llmctl.cli.own_texts import CitingPrompt
    from llmctl.settings import Settings
    from llmctl.types.request import ImagePart, Request
    from llmctl.workspace.ask import Shorten
    from llmctl.workspace.local_run import LocalRun


def run(
    prompt: Annotated[
        str | None, typer.Argument(help="What to ask. What comes in on stdin stands before it; - is stdin alone.")
    ] = None,
    model: options.Model = None,
    task: options.Task = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="Instructions before the prompt.")] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Text before the prompt: any text, PDF, .docx, .xlsx, .pptx. Repeatable.",
        ),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(
            "--files",
            metavar="FOLDER | INDEX",
            help="Answer from your own texts: see `llmctl index`.",
            autocompletion=complete.indexes,
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="FILE", help="PNG, JPEG, GIF or WebP before the prompt. Repeatable."),
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", help="A template around the prompt.", autocompletion=complete.templates)
    ] = None,
    truncate: Annotated[
        Dropped | None, typer.Option("--truncate", help="What goes of files and stdin if they are too long.")
    ] = None,
    going_on: options.GoOn = False,
    context: options.Context = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    seed: options.Seed = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="Ends the answer. Repeatable.")
    ] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", help="The answer is JSON of this schema: a FILE, or JSON itself.")
    ] = None,
    json_object: Annotated[bool, typer.Option("--json-object", help="The answer is a JSON object.")] = False,
    threads: options.Threads = None,
    draft: options.DraftModel = None,
    local: options.LocalOnly = False,
    private: options.Private = False,
    remote: options.Remote = False,
    endpoint: options.Server = None,
    min_tok_s: options.MinTokS = None,
    max_first_token: options.MaxFirstToken = None,
    max_download: options.MaxDownload = None,
    engine: options.Engine = None,
    keep_alive: options.KeepAlive = None,
    yes: options.Yes = False,
    no_stdin: Annotated[
        bool, typer.Option("--no-stdin", help="Leave stdin alone, for loops and pipes that nobody closes.")
    ] = False,
    offline: options.Offline = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the answer.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would answer and why; ask nothing, as `llmctl route` does.")
    ] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Tokens, times and memory of the answer, on stderr.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, at the end.")] = False,
) -> None:
    """Answer a prompt with the model that suits this machine.

    \b
    Examples:
      llmctl run "Explain mmap in two sentences."
      git diff | llmctl run --task code "Write the commit message" > msg.txt
      llmctl run -m qwen3.5-4b:Q4_K_M --json "Hello"
      llmctl run -f report.pdf -f notes.md --truncate middle "What is new?"
      llmctl run --files ~/notes "What was the deposit for the flat?"
      llmctl run --schema person.json "Ada Lovelace, born 1815" | jq .name
      llmctl run -c "And now in one sentence?"

    Files stand before what comes in on stdin, and that before the prompt. A prompt that is too long is refused with
    both numbers; with --truncate the head, the middle or the tail of files and stdin is dropped, and stderr says how
    much. With --files the passages of a folder that suit the question best stand before it, and stderr names files and
    lines; before they leave for a server of yours, you are asked once for each index, whatever --yes says. An --image
    is read by a model with a vision projector, which is fetched with the model if need be. A template is a text with
    {{input}} in it: NAME.md in the folder templates beside the configuration, or in .llmctl/templates.
    With the setting chat_history = true conversations are kept on disk, readable by you alone, and -c goes on with the
    last one; what is --private is never kept, and `llmctl chat --forget` deletes it all.

    The answer goes to stdout as it is written, everything else to stderr. Without -m the best model on this machine
    answers; if there is none, the best for it is offered for download (--yes: fetched). When nothing fits, the
    engine fails, or this machine is slower than --min-tok-s or --max-first-token allow, and you have added a server
    with `llmctl endpoint add`, it answers instead, and stderr says so before anything is sent. A model that you name
    answers or nothing does, and no project file makes a prompt leave. Otherwise nothing leaves this machine. What an
    answer took of memory and time is kept for `llmctl doctor`, without a word of it.

    Exit codes: 0 answered, 3 nothing fits, 4 no such model (or it needs a download and nobody said yes), 5 network,
    6 a broken file, 7 disk full, 8 the engine failed, 9 access, 10 configuration, 11 policy, 130 Ctrl-C.
    """
    from msgspec.structs import replace

    from llmctl.cli.answer_form import response_format
    from llmctl.cli.keeping import Keeping, begin, last_conversation
    from llmctl.cli.prompt import prompt as whole
    from llmctl.cli.prompt import utf8
    from llmctl.cli.shortening import Shortening
    from llmctl.types.request import Request, Sampling
    from llmctl.workspace.conversation import Turn
    from llmctl.workspace.local_run import Asked, local_run

    out = answer_output("run", as_json=json, quiet=quiet)
    options.require_one_side(local=local, remote=remote, endpoint=endpoint)
    options.require_names(
        "run", {"--model": model, "--draft": draft, "--endpoint": endpoint, "--task": task, "--template": template}
    )
    form = response_format(schema, json_object=json_object)
    loaded = options.settings_with(out, offline=offline, keep_alive=keep_alive, engine=engine)
    limits = {"min_tok_s": min_tok_s, "max_first_token": max_first_token, "max_download": max_download}
    loaded = options.with_limits(loaded, "run", **limits)
    lay_out(out, markdown=loaded.markdown, as_written=form is not None)
    if files is not None:
        _require_alone(files, truncate)
        loaded = replace(loaded, prompt_cache=0)  # excerpts are kept in their index alone
    kept = last_conversation(out, loaded, endpoint) if going_on else None
    text = whole(out, prompt, no_stdin=no_stdin, files=file or (), template=template)
    conversation, begun = begin(kept, model, task, utf8(system) if system else None, local=local)
    loaded = options.for_call(loaded, task=begun.task, remote=remote)
    private = private or _is_private(out, loaded, [*(file or ()), *(image or ())], no_stdin=no_stdin)
    cited = None
    if files is not None:
        from llmctl.cli.own_texts import citing  # with the database, which takes a while

        stays = private or local
        cited = citing(out, loaded, text, files, context=context, max_tokens=max_tokens, private=stays)
    private = private or (cited is not None and cited.is_private(loaded))
    keeping = Keeping(out, loaded, private=private, kept=kept)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed, stop=_stops(stop))
    images = _images(image)
    messages = tuple(conversation.messages(text.text() if cited is None else cited.text, images))
    request = Request(messages, response_format=form, sampling=sampling, private=private)
    from llmctl.workspace.ask import estimated_tokens  # with the router, which takes a while: not before an error

    tokens = None if truncate or cited else estimated_tokens(request)  # what will be cut needs no context of its own
    sees = request.image_count > 0
    asked = Asked(begun.model, begun.task, context, threads, tokens or 0, max_tokens, sees=sees, draft=draft, once=True)
    shortening = None if truncate is None else Shortening(out, text, truncate)
    shorter = cited or shortening

    def make_local_run() -> LocalRun:
        return local_run(out, loaded, asked, yes=yes, local=begun.local or private, dry=dry_run)

    if dry_run:
        from llmctl.cli.route import show
        from llmctl.workspace.route import routed

        is_shortened = shorter is not None
        if cited is not None:
            out.note(f"with {cited.excerpts.summary}")
        show(
            out,
            routed(loaded, request, make_local_run, local=begun.local, endpoint=endpoint, is_shortened=is_shortened),
        )
        return

    def said(answer: str, whole: bool, endpoint: str | None) -> None:
        sent = text.text() if shortening is None else shortening.text
        keeping.keep(conversation.with_turn(Turn(sent, answer, whole, endpoint, images)), begun)

    ask(
        out,
        loaded,
        request,
        make_local_run,
        begun.local,
        endpoint,
        insist=keep_alive is not None,
        shorten=None if shorter is None else shorter.shortened,
        stats=stats,
        said=said,
        cited=cited,
    )


def _is_private(out: Output, loaded: Settings, files: list[str], *, no_stdin: bool) -> bool:
    """Whether one of the files that the prompt is made of lies under ``private_paths``, the one that is stdin too."""
    if not loaded.private_paths:
        return False
    from llmctl.workspace import private_paths

    read = files if no_stdin else [*files, *private_paths.redirected_stdin()]
    return private_paths.is_private(out, loaded, read)


def _require_alone(files: str, truncate: Dropped | None) -> None:
    """Raises UsageError for what --files doesn't go with."""
    options.require_names("run", {"--files": files})
    if truncate is not None:
        raise UsageError("--files and --truncate exclude each other", hint="--files takes as many excerpts as fit")


def _images(paths: list[str] | None) -> tuple[ImagePart, ...]:
    """Raises what ``images.read`` raises."""
    if not paths:
        return ()
    from llmctl.workspace import images  # with the router, which takes a while

    return tuple(map(images.read, paths))


def _stops(stop: list[str] | None) -> tuple[str, ...] | None:
    if stop and not all(stop):
        raise UsageError("--stop was given nothing", hint="llmctl run --help")
    return tuple(stop) if stop else None


def _nobody_keeps(answer: str, whole: bool, endpoint: str | None) -> None:
    """For an answer that is part of no conversation."""


def ask(
    out: Output,
    loaded: Settings,
    request: Request,
    make_local_run: Callable[[], LocalRun],
    local: bool = False,
    endpoint: str | None = None,
    *,
    insist: bool = False,
    shorten: Shorten | None = None,
    stats: bool = False,
    said: Callable[[str, bool, str | None], None] = _nobody_keeps,
    cited: CitingPrompt | None = None,
) -> None:
    """Streams the answer to stdout and the story to stderr. What was written before an error stays written.

    The arguments are those of ``workspace.ask.answer``, and so is what it raises. ``stats``: all figures are shown;
    ``said`` is told the answer, whether it is whole, and the server that gave it; ``cited`` has the excerpts that stand
    before the question.
    """
    from msgspec.structs import replace

    from llmctl.cli.answer_form import is_json
    from llmctl.workspace.ask import answer

    limited, before_leaving = request.sampling.max_tokens is not None, None if cited is None else cited.leaving
    story = Story(out, limited=limited, stats=stats, before_leaving=before_leaving)
    try:
        answered = answer(
            story,
            loaded,
            request,
            make_local_run,
            so_far=story.so_far,
            local=local,
            endpoint=endpoint,
            insist=insist,
            shorten=shorten,
        )
    except KeyboardInterrupt:
        story.stopped()
        if written := "".join(story.so_far.text):
            said(written, False, story.endpoint)
        raise
    except LlmctlError as error:
        story.end_line()
        if not (out.as_json and story.has_receipt):
            raise
        out.failed(error, story.receipt(None))
        raise typer.Exit(error.exit_code) from error
    if request.response_format is not None and not is_json(answered.text):
        out.warn("the answer is not JSON, which was asked for")
    said(answered.text, True, answered.route.endpoint)
    story.finished(answered if cited is None else replace(answered, sources=cited.excerpts.sources))
    if cited is not None:
        cited.show()
