"""The engine's own sums without its memory, held against what it allocates in earnest."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl.engine.devices import engines
from llmctl.engine.llama_cpp import dry_run as module
from llmctl.engine.llama_cpp.dry_run import dry_run
from llmctl.errors import IntegrityError
from llmctl.files import measured_cache
from llmctl.host import Host
from llmctl.types.machine import EngineInfo
from llmctl.types.plan import Allocation, Configuration
from tests.fakes import gguf_file

MIB = 1 << 20


@pytest.fixture
def engine(engine_known: None) -> EngineInfo:
    return engines(Host())[0]


def test_the_starter(starter_file: Path, engine: EngineInfo) -> None:
    """SmolLM2 135M: 30 layers x 3 heads x 64 x (K + V) x f16, and 512 rows of 49,152 logits beside two of 576."""
    found, why = dry_run(Host(), engine, starter_file, Configuration(4096))
    assert (found, why) == (Allocation(90 * MIB, 0, round(0.19 * MIB), {"CPU": round(99.38 * MIB)}), None)
    smaller, _ = dry_run(Host(), engine, starter_file, Configuration(4096, "q8_0", flash_attention=True, ubatch=128))
    assert smaller is not None
    assert smaller.kv_bytes == pytest.approx(90 * MIB * 34 / 64, abs=0.01 * MIB)
    assert smaller.compute_bytes["CPU"] < 30 * MIB
    four, _ = dry_run(Host(), engine, starter_file, Configuration(4096, sequences=4))
    assert four is not None
    assert four.kv_bytes == 4 * 90 * MIB


def test_a_header_is_enough_and_no_weight_is_read(tmp_path: Path, engine: EngineInfo) -> None:
    whole = gguf_file.write_model(
        tmp_path / "whole.gguf", gguf_file.model_shape("llama-2-7b"), fill=gguf_file.Fill.SPARSE
    )
    beginning = tmp_path / "beginning.gguf"
    with whole.open("rb") as stream:
        beginning.write_bytes(stream.read(2 * MIB))
    expected = dry_run(Host(), engine, whole, Configuration(2048))
    assert dry_run(Host(), engine, beginning, Configuration(2048)) == expected
    assert expected[0] is not None
    assert expected[0].kv_bytes == 1024 * MIB  # 2 x 32 layers x 4096 x 2 bytes x 2048 cells


def test_what_the_engine_refuses_is_told_in_its_words(starter_file: Path, engine: EngineInfo) -> None:
    found, why = dry_run(Host(), engine, starter_file, Configuration(512, "q8_0"))
    assert found is None
    assert why is not None and "quantized V cache requires flash_attn" in why


def test_it_is_asked_once(starter_file: Path, engine: EngineInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dry_run(Host(), engine, starter_file, Configuration(512))
    monkeypatch.setattr(Host, "ask", lambda *_, **__: pytest.fail("asked again"))
    assert dry_run(Host(), engine, starter_file, Configuration(512)) == first
    with pytest.raises(pytest.fail.Exception):
        dry_run(Host(), engine, starter_file, Configuration(1024))
    with pytest.raises(pytest.fail.Exception):
        dry_run(Host(), replace(engine, build="another"), starter_file, Configuration(512))


def test_it_does_not_take_for_ever(starter_file: Path, engine: EngineInfo) -> None:
    found, why = dry_run(Host(), engine, starter_file, Configuration(768), deadline_s=0.01)
    assert (found, why) == (None, "llama-cpp-python did not answer within 0.01 s")


def test_a_file_that_is_none(tmp_path: Path, engine: EngineInfo) -> None:
    (tmp_path / "text.gguf").write_text("This is text.\n" * 99)
    with pytest.raises(IntegrityError):
        dry_run(Host(), engine, tmp_path / "text.gguf", Configuration(512))


def test_a_broken_cache_is_asked_again(starter_file: Path, engine: EngineInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dry_run(Host(), engine, starter_file, Configuration(512))
    monkeypatch.setattr(measured_cache, "read", lambda *_: {"kv_bytes": "much"})
    assert dry_run(Host(), engine, starter_file, Configuration(512)) == first
    assert module.SUBJECT == "dry-run"
