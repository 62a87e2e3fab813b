"""For which reasons a prompt may not leave, although the policy would let it: a pure function of who decided what."""

from __future__ import annotations

from llmctl.settings import Project
from llmctl.types.endpoint import LOCAL_FAILURES, Barred, LeaveReason
from llmctl.types.plan import Fit, NoFit


def barred(
    planned: Fit | NoFit,
    *,
    named: str | None = None,
    context: int | None = None,
    project: Project | None = None,
    own: Fit | NoFit | None = None,
) -> Barred:
    """The barred reasons with the words why, to go on from what failed.

    ``named`` is where a model is named, if one is: it answers or nothing does. ``context`` is what ``--context`` asks
    for. ``project`` is what a project file decides, ``own`` what would run without it (None where that fails): unless
    the user's own settings lead to the same, nothing leaves.
    """
    if named is not None:
        return dict.fromkeys(LOCAL_FAILURES, f"{named} names what is to answer")
    if project is not None and not _leads_there(own, planned):
        return dict.fromkeys(LOCAL_FAILURES, str(project))
    if context is not None:
        return {LeaveReason.PROMPT_TOO_LONG: f"--context {context} is what was asked for"}
    return {}


def _leads_there(own: Fit | NoFit | None, planned: Fit | NoFit) -> bool:
    """Whether the user's own settings give the same run here, or none at all."""
    if not isinstance(own, Fit):
        return own is not None
    same = isinstance(planned, Fit) and planned.candidate.artifact.source == own.candidate.artifact.source
    return same and isinstance(planned, Fit) and planned.configuration == own.configuration
