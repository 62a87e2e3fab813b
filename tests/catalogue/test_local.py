"""A user's own file as a candidate."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmctl import catalogue, planner
from llmctl.errors import IntegrityError, NotFoundError, UnsupportedFileError
from llmctl.types.model import SourceKind, Thinking
from llmctl.types.plan import Plan, Want
from tests.fakes import gguf_file
from tests.fakes.gguf_file import Fill, TensorSpec, Value
from tests.planner.machines import EPYC, knowledge

TINY = gguf_file.model_shape("tiny")


def write(path: Path, *, fill: Fill = Fill.NOTHING, **metadata: Value) -> Path:
    stated = gguf_file.llama_metadata(TINY) | {key.replace("__", "."): value for key, value in metadata.items()}
    return gguf_file.write(path, stated, gguf_file.llama_tensors(TINY), fill=fill)


def test_what_the_header_says(tmp_path: Path) -> None:
    file = write(
        tmp_path / "Tiny-Q4_0.gguf", general__license="mit", general__organization="Somebody", general__file_type=2
    )
    candidate = catalogue.from_file(file)
    model, artifact = candidate.model, candidate.artifact
    assert (model.id, model.name, model.licence, model.publisher) == ("Tiny-Q4_0", "tiny", "mit", "Somebody")
    assert (model.tasks, model.thinking) == (("chat",), Thinking.NEVER)
    assert model.evidence == () and model.openness is None and not model.starter
    assert artifact.quant == "Q4_0"
    assert artifact.weights.exact
    assert candidate.path == file
    assert (artifact.source.kind, artifact.source.repo, artifact.source.file) == (SourceKind.LOCAL, None, str(file))
    embedding, layer = 64 * 1024, 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128 + 2 * 64
    assert model.parameters == embedding + 2 * layer + 64
    assert model.active_parameters is None


def test_a_header_is_enough_and_the_whole_size_is_known(tmp_path: Path) -> None:
    header_only = catalogue.from_file(write(tmp_path / "a.gguf"))
    whole = write(tmp_path / "b.gguf", fill=Fill.SPARSE)
    assert header_only.artifact.source.bytes == catalogue.from_file(whole).artifact.source.bytes == whole.stat().st_size


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.gguf")
    monkeypatch.chdir(tmp_path)
    assert catalogue.from_file(Path("a.gguf")).path == tmp_path / "a.gguf"


def test_a_base_model_has_no_task(tmp_path: Path) -> None:
    metadata = gguf_file.llama_metadata(TINY)
    del metadata["tokenizer.chat_template"]
    file = gguf_file.write(tmp_path / "base.gguf", metadata, gguf_file.llama_tensors(TINY))
    assert catalogue.from_file(file).model.tasks == ()


@pytest.mark.parametrize(
    ("template", "thinking"),
    [
        ("{{ messages }}", Thinking.NEVER),
        (
            "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}",
            Thinking.DEFAULT,
        ),
        ("{{ messages }}<think>", Thinking.ALWAYS),
        ("<|start|>assistant<|channel|>analysis<|message|>", Thinking.ALWAYS),
        ("{{ messages }}[THINK]", Thinking.ALWAYS),
        ("{{ messages }}<|inner_prefix|>", Thinking.ALWAYS),
        ("{{ message.content.split('<channel|>') }}", Thinking.ALWAYS),
        ("{{ messages }}<seed:think>", Thinking.ALWAYS),
        ("{% if thinking is defined and thinking %}<think>{% endif %}", Thinking.ASKED),
        ("{% if message.thinking %}<think>{% endif %}", Thinking.ALWAYS),
        ("{{ messages }}<|end|>", Thinking.NEVER),
    ],
)
def test_thinking_is_read_off_the_template(tmp_path: Path, template: str, thinking: Thinking) -> None:
    file = write(tmp_path / "a.gguf", tokenizer__chat_template=template)
    assert catalogue.from_file(file).model.thinking is thinking


def test_text_in_a_file_is_made_fit_to_show(tmp_path: Path) -> None:
    file = write(tmp_path / "a.gguf", general__name="\x1b[31mred\n" + "x" * 500, general__license="\x00")
    model = catalogue.from_file(file).model
    assert model.name.startswith("red x") and len(model.name) == 100
    assert model.licence is None


def test_parts_of_a_split_file_are_taken_together(tmp_path: Path) -> None:
    tensors = gguf_file.llama_tensors(TINY)
    metadata = gguf_file.llama_metadata(TINY)
    whole = catalogue.from_file(gguf_file.write(tmp_path / "whole.gguf", metadata, tensors))
    gguf_file.write(tmp_path / "m-00001-of-00002.gguf", metadata, tensors[:5])
    second = gguf_file.write(tmp_path / "m-00002-of-00002.gguf", {"general.architecture": "llama"}, tensors[5:])
    for part in (second, tmp_path / "m-00001-of-00002.gguf"):
        split = catalogue.from_file(part)
        assert split.path == tmp_path / "m-00001-of-00002.gguf"
        assert split.artifact.weights == whole.artifact.weights
        assert split.model.shape == whole.model.shape
        assert split.model.parameters == whole.model.parameters
    second.unlink()
    with pytest.raises(NotFoundError, match="m-00002-of-00002"):
        catalogue.from_file(tmp_path / "m-00001-of-00002.gguf")


@pytest.mark.parametrize(
    ("raw", "error"),
    [(b"this is text, whatever its name says\n" * 9, IntegrityError), (b"", IntegrityError), (None, NotFoundError)],
)
def test_what_is_not_a_model_is_named(tmp_path: Path, raw: bytes | None, error: type[Exception]) -> None:
    file = tmp_path / "a.gguf"
    if raw is not None:
        file.write_bytes(raw)
    with pytest.raises(error) as caught:
        catalogue.from_file(file)
    assert str(caught.value).startswith(str(file))


FIGURES = {"general.architecture": "llama"}
OTHER_KINDS: dict[str, tuple[dict[str, Value], str]] = {
    "projector": ({"general.architecture": "clip", "clip.has_vision_encoder": True}, "is a vision projector"),
    "projector by type": ({"general.architecture": "clip", "general.type": "mmproj"}, "is a vision projector"),
    "projector for sound": ({"general.architecture": "clip", "clip.has_audio_encoder": True}, "is an audio projector"),
    "lora": ({**FIGURES, "general.type": "adapter", "adapter.type": "lora"}, "is an adapter (for --lora"),
    "control vector": ({"general.architecture": "controlvector"}, "is a control vector (for --control-vector"),
    "importance matrix": ({"general.type": "imatrix"}, "is an importance matrix"),
    "eagle3": ({"general.architecture": "eagle3"}, "is a draft model (for --model-draft"),
    "dflash": ({"general.architecture": "dflash"}, "is a draft model (for --model-draft"),
    "flux": ({"general.architecture": "flux"}, "is a model that makes pictures"),
    "stable diffusion": ({"general.architecture": "sdxl"}, "is a model that makes pictures"),
    "whisper": ({"general.architecture": "whisper"}, "is a speech model"),
    "vocoder": ({"general.architecture": "wavtokenizer-dec"}, "is a speech model"),
    "t5": ({"general.architecture": "t5"}, "is an encoder-decoder model"),
    "llada": ({"general.architecture": "llada"}, "is a diffusion language model"),
    "dream": ({"general.architecture": "dream"}, "is a diffusion language model"),
    "no figures": ({"general.architecture": "yolo"}, "is no language model: its header has no figures of yolo"),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_file_that_is_no_language_model_is_called_what_it_is(tmp_path: Path, kind: str) -> None:
    metadata, words = OTHER_KINDS[kind]
    file = gguf_file.write(tmp_path / "x.gguf", metadata, [TensorSpec("t", (32,), "F32")])
    with pytest.raises(UnsupportedFileError) as caught:
        catalogue.from_file(file)
    assert caught.value.message.startswith(f"{file} {words}")
    assert caught.value.exit_code == 3 and caught.value.hint


def test_a_vocabulary_is_no_model(tmp_path: Path) -> None:
    file = gguf_file.write(tmp_path / "vocab.gguf", gguf_file.llama_metadata(TINY))
    with pytest.raises(UnsupportedFileError, match=r"vocab\.gguf holds only a vocabulary"):
        catalogue.from_file(file)


@pytest.mark.parametrize(
    ("pooling", "tasks"), [(None, ("chat",)), (0, ("chat",)), (1, ("embed",)), (3, ("embed",)), (4, ("rerank",))]
)
def test_what_pools_its_tokens_makes_vectors(tmp_path: Path, pooling: int | None, tasks: tuple[str, ...]) -> None:
    stated: dict[str, Value] = {} if pooling is None else {"llama.pooling_type": pooling}
    metadata = gguf_file.llama_metadata(TINY) | stated
    file = gguf_file.write(tmp_path / "e.gguf", metadata, gguf_file.llama_tensors(TINY))
    assert catalogue.from_file(file).model.tasks == tasks


LAYER_1 = [tensor for tensor in gguf_file.llama_tensors(TINY) if not tensor.name.startswith("blk.1.")]
DRAFT = [tensor for tensor in LAYER_1 if not tensor.name.startswith("blk.")] + [TensorSpec("blk.2.x", (32,), "F32")]
EMBEDDING = [TensorSpec("token_embd.weight", (64, 1000), "Q8_0"), *gguf_file.llama_tensors(TINY)[1:]]
NARROW = [TensorSpec("token_embd.weight", (32, 1024), "Q8_0"), *gguf_file.llama_tensors(TINY)[1:]]
UNSOUND: dict[str, tuple[dict[str, Value | None], list[TensorSpec] | None, str]] = {
    "no experts used": ({"llama.expert_count": 8}, None, "it uses none of its 8 experts"),
    "0 experts used": ({"llama.expert_count": 8, "llama.expert_used_count": 0}, None, "it uses none of its 8 experts"),
    "too many used": ({"llama.expert_count": 8, "llama.expert_used_count": 9}, None, "it uses 9 experts and has 8"),
    "experts used, none there": ({"llama.expert_used_count": 2}, None, "it uses 2 experts and has 0"),
    "too many experts": ({"llama.expert_count": 5000}, None, "it has 5000 experts, at most 1024"),
    "no heads": ({"llama.attention.head_count": 0}, None, "it has 0 attention heads"),
    "no key-value heads": ({"llama.attention.head_count_kv": 0}, None, "it has 0 key-value heads"),
    "no epsilon": ({"llama.attention.layer_norm_rms_epsilon": None}, None, "its header lacks the norms' epsilon"),
    "rope scaling": ({"llama.rope.scaling.type": "su"}, None, "its rope scaling is 'su'"),
    "rope dimensions": ({"llama.rope.dimension_count": 8}, None, "its rope turns 8 elements of heads that have 16"),
    "no tokenizer": ({"tokenizer.ggml.model": None}, None, "it has no tokenizer"),
    "no tokens": ({"tokenizer.ggml.tokens": None}, None, "its tokenizer has no tokens"),
    "fewer embeddings than tokens": ({}, EMBEDDING, "its vocabulary has 1,024 tokens, its embeddings are for 1,000"),
    "narrow embeddings": ({}, NARROW, "its embeddings have 32 elements, its header says 64"),
    "a layer missing": ({}, LAYER_1, "layer 1 is missing, of 2 counted from 0"),
    "layers for drafting alone": (
        {"llama.block_count": 3, "llama.nextn_predict_layers": 1},
        DRAFT,
        "it holds only layers for drafting, none of the other 2",
    ),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_figures_that_contradict_each_other_are_refused(tmp_path: Path, name: str) -> None:
    changed, tensors, words = UNSOUND[name]
    stated = gguf_file.llama_metadata(TINY) | changed
    metadata = {key: value for key, value in stated.items() if value is not None}
    file = gguf_file.write(tmp_path / "x.gguf", metadata, tensors or gguf_file.llama_tensors(TINY))
    with pytest.raises(IntegrityError) as caught:
        catalogue.from_file(file)
    assert caught.value.message.startswith(f"{file} is not a sound model: {words}")
    assert caught.value.hint


@pytest.mark.parametrize("figure", ["context_length", "feed_forward_length", "vocab_size", "nextn_predict_layers"])
def test_a_figure_of_0_is_planned_with(tmp_path: Path, figure: str) -> None:
    metadata = gguf_file.llama_metadata(TINY) | {f"llama.{figure}": 0}
    file = gguf_file.write(tmp_path / "z.gguf", metadata, gguf_file.llama_tensors(TINY))
    answer = planner.plan(EPYC, [catalogue.from_file(file)], Want(explicit=True), knowledge())
    assert isinstance(answer, Plan) and answer.choice.speed.decode_tok_s > 0 and answer.choice.context > 0


@pytest.mark.parametrize("figure", ["block_count", "embedding_length"])
def test_a_figure_of_0_that_much_is_divided_by_is_refused(tmp_path: Path, figure: str) -> None:
    metadata = gguf_file.llama_metadata(TINY) | {f"llama.{figure}": 0}
    file = gguf_file.write(tmp_path / "z.gguf", metadata, gguf_file.llama_tensors(TINY))
    with pytest.raises(IntegrityError, match=rf"z\.gguf has 0 as llama\.{figure} ") as caught:
        catalogue.from_file(file)
    assert "\n" not in caught.value.message
