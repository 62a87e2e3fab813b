"""Requests that come together wait for each other, and one that comes by itself for nobody."""

from __future__ import annotations

import time

from llmctl.engine.llama_cpp.arrivals import GAP_S, LONGEST_S, Arrivals


def test_by_itself_it_waits_for_nobody() -> None:
    arrivals = Arrivals()
    with arrivals.coming():
        pass
    begun = time.monotonic()
    for _ in range(100):
        arrivals.wait()
    assert time.monotonic() - begun < 100 * GAP_S


def test_it_waits_for_who_is_on_the_way_and_not_for_ever() -> None:
    arrivals = Arrivals()
    with arrivals.coming():
        begun = time.monotonic()
        arrivals.wait()
        assert time.monotonic() - begun >= LONGEST_S


def test_who_is_refused_is_not_waited_for() -> None:
    arrivals = Arrivals()
    try:
        with arrivals.coming():
            raise ValueError
    except ValueError:
        pass
    begun = time.monotonic()
    for _ in range(100):
        arrivals.wait()
    assert time.monotonic() - begun < 100 * GAP_S
