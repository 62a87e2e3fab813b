"""Every block of commands in the README and docs/ is run, page by page, in bash: what a person pastes works."""

from __future__ import annotations

import doctest
import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from tests.fakes.page_home import page_home
from tests.fakes.shell import Shell
from tests.pages.blocks import NOT_RUN, PAGES, UNTIL_STOPPED, Block, blocks

COMMANDS = "the two commands"  # of the README, which CI runs as they stand there
# Each is there for the one reason that stands beside it on its page; a new one is added here.
NOT_RUN_ON = {
    "CONTRIBUTING.md": 1,
    "README.it.md": 1,
    "cookbook.md": 1,
    "install.md": 3,
    "private-server.md": 2,
    "serve.md": 2,
    "setup.md": 1,
}
KINDS = {"sh", "console", "python", "text", "json", "keys"}
PROGRAMS = ("bash", "curl", "git", "jq")
EACH = [block for page in PAGES for block in blocks(page)]


def named(page: Path) -> str:
    return page.name


def test_a_block_says_what_it_is() -> None:
    unknown = [block for block in EACH if block.kind.partition(" ")[0] not in KINDS and block.mark != COMMANDS]
    assert [(block.page.name, block.text) for block in unknown] == []


def test_the_two_commands_of_the_readme() -> None:
    """Each is "install && use": CI runs the two parts of both."""
    (block,) = [block for block in EACH if block.mark == COMMANDS]
    first, second = block.text.splitlines()
    assert first.startswith("pip install . && llmctl run ")
    assert second == "pip install -e '.[dev]' && python -m pytest"


def test_blocks_that_no_test_runs_are_counted() -> None:
    counted: dict[str, int] = {}
    for block in EACH:
        if block.mark.startswith(NOT_RUN):
            counted[block.page.name] = counted.get(block.page.name, 0) + 1
    assert counted == NOT_RUN_ON


@pytest.mark.parametrize("block", [each for each in EACH if each.kind == "json"], ids=lambda block: block.page.name)
def test_data_is_well_formed(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("page", [page for page in PAGES if any(each.is_run for each in blocks(page))], ids=named)
def test_commands(page: Path, home: Path, tmp_path: Path) -> None:
    """One after the other, in one home that has a model: what the first has made, the next finds."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing and any(program in block.text for program in missing for block in blocks(page)):
        pytest.skip(f"the commands of this page use {', '.join(missing)}")
    for name in ("m", "b"):
        (tmp_path / name).mkdir()
    with page_home(home, tmp_path / "m") as environment, Shell(tmp_path / "b") as shell:
        environment |= {"LLMCTL_SERVE_PORT": str(free_port()), "LLMCTL_KEEP_ALIVE": "1m"}  # one engine for the page
        try:
            assert shell.run("llmctl pull --quiet qwen3.5-4b", environment).returncode == 0
            for block in blocks(page):
                if block.is_run:
                    run(block, shell, environment)
        finally:
            shell.run("llmctl stop --all --quiet || true", environment)


def run(block: Block, shell: Shell, environment: dict[str, str]) -> None:
    if block.kind == "console":
        for command, shown in transcript(block.text):
            done = shell.run(command, environment)
            assert done.returncode == 0 or "error:" in shown, f"$ {command}\n{done.stdout}"
            same = doctest.OutputChecker().check_output(shown, done.stdout, doctest.ELLIPSIS)
            assert same, f"$ {command}\nprints\n{done.stdout}\nthe page shows\n{shown}"
        return
    script = block.text
    if block.mark == UNTIL_STOPPED:  # which is later on the page, or at its end
        script = f"{{ {script}}} &> log & until grep -q ://127 log; do sleep 0.05; done"
    done = shell.run(script, environment)
    assert done.returncode == 0, f"{block.page.name}\n{block.text}\n{done.stdout}"


def transcript(text: str) -> list[tuple[str, str]]:
    """The commands of a session, each with what it shows."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)[1:]
    return [(command, shown.strip("\n") + "\n") for command, shown in zip(parts[::2], parts[1::2], strict=True)]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
