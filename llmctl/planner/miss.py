"""A candidate that can't be chosen, and by how far it misses."""

from __future__ import annotations

from msgspec import Struct

from llmctl.types.model import Candidate
from llmctl.types.plan import Rejected, RejectionCode


class Miss(Struct, frozen=True):
    """A candidate that can't be chosen. ``gap`` is how far it misses, as a share of what there is or was asked for;
    ``device``: the one whose memory is short."""

    candidate: Candidate
    rejected: Rejected
    gap: float
    device: str | None = None


def miss(
    candidate: Candidate,
    code: RejectionCode,
    reason: str,
    gap: float,
    short_by_bytes: int | None = None,
    device: str | None = None,
) -> Miss:
    model, quant = candidate.model, candidate.artifact.quant
    return Miss(candidate, Rejected(model.id, quant, code, reason, short_by_bytes, model.name), gap, device)
