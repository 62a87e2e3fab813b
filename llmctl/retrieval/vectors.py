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

    Ids = np.ndarray[Any, np.dtype[np.int64]]
    Floats = np.ndarray[Any, np.dtype[np.float32]]  # a vector, or a matrix of them

FLOAT = "<f4"
FLOAT_BYTES = 4
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
    blocks.join_small(index, matrix.shape[1] * FLOAT_BYTES)


def forget(index: TextIndex) -> None:
    index.write("UPDATE passage SET block = NULL")
    index.write("DELETE FROM block")


def nearest(index: TextIndex, question: bytes, most: int) -> Nearest:
    """The ``most`` passages that are nearest to ``question``. Vectors of another length are left out."""
    import numpy as np

    asked = _normal(np.frombuffer(question, FLOAT).reshape(1, -1))[0]
    compared = list(_compared(index, asked))
    if not compared:
        return Nearest((), usual=-1.0)
    passages = np.concatenate([ids for ids, _ in compared])
    scores = np.concatenate([similarities for _, similarities in compared])
    highest = np.argpartition(-scores, min(most, len(scores)) - 1)[:most]
    matches = (VectorMatch(int(passages[at]), float(scores[at])) for at in highest[np.argsort(-scores[highest])])
    return Nearest(tuple(matches), _usual(scores))


def _compared(index: TextIndex, asked: Floats) -> Iterator[tuple[Ids, Floats]]:
    """For each block of the index its passages and their similarities."""
    import numpy as np

    for passages, vectors in index.each("SELECT passages, vectors FROM block"):
        assert isinstance(passages, bytes) and isinstance(vectors, bytes)
        ids = np.frombuffer(passages, np.int64)
        if len(vectors) == len(ids) * len(asked) * FLOAT_BYTES:
            yield ids, np.frombuffer(vectors, FLOAT).reshape(len(ids), -1) @ asked


def _usual(scores: Floats) -> float:
    """The highest of so many similarities that chance gives, where they are spread as ``scores`` are. Of a few that
    can't be told."""
    if len(scores) <= FEW:
        return -1.0
    mean, deviation = scores.mean(dtype=float), scores.std(dtype=float)
    return float(mean + deviation * math.sqrt(2 * math.log(len(scores))))


def _normal(matrix: Floats) -> Floats:
    """Each row with a length of 1; one that is none has only zeros."""
    import numpy as np

    sound = np.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.maximum(np.linalg.norm(sound, axis=1, keepdims=True), LEAST_LENGTH)
    made: Floats = (sound / lengths).astype(np.float32)
    return made
