"""Passages that have the words of a question, the best first, by the index's own ranking (BM25)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from llmctl.retrieval.text_index import TextIndex, whole
from llmctl.retrieval.words import quoted, stem, words_of

NAME_WEIGHT = 1.5  # of a word in the file's name, beside one in its text
MOST_WEIGHT = 2.2  # of a word that a passage has again and again: BM25's k1 + 1
COMMON_SHARE = 0.2  # a word in more of many passages than that says little where others are rarer, and takes time
MANY_PASSAGES = 1000
LEAST_IDF = 1e-6  # as SQLite has it
FORMS = 40  # of one word that are counted


class WordMatch(Struct, frozen=True):
    """``score`` is the share, 0 to 1, of what the best passage that there could be would have."""

    passage: int
    score: float


def best_by_words(index: TextIndex, question: str, most: int) -> list[WordMatch]:
    """The ``most`` passages that have the question's words best. Words that most passages have are left out."""
    words = words_of(question)
    passages = _count(index)
    if not words or not passages:
        return []
    found_in = {word: _passages_with(index, word) for word in words}
    telling = _telling(found_in, passages)
    searched = [word for word in telling if found_in[word]]
    if not searched:
        return []
    best = MOST_WEIGHT * sum(_idf(found_in[word], passages) for word in telling)
    rows = index.rows(
        f"SELECT rowid, bm25(words, {NAME_WEIGHT}, 1.0) AS rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?",  # noqa: S608
        _query(searched),
        most,
    )
    return [WordMatch(whole(id), min(1.0, -float(str(rank)) / best)) for id, rank in rows]


def _query(words: Sequence[str]) -> str:
    """For passages that have one of ``words``, or a form of it. A word is quoted: no part of it is syntax."""
    return " OR ".join(quoted(word) if (beginning := stem(word)) is None else f"{quoted(beginning)}*" for word in words)


def _count(index: TextIndex) -> int:
    return whole(index.rows("SELECT count(*) FROM passage")[0][0])


def _passages_with(index: TextIndex, word: str) -> int:
    """How many passages have the word or a form of it, at most: one with several forms is counted several times."""
    beginning = stem(word)
    if beginning is None:
        rows = index.rows("SELECT doc FROM vocabulary WHERE term = ?", word)
    else:
        rows = index.rows(
            "SELECT doc FROM vocabulary WHERE term >= ? AND term < ? LIMIT ?",
            *(beginning, f"{beginning}\U0010ffff", FORMS),
        )
    return sum(whole(row[0]) for row in rows)


def _telling(found_in: Mapping[str, int], passages: int) -> list[str]:
    """The words that tell passages apart; all where none does."""
    most = COMMON_SHARE * passages if passages > MANY_PASSAGES else passages
    telling = [word for word, number in found_in.items() if number <= most]
    return telling or list(found_in)


def _idf(number: int, passages: int) -> float:
    return max(LEAST_IDF, math.log((passages - number + 0.5) / (number + 0.5))) if number < passages else LEAST_IDF
