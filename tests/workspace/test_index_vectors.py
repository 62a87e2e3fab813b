"""Vectors of an index: by a tiny encoder and the real engine, and by a server of the user's after a yes."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmctl import paths
from llmctl.retrieval import vectors
from llmctl.retrieval.folder import FolderFile
from llmctl.retrieval.passages import Passage
from llmctl.retrieval.text_index import TextIndex, whole
from llmctl.workspace import indexes, receipts
from tests.fakes.chat_server import ChatServer, Handler
from tests.fakes.command import at_a_terminal
from tests.fakes.encoder import RANK, write_encoder
from tests.workspace.test_index import RENT, notes, ran  # noqa: F401  # a fixture

QUESTION = ("what", "was", "paid")


def floats(*numbers: float) -> bytes:
    return array("f", numbers).tobytes()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[TextIndex]:
    with TextIndex.make(tmp_path / "a.sqlite") as made:
        with made.transaction():
            for name in ("a", "b"):
                passages = [Passage(number, number, f"{name}{number}") for number in range(1, 4)]
                made.add(FolderFile(name, 1, 1), name.encode(), passages)
        yield made


def test_what_is_pending_comes_in_batches_and_goes_on_where_it_was(index: TextIndex) -> None:
    batches = vectors.pending(index, 4)
    first = next(batches)
    assert [passage.text for passage in first] == ["a1", "a2", "a3", "b1"]
    vectors.add(index, first, [floats(1, 0)] * 4)
    assert index.size().with_vector == 4 and vectors.pending_characters(index) == 4
    (second,) = vectors.pending(index, 4)
    assert [passage.text for passage in second] == ["b2", "b3"]
    index.remove(index.files()["a"])
    near = vectors.nearest(index, floats(1, 0), 9).matches
    assert index.size().with_vector == 1
    assert [passage.passage.text for passage in index.passages(match.passage for match in near)] == ["b1"]


def test_the_nearest_come_first_and_what_is_no_vector_of_this_kind_not_at_all(index: TextIndex) -> None:
    (batch,) = vectors.pending(index, 10)
    nan = float("nan")
    made = [floats(1, 0), floats(2, 2), floats(0, 1), floats(-1, 0), floats(nan, 1), floats(0, 0)]
    vectors.add(index, batch, made)
    near = vectors.nearest(index, floats(3, 0), 3).matches
    texts = [passage.passage.text for passage in index.passages(match.passage for match in near)]
    assert texts[:2] == ["a1", "a2"] and near[0].similarity == pytest.approx(1)
    assert near[1].similarity == pytest.approx(0.5**0.5)
    assert vectors.nearest(index, floats(1, 2, 3), 3).matches == ()


def texts_near(index: TextIndex, question: bytes) -> list[str]:
    near = vectors.nearest(index, question, 10).matches
    return [passage.passage.text for passage in index.passages(match.passage for match in near)]


def blocks_of(index: TextIndex) -> list[int]:
    """How many vectors each block has."""
    lengths = index.rows("SELECT length(vectors) FROM block ORDER BY id")
    return [whole(length) // len(floats(1, 0)) for (length,) in lengths]


def test_vectors_of_changed_and_removed_passages_leave_their_block(index: TextIndex) -> None:
    (batch,) = vectors.pending(index, 10)
    vectors.add(index, batch, [floats(1, at) for at in range(6)])
    index.remove(index.files()["b"])
    index.add(FolderFile("b", 2, 2), b"changed", [Passage(1, 1, "changed")])
    (changed,) = vectors.pending(index, 10)
    assert [passage.text for passage in changed] == ["changed"]
    assert changed[0].id == batch[3].id  # SQLite gives the id of what is gone again
    assert texts_near(index, floats(1, 0)) == ["a1", "a2", "a3"] and blocks_of(index) == [3]
    vectors.add(index, changed, [floats(9, 1)])
    assert texts_near(index, floats(1, 0)) == ["a1", "changed", "a2", "a3"] and blocks_of(index) == [3, 1]
    for file in index.files().values():
        index.remove(file)
    assert vectors.nearest(index, floats(1, 0), 10).matches == () and blocks_of(index) == []


def test_small_blocks_become_one(index: TextIndex) -> None:
    index.add(FolderFile("c", 1, 1), b"c", [Passage(at, at, str(at)) for at in range(34)])
    batches = vectors.pending(index, 15)
    for after in ([15], [15, 15], [40]):
        batch = next(batches)
        vectors.add(index, batch, [floats(passage.id, 1) for passage in batch])
        assert blocks_of(index) == after
    near = vectors.nearest(index, floats(1, 0), 2).matches
    assert [match.passage for match in near] == [40, 39] and index.size().with_vector == 40
    for file in index.files().values():
        index.remove(file)
    assert blocks_of(index) == []


def test_vectors_of_the_version_before_are_made_anew(tmp_path: Path, index: TextIndex) -> None:
    for statement in ("DROP TABLE block", "DROP INDEX passage_of_block", "ALTER TABLE passage DROP COLUMN block"):
        index.write(statement)
    index.write("CREATE TABLE vectors(file)")
    index.write("PRAGMA user_version = 1")
    with TextIndex.open(tmp_path / "a.sqlite") as upgraded:
        (batch,) = vectors.pending(upgraded, 10)
        vectors.add(upgraded, batch, [floats(1, 0)] * 6)
        assert upgraded.size().with_vector == 6


@pytest.mark.usefixtures("measured")
def test_vectors_by_a_model_of_this_machine(
    notes: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = write_encoder(tmp_path / "tiny.gguf")
    data = ran(capsys, "index", "add", str(notes), "-m", str(model))
    assert (data["with_vector"], data["embedder"]) == (2, str(model))
    found = ran(capsys, "search", "notes", *QUESTION)
    assert found["embedder"] == str(model) and len(found["results"]) == 2
    assert all(-1 <= hit["similarity"] <= 1 for hit in found["results"])
    assert ran(capsys, "search", "notes", "--words", "deposit")["embedder"] is None
    (notes / "new.txt").write_text("A letter.")
    assert len(ran(capsys, "search", "notes", *QUESTION)["results"]) == 3
    (row,) = ran(capsys, "index", "list")["indexes"]
    assert row["with_vector"] == 3
    with indexes.get("notes").opened() as opened:
        vectors.forget(opened)  # as an upgrade does
    hits = ran(capsys, "search", "notes", *QUESTION)["results"]
    assert len(hits) == 3 and all(hit["similarity"] is not None for hit in hits)
    model.unlink()
    found = ran(capsys, "search", "notes", "deposit")
    assert found["embedder"] is None and found["results"][0]["text"] == RENT
    assert ran(capsys, "index", "add", str(notes), "--no-vectors")["with_vector"] == 0


@pytest.mark.usefixtures("measured")
def test_a_reranker_orders_what_was_found(
    notes: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ranker = write_encoder(tmp_path / "ranker.gguf", pooling=RANK)
    hits = ran(capsys, "search", str(notes), "deposit", "Pflaumen", "--reranker", str(ranker))["results"]
    assert len(hits) == 2 and hits[0]["rank"] >= hits[1]["rank"]


def embeddings(handler: Handler) -> None:
    (received,) = [handler.server.received[-1]]  # type: ignore[attr-defined]
    texts = json.loads(received.body)["input"]
    rows = [{"index": at, "embedding": [len(text), 1.0]} for at, text in enumerate(texts)]
    body = json.dumps({"data": rows}).encode()
    handler.head(200, Content_Length=str(len(body)))
    handler.wfile.write(body)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(embeddings) as made:
        configure(made)
        yield made


def configure(server: ChatServer, lines: str = "") -> None:
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text(f'{lines}\n[endpoints.desk]\nurl = "{server.url}"\nmodel = "m"\n')


def test_a_server_makes_vectors_after_a_yes(
    notes: Path,  # noqa: F811
    server: ChatServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["index", "add", str(notes), "--endpoint", "desk", "--yes"]
    ran(capsys, *argv, code=11)
    code, _ = at_a_terminal(argv, "n")
    assert code == 11 and server.connections == 0
    code, seen = at_a_terminal(argv, "y")
    assert code == 0 and "2 files, 2 passages" in seen and len(server.requests) == 1
    (receipt,) = receipts.read().receipts
    assert receipt.bytes == len(server.requests[0].body) and RENT.encode() in server.requests[0].body
    assert ran(capsys, "search", "notes", *QUESTION)["embedder"] == "endpoint:desk"
    assert json.loads(server.requests[1].body)["input"] == [" ".join(QUESTION)]
    assert ran(capsys, "search", "notes", "--private", *QUESTION)["embedder"] is None
    assert len(server.requests) == 2


@pytest.mark.parametrize("lines", ['private_paths = ["{notes}"]', 'policy = "local-only"'])
def test_what_must_not_leave_gets_no_vectors_there(
    lines: str,
    notes: Path,  # noqa: F811
    server: ChatServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(server, lines.format(notes=notes))
    with_consent = indexes.made(notes, None)
    with with_consent.opened() as opened:
        opened.note(f"texts may leave to 127.0.0.1:{server.port}", "desk")
    ran(capsys, "index", "add", str(notes), "--endpoint", "desk", code=11)
    assert server.connections == 0
