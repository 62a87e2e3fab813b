"""Embedding and reranking as a Python program does it, with a tiny encoder and the real engine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import Workspace, catalogue, paths
from llmctl.errors import ContextError, NotFoundError, PolicyError, UnsupportedFileError, UsageError
from llmctl.settings import load
from llmctl.types.listener import SilentListener
from llmctl.types.model import Embedding
from llmctl.workspace import encoder, engines
from llmctl.workspace.embed import VectorOptions, shaped, vectors
from llmctl.workspace.encoder import EncoderOptions
from llmctl.workspace.rerank import ranking
from llmctl.workspace.texts import GivenText, gathered
from tests.fakes.encoder import CONTEXT, WIDTH, encoders
from tests.fakes.other_tools import in_hub_cache
from tests.fakes.scripted_model import write_scripted


@pytest.fixture(scope="module")
def folder(measured_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and what is remembered of the machine and of them: once for all tests of this module."""
    return encoders(tmp_path_factory.mktemp("encoders"), measured_cache)


@pytest.fixture(autouse=True)
def remembered(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))


@pytest.fixture
def file(folder: Path) -> str:
    return str(folder / "tiny.gguf")


@pytest.fixture
def ranker(folder: Path) -> str:
    return str(folder / "ranker.gguf")


@pytest.fixture
def stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The engine is loaded once for all that a test asks of a model."""
    monkeypatch.setenv("LLMCTL_KEEP_ALIVE", "1m")
    yield
    engines.stop(None)


ENTRY = """
[[model]]
id = "tiny-embed"
name = "Tiny Embed"
context = {context}
tasks = ["embed"]
[model.sources]
facts = "https://model.example/card"
shape = "https://model.example/config.json"
[model.embedding]
query = "ask: "
least_dimensions = 16
[model.shape]
architecture = "bert"
n_layer = 2
n_embd = {width}
n_head = 4
n_vocab = 84
[[model.file]]
quant = "F32"
repo = "maker/tiny-GGUF"
file = "tiny.gguf"
bytes = {bytes}
tensor_bytes = {bytes}
types = {{ F32 = 1 }}
"""


@pytest.fixture
def catalogued(file: str) -> None:
    """An embedder of the user's catalogue, in the hub's cache."""
    size = Path(file).stat().st_size
    paths.overlay_dir().mkdir(parents=True, exist_ok=True)
    (paths.overlay_dir() / "tiny.toml").write_text(ENTRY.format(context=CONTEXT, width=WIDTH, bytes=size))
    in_hub_cache(paths.hub_cache(), "maker/tiny-GGUF", Path(file))


def length(vector: tuple[float, ...]) -> float:
    return math.sqrt(sum(number * number for number in vector))


@pytest.mark.usefixtures("stays")
def test_vectors_in_the_order_of_the_texts(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "TEXTS_AT_ONCE", 2)
    texts = ["one", "two", "three", "one"]
    made = Workspace().embed(texts, model=file)
    assert [vector.id for vector in made] == [0, 1, 2, 3]
    assert [vector.tokens for vector in made] == [5, 5, 7, 5]
    assert all(vector.dimensions == WIDTH and length(vector.embedding) == pytest.approx(1) for vector in made)
    assert made[0].embedding == pytest.approx(made[3].embedding, abs=1e-5)
    assert max(abs(a - b) for a, b in zip(made[0].embedding, made[1].embedding, strict=True)) > 0.1
    (bare,) = Workspace().embed(["one"], model=file, normalise=False)
    assert length(bare.embedding) > 2


@pytest.mark.usefixtures("catalogued", "stays")
def test_what_is_installed_is_taken_and_its_facts_are_used() -> None:
    """No model is named. The words for a query stand before the text; a document has none with this model."""
    query, document = (Workspace().embed(["one"], role=role)[0] for role in ("query", "document"))
    (worded,) = Workspace().embed(["ask: one"], role="document")
    assert (document.tokens, query.tokens) == (5, 5 + len("ask:"))
    assert query.embedding == pytest.approx(worded.embedding, abs=1e-5)
    (short,) = Workspace().embed(["one"], role="document", dimensions=16)
    cut = document.embedding[:16]
    assert short.embedding == pytest.approx([number / length(cut) for number in cut], abs=1e-5)
    with pytest.raises(UsageError, match="have 16 to 64 dimensions, not 8"):
        Workspace().embed(["one"], dimensions=8)


@pytest.mark.usefixtures("catalogued")
def test_a_model_that_wants_to_be_told_is_a_reason_to_warn() -> None:
    heard: list[str] = []

    class Log(SilentListener):
        def warn(self, text: str) -> None:
            heard.append(text)

    Workspace(Log()).embed(["one"])
    assert any("--as query, --as document" in text for text in heard)


@pytest.mark.usefixtures("stays")
def test_a_text_that_is_too_long_is_named(file: str) -> None:
    texts = ["short", "x" * CONTEXT]
    with pytest.raises(ContextError) as caught:
        Workspace().embed(texts, model=file)
    assert caught.value.message == f"text 2 is {CONTEXT + 2} tokens, from 1 to {CONTEXT} are possible"
    made = Workspace().embed(texts, model=file, truncate=True)
    assert [(vector.tokens, vector.truncated) for vector in made] == [(7, False), (CONTEXT, True)]
    with pytest.raises(ContextError) as caught:
        Workspace().embed(texts, model=file, context=32)
    assert "from 1 to 32 are possible" in caught.value.message
    assert f"--context {CONTEXT}" in (caught.value.hint or "")


@pytest.mark.usefixtures("stays")
def test_the_best_documents_first(ranker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = ["an apple", "the moon", "a pear", "seven"]
    whole = Workspace().rerank("fruit", documents, model=ranker)
    assert sorted(result.index for result in whole) == [0, 1, 2, 3]
    assert [result.score for result in whole] == sorted((result.score for result in whole), reverse=True)
    assert all(result.text == documents[result.index] for result in whole)
    monkeypatch.setattr(encoder, "TEXTS_AT_ONCE", 2)
    seen: list[int] = []
    given, options = gathered(documents, (), None), EncoderOptions(ranker)
    best = ranking(SilentListener(), load(), "fruit", given, options, most=2, show=seen.append)
    assert [result.index for result in best.results] == [result.index for result in whole[:2]]
    assert (seen, best.documents, best.truncated) == ([2, 4], 4, 0)


def test_what_a_model_is_not_for(file: str, ranker: str, tmp_path: Path) -> None:
    writer = write_scripted(tmp_path / "writer.gguf", ["a"])
    with pytest.raises(UnsupportedFileError, match="is no model that makes vectors"):
        Workspace().embed(["a"], model=ranker)
    with pytest.raises(UnsupportedFileError, match="is no model that makes vectors"):
        Workspace().embed(["a"], model=str(writer))
    with pytest.raises(UnsupportedFileError, match="is no model that scores texts"):
        Workspace().rerank("a", ["b"], model=file)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"role": "query"}, "it isn't known what .* wants before a query"),
        ({"dimensions": 8}, "it isn't known that they may be cut"),
    ],
)
def test_what_nobody_knows_of_a_file(file: str, shape: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Workspace().embed(["a"], model=file, **shape)  # type: ignore[arg-type]


def test_nothing_to_read(file: str) -> None:
    with pytest.raises(UsageError, match="there is no text"):
        Workspace().embed([], model=file)
    with pytest.raises(UsageError, match="there is no document"):
        Workspace().rerank("a", [], model=file)
    with pytest.raises(UsageError, match="there is no query"):
        Workspace().rerank(" ", ["a"], model=file)


def test_no_download_without_a_yes() -> None:
    with pytest.raises(NotFoundError, match="to download, and nobody said yes"):
        Workspace().embed(["a"])
    with pytest.raises(NotFoundError, match="to download, and nobody said yes"):
        Workspace().rerank("a", ["b"])


def test_a_policy_of_servers_alone(file: str) -> None:
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text('policy = "remote-only"\n[endpoints.o]\nurl = "http://127.0.0.1:9"\nmodel = "m"\n')
    with pytest.raises(PolicyError, match="embed works on this machine alone"):
        Workspace().embed(["a"], model=file)
    assert len(Workspace().embed(["a"], model=file, local=True)) == 1


def test_a_generator_that_is_closed_gives_the_engine_back(file: str) -> None:
    import psutil

    given = [GivenText(at, "text", f"text {at}") for at in range(200)]
    made = vectors(SilentListener(), load(), given, EncoderOptions(file))
    next(made)
    children = psutil.Process().children(recursive=True)
    workers = [child for child in children if "llmctl.engine.llama_cpp.worker" in child.cmdline()]
    assert workers
    made.close()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def test_a_cut_vector() -> None:
    whole = (0.6, 0.0, 0.8, 0.0)
    cut = VectorOptions(dimensions=2)
    assert shaped(whole, Embedding(), VectorOptions()) == whole
    assert shaped(whole, Embedding(), VectorOptions(dimensions=4)) == whole
    assert shaped(whole, Embedding(least_dimensions=2), cut) == pytest.approx((1.0, 0.0))
    assert shaped(whole, Embedding(), replace(cut, normalise=False)) == (0.6, 0.0)
    centred = shaped(whole, Embedding(centred=True), cut)  # 0.35 is the mean
    assert centred == pytest.approx((0.25 / math.hypot(0.25, 0.35), -0.35 / math.hypot(0.25, 0.35)))
    assert shaped((0.0, 0.0), Embedding(), VectorOptions(dimensions=1)) == (0.0,)


def test_what_the_catalogue_knows_of_embedders() -> None:
    """Every one says what it wants; what may be cut keeps at least a word of numbers."""
    for model in catalogue.load(paths.profiles_dir() / "models").models:
        assert (model.embedding is not None) == ("embed" in model.tasks), model.id
        if model.embedding is not None and model.embedding.least_dimensions is not None:
            assert 32 <= model.embedding.least_dimensions < model.shape.n_embd
