"""Several rankings as one: reciprocal-rank fusion."""

from __future__ import annotations

from collections.abc import Sequence

DEPTH = 60  # the usual constant: how much a first place is worth beside a second one


def fused(*rankings: Sequence[int]) -> dict[int, float]:
    """What is in ``rankings``, the best first, each with its score: 1 for what is the first of all of them."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for place, item in enumerate(ranking):
            scores[item] = scores.get(item, 0.0) + (DEPTH + 1) / (DEPTH + 1 + place) / len(rankings)
    return dict(sorted(scores.items(), key=lambda scored: -scored[1]))
