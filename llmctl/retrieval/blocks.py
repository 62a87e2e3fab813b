"""Vectors of several passages in one row of the database, which is read as a whole: ids and vectors, one behind the
other."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmctl.retrieval.text_index import TextIndex

ID = "q"  # of the array module: 64 bits


def leave_out(index: TextIndex, file: int) -> None:
    """Removes the vectors of a file's passages from their blocks."""
    rows = index.rows("SELECT block, id FROM passage WHERE file = ? AND block IS NOT NULL", file)
    gone = {row[1] for row in rows}
    for block in {row[0] for row in rows}:
        ((passages, vectors),) = index.rows("SELECT passages, vectors FROM block WHERE id = ?", block)
        assert isinstance(passages, bytes) and isinstance(vectors, bytes)
        ids = array(ID, passages)
        size = len(vectors) // len(ids)
        kept = [at for at, id in enumerate(ids) if id not in gone]
        if kept:
            rest = b"".join(vectors[at * size : (at + 1) * size] for at in kept)
            left = array(ID, (ids[at] for at in kept)).tobytes()
            index.write("UPDATE block SET passages = ?, vectors = ? WHERE id = ?", left, rest, block)
        else:
            index.write("DELETE FROM block WHERE id = ?", block)
