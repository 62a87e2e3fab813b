"""``llmctl pull``: bring a model to this machine, from wherever it is, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.errors import UsageError


def pull(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME[:QUANT]",
            help="A model of the catalogue, org/name of the hub, an https address, a file or a folder.",
            autocompletion=complete.models,
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit of org/name; the hub is asked anew.")
    ] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="What the file of an address must have.")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Put it into a folder, for another machine.")
    ] = None,
    origin: Annotated[Path | None, typer.Option("--from", metavar="DIR", help="Take it out of such a folder.")] = None,
    limit_rate: Annotated[
        str | None, typer.Option("--limit-rate", metavar="RATE", help="Bytes per second at most: 500k, 5M.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only what is on this machine.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the path.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Progress as JSON Lines, then one JSON document.")] = False,
) -> None:
    """Fetch a model, or go on with a fetch that was interrupted.

    \b
    Examples:
      llmctl pull qwen3.5-4b:Q4_K_M
      llmctl pull unsloth/Qwen3-4B-GGUF:Q8_0      any repository of the hub
      llmctl pull --sha256 HEX https://example.org/model.gguf
      llmctl pull ./model.gguf                    keep a copy of a file
      llmctl pull qwen3.5-4b --to /media/stick    and, where there is no internet:
      llmctl pull --from /media/stick
      llmctl run -m "$(llmctl pull -q qwen3.5-4b)" "Hello"

    Without QUANT it is the one that suits this machine; of org/name, four bits if there are. All parts of a split model
    come together, and the projector of one that sees. Everything is checked by size and sha256 before it gets its
    name. Before the first byte there must be room for all of it, also in the folder of --to, where sizes are known. The
    path goes to stdout, progress to stderr. Hub files go to the hub cache that other tools share (HF_HOME); what is
    here already, also with ollama, LM Studio or llama.cpp, is not fetched again and needs no network.

    With --json every line but the last is {"event": "progress", "name", "done_bytes", "total_bytes", "bytes_per_s",
    "left_s"}, and there is none if nothing is fetched.

    Exit codes: 0 it is here, 2 usage, 3 no quant fits this machine, 4 no such model, 5 network, 6 a broken download,
    7 disk full, 9 the hub wants a token or a licence accepted.
    """
    from llmctl.workspace import carry, fetch, situation

    out = Output("pull", as_json=json, quiet=quiet)
    limit_bytes_per_s = None if limit_rate is None else _rate(limit_rate)
    if to is not None and origin is not None:
        raise UsageError("--to and --from exclude each other", hint="llmctl pull --help")
    if name is None and origin is None:
        raise UsageError("NAME is missing: what is to be fetched?", hint="llmctl models list --all")
    shelf = situation.shelf(out, offline=offline)
    request = fetch.FetchRequest(out, shelf, revision, sha256.lower() if sha256 else None, limit_bytes_per_s, to)
    obtained = fetch.out_of(request, origin, name) if origin is not None else fetch.obtain(request, name or "")
    folder = None if to is None else carry.carry(out, shelf, obtained, to)
    out.text(str(folder or obtained.paths[0]))
    out.data(
        {
            "model": obtained.model,
            "quant": obtained.quant,
            "path": obtained.paths[0],
            "bytes": sum(path.stat().st_size for path in obtained.paths),
            "fetched": obtained.fetched,
            "source": obtained.source,
            "files": obtained.paths,
            "folder": folder,
        }
    )


def _rate(text: str) -> int:
    try:
        bytes_per_s = units.parse_size(text.removesuffix("/s"))
    except ValueError:
        bytes_per_s = 0
    if bytes_per_s < 1:
        raise UsageError(f"--limit-rate is {text!r}, it must be bytes per second", hint="--limit-rate 500k, or 5M")
    return bytes_per_s
