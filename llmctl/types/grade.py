"""How good a model is said to be, and on what grounds."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class GradeBasis(StrEnum):
    """Whose results an index is made of: the model's own, or those of other models of its family."""

    PUBLISHED = "published"
    RELATIVES = "relatives"


class Grade(Struct, frozen=True):
    """``index`` as ``planner.quality`` makes it, give or take ``spread``; ``lost`` index points that the file's
    quantization costs (taken off ``index`` if there are enough of them to tell). ``cautious``: the index is the low end
    of its range, as no result speaks of the task itself.

    ``results`` is how many published results it is made of, ``converted`` how many of these were had with thinking
    where the answer is without, or the reverse. ``relatives`` names the neighbours that bound an estimate.
    """

    index: float
    spread: float
    basis: GradeBasis
    results: int = 0
    converted: int = 0
    cautious: bool = False
    relatives: tuple[str, ...] = ()
    lost: float = 0.0
