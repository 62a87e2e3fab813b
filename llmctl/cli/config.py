"""``llmctl config``: the settings."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmctl.cli import complete, lazy
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.errors import ConfigError, NotFoundError, UsageError

if TYPE_CHECKING:
    from llmctl.settings import Effective
    from llmctl.workspace.user_settings import Changed

app = lazy.plain(help="What llmctl does unless an option says otherwise.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Name = Annotated[str, typer.Argument(help="The setting.", autocompletion=complete.settings)]
HEADS = ("setting", "value", "from")


@app.command(name="list")
def list_(json: Json = False) -> None:
    """Show every setting, its value, and where that comes from.

    \b
    Example:
      llmctl config list

    What counts first: the option of a command, the variable LLMCTL_NAME, llmctl.toml in the working directory (for
    some), your own file, the default. `llmctl endpoint list` shows servers of yours.

    Exit codes: 0, 10 a file or a variable holds what can't be a setting.
    """
    from llmctl.workspace import user_settings

    out = Output("config list", as_json=json)
    listed = user_settings.listed()
    rows = [(each.setting.name, user_settings.shown_value(each) or "-", _origin(each)) for each in listed]
    for line in table([HEADS, *rows], "<<<"):
        out.text(line)
    out.data({"settings": [_document(each) for each in listed], "file": user_settings.file()})


@app.command()
def get(name: Name, json: Json = False) -> None:
    """Print one setting's value.

    \b
    Example:
      llmctl config get keep_alive

    Prints nothing where it isn't set and has no default.

    Exit codes: 0, 2 there is no such setting, 10 a file or a variable holds what can't be a setting.
    """
    from llmctl.workspace import user_settings

    out = Output("config get", as_json=json)
    each = user_settings.effective(name)
    if value := user_settings.shown_value(each):
        out.text(value)
    out.data(_document(each))


@app.command(name="set", context_settings={"ignore_unknown_options": True})  # -1 is a value
def set_(
    name: Name, value: Annotated[str, typer.Argument(help="Its value, as the variable takes it.")], json: Json = False
) -> None:
    """Write a setting into your file; comments and the rest stay.

    \b
    Examples:
      llmctl config set keep_alive 5m
      llmctl config set policy local-only

    Exit codes: 0, 2 no such setting or value, 7 another process keeps the file locked, 10 the file is broken.
    """
    from llmctl.workspace import user_settings

    out = Output("config set", as_json=json)
    changed = user_settings.set_value(name, value)
    out.note(f"{name} = {value}, in {changed.file}")
    _warn_of_others(out, name, changed)
    out.data({"name": name, "file": changed.file, "decided_by": changed.decided_by})


@app.command()
def unset(name: Name, json: Json = False) -> None:
    """Take a setting out of your file.

    \b
    Example:
      llmctl config unset model

    Also a name that is no setting, and is in the way of every other command.

    Exit codes: 0 also when it wasn't set, 2 there is no such setting, 7 another process keeps the file locked, 10 the
    file is broken.
    """
    from llmctl.workspace import user_settings

    out = Output("config unset", as_json=json)
    changed = user_settings.unset(name)
    out.note(f"{name} is no longer set in {changed.file}" if changed.was_set else f"{name} was not set")
    _warn_of_others(out, name, changed)
    out.data({"name": name, "file": changed.file, "decided_by": changed.decided_by})


@app.command()
def path(json: Json = False) -> None:
    """Print the path of your settings file, whether it is there or not."""
    from llmctl.workspace import user_settings

    out = Output("config path", as_json=json)
    out.text(str(user_settings.file()))
    out.data({"file": user_settings.file()})


@app.command()
def edit() -> None:
    """Open your settings file in your editor, and take the change if it is sound.

    \b
    Example:
      EDITOR=nano llmctl config edit

    A copy is edited. What can't be a setting is named, and you may go on editing; your file stays as it was until
    then. The editor is that of VISUAL or EDITOR.

    Exit codes: 0, 2 no terminal or no editor, 4 the editor isn't there, 10 the change was not taken.
    """
    from llmctl.workspace import user_settings

    out = Output("config edit")
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not out.interactive or not editor:
        missing = "an editor takes a terminal" if editor else "neither VISUAL nor EDITOR names your editor"
        hint = "llmctl config set NAME VALUE" if editor else "EDITOR=nano llmctl config edit"
        raise UsageError(f"{missing}; the file is {user_settings.file()}", hint=hint)
    before = user_settings.text()
    after = _edited(out, shlex.split(editor), before)
    if after == before:
        out.note("Nothing was changed.")
        return
    out.note(f"Written: {user_settings.replace_text(before, after)}")


def _edited(out: Output, editor: list[str], text: str) -> str:
    """``text`` as it is when the editor has ended and it is sound. Raises ConfigError where the user gives up."""
    from llmctl import settings

    with tempfile.TemporaryDirectory(prefix="llmctl-") as folder:
        copy = Path(folder) / "config.toml"
        copy.write_text(text, "utf-8")
        while True:
            try:
                code = subprocess.run([*editor, str(copy)], check=False).returncode
            except OSError as error:
                raise NotFoundError(
                    f"{editor[0]} can't be started: {error.strerror}", hint="export EDITOR=…"
                ) from error
            if code:
                raise ConfigError(f"{editor[0]} ended with {code}, nothing was changed")
            after = settings.text_of(copy)
            try:
                settings.require_sound(after, copy)
                return after
            except ConfigError as error:
                out.warn(error.message)
                if not out.confirm("Edit it again?", yes=False):
                    raise


def _origin(each: Effective) -> str:
    return "default" if each.place is None else each.place.at


def _document(each: Effective) -> dict[str, Any]:
    from llmctl.workspace.user_settings import shown_value

    value = shown_value(each) if isinstance(each.value, str) else each.value
    return {
        "name": each.setting.name,
        "value": value,
        "source": each.source,
        "place": None if each.place is None else each.place.at,
        "variable": each.setting.variable,
        "default": each.setting.default,
    }


def _warn_of_others(out: Output, name: str, changed: Changed) -> None:
    if changed.decided_by is not None:
        out.warn(f"{changed.decided_by} decides {name} here, and comes before your file")
