"""``import llmctl`` costs next to nothing, and gives a Python program all it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import llmctl

HEAVY = (
    "typer",
    "rich",
    "pydantic",
    "requests",
    "urllib3",
    "jinja2",
    "llama_cpp",
    "numpy",
    "psutil",
    "pynvml",
    "tomlkit",
)
MEASURE = """
import json, sys, time
before, begun_s = set(sys.modules), time.process_time()
{statement}
took_s = time.process_time() - begun_s
print(json.dumps({{"cpu_s": took_s, "modules": sorted(set(sys.modules) - before)}}))
"""


def imported(statement: str) -> Any:
    """What ``statement`` costs in a Python of its own."""
    command = [sys.executable, "-c", MEASURE.format(statement=statement)]
    written = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return json.loads(written.splitlines()[-1])


@pytest.mark.parametrize(
    "statement", ["import llmctl", "from llmctl import Workspace", "from llmctl import Workspace; Workspace()"]
)
def test_importing_is_cheap(statement: str) -> None:
    cost = imported(statement)
    assert not {name.partition(".")[0] for name in cost["modules"]} & set(HEAVY)
    assert not [name for name in cost["modules"] if name.startswith(("llmctl.engine", "llmctl.net", "llmctl.cli"))]
    assert cost["cpu_s"] < 0.15  # some 10 ms; of the processor's time, so that neighbours do not count


def test_help_is_without_data_types() -> None:
    modules = imported("from llmctl.cli import main; main(['--help'])")["modules"]
    assert "llmctl.cli.embed" in modules and "msgspec" not in modules


def test_a_use_is_what_loads() -> None:
    """The bound above can fail: the same measurement sees what a first look brings."""
    modules = imported("import llmctl; llmctl.Workspace().shelf")["modules"]
    assert "llmctl.catalogue" in modules and "llmctl.store" in modules


@pytest.mark.parametrize("name", llmctl.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(llmctl, name) is not None


def test_no_other_name_is() -> None:
    name = "Workspaces"
    with pytest.raises(AttributeError, match="module 'llmctl' has no attribute 'Workspaces'"):
        getattr(llmctl, name)
