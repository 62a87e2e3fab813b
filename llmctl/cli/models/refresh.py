"""``llmctl models refresh``: sizes, hashes and headers as the hub has them now, shown before anything is written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl.cli import complete
from llmctl.cli.models.listing import table
from llmctl.cli.output import Output
from llmctl.errors import LlmctlError, NetworkError
from llmctl.struct import asdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmctl.catalogue.refreshed import Refreshed
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
      llmctl models refresh --yes          all models: sizes and sha256, one question a repository

    Asks the hub (HF_ENDPOINT is honoured), fetches no weights. Writes refreshed.toml beside your own model files, where
    what is yours stays as it is; off a terminal, without --yes, it only shows.

    Exit codes: 0, 4 no such model, 5 the hub can't be reached, 10 the file can't be edited.
    """
    from llmctl import catalogue, paths, settings
    from llmctl.catalogue import overlay, refreshed
    from llmctl.workspace import refresh as hub
    from llmctl.workspace import situation

    out = Output("models refresh", as_json=json)
    loaded = settings.load()
    current = {model.id: model for model in situation.known(out).models}
    shipped = catalogue.load(paths.profiles_dir() / "models", paths.overlay_dir(), as_refreshed=False)
    wanted = shipped.models if name is None else (catalogue.find(shipped, name),)
    listed: dict[str, Any] = {}
    told: list[Refreshed] = []
    rows: list[dict[str, Any]] = []
    broken: NetworkError | None = None
    for model in wanted:
        try:
            answer = hub.ask(model, loaded, headers=bool(name) if headers is None else headers, listed=listed)
        except NetworkError as error:
            if not rows:
                raise
            broken = error
            break
        if answer.problem:
            out.warn(f"{model.id}: {answer.problem}")
        newer = refreshed.apply({model.id: model}, [answer.refreshed])[model.id]
        differences = hub.compare(current[model.id], newer)
        if len(answer.refreshed.gone) == len(model.artifacts):
            out.warn(f"{model.id}: all its files are gone from the hub; it stays as it is in the catalogue")
        elif differences:
            told.append(answer.refreshed)
        rows.append({"id": model.id, "differences": [asdict(one) for one in differences], "problem": answer.problem})
        for line in _lines(model.id, differences):
            out.text(line)
    written = None
    if told and (yes or _confirmed(out, len(told))):
        written = overlay.write(paths.overlay_dir(), told, datetime.now(UTC).date().isoformat())
    data = {"models": rows, "written": written}
    if written is not None:
        out.note(f"{_count(len(told))} noted in {written}")
    elif told:
        out.note(f"{_count(len(told))} other than in the catalogue. Nothing was written: llmctl models refresh --yes")
    elif rows and not listed:
        out.note("Nothing was asked for: the files are not those of a hub's repository.")
    else:
        out.note(f"{_count(len(rows))} asked for: the hub has them as the catalogue does, as far as it could be asked.")
    if broken is not None:
        _end(out, broken, data, len(wanted) - len(rows))
    out.data(data)


def _end(out: Output, broken: LlmctlError, data: Any, left: int) -> None:
    """The hub answered some, and then no more."""
    broken.message += f"; {left} {'model was' if left == 1 else 'models were'} not asked for"
    out.failed(broken, data)
    raise typer.Exit(broken.exit_code)


def _confirmed(out: Output, count: int) -> bool:
    return out.interactive and typer.confirm(f"Note {_count(count)} in your own model files?", default=True, err=True)


def _count(number: int) -> str:
    return f"{number} {'model' if number == 1 else 'models'}"


def _lines(id: str, differences: Sequence[Difference]) -> Iterator[str]:
    if differences:
        yield id
    cells = [(f"  {one.quant or 'shape'}", one.field, _shown(one.old), "→", _shown(one.new)) for one in differences]
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
