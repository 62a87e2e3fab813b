"""Vectors of an index's passages, in single precision, and those that are nearest to the vector of a question."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from llmctl.retrieval.text_index import TextIndex, whole

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[np.float32]]

FLOAT = "<f4"
FLOAT_BYTES = 4
BLOCK_BYTES = 8 << 20  # of vectors are compared at once
LEAST_LENGTH = 1e-12
FEW = 8  # passages: a model may read them all

PENDING = (
    "NOT EXISTS (SELECT 1 FROM vectors WHERE vectors.file = passage.file"
    " AND passage.number >= first AND passage.number < first + vectors.number)"
)


class PendingPassage(Struct, frozen=True):
    """A passage without a vector: the ``number``-th of a file, from 0."""

    file: int
    number: int
    text: str


class VectorMatch(Struct, frozen=True):
    """``similarity`` is the cosine of both vectors."""

    passage: int
    similarity: float


class Nearest(Struct, frozen=True):
    """The best first. A similarity below ``usual`` may be chance."""

    matches: tuple[VectorMatch, ...]
    usual: float


def pending_characters(index: TextIndex) -> int:
    """How much text has no vector yet."""
    return whole(index.rows(f"SELECT coalesce(sum(length(text)), 0) FROM passage WHERE {PENDING}")[0][0])  # noqa: S608


def pending(index: TextIndex, most: int) -> Iterator[list[PendingPassage]]:
    """The passages without a vector, ``most`` at once; those that get none meanwhile don't come again."""
    file = number = -1
    while True:
        rows = index.rows(
            f"SELECT file, number, text FROM passage WHERE (file, number) > (?, ?) AND {PENDING}"  # noqa: S608
            " ORDER BY file, number LIMIT ?",
            *(file, number, most),
        )
        if not rows:
            return
        batch = [PendingPassage(whole(row[0]), whole(row[1]), str(row[2])) for row in rows]
        yield batch
        file, number = batch[-1].file, batch[-1].number


def add(index: TextIndex, passages: Sequence[PendingPassage], vectors: Sequence[bytes]) -> None:
    """Each of ``passages`` has the vector at the same place of ``vectors``, all of one length; kept with a length of 1,
    so that a search has less to compute."""
    import numpy as np

    matrix = _normal(np.frombuffer(b"".join(vectors), FLOAT).reshape(len(vectors), -1))
    rows = zip(passages, (row.tobytes() for row in matrix), strict=True)
    for _, run in groupby(enumerate(rows), key=lambda row: (row[1][0].file, row[1][0].number - row[0])):
        pairs = [pair for _, pair in run]
        first = pairs[0][0]
        index.write(
            "INSERT INTO vectors(file, first, number, vectors) VALUES (?, ?, ?, ?)",
            *(first.file, first.number, len(pairs), b"".join(vector for _, vector in pairs)),
        )


def forget(index: TextIndex) -> None:
    index.write("DELETE FROM vectors")


def nearest(index: TextIndex, question: bytes, most: int) -> Nearest:
    """The ``most`` passages that are nearest to ``question``. Vectors of another length are left out."""
    import numpy as np

    width = len(question) // FLOAT_BYTES
    asked = _normal(np.frombuffer(question, FLOAT).reshape(1, width))[0]
    best: list[tuple[float, int, int]] = []
    number, total, squares = 0, 0.0, 0.0
    for places, matrix in _blocks(index, width):
        scores = matrix @ asked
        highest = np.argpartition(-scores, min(most, len(scores)) - 1)[:most]
        near = [(float(scores[at]), *_place(places, int(at))) for at in highest]
        best = sorted([*best, *near], reverse=True)[:most]
        number, total, squares = number + len(scores), total + float(scores.sum()), squares + float(scores @ scores)
    matches = ((_passage(index, file, number), score) for score, file, number in best)
    return Nearest(
        tuple(VectorMatch(passage, score) for passage, score in matches if passage is not None),
        _usual(number, total, squares),
    )


def _usual(number: int, total: float, squares: float) -> float:
    """The highest of so many similarities that chance gives, where they are spread as these are. Of a few that can't
    be told."""
    if number <= FEW:
        return -1.0
    mean = total / number
    deviation = math.sqrt(max(squares / number - mean * mean, 0.0))
    return mean + deviation * math.sqrt(2 * math.log(number))


Places = list[tuple[int, int, int]]
"""For each row of the index in a block: its file, the number of its first passage, where it begins in the block."""


def _blocks(index: TextIndex, width: int) -> Iterator[tuple[Places, Matrix]]:
    import numpy as np

    places: Places = []
    blobs: list[bytes] = []
    begins = 0
    for file, first, number, vectors in index.each("SELECT file, first, number, vectors FROM vectors"):
        assert isinstance(vectors, bytes)
        if len(vectors) != whole(number) * width * FLOAT_BYTES:
            continue
        places.append((whole(file), whole(first), begins))
        blobs.append(vectors)
        begins += whole(number)
        if begins * width * FLOAT_BYTES >= BLOCK_BYTES:
            yield places, np.frombuffer(b"".join(blobs), FLOAT).reshape(-1, width)
            places, blobs, begins = [], [], 0
    if blobs:
        yield places, np.frombuffer(b"".join(blobs), FLOAT).reshape(-1, width)


def _normal(matrix: Matrix) -> Matrix:
    """Each row with a length of 1; one that is none has only zeros."""
    import numpy as np

    sound = np.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.maximum(np.linalg.norm(sound, axis=1, keepdims=True), LEAST_LENGTH)
    made: Matrix = (sound / lengths).astype(np.float32)
    return made


def _place(places: Places, at: int) -> tuple[int, int]:
    from bisect import bisect_right

    file, first, begins = places[bisect_right(places, at, key=lambda place: place[2]) - 1]
    return file, first + at - begins


def _passage(index: TextIndex, file: int, number: int) -> int | None:
    rows = index.rows("SELECT id FROM passage WHERE file = ? AND number = ?", file, number)
    return whole(rows[0][0]) if rows else None
