"""What the files of a repository offer, and which of it is meant."""

from __future__ import annotations

import pytest

from llmctl.errors import NotFoundError
from llmctl.store import names
from llmctl.store.offers import Offer, choose, offers
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
    "SQ8_0nia.gguf": None,
    "Q.gguf": None,
    "tiny.gguf": None,
}


@pytest.mark.parametrize(("file", "quant"), QUANTS.items())
def test_the_quantization_that_a_name_tells(file: str, quant: str | None) -> None:
    assert names.quant(file) == quant


@pytest.mark.parametrize(
    ("stem", "shorter"), [("Tiny-Q4_K_M", "Tiny"), ("tiny.q8_0", "tiny"), ("tiny", "tiny"), ("Q4_0", "Q4_0")]
)
def test_a_name_without_it(stem: str, shorter: str) -> None:
    assert names.without_quant(stem) == shorter


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


def test_what_is_not_there_is_told_with_what_is() -> None:
    with pytest.raises(NotFoundError, match=r"maker/tiny has no q8_1, but .*Q8_0") as caught:
        choose(made("t-Q4_0.gguf", "t-Q8_0.gguf"), "q8_1", "maker/tiny")
    assert caught.value.hint == "llmctl pull maker/tiny:Q8_0"
    with pytest.raises(NotFoundError, match="no whole GGUF model"):
        choose([], None, "maker/tiny")


def test_two_models_of_one_quantization_are_told_apart_by_their_files() -> None:
    found = made("a-Q4_0.gguf", "b-Q4_0.gguf")
    with pytest.raises(NotFoundError, match="2 models in Q4_0") as caught:
        choose(found, "Q4_0", "maker/tiny")
    assert "a-Q4_0.gguf, b-Q4_0.gguf" in (caught.value.hint or "")
    assert choose(found, "b-Q4_0.gguf", "maker/tiny").parts[0].file == "b-Q4_0.gguf"
