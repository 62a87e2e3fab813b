"""``llmctl index``: indexes of folders, for searches and answers from the user's own texts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import complete, lazy
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.errors import UsageError
from llmctl.units import number_of

if TYPE_CHECKING:
    from llmctl.workspace.index import ListedIndex
    from llmctl.workspace.index_update import Updated
    from llmctl.workspace.indexes import NamedIndex

app = lazy.plain(help="Indexes of folders, for `llmctl search` and `llmctl run --files`.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")]
HEADS = ("index", "files", "passages", "on disk", "updated", "folder")


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="The folder with your texts.")],
    name: Annotated[str | None, typer.Option("--name", help="What to call it; the folder's name otherwise.")] = None,
    max_file: Annotated[
        str | None, typer.Option("--max-file", metavar="SIZE", help="Leave out larger files: 500kB, 64MB.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Read the texts of a folder into an index, which `llmctl search` and `llmctl run --files` use.

    \b
    Examples:
      llmctl index add ~/notes
      llmctl index add ~/mail --name mail --max-file 64MB

    Reads text, Markdown, HTML, source, mail (.eml, .mbox) and, with pip install "llmctl[documents]", PDF and office
    documents. Left out are hidden files, links, what a .gitignore names, and files of more than 16 MB, mailboxes apart.
    What can't be read is counted. The index is a file of llmctl's data folder that you alone can read; nothing leaves
    this machine. Stopped or killed, the same command goes on; later it reads what is new or has changed.

    Exit codes: 0 done, 2 the folder is a file, or the name is taken, 4 no such folder, 6 the index is broken, 7 it
    can't be written, or another process writes it, 9 the folder may not be listed, 130 Ctrl-C.
    """
    from llmctl.workspace import index as use_case
    from llmctl.workspace import indexes

    out = Output("index add", as_json=json, quiet=quiet)
    limit_bytes = None if max_file is None else _size(max_file)
    index = use_case.add(indexes.require_folder(str(folder)), name=name, limit_bytes=limit_bytes)
    out.data(_changed(out, index))


@app.command()
def update(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FOLDER | INDEX]...", help="All without.", autocompletion=complete.indexes),
    ] = None,
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

    out = Output("index update", as_json=json, quiet=quiet)
    chosen = [indexes.get(name) for name in names] if names else indexes.readable()[0]
    if not chosen:
        out.note("There is no index: llmctl index add FOLDER")
    out.data({"indexes": [_changed(out, index) for index in chosen]})


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
        for line in table([HEADS, *map(_row, listed)], "<>>><<"):
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


def _changed(out: Output, index: NamedIndex) -> dict[str, object]:
    """Brings the index up to date, and says what that has changed."""
    from llmctl.struct import asdict
    from llmctl.workspace import index as use_case

    done = use_case.update(out, index)
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
    return index.name, f"{index.files:,}", f"{index.passages:,}", units.size(index.bytes), when, index.folder
