"""Ctrl-C while the command is still starting."""

from __future__ import annotations

import subprocess
import sys

import pytest

INTERRUPTED_BY_AN_IMPORT = """
import os, signal, sys
from llmctl.cli import main

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.exit(main(["models", "list"]))
"""


@pytest.mark.parametrize("module", ["typer", "llmctl.cli.lazy", "llmctl.cli.models.listing", "llmctl.store"])
def test_ctrl_c_in_the_middle_of_an_import(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_BY_AN_IMPORT, module], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
