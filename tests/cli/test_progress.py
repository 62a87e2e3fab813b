"""What a person sees of a transfer, on a terminal and elsewhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from llmctl.cli import progress
from llmctl.cli.output import Output
from llmctl.cli.progress import transfer_progress

MB = 1_000_000


@pytest.fixture(autouse=True)
def every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with transfer_progress(Output("pull"), "Tiny 1B") as shown:
        shown(40 * MB, 100 * MB)
        shown(70 * MB, 100 * MB)
        shown(100 * MB, 100 * MB)
    out, err = capsys.readouterr()
    assert out == ""
    first, second, third, last = err.splitlines()
    assert first == "Tiny 1B: 40 MB of 100 MB"
    assert re.fullmatch(r"Tiny 1B: 70 MB of 100 MB, \d\S* .B/s, \d\S* s left", second)
    assert third.startswith("Tiny 1B: 100 MB of 100 MB")
    assert re.fullmatch(r"Tiny 1B: 60 MB in 0\.\d s", last)  # what an earlier try had left was not moved now
    assert "\x1b" not in err


def test_few_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 5.0)
    with transfer_progress(Output("pull"), "Tiny") as shown:
        for done in range(1000):
            shown(done, 1000)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_never_backwards(capsys: pytest.CaptureFixture[str]) -> None:
    with transfer_progress(Output("pull"), "Tiny") as shown:
        for done in (10, 50, 0, 20, 60):
            shown(done * MB, 100 * MB)
    seen = [int(match[1]) for match in re.finditer(r"(\d+) MB of", capsys.readouterr().err)]
    assert seen == [10, 50, 50, 50, 60]


def test_a_total_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    with transfer_progress(Output("pull"), "Tiny") as shown:
        shown(3 * MB, None)
    assert capsys.readouterr().err.splitlines()[0] == "Tiny: 3 MB so far"


def test_nothing_moved_nothing_said(capsys: pytest.CaptureFixture[str]) -> None:
    with transfer_progress(Output("pull"), "Tiny"):
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("case", ["quiet", "json", "HF_HUB_DISABLE_PROGRESS_BARS"])
def test_silence(case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if case.startswith("HF"):
        monkeypatch.setenv(case, "1")
    with transfer_progress(Output("pull", as_json=case == "json", quiet=case == "quiet"), "Tiny") as shown:
        shown(50, 100)
        shown(100, 100)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("total_bytes", "said"),
    [
        (100 * MB, "Tiny: stopped at 50 MB of 100 MB, which is kept: the same command goes on from there"),
        (None, "Tiny: stopped"),
    ],
)
def test_ctrl_c(total_bytes: int | None, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), transfer_progress(Output("pull"), "Tiny") as shown:
        shown(50 * MB, total_bytes)
        raise KeyboardInterrupt
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_a_bar_on_a_terminal() -> None:
    script = (
        "import time\n"
        "from llmctl.cli.output import Output\n"
        "from llmctl.cli.progress import transfer_progress\n"
        "with transfer_progress(Output('pull'), 'Tiny 1B') as shown:\n"
        "    for done in range(0, 51):\n"
        "        shown(done * 2_000_000, 100_000_000)\n"
        "        time.sleep(0.01)\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 1 << 16):
            seen += piece
    except OSError:  # the other end was closed
        pass
    os.close(ours)
    out, _ = child.communicate()
    text = seen.decode()
    assert child.returncode == 0, text
    assert out == b""
    assert "\x1b[" in text
    shown = [float(match[1]) for match in re.finditer(r"([\d.]+)/100\.0 MB", re.sub(r"\x1b\[[\d;?]*\w", "", text))]
    assert len(shown) > 2
    assert shown == sorted(shown)
    assert re.sub(r"\x1b\[[\d;?]*\w", "", text).rstrip().endswith("s")  # the summary stays, the bar is gone
    assert "Tiny 1B: 100 MB in " in text
    assert "\x1b[?25h" in text  # the cursor is back
