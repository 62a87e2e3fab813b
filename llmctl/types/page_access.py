"""How a person gets at the page of a gateway."""

from __future__ import annotations

from enum import StrEnum


class PageAccess(StrEnum):
    """By nothing, by typing a token, by the link of ``llmctl web``."""

    NONE = "none"
    TOKEN = "token"  # noqa: S105
    LINK = "link"
