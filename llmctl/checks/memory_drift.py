"""Findings about the memory that models took when they ran, compared with what was planned."""

from __future__ import annotations

from collections.abc import Sequence

from llmctl import units
from llmctl.engine.history import Run
from llmctl.shell import command
from llmctl.types.finding import Check, Status

ID = "memory-drift"
SHARE = 0.06  # the worst that the planner's sums may be off what the engine allocates
# What a process keeps besides, and a plan leaves to its margin: vocabulary, chat template, Python. It was 21 MiB with a
# vocabulary of 49 thousand tokens, 38 and 75 MiB with 262 and 250 thousand without and with merges (llama.cpp 0c1e570).
BESIDE_BYTES = 128 << 20
# On a card those are the engine's kernels and its work areas, and what other programs take meanwhile: half of the
# margin that a plan leaves there.
BESIDE_ON_DEVICE_BYTES = 256 << 20


def checks(runs: Sequence[Run] | None) -> tuple[Check, ...]:
    """A warning for each model whose last run took other memory than planned, else one finding that all is well.

    ``runs``, the oldest first; None where none are to be recorded, of which nothing is said. A run with a short prompt
    touches less of the compute buffer than one with a long one, so the last run stands together with all that had the
    same plan, and the most that any of them took counts. Less than planned is no fault in the machine's own memory,
    where a buffer is reserved as a whole and touched in part; on a card all of it is taken, so less means that the
    model is not where it was to be.
    """
    if runs is None:
        return ()
    if not runs:
        return (Check(ID, Status.OK, "no run was recorded yet"),)
    last = {(run.model, run.quant): run for run in runs}
    findings = [_drift([run for run in runs if _planned(run) == _planned(last_run)]) for last_run in last.values()]
    return tuple(check for check in findings if check is not None) or (_well(runs),)


def _planned(run: Run) -> tuple[object, ...]:
    """All that a prediction of memory depends on, and the prediction."""
    file = (run.model, run.quant, run.file_bytes, run.sha256)
    settings = (run.context, run.kv_type, run.gpu_layers, run.threads)
    return (*file, *settings, run.engine, run.processor, run.predicted.anonymous_bytes, run.predicted.device_bytes)


def _drift(alike: Sequence[Run]) -> Check | None:
    """The finding for runs that had one plan."""
    run, planned = alike[-1], alike[-1].predicted
    host = [earlier.measured.anonymous_bytes for earlier in alike if earlier.measured.anonymous_bytes is not None]
    # 0 bytes taken of a card means that its driver doesn't report them.
    cards = [earlier.measured.device_bytes for earlier in alike if earlier.measured.device_bytes]
    most = max(host, default=0)
    furthest = max(cards, key=lambda size: abs(size - planned.device_bytes), default=planned.device_bytes)
    if most - planned.anonymous_bytes > max(SHARE * planned.anonymous_bytes, BESIDE_BYTES):
        taken = f"{units.size(most)} of memory, {units.size(planned.anonymous_bytes)} was planned"
    elif abs(furthest - planned.device_bytes) > max(SHARE * planned.device_bytes, BESIDE_ON_DEVICE_BYTES):
        taken = f"{units.size(furthest)} of the GPU's memory, {units.size(planned.device_bytes)} was planned"
    else:
        return None
    message = f"{run.model} {run.quant} at {units.count(run.context)} tokens of context took {taken}"
    again = command("llmctl", "bench", names=[f"{run.model}:{run.quant}"])
    return Check(ID, Status.WARN, message, f"{again}   (or its file) measures again")


def _well(runs: Sequence[Run]) -> Check:
    shares = [share for run in runs if (share := _share(run)) is not None]
    if not shares:
        message = "this system doesn't say how much memory the recorded runs took"
    elif len(shares) == 1:
        message = f"memory is as planned: the recorded run took {shares[0]:.2f} of the plan"
    else:
        message = (
            f"memory is as planned: the last {len(shares)} runs took {min(shares):.2f} to {max(shares):.2f} of the plan"
        )
    return Check(ID, Status.OK, message)


def _share(run: Run) -> float | None:
    """Measured over predicted bytes of a run; None where nothing was measured or predicted."""
    both = (
        (run.measured.anonymous_bytes, run.predicted.anonymous_bytes),
        (run.measured.device_bytes, run.predicted.device_bytes),
    )
    pairs = [(taken, planned) for taken, planned in both if taken is not None]
    planned_bytes = sum(planned for _, planned in pairs)
    return sum(taken for taken, _ in pairs) / planned_bytes if planned_bytes else None
