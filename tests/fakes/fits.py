"""A plan for a file that is here, without asking the planner: for tests of what comes after planning. One thread,
unless a test is about more: a tiny model is computed sooner than a second thread is woken."""

from __future__ import annotations

from pathlib import Path

from llmctl.types.model import Artifact, Candidate, Model, Shape, Source, SourceKind, Weights
from llmctl.types.plan import Basis, Configuration, Fit, MemoryPlan, Speed
from llmctl.types.speed_model import SpeedModel


def fit_for(
    file: Path | None, *, context: int = 512, threads: int = 1, name: str = "under-test", sequences: int = 1
) -> Fit:
    shape = Shape("llama", 1, 64, 1, None, None, context_train=8192, kv_width=128)
    source = Source(SourceKind.LOCAL, None, str(file))
    artifact = Artifact("Q4_1", source, Weights(1, 0, 0, {"Q4_1": 1}, exact=False))
    model = Model(name, name, None, None, shape, (artifact,))
    return Fit(
        candidate=Candidate(model, artifact, file),
        configuration=Configuration(context, sequences=sequences),
        threads=threads,
        prefill_threads=threads,
        memory=MemoryPlan((), 1 << 20, 1 << 20),
        speed=Speed(10.0, 8.0, 12.0, 100.0, 80.0, 120.0, 0.5, Basis.MODELLED),
        speed_model=SpeedModel(0.1, 0.0, 0.0, 0.01, 0.0, 0.0, None, 512),
        uncorrected=SpeedModel(0.1, 0.0, 0.0, 0.01, 0.0, 0.0, None, 512),
        download_bytes=0,
        download_s=None,
        reasons=(),
    )
