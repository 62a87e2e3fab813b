"""``llmctl web``: a page in the browser to chat on, with the engine here or one in the tab."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli import complete, options
from llmctl.cli.output import Output

if TYPE_CHECKING:
    from llmctl.settings import Settings

PORT = 8485
USERS = 2  # tabs that are answered at once


def web(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="NAME[:QUANT] or FILE.gguf; what is here without.", autocompletion=complete.models),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the link, and open no browser.")] = False,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="DIR", help="Write the page and one model as files, and end.")
    ] = None,
    context: options.Context = None,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65_535, help="Port; 0 for a free one.")] = None,
    yes: options.Yes = False,
    offline: options.Offline = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout when it listens.")] = False,
) -> None:
    """Chat on a page in the browser: with the engine on this machine, or with one in the tab itself.

    \b
    Examples:
      llmctl web
      llmctl web qwen3.5-4b --no-open
      llmctl web --export site    a folder for machines without Python
      llmctl web --export site smollm2-135m

    The page is this machine's own: it loads nothing from anywhere else, and its policy has the browser refuse what
    would. It always shows where an answer is made, how many requests it has made, and how many of them went to another
    host. Nothing is kept by the browser unless you switch that on.

    Only this machine reaches it, and only by the link, which is good once: reload the page, or open another tab beside
    it, but a second browser needs another link. Ctrl-C ends it.

    The engine in the tab is llama.cpp as WebAssembly. It loads models of this machine into the tab, up to the 4 GB that
    a tab has, and is several times slower than the one here (llmctl plan --browser says how fast).

    --export writes a folder that any web server can offer, such as `python -m http.server`: the page, the engine for
    the tab and one model. Opened once, it works without that server as well.

    Exit codes: 0 stopped or written, 2 the extra is not installed, 3 nothing fits, 4 no such model (or it needs a
    download and nobody said yes), 7 the port is taken, or the folder not empty, 8 the engine failed, 130 Ctrl-C.
    """
    out = Output("web", as_json=json)
    names = tuple(models or ())
    for name in names:
        options.require_names("web", {"MODEL": name})
    loaded = options.settings_with(out, offline=offline, keep_alive=None)
    if export is not None:
        return _export(out, loaded, export, names, yes=yes)
    return _serve(out, loaded, names, context, port, yes=yes, opens=not no_open)


def _serve(
    out: Output,
    loaded: Settings,
    names: tuple[str, ...],
    context: int | None,
    port: int | None,
    *,
    yes: bool,
    opens: bool,
) -> None:
    from msgspec.structs import replace

    from llmctl.cli.serve.front import FrontOptions, require_server
    from llmctl.cli.serve.session import ServeOptions, run
    from llmctl.types.page_access import PageAccess
    from llmctl.types.policy import Policy
    from llmctl.workspace import web
    from llmctl.workspace.serve import LOCALHOST
    from llmctl.workspace.serve_detached import Parent
    from llmctl.workspace.serve_plan import ServeAsked

    front = FrontOptions(LOCALHOST, page=PageAccess.LINK)
    require_server(front)
    loaded = replace(loaded, policy=Policy.LOCAL_ONLY)
    names = names or web.models_here(out, loaded)
    serving = ServeOptions(
        ServeAsked(names, (), USERS, context, (), yes),
        front,
        web.free_port(PORT) if port is None else port,
        (),
        loaded.serve_queue,
        loaded.serve_idle,
        opens=opens,
    )
    run(out, loaded, serving, Parent(None))


def _export(out: Output, loaded: Settings, folder: Path, names: tuple[str, ...], *, yes: bool) -> None:
    """Raises UsageError for a folder that holds something, or more than one model."""
    from llmctl import units
    from llmctl.cli.serve.front import FrontOptions, require_server
    from llmctl.errors import UsageError
    from llmctl.shell import command
    from llmctl.workspace import tab_models

    require_server(FrontOptions(""))
    from llmctl.server import web_export

    if len(names) > 1:
        raise UsageError(
            f"--export takes one model, not {len(names)}", hint=command("llmctl", "web", "--export", folder)
        )
    web_export.require_empty(folder)
    model = tab_models.chosen(out, loaded, names[0] if names else None, yes=yes)
    size_bytes = web_export.write(folder, model)
    offer = command("python3", "-m", "http.server", "--directory", folder, "8486")
    out.text(str(folder))
    out.note(f"The page, the engine for the tab and {model.name}: {units.size(size_bytes)}. Open it by any web server:")
    out.note(f"  {offer}   then http://localhost:8486/")
    out.data({"folder": folder, "model": model.name, "size_bytes": size_bytes, "command": offer})
