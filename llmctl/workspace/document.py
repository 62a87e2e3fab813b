"""A fit as the candidate object of ``llmctl plan --json``."""

from __future__ import annotations

from typing import Any

from llmctl.planner.reasons import DISAGREEING
from llmctl.struct import asdict
from llmctl.types.grade import Grade
from llmctl.types.model import Evidence, Model, Openness
from llmctl.types.plan import Configuration, Fit, MemoryPlan

SPEED_DIGITS = 2
TOGETHER = ("together_tok_s", "together_low_tok_s", "together_high_tok_s")
DISAGREEMENT_DIGITS = 3
GRADE_DIGITS = 1


def candidate_document(fit: Fit) -> dict[str, Any]:
    """``data.choice`` and each of ``data.alternatives`` of ``llmctl plan --json``, see ``contract.md``."""
    model, artifact, source = fit.candidate.model, fit.candidate.artifact, fit.candidate.artifact.source
    return {
        "model": model.id,
        "name": model.name,
        "quant": artifact.quant,
        "source": {
            "kind": source.kind,
            "repo": source.repo,
            "file": source.file,
            "bytes": artifact.bytes,
            "bytes_stated": source.bytes is not None,
            "sha256": source.sha256,
        },
        "path": None if fit.candidate.path is None else str(fit.candidate.path),
        "context": fit.context,
        "kv_type": fit.kv_type,
        "gpu_layers": fit.gpu_layers,
        "settings": settings_document(fit.configuration),
        "threads": fit.threads,
        "prefill_threads": fit.prefill_threads,
        "thinking": fit.thinking,
        "memory": memory_document(fit.memory),
        "speed": {
            "decode_tok_s": round(fit.speed.decode_tok_s, SPEED_DIGITS),
            "decode_low_tok_s": round(fit.speed.decode_low_tok_s, SPEED_DIGITS),
            "decode_high_tok_s": round(fit.speed.decode_high_tok_s, SPEED_DIGITS),
            "prefill_tok_s": round(fit.speed.prefill_tok_s, SPEED_DIGITS),
            "prefill_low_tok_s": round(fit.speed.prefill_low_tok_s, SPEED_DIGITS),
            "prefill_high_tok_s": round(fit.speed.prefill_high_tok_s, SPEED_DIGITS),
            "first_token_s": round(fit.speed.first_token_s, SPEED_DIGITS + 1),
            "load_s": None if fit.speed.load_s is None else round(fit.speed.load_s, SPEED_DIGITS),
            "basis": fit.speed.basis,
            **{name: _rounded(getattr(fit.speed, name)) for name in TOGETHER},
        },
        "download": {"bytes": fit.download_bytes, "seconds": fit.download_s},
        "quality": {
            **grade_document(fit.grade),
            "evidence": [evidence_document(result) for result in model.evidence],
        },
        "openness": None if model.openness is None else openness_document(model.openness),
        "licence": model.licence,
        "reasons": list(fit.reasons),
        "warnings": list(fit.warnings),
    }


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, SPEED_DIGITS)


def model_document(model: Model) -> dict[str, Any]:
    """What ``models list``, ``search`` and ``show`` say of a model alike."""
    return {
        "id": model.id,
        "name": model.name,
        "publisher": model.publisher,
        "base_model": model.base_model,
        "distilled_from": model.distilled_from,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "licence": model.licence,
        "context": model.shape.context_train,
        "tasks": model.tasks,
        "languages": model.languages,
        "starter": model.starter,
        "openness": None if model.openness is None else openness_document(model.openness),
    }


def settings_document(configuration: Configuration) -> dict[str, Any]:
    """What the engine is started with beside context, type of the cache and layers on the GPU."""
    return {
        "flash_attention": configuration.flash_attention,
        "ubatch": configuration.ubatch,
        "swa_full": configuration.swa_full,
        "sequences": configuration.sequences,
        "repack": configuration.repack,
        "layers_per_device": list(configuration.layers_per_device),
        "cpu_expert_layers": configuration.cpu_expert_layers,
    }


def memory_document(memory: MemoryPlan) -> dict[str, Any]:
    """The memory plan as JSON. ``basis``: from the engine or from the formulas; ``disagreement``: how far the formulas
    are off the engine, as a share, where that is more than DISAGREEING."""
    apart = round(memory.disagreement, DISAGREEMENT_DIGITS) if memory.disagreement > DISAGREEING else None
    return {
        "by_device": [asdict(row) for row in memory.by_device],
        "must_fit_bytes": memory.must_fit_bytes,
        "mapped_bytes": memory.mapped_bytes,
        "touched_bytes": memory.touched_bytes,
        "basis": memory.basis,
        "analytic_must_fit_bytes": memory.analytic_must_fit_bytes,
        "disagreement": apart,
    }


def grade_document(grade: Grade | None) -> dict[str, Any]:
    """``basis`` is whose results the index is made of, the model's own (published) or its family's (relatives);
    ``converted`` counts those that were had with thinking for an answer without, or the reverse."""
    if grade is None:
        return {"index": None, "basis": None}
    return {
        "index": grade.index,
        "spread": round(grade.spread, GRADE_DIGITS),
        "basis": grade.basis,
        "results": grade.results,
        "converted": grade.converted,
        "cautious": grade.cautious,
        "relatives": list(grade.relatives),
        "lost_to_quantization": round(grade.lost, GRADE_DIGITS),
    }


def evidence_document(result: Evidence) -> dict[str, Any]:
    return {
        "benchmark": result.benchmark,
        "score": result.score,
        "thinking": result.thinking,
        "setting": result.setting,
        "self_reported": result.self_reported,
        "estimated": result.estimated,
        "source": result.source,
    }


def openness_document(openness: Openness) -> dict[str, Any]:
    return {
        "index": "European Open Source AI Index",
        "licence": "CC-BY-4.0",
        "entry": openness.entry,
        "graded_on": openness.graded_on,
        "match": openness.match,
        "date": openness.date,
        "source": openness.source,
        "grades": dict(openness.grades),
    }
