"""Vectors of several passages in one row of the database, which is read as a whole: ids and vectors, one behind the
other."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmctl.retrieval.text_index import TextIndex

ID = "q"  # of the array module: 64 bits
ID_BYTES = 8
SMALL = 32  # vectors: blocks with fewer are joined, since many rows take long to read


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


def join_small(index: TextIndex, vector_bytes: int) -> None:
    """Makes one block of the small ones whose vectors have that size, as soon as it is no small one."""
    rows = index.rows(
        "SELECT id, passages, vectors FROM block"
        " WHERE length(passages) < ? AND length(vectors) * ? = length(passages) * ?",
        *(SMALL * ID_BYTES, ID_BYTES, vector_bytes),
    )
    joined_passages, joined_vectors = bytearray(), bytearray()
    for _, passages, vectors in rows:
        assert isinstance(passages, bytes) and isinstance(vectors, bytes)
        joined_passages += passages
        joined_vectors += vectors
    if len(joined_passages) < SMALL * ID_BYTES:
        return
    joined = index.write("INSERT INTO block(passages, vectors) VALUES (?, ?)", joined_passages, joined_vectors)
    for id, _, _ in rows:
        index.write("UPDATE passage SET block = ? WHERE block = ?", joined, id)
        index.write("DELETE FROM block WHERE id = ?", id)
