"""The catalogue that ships: every figure against the others that it has to agree with."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from msgspec.structs import fields, replace

from llmctl import catalogue, paths
from llmctl.gguf.layers import ENCODERS
from llmctl.gguf.quant import WEIGHT_TYPE_BY_NAME
from llmctl.gguf.shards import SHARD
from llmctl.types.model import Artifact, Model, Shape, SourceKind, Working
from llmctl.types.openness import DIMENSIONS
from tests.fakes.real_shapes import shape_of
from tests.planner.machines import knowledge

SHIPPED = paths.profiles_dir() / "models"
MODELS = catalogue.load(SHIPPED).models
RAW = {file.stem: tomllib.loads(file.read_text("utf-8")) for file in sorted(SHIPPED.glob("*.toml"))}
every = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)

TASKS = {
    *("chat", "code", "reasoning", "summarise", "translate", "multilingual", "vision", "audio", "tools", "rag"),
    *("fill-in", "embed", "rerank"),
}
SPDX = {"Apache-2.0", "MIT"}  # of the SPDX list, those that are in use here; other licences have names of their own
UNGATED = {"apertus", "bert", "nemotron_h", "nemotron_h_moe"}  # two feed-forward matrices instead of three

# Models whose headers are in tests/fixtures/real_shapes.jsonl, by its names.
HEADERS = {
    "apertus-8b-instruct": "apertus-8b",
    "gemma-3-270m-it": "gemma3-270m",
    "gemma-3-1b-it": "gemma3-1b",
    "gemma-4-e2b-it": "gemma4-e2b",
    "gemma-4-e4b-it": "gemma4-e4b",
    "gemma-4-12b-it": "gemma4-12b",
    "gemma-4-26b-a4b-it": "gemma4-26b",
    "gemma-4-31b-it": "gemma4-31b",
    "glm-4.7-flash": "glm47-flash",
    "glm-4.5-air": "glm4moe-air",
    "gpt-oss-20b": "gpt-oss-20b",
    "gpt-oss-120b": "gpt-oss-120b",
    "granite-4.0-h-small": "granite-h-small",
    "granite-4.2-3b": "granite4-3b",
    "laguna-xs-2.1": "laguna-xs",
    "lfm2.5-1.2b-instruct": "lfm2-1.2b",
    "llama-3.1-8b-instruct": "llama-3.1-8b",
    "llama-3.2-3b-instruct": "llama-3.2-3b",
    "llama-3.3-70b-instruct": "llama-3.3-70b",
    "llama-4-scout": "llama4-scout",
    "ministral-3-3b-instruct": "ministral3-3b",
    "ministral-3-8b-instruct": "ministral3-8b",
    "mistral-small-3.2-24b": "mistral-small",
    "mistral-small-4-119b": "mistral4-119b",
    "mixtral-8x7b-instruct": "mixtral",
    "nemotron-3.5-lightning-30b-a3b": "nemotron-h-moe",
    "olmo-3-7b-instruct": "olmo3-7b",
    "olmo-3.1-32b-instruct": "olmo2-32b",
    "olmoe-1b-7b-instruct": "olmoe",
    "phi-4-mini-instruct": "phi4-mini",
    "phi-4": "phi4-14b",
    "qwen2.5-coder-7b-instruct": "qwen2-7b",
    "qwen3-0.6b": "qwen3-0.6b",
    "qwen3-8b": "qwen3-8b",
    "qwen3-14b": "qwen3-14b",
    "qwen3-32b": "qwen3-32b",
    "qwen3-30b-a3b-instruct-2507": "qwen3moe-30b",
    "qwen3-coder-next": "qwen3next-80b",
    "qwen3-embedding-0.6b": "qwen3-embedding",
    "qwen3-vl-8b-instruct": "qwen3vl-8b",
    "qwen3.5-2b": "qwen35-2b",
    "qwen3.5-4b": "qwen35-4b",
    "qwen3.5-9b": "qwen35-9b",
    "qwen3.5-122b-a10b": "qwen35moe-122b",
    "qwen3.6-27b": "qwen35-27b",
    "qwen3.6-35b-a3b": "qwen35moe-35b",
    "smollm2-135m-instruct": "smollm2-135m",
    "smollm2-1.7b-instruct": "smollm2-1.7b",
    "smollm3-3b": "smollm3-3b",
}
# Figures by which a header here is of another release or says nothing, and what only a header says.
APART = {"layers", "context_train", "n_ff_expert", "n_draft", "n_head_full", "working"}


def raw_models() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from ((stem, model) for stem, document in RAW.items() for model in document["model"])


def test_the_range_that_was_promised() -> None:
    ids = {model.id for model in MODELS}
    assert len(ids) >= 60
    assert {"mixtral-8x7b-instruct", "mixtral-8x22b-instruct", "apertus-70b-instruct"} <= ids
    families = ("llama-3", "olmo-3", "smollm3")
    assert all(any(id.startswith(family) for id in ids) for family in families)
    sizes = sorted(model.parameters or 0 for model in MODELS)
    assert sizes[0] < 0.15e9 and 139e9 < sizes[-1] < 142e9
    tasks = {task for model in MODELS for task in model.tasks}
    assert {"chat", "code", "reasoning", "multilingual", "vision", "embed", "rerank"} <= tasks
    assert sum(model.shape.n_expert > 0 for model in MODELS) >= 10
    assert sum(model.shape.state_bytes > 0 for model in MODELS) >= 10
    assert sum(model.shape.latent for model in MODELS) >= 2


def test_most_models_come_in_several_quants() -> None:
    assert sum(len(model.artifacts) for model in MODELS) >= 250
    alone = {model.id for model in MODELS if len(model.artifacts) == 1}
    known_by_one = {"gpt-oss-20b", "gpt-oss-120b", "qwen3-coder-next", "nemotron-3.5-lightning-30b-a3b"}
    assert (
        alone - known_by_one
        == {"embeddinggemma-300m", "bge-m3", "bge-reranker-v2-m3", "lfm2.5-350m", "smollm2-135m-instruct"} & alone
    )


@pytest.mark.parametrize("stem", RAW)
def test_a_family_is_a_file_with_its_sources_and_the_attribution(stem: str) -> None:
    text = (SHIPPED / f"{stem}.toml").read_text("utf-8")
    assert len({re.sub(r"[\d.].*", "", model["name"]) for model in RAW[stem]["model"]}) <= 3
    assert "[[openness]]" not in text or ("CC BY 4.0" in text and "10.1145/3630106.3659005" in text)
    for entry in RAW[stem].get("openness", ()):
        assert entry["source"].startswith("https://github.com/Language-Technology-Assessment/")
        assert isinstance(entry["date"], date)
        assert entry["grades"].keys() <= DIMENSIONS.keys() and len(entry["grades"]) >= 8


@every
def test_every_group_of_facts_has_a_source(model: Model) -> None:
    addresses = [*model.sources.values(), *(result.source for result in model.evidence)]
    assert all(address.startswith("https://") for address in addresses)
    assert model.sources["shape"].endswith("config.json")
    assert model.sampling is None or "sampling" in model.sources or "facts" in model.sources
    assert model.publisher and model.licence
    assert model.licence in SPDX or re.fullmatch(r"LicenseRef-[A-Za-z0-9.-]+", model.licence)
    assert model.released is None or "2023" <= model.released[:4] <= "2026"
    assert model.tasks and set(model.tasks) <= TASKS
    assert all(re.fullmatch("[a-z]{2}|multilingual", code) for code in model.languages)


def test_licences_with_terms_of_their_own_are_never_called_open() -> None:
    """The index's grade of the licence, where this very release was graded."""
    own = [
        model for model in MODELS if model.openness and model.openness.match == "exact" and model.licence not in SPDX
    ]
    assert own and all(model.openness and model.openness.grades["licenses"] != "open" for model in own)


def test_a_distillation_never_passes_as_its_teacher() -> None:
    distilled = [model for model in MODELS if model.distilled_from]
    assert {model.id for model in distilled} == {"deepseek-r1-0528-qwen3-8b", "deepseek-r1-distill-qwen-32b"}
    for model in distilled:
        assert model.base_model and model.distilled_from
        family = model.base_model.split("/")[1].split("-")[0]
        assert model.name.startswith(family) and "Distill" in model.name
        assert not model.name.startswith("DeepSeek")
    hidden = [model for model in MODELS if "distil" in f"{model.id} {model.name}".lower() and not model.distilled_from]
    assert hidden == []


@pytest.mark.parametrize(("id", "name"), HEADERS.items(), ids=HEADERS)
def test_the_shape_is_that_of_the_header(id: str, name: str) -> None:
    listed, header = next(model for model in MODELS if model.id == id).shape, shape_of(name)
    ours, theirs = ({f.name: getattr(shape, f.name) for f in fields(Shape)} for shape in (listed, header))
    assert {key: ours[key] for key in ours if key not in APART} == {
        key: theirs[key] for key in theirs if key not in APART
    }


def test_layers_and_heads_agree() -> None:
    for _, model in raw_models():
        shape = model["shape"]
        rows = shape.get("kv", [])
        cached = sum(row["layers"] for row in rows)
        assert cached <= shape["n_layer"], model["id"]
        assert bool(rows) == (shape["architecture"] not in ENCODERS), model["id"]
        assert cached == shape["n_layer"] or shape.get("state_bytes") or shape.get("per_layer_width") or not rows
        for row in rows:
            assert shape["n_head"] % row["heads"] == 0, model["id"]
            assert row["head_dim"] % 32 == 0, model["id"]


def streamed_elements(artifact: Artifact) -> float:
    return sum(
        8 * size / WEIGHT_TYPE_BY_NAME[name].bits_per_weight for name, size in artifact.weights.type_bytes.items()
    )


@every
def test_bytes_by_type_are_the_tensors(model: Model) -> None:
    """What is in matrix products and what is looked up is all but norms and biases; and it is as many weights as the
    model has parameters. Tables that are looked up count at the width of the label."""
    assert model.parameters
    for artifact in model.artifacts:
        weights = artifact.weights
        parts = sum(weights.type_bytes.values()) + weights.embedding_bytes
        assert 0.985 * weights.total_bytes <= parts <= weights.total_bytes, artifact.quant
        assert weights.expert_bytes == sum(weights.expert_type_bytes.values())
        table = (model.shape.n_vocab or 0) * model.shape.n_embd
        looked_up = table if weights.embedding_bytes else 0
        if model.shape.per_layer_width:
            looked_up = (model.shape.n_vocab or 0) * model.shape.per_layer_width
        elements = streamed_elements(artifact) + looked_up
        assert elements == pytest.approx(model.parameters, rel=0.06), (artifact.quant, elements / model.parameters)


@every
def test_sizes_agree_with_bits_per_weight(model: Model) -> None:
    """Bits per weight of each file stand near its label's; wide tables make those of small models more."""
    labels = knowledge().quants.quants
    assert model.parameters
    for artifact in model.artifacts:
        if artifact.quant == "MXFP4":
            continue
        ratio = 8 * artifact.weights.total_bytes / model.parameters / labels[artifact.quant].bits
        # rows that aren't whole blocks of 256 are stored in more bits: gemma 3 270M and 1B, the experts of Nemotron
        fallen_back = "Q5_0" in artifact.weights.type_bytes or "Q8_0" in artifact.weights.type_bytes
        most = 1.9 if fallen_back else 1.35 if model.parameters < 4e9 else 1.2
        least = 0.88 if artifact.quant.startswith("UD-") else 0.93  # their mixes are made by hand, model by model
        assert least < ratio < most, (artifact.quant, ratio)


@every
def test_parameters_are_those_of_the_shape(model: Model) -> None:
    assert model.parameters
    assert counted(model) == pytest.approx(model.parameters, rel=0.12)


def counted(model: Model) -> float:
    """Parameters as the shape's own figures tell; layers without a cache count as those with one do."""
    shape = model.shape
    tied = any(artifact.weights.tied_bytes for artifact in model.artifacts) or shape.architecture in ENCODERS
    tables = (1 if tied else 2) * (shape.n_vocab or 0) * shape.n_embd
    tables += (shape.n_vocab or 0) * shape.per_layer_width
    matrices = 2 if shape.architecture in UNGATED else 3
    dense = matrices * shape.n_embd * (shape.n_ff or 0)
    experts = shape.n_expert * matrices * shape.n_embd * (shape.n_ff_expert or shape.n_ff or 0)
    blocks = (experts or dense) * FEED_FORWARD_SHARE.get(shape.architecture, 1.0)
    rows = next(table for _, table in raw_models() if table["id"] == model.id)["shape"].get("kv", [])
    cached = sum(row["layers"] for row in rows)
    attention = sum(row["layers"] * _attention(shape, row) for row in rows)
    if not rows:
        attention, cached = 4 * shape.n_embd**2, 1
    other = attention / cached
    if shape.architecture in DELTA:  # queries, keys, values, gate and output of one width, 128 elements of state each
        inner = shape.state_bytes / 4 / (shape.n_layer - cached) / 128
        other = 5 * shape.n_embd * inner
    return float(
        tables + shape.n_layer * blocks + (attention if rows else 0) + (shape.n_layer - cached * bool(rows)) * other
    )


def _attention(shape: Shape, row: dict[str, int]) -> float:
    key, value = row["head_dim"], row.get("value_dim", row["head_dim"])
    if shape.latent:  # queries and values through the latent vector: about a quarter of what plain attention takes
        return shape.n_embd * shape.n_head * key / 2
    return shape.n_embd * (shape.n_head * (key + value) + row["heads"] * (key + value))


DELTA = {"qwen35", "qwen35moe", "qwen3next"}
FEED_FORWARD_SHARE = {"nemotron_h": 17 / 42, "nemotron_h_moe": 23 / 52}
"""Of the layers, those that feed forward: the others are recurrent or attend."""


@every
def test_experts_are_part_of_the_weights_they_are_said_to_be(model: Model) -> None:
    shape = model.shape
    if not shape.n_expert:
        assert all(artifact.weights.expert_bytes == 0 for artifact in model.artifacts)
        return
    assert 0 < shape.n_expert_used < shape.n_expert and shape.n_ff_expert
    assert model.active_parameters and model.parameters and model.active_parameters < model.parameters
    for artifact in model.artifacts:
        assert 0.5 * artifact.weights.total_bytes < artifact.weights.expert_bytes < artifact.weights.total_bytes


@every
def test_files_are_named_as_files_are(model: Model) -> None:
    for artifact in model.artifacts:
        source = artifact.source
        assert source.file.endswith(".gguf") and source.repo
        if source.kind is SourceKind.HUB:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", source.repo)
            assert artifact.quant.lower() in source.file.lower().replace("-qat-q4_0", "")
        assert source.sha256 is None or (source.bytes is not None and re.fullmatch("[0-9a-f]{64}", source.sha256))
        assert source.sha256 is None or SHARD.fullmatch(source.file) is None
        assert artifact.weights.exact == (source.kind is SourceKind.PACKAGE_INDEX)  # nobody read the others
        if source.bytes is not None:
            header_bytes = source.bytes - artifact.weights.total_bytes
            assert 0 <= header_bytes < 50_000_000, artifact.quant
    if model.projector is not None:
        assert "vision" in model.tasks and "mmproj" in model.projector.file.lower()
        assert model.projector.bytes and 1e8 < model.projector.bytes < 2e9


@every
def test_scores_are_scores(model: Model) -> None:
    seen = [(result.benchmark, result.thinking, result.setting) for result in model.evidence]
    assert len(seen) == len(set(seen))
    for result in model.evidence:
        assert 0 <= result.score <= (2000 if result.benchmark == "LMArena text" else 100)
        if result.benchmark.startswith("Artificial Analysis"):
            assert result.benchmark == "Artificial Analysis Intelligence Index v4.3"  # versions are never mixed
            assert result.source.startswith("https://artificialanalysis.ai/")
        assert not (result.self_reported and result.estimated)


def test_an_exact_file_is_the_one_that_was_read() -> None:
    starter = next(model for model in MODELS if model.starter)
    assert [artifact.weights.exact for artifact in starter.artifacts].count(True) == 1
    ours, theirs = (
        replace(shape, layers=(), n_head_full=0, working=Working())
        for shape in (starter.shape, shape_of("smollm2-135m"))
    )
    assert ours == theirs
