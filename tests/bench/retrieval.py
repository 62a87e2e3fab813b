"""How well and how fast passages of own texts are found: by words, by vectors, by both.

    python tests/bench/retrieval.py [--embedder FILE.gguf] [--files 10000] [--kills 20]

First the questions of ``own_texts_corpus``: in how many the right file comes first, and is among three, by words, by
vectors and fused, for each language, and how many questions that nothing answers are taken for answered. Then so many
files: the time and size of the index, queries, memory, an update after one change. Then an update that is killed at
random moments: the index opens each time, and is right in the end. Without --embedder MiniLM is fetched (``minilm``),
which knows English alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from llmctl.retrieval import vectors
from llmctl.retrieval.by_words import best_by_words
from llmctl.retrieval.fusion import fused
from llmctl.retrieval.text_index import TextIndex
from llmctl.settings import load
from llmctl.types.listener import SilentListener
from llmctl.types.role import Role
from llmctl.workspace import embedder, index, index_vectors, indexes
from llmctl.workspace.embedder import EmbedderAsked
from llmctl.workspace.search import DEPTH, ENOUGH_WORDS
from tests.bench.minilm import write_minilm
from tests.bench.own_texts_corpus import FACTS, LANGUAGES, UNANSWERED, filler, write_corpus

ROOT = Path(__file__).parents[2]
Ranking = Callable[[str], list[str]]
"""A question -> files, the best first."""


def quality(folder: Path, model: Path) -> None:
    write_corpus(folder)
    named = index.add(folder)
    index.update(SilentListener(), named)
    settings, asked = load(), EmbedderAsked(str(model))
    made = index_vectors.add_vectors(SilentListener(), settings, named, asked)
    print(f"{made.passages} vectors in {made.seconds:.1f} s")
    with (
        named.opened() as opened,
        embedder.opened(SilentListener(), settings, asked, private=True) as makes,
    ):

        def by_words(question: str) -> list[int]:
            return [match.passage for match in best_by_words(opened, question, DEPTH)]

        def nearest(question: str) -> vectors.Nearest:
            (vector,) = makes.vectors([question], Role.QUERY)
            return vectors.nearest(opened, vector, DEPTH)

        def by_vectors(question: str) -> list[int]:
            return [match.passage for match in nearest(question).matches]

        def by_both(question: str) -> list[int]:
            return list(fused(by_words(question), by_vectors(question)))

        kinds = {"words": by_words, "vectors": by_vectors, "fused": by_both}
        print(f"{len(FACTS)} questions for each language: right file first, among three")
        for at, language in enumerate(LANGUAGES):
            rows = []
            for name, kind in kinds.items():
                ranks = [_rank(opened, kind(fact.questions[at]), f"{language}/{fact.name}.md") for fact in FACTS]
                rows.append(f"{name} {sum(rank < 1 for rank in ranks)} {sum(rank < 3 for rank in ranks)}")
            print(f"  {language}: " + ", ".join(rows))
        _thresholds(opened, nearest)


def _rank(opened: TextIndex, passages: Sequence[int], file: str) -> int:
    """The place of ``file`` among those that were found, from 0; far away where it is none of them."""
    files = list(dict.fromkeys(passage.file for passage in opened.passages(passages)))
    return files.index(file) if file in files else len(files) + 99


def _thresholds(opened: TextIndex, nearest: Callable[[str], vectors.Nearest]) -> None:
    """How many questions are taken for answered, by words and by vectors."""
    asked = [question for fact in FACTS for question in fact.questions]
    for name, questions in (("answered", asked), ("not answered", UNANSWERED)):
        words = [max((match.score for match in best_by_words(opened, each, 1)), default=0.0) for each in questions]
        near = [nearest(each) for each in questions]
        over = [max(match.similarity for match in each.matches) >= each.usual for each in near]
        print(
            f"  {name}: {len(questions)} questions, by words {sum(score >= ENOUGH_WORDS for score in words)} "
            f"(scores {min(words):.2f} to {max(words):.2f}), by vectors {sum(over)}"
        )


def scale(folder: Path, files: int) -> None:
    source = random.Random(2)
    for number in range(files):
        place = folder / f"{number % 100}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.md").write_text(filler(source, "en", 20) + f"\n\nfile{number} has the number {number}.")
    print(f"{files:,} files, {sum(file.stat().st_size for file in folder.rglob('*.md')) / 1e6:.0f} MB")
    took_s, memory = _child("add", str(folder))
    named = indexes.get(str(folder))
    size = named.file.stat().st_size
    print(f"  index: {took_s:.1f} s, {size / 1e6:.0f} MB, memory {memory / 1e6:.0f} MB")
    with named.opened() as opened:
        questions = [f"which number has file{source.randrange(files)} and the printer ink" for _ in range(50)]
        print(f"  query by words: {_median_ms(lambda each: best_by_words(opened, each, DEPTH), questions):.1f} ms")
    (folder / "7" / "7.md").write_text("Something else.")
    took_s, memory = _child("update", str(folder))
    print(f"  update after one changed file: {took_s:.2f} s, memory {memory / 1e6:.0f} MB")
    _vectors_at_scale(named)


def _vectors_at_scale(named: indexes.NamedIndex) -> None:
    """Queries over made-up vectors: what they hold doesn't count for time and memory."""
    import numpy as np

    random_numbers = np.random.default_rng(3)
    with named.opened() as opened, opened.transaction():
        for batch in vectors.pending(opened, 512):
            made = random_numbers.normal(size=(len(batch), 384)).astype(np.float32)
            vectors.add(opened, batch, [row.tobytes() for row in made])
    took_s, memory = _child("nearest", str(named.root))
    with named.opened() as opened:
        number = opened.size().with_vector
    print(f"  query by {number:,} vectors of 384: {took_s * 1000:.0f} ms, memory {memory / 1e6:.0f} MB")


def _median_ms(ask: Callable[[str], object], questions: Sequence[str]) -> float:
    took: list[float] = []
    for question in questions:
        begun = time.perf_counter()
        ask(question)
        took.append((time.perf_counter() - begun) * 1000)
    return median(took)


def _child(doing: str, folder: str) -> tuple[float, int]:
    """The seconds that it took in a process of its own, and the most memory that it had."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", doing, folder], check=True, capture_output=True, text=True
    )
    seconds, memory = json.loads(done.stdout)
    return float(seconds), int(memory)


def child(doing: str, folder: str) -> None:
    begun = time.perf_counter()
    if doing == "nearest":
        import numpy as np

        with indexes.get(folder).opened() as opened:
            question = np.ones(384, np.float32).tobytes()
            vectors.nearest(opened, question, DEPTH)
            begun = time.perf_counter()
            vectors.nearest(opened, question, DEPTH)
    else:
        named = index.add(Path(folder)) if doing == "add" else indexes.get(folder)
        index.update(SilentListener(), named)
    print(json.dumps([time.perf_counter() - begun, _most_memory()]))


def _most_memory() -> int:
    """Bytes since this program began: getrusage counts what the process was that it was forked from."""
    stated = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(stated.group(1)) * 1024 if stated else 0


def kills(folder: Path, times: int) -> None:
    source = random.Random(4)
    folder.mkdir()
    for number in range(2000):
        (folder / f"{number}.md").write_text(filler(source, "de", 20) + f"\n\nword{number}")
    for _ in range(times):
        process = subprocess.Popen([sys.executable, __file__, "--child", "add", str(folder)], stdout=subprocess.DEVNULL)
        time.sleep(source.uniform(0.2, 1.5))
        process.kill()
        process.wait()
        if (named := indexes.find(str(folder))) is not None:
            with named.opened() as opened:
                assert opened.rows("PRAGMA integrity_check") == [("ok",)]
        source.choice(list(folder.glob("*.md"))).write_text(f"word{source.randrange(2000)}")
    _child("add", str(folder))
    with indexes.get(str(folder)).opened() as opened:
        opened.write("INSERT INTO words(words) VALUES ('integrity-check')")
        assert opened.size().files == 2000
        orphans = opened.rows("SELECT count(*) FROM passage WHERE file NOT IN (SELECT id FROM file)")
        assert orphans == [(0,)]
        number = opened.size().passages
        words = opened.rows("SELECT count(*) FROM words")
        assert words == [(number,)]
    print(f"{times} kills: the index opened each time, and has its 2,000 files and {number:,} passages")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--embedder", type=Path)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--child", nargs=2)
    asked = parser.parse_args()
    if asked.child:
        child(*asked.child)
        return
    with tempfile.TemporaryDirectory() as place:
        os.environ.update({"XDG_DATA_HOME": f"{place}/data", "PYTHONPATH": str(ROOT)})
        model = asked.embedder or write_minilm(Path(place) / "minilm.gguf")
        quality(Path(place) / "texts", model)
        scale(Path(place) / "many", asked.files)
        kills(Path(place) / "killed", asked.kills)


if __name__ == "__main__":
    main()
