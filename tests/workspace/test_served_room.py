"""Which models of a gateway end for another: a table of states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.workspace.served_room import Decision, Held, LoadNow, NoRoom, WaitForRoom, decide, must_give_way

NOW_S, STAY_S = 1000.0, 20.0
BUDGET = {"cpu": 100, "CUDA0": 50}


def held(name: str, cpu: int, *, device: int = 0, loaded_s: float = 0.0, used_s: float = 0.0, **state: bool) -> Held:
    return Held(name, {"cpu": cpu, "CUDA0": device}, loaded_s, used_s, **state)


@pytest.mark.parametrize(
    ("needs", "models", "decision"),
    [
        pytest.param({"cpu": 100}, [], LoadNow(), id="alone"),
        pytest.param({"cpu": 40}, [held("a", 60)], LoadNow(), id="beside another"),
        pytest.param({"cpu": 41}, [held("a", 60)], LoadNow(("a",)), id="an idle one ends"),
        pytest.param(
            {"cpu": 41},
            [held("a", 30, used_s=9), held("b", 30, used_s=3)],
            LoadNow(("b",)),
            id="the least recently used",
        ),
        pytest.param(
            {"cpu": 55},
            [held("small", 5, used_s=1), held("large", 50, used_s=2), held("new", 40, used_s=3)],
            LoadNow(("large",)),
            id="one that frees too little stays",
        ),
        pytest.param(
            {"cpu": 90}, [held("a", 30, used_s=9), held("b", 30, used_s=3)], LoadNow(("b", "a")), id="both have to end"
        ),
        pytest.param({"cpu": 41}, [held("a", 60, is_busy=True)], WaitForRoom(("a",)), id="a busy one never ends"),
        pytest.param(
            {"cpu": 41},
            [held("a", 50, is_busy=True, used_s=1), held("b", 50, used_s=2)],
            LoadNow(("b",)),
            id="an idle one rather than a busy one",
        ),
        pytest.param({"cpu": 41}, [held("a", 60, is_pinned=True)], NoRoom("cpu", 41, 40), id="a pinned one never ends"),
        pytest.param({"cpu": 101}, [], NoRoom("cpu", 101, 100), id="more than there is"),
        pytest.param(
            {"cpu": 41}, [held("a", 60, loaded_s=NOW_S - 5)], WaitForRoom(("a",), 15.0), id="it was loaded just now"
        ),
        pytest.param(
            {"cpu": 10, "CUDA0": 30},
            [held("a", 50, used_s=1), held("b", 5, device=40, used_s=2)],
            LoadNow(("b",)),
            id="only what holds the memory that is short",
        ),
        pytest.param({"cpu": 10, "CUDA0": 51}, [], NoRoom("CUDA0", 51, 50), id="a card that is too small"),
        pytest.param({"cpu": 10, "other": 99}, [], LoadNow(), id="a device that is not counted"),
    ],
)
def test_what_is_decided(needs: dict[str, int], models: list[Held], decision: Decision) -> None:
    assert decide(needs, models, BUDGET, now_s=NOW_S, least_stay_s=STAY_S) == decision


@pytest.mark.parametrize(
    ("model", "behind", "gives_way"),
    [
        (held("a", 1), ("a",), True),
        (held("a", 1), ("b",), False),
        (held("a", 1, is_pinned=True), ("a",), False),
        (held("a", 1, loaded_s=NOW_S - 5), ("a",), False),
    ],
)
def test_what_gives_way_to_an_older_request(model: Held, behind: tuple[str, ...], gives_way: bool) -> None:
    assert must_give_way(model, behind, now_s=NOW_S, least_stay_s=STAY_S) is gives_way


MODELS = st.lists(
    st.builds(
        held,
        st.uuids().map(str),
        st.integers(0, 60),
        device=st.integers(0, 40),
        loaded_s=st.floats(0, NOW_S),
        used_s=st.floats(0, NOW_S),
        is_busy=st.booleans(),
        is_pinned=st.booleans(),
    ),
    max_size=6,
)


@given(st.integers(0, 120), st.integers(0, 60), MODELS)
def test_what_is_loaded_fits_and_nobody_is_cut_off(cpu: int, device: int, models: list[Held]) -> None:
    needs = {"cpu": cpu, "CUDA0": device}
    decision = decide(needs, models, BUDGET, now_s=NOW_S, least_stay_s=STAY_S)
    if not isinstance(decision, LoadNow):
        return
    ended = [model for model in models if model.name in decision.ending]
    assert not any(model.is_busy or model.is_pinned or NOW_S - model.loaded_s < STAY_S for model in ended)
    left = [model for model in models if model not in ended]
    for name, most in BUDGET.items():
        assert needs[name] + sum(model.memory[name] for model in left) <= most
