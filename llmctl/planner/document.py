"""A fit as the contract's candidate object."""

from __future__ import annotations

from typing import Any

from llmctl.planner.quality import DIGITS
from llmctl.types.model import Evidence, Openness
from llmctl.types.plan import Fit

SPEED_DIGITS = 2


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
            "bytes": source.bytes,
            "sha256": source.sha256,
        },
        "path": None if fit.candidate.path is None else str(fit.candidate.path),
        "context": fit.context,
        "kv_type": fit.kv_type,
        "gpu_layers": fit.gpu_layers,
        "threads": fit.threads,
        "thinking": fit.thinking,
        "memory": fit.memory,
        "speed": {
            "decode_tok_s": round(fit.speed.decode_tok_s, SPEED_DIGITS),
            "decode_low_tok_s": round(fit.speed.decode_low_tok_s, SPEED_DIGITS),
            "decode_high_tok_s": round(fit.speed.decode_high_tok_s, SPEED_DIGITS),
            "prefill_tok_s": round(fit.speed.prefill_tok_s, SPEED_DIGITS),
            "first_token_s": round(fit.speed.first_token_s, SPEED_DIGITS + 1),
            "basis": fit.speed.basis,
        },
        "download": {"bytes": fit.download_bytes, "seconds": fit.download_s},
        "quality": {
            "index": None if fit.quality is None else round(fit.quality, DIGITS),
            "evidence": [evidence_document(one) for one in model.evidence],
        },
        "openness": None if model.openness is None else openness_document(model.openness),
        "licence": model.licence,
        "reasons": list(fit.reasons),
        "warnings": list(fit.warnings),
    }


def evidence_document(one: Evidence) -> dict[str, Any]:
    return {
        "benchmark": one.benchmark,
        "score": one.score,
        "thinking": one.thinking,
        "setting": one.setting,
        "self_reported": one.self_reported,
        "estimated": one.estimated,
        "source": one.source,
    }


def openness_document(openness: Openness) -> dict[str, Any]:
    return {
        "index": "European Open Source AI Index",
        "licence": "CC-BY-4.0",
        "entry": openness.entry,
        "graded_on": openness.graded_on,
        "match": openness.match,
        "source": openness.source,
        "grades": dict(openness.grades),
    }
