"""What the files of a repository offer, and which of it is meant."""

from __future__ import annotations

import time

import pytest

from llmctl.errors import NotFoundError
from llmctl.gguf import file_names
from llmctl.hub.quantizations import Offer, choose, offers
from llmctl.types.model import Source, SourceKind

QUANTS = {
    "Tiny-1B-Q4_K_M.gguf": "Q4_K_M",
    "tiny.q5_0.gguf": "Q5_0",
    "tiny-1b-instruct-q4_k_m-00001-of-00002.gguf": "Q4_K_M",
    "Qwen3-4B-UD-Q4_K_XL.gguf": "UD-Q4_K_XL",
    "model.i1-IQ2_XXS.gguf": "IQ2_XXS",
    "gpt-oss-20b-MXFP4.gguf": "MXFP4",
    "tiny-Q4_K_M_imat.gguf": "Q4_K_M",
    "BF16/tiny-00001-of-00002.gguf": "BF16",
    "Tiny-Q8-v2-Q3_K_L.gguf": "Q3_K_L",
    "tiny-fp16.gguf": "F16",
    "mmproj-model-f16.gguf": "F16",
    "Llama-3.2-1B-Instruct-Q6_K_L.gguf": "Q6_K_L",
    "tiny-TQ1_0.gguf": "TQ1_0",
    "tiny-Q4_0_4_4.gguf": "Q4_0_4_4",
    "m-IQ4_KSS.gguf": "IQ4_KSS",
    "m-IQ2_KT.gguf": "IQ2_KT",
    "m-Q4_K_P.gguf": "Q4_K_P",
    "m-Q4_K_M-Q8_0-embed.gguf": "Q4_K_M",
    "m-q4km.gguf": "Q4_K_M",
    "m-Q5KS.gguf": "Q5_K_S",
    "m-q6k.gguf": "Q6_K",
    "m-q80.gguf": "Q8_0",
    "m-q4-k-m.gguf": "Q4_K_M",
    "m-iq4xs.gguf": "IQ4_XS",
    "m-iq4_nl.gguf": "IQ4_NL",
    "m-IQ3XXS.gguf": "IQ3_XXS",
    "m.i1-Q4_K_S.gguf": "Q4_K_S",
    "m_UD_IQ1_S.gguf": "UD-IQ1_S",
    "m-UD-TQ1_0.gguf": "UD-TQ1_0",
    "m-UD-Q8_K_XL.gguf": "UD-Q8_K_XL",
    "m-Q8_K_XL.gguf": "Q8_K_XL",
    "m-MXFP4_MOE.gguf": "MXFP4_MOE",
    "m-MXFP4_MOE_BF16.gguf": "MXFP4_MOE",
    "m-mxfp4.gguf": "MXFP4",
    "m-NVFP4.gguf": "NVFP4",
    "m-IQ4_XS_R8.gguf": "IQ4_XS_R8",
    "m-IQ1_S_R4.gguf": "IQ1_S_R4",
    "m-Q8_KV.gguf": "Q8_KV",
    "m-IQ1_BN.gguf": "IQ1_BN",
    "m-Q6_0.gguf": "Q6_0",
    "m-TQ3_1S.gguf": "TQ3_1S",
    "m-Q6_K-f16-output.gguf": "Q6_K",
    "m-f16-Q6_K.gguf": "Q6_K",
    "m-Q4_K_M_v2.gguf": "Q4_K_M",
    "nomic-embed-text-Q8_0.gguf": "Q8_0",
    "MODEL-Q4_K_M.GGUF": "Q4_K_M",
    "model.bf16.gguf": "BF16",
    "UD-IQ2_M/tiny-00001-of-00002.gguf": "UD-IQ2_M",
    "tiny-Q4-1B.gguf": "Q4",
    "ggml-model-i2_s.gguf": "I2_S",
    "m-TL1.gguf": "TL1",
    "m-BF16_R16.gguf": "BF16_R16",
    "m-Q8_K_R16.gguf": "Q8_K_R16",
    "m-Q4_X.gguf": "Q4_X",
    "m-Q3_PT.gguf": "Q3_PT",
    "m-Q3_HIFI.gguf": "Q3_HIFI",
    "m-Q4_K_M-fp16.gguf": "Q4_K_M",
    "m-smol-IQ2_KL-00001-of-00008.gguf": "IQ2_KL",
    "m-IQ4_XS-4.04bpw.gguf": "IQ4_XS",
    "SQ8_0nia.gguf": None,
    "Q.gguf": None,
    "tiny.gguf": None,
}


@pytest.mark.parametrize(("file", "quant"), QUANTS.items())
def test_the_quantization_that_a_name_tells(file: str, quant: str | None) -> None:
    assert file_names.quant(file) == quant


@pytest.mark.parametrize(
    ("stem", "shorter"),
    [
        ("Tiny-Q4_K_M", "Tiny"),
        ("tiny.q8_0", "tiny"),
        ("tiny-q4km", "tiny"),
        ("tiny", "tiny"),
        ("Q4_0", "Q4_0"),
        ("größe-Q4_0", "größe"),
    ],
)
def test_a_name_without_it(stem: str, shorter: str) -> None:
    assert file_names.without_quant(stem) == shorter


KINDS = {
    "Model-35B-A3B-MTP-IQ4_XS.gguf": "model",
    "Model-27B-MTP-Q8_0.gguf": "model",
    "MTP/Model-27B-MTP-Q8_0.gguf": "model",
    "Model-7B-imatrix-Q4_K_M.gguf": "model",
    "Model-7B-Q4_K_M-imatrix.gguf": "model",
    "MODEL-Q4_K_M.GGUF": "model",
    "Model-draft-Q4_K_M.gguf": "model",
    "mtp-Model-Q8_0.gguf": "neither",
    "imatrix_unsloth.gguf": "neither",
    "imatrix-Q8_0.gguf": "neither",
    "Model-7B.imatrix.gguf": "neither",
    "Model-7B-imatrix-v2.gguf": "neither",
    "Model-7B-BF16-imatrix.gguf": "neither",
    "Model-7B-eagle3-F16.gguf": "neither",
    "dflash-Model.gguf": "neither",
    "Model-7B-eagle-3.gguf": "neither",
    "Model-7B-mtp-head.gguf": "neither",
    "Model-7B-medusa-F16.gguf": "neither",
    "lora-Model-Q8_0.gguf": "neither",
    "Model-LoRA-F16.gguf": "neither",
    "my_adapter.gguf": "neither",
    "Model-lora-Q4_K_M.gguf": "model",
    "Model-lora-merged-F16.gguf": "model",
    "ggml-vocab-llama-bpe.gguf": "neither",
    "Model-tokenizer-f16.gguf": "neither",
    "control_vector_happy.gguf": "neither",
    "Tokenizer-Free-7B-Q8_0.gguf": "model",
    "._Model-Q4_K_M.gguf": "neither",
    ".Model-Q4_K_M.gguf": "neither",
    "model.Q8_0.gguf-split-a": "neither",
    "README.md": "neither",
    "mmproj-BF16.gguf": "projector",
    "gemma-4-26B-A4B-it-mmproj.GGUF": "projector",
    "Ternary-27B-vision-projector-Q8_0.gguf": "projector",
    "llava-mm-proj-f16.gguf": "projector",
    "mm_proj.gguf": "projector",
    "mmproj/model-f16.gguf": "projector",
}


@pytest.mark.parametrize(("file", "kind"), KINDS.items())
def test_what_a_file_is_by_its_name(file: str, kind: str) -> None:
    assert file_names.is_model(file) == (kind == "model")
    assert file_names.is_projector(file) == (kind == "projector")


def made(*files: str, size: int = 10) -> list[Offer]:
    return offers(Source(SourceKind.HUB, "maker/tiny", file, size, None, "main") for file in files)


def test_every_quantization_is_an_offer_and_nothing_else() -> None:
    found = made("t-Q4_0.gguf", "t-Q8_0.gguf", "README.md", "t.imatrix.gguf", "mtp-t-Q4_0.gguf", "mmproj-F16.gguf")
    assert sorted(one.quant for one in found) == ["Q4_0", "Q8_0"]


def test_parts_come_together_in_order_and_only_if_all_are_there() -> None:
    files = ["t-Q8_0-00002-of-00003.gguf", "t-Q8_0-00003-of-00003.gguf", "t-Q8_0-00001-of-00003.gguf"]
    (one,) = made(*files, "t-Q4_0-00001-of-00002.gguf", "x-Q4_0-00009-of-00002.gguf")
    assert [part.file for part in one.parts] == sorted(files)
    assert one.bytes == 30


PROJECTORS = {
    "sixteen bits first": (["mmproj-F32.gguf", "mmproj-Q8_0.gguf", "mmproj-F16.gguf"], "mmproj-F16.gguf"),
    "the nearest folder first": (["mmproj-F16.gguf", "Q4_0/mmproj-F32.gguf"], "Q4_0/mmproj-F32.gguf"),
    "not out of another folder": (["Q8_0/mmproj-F16.gguf"], None),
    "none": ([], None),
}


@pytest.mark.parametrize(("files", "wanted"), PROJECTORS.values(), ids=PROJECTORS.keys())
def test_the_projector_that_goes_with_a_model(files: list[str], wanted: str | None) -> None:
    (one,) = made("Q4_0/t-Q4_0.gguf", *files)
    assert (one.projector and one.projector.file) == wanted
    assert one.bytes == (20 if wanted else 10)


def test_what_is_taken_when_nobody_says() -> None:
    found = made("t-Q2_K.gguf", "t-Q8_0.gguf", "t-Q4_K_M.gguf", "t-Q4_0.gguf")
    assert choose(found, None, "maker/tiny").quant == "Q4_K_M"
    assert choose(made("t-Q2_K.gguf", "t-IQ1_S.gguf"), None, "maker/tiny").quant in ("Q2_K", "IQ1_S")


@pytest.mark.parametrize("wanted", ["Q8_0", "q8_0", "t-Q8_0.gguf", "T-q8_0.GGUF"])
def test_what_is_named(wanted: str) -> None:
    assert choose(made("t-Q4_0.gguf", "t-Q8_0.gguf"), wanted, "maker/tiny").parts[0].file == "t-Q8_0.gguf"


ASKED = {
    "UD-Q4_K_XL": "UD-Q4_K_XL/t-UD-Q4_K_XL.gguf",
    "q4_k_xl": "UD-Q4_K_XL/t-UD-Q4_K_XL.gguf",
    "Q8_0": "t-Q8_0.gguf",
    "q80": "t-Q8_0.gguf",
    "Q8-0": None,
    "fp16": "t-F16.gguf",
    "t-UD-Q4_K_XL": "UD-Q4_K_XL/t-UD-Q4_K_XL.gguf",
    "t-UD-Q4_K_XL.gguf": "UD-Q4_K_XL/t-UD-Q4_K_XL.gguf",
    "old": "old/t-Q5_0.gguf",
    "Q4_K_M": "t-Q4_K_M.gguf",
    "mmproj-F16.gguf": None,
}


@pytest.mark.parametrize(("wanted", "file"), ASKED.items())
def test_what_a_model_may_be_asked_by(wanted: str, file: str | None) -> None:
    names = ("UD-Q4_K_XL/t-UD-Q4_K_XL.gguf", "old/t-Q5_0.gguf", "t-F16.gguf", "t-Q8_0.gguf")
    found = made(*names, "t-UD-Q4_K_M.gguf", "t-Q4_K_M.gguf", "mmproj-F16.gguf")
    if file is None:
        with pytest.raises(NotFoundError, match="has no"):
            choose(found, wanted, "maker/tiny")
    else:
        assert choose(found, wanted, "maker/tiny").parts[0].file == file


def test_what_is_not_there_is_told_with_what_is() -> None:
    with pytest.raises(NotFoundError, match=r"maker/tiny has no q8_1, but .*Q8_0") as caught:
        choose(made("t-Q4_0.gguf", "t-Q8_0.gguf"), "q8_1", "maker/tiny")
    assert caught.value.hint == "llmctl pull maker/tiny:Q8_0"
    with pytest.raises(NotFoundError, match="no whole GGUF model"):
        choose([], None, "maker/tiny")


@pytest.mark.parametrize(
    ("repo", "hint"),
    [
        ("maker/tiny", "llmctl pull maker/tiny-GGUF   where quantized files of a model often are"),
        ("maker/tiny-GGUF", "llmctl models list --all"),
        ("maker/tiny-gguf", "llmctl models list --all"),
    ],
)
def test_a_repository_without_a_model(repo: str, hint: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        choose(made("mmproj-F16.gguf"), None, repo)
    assert caught.value.hint == hint


@pytest.mark.parametrize("wanted", [None, "Q4_K_M"])
def test_a_draft_model_is_not_the_one_that_is_meant(wanted: str | None) -> None:
    found = made("t-draft-Q4_K_M.gguf", "t-Q4_K_M.gguf")
    assert choose(found, wanted, "maker/tiny").parts[0].file == "t-Q4_K_M.gguf"
    assert choose(found, "t-draft-Q4_K_M.gguf", "maker/tiny").parts[0].file == "t-draft-Q4_K_M.gguf"


MANY = 5000
LISTINGS = {
    "a projector for every model": (
        [f"{n}/{file}" for n in range(MANY // 2) for file in ("mmproj-F16.gguf", "t-Q4_0.gguf")],
        MANY // 2,
    ),
    "parts": ([f"{n}-Q4_0-{part:05}-of-01000.gguf" for n in range(MANY // 1000) for part in range(1, 1001)], 5),
    "first parts of what isn't there": ([f"{n}-Q4_0-00001-of-01000.gguf" for n in range(MANY)], 0),
}


@pytest.mark.parametrize(("files", "models"), LISTINGS.values(), ids=LISTINGS.keys())
def test_a_long_listing_takes_no_longer_than_reading_it(files: list[str], models: int) -> None:
    """0.2 s of computing; it was 2.4 to 22 s when every file was held against every other."""
    begun_s = time.process_time()
    found = made(*files)
    assert len(found) == models
    assert time.process_time() - begun_s < 2.0


def test_two_models_of_one_quantization_are_told_apart_by_their_files() -> None:
    found = made("a-Q4_0.gguf", "b-Q4_0.gguf")
    with pytest.raises(NotFoundError, match="2 models in Q4_0") as caught:
        choose(found, "Q4_0", "maker/tiny")
    assert "a-Q4_0.gguf, b-Q4_0.gguf" in caught.value.message
    assert caught.value.hint == "llmctl pull maker/tiny:a-Q4_0.gguf"
    assert choose(found, "b-Q4_0.gguf", "maker/tiny").parts[0].file == "b-Q4_0.gguf"
