"""Published measurements of speed, each with the device, the shape and the weights that the planner's formulas take.

``speed.jsonl`` names a model and gives its file's size; the rest of what a planner reads from a header comes from the
shapes in ``tests/fixtures/real_shapes.jsonl`` and the catalogue, by the model's name. Of a model that is in neither,
shape and mix are guessed from its parameters. What can't be used is told with its reason.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from msgspec.structs import replace

from llmctl import catalogue, paths
from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.gguf.mix import FINER, base_type
from llmctl.gguf.quant import WEIGHT_TYPE_BY_NAME
from llmctl.planner.placement import Placement, Placer
from llmctl.planner.speed import Forecaster
from llmctl.probe.described import table
from llmctl.probe.described.table import Device
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Machine, Memory
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import UBATCH, Configuration
from llmctl.types.speed_model import SpeedModel
from tests.bench.measured_models import TIED, shape_name
from tests.fakes.real_shapes import models, shape_of

# What they are with in the table of devices, where the two say it otherwise.
DEVICES: Mapping[str, str] = {
    "RTX 6000 Ada": "RTX 6000 Ada Generation",
    "RTX 5000 Ada": "RTX 5000 Ada Generation",
    "RTX 4000 Ada": "RTX 4000 Ada Generation",
    "RTX PRO 6000 Blackwell Max-Q": "RTX PRO 6000 Blackwell Max-Q Workstation Edition",
}
# How many of a chip's cores those have that a source says it ran on, of those that the table's compute is of.
CORES: Mapping[tuple[str, str], float] = {("Apple M1 Ultra", "geerlingguy/ai-benchmarks@bdf9441:README.md"): 48 / 64}
FILE_SHARE = 0.998  # of a file's bytes are tensors, the rest is its header
SAME_SIZE = 0.01
DISTURBED = 0.9  # of the speed with more tokens before
# The processor beside a device is hardly ever named: two channels of DDR5-5600, eight fast cores.
CPU = Cpu("not said", "x86_64", 8, 16, 8, ("AVX2",))
CPU_BYTES_PER_S = 89.6e9
THREADS = 8
FIRST_VULKAN = "2024-06"
FIRST_FLASH = "2025-09"  # since then llama.cpp has flash attention on where nothing is said of it
# Source: https://github.com/ggml-org/Llama-macOS/issues/67, https://github.com/ggml-org/llama.cpp/pull/20244
DELTA_NET, FUSED_DELTA_NET = re.compile(r"qwen3\.5|qwen3-(next|coder-next)"), "2026-04"
POWER_LIMIT = re.compile(r"\b\d+ W limit|limited to \d+ W")
GUESSED_DEPTH = 512
UNKNOWN = "not given"  # of a backend
MOSTLY_TABLES = ("gemma4-e2b", "gemma4-e4b")
GIB = 1 << 30
Row = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """One row. ``depth``: tokens in the cache in the middle of the answer; ``prompt_tokens`` of a prefill, else 0."""

    row: Row
    device: Device
    backend: str
    shape: Shape
    weights: Weights
    known: bool
    depth: int
    prompt_tokens: int
    tok_s: float

    @property
    def name(self) -> str:
        return str(self.row["device"])


def read(file: Path) -> tuple[list[Measured], Counter[str]]:
    """The rows on one device or several, and how many were left out for which reason."""
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    sizes, left_out, used = _Sizes(rows), Counter[str](), []
    for row in rows:
        found = _measured(row, sizes)
        if isinstance(found, str):
            left_out[found] += 1
        else:
            used.append(found)
    disturbed = _disturbed(used)
    left_out["slower with less before than with more: the machine was busy"] += len(disturbed)
    return [one for one in used if id(one) not in disturbed], left_out


def _disturbed(rows: Iterable[Measured]) -> set[int]:
    """Of the runs that differ in the length of their answers alone, those where a longer one was faster: ids."""
    alike: dict[tuple[object, ...], list[Measured]] = {}
    for one in rows:
        if one.row["test"] == "tg":
            keys = (
                "source",
                "date",
                "device",
                "n_devices",
                "backend",
                "model",
                "quant",
                "harness",
                "flash_attn",
                "note",
            )
            alike.setdefault(tuple(one.row.get(key) for key in keys), []).append(one)
    return {
        id(one)
        for some in alike.values()
        if any(a.depth < b.depth and a.tok_s < DISTURBED * b.tok_s for a in some for b in some)
        for one in some
    }


def device_of(name: str) -> Device | None:
    """The line of ``profiles/devices.toml`` that a measured device is."""
    whole = DEVICES.get(name, name)
    whole = re.sub(r"Laptop( GPU)?\b", "Laptop GPU", whole)
    return table.find(_devices(), name=whole)


@cache
def _devices() -> tuple[Device, ...]:
    return table.load(paths.profiles_dir())


def _measured(row: Row, sizes: _Sizes) -> Measured | str:
    if row["backend"] == "cpu":
        return "CPU only"
    if row.get("split_mode") in ("row", "tensor"):
        return "every matrix split over devices, which llmctl does not do"
    if "speculation on" in row["harness"]:
        return "with speculation"
    if POWER_LIMIT.search(row.get("note") or ""):
        return "with another power limit than the card is sold with"
    if row["date"] < FIRST_VULKAN and row["backend"] == "vulkan":
        return "with the first builds of the Vulkan backend"
    if row["test"] == "pp" and row["device"].startswith("Radeon 8060S") and row["date"] < "2026":
        return "prefill in the first months of this chip's drivers, up to five times slower than later"
    if row["backend"] == "metal" and DELTA_NET.match(row["model"].lower()) and row["date"] < FUSED_DELTA_NET:
        return "Qwen3.5 on Metal before llama.cpp b8333, which computes its delta net up to a quarter faster"
    device = device_of(row["device"])
    if device is not None and device.note:
        return f"which of several kinds it is isn't said: {row['device']}"
    if device is None or not device.bandwidth_bytes_per_s:
        return f"device not in profiles/devices.toml: {row['device']}"
    if device.flop_per_s:
        share = next(
            (share for (chip, at), share in CORES.items() if chip == row["device"] and at in row["source"]), 1.0
        )
        device = replace(device, flop_per_s=share * device.flop_per_s)
    name = shape_name(row["model"])
    shipped = _shipped_weights(name, row["quant"])
    size = (
        sizes.bytes_of(row, name) if row["model_bytes"] or shipped is None else round(shipped.total_bytes / FILE_SHARE)
    )
    if size is None:
        return "neither the file's size nor the model's shape is known"
    if size > (row["mem_gb"] or math.inf) * GIB * row["n_devices"] and not row.get("n_gpu_layers"):
        return "larger than the device's memory: some of it was elsewhere"
    if name is None and row["test"] == "tg" and (row.get("depth") or 0) > GUESSED_DEPTH:
        return "decoding at depth, with a model of which no cache is known"
    if not row["model_bytes"] and name in MOSTLY_TABLES:
        return "the file's size isn't given, and most of it is tables that are looked up"
    shape, weights = described({**row, "params_b": sizes.params_of(row, name)}, name, size)
    if shipped is not None and abs(weights.total_bytes / shipped.total_bytes - 1) < SAME_SIZE:
        weights = shipped
    answer = row.get("n_gen") or 0
    return Measured(
        row,
        device,
        row["backend"] or UNKNOWN,
        shape,
        weights,
        name is not None,
        (row.get("depth") or row["n_prompt"] or 0) + answer // 2 if row["test"] == "tg" else row.get("depth") or 0,
        (row["n_prompt"] or 512) if row["test"] == "pp" else 0,
        row["tok_s"],
    )


def _shipped_weights(name: str | None, label: str) -> Weights | None:
    """Those of the catalogue's file with this label, of the model with the same figures."""
    if name is None:
        return None
    figures = _figures(name)[0]
    alike = (model for model in _catalogue().models if _key(model.shape) == _key(figures))
    files = (file for model in alike for file in model.artifacts if file.quant == label)
    return next((file.weights for file in files), None)


def _key(shape: Shape) -> tuple[object, ...]:
    return shape.architecture, shape.n_layer, shape.n_embd, shape.n_vocab, shape.n_expert


@cache
def _catalogue() -> catalogue.Catalogue:
    return catalogue.load(paths.profiles_dir() / "models")


class _Sizes:
    """What a row leaves out, told by the other rows: a file's bytes by those of the same shape and label, or by the
    label's bits per weight; and a shape's parameters by the row that rounds least."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._same: dict[tuple[str, str], int] = {}
        self._params: dict[str, float] = {}
        bits: dict[str, list[float]] = {}
        for row in rows:
            name = shape_name(row["model"])
            if name is not None and len(str(row["params_b"])) > len(str(self._params.get(name, ""))):
                self._params[name] = row["params_b"]
            if row["model_bytes"]:
                self._same.setdefault((name or row["model"], row["quant"]), row["model_bytes"])
                bits.setdefault(row["quant"], []).append(8 * row["model_bytes"] / row["params_b"] / 1e9)
        self._bits = {label: median(all_bits) for label, all_bits in bits.items()}

    def bytes_of(self, row: Row, name: str | None) -> int | None:
        if size := row["model_bytes"] or self._same.get((name or row["model"], row["quant"])):
            return int(size)
        if name is not None and row["quant"] in self._bits:
            return round(self._params[name] * 1e9 * self._bits[row["quant"]] / 8)
        return None

    def params_of(self, row: Row, name: str | None) -> float:
        return float(row["params_b"] if name is None else self._params[name])


def described(row: Row, name: str | None, file_bytes: int) -> tuple[Shape, Weights]:
    """The model's shape, and its weights by role: the whole is the file's, the split follows from the shape."""
    if name is None:
        shape, tables, experts, tied = _guessed(row)
    else:
        shape, tables, experts, tied = _figures(name)
    total = round(file_bytes * FILE_SHARE)
    base = base_type(row["quant"]) or "Q4_K"
    return shape, _weights(base, total, row["params_b"] * 1e9, tables, experts, tied)


def _figures(name: str) -> tuple[Shape, tuple[float, float], float, bool]:
    """Shape, elements of the token table and of what else is in the file and never streamed, elements of routed
    experts, tied or not."""
    if name not in models():
        model = catalogue.find(_catalogue(), name)
        shape, figures = model.shape, {}
        dense_first, expert_ff = 0, 0
    else:
        shape = shape_of(name)
        figures = {key.partition(".")[2]: value for key, value in models()[name].items()}
        dense_first = figures.get("leading_dense_block_count", 0)
        expert_ff = figures.get("expert_feed_forward_length") or figures.get("feed_forward_length", 0)
    width = figures.get("feed_forward_length", 0)
    matrices, layers = 3, shape.n_layer - dense_first
    if isinstance(width, list) and shape.n_expert:  # Nemotron: two matrices, in every second layer or so
        matrices, layers = 2, sum(1 for one in width if one)
    into_experts = figures.get("moe_latent_size") or shape.n_embd
    experts = float(layers * shape.n_expert * matrices * into_experts * expert_ff) if shape.n_expert else 0.0
    vocabulary = shape.n_vocab or 0
    beside = float(vocabulary * shape.per_layer_width)
    if drafts := figures.get("nextn_predict_layers", 0):  # in the file, but not used: their experts, table and head
        beside += drafts * (experts / max(1, layers) + 2 * vocabulary * shape.n_embd)
    return shape, (vocabulary * shape.n_embd, beside), experts, bool(TIED.match(name))


def _guessed(row: Row) -> tuple[Shape, tuple[float, float], float, bool]:
    params, active = row["params_b"], row.get("active_params_b")
    layers = max(8, round(14 * (params if not active else (params * active) ** 0.5) ** 0.4))
    n_embd = max(256, round(((active or params) * 1e9 / (12 * layers)) ** 0.5 / 64) * 64)
    vocabulary = 32_000 if row["date"] < "2024-04" else 150_000
    shape = Shape("llama", layers, n_embd, max(1, n_embd // 128), None, vocabulary, 8192, kv_width=layers * 2048)
    experts = 0.0
    if active and active < params:
        always = 0.4 * active  # attention, shared experts and the tables of 3B active parameters
        experts = (params - always) * 1e9
        shape = replace(shape, n_expert=1000, n_expert_used=max(1, round(1000 * (active - always) / (params - always))))
    return shape, (float(vocabulary * n_embd), 0.0), experts, params < 3


def _weights(
    base: str, total: int, elements: float, tables: tuple[float, float], experts: float, tied: bool
) -> Weights:
    """All bytes by role. Of what is streamed, so much is of the finer type of the label's mix as the size tells."""
    head = base if base in ("F16", "BF16", "Q8_0") else "Q8_0" if base == "MXFP4" else "Q6_K"
    table_type = head if tied or base == "MXFP4" else base
    table_bytes, head_bytes = tables[0] * _bits(table_type) / 8, tables[0] * _bits(head) / 8
    looked_up = tables[1] * _bits(base) / 8 + (0 if tied else table_bytes)
    looked_up = min(looked_up, 0.8 * total)
    body_elements = max(elements - tables[1] - tables[0] * (1 if tied else 2), 0.2 * elements)
    body = max(total - looked_up - head_bytes, 0.1 * total)
    if base == "MXFP4":
        expert_types = {"MXFP4": min(experts * _bits(base) / 8, body * 0.98)}
        rest = body - expert_types["MXFP4"]
        body_types = {**expert_types, "F16" if 8 * rest > 12 * max(1.0, body_elements - experts) else "Q8_0": rest}
    else:
        finer = FINER.get(base, base)
        bits = 8 * body / body_elements
        low, high = _bits(base), _bits(finer)
        share = min(1.0, max(0.0, (bits - low) / (high - low))) if high > low else 0.0
        by_bytes = share * high / (share * high + (1 - share) * low)
        body_types = {base: body * (1 - by_bytes)}
        if by_bytes:
            body_types[finer] = body * by_bytes
        part = min(0.98, experts / body_elements)
        expert_types = {name: size * part for name, size in body_types.items()} if part else {}
    types = Counter({name: round(size) for name, size in body_types.items()})
    types[head] += round(head_bytes)
    experts_by_type = {name: round(size) for name, size in expert_types.items()}
    return Weights(
        total,
        round(looked_up),
        sum(experts_by_type.values()),
        dict(types),
        exact=False,
        expert_type_bytes=experts_by_type,
        tied_bytes=round(head_bytes) if tied else 0,
    )


def _bits(name: str) -> float:
    return WEIGHT_TYPE_BY_NAME[name].bits_per_weight


@dataclass(frozen=True)
class Case:
    """A row with the machine and the placement that it was measured with: on one device, or on several alike."""

    measured: Measured
    machine: Machine
    placement: Placement

    def speed_model(self, constants: SpeedConstants) -> SpeedModel:
        one = self.measured
        return (
            Forecaster(self.machine, constants)
            .forecast(one.shape, one.weights, self.placement, (THREADS, THREADS))
            .speed_model
        )

    def seconds(self, constants: SpeedConstants) -> float:
        """Of a token, in the middle of the answer or of the prompt."""
        speed_model, one = self.speed_model(constants), self.measured
        if one.row["test"] == "tg":
            return speed_model.decode_s(one.depth)
        return speed_model.prefill_s(one.prompt_tokens, one.depth) / one.prompt_tokens

    def error(self, constants: SpeedConstants) -> float:
        """The logarithm of measured over predicted tokens per second."""
        return math.log(self.measured.tok_s * self.seconds(constants))


def case(one: Measured) -> Case:
    cards = tuple(_card(one, number) for number in range(one.row["n_devices"]))
    machine = Machine(Memory(512 * GIB, 500 * GIB, bandwidth_bytes_per_s=CPU_BYTES_PER_S), CPU, accelerators=cards)
    placer = Placer(machine, one.shape, one.weights)
    layers = one.row.get("n_gpu_layers") or placer.height
    settings = Configuration(
        max(512, one.depth + one.prompt_tokens),
        flash_attention=_flash(one.row),
        ubatch=one.row.get("n_ubatch") or UBATCH,
        gpu_layers=min(layers, placer.height),
        cpu_expert_layers=one.row.get("n_cpu_moe") or 0,
    )
    return Case(one, machine, placer.place(settings))


def _flash(row: Row) -> bool:
    said = row.get("flash_attn")
    return row["date"] >= FIRST_FLASH if said is None else bool(said)


def _card(one: Measured, number: int) -> Accelerator:
    device = one.device
    return Accelerator(
        f"card{number}",
        device.name,
        device.vendor,
        AcceleratorKind.DISCRETE if one.row["n_devices"] > 1 else device.kind or AcceleratorKind.INTEGRATED,
        512 * GIB,
        500 * GIB,
        bandwidth_bytes_per_s=device.bandwidth_bytes_per_s,
        compute_capability=device.compute_capability,
        architecture=device.architecture,
        compute_flop_per_s=device.flop_per_s,
        engine_backend=None if one.backend == UNKNOWN else one.backend,
        usable=True,
        pcie=one.row.get("pcie"),
    )
