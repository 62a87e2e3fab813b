"""Which models a few words mean."""

from __future__ import annotations

import pytest

from llmctl import catalogue, paths
from llmctl.catalogue.search import fold, near, search

MODELS = catalogue.load(paths.profiles_dir() / "models").models


def ids(*words: str) -> list[str]:
    return [model.id for model in search(MODELS, words)]


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (("qwen3.5-4b",), "qwen3.5-4b"),
        (("QWEN35 4B",), "qwen3.5-4b"),
        (("qwen", "3.5", "4b"), "qwen3.5-4b"),
        (("mixtral", "8x22"), "mixtral-8x22b-instruct"),
        (("Olmo", "think"), "olmo-3.1-32b-think"),
        (("translation",), "eurollm-9b-instruct"),
        (("embeddings", "mit"), "bge-m3"),
        (("reranking",), "bge-reranker-v2-m3"),
        (("moe", "hybrid", "apache", "granite"), "granite-4.0-h-small"),
        (("swiss",), "apertus-8b-instruct"),
        (("Hugging Face", "multilingual"), "smollm3-3b"),
    ],
)
def test_words_find(words: tuple[str, ...], first: str) -> None:
    assert ids(*words)[:1] == [first]


def test_every_word_has_to_be_true() -> None:
    coders = set(ids("code"))
    assert set(ids("code", "mistral")) == {id for id in coders if "strall" in id or id in ids("mistral")} & coders
    assert ids("code", "embed") == [] and ids() == [] and ids("…") == []


@pytest.mark.parametrize(("word", "code"), [("italian", "it"), ("deutsch", None), ("german", "de"), ("fr", "fr")])
def test_languages_by_name_and_code(word: str, code: str | None) -> None:
    spoken = {model.id for model in MODELS if code in model.languages}
    assert spoken <= set(ids(word))
    if code is None:
        assert ids(word) == []


def test_names_go_before_facts_and_small_before_large() -> None:
    gemmas = ids("gemma")
    assert gemmas[:2] == ["gemma-3-270m-it", "embeddinggemma-300m"]
    sizes = [model.parameters or 0 for model in search(MODELS, ["apache"])]
    assert sizes == sorted(sizes) and len(sizes) > 30


def test_a_teachers_name_leads_to_distillations_that_say_so() -> None:
    for model in search(MODELS, ["deepseek r1"]):
        assert model.distilled_from and not model.name.startswith("DeepSeek")


@pytest.mark.parametrize(
    ("word", "start"), [("quen", "qwen"), ("lama", "llama"), ("Mistrall", "mi"), ("gema", "gemma"), ("smolm", "smollm")]
)
def test_what_is_spelt_almost_like_a_name(word: str, start: str) -> None:
    similar = near(MODELS, [word])
    assert similar and all(model.id.startswith(start) or start in model.id or start == "mi" for model in similar[:1])


def test_what_is_like_nothing() -> None:
    assert near(MODELS, ["xyzzyplugh"]) == []


def test_folding() -> None:
    assert fold("Qwen3.5-4B") == fold("qwen 35 4b") == "qwen354b"
    assert fold("Éa_É") == "eae"
