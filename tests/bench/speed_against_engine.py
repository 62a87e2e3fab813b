"""Predicted speed beside the installed engine's, and beside bandwidth / file bytes x 0.55.

    python tests/bench/speed_against_engine.py [--results FILE] [FILE.gguf | NAME:QUANT ...]

Whole files, the given ones or ones with random weights in real models' shapes that no constant was fitted to, are
planned and measured in a child: the tokens of a prompt read, and tokens written after DEPTHS of them, with the settings
that the planner has chosen, by the clock on the wall; the median of REPETITIONS. A pass during which other programs
took the cores is repeated. One more run, in a child of its own and with a prompt of another length, is what the planner
then learns from. The engine's kernels are measured beside each file, before and after it: ``drift`` is how fast those
were beside the remembered ones, and ``beside`` the error of what is predicted from them. So what the machine did
meanwhile is told apart from what the planner gets wrong. The ten of FILES take some seven minutes on two quiet cores,
larger ones (qwen2-7b:Q4_0, olmo2-7b:Q4_K_M, qwen3-8b:Q5_K_M) a minute and a half each. With ``--results`` what was
measured is kept there, a line a file, and files that are in it are not measured again: so they can be measured one at a
time, on a machine that is quiet only for minutes.

Prints what was measured, predicted and predicted after the one run, and the medians of the absolute errors. Fails if
they are above TARGETS.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from llmctl import catalogue
from llmctl.engine.devices.machine import with_kernels
from llmctl.engine.history import DISTURBED_PER_S
from llmctl.engine.measure import kernels
from llmctl.engine.measure.preemption import Preemption
from llmctl.files.decode import decode as struct_of
from llmctl.host import Host
from llmctl.planner import kernel_rows, plan
from llmctl.struct import asdict
from llmctl.types.kernels import Kernels
from llmctl.types.machine import Machine
from llmctl.types.model import Candidate
from llmctl.types.past import PastRun
from llmctl.types.plan import Fit, Plan, Want
from tests.bench.children import asked
from tests.bench.memory_against_engine import vocabulary
from tests.fakes.gguf_file import Fill, write
from tests.fakes.real_shapes import models
from tests.fakes.real_tensors import Figures, tensors

FILES = (
    *("gpt2:Q8_0", "ernie4_5-0.3b:Q4_0", "stablelm-1.6b:Q8_0", "llama-3.2-3b:Q4_K_M", "granite4-3b:Q5_K_M"),
    *("smollm3-3b:Q4_0", "ministral3-3b:Q4_K_M", "granitemoe-3b:Q4_K_M", "gemma3-1b:Q4_K_M", "lfm2-2.6b:Q4_0"),
)
DEPTHS = (128, 512)
FIRST_RUN = (300,)
ANSWER_TOKENS = 32
CONTEXT = 640
REPETITIONS = 3
TRIES = 3  # for each of them, if other programs get in the way
NAIVE_SHARE = 0.55
MEMORY = kernel_rows.LIMITED_BY_MEMORY
TARGETS = {"decode": 0.08, "prefill": 0.15, "decode after one run": 0.05, "prefill after one run": 0.05}


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(measured(json.load(sys.stdin))))
        return 0
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*")
    options.add_argument("--results", type=Path)
    given = options.parse_args()
    kept = {} if given.results is None or not given.results.exists() else _lines(given.results)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.names or FILES:
            row = kept.get(name) or measure(name, Path(folder))
            if given.results is not None and name not in kept:
                with given.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            rows.append(row)
    return report(rows)


def _lines(file: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in map(json.loads, file.read_text().splitlines())}


@cache
def machine() -> Machine:
    from llmctl import paths
    from llmctl.engine.devices import startable
    from llmctl.engine.devices.machine import this_machine

    found, engines = this_machine(Host(), store=paths.hub_cache())
    engine = startable(engines)
    assert engine is not None, "the engine can't be used here"
    return with_kernels(found, kernels.measure(Host(), found, engine))


def kernels_now() -> Kernels:
    """The kernels' rates at this moment, which are not remembered."""
    about = machine()
    known = kernels.question_of(about, kernels.USUAL_TYPES, (), kernels.QUICK_S)
    return kernels.asked(Host(), known, kernels.DEADLINE_S, kernels.KERNELS)


def measure(name: str, folder: Path) -> dict[str, Any]:
    """One line of the results: the file's figures, what was measured at DEPTHS, and the one run before."""
    file = Path(name) if Path(name).is_file() else written(name, folder)
    try:
        fit = fitted(catalogue.from_file(file), Want(context=CONTEXT, explicit=True, min_tok_s=0))
        settings = {**asdict(fit.configuration), "threads": fit.threads, "prefill_threads": fit.prefill_threads}
        question = {"file": str(file), **settings}
        before = kernels_now()
        first = asked(__file__, {**question, "depths": FIRST_RUN, "repetitions": 1})
        rows = asked(__file__, {**question, "depths": DEPTHS, "repetitions": REPETITIONS})
        beside = kernel_rows.joined(before, kernels_now())
    finally:
        if file.parent == folder:
            file.unlink()
    print(f"measured {name}: {rows}", file=sys.stderr, flush=True)
    return {"name": name, "settings": settings, "first": first[0], "rows": rows, "beside": asdict(beside)}


def written(name: str, folder: Path) -> Path:
    shape, quant = name.split(":")
    metadata = {**models()[shape], **vocabulary(Figures(shape).vocab)}
    return write(folder / f"{shape}-{quant}.gguf", metadata, tensors(shape, quant), fill=Fill.RANDOM)


def fitted(candidate: Candidate, want: Want, past: Sequence[PastRun] = (), beside: Kernels | None = None) -> Fit:
    """The plan for ``candidate``, with the remembered kernels or those ``beside`` it."""
    from tests.planner.machines import knowledge

    about = machine() if beside is None else with_kernels(machine(), beside)
    answer = plan(about, [candidate], want, knowledge(), past=past)
    assert isinstance(answer, Plan), answer
    return answer.choice


def measured(question: Mapping[str, Any]) -> list[dict[str, float]]:
    """In the child: for each depth, tokens per second of the prompt up to it, and of an answer after it."""
    import llama_cpp

    from tests.bench.bare_llama import bare_llama

    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama = bare_llama(question["file"], question)
    words = llama.n_vocab() - 300
    llama.eval([300 + at % words for at in range(32)])  # wakes the threads up
    rows = []
    for depth in question["depths"]:
        prefills, decodes = [], []
        for turn in range(question["repetitions"]):
            tokens = [300 + (7 * at + turn) % words for at in range(depth)]

            def read(tokens: list[int] = tokens) -> None:
                llama.reset()
                llama.eval(tokens)

            def answer() -> None:
                for _ in range(ANSWER_TOKENS):
                    llama.eval([llama.sample(temp=0.7)])

            for _ in range(TRIES):
                prompt_s, disturbed = _timed(read)
                answer_s, disturbed_then = _timed(answer)
                if max(disturbed, disturbed_then) < DISTURBED_PER_S:
                    break
            prefills.append(depth / prompt_s)
            decodes.append(ANSWER_TOKENS / answer_s)
        rows.append({"depth": depth, "prefill": median(prefills), "decode": median(decodes)})
    llama.close()  # while ``quiet`` is still there to be called
    return rows


def _timed(work: Any) -> tuple[float, float]:
    """Seconds, and how often other programs took a core away for each second that was computed."""
    preemption, begun = Preemption(), time.perf_counter()
    work()
    return time.perf_counter() - begun, preemption.per_s() or 0.0


def report(rows: Sequence[Mapping[str, Any]]) -> int:
    """The table. ``*`` marks decoding that was outside of the range."""
    errors: dict[str, list[float]] = {}
    inside: list[bool] = []
    about = machine()
    left = kernels.uncertain_figures(about.kernels) if about.kernels is not None else "all"
    print(f"{about.cpu.name}, {about.cpu.usable_threads} threads, {left} figures of its kernels uncertain")
    print(
        f"{'':22}{'depth':>6}{'prefill':>9}{'told':>8}{'':>6}{'decode':>8}{'told':>8}{'':>6} "
        f"{'range':>13} {'naive':>7}{'':>6}{'after one run':>15}{'drift':>7}{'beside':>13}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            for line in _compared(row, Path(folder), errors, inside):
                print(line)
    print(f"decoding within its range: {sum(inside)} of {len(inside)}")
    missed = 0
    for what, offs in errors.items():
        each = sorted(map(abs, offs))
        middle, ninth = median(each), each[9 * len(each) // 10]
        target = TARGETS.get(what)
        print(
            f"{what:24} median {middle:6.1%}, nine of ten up to {ninth:6.1%}"
            + ("" if target is None else f"   (target {target:.0%})")
        )
        missed += target is not None and middle > target
    return 1 if missed else 0


def _compared(
    row: Mapping[str, Any], folder: Path, errors: dict[str, list[float]], inside: list[bool]
) -> Iterator[str]:
    name, settings = row["name"], row["settings"]
    file = Path(name) if Path(name).is_file() else _header(name, folder)
    candidate = catalogue.from_file(file)
    size = candidate.artifact.weights.total_bytes
    naive = NAIVE_SHARE * (machine().memory.bandwidth_bytes_per_s or 0) / size
    want = Want(
        context=CONTEXT,
        explicit=True,
        min_tok_s=0,
        repack=settings["repack"],
        flash_attention=settings["flash_attention"],
        threads=settings["threads"],
    )
    fit = fitted(candidate, want)
    taught = fitted(candidate, want, [_past(candidate, settings, fit, row["first"])])
    kernels_beside = struct_of(Kernels, row["beside"], "beside")
    beside, drift = fitted(candidate, want, beside=kernels_beside), _drift(kernels_beside)
    for measured_row in row["rows"]:
        depth, prefill, decode = (measured_row[key] for key in ("depth", "prefill", "decode"))
        middle = depth + ANSWER_TOKENS / 2
        told = fit.speed_model.decode_tok_s(middle), fit.speed_model.prefill_tok_s(depth)
        after = taught.speed_model.decode_tok_s(middle), taught.speed_model.prefill_tok_s(depth)
        then = beside.speed_model.decode_tok_s(middle), beside.speed_model.prefill_tok_s(depth)
        low, high = (told[0] * edge / fit.speed.decode_tok_s for edge in _range(fit))
        inside.append(low <= decode <= high)
        offs = {
            "decode": told[0] / decode - 1,
            "prefill": told[1] / prefill - 1,
            "decode after one run": after[0] / decode - 1,
            "prefill after one run": after[1] / prefill - 1,
            "decode beside": then[0] / decode - 1,
            "prefill beside": then[1] / prefill - 1,
            "decode by the formula": naive / decode - 1,
        }
        for what, off in offs.items():
            errors.setdefault(what, []).append(off)
        yield (
            f"{Path(name).name:22}{depth:6}{prefill:9.1f}{told[1]:8.1f}{offs['prefill']:+6.0%}{decode:8.2f}{told[0]:8.2f}"
            f"{offs['decode']:+6.0%} {low:6.2f}-{high:6.2f}{' ' if inside[-1] else '*'}{naive:7.2f}"
            f"{offs['decode by the formula']:+6.0%}{offs['prefill after one run']:+7.0%}"
            f"{offs['decode after one run']:+7.0%}{drift:7.2f}"
            f"{offs['prefill beside']:+7.0%}{offs['decode beside']:+6.0%}"
        )


def _drift(beside: Kernels) -> float:
    """The median of the decoding kernels' rates over the remembered ones."""
    remembered = kernel_rows.measured(machine().kernels or Kernels(())).certain
    now = kernel_rows.measured(beside).certain
    both = [now[figure] / rate for figure, rate in remembered.items() if figure.rate in MEMORY and figure in now]
    return median(both) if both else math.nan


def _range(fit: Fit) -> tuple[float, float]:
    return fit.speed.decode_low_tok_s, fit.speed.decode_high_tok_s


def _header(name: str, folder: Path) -> Path:
    """A header is enough to plan."""
    shape, quant = name.split(":")
    metadata = {**models()[shape], **vocabulary(Figures(shape).vocab)}
    return write(folder / f"{shape}-{quant}.gguf", metadata, tensors(shape, quant))


def _past(candidate: Candidate, settings: Mapping[str, Any], fit: Fit, run: Mapping[str, float]) -> PastRun:
    depth = run["depth"]
    return PastRun(
        model=candidate.model.id,
        quant=candidate.artifact.quant,
        file_bytes=candidate.artifact.source.bytes,
        sha256=None,
        **{key: settings[key] for key in ("kv_type", "gpu_layers", "repack", "flash_attention")},
        **{key: settings[key] for key in ("threads", "prefill_threads")},
        decode=run["decode"] / fit.uncorrected.decode_tok_s(depth + ANSWER_TOKENS / 2),
        prefill=run["prefill"] / fit.uncorrected.prefill_tok_s(int(depth)),
        load_s=1.0,
        depth=depth + ANSWER_TOKENS / 2,
        read_tokens=int(depth),
        modelled=fit.modelled,
    )


if __name__ == "__main__":
    sys.exit(main())
