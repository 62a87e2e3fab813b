"""When what would run here is worse than the user's own limits allow, so that a server answers instead: pure."""

from __future__ import annotations

from msgspec import Struct

from llmctl import units
from llmctl.types.endpoint import LeaveReason
from llmctl.types.plan import Fit


class WaitLimits(Struct, frozen=True):
    """How long the user waits for this machine, where a server may answer; None is no limit. ``counts_load``: an engine
    is loaded for each prompt, and that is waited for as well."""

    first_token_s: float | None = None
    download_bytes: int | None = None
    counts_load: bool = True


NO_LIMITS = WaitLimits()


def first_token_s(fit: Fit, limits: WaitLimits) -> float:
    """Seconds until the first word of an answer by ``fit``."""
    return fit.speed.first_token_s + ((fit.speed.load_s or 0.0) if limits.counts_load else 0.0)


def leaves(fit: Fit, limits: WaitLimits, *, fetched: Fit | None = None) -> tuple[LeaveReason, str] | None:
    """The reason, with its figures, for which a server answers instead of ``fit``; None if this machine does.
    ``fetched`` is what is to answer here once it is fetched, where the user lets a server answer meanwhile."""
    model, size = _label(fit), fit.download_bytes
    if fit.candidate.path is None and limits.download_bytes is not None and size > limits.download_bytes:
        most = units.size(limits.download_bytes)
        return LeaveReason.LIMIT_MISSED, f"{model} is a download of {units.size(size)}, your limit is {most}"
    if limits.first_token_s is not None and (waits_s := first_token_s(fit, limits)) > limits.first_token_s:
        waits, most = units.seconds(waits_s), units.seconds(limits.first_token_s)
        return LeaveReason.LIMIT_MISSED, f"{model} would write its first token after {waits}, your limit is {most}"
    if fetched is not None:
        return (
            LeaveReason.DOWNLOADING,
            f"{_label(fetched)} has to be fetched first ({units.size(fetched.download_bytes)})",
        )
    return None


def _label(fit: Fit) -> str:
    return f"{fit.candidate.model.id} {fit.candidate.artifact.quant}"
