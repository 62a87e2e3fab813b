"""Finds models by a few words: of names, publishers, tasks, languages, licences."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from llmctl.near import likeness
from llmctl.types.model import Model

LANGUAGES = {
    "ar": "arabic", "bg": "bulgarian", "bn": "bengali", "ca": "catalan", "cs": "czech", "da": "danish",
    "de": "german", "el": "greek", "en": "english", "es": "spanish", "et": "estonian", "fa": "persian",
    "fi": "finnish", "fr": "french", "ga": "irish", "gl": "galician", "hi": "hindi", "hr": "croatian",
    "hu": "hungarian", "id": "indonesian", "it": "italian", "ja": "japanese", "ko": "korean", "lt": "lithuanian",
    "lv": "latvian", "ms": "malay", "mt": "maltese", "ne": "nepali", "nl": "dutch", "no": "norwegian",
    "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sk": "slovak", "sl": "slovenian",
    "sr": "serbian", "sv": "swedish", "th": "thai", "tl": "tagalog", "tr": "turkish", "uk": "ukrainian",
    "vi": "vietnamese", "zh": "chinese",
}  # fmt: skip
"""ISO 639-1 codes as the profiles have them, by their English names."""
OTHER_WORDS = {"coding": "code", "thinking": "reasoning", "moe": "mixture", "license": "licence"}
STEM = 5  # letters that two words must begin with in common to be forms of one
NEAR = 0.75
MOST_NEAR = 5
IN_NAME, IN_FACTS = 2, 1


def search(models: Iterable[Model], words: Sequence[str]) -> list[Model]:
    """The models that match every word; first those whose names match the most words, then the smaller ones.

    Case, accents and punctuation don't count ("qwen3 5", "Qwen35" and "qwen3.5" are one); a word may be part of a
    name, a form of a task ("translation"), a language in English or by its code, or a licence.
    """
    wanted = [folded for word in words for part in word.split() if (folded := fold(part))]
    scored = [(_score(model, wanted), model) for model in models] if wanted else []
    matching = [(score, model) for score, model in scored if score]
    matching.sort(key=lambda pair: (-pair[0], pair[1].parameters or 0, pair[1].id))
    return [model for _, model in matching]


def near(models: Sequence[Model], words: Sequence[str]) -> list[Model]:
    """Models with names, or parts of names, that are spelt almost like the words together or like one of them."""
    wanted = [fold("".join(words)), *(fold(word) for word in words)]
    scored = []
    for model in models:
        parts = [fold(model.publisher or ""), *map(fold, model.id.split("-"))]
        names = [fold(model.id), fold(model.name), *parts, *(part.rstrip("0123456789") for part in parts)]
        ratio = max(
            (likeness(word, name) for word in wanted for name in names if word and name),
            default=0.0,
        )
        scored.append((-ratio, model.parameters or 0, model.id, model))
    return [model for ratio, _, _, model in sorted(scored)[:MOST_NEAR] if -ratio >= NEAR]


def fold(text: str) -> str:
    """``text`` with letters and digits only, in lower case, without accents."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(char for char in plain if char.isalnum())


def _score(model: Model, wanted: Sequence[str]) -> int:
    """The sum of each word's points, by where it matches; 0 if a word matches nowhere."""
    name = [fold(model.id), fold(model.name)]
    base = [fold(text) for text in (model.publisher, model.base_model, model.distilled_from) if text]
    codes = {code.casefold() for code in model.languages}
    tags = [*model.tasks, *(LANGUAGES[code] for code in codes if code in LANGUAGES), *_kinds(model)]
    tags.append(fold(model.licence or ""))
    total = 0
    for word in wanted:
        if any(word in text for text in name):
            total += IN_NAME
        elif word in codes or any(word in text for text in base) or any(_form(word, tag) for tag in tags):
            total += IN_FACTS
        else:
            return 0
    return total


def _kinds(model: Model) -> list[str]:
    kinds = ["mixture" if model.shape.n_expert else "dense"]
    if model.shape.state_bytes:
        kinds.append("hybrid")
    if model.thinking:
        kinds.append("reasoning" if model.thinking != "never" else "")
    if model.distilled_from:
        kinds.append("distillation")
    return [kind for kind in kinds if kind]


def _form(word: str, tag: str) -> bool:
    """Whether two words are one in another form: "translation" and "translate", "embeddings" and "embed"."""
    word = OTHER_WORDS.get(word, word)
    if len(word) < 3 or not tag:
        return word == tag
    if word in tag or (len(tag) >= STEM - 1 and word.startswith(tag)):
        return True
    common = next((n for n, (a, b) in enumerate(zip(word, tag, strict=False)) if a != b), min(len(word), len(tag)))
    return common >= max(STEM, min(len(word), len(tag)) - 1)
