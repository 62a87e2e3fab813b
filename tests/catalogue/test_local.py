"""A user's own file as a candidate."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmctl import catalogue, planner
from llmctl.errors import IntegrityError, NotFoundError
from llmctl.types.model import SourceKind, Thinking
from llmctl.types.plan import Plan, Want
from tests.fakes import gguf_file
from tests.fakes.gguf_file import Fill, Value
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
    assert model.name.startswith("[31mred") and len(model.name) == 100
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


def test_a_gguf_file_that_is_no_language_model_is_named(tmp_path: Path) -> None:
    file = gguf_file.write(tmp_path / "vision.gguf", {"general.architecture": "clip"})
    with pytest.raises(IntegrityError, match="not a language model") as caught:
        catalogue.from_file(file)
    assert caught.value.message.startswith(str(file))


@pytest.mark.parametrize(
    ("figure", "sound"),
    [
        ("block_count", False),
        ("context_length", False),
        ("embedding_length", False),
        ("feed_forward_length", True),
        ("vocab_size", True),
        ("attention.head_count", True),
        ("attention.head_count_kv", True),
        ("attention.key_length", True),
    ],
)
def test_a_figure_of_0_is_refused_or_planned_with(tmp_path: Path, figure: str, sound: bool) -> None:
    metadata = gguf_file.llama_metadata(TINY) | {f"llama.{figure}": 0}
    file = gguf_file.write(tmp_path / "z.gguf", metadata, gguf_file.llama_tensors(TINY))
    if sound:
        answer = planner.plan(EPYC, [catalogue.from_file(file)], Want(explicit=True), knowledge())
        assert isinstance(answer, Plan) and answer.choice.speed.decode_tok_s > 0
        return
    with pytest.raises(IntegrityError, match=rf"z\.gguf has 0 as llama\.{figure} ") as caught:
        catalogue.from_file(file)
    assert "\n" not in caught.value.message
