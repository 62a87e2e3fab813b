"""``llmctl index``: indexes of folders, for searches and answers from the user's own texts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import complete, lazy, options
from llmctl.cli.encoding import EncoderOutput
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.errors import LlmctlError, UsageError
from llmctl.shell import command
from llmctl.units import number_of

if TYPE_CHECKING:
    from llmctl.settings import Settings
    from llmctl.workspace.embedder import EmbedderAsked
    from llmctl.workspace.index import ListedIndex
    from llmctl.workspace.index_update import Updated
    from llmctl.workspace.indexes import NamedIndex

app = lazy.plain(help="Indexes of folders, for `llmctl search` and `llmctl run --files`.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")]
HEADS = ("index", "files", "passages", "vectors", "on disk", "updated", "folder")


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="The folder with your texts.")],
    name: Annotated[str | None, typer.Option("--name", help="What to call it; the folder's name otherwise.")] = None,
    max_file: Annotated[
        str | None, typer.Option("--max-file", metavar="SIZE", help="Leave out larger files: 500kB, 64MB.")
    ] = None,
    vectors: Annotated[
        bool | None,
        typer.Option("--vectors/--no-vectors", help="Find other words and languages by an embedding model, or not."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The embedder: NAME[:QUANT] or FILE.gguf.", autocompletion=complete.models),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", "-e", help="A server of yours makes them.", autocompletion=complete.endpoints),
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads to compute with.")] = None,
    yes: options.Yes = False,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Read the texts of a folder into an index, which `llmctl search` and `llmctl run --files` use.

    \b
    Examples:
      llmctl index add ~/notes
      llmctl index add ~/mail --name mail --max-file 64MB
      llmctl index add ~/notes --vectors

    Reads text, Markdown, HTML, source, mail (.eml, .mbox) and, with pip install "llmctl[documents]", PDF and office
    documents. Left out are hidden files, links, what a .gitignore names, and files of more than 16 MB, mailboxes apart.
    What can't be read is counted. The index is a file of llmctl's data folder that you alone can read. Stopped or
    killed, the same command goes on; later it reads what is new or has changed.

    Words are always found. Vectors find what is said in other words or another language: they are made where an
    embedding model is here, with --vectors also by one that is fetched after a yes. Nothing leaves this machine, unless
    you name a server with --endpoint and agree, which --yes doesn't.

    Exit codes: 0 done, 2 the folder is a file, or the name is taken, 3 no embedding model fits, 4 no such folder or
    model, 6 the index is broken, 7 it can't be written, or another process writes it, 8 the engine failed, 9 the folder
    may not be listed, 11 the texts may not leave, 130 Ctrl-C.
    """
    from llmctl.workspace import index as use_case
    from llmctl.workspace import index_vectors, indexes
    from llmctl.workspace.embedder import EmbedderAsked

    out = EncoderOutput("index add", as_json=json, quiet=quiet)
    options.require_names("index add", {"--model": model, "--endpoint": endpoint, "--name": name})
    _require_one_maker(vectors, model, endpoint)
    limit_bytes = None if max_file is None else _size(max_file)
    loaded = options.settings_with(out, offline=offline, keep_alive=None)
    index = use_case.add(indexes.require_folder(str(folder)), name=name, limit_bytes=limit_bytes)
    done = use_case.update(out, index)
    wanted = EmbedderAsked(model, endpoint, threads, yes)
    if vectors is False:
        index_vectors.without_vectors(index)
    elif vectors or model or endpoint or index_vectors.embedder_of(index):
        _add_vectors(out, loaded, index, wanted)
    elif index_vectors.is_embedder_here(out, loaded):
        _try_vectors(out, loaded, index, wanted)
    else:
        more = command("llmctl", "index", "add", "--vectors", names=[folder])
        out.note(f"  found by words alone; other words and languages: {more}")
    out.data(_changed(out, index, done))


@app.command()
def update(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FOLDER | INDEX]...", help="All without.", autocompletion=complete.indexes),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing, and ask no server elsewhere.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Read what is new or has changed since, and drop what is gone. Searches do it by themselves.

    \b
    Examples:
      llmctl index update
      llmctl index update notes

    Exit codes: as `llmctl index add`; 4 also for an index whose folder is gone, which stays as it was.
    """
    from llmctl.workspace import indexes

    out = EncoderOutput("index update", as_json=json, quiet=quiet)
    loaded = options.settings_with(out, offline=offline, keep_alive=None)
    chosen = [indexes.get(name) for name in names] if names else indexes.readable()[0]
    if not chosen:
        out.note("There is no index: llmctl index add FOLDER")
    out.data({"indexes": [_updated(out, loaded, index) for index in chosen]})


@app.command("list")
def list_indexes(json: Json = False) -> None:
    """List the indexes that there are, and what they take.

    Exit codes: 0 also when there is none.
    """
    from llmctl.workspace import index as use_case

    out = Output("index list", as_json=json)
    listed, broken = use_case.every()
    for error in broken:
        out.warn(f"{error.message}: {error.hint}")
    if listed:
        for line in table([HEADS, *map(_row, listed)], "<>>>><<"):
            out.text(line)
    elif not broken:
        out.note("There is no index: llmctl index add FOLDER")
    out.data({"indexes": listed})


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="FOLDER | INDEX", help="Which one.", autocompletion=complete.indexes)],
    json: Json = False,
) -> None:
    """Delete an index. The files of its folder stay as they are.

    Exit codes: 0 deleted, 4 no such index, 7 another process writes it, or it can't be deleted.
    """
    from llmctl.workspace import index as use_case

    out = Output("index remove", as_json=json)
    index, freed_bytes = use_case.remove(name)
    out.note(f"Removed the index {index.name}: {units.size(freed_bytes)} freed, {index.root} is as it was")
    out.data({"name": index.name, "folder": str(index.root), "freed_bytes": freed_bytes})


def _size(text: str) -> int:
    """Raises UsageError."""
    try:
        return units.parse_size(text)
    except ValueError as error:
        raise UsageError(f"--max-file is {text!r}, it must be a size as 500kB or 64MB") from error


def _require_one_maker(vectors: bool | None, model: str | None, endpoint: str | None) -> None:
    """Raises UsageError where it was said twice what makes vectors, or also that nothing does."""
    if model and endpoint:
        raise UsageError("--model and --endpoint exclude each other")
    if vectors is False and (model or endpoint):
        raise UsageError("--no-vectors and what makes them exclude each other", hint="llmctl index add --help")


def _updated(out: Output, loaded: Settings, index: NamedIndex) -> dict[str, object]:
    from llmctl.workspace import index as use_case
    from llmctl.workspace import index_vectors
    from llmctl.workspace.embedder import EmbedderAsked

    done = use_case.update(out, index)
    embedder = index_vectors.embedder_of(index)
    if embedder is not None and index_vectors.pending_passages(index):
        _add_vectors(out, loaded, index, EmbedderAsked.named(embedder))
    return _changed(out, index, done)


def _try_vectors(out: Output, loaded: Settings, index: NamedIndex, wanted: EmbedderAsked) -> None:
    """Vectors that nobody has asked for: where none can be made, words are enough."""
    try:
        _add_vectors(out, loaded, index, wanted)
    except LlmctlError as error:
        out.warn(f"found by words alone: {error.message}")


def _add_vectors(out: Output, loaded: Settings, index: NamedIndex, wanted: EmbedderAsked) -> None:
    from msgspec.structs import replace

    from llmctl.workspace import index_vectors
    from llmctl.workspace.embedder import EmbedderAsked

    before = index_vectors.embedder_of(index)
    if before is not None and wanted.model is None and wanted.endpoint is None:
        wanted = replace(EmbedderAsked.named(before), threads=wanted.threads, yes=wanted.yes)
    done = index_vectors.add_vectors(out, loaded, index, wanted)
    out.note(f"  {number_of(done.passages, 'vector')} by {done.embedder}, {units.seconds(done.seconds)}")


def _changed(out: Output, index: NamedIndex, done: Updated) -> dict[str, object]:
    """What an update has done to the index, told and as data."""
    from llmctl.struct import asdict
    from llmctl.workspace import index as use_case

    listed = use_case.listed(index)
    for line in _told(listed, done):
        out.note(line)
    return {**asdict(listed), **asdict(done), "skipped": done.skipped}


def _told(listed: ListedIndex, done: Updated) -> list[str]:
    counted = {"new": done.new, "changed": done.changed, "renamed": done.renamed, "removed": done.removed}
    changes = ", ".join(f"{number:,} {what}" for what, number in counted.items() if number) or "nothing has changed"
    lines = [
        f"{listed.name}: {number_of(listed.files, 'file')} ({changes}), {number_of(listed.passages, 'passage')}, "
        f"{units.size(listed.bytes)} on disk, {units.seconds(done.seconds)}"
    ]
    if done.skipped:
        lines.append("  left out: " + ", ".join(f"{number:,} {why}" for why, number in done.skipped.items()))
    if done.ignored:
        lines.append(f"  left out by .gitignore: {number_of(done.ignored, 'file or folder', 'files and folders')}")
    if done.other_encoding:
        lines.append(f"  not UTF-8, read as CP1252: {number_of(done.other_encoding, 'file')}")
    return lines


def _row(index: ListedIndex) -> tuple[str, ...]:
    when = "never" if index.updated is None else units.ago(time.time() - index.updated)
    counts = (f"{number:,}" for number in (index.files, index.passages, index.with_vector))
    return index.name, *counts, units.size(index.bytes), when, index.folder
