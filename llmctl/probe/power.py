"""Whether the machine runs on its battery, and what keeps its processor slow. Linux and macOS; nothing here raises."""

from __future__ import annotations

from llmctl.host import Host
from llmctl.probe.text import line, whole
from llmctl.types.machine import Power

SUPPLIES = "/sys/class/power_supply"
PROFILE = "/sys/firmware/acpi/platform_profile"
POLICY = "/sys/devices/system/cpu/cpufreq/policy0"
LIMITED = 0.9  # of the highest clock: a lower limit was set
SLOW_PROFILES = frozenset({"low-power", "quiet", "cool"})  # Documentation/ABI/testing/sysfs-platform_profile
# acpi-cpufreq's powersave keeps the lowest clock; intel_pstate's and amd-pstate's of that name doesn't.
SCALING_BY_ITSELF = ("intel_pstate", "amd-pstate-epp")
PMSET = "/usr/bin/pmset"
DEADLINE_S = 2.0


def power(host: Host) -> Power | None:
    """None where nothing slows the processor down, or nothing tells."""
    made = _macos(host) if host.system == "darwin" else Power(_on_battery(host), _saving(host))
    return made if made is not None and (made.on_battery or made.saving) else None


def _on_battery(host: Host) -> bool:
    """A battery is used up, and no mains is connected. Batteries of mice and phones have the scope Device."""
    discharging = False
    for folder in host.glob(f"{SUPPLIES}/*"):
        kind = line(host.read(f"{folder}/type"))
        if kind in ("Mains", "USB") and whole(host.read(f"{folder}/online")):
            return False
        if kind == "Battery" and line(host.read(f"{folder}/scope")) != "Device":
            discharging |= line(host.read(f"{folder}/status")) == "Discharging"
    return discharging


def _saving(host: Host) -> str | None:
    profile = line(host.read(PROFILE))
    if profile in SLOW_PROFILES:
        return f"the power profile {profile}"
    driver, governor = line(host.read(f"{POLICY}/scaling_driver")), line(host.read(f"{POLICY}/scaling_governor"))
    if governor == "powersave" and driver and driver not in SCALING_BY_ITSELF:
        return "the governor powersave"
    if line(host.read(f"{POLICY}/energy_performance_preference")) == "power":
        return "the energy preference power"
    most, highest = (whole(host.read(f"{POLICY}/{name}_max_freq")) for name in ("scaling", "cpuinfo"))
    if most and highest and most < LIMITED * highest:
        return f"a clock of at most {most / 1e6:.1f} of {highest / 1e6:.1f} GHz"
    return None


def _macos(host: Host) -> Power | None:
    ran = host.run([PMSET, "-g"], timeout_s=DEADLINE_S)
    if ran is None or ran.code:
        return None
    words = [text_line.split() for text_line in ran.out.splitlines()]
    saving = any(row[:2] == ["lowpowermode", "1"] for row in words)
    return Power("Battery Power" in ran.out, "low power mode" if saving else None)
