"""Fits the constants of devices in ``profiles/speed.toml`` to published measurements with llama.cpp.

    python tests/bench/fit_device_speed.py speed.jsonl devices.json

``speed.jsonl`` has one measurement a line (device, backend, model_bytes, params_b, test tg or pp, tok_s), and
``devices.json`` the devices' specified bandwidths in GB/s. Decoding is taken as

    1 / tok_s = streamed bytes / (share x bandwidth) + layers x layer_s

for dense models on one device with at most 512 tokens cached; the streamed bytes are the file's less a twentieth, for
the embedding table, and the layers 14 x (billions of parameters) ^ 0.4, as the models of the catalogue have. Prefill is
operations per byte of bandwidth. Prints TOML with the number of rows, and the errors with every device left out of its
own fit.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

STREAMED = 0.95
SHARES = [0.4 + 0.02 * n for n in range(30)]
LAYER_S = [0.0, *(1e-6 * 1.35**n for n in range(20))]
Row = dict[str, Any]


def plain(name: str) -> list[str]:
    """The name in the ways that the two files may agree on: whole, or what stands in brackets."""
    parts = [re.sub(r"\(.*?\)", "", name), *re.findall(r"\((.*?)\)", name)]
    return [
        re.sub(r"geforce|nvidia|amd|apple|radeon|graphics|generation|[^a-z0-9]", "", part.lower()) for part in parts
    ]


def rows_of(measurements: Path, devices: Path) -> Iterable[Row]:
    bandwidth = {
        name: one["bandwidth_gbps"] * 1e9
        for one in json.loads(devices.read_text())["devices"]
        if one.get("bandwidth_gbps")
        for name in plain(one["name"])
    }
    for line in measurements.read_text().splitlines():
        row: Row = json.loads(line)
        row["bandwidth"] = next((bandwidth[name] for name in plain(row["device"]) if name in bandwidth), None)
        if row["bandwidth"] and row["n_devices"] == 1 and row["backend"] and row["backend"] != "cpu":
            yield row


def seconds(row: Row, share: float, layer_s: float) -> float:
    layers = 14 * row["params_b"] ** 0.4
    return float(row["model_bytes"] * STREAMED / (share * row["bandwidth"]) + layers * layer_s)


def errors(rows: Sequence[Row], share: float, layer_s: float) -> list[float]:
    return [math.log(row["tok_s"] * seconds(row, share, layer_s)) for row in rows]


def fit(rows: Sequence[Row]) -> tuple[float, float]:
    """The pair with the least error, every device counting once however many rows it has."""
    devices = {row["device"]: [one for one in rows if one["device"] == row["device"]] for row in rows}

    def misfit(pair: tuple[float, float]) -> float:
        return statistics.mean(
            statistics.mean(min(abs(error), 0.7) for error in errors(few, *pair)) for few in devices.values()
        )

    return min(((share, layer_s) for share in SHARES for layer_s in LAYER_S), key=misfit)


def main() -> None:
    decode: dict[str, list[Row]] = defaultdict(list)
    prefill: dict[str, list[float]] = defaultdict(list)
    for row in rows_of(Path(sys.argv[1]), Path(sys.argv[2])):
        if row.get("active_params_b"):
            continue
        if row["test"] == "tg" and row["model_bytes"] and (row.get("depth") or 0) <= 512:
            decode[row["backend"]].append(row)
        elif row["test"] == "pp" and (row.get("depth") or 0) == 0 and (row["n_prompt"] or 0) >= 256:
            prefill[row["backend"]].append(2e9 * row["params_b"] * row["tok_s"] / row["bandwidth"])
    held_out: list[float] = []
    for backend, rows in sorted(decode.items()):
        if len(rows) < 10:
            print(f"# {backend}: {len(rows)} rows, too few")
            continue
        share, layer_s = fit(rows)
        names = {row["device"] for row in rows}
        for name in names:
            others = [row for row in rows if row["device"] != name]
            held_out += errors([row for row in rows if row["device"] == name], *fit(others))
        print(
            f"[backend.{backend}]  # {len(rows)} decode rows, {len(names)} devices, {len(prefill[backend])} of prefill"
        )
        print(f"share = {share:.2f}\nlayer_s = {layer_s:.2g}")
        print(f"prefill_flop_per_byte = {statistics.median(prefill[backend] or [0]):.0f}")
    held_out = sorted(-error for error in held_out)  # log of measured over predicted
    absolute = sorted(abs(math.expm1(-error)) for error in held_out)
    tenths = [math.exp(held_out[int(len(held_out) * share)]) for share in (0.1, 0.9)]
    most = absolute[int(len(absolute) * 0.9)]
    print(f"# left out: median error {statistics.median(absolute):.0%}, nine in ten under {most:.0%}")
    print(f"[range.device]\nlow = {tenths[0]:.2f}\nhigh = {tenths[1]:.2f}")


if __name__ == "__main__":
    main()
