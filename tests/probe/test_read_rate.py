"""The disk's read rate: measured for real, kept by disk, and absent where it can't be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmctl.probe import read_rate


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="only Linux reads past its cache")
def test_a_file_is_read_past_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, small = tmp_path / "large", tmp_path / "small"
    file.write_bytes(os.urandom(read_rate.LEAST_BYTES + 100))
    small.write_bytes(b"x" * 1000)
    rate = read_rate.rate_of(file)
    assert rate is None or 1e5 < rate < 1e11, "None on a filesystem without such reading"
    assert read_rate.rate_of(small) is None
    assert read_rate.rate_of(tmp_path / "missing") is None


def test_the_faster_measurement_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every folder on that disk, also one that isn't there yet."""
    rates = iter([5e8, 3e8, None])
    monkeypatch.setattr(read_rate, "rate_of", lambda _: next(rates))
    monkeypatch.setattr(read_rate, "_files", lambda _: [tmp_path])
    assert read_rate.cached(tmp_path) is None
    for _ in range(3):
        read_rate.measure(tmp_path / "models" / "hub")
        assert read_rate.cached(tmp_path) == 5e8
