"""Files that are odd, broken, or no language model: each is planned, or refused in plain words with the right code."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import catalogue
from llmctl.cli.app import main
from llmctl.cli.output import Output
from llmctl.engine.devices import architectures, engines
from llmctl.engine.llama_cpp import dry_run
from llmctl.engine.llama_cpp.dry_run import refusal
from llmctl.errors import IntegrityError, LlmctlError, UnsupportedFileError
from llmctl.host import Host
from llmctl.types.plan import Configuration, MemoryBasis, NoFit, Plan, Want
from llmctl.workspace import plan, situation
from llmctl.workspace.situation import Situation
from tests.fakes import gguf_file
from tests.fakes.command import ran
from tests.fakes.gguf_file import Fill, Kind, TensorSpec, Value

pytestmark = pytest.mark.usefixtures("engine_known")

FIXTURES = Path(__file__).parents[1] / "fixtures" / "odd_headers"
TINY = gguf_file.model_shape("tiny")
TENSORS = gguf_file.llama_tensors(TINY)
NAMED = Want(explicit=True)

# The beginnings of files in the wild and of files made to be odd: exit code, and a sentence on stderr or stdout.
PLANNED = "tokens of context"
CASES: dict[str, tuple[int, str]] = {
    "align-4.gguf": (0, PLANNED),
    "arch-oss-tail.gguf": (3, "has an architecture that the installed engine can't load: oss"),
    "bitnet-b1.58-2b4t.gguf": (0, PLANNED),
    "control-chars-name.gguf": (0, "red model"),
    "control-vector.gguf": (3, "is a control vector (for --control-vector with its model), not a model"),
    "deepseek-v3.2.gguf": (3, "is free"),
    "eagle3-llama3.1-8b.gguf": (3, "is a draft model (for --model-draft with its model), it can't answer by itself"),
    "ernie-4.5-300b.gguf": (3, "is free"),
    "expert-used-zero.gguf": (6, "is not a sound model: it uses none of its 8 experts"),
    "extra-tensor.gguf": (6, "it has tensors that its model doesn't (llama.cpp: wrong number of tensors; expected 22"),
    "flan-t5-xl.gguf": (3, "is an encoder-decoder model, which can't be run here"),
    "flux-dit.gguf": (3, "is a model that makes pictures, not a language model"),
    "fx_glm4-9b.gguf": (0, PLANNED),
    "fx_glm4moe-air.gguf": (3, "is free"),
    "gptj.gguf": (3, "has an architecture that the installed engine can't load: gptj"),
    "imatrix.gguf": (3, "is an importance matrix, which llama-quantize uses, not a model"),
    "int-as-u64.gguf": (6, "a figure is of the wrong kind (llama.cpp: key llama.block_count has wrong type u64"),
    "jais-13b.gguf": (0, PLANNED),
    "keys-3000.gguf": (6, "is cut off in its header: key 602 of 3020"),  # it is: of its keys 20,000 bytes are there
    "nanbeige4.2-3b.gguf": (0, PLANNED),
    "nemotron-ultra-253b.gguf": (3, "is free"),
}


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same files for every test: whether the engine refuses one is asked once."""
    folder = tmp_path_factory.mktemp("odd")
    for name in CASES:
        unpacked(name, folder)
    return folder


def unpacked(name: str, folder: Path) -> Path:
    file = folder / name
    file.write_bytes(gzip.decompress((FIXTURES / f"{name}.gz").read_bytes()))
    return file


@pytest.fixture(scope="module")
def cache(measured_cache: Path, odd_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is remembered of the machine, the engine and the files: once for all tests of this module. The odd files'
    architectures are asked about together."""
    place = tmp_path_factory.mktemp("cache")
    shutil.copytree(measured_cache, place / "llmctl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place))
        assert architectures.loadable(Host(), set(map(architecture, odd_files.iterdir()))) is not None
    return place


def architecture(file: Path) -> str:
    """As the first of the header's texts says, "llama" where none does."""
    stated = re.search(rb"general\.architecture\x08\0\0\0[^\0]\0{7}([a-z0-9_-]+)", file.read_bytes())
    return stated[1].decode() if stated else "llama"


@pytest.fixture(autouse=True)
def remembered(cache: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


MACHINE = """
[cpu]
name = "a processor"
physical_cores = 8
[memory]
total_bytes = 34359738368
available_bytes = 30000000000
"""


@pytest.fixture
def found() -> Situation:
    return situation.look(Output("test"), measure=False)


@pytest.mark.parametrize("name", CASES)
def test_odd_headers(name: str, odd_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, words = CASES[name]
    (tmp_path / "machine.toml").write_text(MACHINE)
    assert main(["plan", str(odd_files / name), "--machine", str(tmp_path / "machine.toml")]) == code
    told = capsys.readouterr()
    assert words in told.out + told.err
    assert "\x1b" not in told.out + told.err


@pytest.mark.parametrize("name", [name for name, (code, _) in CASES.items() if code == 0])
def test_odd_headers_with_the_engines_own_figures(name: str, odd_files: Path, found: Situation) -> None:
    memory = replace(found.machine.memory, available_bytes=30_000_000_000)
    roomy = replace(found, machine=replace(found.machine, memory=memory, accelerators=()))
    answer = plan.plan(roomy, [catalogue.from_file(odd_files / name)], NAMED)
    assert isinstance(answer, Plan) and answer.choice.memory.basis is MemoryBasis.ENGINE


def test_every_fixture_has_its_row() -> None:
    assert {file.name.removesuffix(".gz") for file in FIXTURES.iterdir()} == CASES.keys()


def without(*names: str) -> list[TensorSpec]:
    return [tensor for tensor in TENSORS if tensor.name not in names]


def shaped(name: str, *shape: int) -> list[TensorSpec]:
    return [tensor._replace(shape=shape) if tensor.name == name else tensor for tensor in TENSORS]


BYTE_PAIRS: dict[str, Value] = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "default"}
PAIRS: dict[str, Value] = {**BYTE_PAIRS, "tokenizer.ggml.merges": ["a b"]}
WRONG_KIND = "a figure is of the wrong kind"
WRONG_SHAPE = "a tensor has the wrong shape"
# What only the engine finds: metadata that is changed (None: left out), tensors, words of the reason.
REFUSED: dict[str, tuple[dict[str, Value | None], list[TensorSpec], str]] = {
    "matrix missing": ({}, without("blk.1.ffn_up.weight"), "a tensor is missing (llama.cpp: tensor 'blk.1.ffn_up"),
    "norm missing": ({}, without("output_norm.weight"), "a tensor is missing (llama.cpp: tensor 'output_norm.weight'"),
    "table missing": ({}, without("token_embd.weight"), "a tensor is missing (llama.cpp: tensor 'token_embd.weight'"),
    "too many": ({}, [*TENSORS, TensorSpec("blk.1.x", (64,), "F32")], "it has tensors that its model doesn't"),
    "matrix shape": ({}, shaped("blk.1.ffn_up.weight", 64, 64), WRONG_SHAPE),
    "norm shape": ({}, shaped("blk.0.attn_norm.weight", 32), WRONG_SHAPE),
    "feed-forward of 0": ({"llama.feed_forward_length": 0}, TENSORS, WRONG_SHAPE),
    "heads that don't divide": (
        {"llama.attention.head_count": 5, "llama.rope.dimension_count": 12},
        TENSORS,
        WRONG_SHAPE,
    ),
    "more key heads": ({"llama.attention.head_count_kv": 8}, TENSORS, WRONG_SHAPE),
    "draft layers": ({"llama.nextn_predict_layers": 1}, TENSORS, "it has tensors that its model doesn't"),
    "tokenizer": ({"tokenizer.ggml.model": "nonsense"}, TENSORS, "its tokenizer is not known to the installed engine"),
    "pre-tokenizer": (
        {**PAIRS, "tokenizer.ggml.pre": "nonsense"},
        TENSORS,
        "its tokenizer is not known to the installed engine (llama.cpp: unknown pre-tokenizer type: 'nonsense')",
    ),
    "no merges": ({**BYTE_PAIRS}, TENSORS, "its tokenizer is incomplete"),
    "few scores": ({"tokenizer.ggml.scores": [0.0]}, TENSORS, "a list in its header has the wrong length"),
    "kind of epsilon": ({"llama.attention.layer_norm_rms_epsilon": "small"}, TENSORS, WRONG_KIND),
    "kind of context": ({"llama.context_length": Kind(5, "i", 512)}, TENSORS, WRONG_KIND),
    "kind of layers": ({"llama.block_count": Kind(10, "Q", 2)}, TENSORS, WRONG_KIND),
    "kind of frequency": ({"llama.rope.freq_base": "high"}, TENSORS, WRONG_KIND),
    "expert groups": (
        {"llama.expert_count": 8, "llama.expert_used_count": 2, "llama.expert_group_count": 8},
        TENSORS,
        "its figures don't fit together, so that llama.cpp stops (llama.cpp: GGML_ASSERT(hparams.n_expert_groups <",
    ),
}


def lie(path: Path, changed: dict[str, Value | None], tensors: list[TensorSpec]) -> Path:
    stated = gguf_file.llama_metadata(TINY) | changed
    return gguf_file.write(path, {key: value for key, value in stated.items() if value is not None}, tensors)


@pytest.mark.parametrize("name", REFUSED)
def test_the_engines_refusal_is_the_answer(name: str, tmp_path: Path, found: Situation) -> None:
    changed, tensors, words = REFUSED[name]
    file = lie(tmp_path / "lie.gguf", changed, tensors)
    candidates = [catalogue.from_file(file)]
    with pytest.raises(IntegrityError) as caught:
        plan.plan(found, candidates, NAMED)
    assert caught.value.message.startswith(f"{file} can't be loaded: {words}")
    assert caught.value.message.isprintable() and caught.value.hint
    begin = time.perf_counter()
    for situated, ask in ((found, False), (replace(found, elsewhere=True), True)):
        with pytest.raises(IntegrityError):
            plan.plan(situated, candidates, NAMED, ask=ask)
    assert time.perf_counter() - begin < 1  # remembered


# What the header alone tells, where no engine is here to be asked.
WITHOUT_ENGINE = {
    "matrix missing": "it has no tensor blk.1.ffn_up.weight",
    "norm missing": "it has no tensor output_norm.weight",
    "table missing": "it has no tensor token_embd.weight",
    "matrix shape": "its tensor blk.1.ffn_up.weight makes vectors of 64 elements, its header says 128",
    "norm shape": "its tensor blk.0.attn_norm.weight has 32 elements, its header says 64",
}


@pytest.mark.parametrize("name", WITHOUT_ENGINE)
def test_without_an_engine_the_tensors_are_looked_at(name: str, tmp_path: Path, found: Situation) -> None:
    changed, tensors, _ = REFUSED[name]
    file = lie(tmp_path / "lie.gguf", changed, tensors)
    with pytest.raises(IntegrityError) as caught:
        plan.plan(replace(found, engines=()), [catalogue.from_file(file)], NAMED)
    assert caught.value.message == f"{file} can't be loaded: {WITHOUT_ENGINE[name]}"


@pytest.mark.parametrize("verb", [["plan"], ["run", "-m"]])
def test_the_refusal_of_a_file_ends_the_command(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = lie(tmp_path / "lie.gguf", {}, without("blk.1.ffn_up.weight"))
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main([*verb, str(file), *(["hi"] if verb[0] == "run" else [])]) == 6
    told = capsys.readouterr()
    assert told.out == "" and f"{file} can't be loaded: a tensor is missing" in told.err


def test_a_file_that_does_not_fit_is_refused_for_what_it_is(tmp_path: Path, found: Situation) -> None:
    memory = replace(found.machine.memory, available_bytes=1 << 20)
    small = replace(found, machine=replace(found.machine, memory=memory, accelerators=()))
    sound = catalogue.from_file(lie(tmp_path / "sound.gguf", {}, TENSORS))
    assert isinstance(plan.plan(small, [sound], NAMED), NoFit)
    broken = catalogue.from_file(lie(tmp_path / "broken.gguf", {}, without("output_norm.weight")))
    with pytest.raises(IntegrityError, match="a tensor is missing"):
        plan.plan(small, [broken], NAMED)


def test_of_several_the_refused_one_is_rejected(tmp_path: Path, found: Situation) -> None:
    broken = catalogue.from_file(lie(tmp_path / "broken.gguf", {}, without("output_norm.weight")))
    sound = catalogue.from_file(lie(tmp_path / "sound.gguf", {"general.name": "sound"}, TENSORS))
    for order in ([broken, sound], [sound, broken]):
        answer = plan.plan(found, order, Want(explicit=True, min_tok_s=0))
        assert isinstance(answer, Plan) and answer.choice.candidate.path == sound.path
        (rejected,) = answer.rejected
        assert rejected.model == "broken" and rejected.reason.startswith("can't be loaded: a tensor is missing")


def test_settings_that_the_engine_refuses_are_not_the_files_fault(tmp_path: Path) -> None:
    engine, sound = engines(Host())[0], lie(tmp_path / "sound.gguf", {}, TENSORS)
    allocation, why = dry_run.dry_run(Host(), engine, sound, Configuration(512, "q8_0"))
    assert allocation is None and why is not None
    assert refusal(Host(), engine, sound) is None


def test_an_engine_that_says_nothing_refuses_nothing(
    tmp_path: Path, found: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "DEADLINE_S", 0.01)
    file = lie(tmp_path / "broken.gguf", {}, without("output_norm.weight"))
    engine = engines(Host())[0]
    assert refusal(Host(), engine, file) is None
    monkeypatch.undo()
    told = refusal(Host(), engine, file)
    assert told is not None and told.broken


@pytest.mark.parametrize("words", ["std::bad_alloc", "unable to allocate CPU buffer", "failed to open GGUF file 'x'"])
def test_what_the_engine_lacks_is_no_refusal(words: str) -> None:
    from llmctl.engine.llama_cpp.refusal import is_about_file

    assert not is_about_file(words)
    assert is_about_file("missing tensor 'output_norm.weight'")


def test_parts_that_are_headers_only_are_asked_about_together(tmp_path: Path, found: Situation) -> None:
    metadata = gguf_file.llama_metadata(TINY)
    for number, some in enumerate((TENSORS[:9], TENSORS[9:])):
        figures: dict[str, Value] = {
            "split.no": Kind(2, "H", number),
            "split.count": Kind(2, "H", 2),
            "split.tensors.count": Kind(5, "i", len(TENSORS)),
        }
        own = {**metadata, **figures} if number == 0 else {"general.architecture": "llama", **figures}
        gguf_file.write(tmp_path / f"m-{number + 1:05}-of-00002.gguf", own, some)
    engine = engines(Host())[0]
    first = tmp_path / "m-00001-of-00002.gguf"
    assert refusal(Host(), engine, first) is None
    allocation, why = dry_run.dry_run(Host(), engine, first, Configuration(512))
    assert allocation is not None and why is None
    assert isinstance(plan.plan(found, [catalogue.from_file(first)], Want(explicit=True, min_tok_s=0)), Plan)


def test_a_long_array_that_no_model_needs_is_not_given_to_the_engine(tmp_path: Path) -> None:
    """It would build a text of it all: six seconds for 60 MB."""
    plain = lie(tmp_path / "plain.gguf", {}, TENSORS)
    engine = engines(Host())[0]
    expected = dry_run.dry_run(Host(), engine, plain, Configuration(512))
    raw = plain.read_bytes()
    numbers = gguf_file.text("long.array") + gguf_file.encode([Kind(0, "B", 0)])[:8]
    numbers += (60 << 20).to_bytes(8, "little") + bytes(60 << 20)
    header = raw[:16] + (int.from_bytes(raw[16:24], "little") + 1).to_bytes(8, "little") + numbers + raw[24:]
    long = tmp_path / "long.gguf"
    long.write_bytes(header + bytes(gguf_file.padded(len(header)) - len(header)))
    begin = time.perf_counter()
    assert dry_run.dry_run(Host(), engine, long, Configuration(512)) == expected
    assert time.perf_counter() - begin < 4  # 0.5 s on the reference machine


@pytest.mark.parametrize(("pooling", "words"), [(3, "tiny makes vectors"), (4, "tiny scores texts")])
def test_what_makes_vectors_does_not_answer(
    pooling: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = gguf_file.llama_metadata(TINY) | {"llama.pooling_type": pooling}
    file = gguf_file.write(tmp_path / "e.gguf", stated, TENSORS, fill=Fill.RANDOM)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main(["run", "-m", str(file), "hi"]) == 3
    told = capsys.readouterr()
    assert told.out == "" and f"{words}, it does not answer" in told.err
    assert main(["plan", str(file)]) == 0


SOUND_OF_ANOTHER_KIND = {
    "model.safetensors": (40).to_bytes(8, "little") + b'{"__metadata__":{"format":"pt"}}'.ljust(40),
    "pytorch_model.bin": b"PK\x03\x04" + bytes(200),
    "ggml-base.bin": b"lmgg" + (51865).to_bytes(4, "little") + bytes(200),
}
DAMAGED = {
    "page.gguf": b"<!DOCTYPE html><html><title>Sign in</title></html>",
    "pointer.gguf": b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 1\n",
    "cut.gguf": b"GGUF\x03\0\0\0",
    "empty.gguf": b"",
}


@pytest.mark.parametrize("name", [*SOUND_OF_ANOTHER_KIND, *DAMAGED])
def test_what_is_no_gguf_file_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes((SOUND_OF_ANOTHER_KIND | DAMAGED)[name])
    expected: type[LlmctlError] = UnsupportedFileError if name in SOUND_OF_ANOTHER_KIND else IntegrityError
    with pytest.raises(expected) as caught:
        catalogue.from_file(file)
    assert caught.value.message.startswith(str(file))


ADAPTER = [TensorSpec("blk.0.attn_q.weight.lora_a", (64, 8), "F32")]
IMAGES = [TensorSpec("v.patch_embd.weight", (64, 64), "F32")]
# Files that state no general.type: what the header's other keys tell.
UNTYPED: dict[str, tuple[dict[str, Value], list[TensorSpec], str]] = {
    "adapter": ({"general.architecture": "llama", "adapter.type": "lora"}, ADAPTER, "is an adapter"),
    "matrix": ({"general.architecture": "llama", "imatrix.chunk_count": 9}, ADAPTER, "is an importance matrix"),
    "projector": ({"general.architecture": "gemma3", "clip.has_vision_encoder": True}, IMAGES, "is a vision projector"),
}


@pytest.mark.parametrize("name", UNTYPED)
def test_what_is_no_model_without_a_word_of_its_kind(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata, tensors, words = UNTYPED[name]
    file = gguf_file.write(tmp_path / "it.gguf", metadata, tensors)
    assert main(["plan", str(file)]) == 3
    assert f"{file} {words}" in capsys.readouterr().err


@pytest.mark.parametrize("epsilon", [float("nan"), float("inf"), -1.0])
def test_a_norm_that_the_engine_would_stop_at(
    epsilon: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = lie(tmp_path / "lie.gguf", {"llama.attention.layer_norm_rms_epsilon": epsilon}, TENSORS)
    assert main(["plan", str(file)]) == 6
    assert "is not a sound model: its norms' epsilon is" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["plan"], ["run", "-m"], ["pull"]])
@pytest.mark.parametrize("name", ["loop.gguf", f"{'a' * 300}.gguf", "whole.gguf/it.gguf", "dangling.gguf"])
def test_a_path_that_leads_to_no_file(
    name: str, verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    (tmp_path / "dangling.gguf").symlink_to("nowhere")
    lie(tmp_path / "whole.gguf", {}, TENSORS)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main([*verb, str(tmp_path / name), *(["hi"] if verb[0] == "run" else [])]) == 4
    assert str(tmp_path / name) in capsys.readouterr().err


def test_a_later_part_that_is_cut_off_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, tensors in enumerate((TENSORS[:9], TENSORS[9:])):
        figures: dict[str, Value] = {
            "split.no": Kind(2, "H", number),
            "split.count": Kind(2, "H", 2),
            "split.tensors.count": Kind(5, "i", len(TENSORS)),
        }
        own = gguf_file.llama_metadata(TINY) if number == 0 else {}
        file = gguf_file.write(tmp_path / f"m-0000{number + 1}-of-00002.gguf", own | figures, tensors, fill=Fill.SPARSE)
    gguf_file.cut(file, file.stat().st_size - 1)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main(["run", "-m", str(tmp_path / "m-00001-of-00002.gguf"), "hi"]) == 6
    assert f"{file} is cut off" in capsys.readouterr().err


def test_a_model_without_words_is_planned_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = gguf_file.llama_metadata(TINY) | {"tokenizer.ggml.model": "none"}
    file = gguf_file.write(tmp_path / "it.gguf", metadata, TENSORS, fill=Fill.SPARSE)
    assert main(["plan", str(file)]) == 0
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main(["run", "-m", str(file), "hi"]) == 3
    assert f"{file} has no vocabulary" in capsys.readouterr().err


def test_a_file_whose_name_is_not_utf8_answers(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9\n\x1b[2J.gguf")
    gguf_file.write(file, gguf_file.llama_metadata(TINY), TENSORS, fill=Fill.RANDOM)
    done = ran(["run", "-m", str(file), "--max-tokens", "4", "hi"])
    assert done.returncode == 0 and done.stdout
    assert b"\x1b[2J" not in done.stdout + done.stderr


def test_a_folder_whose_name_is_too_long_holds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "--from", "a" * 300]) == 4
    assert "holds no model" in capsys.readouterr().err
