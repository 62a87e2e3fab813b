"""Whether the memory bandwidth that doctor shows is the one that llama.cpp streams weights with.

    python tests/bench/bandwidth_against_engine.py [ROUNDS]

Files of random weights of 1 to 4 GB, in real models' shapes, are decoded by the bare llama.cpp at a shallow depth, in
turns with the micro-benchmark of its kernels. The engine's effective rate is the bytes of weights that a token reads
times tokens per second; printed is doctor's bandwidth over it, as the median of the rounds with their spread.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmctl import catalogue
from llmctl.engine.devices.machine import this_machine, with_kernels
from llmctl.engine.measure import kernels
from llmctl.host import Host
from llmctl.planner.streamed import active_bytes
from tests.fakes import gguf_file

SHAPES = (
    ("llama-3.2-1b", "Q8_0", "Q8_0"),
    ("smollm2-1.7b", "Q4_K", "Q6_K"),
    ("smollm2-1.7b", "Q8_0", "Q8_0"),
    ("llama-2-7b", "Q4_0", "Q6_K"),
    ("llama-2-7b", "Q4_K", "Q6_K"),
)
TOKENS = 24


def token_s(file: Path, threads: int) -> float:
    """The fastest of TOKENS single tokens, without sampling: whatever else runs can only make one slower."""
    import llama_cpp

    llama: Any = llama_cpp.Llama(str(file), n_ctx=256, n_threads=threads, n_threads_batch=threads, verbose=False)
    llama.eval([1])  # the first pass touches the weights' pages
    times = []
    for _ in range(TOKENS):
        begun = time.perf_counter()
        llama.eval([2])
        times.append(time.perf_counter() - begun)
    llama.close()
    return min(times)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    host = Host()
    machine, engines = this_machine(host, store=Path.home())
    engine = next(one for one in engines if one.usable)
    with tempfile.TemporaryDirectory(prefix="llmctl-bench-") as folder:
        for name, quant, head in SHAPES:
            shape = replace(gguf_file.model_shape(name), quant=quant, head_quant=head)
            file = gguf_file.write_model(Path(folder) / f"{name}-{quant}.gguf", shape)
            candidate = catalogue.from_file(file)
            streamed = sum(active_bytes(candidate.artifact.weights, candidate.model.shape).values())
            ratios, effective, shown = [], [], []
            for _ in range(rounds):
                rates = kernels.measure(host, machine, engine, again=True)
                bandwidth = with_kernels(machine, rates).memory.bandwidth_bytes_per_s or 0.0
                effective.append(streamed / token_s(file, machine.cpu.usable_threads))
                shown.append(bandwidth)
                ratios.append(bandwidth / effective[-1])
            print(
                f"{name:14} {quant:5} {streamed / 1e9:.2f} GB  doctor {statistics.median(shown) / 1e9:.1f} GB/s"
                f"  engine {statistics.median(effective) / 1e9:.1f} GB/s"
                f"  ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
                flush=True,
            )
            file.unlink()


if __name__ == "__main__":
    main()
