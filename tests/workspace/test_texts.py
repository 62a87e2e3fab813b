"""Texts as they are read: JSON Lines and plain lines."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from llmctl.errors import AccessError, LlmctlError, NotFoundError, UsageError
from llmctl.workspace import texts
from llmctl.workspace.texts import gathered


def read(raw: bytes, *, plain: bool = False) -> list[tuple[str | int, str]]:
    return [(text.id, text.text) for text in gathered((), (), io.BytesIO(raw), plain=plain)]


def test_json_lines() -> None:
    raw = b'\xef\xbb\xbf{"id": "a", "text": "one", "page": 3}\r\n"two"\n\n{"text": "three"}\n'
    raw += b'{"id": 9, "text": "f\xc3\xbcnf"}'
    assert read(raw) == [("a", "one"), (1, "two"), (2, "three"), (9, "fünf")]


def test_plain_lines() -> None:
    assert read(b'one\r\n\n"two"\n  three \n\xff\n', plain=True) == [
        (0, "one"),
        (1, '"two"'),
        (2, "  three "),
        (3, "\ufffd"),
    ]


def test_arguments_then_files_then_stdin(tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_text('"in a file"\n')
    given = gathered(["an argument"], [str(file)], io.BytesIO(b'"from stdin"'))
    assert [(text.id, text.text) for text in given] == [(0, "an argument"), (1, "in a file"), (2, "from stdin")]
    assert [text.place for text in given] == ["text 1", f"line 1 of {file}", "line 1 of stdin"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"plain words", "line 2 of stdin is not JSON"),
        (b"[" * 100_000, "line 2 of stdin is not JSON"),
        (b"5", 'line 2 of stdin must be a text, or an object with "text"'),
        (b'{"txt": "a"}', "line 2 of stdin must be a text"),
        (b'{"text": ["a"]}', "line 2 of stdin must be a text"),
        (b'{"text": "a", "id": true}', "line 2 of stdin: the id must be a text or a whole number"),
    ],
)
def test_a_line_that_is_no_text(line: bytes, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(b'"a"\n' + line)
    assert words in caught.value.message


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "LONGEST_LINE_BYTES", 8)
    with pytest.raises(UsageError, match=r"line 1 of stdin is longer than 8 bytes"):
        read(b'"too long"')
    monkeypatch.setattr(texts, "LIMIT_BYTES", 8)
    with pytest.raises(UsageError, match=r"stdin has more than 8 bytes"):
        read(b'"a"\n"b"\n"c"\n')


@pytest.mark.parametrize(("kind", "error"), [("missing", NotFoundError), ("folder", UsageError), ("shut", AccessError)])
def test_a_file_that_cannot_be_read(
    kind: str, error: type[LlmctlError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "notes.jsonl"
    if kind == "folder":
        file.mkdir()
    if kind == "shut":  # the superuser may read any file

        def shut(*_: object, **__: object) -> None:
            raise PermissionError

        monkeypatch.setattr(Path, "open", shut)
    with pytest.raises(error):
        gathered((), [str(file)], None)
