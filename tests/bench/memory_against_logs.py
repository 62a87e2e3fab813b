"""The planner's formulas beside what llama.cpp logged, fitted and took on other people's machines.

    python tests/bench/memory_against_logs.py FOLDER

FOLDER holds ``memory.jsonl`` (buffers from load logs), ``fit_max_ctx.jsonl`` (the largest context that llama.cpp itself
would fit on a card of 8 GB) and ``vram_totals.jsonl`` (what vendor tools saw); its README has the caveats. Prints every
comparison, then the medians against their targets, then each row that was left out with its reason. Ends with 1 if a
target is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from msgspec.structs import replace

from llmctl.gguf.mix import weights_by_size
from llmctl.gguf.shape import shape, weights
from llmctl.planner.compute import output_bytes
from llmctl.planner.placement import Placement, Placer
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Machine, Memory
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import Configuration
from tests.fakes.real_shapes import shape_of
from tests.fakes.real_tensors import header

MIB, GIB = 1 << 20, 1 << 30
TARGETS = {"weights": 0.005, "KV": 0.01, "compute": 0.15, "context": 0.10}
NAMES = {  # theirs -> ours
    "Llama-2-7B": "llama-2-7b",
    "Meta-Llama-3-8B": "llama-3-8b",
    "LLaMA-30B": "llama-30b",
    "Qwen3-30B-A3B": "qwen3moe-30b",
    "granite-3b-code-instruct": "granite-3b-code",
    "gemma-3-1b-it": "gemma3-1b",
    "gpt-oss-20b": "gpt-oss-20b",
    "gpt-oss-120b": "gpt-oss-120b",
    "Phi-3-mini-4k-instruct": "phi3-mini",
    "Qwen3-4B": "qwen3-4b",
    "DeepSeek-V2-Lite-Chat": "deepseek-v2-lite",
    "Mixtral-8x7B-Instruct-v0.1": "mixtral",
    "Qwen3.5-9B": "qwen35-9b",
    "Qwen3.5-0.8B": "qwen35-2b",
    "Qwen3.6-35B-A3B": "qwen35moe-35b",
    "gemma-4-12B": "gemma4-12b",
    "Ornith-1.0-9B": "qwen35-9b",  # trained on from it: the same figures, and the same number of parameters
    "shisa-v2-llama3.1-8b": "llama-3.1-8b",
    "shisa-v2-llama3.3-70b": "llama-3.3-70b",
    "Qwen3-32B": "qwen3-32b",
    "Qwen3-235B-A22B-Instruct-2507": "qwen3-235b",
    "Mistral-Small-3.1-24B-Instruct-2503": "mistral-small",
    "gemma-3-27b-it": "gemma3-27b",
    "Llama-4-Scout-17B-16E-Instruct": "llama4-scout",
    "Hunyuan-A13B-Instruct": "hunyuan-a13b",
    "dots.llm1.inst": "dots1",
}
# This file of April 2024 was quantized in the order of its publisher's shards, and the layers that get more bits were
# counted in it: layers 10 to 20 come before 9. Eight cards show it, the logs of fewer don't contradict.
SHARDED = {"Meta-Llama-3-8B": (*range(9), *range(10, 21), 9, *range(21, 32))}
# The files of these are made of the types of one of llama.cpp's own mixes, so their header is known.
MADE = ("Q4_0", "Q8_0", "F16", "Q4_K_M", "Q5_K_M", "MXFP4")
OLD_BUILDS = ("b1619", "b1671")


@dataclass(frozen=True)
class Compared:
    """``ours`` and ``theirs`` in MiB (or tokens). ``publisher`` of the file where contexts are compared."""

    what: str
    row: str
    part: str
    ours: float
    theirs: float
    publisher: str | None = None

    @property
    def off(self) -> float:
        return self.ours / self.theirs - 1

    def __str__(self) -> str:
        return f"{self.what:8} {self.row:58} {self.part:12} {self.ours:10.2f} {self.theirs:10.2f} {self.off:+7.1%}"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", type=Path)
    folder = options.parse_args().folder
    compared: list[Compared] = []
    left_out: Counter[tuple[str, str]] = Counter()
    for number, row in enumerate(rows(folder / "memory.jsonl"), 1):
        compared += buffers(number, row, left_out)
    compared += contexts(rows(folder / "fit_max_ctx.jsonl"), left_out)
    compared += totals(rows(folder / "vram_totals.jsonl"), left_out)
    print(f"{'':8} {'':58} {'':12} {'ours':>10} {'theirs':>10}")
    print(*compared, sep="\n")
    print("\nLeft out:")
    for (what, reason), times in sorted(left_out.items()):
        print(f"  {what}: {reason} ({times} row{'s' if times > 1 else ''})")
    print(f"\n{'':10} {'number':>6} {'median':>8} {'lowest':>8} {'highest':>8}  target")
    missed = False
    for what in dict.fromkeys(one.what for one in compared):
        offs = sorted(one.off for one in compared if one.what == what)
        middle, target = median(map(abs, offs)), TARGETS.get(what)
        missed |= target is not None and middle > target
        told = "" if target is None else f"{target:.1%}  {'MISSED' if middle > target else 'met'}"
        print(f"{what:10} {len(offs):6} {middle:8.2%} {offs[0]:+8.1%} {offs[-1]:+8.1%}  {told}")
    print(
        "\nContext by publisher of the files; of these, only unsloth's and AesSedai's had a part in how they are mixed:"
    )
    for publisher in sorted({one.publisher for one in compared if one.publisher}):
        offs = sorted(one.off for one in compared if one.publisher == publisher)
        print(f"  {publisher:18} {len(offs):4} {median(map(abs, offs)):8.2%} {offs[0]:+8.1%} {offs[-1]:+8.1%}")
    return 1 if missed else 0


def rows(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_text("utf-8").splitlines():
        yield json.loads(line)


def machine(*free_gib: float) -> Machine:
    cards = tuple(
        Accelerator(str(n), "card", "?", AcceleratorKind.DISCRETE, None, round(free * GIB), usable=True)
        for n, free in enumerate(free_gib)
    )
    return Machine(Memory(1 << 40, 1 << 40), Cpu("?", "?", 8, 8, 8), accelerators=cards)


def file_of(model: str, quant: str, file_bytes: int | None = None) -> tuple[Shape, Weights]:
    """Shape and weights: out of the header, where the mix of types tells it, else a file of that size whose types are
    the same everywhere."""
    name = NAMES[model]
    if quant in MADE and file_bytes is None:
        made = header(name, quant, SHARDED.get(model, ()))
        return shape(made), weights(made)
    if model == "Qwen3.5-9B" and file_bytes is not None:
        known = header(name, "Q4_K_M")
        by_size = weights_by_size(known, quant, file_bytes - HEADER_BYTES[248_320])
        assert by_size is not None, "its label is one of llama.cpp's"
        return shape(known), by_size
    figures, size = shape_of(name), file_bytes or 0
    table = round(size * (figures.n_vocab or 0) * figures.n_embd / parameters(figures, size))
    return figures, Weights(size, table, 0, {"Q8_0": size - table}, exact=False)


def parameters(figures: Shape, file_bytes: int) -> float:
    """Those of a file of some five bits each: near enough for the share that the token table has."""
    return max(file_bytes * 8 / 5, 3.0 * (figures.n_vocab or 0) * figures.n_embd)


def buffers(number: int, row: dict[str, Any], left_out: Counter[tuple[str, str]]) -> Iterator[Compared]:
    """One load log: weights, cache and compute of each device, in the order of its buffers."""
    told, model, quant = row["buffers"], row["model"], row["quant"]
    label = f"{number} {model} {quant} ctx {row['n_ctx']} {row.get('backend', '')} {row.get('note', '')}"[:58]
    devices = [key.removesuffix(" model") for key in told if key.endswith(" model") and not key.startswith("CPU")]
    placement = placed(row, devices)
    host, *cards = placement.memory.by_device
    if model == "Mixtral-8x7B-Instruct-v0.1":
        left_out["weights", "a file of early 2024, whose experts were quantized by another rule than today's"] += 1
    elif not devices and quant not in MADE:
        left_out["weights", "a mix of types of its publisher's own"] += 1
    elif "mem required" in told:
        left_out["weights", "the log tells one sum for weights and scratch"] += 1
    else:
        for name, card in zip(devices, cards, strict=False):
            # Metal maps a span of the file, and this file's token table lies in it: the same pages as the CPU's.
            table = host.weights_bytes if name == "Metal_Mapped" else 0
            yield Compared("weights", label, name, (card.weights_bytes + table) / MIB, told[f"{name} model"])
        mapped = told.get("CPU model", told.get("CPU_Mapped model"))
        if mapped and "experts" not in row.get("note", ""):
            yield Compared("weights", label, "CPU", (host.weights_bytes + host.repacked_bytes) / MIB, mapped)
        elif mapped:
            left_out["weights", "CPU_Mapped is the span of the file from its first to its last expert"] += 1
    if told.get("KV"):
        yield Compared("KV", label, "all", sum(one.kv_bytes for one in placement.memory.by_device) / MIB, told["KV"])
        for name, card in zip(devices, cards, strict=False):
            if told.get(f"{name} KV") and len(cards) > 1:
                yield Compared("KV", label, name, card.kv_bytes / MIB, told[f"{name} KV"])
    states = sum(size for key, size in told.items() if key.endswith(" RS"))
    if states:
        yield Compared("state", label, "all", sum(one.state_bytes for one in placement.memory.by_device) / MIB, states)
    yield from computed(row, label, placement, devices, left_out)


def computed(
    row: dict[str, Any], label: str, placement: Placement, devices: list[str], left_out: Counter[tuple[str, str]]
) -> Iterator[Compared]:
    told = row["buffers"]["compute"]
    host, *cards = placement.memory.by_device
    if row.get("build") in OLD_BUILDS:
        left_out["compute", "llama.cpp of 2023, whose graphs and whose allocator were others"] += 1
        return
    if row["model"] == "Mixtral-8x7B-Instruct-v0.1":
        left_out["compute", "llama.cpp of early 2024, which computed a token's experts one after the other"] += 1
        return
    if row["model"] == "Qwen3.5-9B":
        left_out["compute", "llama-server, which reserves the logits of a few tokens, not of a batch"] += 1
        return
    names = devices or [name for name in told if name != "CPU" and not name.endswith("_Host")]
    if row["backend"] == "cann":
        left_out["compute", "CANN copies the experts to its first device, and splits its graph at each layer"] += 1
        return
    if not cards:
        (only,) = told.values()
        compute = host.compute_bytes - output_bytes(shape_of(NAMES[row["model"]]), placement.configuration)
        yield Compared("compute", label, "CPU", compute / MIB, only)
        return
    for name, card in zip(names, cards, strict=True):
        yield Compared("compute", label, name, card.compute_bytes / MIB, told[name.split("_")[0]])
    (inputs,) = [size for name, size in told.items() if name == "CPU" or name.endswith("_Host")]
    yield Compared("host", label, "inputs", host.compute_bytes / MIB, inputs)


def placed(row: dict[str, Any], devices: list[str]) -> Placement:
    figures, of_file = file_of(row["model"], row["quant"], row.get("model_bytes"))
    settings = Configuration(
        row["n_ctx"],
        flash_attention=row["flash_attn"] is not False and row["flash_attn"] is not None,
        ubatch=row["n_ubatch"] or 512,
        swa_full="no SWA saving" in row.get("note", ""),
        sequences=row.get("n_parallel", 1),
    )
    settings = replace(settings, context=settings.context // settings.sequences)  # theirs is that of all together
    number = row.get("n_devices", 1) if devices or row.get("backend") != "cpu" else 0
    if row["quant"] == "Q4_K_M" and "experts" in row.get("note", ""):
        number = 2
    if number:
        layers = min(row["n_gpu_layers"] or figures.n_layer + 1, figures.n_layer + 1)
        experts = figures.n_layer if "experts on CPU" in row.get("note", "") else 0
        settings = replace(settings, gpu_layers=layers, cpu_expert_layers=experts)
    placer = Placer(machine(*[500.0] * number), figures, of_file)
    if number > 1:
        settings = replace(settings, layers_per_device=split(row, devices, figures, placer))
    return placer.place(settings)


def split(row: dict[str, Any], devices: list[str], figures: Shape, placer: Placer) -> tuple[int, ...]:
    """As llama.cpp divides among cards that are equally free, unless the cache or the weights tell otherwise."""
    told = row["buffers"]
    caches = [told.get(f"{name} KV") for name in devices]
    if "experts" in row.get("note", "") and all(caches):
        counts = [round(size / told["KV"] * figures.n_layer) for size in caches]
        return (*counts[:-1], counts[-1] + 1)
    if row["backend"] == "cann":  # 27.3 MiB a layer without experts
        counts = [round(told[f"{name} model"] / 27.3) for name in devices[:-1]]
        return (*counts, figures.n_layer + 1 - sum(counts))
    return placer.shares(figures.n_layer + 1)


# What llama.cpp saw free on an idle 8 GB laptop card of the same generation: 7,627 of 7,807 MiB
# (github.com/ggml-org/llama.cpp/pull/22673, a log of an RTX 2000 Ada). No row took part in choosing it.
FREE_MIB = 7627
LADDER = (5_000, 10_000, 20_000, 30_000, 40_000, 50_000, *range(75_000, 250_001, 25_000), 262_144)
HEADER_BYTES = {248_320: 10_970_000, 262_144: 15_800_000}  # of files with these vocabularies: tokens, and merges
BESIDE_EXPERTS_IN_Q8_0 = ("AesSedai",)  # says so on the models' cards


def contexts(found: Iterator[dict[str, Any]], left_out: Counter[tuple[str, str]]) -> Iterator[Compared]:
    """The largest context of their ladder with as many layers on the card as llama.cpp had there.

    The rows' search took the most layers that go there at 5,000 tokens (of mixtures of experts: with experts on the
    CPU), and then the largest context that keeps them.
    """
    for row in found:
        model = row["model"]
        if row["n_ctx_max_fit"] in (262_144, 131_072):
            left_out["context", "all that the model was trained for fits, so it says nothing of the most"] += 1
            continue
        of_file = mixed(row)
        if of_file is None:
            left_out["context", f"the label {row['quant']} doesn't say what type of weights it stands for"] += 1
            continue
        placer = Placer(machine(FREE_MIB / 1024), shape_of(NAMES[model]), of_file)
        layers = row["n_gpu_layers"]

        def needed(context: int, placer: Placer = placer, layers: Any = layers, row: dict[str, Any] = row) -> int:
            settings = Configuration(
                context,
                flash_attention=True,
                ubatch=row["n_ubatch"],
                gpu_layers=placer.height if layers == "all" else layers,
                cpu_expert_layers=placer.shape.n_layer if placer.shape.n_expert else 0,
            )
            # Its fit keeps the experts of the first layer on the card: the head is counted as that layer when it is
            # told which stay behind (set_ngl_tensor_split_tbo in common/fit.cpp).
            first = placer.stack(settings).experts[1]
            return placer.place(settings).memory.by_device[1].total_bytes + first

        room = (FREE_MIB - row["reserve_mib"]) * MIB
        ours = LADDER[max(0, bisect_right(LADDER, room, key=needed) - 1)]
        label = f"{model} {row['quant']} {row['gguf_by']} ubatch {row['n_ubatch']} layers {layers}"
        yield Compared("context", label, "tokens", ours, row["n_ctx_max_fit"], row["gguf_by"])


def mixed(row: dict[str, Any]) -> Weights | None:
    """The weights of a file of that size and label, as ``llmctl plan`` derives them from another file's header."""
    label = row["quant"].partition("-")[0] if row["gguf_by"] == "byteshape" else row["quant"]
    if row["gguf_by"] in BESIDE_EXPERTS_IN_Q8_0:
        label = f"UD-{label}"
    figures = shape_of(NAMES[row["model"]])
    known = header(NAMES[row["model"]], "MXFP4" if label == "MXFP4" else "Q4_K_M")
    return weights_by_size(known, label, row["model_bytes"] - HEADER_BYTES.get(figures.n_vocab or 0, 0))


def totals(found: Iterator[dict[str, Any]], left_out: Counter[tuple[str, str]]) -> Iterator[Compared]:
    """All that a process took of the GPU's memory: weights, cache and compute of the plan, without the driver's own."""
    for row in found:
        model, quant = row["model"], row["quant"]
        if model not in NAMES:
            left_out["total", f"{model}: its geometry isn't published with it"] += 1
            continue
        if "desktop" in row.get("method", ""):
            left_out["total", "the desktop's own is in it"] += 1
            continue
        exact = quant in MADE and model in ("Llama-2-7B", "gpt-oss-20b")
        figures, of_file = file_of(model, quant, None if exact and "note" not in row else row["model_bytes"])
        context = row["n_ctx"]
        settings = Configuration(
            context,
            row["type_k"],
            flash_attention=bool(row["flash_attn"]),
            ubatch=min(row["n_ubatch"], context),
            gpu_layers=figures.n_layer + 1,
        )
        card = Placer(machine(500.0), figures, of_file).place(settings).memory.by_device[1]
        label = f"{model} {quant} ctx {context} {row['backend']} fa {row['flash_attn']}"
        yield Compared("total", label, row["device"][:12], card.total_bytes / MIB, row["peak_mib"])


if __name__ == "__main__":
    sys.exit(main())
