"""The completion scripts, in the shells themselves where they are installed."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmctl.cli import complete, main
from llmctl.cli.completion import Shell, script
from llmctl.settings import add_endpoint
from llmctl.types.endpoint import Endpoint

NAMES = ["qwen3.5-4b", "qwen3.5-4b:Q4_K_M", "qwen3.5-4b:Q6_K", "smollm2-135m", "réseau:Q8_0"]

# Answers as llmctl does when a shell asks it: what it was asked goes into a file, the candidates to stdout.
FAKE = """\
#!{python}
import os, pathlib
line = os.environ["_TYPER_COMPLETE_ARGS"]
pathlib.Path({log!r}).write_text(repr((os.environ["_LLMCTL_COMPLETE"], line)))
word = line.split(" ")[-1].split("=")[-1]
found = [name + "\\tA model, with help" for name in {names!r} if name.startswith(word)]
print("\\n".join(found))  # an empty line when there is nothing, as typer does
"""

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture
def shell_path(tmp_path: Path) -> Path:
    """A folder for PATH whose llmctl is FAKE."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "llmctl"
    command.write_text(FAKE.format(python=sys.executable, log=str(tmp_path / "asked"), names=NAMES), "utf-8")
    command.chmod(0o755)
    return folder


@pytest.mark.parametrize("shell", Shell)
def test_scripts(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell.value]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == script(shell)
    assert captured.out.endswith("\n")
    assert "llmctl" in captured.out
    assert "_LLMCTL_COMPLETE" in captured.out
    assert "%(" not in captured.out


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err


@pytest.mark.parametrize("shell", [Shell.BASH, Shell.ZSH, Shell.FISH])
def test_syntax(shell: Shell, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "script"
    file.write_text(script(shell), "utf-8")
    done = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def bash(shell_path: Path, line: str, *, point: int | None = None, breaks: str = " \t\n\"'><=;|&(:") -> list[str]:
    """What the function of the script leaves in COMPREPLY."""
    program = f"""
        COMP_WORDBREAKS={shlex.quote(breaks)}
        {script(Shell.BASH)}
        COMP_LINE={shlex.quote(line)} COMP_POINT={len(line) if point is None else point}
        _llmctl_completion llmctl
        printf '%s\\n' "${{#COMPREPLY[@]}}" "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", program],
        env={**os.environ, "PATH": f"{shell_path}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stderr == ""
    count, *replies = done.stdout.removesuffix("\n").split("\n")
    assert len(replies) == int(count)
    return replies


@needs_bash
@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("llmctl run -m sm", ["smollm2-135m"]),
        ("llmctl run -m qwen3.5-4b", ["qwen3.5-4b", "qwen3.5-4b:Q4_K_M", "qwen3.5-4b:Q6_K"]),
        ("llmctl run -m qwen3.5-4b:", ["Q4_K_M", "Q6_K"]),  # what stands before the colon is there already
        ("llmctl run -m qwen3.5-4b:Q4", ["Q4_K_M"]),
        ("llmctl run --model=qwen3.5-4b:Q4", ["Q4_K_M"]),
        ("llmctl run --model=sm", ["smollm2-135m"]),
        ("llmctl run -m ", NAMES),
        ("llmctl run 'two words' -m sm", ["smollm2-135m"]),
        ("llmctl run -m résea", ["réseau:Q8_0"]),
        ("llmctl run -m nothing", []),
        ("llmctl run 'unfinished: sm", ["smollm2-135m"]),
    ],
)
def test_bash(line: str, replies: list[str], shell_path: Path) -> None:
    assert bash(shell_path, line) == replies
    assert (shell_path.parent / "asked").read_text("utf-8") == repr(("complete_fish", line))


@needs_bash
def test_bash_with_the_cursor_in_the_middle(shell_path: Path) -> None:
    assert bash(shell_path, "llmctl run -m sm --json", point=len("llmctl run -m sm")) == ["smollm2-135m"]


@needs_bash
def test_bash_that_does_not_break_words_at_colons(shell_path: Path) -> None:
    assert bash(shell_path, "llmctl run -m qwen3.5-4b:Q4", breaks=" \t\n") == ["qwen3.5-4b:Q4_K_M"]


@needs_bash
def test_bash_takes_names_as_they_are(tmp_path: Path, shell_path: Path, home: Path) -> None:
    """No globbing, no word splitting, no running of what a name says."""
    odd = ["*", "a b", "$(touch ran)", "`touch ran`", "back\\slash"]
    (shell_path / "llmctl").write_text(
        FAKE.format(python=sys.executable, log=str(tmp_path / "asked"), names=odd), "utf-8"
    )
    (home / "file").write_text("")
    assert bash(shell_path, "llmctl run -m ") == odd
    assert not (home / "ran").exists()


@needs_bash
def test_bash_is_silent_when_llmctl_fails(shell_path: Path) -> None:
    (shell_path / "llmctl").write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    assert bash(shell_path, "llmctl run -m ") == []


def typed(argv: list[str], keys: list[str], shell_path: Path) -> str:
    """What a terminal shows after ``keys`` were typed into an interactive shell, one after the other."""
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {**os.environ, "PATH": f"{shell_path}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"}
        os.execvpe(argv[0], argv, {**environment, "LC_ALL": "C.UTF-8"})  # noqa: S606
    shown = b""

    def wait_for(mark: bytes, since: int) -> None:
        nonlocal shown
        deadline = time.monotonic() + 20
        while mark not in shown[since:]:
            if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
                pytest.fail(f"waiting for {mark!r}, the terminal shows {shown.decode(errors='replace')!r}")
            shown += os.read(terminal, 1 << 16)

    try:
        wait_for(b"$ ", 0)
        for key in keys:
            text, _, mark = key.partition("→")
            since = len(shown)
            os.write(terminal, text.encode())
            wait_for(mark.encode(), since)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    return shown.decode(errors="replace")


@needs_bash
@pytest.mark.timeout(60)
def test_bash_at_a_terminal(shell_path: Path, tmp_path: Path) -> None:
    """The tab key itself: whole words are put in, with their colons, not doubled."""
    file = tmp_path / "llmctl.bash"
    file.write_text(script(Shell.BASH), "utf-8")
    shown = typed(
        ["bash", "--norc", "--noprofile", "-i"],
        [
            f"source {file}; echo lo''aded\r→loaded\r\n$ ",
            "true | llmctl run -m qwen3.5-4b:Q4\t→Q4_K_M ",
            "\x15llmctl run 'two words' --model=qwen3.5-4b:Q6\t→Q6_K ",
        ],
        shell_path,
    )
    assert "-m qwen3.5-4b:Q4_K_M " in shown
    assert "--model=qwen3.5-4b:Q6_K " in shown
    assert "qwen3.5-4b:qwen3.5-4b" not in shown


@pytest.mark.skipif(shutil.which("pwsh") is None, reason="PowerShell is not installed")
def test_powershell(shell_path: Path, tmp_path: Path) -> None:
    """What its Tab key would put in."""
    file = tmp_path / "llmctl.ps1"
    file.write_text(script(Shell.POWERSHELL), "utf-8")
    line = "llmctl run -m sm"
    asks = f". {file}; (TabExpansion2 '{line}' {len(line)}).CompletionMatches.CompletionText"
    environment = {**os.environ, "PATH": f"{shell_path}:{os.environ['PATH']}"}
    command = ["pwsh", "-NoProfile", "-NonInteractive", "-Command", asks]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["smollm2-135m"]


# What is completed


def completions(line: str) -> list[str]:
    """Asked as the scripts ask, of the real command in its own process."""
    done = subprocess.run(
        [sys.executable, "-m", "llmctl"],
        env={
            **os.environ,
            "_LLMCTL_COMPLETE": "complete_fish",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_ARGS": line,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stderr == ""
    return [reply.partition("\t")[0] for reply in done.stdout.splitlines() if reply]


def test_commands_and_models_are_completed() -> None:
    assert "endpoint" in completions("llmctl e")
    assert completions("llmctl endpoint rem") == ["remove"]
    quants = completions("llmctl run -m smollm2-135m-instruct:")
    assert quants
    assert all(quant.startswith("smollm2-135m-instruct:") for quant in quants)


def test_endpoints() -> None:
    add_endpoint(Endpoint("office", "https://x/v1", "m"))
    add_endpoint(Endpoint("home", "https://y/v1", "m"))
    assert complete.endpoints("") == ["office", "home"]
    assert complete.endpoints("of") == ["office"]
    assert completions("llmctl run -e h") == ["home"]


def test_names() -> None:
    models = complete.models("")
    assert "smollm2-135m-instruct" in models
    assert complete.models("smollm2-135m-instruct") == ["smollm2-135m-instruct"]
    assert complete.models("smollm2-135m-instruct:Q")
    assert complete.models("no-such-model:") == []
    assert "chat" in complete.tasks("c")
    assert complete.languages("i") == ["id", "it"]


def test_silence_when_the_configuration_is_broken(home: Path) -> None:
    (home / "llmctl.toml").write_text("model = ")
    assert complete.endpoints("") == []
    assert completions("llmctl run -e ") == []


@pytest.mark.parametrize(
    ("shell", "place", "line"),
    [
        (Shell.BASH, "data/bash-completion/completions/llmctl", None),
        (Shell.ZSH, ".zfunc/_llmctl", "compinit"),
        (Shell.FISH, "config/fish/completions/llmctl.fish", None),
        (Shell.POWERSHELL, "data/llmctl/llmctl.ps1", ". '"),
    ],
)
def test_installing(
    shell: Shell,
    place: str,
    line: str | None,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("llmctl.workspace.completion_file.BASH_COMPLETION", (str(home),))  # as if it were installed
    assert main(["completion", "install", shell.value]) == 0
    captured = capsys.readouterr()
    assert (home / place).read_text("utf-8") == script(shell)
    assert f"Written: {home / place}" in captured.err
    assert line in captured.out if line else captured.out == ""


def test_bash_without_what_loads_completions(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llmctl.workspace.completion_file.BASH_COMPLETION", ())
    assert main(["completion", "install", "bash"]) == 0
    assert capsys.readouterr().out == f". {home}/data/bash-completion/completions/llmctl\n"


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_it_is_what_the_shell_then_uses(name: str, home: Path, shell_path: Path) -> None:
    """A shell that starts in this home, in which it was installed without its name."""
    shell = shutil.which(name)
    if shell is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run(
        [shell, "-c", f"{sys.executable} -m llmctl completion install; true"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    asks = {
        "bash": f"{done.stdout}\ntype -t _llmctl_completion",
        "zsh": f"{done.stdout}\nprint -r -- $_comps[llmctl]",
        "fish": "complete -C 'llmctl run -m sm'",
    }[name]
    if name == "bash" and not done.stdout:
        asks = f". {home}/data/bash-completion/completions/llmctl; type -t _llmctl_completion"
    environment = {**os.environ, "PATH": f"{shell_path}:{os.environ['PATH']}"}
    used = subprocess.run([shell, "-c", asks], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert {"bash": "function", "zsh": "_llmctl", "fish": "smollm2-135m"}[name] in used.stdout, used.stderr


def test_a_shell_that_nothing_is_made_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("tcsh", "/bin/tcsh"))
    assert main(["completion", "install"]) == 2
    assert "tcsh is none that completion is made for" in capsys.readouterr().err
