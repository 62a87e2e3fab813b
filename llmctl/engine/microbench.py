"""Times the engine's own kernels. Runs as ``python -m llmctl.engine.microbench``; ``kernels`` asks it.

What is timed are ggml's operations with weights where llama.cpp itself would put them: as they lie in the file and, of
the types that this build lays out anew for this processor, so as well.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmctl import child
from llmctl.engine.attention import PREFILL_TOKENS, SHARING, attending
from llmctl.engine.ggml import TYPES
from llmctl.engine.matmul import PREFILL_COLUMNS, WIDTH, products, repacked_layout, routed_products, supported
from llmctl.engine.workbench import Place, Trial, Workbench

THREADS_TYPES = ("Q4_K", "Q8_0")  # what other numbers of threads are tried with
ROUTED_TYPES = ("Q4_K",)
CACHES = (("F16", False), ("F16", True), ("Q8_0", True))  # type, flash attention
NODES = 256
PASSES = 4
DEVICE_MATRICES = 8


@dataclass(frozen=True)
class Row:
    """A line of the answer: ``fields`` that say what is timed, and the trials that fill the others."""

    group: str
    fields: Mapping[str, Any]
    trials: Mapping[str, Trial]

    @property
    def threads(self) -> int:
        return int(self.fields["threads"])

    @property
    def complete(self) -> bool:
        return all(trial.rate for trial in self.trials.values())

    def document(self) -> dict[str, Any]:
        return {**self.fields, **{name: trial.rate for name, trial in self.trials.items()}}


def measure(question: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """``weight_types``, ``threads`` (all numbers to try, the usual one first), ``working_set_bytes``, ``budget_s`` and
    ``device`` (by ggml's name, None for the processor) in; out the lists of ``Kernels``.

    Rounds over everything until the budget is used, the best pass counting. While something has had no undisturbed pass
    the rounds go on, for half of the budget more at the most. What never had one is left out.
    """
    begun, budget_s = time.perf_counter(), float(question["budget_s"])
    bench = Workbench(int(question["working_set_bytes"]), question["device"])
    if question["device"] is None:
        made = _rows(bench, question["weight_types"], question["threads"])
    else:
        made = _device_rows(bench, question["weight_types"])
    # On a busy machine passes with fewer threads are the ones that find a free core.
    rows = sorted(made, key=lambda row: row.threads)
    spent_s = 0.0
    while spent_s < budget_s or (spent_s < 1.5 * budget_s and not all(row.complete for row in rows)):
        for row in rows:
            for trial in row.trials.values():
                bench.run(trial)
            spent_s = time.perf_counter() - begun
            if spent_s > 1.5 * budget_s:
                break
    groups = ("matrices", "experts", "attention", "overheads")
    return {group: [row.document() for row in rows if row.group == group and row.complete] for group in groups}


def _rows(bench: Workbench, weight_types: Sequence[str], threads: Sequence[int]) -> Iterator[Row]:
    scratch, usual = bench.scratch(), threads[0]
    for weight_type in weight_types:
        repacked = repacked_layout(bench, weight_type)
        for layout in filter(None, (repacked, bench.plain)):
            about = {"weight_type": weight_type, "repacked": layout is not bench.plain}
            for count in threads if weight_type in THREADS_TYPES else (usual,):
                made = products(bench, scratch, weight_type, layout, count)
                yield _row("matrices", {**about, "threads": count}, *made)
            if weight_type in ROUTED_TYPES:
                yield _row(
                    "experts", {**about, "threads": usual}, *routed_products(bench, scratch, weight_type, layout, usual)
                )
    for kv_type, flash in CACHES:
        yield _attention(bench, scratch, kv_type, flash, usual)
    for count in threads:
        nodes = _additions(bench, scratch, count, tokens=1, count=NODES)
        elements = _additions(bench, scratch, count, tokens=PREFILL_COLUMNS, count=PASSES)
        yield Row("overheads", {"threads": count}, {"nodes_per_s": nodes, "elements_per_s": elements})


def _device_rows(bench: Workbench, weight_types: Sequence[str]) -> Iterator[Row]:
    scratch = bench.scratch()
    for weight_type in weight_types:
        if supported(bench, weight_type):
            about = {"weight_type": weight_type, "repacked": False, "threads": 0}
            both = products(bench, scratch, weight_type, bench.plain, 0, prefill_matrices=DEVICE_MATRICES)
            yield _row("matrices", about, *both)


def _row(group: str, fields: Mapping[str, Any], decode: Trial, prefill: Trial) -> Row:
    return Row(group, fields, {"decode_bytes_per_s": decode, "prefill_flop_per_s": prefill})


def _attention(bench: Workbench, scratch: Place, kv_type: str, flash: bool, threads: int) -> Row:
    def trial(sharing: int, tokens: int) -> Trial:
        return attending(bench, scratch, kv_type, flash=flash, threads=threads, sharing=sharing, tokens=tokens)

    return Row(
        "attention",
        {"kv_type": kv_type.lower(), "flash": flash, "threads": threads},
        {
            "alone_bytes_per_s": trial(1, 1),
            "shared_bytes_per_s": trial(SHARING, 1),
            "prefill_flop_per_s": trial(SHARING, PREFILL_TOKENS),
        },
    )


def _additions(bench: Workbench, scratch: Place, threads: int, *, tokens: int, count: int) -> Trial:
    """Additions one after the other, each of the sum so far: for one token they measure what it costs to begin an
    operation, and for the threads to wait for each other at its end."""

    context = bench.context()
    one, other = (scratch.put(bench.ggml.new_tensor_2d(context, TYPES["F32"], WIDTH, tokens)) for _ in range(2))
    for _ in range(count):
        one = scratch.put(bench.ggml.add(context, one, other))
    return bench.trial(threads, count if tokens == 1 else count * tokens * WIDTH, [(context, [one])])


if __name__ == "__main__":
    sys.exit(child.answer(measure))
