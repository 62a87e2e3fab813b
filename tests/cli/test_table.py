"""Columns and lines."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import pytest

from llmctl.cli.table import table, width, wrapped


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The table as forty columns show it."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", Terminal())
    return list(table(rows, "<" * len(rows[0])))


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("model", 5), ("模型", 4), ("e\N{COMBINING ACUTE ACCENT}", 1), ("▸ 9–12", 6), ("🦙", 2)],
)
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


def test_columns() -> None:
    rows = [("name", "size", "licence"), ("小さいモデル", "98 MB", "MIT"), ("a", "1.1 GB", "")]
    assert list(table(rows, "<><")) == [
        "name            size  licence",
        "小さいモデル   98 MB  MIT",
        "a             1.1 GB",
    ]
    assert list(table([("a", "b")], "<<", gap=1, indent=3)) == ["   a b"]
    assert list(table([], "<<")) == []


def test_the_last_column_goes_on_below_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("model", "chat, code, reasoning, translate, summarise"), ("x", "chat")]
    lines = on_a_terminal(monkeypatch, rows)
    assert lines == ["model  chat, code, reasoning, translate,", "       summarise", "x      chat"]


def test_where_there_is_no_room_lines_end_between_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_a_terminal(monkeypatch, [("m" * 30, "", "8 GB", "chat, code"), ("x", "y", "", "z")]) == [
        "m" * 30 + "  8 GB",
        "  chat, code",
        "x  y  z",
    ]


def test_lines() -> None:
    assert wrapped("one two-three four", 11, first="- ", indent="  ") == "- one\n  two-three\n  four"
    assert wrapped("/a/long/path/that/stays/whole x", 10) == "/a/long/path/that/stays/whole\nx"
    assert wrapped("", 10, first="label   ") == "label"
