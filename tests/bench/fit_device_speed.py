"""Fits the constants of ``profiles/backends.toml`` to published measurements with llama.cpp.

    python tests/bench/fit_device_speed.py speed.jsonl

The planner's own formulas are asked (``planner.speed.forecast``), with ``profiles/backends.toml`` as it is for what is
not fitted. The sum of absolute logarithmic errors is made small one constant after the other, each row weighted by one
over the root of its device's count, and each constant held near what is usual for all backends: most of them were
measured on two or three devices only. Prints the tables of that file. ``device_speed.py`` validates them.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import fields, replace

from llmctl import catalogue, paths
from llmctl.catalogue.device_constants import Backend, DeviceConstants
from llmctl.catalogue.speed_constants import SpeedConstants
from tests.bench.measured_speed import Case, case, read

SHALLOW = 512
SMALL = 0.02  # errors below it count by their square: they are noise
STEPS = (0.2, 0.07, 0.025, 0.01)
SMALL_STEPS = (0.07, 0.02)  # from where the fit to all rows has ended
ROUNDS = 3
Values = Mapping[str, float]


@dataclass(frozen=True)
class Parameter:
    """``usual`` is where it is held, ``spread`` by which factor it may be off that at the cost of one row. ``backend``
    is whose rows it concerns, None for all."""

    usual: float
    spread: float
    backend: str | None = None


FITTED = ("cuda", "metal", "rocm", "vulkan")  # of SYCL there is one row
DECODE: Mapping[str, Parameter] = {
    **{f"{name}.share": Parameter(0.88, 0.06, name) for name in FITTED},
    **{f"{name}.layer_s": Parameter(70e-6, 0.4, name) for name in FITTED},
    **{f"{name}.flash_decode_share": Parameter(0.3, 0.7, name) for name in FITTED},
    **{f"{name}.plain_decode_share": Parameter(1.0, 0.5, name) for name in ("cuda", "metal")},  # of others no row tells
    "cuda.bytes_per_flop": Parameter(0.0051, 0.15, "cuda"),
    "unified.decode": Parameter(0.95, 0.06),
    "metal.bytes_per_flop": Parameter(0.03, 0.2, "metal"),
    "metal.k_bytes_per_flop": Parameter(0.024, 0.2, "metal"),
    "metal.generation": Parameter(1.05, 0.04, "metal"),
    "k": Parameter(0.94, 0.06),
    "low": Parameter(0.7, 0.3),
    "expert_share": Parameter(0.88, 0.12),
    "expert_layers": Parameter(0.5, 0.5),
}
PREFILL: Mapping[str, Parameter] = {
    **{f"{name}.prefill_flop_per_s": Parameter(27e12, 0.6, name) for name in FITTED},
    "unified.prefill": Parameter(0.7, 0.3),
    "vulkan.0.prefill": Parameter(2.9, 0.2, "vulkan"),
    "peak_share": Parameter(0.7, 0.3),
    "batch_tokens": Parameter(100.0, 0.4),
    "activation_bytes": Parameter(400.0, 0.6),
    "attention_prefill_share": Parameter(0.25, 0.5),
    **{f"{name}.flash_prefill_share": Parameter(0.5, 0.7, name) for name in FITTED},
}
FIELDS = (
    *("share", "bytes_per_flop", "k_bytes_per_flop", "layer_s", "prefill_flop_per_s", "prefill_flop_per_byte"),
    *("flash_prefill_share", "flash_decode_share", "plain_decode_share"),
)
GENERATIONS = {0: -2, 1: -1, 2: 1, 3: 2}  # the kinds of Metal, from M1 on, by their distance from M3


def with_values(constants: SpeedConstants, values: Values) -> SpeedConstants:
    """The constants with those of ``values`` in their place."""
    devices = constants.devices
    plain = {name: value for name, value in values.items() if hasattr(devices, name)}
    types = {
        name: values.get("k" if name[0] == "Q" and name[1] in "456" else "low", share)
        for name, share in devices.types.items()
    }
    backends = {name: _backend(name, one, values) for name, one in devices.backends.items()}
    return replace(constants, devices=replace(devices, types=types, backends=backends, **plain))


def _backend(name: str, backend: Backend, values: Values) -> Backend:
    kinds = []
    for number, kind in enumerate(backend.factors):
        decode = values.get(f"{name}.{number}.decode", kind.decode)
        if name == "metal" and "metal.generation" in values:
            decode = values["metal.generation"] ** GENERATIONS[number]
        prefill = values.get(f"{name}.{number}.prefill", kind.prefill)
        if "unified" in kind.these:
            decode, prefill = values.get("unified.decode", decode), values.get("unified.prefill", prefill)
        kinds.append(replace(kind, decode=decode, prefill=prefill))
    own = {field: values[f"{name}.{field}"] for field in FIELDS if f"{name}.{field}" in values}
    return replace(backend, factors=tuple(kinds), **own)


def start(constants: SpeedConstants, parameters: Mapping[str, Parameter]) -> dict[str, float]:
    return {name: one.usual for name, one in parameters.items()}


def fit(
    cases: Sequence[Case],
    constants: SpeedConstants,
    parameters: Mapping[str, Parameter],
    first: Values,
    steps: Sequence[float] = STEPS,
) -> dict[str, float]:
    """Values of ``parameters`` with the least misfit, found from ``first`` on, one after the other."""
    counts = Counter((one.measured.name, one.measured.backend) for one in cases)
    weights = [1 / math.sqrt(counts[one.measured.name, one.measured.backend]) for one in cases]
    scale = len(cases) / sum(weights) if cases else 1.0
    values = dict(first)

    def errors(of: Values, which: Iterable[int]) -> dict[int, float]:
        tried = with_values(constants, of)
        return {at: scale * weights[at] * math.hypot(cases[at].error(tried), SMALL) for at in which}

    def held(name: str, value: float) -> float:
        return (math.log(value / parameters[name].usual) / parameters[name].spread) ** 2

    concerned = {
        name: [at for at, case in enumerate(cases) if one.backend in (None, case.measured.backend)]
        for name, one in parameters.items()
    }
    known = errors(values, range(len(cases)))
    for step in steps:
        for _ in range(ROUNDS):
            moved = False
            for name in parameters:
                for direction in (1, -1):
                    while concerned[name]:
                        value = values[name] * math.exp(direction * step)
                        new = errors({**values, name: value}, concerned[name])
                        gain = sum(known[at] - size for at, size in new.items())
                        if gain + held(name, values[name]) - held(name, value) <= 1e-9:
                            break
                        values[name], moved = value, True
                        known.update(new)
            if not moved:
                break
    return values


def decoding(cases: Iterable[Case]) -> list[Case]:
    return [one for one in alone(cases) if one.measured.row["test"] == "tg"]


def prefilling(cases: Iterable[Case]) -> list[Case]:
    return [one for one in alone(cases) if one.measured.row["test"] == "pp"]


def alone(cases: Iterable[Case]) -> list[Case]:
    return [one for one in cases if one.measured.row["n_devices"] == 1]


def before(one: Case) -> int:
    """Tokens in the cache, as the row has it: not counting what is written."""
    return one.measured.row.get("depth") or 0


def fit_all(cases: Sequence[Case], constants: SpeedConstants) -> dict[str, float]:
    found = fit(prefilling(cases), constants, PREFILL, start(constants, PREFILL))
    return found | fit(decoding(cases), with_values(constants, found), DECODE, start(constants, DECODE))


def toml(devices: DeviceConstants) -> Iterator[str]:
    """The lines of ``profiles/backends.toml`` but its comments."""
    for field in fields(devices):
        if isinstance(value := getattr(devices, field.name), float):
            yield f"{field.name} = {value:.3g}"
    for share in dict.fromkeys(devices.types.values()):
        names = [name for name, other in devices.types.items() if other == share]
        yield f"\n[[types]]\nthese = {json.dumps(names)}\nshare = {share:.3g}"
    for name, backend in devices.backends.items():
        yield f"\n[backend.{name}]"
        yield f"vendors = {json.dumps(list(backend.vendors))}"
        figures = ((field, getattr(backend, field)) for field in FIELDS)
        yield from (f"{field} = {value:.3g}" for field, value in figures if value < math.inf)
        for kind in backend.factors:
            yield f"[[backend.{name}.kind]]\nthese = {json.dumps(list(kind.these))}"
            factors = ((field, getattr(kind, field)) for field in ("decode", "prefill", "bytes_per_flop"))
            yield from (f"{field} = {value:.3g}" for field, value in factors if value != 1)


def main() -> None:
    rows, _ = read(Path(sys.argv[1]))
    cases = [case(row) for row in rows]
    constants = catalogue.load_knowledge(paths.profiles_dir()).speed
    print(f"# {len(decoding(cases))} rows of decoding, {len(prefilling(cases))} of prefill")
    print("\n".join(toml(with_values(constants, fit_all(cases, constants)).devices)))


if __name__ == "__main__":
    main()
