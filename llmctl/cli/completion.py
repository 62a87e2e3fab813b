"""``llmctl completion``: the scripts that ``completions/`` holds, for the shell to load."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmctl.cli import lazy
from llmctl.cli.output import Output
from llmctl.errors import UsageError
from llmctl.printable import printable

VARIABLE = "_LLMCTL_COMPLETE"

# bash breaks words at ":" and "=", which model names (REPO:QUANT) and options (--model=…) contain, so the whole line is
# handed over, and what bash believes to be finished already is cut from the replies. Of typer's ways to take a line and
# give one reply per line, fish's is the one that does; after a tab stands the help, which bash has no place for.
BASH = """\
_llmctl_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" word cut="" reply
    word="${line##*[[:space:]]}"
    word="${word#--*=}"
    [[ "$COMP_WORDBREAKS" == *:* ]] && cut="${word%"${word##*:}"}"
    COMPREPLY=()
    while IFS=$'\\t' read -r reply _; do
        [[ -n "$reply" ]] && COMPREPLY+=("${reply#"$cut"}")
    done < <(env _LLMCTL_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \\
        _TYPER_COMPLETE_ARGS="$line" "$1" 2>/dev/null)
    return 0
}

complete -o default -F _llmctl_completion llmctl
"""

# As a file of the function path the script is itself the first call, which typer's leaves without an answer.
ZSH_REGISTER = "compdef _llmctl_completion llmctl"
ZSH_CALL_OR_REGISTER = f"""\
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _llmctl_completion "$@"
else
  {ZSH_REGISTER}
fi"""


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def script(shell: Shell) -> str:
    """The text that makes ``shell`` complete llmctl's commands, options, models and endpoints."""
    if shell is Shell.BASH:
        return BASH
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # public, but not in __all__

    made: str = get_completion_script(prog_name="llmctl", complete_var=VARIABLE, shell=shell.value)
    if shell is Shell.ZSH:
        made = made.removesuffix(ZSH_REGISTER) + ZSH_CALL_OR_REGISTER
    return made + "\n"


app = lazy.plain(help="Completion of commands, options and names by your shell.", no_args_is_help=True)

Which = Annotated[Shell | None, typer.Argument(help="The shell; the one that you are in if left out.")]


@app.command()
def show(shell: Which = None) -> None:
    """Print the completion script for a shell. Changes nothing.

    \b
    Examples:
      llmctl completion show zsh
      llmctl completion show powershell >> $PROFILE

    Exit codes: 0, 2 it can't be told in which shell you are.
    """
    Output("completion show").text(script(shell or _own_shell()).rstrip("\n"))


@app.command()
def install(
    shell: Which = None, json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False
) -> None:
    """Write the completion script where your shell looks for it.

    \b
    Examples:
      llmctl completion install
      llmctl completion install fish

    One file is written, and the one of an older llmctl replaced. What your shell reads at its start is not touched:
    where it needs a line there, that is printed.

    Exit codes: 0, 2 it can't be told in which shell you are, 7 the file can't be written.
    """
    from llmctl.workspace import completion_file

    out = Output("completion install", as_json=json)
    wanted = shell or _own_shell()
    installed = completion_file.install(wanted.value, script(wanted))
    out.note(f"Written: {installed.file}")
    if installed.line is not None:
        out.note(f"Add this to {installed.start_file}, unless it is there:")
        out.text(installed.line)
    out.note(f"It works in the next {wanted.value} that you start.")
    out.data({"shell": wanted, "file": installed.file, "line": installed.line, "start_file": installed.start_file})


def _of(shell: Shell) -> Callable[[], None]:
    def completion() -> None:
        Output("completion").text(script(shell).rstrip("\n"))

    return completion


for _shell in Shell:  # as it was called before there were two commands
    app.command(_shell.value, hidden=True, help=f"Print the completion script for {_shell.value}.")(_of(_shell))


def shell_in_use() -> str | None:
    """The shell in which the command runs; None where completion can't be made for it."""
    try:
        return _own_shell().value
    except UsageError:
        return None


def _own_shell() -> Shell:
    """Raises UsageError where the shell can't be told, or is none that there is a script for."""
    import shellingham  # type: ignore[import-untyped]

    try:
        name, _ = shellingham.detect_shell()
    except shellingham.ShellDetectionFailure:
        name = Path(os.environ.get("SHELL", "")).name
    name = {"pwsh": "powershell"}.get(name, name)
    if name not in list(Shell):
        raise UsageError(
            f"{printable(name) or 'your shell'} is none that completion is made for",
            hint=f"llmctl completion install {'|'.join(Shell)}",
        )
    return Shell(name)
