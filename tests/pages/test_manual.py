"""The manual page, read by the programs that show manuals."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.pages.blocks import ROOT

MANUAL = ROOT / "docs" / "llmctl.1"
READERS = (
    ("mandoc", "-Tlint", "-Wwarning"),
    ("groff", "-man", "-Tutf8", "-Kutf8", "-ww", "-z"),
)
NO_DATE = "missing date"  # one would have to be renewed by hand


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader[0])
def test_a_reader_finds_nothing_wrong(reader: tuple[str, ...]) -> None:
    if shutil.which(reader[0]) is None:
        pytest.skip(f"{reader[0]} is not installed")
    read = subprocess.run([*reader, str(MANUAL)], capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in (read.stdout + read.stderr).splitlines() if NO_DATE not in line] == []


def test_it_has_every_command_and_exit_code() -> None:
    text = MANUAL.read_text("utf-8").replace("\\-", "-")
    assert ".SS llmctl run " in text and ".SS llmctl endpoint add " in text
    assert ".B 11\n" in text.partition(".SH EXIT STATUS")[2]
