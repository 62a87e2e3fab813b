"""Vectors of an index's passages, in single precision, and those that are nearest to the vector of a question."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from llmctl.retrieval import blocks
from llmctl.retrieval.text_index import TextIndex, whole

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[np.float32]]

FLOAT = "<f4"
FLOAT_BYTES = 4
BLOCK_BYTES = 1 << 20  # of vectors are compared at once: what a processor's cache holds
LEAST_LENGTH = 1e-12
FEW = 8  # passages: a model may read them all


class PendingPassage(Struct, frozen=True):
    """A passage without a vector."""

    id: int
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
    return whole(index.rows("SELECT coalesce(sum(length(text)), 0) FROM passage WHERE block IS NULL")[0][0])


def pending(index: TextIndex, most: int) -> Iterator[list[PendingPassage]]:
    """The passages without a vector, ``most`` at once; those that get none meanwhile don't come again."""
    last = -1
    while rows := index.rows(
        "SELECT id, text FROM passage WHERE id > ? AND block IS NULL ORDER BY id LIMIT ?", last, most
    ):
        batch = [PendingPassage(whole(id), str(text)) for id, text in rows]
        yield batch
        last = batch[-1].id


def add(index: TextIndex, passages: Sequence[PendingPassage], vectors: Sequence[bytes]) -> None:
    """Each of ``passages`` has the vector at the same place of ``vectors``, all of one length; kept with a length of 1,
    so that a search has less to compute."""
    import numpy as np

    matrix = _normal(np.frombuffer(b"".join(vectors), FLOAT).reshape(len(passages), -1))
    ids = array(blocks.ID, (passage.id for passage in passages)).tobytes()
    block = index.write("INSERT INTO block(passages, vectors) VALUES (?, ?)", ids, matrix.tobytes())
    for passage in passages:
        index.write("UPDATE passage SET block = ? WHERE id = ?", block, passage.id)


def forget(index: TextIndex) -> None:
    index.write("UPDATE passage SET block = NULL")
    index.write("DELETE FROM block")


def nearest(index: TextIndex, question: bytes, most: int) -> Nearest:
    """The ``most`` passages that are nearest to ``question``. Vectors of another length are left out."""
    import numpy as np

    width = len(question) // FLOAT_BYTES
    asked = _normal(np.frombuffer(question, FLOAT).reshape(1, width))[0]
    best: list[tuple[float, int]] = []
    number, total, squares = 0, 0.0, 0.0
    for passages, matrix in _blocks(index, width):
        scores = matrix @ asked
        highest = np.argpartition(-scores, min(most, len(scores)) - 1)[:most]
        best = sorted([*best, *((float(scores[at]), passages[at]) for at in highest)], reverse=True)[:most]
        number, total, squares = number + len(scores), total + float(scores.sum()), squares + float(scores @ scores)
    return Nearest(tuple(VectorMatch(passage, score) for score, passage in best), _usual(number, total, squares))


def _usual(number: int, total: float, squares: float) -> float:
    """The highest of so many similarities that chance gives, where they are spread as these are. Of a few that can't
    be told."""
    if number <= FEW:
        return -1.0
    mean = total / number
    deviation = math.sqrt(max(squares / number - mean * mean, 0.0))
    return mean + deviation * math.sqrt(2 * math.log(number))


def _blocks(index: TextIndex, width: int) -> Iterator[tuple[array[int], Matrix]]:
    """The ids of passages and their vectors, as many blocks of the index at once as BLOCK_BYTES hold."""
    import numpy as np

    ids, read = array(blocks.ID), bytearray()
    for passages, vectors in index.each("SELECT passages, vectors FROM block"):
        assert isinstance(passages, bytes) and isinstance(vectors, bytes)
        of_block = array(blocks.ID, passages)
        if len(vectors) != len(of_block) * width * FLOAT_BYTES:
            continue
        ids += of_block
        read += vectors
        if len(read) >= BLOCK_BYTES:
            yield ids, np.frombuffer(read, FLOAT).reshape(-1, width)
            ids, read = array(blocks.ID), bytearray()
    if ids:
        yield ids, np.frombuffer(read, FLOAT).reshape(-1, width)


def _normal(matrix: Matrix) -> Matrix:
    """Each row with a length of 1; one that is none has only zeros."""
    import numpy as np

    sound = np.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.maximum(np.linalg.norm(sound, axis=1, keepdims=True), LEAST_LENGTH)
    made: Matrix = (sound / lengths).astype(np.float32)
    return made
