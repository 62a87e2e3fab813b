"""The contract's candidate object."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec.structs import replace

from llmctl.cli.output import jsonable
from llmctl.planner import plan
from llmctl.types.plan import Allocation, Plan, Want
from llmctl.workspace.document import candidate_document
from tests.planner.machines import EPYC, desktop, knowledge, made, of


def test_every_field_of_the_contract_is_there() -> None:
    answer = plan(desktop(4), of("qwen3.5-9b"), Want(), knowledge())
    assert isinstance(answer, Plan)
    document = json.loads(json.dumps(jsonable(candidate_document(answer.choice))))
    assert {
        "model",
        "quant",
        "source",
        "context",
        "kv_type",
        "gpu_layers",
        "threads",
        "memory",
        "speed",
        "download",
        "quality",
        "openness",
        "licence",
        "reasons",
    } <= document.keys()
    assert {"repo", "file", "bytes", "sha256"} <= document["source"].keys()
    assert set(document["memory"]) == {
        "by_device",
        "must_fit_bytes",
        "mapped_bytes",
        "touched_bytes",
        "basis",
        "analytic_must_fit_bytes",
        "disagreement",
    }
    assert document["settings"] == {
        "flash_attention": True,
        "ubatch": 512,
        "swa_full": False,
        "sequences": 1,
        "repack": True,
        "layers_per_device": [],
        "cpu_expert_layers": 0,
    }
    assert [row["device"] for row in document["memory"]["by_device"]] == ["cpu", "cuda0"]
    assert set(document["memory"]["by_device"][0]) == {
        "device",
        "weights_bytes",
        "repacked_bytes",
        "kv_bytes",
        "state_bytes",
        "compute_bytes",
        "total_bytes",
        "available_bytes",
    }
    assert set(document["speed"]) == {
        "decode_tok_s",
        "decode_low_tok_s",
        "decode_high_tok_s",
        "together_tok_s",
        "together_low_tok_s",
        "together_high_tok_s",
        "prefill_tok_s",
        "prefill_low_tok_s",
        "prefill_high_tok_s",
        "first_token_s",
        "load_s",
        "basis",
    }
    assert document["speed"]["basis"] == "modelled"
    assert document["download"] == {"bytes": answer.choice.download_bytes, "seconds": None}
    assert document["quality"]["index"] == answer.choice.quality
    assert all(result["source"].startswith("https://") for result in document["quality"]["evidence"])
    assert document["openness"]["licence"] == "CC-BY-4.0"
    assert document["openness"]["graded_on"] == "Qwen3.5-397B-A17B"
    assert document["licence"] == "Apache-2.0"
    assert document["reasons"]


def test_a_file_here_without_openness_or_index(tmp_path: Path) -> None:
    stored = replace(made(mmlu_pro=None), path=tmp_path / "x.gguf")
    answer = plan(EPYC, [stored], Want(), knowledge())
    assert isinstance(answer, Plan)
    document = candidate_document(answer.choice)
    assert document["path"] == str(tmp_path / "x.gguf")
    assert document["openness"] is None
    assert document["quality"] == {"index": None, "basis": None, "evidence": []}
    assert document["download"] == {"bytes": 0, "seconds": None}


def test_where_engine_and_formulas_are_apart_it_says_so(tmp_path: Path) -> None:
    stored = replace(made(), path=tmp_path / "x.gguf")
    formulas = plan(EPYC, [stored], Want(), knowledge())
    assert isinstance(formulas, Plan)
    fit = formulas.choice
    (row,) = fit.memory.by_device
    for extra, apart in ((10 << 20, False), (300 << 20, True)):
        said = Allocation(row.kv_bytes, 0, 0, {"CPU": row.compute_bytes + extra})
        answer = plan(EPYC, [stored], Want(), knowledge(), {(stored.path or Path(), fit.configuration): said})
        assert isinstance(answer, Plan)
        memory = candidate_document(answer.choice)["memory"]
        assert (memory["basis"], memory["analytic_must_fit_bytes"]) == ("engine", fit.memory.must_fit_bytes)
        assert memory["must_fit_bytes"] == fit.memory.must_fit_bytes + extra
        sentences = [reason for reason in answer.choice.reasons if "formulas say" in reason]
        assert (memory["disagreement"] is not None) == bool(sentences) == apart
