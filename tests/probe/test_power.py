"""What keeps a processor slow: batteries, power profiles and clocks, as Linux tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from llmctl.host import Host
from llmctl.probe.power import POLICY, PROFILE, SUPPLIES, power
from llmctl.types.machine import Power

BATTERY = {f"{SUPPLIES}/BAT0/type": "Battery", f"{SUPPLIES}/BAT0/status": "Discharging"}
MAINS = {f"{SUPPLIES}/AC/type": "Mains", f"{SUPPLIES}/AC/online": "1"}
MOUSE = {f"{SUPPLIES}/hid/type": "Battery", f"{SUPPLIES}/hid/scope": "Device", f"{SUPPLIES}/hid/status": "Discharging"}


def policy(**files: str) -> dict[str, str]:
    return {f"{POLICY}/{name}": text for name, text in files.items()}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (BATTERY, Power(on_battery=True)),
        ({**BATTERY, **MAINS}, None),
        ({**BATTERY, f"{SUPPLIES}/AC/type": "Mains", f"{SUPPLIES}/AC/online": "0"}, Power(on_battery=True)),
        ({f"{SUPPLIES}/BAT0/type": "Battery", f"{SUPPLIES}/BAT0/status": "Full"}, None),
        (MOUSE, None),
        ({PROFILE: "low-power\n"}, Power(saving="the power profile low-power")),
        ({PROFILE: "performance\n"}, None),
        (policy(scaling_driver="acpi-cpufreq", scaling_governor="powersave"), Power(saving="the governor powersave")),
        (policy(scaling_driver="intel_pstate", scaling_governor="powersave"), None),
        (policy(energy_performance_preference="power"), Power(saving="the energy preference power")),
        (
            policy(scaling_max_freq="1200000", cpuinfo_max_freq="4200000"),
            Power(saving="a clock of at most 1.2 of 4.2 GHz"),
        ),
        (policy(scaling_max_freq="4100000", cpuinfo_max_freq="4200000"), None),
        (policy(scaling_max_freq="-1", cpuinfo_max_freq="many"), None),
    ],
)
def test_power(tmp_path: Path, files: Mapping[str, str], expected: Power | None) -> None:
    for name, text in files.items():
        file = tmp_path / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert power(Host(root=tmp_path, environ={}, system="linux")) == expected
