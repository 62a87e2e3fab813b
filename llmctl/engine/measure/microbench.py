"""Times the engine's own kernels. Runs as ``python -m llmctl.engine.measure.microbench``; ``kernels`` asks it.

It times ggml's operations with weights in the layouts that llama.cpp would use: as in the file and, for weight types
that this build repacks for this processor, repacked.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from msgspec import Struct

from llmctl import child
from llmctl.engine import binding
from llmctl.engine.measure.attention import PREFILL_TOKENS, SHARING, attending
from llmctl.engine.measure.matmul import (
    PREFILL_COLUMNS,
    WIDTH,
    products,
    repacked_layout,
    routed_products,
    streamed_product,
    supported,
)
from llmctl.engine.measure.workbench import Buffer, Trial, Workbench
from llmctl.gguf.quant import TYPE_NUMBERS
from llmctl.host import Host
from llmctl.probe import load
from llmctl.struct import asdict

THREADS_TYPES = ("Q4_K", "Q8_0")  # what other numbers of threads are tried with
ROUTED_TYPES = ("Q4_K",)
BATCH_TYPES = ("Q4_K", "Q8_0")
BATCH_COLUMNS = (2, 4, 8)  # answers that are written at once
CACHES = (("F16", False), ("F16", True), ("Q8_0", True))  # type, flash attention
NODES = 256
PASSES = 4
NODE_PASSES = 24  # in a row
DEVICE_MATRICES = 8
LONGEST = 2.0  # times the budget, while passes are disturbed


class TimedKernel(Struct, frozen=True):
    """A line of the answer: ``fields`` that say what is timed, and the trials that fill the others."""

    group: str
    fields: Mapping[str, Any]
    trials: Mapping[str, Trial]

    @property
    def certain(self) -> bool:
        return all(trial.certain for trial in self.trials.values())

    def document(self, *, shared_memory: bool) -> dict[str, Any]:
        """``shared_memory``: other programs computed on the cores that it left idle, so none of its figures is
        certain."""
        rates = {name: trial.rate for name, trial in self.trials.items()}
        uncertain = [name for name, trial in self.trials.items() if shared_memory or not trial.certain]
        return {**self.fields, **rates, "uncertain": uncertain}


def measure(question: Mapping[str, Any]) -> dict[str, Any]:
    """The rates of the engine's kernels, as ``Kernels`` has them.

    ``question`` has ``weight_types``, ``threads`` (all numbers to try, the usual one first), ``working_set_bytes``,
    ``budget_s``, ``device`` (by ggml's name, None for the processor) and ``already_measured`` (rows to leave out, by
    their group and the fields that tell them apart).

    Measures every row again and again until the budget is used, the best pass counts; then, for as long again at most,
    the rows without an undisturbed pass. Rates that never had one are named in their row's ``uncertain``, and all with
    fewer threads than usual while other programs compute: they leave cores to them.
    """
    before = load.moment(Host(), processes=True)
    begun, budget_s = time.perf_counter(), float(question["budget_s"])
    bench = Workbench(int(question["working_set_bytes"]), question["device"])
    if question["device"] is None:
        made = _rows(bench, question["weight_types"], question["threads"], question.get("already_measured", ()))
    else:
        made = _device_rows(bench, question["weight_types"])

    def spent_s() -> float:
        return time.perf_counter() - begun

    def time_left() -> bool:
        """A device has no rounds cut short: its rates are not filled in."""
        return question["device"] is not None or spent_s() < LONGEST * budget_s

    # Where making a row takes long already, none would be measured. And on a busy machine passes with fewer threads are
    # the ones that find a free core.
    rows = sorted(takewhile(lambda _: time_left(), made), key=lambda row: int(row.fields["threads"]))
    _round(bench, rows, time_left)
    while spent_s() < budget_s:
        _round(bench, rows, time_left)
    while spent_s() < LONGEST * budget_s and (disturbed := [row for row in rows if not row.certain]):
        _round(bench, disturbed, time_left)
    groups = ("matrices", "experts", "attention", "overheads", "batches")
    disturbed_by = load.load(before, load.moment(Host(), processes=True))
    others = disturbed_by is not None and disturbed_by.other_cores >= load.CALM_CORES

    def shared_memory(row: TimedKernel) -> bool:
        """Its threads had their cores to themselves, but not the memory nor the cache."""
        return others and row.fields["threads"] < max(question["threads"], default=0)

    measured = {
        group: [row.document(shared_memory=shared_memory(row)) for row in rows if row.group == group]
        for group in groups
    }
    return {**measured, "load": disturbed_by and asdict(disturbed_by)}


def _round(bench: Workbench, rows: Sequence[TimedKernel], time_left: Callable[[], bool]) -> None:
    """One pass of everything, as far as there is time."""
    for row in rows:
        for trial in row.trials.values():
            if not time_left():
                return
            bench.run(trial)


def _rows(
    bench: Workbench, weight_types: Sequence[str], threads: Sequence[int], already_measured: Sequence[Mapping[str, Any]]
) -> Iterator[TimedKernel]:
    scratch, usual = bench.scratch(), threads[0]

    def wanted(group: str, fields: Mapping[str, Any]) -> bool:
        return {"group": group, **fields} not in already_measured

    for weight_type in weight_types:
        repacked = repacked_layout(bench, weight_type)
        for layout in filter(None, (repacked, bench.plain)):
            about = {"weight_type": weight_type, "repacked": layout is not bench.plain}
            for count in threads if weight_type in THREADS_TYPES else (usual,):
                fields = {**about, "threads": count}
                if wanted("matrices", fields):
                    yield _row("matrices", fields, *products(bench, scratch, weight_type, layout, count))
            fields = {**about, "threads": usual}
            if weight_type in ROUTED_TYPES and wanted("experts", fields):
                yield _row("experts", fields, *routed_products(bench, scratch, weight_type, layout, usual))
            for columns in BATCH_COLUMNS if weight_type in BATCH_TYPES else ():
                if wanted("batches", {**fields, "columns": columns}):
                    trial = streamed_product(bench, scratch, weight_type, layout, usual, columns)
                    yield TimedKernel("batches", {**fields, "columns": columns}, {"batch_flop_per_s": trial})
    for kv_type, flash in CACHES:
        fields = {"kv_type": kv_type.lower(), "flash": flash, "threads": usual}
        if wanted("attention", fields):
            yield TimedKernel("attention", fields, _attention(bench, scratch, kv_type, flash, usual))
    for count in threads:
        if wanted("overheads", {"threads": count}):
            nodes = _additions(bench, scratch, count, tokens=1, count=NODES)
            elements = _additions(bench, scratch, count, tokens=PREFILL_COLUMNS, count=PASSES)
            yield TimedKernel("overheads", {"threads": count}, {"nodes_per_s": nodes, "elements_per_s": elements})


def _device_rows(bench: Workbench, weight_types: Sequence[str]) -> Iterator[TimedKernel]:
    scratch = bench.scratch()
    for weight_type in weight_types:
        if supported(bench, weight_type):
            about = {"weight_type": weight_type, "repacked": False, "threads": 0}
            both = products(bench, scratch, weight_type, bench.plain, 0, prefill_matrices=DEVICE_MATRICES)
            yield _row("matrices", about, *both)


def _row(group: str, fields: Mapping[str, Any], decode: Trial, prefill: Trial) -> TimedKernel:
    return TimedKernel(group, fields, {"decode_bytes_per_s": decode, "prefill_flop_per_s": prefill})


def _attention(bench: Workbench, scratch: Buffer, kv_type: str, flash: bool, threads: int) -> dict[str, Trial]:
    def trial(sharing: int, tokens: int) -> Trial:
        return attending(bench, scratch, kv_type, flash=flash, threads=threads, sharing=sharing, tokens=tokens)

    return {
        "alone_bytes_per_s": trial(1, 1),
        "shared_bytes_per_s": trial(SHARING, 1),
        "prefill_flop_per_s": trial(SHARING, PREFILL_TOKENS),
    }


def _additions(bench: Workbench, scratch: Buffer, threads: int, *, tokens: int, count: int) -> Trial:
    """Additions one after the other, each of the sum so far: for one token they measure what it costs to begin an
    operation, and for the threads to wait for each other at its end. A model's step finds its own small tensors in the
    cache: the first pass after a trial that streams weights takes twice as long, from one time to the next between 1.4
    and 2.5 times."""

    context = bench.context()
    total, other = (
        scratch.put(bench.ggml.new_tensor_2d(context, TYPE_NUMBERS["F32"], WIDTH, tokens)) for _ in range(2)
    )
    for _ in range(count):
        total = scratch.put(bench.ggml.add(context, total, other))
    trial = bench.trial(threads, count if tokens == 1 else count * tokens * WIDTH, [(context, [total])])
    return replace(trial, in_a_row=NODE_PASSES if tokens == 1 else 1)


if __name__ == "__main__":
    binding.functions_only()
    sys.exit(child.answer(measure))
