"""``llmctl serve``: this machine's models for other programs, by OpenAI's and Anthropic's API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from llmctl.cli import complete, options
from llmctl.cli.lazy import plain
from llmctl.cli.output import Output
from llmctl.errors import UsageError
from llmctl.types.deployment import DeploymentForm
from llmctl.types.page_access import PageAccess
from llmctl.types.policy import Policy
from llmctl.types.serve_engine import ServeEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typer._click import Context

    from llmctl.settings import Settings

ARGUMENTS = "llmctl.arguments"
ALONE = ("--detach", "--json", "--quiet", "-q")  # for the command that starts a gateway, not for the gateway


class CommandWithArguments(TyperCommand):
    """Keeps its arguments as they were typed, under ARGUMENTS of the context's ``meta``."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


def serve(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(help="NAME[:QUANT] or FILE.gguf; llmctl chooses without.", autocompletion=complete.models),
    ] = None,
    users: Annotated[
        int | None, typer.Option("--users", min=1, max=256, help="Requests that are answered at once.")
    ] = None,
    context: Annotated[int | None, typer.Option("--context", min=256, help="Tokens of context for each.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="Serve the best model for it; may be repeated.", autocompletion=complete.tasks),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Another name of it; .NAME for all below; repeatable.")
    ] = None,
    tls_cert: Annotated[str | None, typer.Option("--tls-cert", help="PEM file with a certificate.")] = None,
    tls_key: Annotated[str | None, typer.Option("--tls-key", help="PEM file with its key.")] = None,
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Also on this machine nobody gets in without a token.")
    ] = False,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Take sealed requests as well, and show the key for them.")
    ] = False,
    pad: Annotated[
        int | None, typer.Option("--pad", min=1, max=1 << 14, help="Sealed answers come in multiples of so many bytes.")
    ] = None,
    lock_memory: Annotated[
        bool, typer.Option("--lock-memory", help="Never let the system move memory to the disk, if it allows that.")
    ] = False,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65_535, help="Port; 0 for a free one.")] = None,
    pin: Annotated[list[str] | None, typer.Option("--pin", help="A model that is never unloaded.")] = None,
    preload: Annotated[
        list[str] | None, typer.Option("--preload", help="A model that is loaded at the start, beside the first.")
    ] = None,
    idle: Annotated[
        str | None, typer.Option("--idle", help="How long a model stays without a request: 30m, 2h, -1 for ever.")
    ] = None,
    queue: Annotated[int | None, typer.Option("--queue", min=0, help="Requests that may wait for one model.")] = None,
    web: Annotated[
        bool, typer.Option("--web", help="Also a page to chat on, for the people of those programs.")
    ] = False,
    policy: Annotated[
        Policy | None,
        typer.Option("--policy", help="prefer-local: what fails here goes on to your servers; local-only without."),
    ] = None,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--files",
            metavar="INDEX",
            help="An index of your own texts that clients may search; repeatable.",
            autocompletion=complete.indexes,
        ),
    ] = None,
    print_: Annotated[
        DeploymentForm | None,
        typer.Option("--print", help="Print a file for what starts services, and serve nothing."),
    ] = None,
    engine: Annotated[
        ServeEngine, typer.Option("--engine", help="vllm: the original weights on GPUs, where vLLM is installed.")
    ] = ServeEngine.LLAMA_CPP,
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine", help="With --print vllm, ray or llm-d: another machine.", autocompletion=complete.machines
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, help="With --print ray or llm-d: how many of those machines.")
    ] = 1,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background.")] = False,
    yes: options.Yes = False,
    offline: options.Offline = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the address.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout when it listens.")] = False,
    ready_fd: Annotated[int | None, typer.Option("--ready-fd", hidden=True)] = None,
    log_file: Annotated[str | None, typer.Option("--log-file", hidden=True)] = None,
) -> None:
    """Serve this machine's models to other programs, by OpenAI's and Anthropic's API.

    \b
    Examples:
      llmctl serve
      llmctl serve qwen3.5-9b --users 4 --context 16384
      llmctl serve qwen3.5-9b bge-m3 --pin bge-m3
      llmctl serve --task code --task embed --detach
      llmctl serve qwen3.5-9b --users 4 --print systemd
      llmctl serve qwen3-32b --users 50 --print ray --machine a.toml --count 2

    Plans for so many users at once, each with the whole context, and says what that takes and how fast it is. The first
    model, and what is pinned, is loaded at once, the others when they are asked for; where they don't fit in memory
    together, the one that was used least recently ends, never one that answers. Programs ask for a model by its name,
    for "auto", or for "auto:TASK". Requests wait where all users are busy, and are refused (429) where too many wait.

    Only programs of this machine reach it, without a token. With a --host that other machines reach, it speaks TLS and
    asks for a token (llmctl token): where there is none, a first token and a certificate are made, and the line that
    adds it on another machine is shown. --tls-cert and --tls-key take a certificate of your own; it is read again when
    the files change. Web pages of others get nothing here: a request must call for a name of this machine's.

    --sealed (with the extra llmctl[sealed]) is for a way on which somebody ends TLS: a reverse proxy, a tunnel. The
    line llmctl-key:… that follows the address is for `llmctl endpoint add --seal-key` on the other machine: prompts,
    answers, tokens and paths are opened by this gateway alone. The key changes every week, and clients follow. --pad
    hides lengths (256 bytes; 1 for none). Behind a proxy, say by which name it is called: --allow-host.

    Nothing of what is asked and answered is written anywhere, and nothing leaves this machine, also where your policy
    lets `llmctl run` ask a server. With --policy prefer-local a chat completion for "auto" that is too long, or that
    the engine fails at, goes on to the first of your servers that answers; headers of the answer (x-llmctl-route,
    -host, -model, -bytes) and `llmctl receipts` say so. A request with the header x-llmctl-private: 1 never leaves
    (403).

    --engine vllm runs a model's original weights on all GPUs of this machine, behind the same gateway. vLLM must be on
    PATH and the weights in the hub cache; it reaches no network.

    --web adds a page to chat on, at /web/, behind the same tokens; `llmctl web` is for you alone.

    With --files NAME an index of `llmctl index` may be searched by all who may use the gateway: by POST /v1/search, and
    by the field files of a chat completion, whose answer then comes from this machine or not at all.

    --print writes what systemd, launchd, Docker Compose, Podman (quadlet) or Kubernetes start at boot, with the memory
    of the plan. --print vllm, ray and llm-d are for a model's original weights on GPUs of one or several machines: how
    many of them it takes, and why, is in the file. Nothing of it is run.

    Ctrl-C, SIGTERM and `llmctl stop serve` let open answers finish, for half a minute; a second Ctrl-C doesn't.

    Exit codes: 0 stopped, 2 the extra is not installed, or a certificate's key not given, 3 nothing fits, 4 no such
    model (or it needs a download and nobody said yes), 7 the port is taken, 8 the engine failed, 10 a certificate or
    the file of tokens can't be read, 130 Ctrl-C.
    """
    from msgspec.structs import replace

    from llmctl.cli.serve.front import FrontOptions
    from llmctl.cli.serve.session import ServeOptions, detached, run
    from llmctl.workspace.gateway_hand_over import require_policy
    from llmctl.workspace.serve_detached import Parent
    from llmctl.workspace.serve_plan import ServeAsked

    out = Output("serve", as_json=json, quiet=quiet)
    names, tasks = tuple(models or ()), tuple(task or ())
    for name in (*names, *tasks):
        options.require_names("serve", {"MODEL or --task": name})
    if not (print_ and print_.is_of_cluster) and (machine is not None or count != 1):
        raise UsageError("--machine and --count are for --print vllm, ray or llm-d", hint="llmctl plan --machine NAME")
    if print_ is not None and engine is ServeEngine.VLLM:
        raise UsageError(
            "--engine vllm isn't printed; --print vllm writes a script", hint="llmctl serve MODEL --print vllm"
        )
    if print_ is not None and files:
        raise UsageError("--files is for a gateway of this user, not for --print", hint="llmctl serve --files NAME")
    if pad is not None and not sealed:
        raise UsageError("--pad is for sealed answers: it needs --sealed", hint="llmctl serve --sealed --pad 512")
    loaded = options.settings_with(out, offline=offline, keep_alive=None)
    require_policy(policy or Policy.LOCAL_ONLY)
    loaded = replace(loaded, policy=policy or Policy.LOCAL_ONLY)
    asked = ServeAsked(names, tasks, users or loaded.serve_users, context, tuple(pin or ()), yes, engine)
    serving = ServeOptions(
        asked,
        FrontOptions(
            host,
            tuple(allow_host or ()),
            tls_cert,
            tls_key,
            require_token,
            lock_memory,
            sealed,
            pad,
            PageAccess.TOKEN if web else None,
        ),
        loaded.serve_port if port is None else port,
        tuple(preload or ()),
        loaded.serve_queue if queue is None else queue,
        _idle_s(loaded, idle),
        log_file,
        files=tuple(files or ()),
    )
    if print_ is not None:
        from llmctl.cli.serve.printing import printed

        printed(out, loaded, serving, print_, _without_print(ctx.meta[ARGUMENTS]), machine=machine, count=count)
        return
    if detach:
        detached(out, loaded, serving, [word for word in ctx.meta[ARGUMENTS] if word not in ALONE])
        return
    parent = Parent(ready_fd)
    with parent.hearing_errors():
        run(out, loaded, serving, parent)


app = plain()
app.command("serve", cls=CommandWithArguments)(serve)


def _without_print(arguments: Sequence[str]) -> list[str]:
    """``arguments`` as the service is to have them."""
    kept = list(arguments)
    if "--print" in kept:
        at = kept.index("--print")
        del kept[at : at + 2]
    return [word for word in kept if not word.startswith("--print=") and word not in ALONE]


def _idle_s(loaded: Settings, idle: str | None) -> float | None:
    """Seconds, None for ever. Raises UsageError."""
    import math

    from llmctl import units

    try:
        idle_s = loaded.serve_idle if idle is None else units.duration_s(idle)
    except ValueError as error:
        raise UsageError(f"--idle is {idle!r}, it must be 30s, 5m, 1h, or -1 for ever") from error
    return None if math.isinf(idle_s) else idle_s
