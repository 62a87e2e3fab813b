"""The processor on machines of all kinds, each as the kernel describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from llmctl.host import READ_LIMIT_BYTES, Host
from llmctl.probe.cpu import cpu, name
from llmctl.types.machine import Cache, Note

CPUS = "sys/devices/system/cpu"
Machine = Callable[[Mapping[str, str]], Host]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    def made(files: Mapping[str, str]) -> Host:
        for place, text in files.items():
            file = tmp_path / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return Host(root=tmp_path, environ={}, system="linux")

    return made


def x86(*places: tuple[int, int], siblings: int, cores: int, flags: str = "fpu lm avx2") -> str:
    """/proc/cpuinfo with the package and core of each CPU."""
    return "".join(
        f"processor\t: {number}\nmodel name\t: A  CPU\nphysical id\t: {package}\nsiblings\t: {siblings}\n"
        f"core id\t\t: {core}\ncpu cores\t: {cores}\nflags\t\t: {flags}\n\n"
        for number, (package, core) in enumerate(places)
    )


def arm(*parts: str, features: str = "fp asimd asimddp") -> str:
    return "".join(
        f"processor\t: {number}\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
        for number, part in enumerate(parts)
    )


def siblings(*cores: str, file: str = "core_cpus_list") -> dict[str, str]:
    """sysfs's word on which CPUs share a core, at each of them."""
    told = {}
    for core in cores:
        low, _, high = core.partition("-")
        for number in range(int(low), int(high) + 1) if high else map(int, core.split(",")):
            told[f"{CPUS}/cpu{number}/topology/{file}"] = core + "\n"
    return told


PLAIN = x86((0, 0), (0, 1), (0, 0), (0, 1), siblings=4, cores=2)
ALL = {"proc/cpuinfo": PLAIN, **siblings("0,2", "1,3")}


@pytest.mark.parametrize(
    ("files", "physical", "logical"),
    [
        pytest.param({"proc/cpuinfo": PLAIN}, 2, 4, id="by /proc/cpuinfo"),
        pytest.param({"proc/cpuinfo": "", f"{CPUS}/online": "0-3\n", **siblings("0,2", "1,3")}, 2, 4, id="by sysfs"),
        pytest.param(
            {"proc/cpuinfo": PLAIN, **siblings("0,2", "1,3", file="thread_siblings_list")}, 2, 4, id="before Linux 5.3"
        ),
        pytest.param(
            {"proc/cpuinfo": PLAIN, f"{CPUS}/online": "0-1\n", **siblings("0", "1")}, 2, 2, id="threads switched off"
        ),
        pytest.param({"proc/cpuinfo": PLAIN, f"{CPUS}/online": "0,2\n"}, 1, 2, id="a core switched off"),
        pytest.param(
            {"proc/cpuinfo": x86((0, 0), (0, 9), (1, 0), (1, 9), siblings=2, cores=2)}, 4, 4, id="two packages"
        ),
        pytest.param(
            {"proc/cpuinfo": x86((0, 0), (1, 0), (2, 0), (3, 0), siblings=1, cores=1)}, 4, 4, id="a socket per vCPU"
        ),
        pytest.param(
            {"proc/cpuinfo": x86((0, 0), (0, 0), (0, 0), (0, 0), siblings=1, cores=1)}, 4, 4, id="Xen: all of one core"
        ),
        pytest.param(
            {"proc/cpuinfo": x86((0, 0), (0, 0), (0, 8), (0, 9), siblings=4, cores=3)}, 3, 4, id="a core with threads"
        ),
        pytest.param({"proc/cpuinfo": arm("0xd08", "0xd08", "0xd08")}, 3, 3, id="a board without topology"),
        pytest.param(
            {
                "proc/cpuinfo": "".join(f"processor\t: {n}\ncpu\t\t: POWER9, altivec supported\n\n" for n in range(8)),
                **siblings("0-3", "4-7"),
            },
            2,
            8,
            id="POWER, four threads a core",
        ),
        pytest.param({"proc/cpuinfo": PLAIN, **siblings("0,2", "1,3", "2-3")}, 2, 4, id="siblings that contradict"),
        pytest.param(
            # lxcfs counts processors anew, sysfs keeps the host's numbers
            {"proc/cpuinfo": PLAIN, f"{CPUS}/online": "3,7\n", **siblings("3,11", "7,15")},
            2,
            2,
            id="lxcfs",
        ),
    ],
)
def test_cores(machine: Machine, files: dict[str, str], physical: int, logical: int) -> None:
    found, _ = cpu(machine(files))
    assert (found.physical_cores, found.logical_cores) == (physical, logical)


EIGHT = {"proc/cpuinfo": "processor: 0\n", f"{CPUS}/online": "0-15\n", **siblings(*(f"{n},{n + 8}" for n in range(8)))}
ONE = {"proc/cpuinfo": "processor: 0\n", f"{CPUS}/online": "0-1\n", **siblings("0-1")}


@pytest.mark.parametrize(
    ("files", "allowed", "quota", "usable", "reason"),
    [
        (EIGHT, "0-15", "max 100000", 8, "all 8 physical cores"),
        (EIGHT, "0-3,8-11", "max 100000", 4, "affinity allows 4 of 8 cores"),
        (EIGHT, "0,8", "max 100000", 1, "affinity allows 1 of 8 cores"),
        (EIGHT, "0-15", "150000 100000", 2, "CPU quota of 1.5 CPUs"),
        (EIGHT, "0-15", "100000 100000", 1, "CPU quota of 1 CPU"),
        (EIGHT, "0-15", "1000 100000", 1, "CPU quota of 0.01 CPUs"),
        (EIGHT, "0-15", "10 1000000", 1, "CPU quota of 0.01 CPUs"),
        (EIGHT, "0-15", "750000 100000", 8, "all 8 physical cores"),
        (EIGHT, "0-15", "6400000 100000", 8, "all 8 physical cores"),
        (EIGHT, "0-1", "150000 100000", 2, "CPU quota of 1.5 CPUs"),
        (EIGHT, "0-1", "200000 100000", 2, "affinity allows 2 of 8 cores"),
        (EIGHT, "64-127", "max 100000", 8, "all 8 physical cores"),
        (EIGHT, "all", "none", 8, "all 8 physical cores"),
        # more CPUs than there are: those that could be plugged in
        (EIGHT, "0-127", "max 100000", 8, "all 8 physical cores"),
        # numbered apart, as by lxcfs: only how many they are counts
        (EIGHT, "12-27", "max 100000", 8, "all 8 physical cores"),
        (EIGHT, "14-17", "max 100000", 4, "affinity allows 4 of 8 cores"),
        (EIGHT, "64-65", "max 100000", 2, "affinity allows 2 of 8 cores"),
        (EIGHT, "0,64", "max 100000", 2, "affinity allows 2 of 8 cores"),
        (EIGHT, "12-27", "350000 100000", 4, "CPU quota of 3.5 CPUs"),
        (ONE, "0-1", "max 100000", 1, "the only physical core"),
    ],
)
def test_usable_threads(
    machine: Machine, files: dict[str, str], allowed: str, quota: str, usable: int, reason: str
) -> None:
    more = {"proc/self/status": f"Cpus_allowed_list:\t{allowed}\n", "sys/fs/cgroup/cpu.max": quota + "\n"}
    found, _ = cpu(machine({**files, **more}))
    assert (found.usable_threads, found.usable_threads_reason) == (usable, reason)


FOUR = {"proc/cpuinfo": arm("0xd05", "0xd05", "0xd0b", "0xd0b")}


def capacities(*figures: int) -> dict[str, str]:
    return {f"{CPUS}/cpu{number}/cpu_capacity": f"{figure}\n" for number, figure in enumerate(figures)}


@pytest.mark.parametrize(
    ("files", "performance", "named"),
    [
        pytest.param({**ALL, "sys/devices/cpu_core/cpus": "0,2\n"}, 1, "A CPU", id="Intel, by its counters"),
        pytest.param({**ALL, "sys/devices/cpu_core/cpus": "0-3\n"}, None, "A CPU", id="Intel without compact cores"),
        pytest.param({**ALL, **capacities(1024, 1024, 1024, 1024)}, None, "A CPU", id="x86 tells capacity since 6.12"),
        pytest.param({**FOUR, **capacities(414, 414, 1024, 1007)}, 2, "Cortex-A76 + Cortex-A55", id="big.LITTLE"),
        pytest.param({**FOUR, **capacities(1024, 1024, 1024, 1024)}, None, "Cortex-A55 + Cortex-A76", id="all alike"),
        pytest.param({**FOUR, **capacities(414, 414, 1024)}, None, "Cortex-A76 + Cortex-A55", id="one untold"),
        pytest.param({**FOUR, **capacities(0, 0, 0, 0)}, None, "Cortex-A55 + Cortex-A76", id="no figures"),
        pytest.param(
            # DGX Spark's GB10: two clusters, each of five fast and five small cores
            {"proc/cpuinfo": arm(*["0xd87"] * 5, *["0xd85"] * 5), **capacities(*[718] * 5, *[997] * 4, 1024)},
            5,
            "Cortex-X925 + Cortex-A725",
            id="GB10",
        ),
    ],
)
def test_performance_cores(machine: Machine, files: dict[str, str], performance: int | None, named: str) -> None:
    host = machine(files)
    found, _ = cpu(host)
    assert (found.performance_cores, found.name) == (performance, named)
    assert name(host) == named


S390 = """vendor_id       : IBM/S390
# processors    : 1
features\t: esan3 zarch stfle vx vxd vxe gs vxe2 vxp sort dflt sie
processor 0: version = FF,  identification = 000000,  machine = 8561

cpu number      : 0
physical id     : 0
core id         : 0
"""
RISCV = "processor\t: 0\nhart\t\t: 0\nisa\t\t: {isa}\nmmu\t\t: sv39\nuarch\t\t: spacemit,x60\n\n"
POWER = "processor\t: 0\ncpu\t\t: {cpu}, altivec supported\nrevision\t: 2.2\n\ntimebase\t: 512000000\n"


@pytest.mark.parametrize(
    ("cpuinfo", "features", "arch", "named"),
    [
        (
            x86((0, 0), siblings=1, cores=1, flags="lm pni ssse3 avx f16c fma avx2 bmi2 avx512f avx512_fp16 amx_int8"),
            ("SSE3", "SSSE3", "AVX", "AVX2", "F16C", "FMA", "BMI2", "AVX512", "AMX_INT8"),
            "x86_64",
            "A CPU",
        ),
        (x86((0, 0), siblings=1, cores=1, flags="fpu pni"), ("SSE3",), "i686", "A CPU"),
        (
            arm("0xd85", features="fp asimd asimdhp i8mm bf16 sve svei8mm asimddp sme sme2"),
            ("NEON", "FP16_VA", "MATMUL_INT8", "SVE", "DOTPROD", "SME", "SME2"),
            "aarch64",
            "Cortex-X925",
        ),
        (arm("0xc07", features="half thumb neon vfpv4"), ("NEON",), "arm", "ARM core 0x41/0xc07"),
        (RISCV.format(isa="rv64imafdcv_zicbom_zvfh"), ("RISCV_V",), "riscv64", "spacemit,x60"),
        (RISCV.format(isa="rv64imafdc_zvfh"), (), "riscv64", "spacemit,x60"),
        (POWER.format(cpu="POWER9 (architected)"), ("VSX",), "ppc64le", "POWER9 (architected), altivec supported"),
        (POWER.format(cpu="Power11"), ("VSX",), "ppc64le", "Power11, altivec supported"),
        (POWER.format(cpu="POWER8E"), (), "ppc64le", "POWER8E, altivec supported"),
        (S390, ("VXE",), "s390x", "IBM Z"),
        ("processor\t: 0\nmodel name\t: Bad\x1b[31m \x07name\n", (), "unknown", "Bad [31m name"),
    ],
)
def test_instruction_sets(machine: Machine, cpuinfo: str, features: tuple[str, ...], arch: str, named: str) -> None:
    found, notes = cpu(machine({"proc/cpuinfo": cpuinfo, f"{CPUS}/online": "0\n"}))
    assert (found.features, found.arch, found.name, notes) == (features, arch, named, ())


def test_cores_that_nothing_tells_are_a_note(machine: Machine) -> None:
    half = PLAIN[: PLAIN.index("processor\t: 2")]
    found, notes = cpu(machine({"proc/cpuinfo": half, f"{CPUS}/online": "0-3\n"}))
    assert found.physical_cores == 4
    message = "which CPUs share a core is not told of 2 of 4 CPUs: each counts as a core"
    assert notes == (Note(message, "export LLMCTL_THREADS=NUMBER   of cores, if you know it"),)


def test_a_processor_without_a_name_is_a_note(machine: Machine) -> None:
    found, notes = cpu(machine({f"{CPUS}/online": "0-3\n"}))
    assert (found.name, found.physical_cores) == ("unknown", 4)
    assert notes == (Note("/proc/cpuinfo does not name a processor"),)


def caches(cores: Mapping[int, list[tuple[str, ...]]]) -> dict[str, str]:
    """For the first CPU of each core its caches: level, type, size, and who shares it."""
    return {
        f"{CPUS}/cpu{number}/cache/index{index}/{key}": value + "\n"
        for number, each in cores.items()
        for index, told in enumerate(each)
        for key, value in zip(("level", "type", "size", "shared_cpu_list"), told, strict=True)
    }


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        pytest.param(
            {
                0: [("1", "Data", "32K", "0,2"), ("1", "Instruction", "32K", "0,2"), ("3", "Unified", "98304K", "0,2")],
                1: [("1", "Data", "32K", "1,3"), ("1", "Instruction", "32K", "1,3"), ("3", "Unified", "32768K", "1,3")],
            },
            (Cache(1, 32 << 10, 2), Cache(3, 32 << 20), Cache(3, 96 << 20)),
            id="dies with unlike caches",
        ),
        pytest.param(
            {
                0: [("1", "Data", "48K", "0,2"), ("2", "Unified", "2048K", "0,2"), ("3", "Unified", "4096K", "0-3")],
                1: [("1", "Data", "32K", "1,3"), ("2", "Unified", "2048K", "1,3"), ("3", "Unified", "4096K", "0-3")],
            },
            (Cache(1, 32 << 10), Cache(1, 48 << 10), Cache(2, 2 << 20, 2), Cache(3, 4 << 20)),
            id="shared by all",
        ),
        pytest.param(
            {0: [("1", "Data", "64K", "0,2")], 1: [("1", "Data", "64K", "1,3"), ("2", "Unified", "512K", "1,3")]},
            (Cache(1, 64 << 10, 2), Cache(2, 512 << 10)),
            id="one core has more levels",
        ),
        pytest.param(
            {
                0: [
                    ("0", "Data", "32K", "0"),
                    ("1", "Data", "0K", "0"),
                    ("1", "Data", "-1K", "0"),
                    ("2", "Unified", "99999999999K", "0"),
                    ("3", "Unified", "8M", "0"),
                    ("4", "Unified", "", "0"),
                    ("99", "Unified", "64K", "0"),
                ]
            },
            (),
            id="absurd",
        ),
    ],
)
def test_caches(machine: Machine, cores: dict[int, list[tuple[str, ...]]], expected: tuple[Cache, ...]) -> None:
    assert cpu(machine({**ALL, **caches(cores)}))[0].caches == expected


class Counting(Host):
    reads = 0

    def read(self, name: str, *, limit_bytes: int = READ_LIMIT_BYTES) -> str | None:
        Counting.reads += 1
        return super().read(name, limit_bytes=limit_bytes)


def test_a_large_server_is_told_by_a_few_of_its_files(machine: Machine) -> None:
    """256 CPUs have 4096 files of caches alone, and doctor is to be quick: 1200 of them take some 35 ms."""
    places = [(n // 64, n % 64) for n in range(128)]
    files = {"proc/cpuinfo": x86(*places, *places, siblings=128, cores=64), f"{CPUS}/online": "0-255\n"}
    files |= siblings(*(f"{n},{n + 128}" for n in range(128)))
    for n in range(256):
        own, eight = f"{n % 128},{n % 128 + 128}", f"{n % 128 // 8}"
        private = [("1", "Data", "32K", own), ("1", "Instruction", "32K", own), ("2", "Unified", "1024K", own)]
        files |= caches({n: [*private, ("3", "Unified", "32768K", eight)]})
    host = machine(files)
    Counting.reads = 0
    found, _ = cpu(Counting(root=host.root, environ={}, system="linux"))
    assert Counting.reads < 1300
    assert (found.physical_cores, found.last_cache_bytes) == (128, 16 * (32 << 20))
