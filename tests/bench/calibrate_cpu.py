"""Measures what decoding costs beside streaming weights, for ``[cpu]`` and ``[range.calibrated]`` in speed.toml.

    python tests/bench/calibrate_cpu.py [FILE.gguf ...]

Decodes with every file, and with files of random weights in the shapes of ``tests/fakes/gguf_file.py``, at a shallow
and a deep place in the context, sampling as the engine does. Right before each, the engine's kernels are measured, as
other work on the machine comes and goes. What is left of a token's time after streaming is laid, by least squares, on
the number of layers, the size of the vocabulary and the bytes of KV cache read. Prints the constants, and predicted
beside measured; with the constants already in speed.toml as well.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmctl import catalogue, paths
from llmctl.engine import kernels
from llmctl.engine.devices import this_machine
from llmctl.errors import EngineError
from llmctl.host import Host
from llmctl.planner.memory import place
from llmctl.planner.speed import Load, active_bytes, cpu_rates, kv_read_bytes, speed
from llmctl.types.machine import EngineInfo, KernelRate, Machine
from llmctl.types.model import Candidate
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
SHALLOW, DEEP = 64, 1500
TOKENS = 48
CONTEXT = 2048
ROUNDS = 3  # the best counts: other work can only make one slower
PATIENCE = 20  # times the kernels are tried, ten seconds apart, while other programs are busy


@dataclass
class Point:
    candidate: Candidate
    machine: Machine
    prompt: int
    token_s: float
    prompt_s: float

    @property
    def depth(self) -> int:
        return self.prompt + TOKENS // 2

    @property
    def streaming_s(self) -> float:
        constants = catalogue.load_knowledge(paths.profiles_dir()).speed
        rates = cpu_rates(self.machine, self.machine.cpu.usable_threads, constants)
        return rates.streaming_s(active_bytes(self.candidate.artifact.weights, self.candidate.model.shape))


def decoded(file: Path, threads: int, depth: int) -> tuple[float, float]:
    """Median seconds per token, sampling included, after a prompt of ``depth`` tokens; and seconds for the prompt."""
    import llama_cpp

    llama: Any = llama_cpp.Llama(
        str(file), n_ctx=CONTEXT, n_threads=threads, n_threads_batch=threads, swa_full=False, verbose=False
    )
    times = []
    prompt_s = 0.0
    begun = time.perf_counter()
    for n, _ in enumerate(llama.generate([1 + n % 200 for n in range(depth)], temp=0.7)):
        now = time.perf_counter()
        if n:
            times.append(now - begun)
        else:
            prompt_s = now - begun
        if n == TOKENS:
            break
        begun = time.perf_counter()
    llama.close()
    return statistics.median(times), prompt_s


def points(files: list[Path]) -> Iterator[Point]:
    host = Host()
    machine, engines = this_machine(host, store=Path.home())
    engine = next(one for one in engines if one.usable)
    for file in files:
        candidate = catalogue.from_file(file)
        for depth in (SHALLOW, DEEP):
            measured = replace(machine, kernels=patiently(host, machine, engine))
            rounds = [decoded(file, machine.cpu.usable_threads, depth) for _ in range(ROUNDS)]
            token_s, prompt_s = (min(times) for times in zip(*rounds, strict=True))
            yield Point(candidate, measured, depth, token_s, prompt_s)


def patiently(host: Host, machine: Machine, engine: EngineInfo) -> tuple[KernelRate, ...]:
    for _ in range(PATIENCE):
        try:
            return kernels.measure(host, machine, engine)
        except EngineError as error:
            print(f"# {error}", file=sys.stderr)
            time.sleep(10)
    raise SystemExit("this machine is too busy to measure anything")


def least_squares(rows: list[list[float]], right: list[float]) -> list[float]:
    """Normal equations by elimination; rows weighted by the caller."""
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


def main() -> None:
    constants = catalogue.load_knowledge(paths.profiles_dir()).speed
    with tempfile.TemporaryDirectory(prefix="llmctl-bench-") as folder:
        files = [Path(name) for name in sys.argv[1:]]
        seen = list(points(files))
        for name, quant, head in SHAPES:
            shape = replace(gguf_file.model_shape(name), quant=quant, head_quant=head)
            file = gguf_file.write_model(Path(folder) / f"{name}-{quant}.gguf", shape)
            seen += points([file])
            file.unlink()
    rows, right = [], []
    for point in seen:
        shape_of = point.candidate.model.shape
        weight = 1 / point.token_s  # relative errors count
        fastest = max(rate.decode_bytes_per_s for rate in point.machine.kernels)
        read = kv_read_bytes(shape_of, point.depth) / fastest
        rows.append([weight * shape_of.n_layer, weight * (shape_of.n_vocab or 0), weight * read])
        right.append(weight * (point.token_s - point.streaming_s))
    layer_s, vocabulary_s, kv = least_squares(rows, right)
    print(f"layer_s = {layer_s:.3g}\nvocabulary_s = {vocabulary_s:.3g}\nkv_share = {1 / kv:.2f}")
    ratios = []
    for point, row in zip(seen, rows, strict=True):
        fitted = point.streaming_s + (layer_s * row[0] + vocabulary_s * row[1] + kv * row[2]) * point.token_s
        weights = point.candidate.artifact.weights
        placement = place(point.machine, point.candidate.model.shape, weights, CONTEXT, None)
        threads = point.machine.cpu.usable_threads
        load = Load(point.prompt, point.depth)
        now = speed(point.machine, point.candidate.model.shape, weights, placement, threads, load, constants)
        ratios.append(1 / point.token_s / now.decode_tok_s)
        print(
            f"# {point.candidate.model.id:24} depth {point.depth:5} measured {1 / point.token_s:6.1f} tok/s, fitted"
            f" {1 / fitted:6.1f}, speed.toml {now.decode_tok_s:6.1f}, streaming alone {1 / point.streaming_s:6.1f};"
            f" prefill measured {point.prompt / point.prompt_s:5.0f}, speed.toml {now.prefill_tok_s:5.0f}"
        )
    ratios.sort()
    middle = statistics.median(ratios)
    print(f"# measured / predicted with speed.toml: {ratios[0]:.2f} to {ratios[-1]:.2f}, median {middle:.2f}")


if __name__ == "__main__":
    main()
