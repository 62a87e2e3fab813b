"""How far the speed that is told for devices is off what others measured there, every device left out of its own fit.

    python tests/bench/device_speed.py speed.jsonl [speed_partial.jsonl]

Prints, for each backend, the median and the 90th percentile of |predicted / measured - 1| in decoding with at most 512
tokens before, of all rows and of those since 2025, beside the formula "bandwidth / file bytes x 0.55"; the same for
prefill; how many rows the told range holds; and, with the constants that ship, decoding at depth, models split over
several devices, and models that lie on the CPU in part. Last come the rows that were left out, with their reasons.
Ends with 1 if a target is missed.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from llmctl import catalogue, paths
from llmctl.catalogue.speed_constants import SpeedConstants
from tests.bench.fit_device_speed import (
    DECODE,
    PREFILL,
    SHALLOW,
    SMALL_STEPS,
    alone,
    before,
    decoding,
    fit,
    prefilling,
    start,
    with_values,
)
from tests.bench.measured_speed import Case, Measured, case, read

FORMULA_SHARE = 0.55
DEPTHS = ((SHALLOW + 1, 8192), (8193, 16384), (16385, 40000))
DECODE_MEDIAN, DECODE_MOST, PREFILL_MEDIAN, RANGE = 0.08, 0.25, 0.25, (0.75, 0.90)  # the targets
Errors = Mapping[int, float]
"""By the place of the row: the logarithm of measured over predicted."""


def held_out(cases: Sequence[Case], constants: SpeedConstants) -> tuple[Errors, Errors]:
    """Of decoding and of prefill, each row with constants that were fitted without its device. Prefill comes first:
    attention in decoding is told by its rate."""
    decode, prefill = decoding(cases), prefilling(cases)
    place = {id(one): at for at, one in enumerate(cases)}
    kinds = ((prefill, PREFILL), (decode, DECODE))
    firsts = [fit(some, constants, parameters, start(constants, parameters)) for some, parameters in kinds]
    found: tuple[dict[int, float], dict[int, float]] = ({}, {})
    for device in sorted({one.measured.name for one in (*decode, *prefill)}):
        others = constants
        for which, (some, parameters) in enumerate(kinds):
            kept = [one for one in some if one.measured.name != device]
            values = fit(kept, others, parameters, firsts[which], SMALL_STEPS)
            others = with_values(others, values)
            for one in some:
                if one.measured.name == device:
                    found[which][place[id(one)]] = one.error(others)
    return found[1], found[0]


def off(errors: Iterable[float]) -> tuple[float, float, float]:
    """Median and 90th percentile of the absolute error, and the median of measured over predicted."""
    found = list(errors)
    absolute = sorted(abs(math.expm1(-error)) for error in found)
    return median(absolute), absolute[min(len(absolute) - 1, int(len(absolute) * 0.9))], math.exp(median(found))


def line(name: str, errors: Sequence[float]) -> str:
    if not errors:
        return f"{name:34} none"
    middle, most, bias = off(errors)
    return f"{name:34} {len(errors):5} rows  median {middle:6.1%}  90th {most:6.1%}  measured/predicted {bias:.2f}"


def formula_error(one: Measured) -> float:
    """Of bandwidth / file bytes x 0.55; of a mixture of experts in proportion to its active parameters."""
    active = one.row.get("active_params_b") or one.row["params_b"]
    size = one.weights.total_bytes * active / one.row["params_b"]
    return math.log(one.tok_s / (FORMULA_SHARE * (one.device.bandwidth_bytes_per_s or 1) / size))


def table(title: str, cases: Sequence[Case], errors: Errors, formula: bool) -> None:
    print(f"\n{title}")
    groups: dict[str, list[int]] = defaultdict(list)
    for at in errors:
        one = cases[at].measured
        groups["all"].append(at)
        groups[one.backend].append(at)
        groups["since 2025" if one.row["date"] >= "2025" else "before 2025"].append(at)
        groups["experts" if one.shape.n_expert else "dense"].append(at)
        groups["file size given" if one.row["model_bytes"] else "file size told by other rows"].append(at)
    for name in sorted(groups, key=lambda one: (one != "all", -len(groups[one]))):
        print(line(f"  {name}", [errors[at] for at in groups[name]]))
        if formula:
            print(line("     the formula", [formula_error(cases[at].measured) for at in groups[name]]))
    for device in sorted({(cases[at].measured.name, cases[at].measured.backend) for at in errors}):
        which = [at for at in errors if (cases[at].measured.name, cases[at].measured.backend) == device]
        print(line(f"    {' '.join(device)[:30]}", [errors[at] for at in which]))


def inside(errors: Iterable[float], low: float, high: float) -> float:
    found = [math.exp(error) for error in errors]
    return sum(low <= ratio <= high for ratio in found) / len(found)


def tenths(errors: Iterable[float]) -> tuple[float, float]:
    found = sorted(math.exp(error) for error in errors)
    return found[int(len(found) * 0.09)], found[int(len(found) * 0.91)]


def beyond(cases: Sequence[Case], constants: SpeedConstants) -> None:
    """With the constants that ship: what no device is left out of."""

    def told(name: str, which: Callable[[Case], bool]) -> None:
        print(line(f"  {name}", [one.error(constants) for one in cases if which(one)]))

    one_device = {id(one) for one in alone(cases)}
    print("\nBeyond, with the constants that ship")
    for test, what in (("tg", "decode"), ("pp", "prefill")):
        for low, high in DEPTHS:
            told(
                f"{what} at {low:,} to {high:,}",
                lambda one, test=test, low=low, high=high: (  # type: ignore[misc]
                    id(one) in one_device and one.measured.row["test"] == test and low <= before(one) <= high
                ),
            )
        for count in (2, 4, 6, 8):
            told(
                f"{what} over {count} devices",
                lambda one, test=test, count=count: (  # type: ignore[misc]
                    one.measured.row["n_devices"] == count
                    and one.measured.row["test"] == test
                    and before(one) <= SHALLOW
                ),
            )


def partial(file: Path, constants: SpeedConstants) -> None:
    rows, left_out = read(file)
    cases = [case(row) for row in rows if row.row.get("n_gpu_layers")]
    print("\nIn part on the CPU, with the constants that ship and two channels of DDR5-5600")
    for test, what in (("tg", "decode"), ("pp", "prefill")):
        for moe in (True, False):
            which = [
                one
                for one in cases
                if one.measured.row["test"] == test and bool(one.measured.row.get("n_cpu_moe")) == moe
            ]
            print(
                line(f"  {what}, {'experts' if moe else 'layers'} on the CPU", [one.error(constants) for one in which])
            )
    print(f"  left out: {len(rows) - len(cases)} without the number of layers, {dict(left_out)}")


def main() -> None:
    rows, left_out = read(Path(sys.argv[1]))
    cases = [case(row) for row in rows]
    constants = catalogue.load_knowledge(paths.profiles_dir()).speed
    decode, prefill = held_out(cases, constants)
    deep_decode = {at: error for at, error in decode.items() if before(cases[at]) > SHALLOW}
    decode = {at: error for at, error in decode.items() if before(cases[at]) <= SHALLOW}
    table("Decoding, at most 512 tokens before, each device left out of the fit", cases, decode, True)
    for low, high in DEPTHS:
        at_depth = [error for at, error in deep_decode.items() if low <= before(cases[at]) <= high]
        print(line(f"  with {low:,} to {high:,} before", at_depth))
    shallow = {at: error for at, error in prefill.items() if before(cases[at]) <= SHALLOW}
    table("Prefill, at most 512 tokens before, each device left out of the fit", cases, shallow, False)
    deep = [error for at, error in prefill.items() if at not in shallow]
    print(line("  with more before", deep))
    prefill = shallow
    told = constants.ranges["device"]
    share = inside(decode.values(), told.low, told.high)
    print(f"\nRange: {share:.0%} of decoding rows within {told.low} to {told.high} of what is told;")
    print("  nine in ten but for a tenth at each end: " + " to ".join(f"{one:.2f}" for one in tenths(decode.values())))
    print("  the same of prefill: " + " to ".join(f"{one:.2f}" for one in tenths(prefill.values())))
    beyond(cases, constants)
    if len(sys.argv) > 2:
        partial(Path(sys.argv[2]), constants)
    print("\nLeft out")
    for reason, count in left_out.most_common():
        print(f"  {count:4} {reason}")
    middle, most, _ = off(decode.values())
    missed = [
        name
        for name, good in (
            ("decode median", middle <= DECODE_MEDIAN),
            ("decode 90th", most <= DECODE_MOST),
            ("prefill median", off(prefill.values())[0] <= PREFILL_MEDIAN),
            ("range", RANGE[0] <= share <= RANGE[1]),
        )
        if not good
    ]
    print(f"\n{'Missed: ' + ', '.join(missed) if missed else 'All targets met'}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
