"""What is planned for one and two cards against what llama.cpp does, on devices that compute nothing.

Thirty models and more: ``tests/bench/placement_against_engine.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.placement_against_engine import CLOSE, SLACK_BYTES, compared
from tests.fakes.devices import UnavailableError, build

# A small model, looped layers, layers for drafting, draft experts, layers without heads, a table that is the head too;
# experts on the CPU before the first layer that attends to all.
NAMES = (
    *("llama-3.2-1b", "nanbeige4.2-3b", "glm4.5-air-mtp", "step35-mtp", "nemotron-51b", "bitnet-2b"),
    *("qwen35moe-122b", "qwen3next-80b"),
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build(tmp_path_factory.mktemp("device"))
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_lies_where_it_was_planned(name: str, library: Path, tmp_path: Path) -> None:
    rows = list(compared(name, library, tmp_path))
    assert len({row.cards for row in rows}) >= 2
    assert [str(row) for row in rows if row.misplaced] == []
    for row in rows:
        weights, cache, _ = row.planned
        assert (weights, cache) == pytest.approx(row.taken[:2], abs=1 << 20), str(row)
        assert abs(row.off) <= CLOSE or abs(sum(row.planned) - sum(row.taken)) <= SLACK_BYTES, str(row)
