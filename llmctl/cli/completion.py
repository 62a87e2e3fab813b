"""``llmctl completion SHELL``: the scripts that ``completions/`` holds, for the shell to load."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

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


def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Print the completion script for a shell. Changes nothing.

    \b
    Examples:
      llmctl completion bash > ~/.local/share/bash-completion/completions/llmctl
      llmctl completion zsh > "${fpath[1]}/_llmctl"
      llmctl completion fish > ~/.config/fish/completions/llmctl.fish
      llmctl completion powershell >> $PROFILE
    """
    from llmctl.cli.output import Output

    Output("completion").text(script(shell).rstrip("\n"))
