"""The planner's formulas beside the installed engine.

    python tests/bench/memory_against_engine.py buffers [NAME ...]
    python tests/bench/memory_against_engine.py files [--prefill] [FILE.gguf | NAME:QUANT ...]

``buffers``: cache, state, compute and output of models that are nothing but metadata (``tests/fixtures``), which the
engine makes a context for without a byte of weights: some 7,000 settings in two minutes. Prints for each model the
median and the extremes of ours over the engine's compute buffer, and every cache or state that is not the same.

``files``: whole files, the given ones or ones with weights of zeros in real models' shapes, each planned at three
contexts with the cache in f16 and q8_0, with weights repacked and as they lie in the file, then loaded by the engine
itself: ``must_fit_bytes`` beside the sizes in its log, mapped weights left out, and with ``--prefill`` beside the
anonymous memory that loading and one full batch added.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from msgspec.structs import replace

from llmctl import catalogue
from llmctl.planner import plan
from llmctl.planner.compute import compute_bytes, output_bytes
from llmctl.planner.memory import kv_bytes, repacked_types, state_bytes
from llmctl.struct import asdict
from llmctl.types.machine import Machine
from llmctl.types.model import Candidate
from llmctl.types.plan import F16, Q8_0, Configuration, Fit, Plan, Want
from tests.bench.children import asked
from tests.fakes.gguf_file import Fill, Kind, write
from tests.fakes.real_shapes import models, shape_of
from tests.fakes.real_tensors import Figures, tensors

MIB = 1 << 20
CONTEXTS = (512, 2048, 4096, 8192, 16384, 32768, 131072)
SETTINGS = [
    *(Configuration(n, flash_attention=fa, ubatch=u) for n, fa, u in product(CONTEXTS, (False, True), (128, 512))),
    *(Configuration(n, "q8_0", flash_attention=True, ubatch=u) for n, u in product(CONTEXTS, (128, 512))),
    *(Configuration(8192, flash_attention=fa, ubatch=2048) for fa in (False, True)),
    *(Configuration(4096, sequences=4, flash_attention=fa) for fa in (False, True)),
    Configuration(8192, swa_full=True),
    Configuration(8192, "q4_0", flash_attention=True),
]
FILES = (
    *("smollm2-135m:Q4_0", "smollm2-360m:Q8_0", "smollm2-1.7b:Q4_K_M", "gemma3-1b:Q4_K_M", "phi4-mini:Q4_K_M"),
    *("llama-3.2-1b:Q4_K_M", "qwen3-4b:Q4_K_M", "llama-2-7b:Q4_0", "granite-8b:Q4_K_M", "olmoe:Q4_K_M"),
    *("lfm2-1.2b:Q4_K_M", "qwen3-0.6b:Q8_0"),
)
FILE_CONTEXTS = (512, 4096, 8192)
TARGETS = (0.03, 0.06)  # median, worst


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        return child()
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("what", choices=("buffers", "files"))
    options.add_argument("names", nargs="*")
    options.add_argument("--prefill", action="store_true")
    given = options.parse_intermixed_args()
    return buffers(given.names or list(models())) if given.what == "buffers" else files(given.names, given.prefill)


def buffers(names: Sequence[str]) -> int:
    every: list[float] = []
    for name in names:
        answers = ask({"metadata": name, "settings": [asdict(one) for one in SETTINGS]})
        offs = []
        for settings, answer in zip(SETTINGS, answers, strict=True):
            if answer is None:  # the engine has no quantized cache for it
                continue
            shape = shape_of(name)
            ours = (kv_bytes(shape, settings), state_bytes(shape, settings), output_bytes(shape, settings))
            theirs = (answer["kv"], answer["state"], answer["output"])
            for part, own, mib in zip(("KV", "state", "output"), ours, theirs, strict=True):
                if abs(own / MIB - mib) > 0.0051 * max(1, answer["caches"]):
                    print(f"  {name} {part}: {own / MIB:.2f} MiB, the engine says {mib:.2f}: {settings}")
            offs.append(compute_bytes(shape, settings) / MIB / answer["compute"] - 1)
        every += offs
        middle = median(map(abs, offs))
        print(f"{name:24} {len(offs):3}  median {middle:6.2%}  {min(offs):+7.1%} to {max(offs):+7.1%}", flush=True)
    every.sort()
    low, high = every[len(every) // 20], every[-len(every) // 20]
    print(f"all: {len(every)} settings, median {median(map(abs, every)):.2%}, nine of ten {low:+.1%} to {high:+.1%}")
    return 0


def files(given: Sequence[str], prefill: bool) -> int:
    offs: list[float] = []
    fallen_short: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for file in chosen(given or FILES, Path(folder)):
            candidate = catalogue.from_file(file)
            copied = repacked_types(machine()) & set(candidate.artifact.weights.type_bytes)
            layouts = (True, False) if copied else (True,)
            for context, kv_type, repack in product(FILE_CONTEXTS, (F16, Q8_0), layouts):
                context = min(context, candidate.model.shape.context_train)
                want = Want(context=context, kv_type=kv_type, repack=repack, flash_attention=kv_type != F16)
                fit = fitted(candidate, replace(want, explicit=True, min_tok_s=0))
                answer = ask({"file": str(file), "prefill": prefill, **asdict(fit.configuration)})
                ours, theirs = fit.memory.must_fit_bytes / MIB, answer["must_fit"]
                offs.append(ours / theirs - 1)
                layout = "repacked" if repack else "as it is"
                line = f"{file.stem:22} {context:5} {kv_type:5} {layout:8} {ours:9.2f} MiB, engine {theirs:9.2f}"
                line += f" {offs[-1]:+6.2%}"
                if prefill:
                    line += f", anonymous {answer['anonymous']:9.2f}, we said {fit.memory.touched_bytes / MIB:.2f}"
                    if answer["anonymous"] > ours:
                        fallen_short.append(line)
                print(line, flush=True)
    middle, worst = median(map(abs, offs)), max(map(abs, offs))
    print(
        f"{len(offs)} plans: median {middle:.2%} (target {TARGETS[0]:.0%}), worst {worst:.2%} (target {TARGETS[1]:.0%})"
    )
    print(*(f"less than was taken: {line}" for line in fallen_short), sep="\n")
    return 1 if middle > TARGETS[0] or worst > TARGETS[1] or fallen_short else 0


@cache
def machine() -> Machine:
    from llmctl import paths
    from llmctl.engine.devices.machine import this_machine
    from llmctl.host import Host

    found, _ = this_machine(Host(), store=paths.hub_cache())
    return found


def fitted(candidate: Candidate, want: Want) -> Fit:
    from tests.planner.machines import knowledge

    answer = plan(machine(), [candidate], want, knowledge())
    assert isinstance(answer, Plan), answer
    return answer.choice


def chosen(names: Sequence[str], folder: Path) -> Iterator[Path]:
    """Files that are there, and whole files in real models' shapes: their weights a hole, with a vocabulary of the
    right size."""
    for one in names:
        if Path(one).is_file():
            yield Path(one)
            continue
        name, quant = one.split(":")
        metadata = {**models()[name], **vocabulary(Figures(name).vocab)}
        file = write(folder / f"{name}-{quant}.gguf", metadata, tensors(name, quant), fill=Fill.SPARSE)
        yield file
        file.unlink()


def vocabulary(size: int) -> dict[str, Any]:
    marks = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*marks, *(f"\u2581w{n}" for n in range(size - len(marks)))],
        "tokenizer.ggml.scores": [float(-n) for n in range(size)],
        "tokenizer.ggml.token_type": [Kind(5, "i", kind) for kind in (2, 3, 3, *[6] * 256, *[1] * (size - len(marks)))],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def ask(question: dict[str, Any]) -> Any:
    """In a child: figures that don't fit together make llama.cpp abort."""
    return asked(__file__, question)


def child() -> int:
    import llama_cpp

    question, log = json.load(sys.stdin), list[str]()
    keep = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text.decode(errors="replace")))
    llama_cpp.llama_log_set(keep, ctypes.c_void_p(0))
    print(json.dumps(contexts(question, log) if "metadata" in question else loaded(question, log)))
    return 0


class InitParams(ctypes.Structure):
    """``struct gguf_init_params`` of ggml/include/gguf.h."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


def contexts(question: dict[str, Any], log: list[str]) -> list[dict[str, float] | None]:
    """The sizes that llama.cpp logs for each of the settings."""
    import llama_cpp

    from llmctl.engine.llama_cpp.loading import context_params

    library = next((Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.*"))
    from_file = ctypes.CDLL(str(library)).gguf_init_from_file
    from_file.restype, from_file.argtypes = ctypes.c_void_p, (ctypes.c_char_p, InitParams)
    no_data = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(lambda tensor, data: None)
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder) / "metadata.gguf", models()[question["metadata"]])
        metadata = from_file(str(file).encode(), InitParams(True, None))
    loading: Any = llama_cpp.llama_model_default_params()
    loading.no_alloc, loading.load_mode, loading.load_mtp = True, llama_cpp.LLAMA_LOAD_MODE_NONE, True
    model = llama_cpp.llama_model_init_from_user(metadata, no_data, None, loading)
    if not model:
        raise SystemExit("".join(log)[-600:])
    answers: list[dict[str, float] | None] = []
    for settings in question["settings"]:
        log.clear()
        context = llama_cpp.llama_init_from_model(model, context_params(settings))
        if not context:
            answers.append(None)
            continue
        llama_cpp.llama_free(context)
        text = "".join(log)
        caches = sizes(r"llama_kv_cache\w*: size =", text)
        answers.append(
            {
                "kv": sum(caches),
                "caches": len(caches),
                "state": sum(sizes(r"llama_memory_recurrent: size =", text)),
                "compute": sum(sizes(r"compute buffer size =", text)),
                "output": sum(sizes(r"output buffer size =", text)),
            }
        )
    return answers


def loaded(question: dict[str, Any], log: list[str]) -> dict[str, float]:
    """What the engine allocates for a file with these settings, and what of it is in memory after a full batch."""
    from llmctl.engine.llama_cpp.context import Context, Row
    from llmctl.engine.llama_cpp.footprint import Footprint
    from llmctl.engine.llama_cpp.loading import load

    footprint = Footprint()
    context = Context(load(question), {**question, "sequences": 1, "threads": 2, "prefill_threads": 2})
    text = "".join(log)
    mapped = sum(sizes(r"_Mapped model buffer size =", text))
    everything = sum(sizes(r"(?:model|KV|RS|compute|output) buffer size =", text))
    if question["prefill"]:
        count = min(512, question["context"] - 1)
        context.decode([Row(3 + at % 256, at, 0, at == count - 1) for at in range(count)])
    added = footprint.added()["anonymous_bytes"] or 0
    return {"must_fit": everything - mapped, "anonymous": added / MIB}


def sizes(before: str, text: str) -> list[float]:
    return [float(mib) for mib in re.findall(before + r" +([\d.]+) MiB", text)]


if __name__ == "__main__":
    sys.exit(main())
