"""Words of a person, as the full-text index has them: never its query syntax."""

from __future__ import annotations

import re
import unicodedata

from llmctl.retrieval.function_words import FUNCTION_WORDS

WORD = re.compile(r"\w+")
# Scripts without blanks between words: the index has each of their characters as a word.
ALONE = re.compile(
    "([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0002fa1f\u0e00-\u0e7f])"
)
MOST_WORDS = 64  # of a question; what comes after them says no more
STEM_FROM = 5  # characters: of longer words the beginning is enough, so that "plums" finds "plum"
ENDING = 2


def separated(text: str) -> str:
    """``text`` with blanks around characters that are words by themselves."""
    return ALONE.sub(r" \1 ", text)


def words_of(question: str) -> tuple[str, ...]:
    """The different words of ``question`` in their order, as the index compares them: small, without accents. Those
    that only hold a sentence together are left out, unless there are no others."""
    words = dict.fromkeys(_folded(word) for word in WORD.findall(separated(question)))
    telling = tuple(word for word in words if word and word not in FUNCTION_WORDS)
    return (telling or tuple(filter(None, words)))[:MOST_WORDS]


def _folded(word: str) -> str:
    decomposed = unicodedata.normalize("NFD", word.lower())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def stem(word: str) -> str | None:
    """The beginning that other forms of ``word`` have as well; None for a word that is too short to have one."""
    return word[:-ENDING] if len(word) > STEM_FROM and word.isalpha() else None


def quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'
