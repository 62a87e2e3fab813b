"""Measures what a token costs beside streaming weights, for ``[cpu]`` and ``[range.calibrated]`` in speed.toml.

    python tests/bench/calibrate_cpu.py MINUTES [FILE.gguf ...]

Prefills and decodes with every file, and with files of random weights in the shapes of ``tests/fakes/gguf_file.py``,
at a shallow and a deep place in the context, sampling as the engine does, in rounds until MINUTES are over; between
them the engine's kernels are measured. The best of all rounds counts, of kernels and of tokens: other work on the
machine can only make them slower. What is left of a token's time after streaming is laid, by least squares, on the
number of layers, the size of the vocabulary, the bytes of KV cache read and attention's operations; what is left of a
prompt's after its matrix products, on tokens x layers x embedding and on attention's operations. Prints the constants,
and measured beside fitted and beside what speed.toml says now. On a busy machine, run it often and judge.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmctl import catalogue, paths
from llmctl.engine import kernels
from llmctl.engine.devices import this_machine
from llmctl.errors import EngineError
from llmctl.host import Host
from llmctl.planner.cpu_rates import cpu_rates
from llmctl.planner.placement import Placer
from llmctl.planner.rates import Rates
from llmctl.planner.speed import Load, speed
from llmctl.planner.streamed import active_bytes, attention_flop, body_bytes, kv_read_bytes
from llmctl.types.machine import KernelRate, Machine
from llmctl.types.model import Candidate
from llmctl.types.plan import Configuration
from tests.fakes import gguf_file

SHAPES = (
    ("smollm2-360m", "Q8_0", "Q8_0"),
    ("smollm2-360m", "Q4_0", "Q8_0"),
    ("llama-3.2-1b", "Q4_K", "Q6_K"),
    ("llama-3.2-1b", "Q6_K", "Q6_K"),
    ("smollm2-1.7b", "Q4_K", "Q6_K"),
    ("smollm2-1.7b", "Q5_K", "Q6_K"),
    ("llama-2-7b", "Q4_K", "Q6_K"),
)
SHALLOW, DEEP = 128, 1024
LARGE = 3 << 30  # files from this size on are left out of the deep place: their prompts take minutes
TOKENS = 32
CONTEXT = 1280


@dataclass
class Point:
    candidate: Candidate
    prompt: int
    token_s: float = float("inf")
    prompt_s: float = float("inf")

    @property
    def depth(self) -> int:
        return self.prompt + TOKENS // 2

    def measure(self, threads: int) -> None:
        """Median seconds per token, sampling included, after the prompt; and seconds for the prompt."""
        import llama_cpp

        llama: Any = llama_cpp.Llama(
            str(self.candidate.path),
            n_ctx=CONTEXT,
            n_threads=threads,
            n_threads_batch=threads,
            swa_full=False,
            verbose=False,
        )
        llama.eval([1])  # the first pass touches the weights' pages
        llama.reset()
        times = []
        begun = time.perf_counter()
        for n, _ in enumerate(llama.generate([1 + n % 200 for n in range(self.prompt)], temp=0.7)):
            now = time.perf_counter()
            if n:
                times.append(now - begun)
            else:
                self.prompt_s = min(self.prompt_s, now - begun)
            if n == TOKENS:
                break
            begun = time.perf_counter()
        llama.close()
        self.token_s = min(self.token_s, statistics.median(times))


def least_squares(rows: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Normal equations by elimination."""
    size = len(rows[0])
    matrix = [[sum(row[i] * row[j] for row in rows) for j in range(size)] for i in range(size)]
    vector = [sum(row[i] * value for row, value in zip(rows, right, strict=True)) for i in range(size)]
    for i in range(size):
        for j in range(i + 1, size):
            factor = matrix[j][i] / matrix[i][i]
            matrix[j] = [a - factor * b for a, b in zip(matrix[j], matrix[i], strict=True)]
            vector[j] -= factor * vector[i]
    for i in reversed(range(size)):
        vector[i] = (vector[i] - sum(matrix[i][j] * vector[j] for j in range(i + 1, size))) / matrix[i][i]
    return vector


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def measured(minutes: float, points: Sequence[Point]) -> Machine:
    """Fills ``points`` and returns this machine with the best rates of its kernels."""
    host = Host()
    machine, engines = this_machine(host, store=Path.home())
    engine = next(one for one in engines if one.usable)
    best: dict[str, KernelRate] = {}
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        for point in points:
            try:
                for one in kernels.measure(host, machine, engine, again=True):
                    known = best.setdefault(one.weight_type, one)
                    best[one.weight_type] = replace(
                        one,
                        decode_bytes_per_s=max(known.decode_bytes_per_s, one.decode_bytes_per_s),
                        prefill_flop_per_s=max(known.prefill_flop_per_s, one.prefill_flop_per_s),
                    )
            except EngineError as error:
                print(f"# {error}", file=sys.stderr)
            point.measure(machine.cpu.usable_threads)
    return replace(machine, kernels=tuple(best.values()))


def report(machine: Machine, points: Sequence[Point]) -> None:
    constants = catalogue.load_knowledge(paths.profiles_dir()).speed
    threads = machine.cpu.usable_threads
    rates: Rates = cpu_rates(machine, threads, constants)
    fastest = max(rate.decode_bytes_per_s for rate in machine.kernels)
    decode_rows, decode_left, prompt_rows, prompt_left = [], [], [], []
    streaming, products = [], []
    for point in points:
        shape, weights = point.candidate.model.shape, point.candidate.artifact.weights
        streaming.append(rates.streaming_s(active_bytes(weights, shape)))
        products.append(rates.products_s(body_bytes(weights, shape), point.prompt))
        read = kv_read_bytes(shape, point.depth) / fastest
        attending = attention_flop(shape, point.depth) / rates.attention_flop_per_s
        decode_rows.append([one / point.token_s for one in (shape.n_layer, shape.n_vocab or 0, read, attending)])
        decode_left.append(1 - streaming[-1] / point.token_s)  # relative, so that all files weigh the same
        scores = point.prompt * attention_flop(shape, point.prompt) / 2 / rates.attention_flop_per_s
        elements = point.prompt * shape.n_layer * shape.n_embd
        prompt_rows.append([elements / point.prompt_s, scores / point.prompt_s])
        prompt_left.append(1 - products[-1] / point.prompt_s)
    decoding, prefilling = least_squares(decode_rows, decode_left), least_squares(prompt_rows, prompt_left)
    for rate in machine.kernels:
        flow, operations = rate.decode_bytes_per_s / 1e9, rate.prefill_flop_per_s / 1e9
        print(f"# {rate.weight_type}: {flow:.1f} GB/s, {operations:.0f} GFLOP/s{', repacked' if rate.repacked else ''}")
    print(f"layer_s = {decoding[0]:.3g}\nvocabulary_s = {decoding[1]:.3g}\nactivation_s = {prefilling[0]:.3g}")
    print(f"kv_share = 1 / {decoding[2]:.3g}")
    print(f"attention_decode_share = 1 / {decoding[3]:.3g}\nattention_prefill_share = 1 / {prefilling[1]:.3g}")
    ratios = []
    for n, point in enumerate(points):
        shape, weights = point.candidate.model.shape, point.candidate.artifact.weights
        fitted = streaming[n] + point.token_s * dot(decode_rows[n], decoding)
        prompt = products[n] + point.prompt_s * dot(prompt_rows[n], prefilling)
        load = Load(point.prompt, point.depth)
        placement = Placer(machine, shape, weights).place(Configuration(CONTEXT))
        now = speed(machine, shape, weights, placement, threads, load, constants)
        ratios.append(1 / point.token_s / now.decode_tok_s)
        print(
            f"# {point.candidate.model.id:26} depth {point.prompt:4}"
            f"  decode {1 / point.token_s:6.1f} tok/s, fitted {1 / fitted:6.1f}, told {now.decode_tok_s:6.1f}"
            f"  prefill {point.prompt / point.prompt_s:5.0f}, {point.prompt / prompt:5.0f}, {now.prefill_tok_s:5.0f}"
        )
    ratios.sort()
    print(f"# decode / told: {ratios[0]:.2f} to {ratios[-1]:.2f}, median {statistics.median(ratios):.2f}")


def main() -> None:
    minutes, *names = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="llmctl-bench-") as folder:
        files = [Path(name) for name in names]
        for name, quant, head in SHAPES:
            shape = replace(gguf_file.model_shape(name), quant=quant, head_quant=head)
            files.append(gguf_file.write_model(Path(folder) / f"{name}-{quant}.gguf", shape))
        points = [
            Point(catalogue.from_file(file), depth)
            for file in files
            for depth in (SHALLOW, DEEP)
            if depth == SHALLOW or file.stat().st_size < LARGE
        ]
        report(measured(float(minutes), points), points)


if __name__ == "__main__":
    main()
