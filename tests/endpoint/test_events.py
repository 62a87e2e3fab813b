"""Server-sent events as the standard has them, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.endpoint.events import EventParser, ServerEvent, TooLongError

LIMIT = 1000
LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)


def parsed(*received: bytes) -> list[ServerEvent]:
    parser = EventParser(LIMIT)
    events = [event for part in received for event in parser.feed(part)]
    return events + parser.end()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [("message", "a"), ("message", "b")]),
        (b"data: a\r\rdata: b\r\r", [("message", "a"), ("message", "b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("message", "a"), ("message", "b")]),
        (b"data: a\ndata: b\n\n", [("message", "a\nb")]),
        (b"data:a\n\ndata:  b\n\n", [("message", "a"), ("message", " b")]),
        (b"event: error\ndata: a\n\ndata: b\n\n", [("error", "a"), ("message", "b")]),
        (b"event: error\n\ndata: b\n\n", [("message", "b")]),
        (b": comment\nid: 1\nretry: 2\nother\ndata: a\n\n", [("message", "a")]),
        (b"data\n\ndata:\n\ndata: \n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]),
        (b"data: \xef\xbb\xbfa\n\n", [("message", "\ufeffa")]),
        (b"data: \xff\n\n", [("message", "\ufffd")]),
        (b"data: a", [("message", "a")]),
        (b"data: a\n", [("message", "a")]),
        (b"data: " + b"x" * (LIMIT - 10) + b"\n\n", [("message", "x" * (LIMIT - 10))]),
        (b"", []),
    ],
)
def test_events(stream: bytes, events: list[tuple[str, str]]) -> None:
    expected = [ServerEvent(kind, text) for kind, text in events]
    assert parsed(stream) == expected
    assert parsed(*(bytes([byte]) for byte in stream)) == expected


@given(
    st.lists(st.lists(LINE, min_size=1, max_size=3), max_size=5),
    st.lists(st.integers(0, 1000), max_size=10),
    st.sampled_from(["\n", "\r", "\r\n"]),
)
def test_borders_mean_nothing(events: list[list[str]], cuts: list[int], end: str) -> None:
    stream = "".join("".join(f"data: {line}{end}" for line in lines) + end for lines in events).encode()
    borders = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    made = parsed(*(stream[begin:stop] for begin, stop in pairwise(borders)))
    texts = ["\n".join(lines) for lines in events]
    assert made == [ServerEvent("message", text) for text in texts if text.strip()]


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_any_bytes_are_events_or_none(received: list[bytes]) -> None:
    assert parsed(*received) == parsed(b"".join(received))


@pytest.mark.parametrize("bit", [b"x", b"data: xxxxxxxx\n"], ids=["a line", "many lines"])
def test_too_long(bit: bytes) -> None:
    parser = EventParser(LIMIT)
    with pytest.raises(TooLongError):
        for _ in range(2 * LIMIT):
            parser.feed(bit)
