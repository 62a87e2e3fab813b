"""What a text is in a search."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a text is in a search; a model may want to be told."""

    QUERY = "query"
    DOCUMENT = "document"
