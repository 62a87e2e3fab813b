"""What a person sees while a model loads."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from llmctl.cli import loading
from llmctl.cli.loading import load_progress
from llmctl.cli.output import Output

SHOW = """
from llmctl.cli import loading
from llmctl.cli.output import Output
loading.SHOWN_AFTER_S = 0
with loading.load_progress(Output("run"), "tiny Q4_K_M") as tell:
    for share in (0.1, 0.101, 0.42):
        tell(share)
print("The answer")
"""


def test_a_line_is_written_over_on_a_terminal_and_goes() -> None:
    mine, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", SHOW], stdout=theirs, stderr=theirs, check=True, env=environment, timeout=60)
    os.close(theirs)
    shown = os.read(mine, 4096)
    os.close(mine)
    assert shown == b"\r\x1b[Kloading tiny Q4_K_M 10 %\r\x1b[Kloading tiny Q4_K_M 42 %\r\x1b[KThe answer\r\n"


@pytest.mark.parametrize(
    ("out", "every_s", "lines"),
    [
        (Output("run"), 0.0, ["loading tiny 10 %", "loading tiny 42 %"]),
        (Output("run"), 5.0, []),
        (Output("run", quiet=True), 0.0, []),
        (Output("run", as_json=True), 0.0, []),
    ],
)
def test_elsewhere(
    out: Output,
    every_s: float,
    lines: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "LINE_EVERY_S", every_s)
    with load_progress(out, "tiny") as tell:
        tell(0.1)
        tell(0.42)
    shown = capsys.readouterr()
    assert (shown.out, shown.err.splitlines()) == ("", lines)
