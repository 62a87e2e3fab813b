"""Values of the command line: what has its type already is taken as it is, everything else is typer's to convert."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from llmctl.cli.completion import Shell
from llmctl.cli.values import spare_conversion

UNLOADED = """
import json, sys
from llmctl.cli import main
for command in json.loads(sys.argv[1]):
    main(command)
    if "pydantic" in sys.modules:
        sys.exit(f"{command} imports pydantic")
"""
COMMANDS = [
    ["--version"],
    ["completion", "bash"],
    ["completion", "zsh"],
    ["models", "list"],
    ["models", "list", "--all", "--open", "data"],
    ["models", "show", "qwen3.5-4b"],
    ["run", "--endpoint", "nonesuch", "-n", "8", "-t", "2", "--temperature", "0.5", "-f", "nonesuch"],
    ["plan", "qwen3.5-4b:Q8_0", "--kv-type", "q8_0", "--json", "--machine", "raspberry-pi-5-8gb"],
]
spare_conversion()  # once more than app.py: that changes nothing


def test_commands_begin_without_pydantic(home: Path) -> None:
    argv = [sys.executable, "-c", UNLOADED, json.dumps(COMMANDS)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def taken(*arguments: str) -> dict[str, Any]:
    """What a command is given for ``arguments``. Raises typer's errors."""
    app, given = typer.Typer(add_completion=False), {}

    @app.command()
    def command(
        words: Annotated[list[str] | None, typer.Argument()] = None,
        shell: Annotated[Shell | None, typer.Option()] = None,
        text: Annotated[str | None, typer.Option()] = None,
        count: Annotated[int, typer.Option(min=1)] = 7,
        share: Annotated[float | None, typer.Option(max=1)] = None,
        file: Annotated[Path | None, typer.Option()] = None,
        flag: Annotated[bool | None, typer.Option("--flag/--no-flag")] = None,
        many: Annotated[list[int] | None, typer.Option()] = None,
    ) -> None:
        given.update(locals())

    app(list(arguments), standalone_mode=False)
    return {name: value for name, value in given.items() if name != "given" and value not in (None, [])}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), {"count": 7}),
        (("a", "", "b c"), {"words": ["a", "", "b c"], "count": 7}),
        (("--shell", "zsh"), {"shell": Shell.ZSH, "count": 7}),
        (("--text", ""), {"text": "", "count": 7}),
        (("--text", "12"), {"text": "12", "count": 7}),
        (("--count", "12"), {"count": 12}),
        (("--share", "1"), {"share": 1.0, "count": 7}),
        (("--share", "-0.25", "--count", "+12"), {"share": -0.25, "count": 12}),
        (("--share", "1e-1", "--count", "1_000"), {"share": 0.1, "count": 1000}),
        (("--count", "9999999999"), {"count": 9_999_999_999}),
        (("--file", "x/y"), {"file": Path("x/y"), "count": 7}),
        (("--no-flag",), {"flag": False, "count": 7}),
        (("--many", "1", "--many", "2"), {"many": [1, 2], "count": 7}),
    ],
)
def test_values_are_what_they_would_be(arguments: tuple[str, ...], expected: dict[str, Any]) -> None:
    given = taken(*arguments)
    assert given == expected
    assert {name: type(value) for name, value in given.items()} == {name: type(expected[name]) for name in given}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shell", "tcsh"), "is not one of 'bash', 'zsh', 'fish', 'powershell'"),
        (("--shell", ""), "is not one of"),
        (("--count", "0"), "greater than or equal to 1"),
        (("--count", "many"), "valid integer"),
        (("--share", "1.5"), "less than or equal to 1"),
        (("--many", "x"), "valid integer"),
    ],
)
def test_wrong_values_are_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(typer.TyperException) as refused:
        taken(*arguments)
    assert message in refused.value.format_message()
