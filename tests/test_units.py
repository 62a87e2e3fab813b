"""Numbers as a person reads them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl import units


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (1_000, "1 kB"),
        (1_499, "1 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (98_362_432, "98 MB"),
        (999_500_000, "1.0 GB"),
        (5_680_000_000, "5.7 GB"),
        (99_949_999_999, "99.9 GB"),
        (99_950_000_000, "100 GB"),
        (24_900_000_000, "24.9 GB"),
        (1_234_000_000_000, "1.2 TB"),
        (5_000_000_000_000_000, "5000 TB"),
        (-1_200_000_000, "-1.2 GB"),
    ],
)
def test_size(value: float | None, expected: str) -> None:
    assert units.size(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(None, "?"), (61e9, "61.0 GB/s"), (12_300_000, "12 MB/s")])
def test_rate(value: float | None, expected: str) -> None:
    assert units.rate(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "?"),
        (0.0, "0.00"),
        (0.04, "0.04"),
        (0.8, "0.8"),
        (9.4, "9.4"),
        (9.96, "10"),
        (16.2, "16"),
        (138.4, "138"),
    ],
)
def test_tok_s(value: float | None, expected: str) -> None:
    assert units.tok_s(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "?"),
        (0.04, "0.0 s"),
        (0.6, "0.6 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (45, "45 s"),
        (89.4, "89 s"),
        (89.6, "1 min"),
        (90, "2 min"),
        (360, "6 min"),
        (5369, "89 min"),
        (5400, "1.5 h"),
        (9000, "2.5 h"),
    ],
)
def test_seconds(value: float | None, expected: str) -> None:
    assert units.seconds(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(None, "?"), (0, "0"), (57, "57"), (41_000, "41,000")])
def test_count(value: int | None, expected: str) -> None:
    assert units.count(value) == expected


FACTOR = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@given(st.integers(0, 10**15))
def test_a_size_is_not_far_from_the_truth(value: int) -> None:
    """At most half of the last digit that is shown."""
    number, unit = units.size(value).split()
    step = FACTOR[unit] * (0.1 if "." in number else 1)
    assert abs(float(number) * FACTOR[unit] - value) <= step / 2 * 1.000001
    assert len(number) <= 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("5", 5),
        ("500M", 500_000_000),
        ("500 mb", 500_000_000),
        ("4.7 GB", 4_700_000_000),
        (" 2GiB ", 2 << 30),
        ("1.5Ki", 1536),
        ("1T", 10**12),
        ("7 B", 7),
    ],
)
def test_parse_size(text: str, expected: int) -> None:
    assert units.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1 GB", "1 PB", "1,5 GB", "1e9", "1.GB", "nan", "4 GB free"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        units.parse_size(text)


@given(st.integers(0, 10**15))
def test_what_is_shown_can_be_typed(value: int) -> None:
    shown = units.size(value)
    assert units.size(units.parse_size(shown)) == shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "never"),
        (0, "just now"),
        (59.9, "just now"),
        (60, "1 minute ago"),
        (3599, "59 minutes ago"),
        (3600, "1 hour ago"),
        (86_399, "23 hours ago"),
        (86_400, "yesterday"),
        (3 * 86_400, "3 days ago"),
        (59 * 86_400, "59 days ago"),
        (61 * 86_400, "2 months ago"),
        (800 * 86_400, "2 years ago"),
    ],
)
def test_how_long_ago(seconds: float | None, words: str) -> None:
    assert units.ago(seconds) == words


@pytest.mark.parametrize(
    ("number", "things", "expected"),
    [(1, None, "1 model"), (0, None, "0 models"), (2, "models of it", "2 models of it")],
)
def test_a_number_of_things(number: int, things: str | None, expected: str) -> None:
    assert units.number_of(number, "model", things) == expected


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("5m", 300), ("12h", 43_200), ("30d", 2_592_000), ("0", 0)])
def test_duration(text: str, seconds: float) -> None:
    assert units.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "1w", "1.5h", "-2", " 5m", "1234567890"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        units.duration_s(text)
