"""``llmctl models refresh``: sizes, hashes and headers as the hub has them now, shown before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl import units
from llmctl.cli import complete
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.errors import LlmctlError, NetworkError
from llmctl.struct import asdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmctl.workspace.refresh import Difference

HASH_SHOWN = 12


def refresh(
    name: Annotated[
        str | None, typer.Argument(help="A model's id or name; without, all of them.", autocompletion=complete.models)
    ] = None,
    headers: Annotated[
        bool | None,
        typer.Option(
            "--headers/--no-headers", help="Read headers, too, up to 15 MB a model.", show_default="with a NAME"
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write what is other without asking.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Ask the model hub what the catalogue's files are now, show what is other, and note it after a yes.

    \b
    Examples:
      llmctl models refresh qwen3.5-4b
      llmctl models refresh --yes          all models: sizes and sha256

    Asks the hub (HF_ENDPOINT is honoured), fetches no weights. Writes refreshed.toml beside your own model files, where
    what is yours stays as it is; off a terminal, without --yes, it only shows.

    Exit codes: 0, 4 no such model, 5 the hub can't be reached, 10 the file can't be edited.
    """
    from llmctl.workspace.refresh import Refresh

    out = Output("models refresh", as_json=json)
    asking = Refresh(out, name)
    rows: list[dict[str, Any]] = []
    broken: NetworkError | None = None
    try:
        for each in asking.compare(headers=bool(name) if headers is None else headers):
            differences = [asdict(difference) for difference in each.differences]
            rows.append({"id": each.model.id, "differences": differences, "problem": each.problem})
            for line in _lines(each.model.id, each.differences):
                out.text(line)
    except NetworkError as error:
        if not rows:
            raise
        broken = error
    changed = len(asking.changed)
    written = asking.write() if changed and (yes or _confirmed(out, changed)) else None
    data = {"models": rows, "written": written}
    if written is not None:
        out.note(f"{_count(changed)} noted in {written}")
    elif changed:
        out.note(f"{_count(changed)} other than in the catalogue. Nothing was written: llmctl models refresh --yes")
    elif rows and not asking.has_asked:
        out.note("Nothing was asked for: the files are not those of a hub's repository.")
    else:
        out.note(f"{_count(len(rows))} asked for: the hub has them as the catalogue does, as far as it could be asked.")
    if broken is not None:
        _end(out, broken, data, len(asking.models) - len(rows))
    out.data(data)


def _end(out: Output, broken: LlmctlError, data: Any, left: int) -> None:
    """The hub answered some, and then no more."""
    broken.message += f"; {units.number_of(left, 'model was', 'models were')} not asked for"
    out.failed(broken, data)
    raise typer.Exit(broken.exit_code)


def _confirmed(out: Output, count: int) -> bool:
    return out.interactive and typer.confirm(f"Note {_count(count)} in your own model files?", default=True, err=True)


def _count(number: int) -> str:
    return units.number_of(number, "model")


def _lines(id: str, differences: Sequence[Difference]) -> Iterator[str]:
    if differences:
        yield id
    cells = [
        (f"  {difference.quant or 'shape'}", difference.field, _shown(difference.old), "→", _shown(difference.new))
        for difference in differences
    ]
    yield from table(cells, "<<<<<")


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    text = str(value)
    return f"{text[:HASH_SHOWN]}…" if len(text) == 64 and " " not in text else text
