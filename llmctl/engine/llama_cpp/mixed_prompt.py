"""A prompt with pictures in it: which of its tokens are a picture's, and which positions they take.

In the list of tokens each token of a picture is a negative number that follows from the picture's bytes. So a prompt is
told from another, and its beginning found again, as if it were text alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from llmctl.engine.llama_cpp.context import Context


class Encoded(Protocol):
    """A picture, or a part of one, as its projector has made it: rows that stand in the place of tokens."""

    @property
    def rows(self) -> int: ...

    @property
    def positions(self) -> int:
        """How many positions of the text the rows take."""

    def compute(self, context: Context, position: int, sequence: int) -> None:
        """Computes all rows, behind what ``sequence`` holds. Raises DecodeError."""


@dataclass(frozen=True)
class PictureRows:
    """The tokens of a prompt from ``begin`` to ``end`` are those of a picture."""

    begin: int
    encoded: Encoded

    @property
    def end(self) -> int:
        return self.begin + self.encoded.rows


@dataclass(frozen=True)
class PromptPictures:
    """Where the pictures of a prompt are, in their order."""

    all: tuple[PictureRows, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.all)

    def at(self, held: int) -> PictureRows | None:
        """The picture that is to be computed behind the first ``held`` tokens."""
        return next((rows for rows in self.all if rows.begin == held), None)

    def text_until(self, held: int, end: int) -> int:
        """Where the text ends that begins behind the first ``held`` tokens: before a picture, or at ``end``."""
        return min([end, *(rows.begin for rows in self.all if rows.begin >= held)])

    def without_part(self, held: int) -> int:
        """``held``, or fewer, so that no picture is held in part."""
        return next((rows.begin for rows in self.all if rows.begin < held < rows.end), held)

    def position(self, index: int) -> int:
        """Of the token at ``index``."""
        return index - sum(rows.encoded.rows - rows.encoded.positions for rows in self.all if rows.end <= index)


NO_PICTURES = PromptPictures()


def picture_tokens(data: bytes, part: int, rows: int) -> Sequence[int]:
    """What stands in the list of tokens for the rows of a part of a picture."""
    digest = hashlib.sha256(data).digest()
    first = int.from_bytes(hashlib.sha256(digest + part.to_bytes(8, "big")).digest()[:7], "big")
    return [-1 - first - at for at in range(rows)]
