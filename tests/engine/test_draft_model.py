"""A small model that drafts for a large one: by llama.cpp with tiny models, and its gain on made-up machines."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from msgspec.structs import replace

from llmctl.engine.llama_cpp.draft_model import DraftModel, ModelDrafter
from llmctl.engine.llama_cpp.loading import load
from llmctl.engine.llama_cpp.native_log import CALLBACK
from llmctl.engine.llama_cpp.speculation import StepCosts
from llmctl.engine.llama_cpp.start import start
from llmctl.engine.llama_cpp.vocabulary import Vocabulary
from llmctl.errors import EngineError
from llmctl.struct import asdict
from llmctl.types.plan import Configuration, Draft
from tests.engine.test_drafted_answers import COPIED, TEXT, answered
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import write_scripted

QUIET = CALLBACK(lambda level, text, about: None)
CONTEXT = 1024


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that always answers with TEXT."""
    return write_scripted(tmp_path_factory.mktemp("draft") / "model.gguf", COPIED)


def job(file: Path) -> dict[str, Any]:
    return {"file": str(file), "model": "small", "threads": 1, "prefill_threads": 1, **asdict(Configuration(CONTEXT))}


@pytest.fixture(scope="module")
def vocabulary(file: Path) -> Vocabulary:
    llama_cpp.llama_log_set(QUIET, ctypes.c_void_p(0))
    return Vocabulary(llama_cpp.llama_model_get_vocab(load(job(file))), "large", "")


@pytest.fixture
def drafting(file: Path, vocabulary: Vocabulary) -> DraftModel:
    return DraftModel(job(file), vocabulary, "large.gguf")


def drafted(model: DraftModel, text: Sequence[int], most: int) -> list[int]:
    while not model.has_read(text):
        pass
    return model.draft(text[-1], most)


def test_it_goes_on_as_it_would_by_itself(drafting: DraftModel, vocabulary: Vocabulary) -> None:
    """Also behind another text than the one before, of which it keeps what is the same."""
    script = vocabulary.tokens(TEXT.encode())
    prompt = vocabulary.tokens(b"<|user|>hi<|assistant|>", add_bos=True)
    assert drafted(drafting, prompt, 5) == script[:5]
    for length in (2, 3, 300, 7):
        assert drafted(drafting, [*prompt, *script[:length]], 4) == script[length : length + 4]
    assert drafting.step_s is not None


def test_it_is_read_in_pieces(drafting: DraftModel, vocabulary: Vocabulary) -> None:
    text = vocabulary.tokens(TEXT.encode())
    assert [drafting.has_read(text) for _ in range(5)] == [False, False, False, True, True]
    assert len(drafted(drafting, text * 2, 4000)) < CONTEXT


def test_other_tokens(tmp_path: Path, vocabulary: Vocabulary) -> None:
    other = write_scripted(tmp_path / "other.gguf", [*COPIED[:-1], "Zz"])
    with pytest.raises(RuntimeError, match=r"other\.gguf can't draft for large\.gguf: it has other tokens"):
        DraftModel(job(other), vocabulary, "large.gguf")


class Guessing:
    """A draft model in whose drafts all tokens but every ``wrong``-th are right; a step of it takes ``step_s``."""

    def __init__(self, text: Sequence[int], wrong: int, step_s: float) -> None:
        self._text, self._wrong, self.step_s = text, wrong, step_s
        self.chance = 1 - 1 / wrong
        self.drafted, self.is_taken = 0, False

    def taken_by(self, user: object) -> bool:
        self.is_taken = True
        return True

    def give_back(self, user: object) -> None:
        self.is_taken = False

    def has_read(self, text: Sequence[int]) -> bool:
        self._at = len(text)
        return True

    def draft(self, last: int, most: int) -> list[int]:
        ahead = self._text[self._at : self._at + most]
        self.drafted += len(ahead)
        return [token + (at % self._wrong == 0) for at, token in enumerate(ahead, self._at)]

    def learn(self, *, right: int, drafted: int) -> None: ...


def seconds_of(model: Guessing, row_share: float, monkeypatch: pytest.MonkeyPatch, text: Sequence[int]) -> float:
    """Of an answer on a machine where a step takes a second and a batch ``row_share`` of one for each further row."""
    now_s = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now_s)
    drafter, said = ModelDrafter(text[:1], len(text), StepCosts(), model), 1  # type: ignore[arg-type]
    while said < len(text):
        before = model.drafted
        drafts = drafter.draft(others=0)
        own_s = (model.drafted - before) * model.step_s
        came = 0
        for token in (*drafts, None):
            drafter.add(text[said])
            said, came = said + 1, came + 1
            if token != text[said - 1] or said == len(text):
                break
        took_s = 1 + row_share * len(drafts)
        drafter.took(1 + len(drafts), came, took_s)
        now_s += took_s + own_s
    drafter.end()
    assert not model.is_taken
    return now_s


@pytest.mark.parametrize(
    ("wrong", "step_s", "row_share", "least", "most"),
    [
        (100, 0.05, 0.02, 4.0, 16.0),
        (4, 0.05, 0.02, 1.8, 4.0),
        (100, 0.5, 0.02, 1.4, 2.0),
        (4, 0.1, 0.6, 0.95, 1.2),
        (2, 0.3, 0.3, 0.95, 1.1),
        (100, 1.0, 0.3, 0.95, 1.1),
    ],
    ids=["small and right", "often wrong", "half as slow", "slow batches", "mostly wrong", "as slow as the other"],
)
def test_it_drafts_where_that_pays(
    wrong: int, step_s: float, row_share: float, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = [at * 7 for at in range(400)]  # nothing is there twice, so nothing is copied
    model = Guessing(text, wrong, step_s)
    assert least < len(text) / seconds_of(model, row_share, monkeypatch, text) < most


@pytest.fixture(scope="module")
def answers(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    fit = fit_for(file, context=2048, threads=1)
    draft = Draft(fit.candidate, Configuration(2048), 7, 1.5, is_asked_for=True)
    with start(replace(fit, draft=draft)) as engine:
        yield engine.address


def test_the_engine_says_the_same_with_a_draft_model(answers: Any) -> None:
    plain = answered(answers, "hi", speculate=False)
    with_drafts = answered(answers, "hi", speculate=True)
    assert with_drafts["choices"] == plain["choices"]
    assert plain["timings"]["draft_n"] == 0 < with_drafts["timings"]["draft_n_accepted"]
    assert with_drafts["timings"]["draft_n_compared"] >= with_drafts["timings"]["draft_n_accepted"]
    assert answered(answers, "hello", speculate=True)["choices"] == plain["choices"]


def test_a_draft_model_of_other_tokens_is_told(file: Path, tmp_path: Path) -> None:
    fit, other = fit_for(file), fit_for(write_scripted(tmp_path / "other.gguf", ["x"]))
    with pytest.raises(EngineError, match="it has other tokens"):
        start(replace(fit, draft=Draft(other.candidate, Configuration(512), 7, 1.5)))
