"""Which models of a gateway are ended for another one, which wait, and which can't be loaded at all. Pure.

What is loaded together fits together, by what was planned for each. A model that answers is never ended, nor is a
pinned one, nor one that was loaded less than ``least_stay_s`` ago: two models that are asked for in turn would else be
loaded again and again. So that neither waits for ever, a model that stands in the way of an older request takes no new
ones once it has stayed for that long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from llmctl import units
from llmctl.errors import NothingFitsError

LEAST_STAY_S = 20.0
Memory = Mapping[str, int]
"""Bytes by device, as a plan names them."""


class Held(Struct, frozen=True):
    """A model that is loaded, or loads, and the memory that is planned for it. Times are of one monotonic clock:
    ``loaded_s`` when it began to load, ``used_s`` when it was used last. ``is_busy``: it answers, or loads."""

    name: str
    memory: Memory
    loaded_s: float
    used_s: float
    is_busy: bool = False
    is_pinned: bool = False


class LoadNow(Struct, frozen=True):
    """It can be loaded once ``ending`` have ended."""

    ending: tuple[str, ...] = ()


class WaitForRoom(Struct, frozen=True):
    """There will be room when those that are ``behind`` end; ``for_s`` is how long the first of them stays at least,
    None where it is the end of a request that is waited for."""

    behind: tuple[str, ...]
    for_s: float | None = None


class NoRoom(Struct, frozen=True):
    """Never beside what is pinned. ``needs_bytes`` and ``has_bytes`` are of the ``device`` that is too small."""

    device: str
    needs_bytes: int
    has_bytes: int


Decision = LoadNow | WaitForRoom | NoRoom


def decide(
    needs: Memory, held: Sequence[Held], budget: Memory, *, now_s: float, least_stay_s: float = LEAST_STAY_S
) -> Decision:
    """What has to happen before a model that ``needs`` so much memory is loaded beside those that are ``held``, in a
    ``budget`` for all of them. A device without a budget is not counted."""
    pinned = [model for model in held if model.is_pinned]
    short = _short(needs, pinned, budget)
    if short is not None:
        return short
    ready = [model for model in held if not model.is_pinned and not model.is_busy]
    idle = [model for model in ready if now_s - model.loaded_s >= least_stay_s]
    ending = _least_used(needs, held, idle, budget)
    if ending is not None:
        return LoadNow(tuple(model.name for model in ending))
    young = _least_used(needs, held, ready, budget)
    if young is not None:
        return WaitForRoom(_names(young), max(0.0, max(least_stay_s - now_s + model.loaded_s for model in young)))
    others = _least_used(needs, held, [model for model in held if not model.is_pinned], budget) or []
    return WaitForRoom(_names(others))


def must_give_way(model: Held, behind: Sequence[str], *, now_s: float, least_stay_s: float = LEAST_STAY_S) -> bool:
    """Whether a loaded model takes no new requests: an older request for another model waits ``behind`` it, and it has
    stayed long enough."""
    return model.name in behind and not model.is_pinned and now_s - model.loaded_s >= least_stay_s


def _least_used(needs: Memory, held: Sequence[Held], may_end: Sequence[Held], budget: Memory) -> list[Held] | None:
    """The fewest of ``may_end``, the one that was used least recently first, without which there is room; None where
    all of them are too little."""
    ending: list[Held] = []
    for model in sorted(may_end, key=lambda model: model.used_s):
        if _has_room(needs, held, ending, budget):
            break
        ending.append(model)
    if not _has_room(needs, held, ending, budget):
        return None
    for model in list(ending):
        without = [other for other in ending if other is not model]
        if _has_room(needs, held, without, budget):
            ending = without
    return ending


def _has_room(needs: Memory, held: Sequence[Held], ending: Sequence[Held], budget: Memory) -> bool:
    return _short(needs, [model for model in held if model not in ending], budget) is None


def _short(needs: Memory, beside: Sequence[Held], budget: Memory) -> NoRoom | None:
    """The device that is too small for it beside those; None where there is none."""
    for device, most in budget.items():
        has = most - sum(model.memory.get(device, 0) for model in beside)
        if needs.get(device, 0) > has:
            return NoRoom(device, needs.get(device, 0), max(0, has))
    return None


def _names(models: Sequence[Held]) -> tuple[str, ...]:
    return tuple(model.name for model in models)


def no_room(name: str, room: NoRoom) -> NothingFitsError:
    needs, has = units.size(room.needs_bytes), units.size(room.has_bytes)
    return NothingFitsError(
        f"{name} needs {needs} of {room.device}, and {has} are left beside the models that are pinned",
        hint="llmctl serve --help   with fewer --pin",
    )
