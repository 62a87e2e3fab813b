"""What is remembered of a download's rate, and what says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmctl.transfer import last_rate

MB = 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("llmctl.transfer.last_rate.time.monotonic", lambda: now[0])
    return now


def download(clock: list[float], first: int, last: int, seconds: float, limit: float | None = None) -> None:
    with last_rate.measured(lambda done, total: None, limit) as progress:
        progress(first, last)
        clock[0] += seconds
        progress(last, last)


@pytest.mark.parametrize(
    ("first", "last", "seconds", "limit", "known"),
    [
        (0, 100 * MB, 4.0, None, 25 * MB),
        (60 * MB, 100 * MB, 4.0, None, 10 * MB),  # what an earlier try had left was not moved now
        (0, 1 * MB, 4.0, None, None),
        (0, 100 * MB, 0.5, None, None),
        (0, 100 * MB, 4.0, 25 * MB, None),  # that is the user's rate, not the line's
    ],
)
def test_what_is_remembered(
    first: int, last: int, seconds: float, limit: float | None, known: float | None, clock: list[float]
) -> None:
    assert last_rate.read() is None
    download(clock, first, last, seconds, limit)
    assert last_rate.read() == known


def test_a_download_that_fails_says_nothing(clock: list[float]) -> None:
    with pytest.raises(ValueError, match="broken"), last_rate.measured(lambda done, total: None, None) as progress:
        progress(0, 100 * MB)
        clock[0] += 4
        progress(100 * MB, 100 * MB)
        raise ValueError("broken")
    assert last_rate.read() is None


@pytest.mark.parametrize("raw", ["", "[]", "{}", '{"bytes_per_s": "fast"}', '{"bytes_per_s": -1}', "null"])
def test_a_record_that_makes_no_sense(raw: str, home: Path) -> None:
    record = home / "cache/llmctl/download.json"
    record.parent.mkdir(parents=True)
    record.write_text(raw)
    assert last_rate.read() is None
