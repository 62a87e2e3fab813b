"""Macs: recorded ones, and what sysctl, vm_stat and ioreg print in rarer cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llmctl.host import Ran
from llmctl.probe import macos, probe
from llmctl.probe.gpu import apple
from llmctl.probe.recorded.recording import Recorded, RecordedReply, Recording, recorded
from llmctl.types.machine import Accelerator, AcceleratorKind, Cache, Cpu, Machine, Memory, Note

MACHINES = Path(__file__).parent.parent / "fixtures" / "machines"
GIB = 1 << 30
PAGE_BYTES = 16384
UNITS = {"B": 1, "MB": 10**6, "MiB": 1 << 20, "GiB": GIB}

# recommendedMaxWorkingSetSize where nobody set a limit: GiB of memory, macOS, what was printed, and where. "log" is
# one of llama.cpp or MLX in a public repository; where it doesn't name macOS, Metal's family does: Metal4 (5002) is of
# macOS 26, Metal3 (5001) older.
WORKING_SETS = (
    (8, 14, "5726.63 MB", "github.com/h2oai/h2ogpt/issues/1359, M1"),
    (16, 14, "10922.67 MiB", "github.com/ise-uiuc/magicoder/issues/19, M1"),
    (16, 15, "10.67 GiB", "github.com/exo-explore/exo/pull/1672, M4"),
    (24, 15, "17179.89 MB", "log, M4 Pro, Metal3"),
    (32, 13, "21845.34 MiB", "github.com/ollama/ollama/issues/434, M2 Max"),
    (36, 15, "28991.03 MB", "log, M4 Max, Metal3"),
    (48, 14, "38654.71 MB", "log, M3 Max, Metal3"),
    (64, 14, "49152.00 MiB", "github.com/ggml-org/llama.cpp/issues/1870, M1 Max"),
    (128, 15, "103079.22 MB", "log, M4 Max, Metal3"),
    (192, 15, "147455 MiB", "log, M2 Ultra: using device Metal (Apple M2 Ultra) - 147455 MiB free"),
    (256, 15, "223338299392 B", "log, M3 Ultra"),
    (512, 15, "498216.21 MB", "log, M3 Ultra, Metal3"),
    (8, 26, "5726633984 B", "log, A18 Pro with macOS 26.5.1"),
    (16, 26, "12713115648 B", "log, M1, Metal4; github.com/AlexsJones/llmfit/pull/754, M3: 11.84 GiB"),
    (18, 26, "14302.25 MB", "log, M3 Pro"),
    (24, 26, "19069.67 MB", "log, M5, Metal4"),
    (32, 26, "26800.60 MB", "log, M5, Metal4"),
    (36, 26, "30150.67 MB", "log, M4 Max"),
    (48, 26, "40200896512 B", "log, M4 Pro, Metal4"),
    (64, 26, "55662788608 B", "log, M4 Max"),
    (96, 26, "83494174720 B", "log, M3 Ultra"),
    (128, 26, "115448725504 B", "log, M5 Max; github.com/antirez/ds4/pull/893: 107.52 GiB"),
    (256, 26, "228065 MiB", "log, M3 Ultra: MTL0: Apple M3 Ultra (228065 MiB, 228064 MiB free)"),
)


@pytest.mark.parametrize(
    ("memory_gib", "version", "printed", "source"), WORKING_SETS, ids=[f"{row[0]}-{row[1]}" for row in WORKING_SETS]
)
def test_the_budget_is_what_metal_recommends(memory_gib: int, version: int, printed: str, source: str) -> None:
    figure, unit = printed.split()
    last_digit = UNITS[unit] / 10 ** len(figure.partition(".")[2])
    found = apple.working_set_bytes(memory_gib * GIB, None, version)
    assert abs(found - float(figure) * UNITS[unit]) <= last_digit + PAGE_BYTES, source


@pytest.mark.parametrize(
    ("limit_mb", "version", "gib"),
    [
        (0, 15, 48),  # 0 stands for macOS's own choice
        (None, None, 48),  # the lesser of two where the version isn't known
        (57344, 15, 56),  # log of MLX, M5 Max: 60129542144 bytes
        (57344, 26, 56),
        (1024, 26, 1),
        (10**18, 26, 64),  # no more than there is
    ],
)
def test_a_limit_that_somebody_set(limit_mb: int | None, version: int | None, gib: int) -> None:
    assert apple.working_set_bytes(64 * GIB, limit_mb, version) == gib * GIB


@dataclass(frozen=True)
class Mac(Recorded):
    """A Mac whose programs print what a case says: sysctl ``values``, others what they are ``printing``."""

    system: str = "darwin"
    root: Path = Path("/nowhere")
    environ: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] | None = None
    printing: Mapping[str, str] = field(default_factory=dict)

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Ran | None:
        out = self.printing.get(argv[0])
        if argv[0] == macos.SYSCTL and self.values is not None:
            out = "".join(f"{name}: {self.values[name]}\n" for name in argv if name in self.values)
        return None if out is None else Ran(0, out, "")


M1 = {
    "machdep.cpu.brand_string": "Apple M1",
    "hw.machine": "arm64",
    "hw.physicalcpu": "8",
    "hw.logicalcpu": "8",
    "hw.optional.arm64": "1",
    "hw.perflevel0.physicalcpu": "4",
    "hw.perflevel0.name": "Performance",
    "hw.perflevel1.physicalcpu": "4",
    "hw.perflevel1.name": "Efficiency",
    "kern.osproductversion": "26.1",
}
IOREG = '+-o AGXAcceleratorG13G  <class AGXAcceleratorG13G>\n{\n  "model" = "Apple M1"\n  "gpu-core-count" = 7\n}\n'


def gpu(ioreg: str | None, memory: Memory, **values: str) -> tuple[Accelerator | None, tuple[Note, ...]]:
    printing = {} if ioreg is None else {apple.IOREG[0]: ioreg}
    known = {name.replace("__", "."): value for name, value in values.items()}
    cards, notes = apple.apple(Mac(values={**M1, **known}, printing=printing), memory)
    return next(iter(cards), None), notes


def test_a_gpu_whose_cores_are_not_known() -> None:
    for ioreg in (None, "", '"gpu-core-count" = many', '"gpu-core-count" = 0', '"gpu-core-count" = 9999'):
        card, (note,) = gpu(ioreg, Memory(16 * GIB, 4 * GIB))
        assert card is not None
        assert card.name == "Apple M1"
        assert note == Note("Apple M1: ioreg does not tell how many GPU cores it has")


def test_memory_that_is_not_known_has_no_share() -> None:
    card, notes = gpu(IOREG, Memory(0, 0))
    assert card is not None
    assert (card.name, notes) == ("Apple M1 (7-core GPU)", ())
    assert (card.memory_total_bytes, card.memory_free_bytes, card.shared_bytes) == (None, None, None)


@pytest.mark.parametrize(
    ("values", "budget", "metal"),
    [
        ({}, 12713115648, "Metal 4"),
        ({"kern__osproductversion": "16.0"}, 12713115648, "Metal 4"),  # how old programs see macOS 26
        ({"kern__osproductversion": "15.7.2"}, 11453251584, "Metal 3"),
        ({"kern__osproductversion": "12.7"}, 11453251584, None),
        ({"kern__osproductversion": "Sequoia"}, 11453251584, None),
        ({"iogpu__wired_limit_mb": "14000"}, 14000 << 20, "Metal 4"),
        ({"kern__osproductversion": "13.6", "debug__iogpu__wired_limit": str(14 * GIB)}, 14 * GIB, "Metal 3"),
        ({"iogpu__wired_limit_mb": "-1"}, 12713115648, "Metal 4"),
    ],
)
def test_the_share_of_the_gpu(values: dict[str, str], budget: int, metal: str | None) -> None:
    card, _ = gpu(IOREG, Memory(16 * GIB, 4 * GIB), **values)
    assert card is not None
    assert (card.memory_total_bytes, card.shared_bytes, card.api_version) == (budget, budget, metal)
    assert card.memory_free_bytes == 4 * GIB
    assert card.kind is AcceleratorKind.UNIFIED


def test_metals_name_for_it_goes_before_the_processors() -> None:
    card, _ = gpu(IOREG, Memory(16 * GIB, 4 * GIB), machdep__cpu__brand_string="VirtualApple @ 2.50GHz")
    assert card is not None
    assert card.name == "Apple M1 (7-core GPU)"
    card, _ = gpu("", Memory(16 * GIB, 4 * GIB), machdep__cpu__brand_string="\x1b[2J")
    assert card is not None
    assert card.name == "[2J"


def test_nothing_is_run_on_other_systems() -> None:
    elsewhere = Mac(system="linux", values=M1, printing={apple.IOREG[0]: IOREG})
    assert apple.apple(elsewhere, Memory(16 * GIB, 4 * GIB)) == ((), ())


def test_no_gpu_of_its_own_in_a_virtual_machine() -> None:
    assert gpu("", Memory(16 * GIB, 4 * GIB), kern__hv_vmm_present="1") == (None, ())


def cpu(**values: str) -> Cpu:
    known = {name.replace("__", "."): value for name, value in values.items()}
    told = macos.cpu(Mac(values={**M1, **known}))
    assert told is not None
    return told[0]


def levels(*kinds: tuple[str, int]) -> dict[str, str]:
    names = {f"hw__perflevel{number}__name": name for number, (name, _) in enumerate(kinds)}
    cores = {f"hw__perflevel{number}__physicalcpu": str(count) for number, (_, count) in enumerate(kinds)}
    return {**names, **cores, "hw__physicalcpu": str(sum(count for _, count in kinds))}


@pytest.mark.parametrize(
    ("kinds", "fast"),
    [
        ((("Performance", 4), ("Efficiency", 4)), 4),
        ((("Super", 2), ("Performance", 4), ("Efficiency", 6)), 6),  # M6
        ((("Super", 6), ("Performance", 12)), None),  # M5 Max
        ((("", 4), ("", 4)), 4),  # macOS 12
        ((("Standard", 3),), None),  # a virtual machine
    ],
)
def test_kinds_of_cores(kinds: tuple[tuple[str, int], ...], fast: int | None) -> None:
    base = {name: value for name, value in M1.items() if "perflevel" not in name}
    told = {name.replace("__", "."): value for name, value in levels(*kinds).items()}
    found = macos.cpu(Mac(values={**base, **told}))
    assert found is not None
    assert (found[0].performance_cores, found[0].usable_threads) == (fast, sum(count for _, count in kinds))


def test_kinds_of_cores_that_do_not_add_up_are_not_believed() -> None:
    found = cpu(hw__perflevel1__physicalcpu="40", hw__perflevel0__l1dcachesize="65536")
    assert (found.performance_cores, found.caches) == (None, ())


def test_a_processor_that_is_odd() -> None:
    odd = {"hw__optional__arm64": "0", "hw__cachesize": "16 32768 0 12582912", "hw__cacheconfig": "0 2 2 12"}
    found = cpu(machdep__cpu__brand_string="Core\t\x1b i7", hw__logicalcpu="4", **odd)
    assert (found.name, found.physical_cores, found.logical_cores) == ("Core i7", 8, 8)
    assert found.caches == (Cache(1, 32768, 1), Cache(3, 12582912, 1))
    for cores in ("0", "-8", "1000000", "eight"):
        assert macos.cpu(Mac(values={**M1, "hw.physicalcpu": cores})) is None


def test_caches_of_clusters_and_of_intel() -> None:
    p, e = {"l1dcachesize": 131072, "l2cachesize": 16 << 20, "cpusperl2": 3}, {"l1dcachesize": 65536}
    sizes = {f"hw__perflevel0__{fact}": str(size) for fact, size in p.items()}
    found = cpu(**sizes, **{f"hw__perflevel1__{fact}": str(size) for fact, size in e.items()})
    assert found.caches == (Cache(1, 131072, 4), Cache(1, 65536, 4), Cache(2, 16 << 20, 2))
    intel = machine("mac-intel").cpu
    assert intel.caches == (Cache(1, 32768, 6), Cache(2, 262144, 6), Cache(3, 12582912, 1))
    assert intel.performance_cores is None


def machine(name: str) -> Machine:
    return probe(recorded(MACHINES / name), store=Path("/models"))


VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                                     7418.
Pages active:                                 131264.
Pages inactive:                               128302.
Pages speculative:                              1207.
"""


@pytest.mark.parametrize(
    ("text", "available"),
    [
        (VM_STAT, (7418 + 128302 + 1207) * 16384),
        (VM_STAT.replace("16384", "4096"), (7418 + 128302 + 1207) * 4096),
        (VM_STAT.replace("Pages speculative", "Pages"), (7418 + 128302) * 16384),
        (VM_STAT.replace("Pages inactive", "Pages"), None),
        (VM_STAT.replace("page size", "size"), None),
        (VM_STAT.replace("7418.", "lots"), None),
        ("", None),
    ],
)
def test_available_memory(text: str, available: int | None) -> None:
    assert macos.available_bytes(text) == available


@pytest.mark.parametrize(
    ("total", "found"), [("1073741824", Memory(GIB, GIB, swap_bytes=GIB)), ("0", None), ("9" * 19, None), ("", None)]
)
def test_no_more_memory_is_available_than_there_is(total: str, found: Memory | None) -> None:
    host = Mac(values={"hw.memsize": total, "vm.swapusage": "total = 1024.00M"}, printing={macos.VM_STAT: VM_STAT})
    assert macos.memory(host) == found


@pytest.mark.parametrize(
    ("text", "swap"),
    [
        ("total = 2048.00M  used = 605.88M  free = 1442.12M  (encrypted)", 2 * GIB),
        ("total = 1024,00M  used = 124,00M  free = 900,00M", GIB),
        ("total = 0.00M  used = 0.00M  free = 0.00M  (encrypted)", 0),
        ("total = -1.00M", 0),
        (None, 0),
    ],
)
def test_swap(text: str | None, swap: int) -> None:
    assert macos.swap_bytes(text) == swap


@pytest.mark.parametrize(
    ("model", "hypervisor"), [("VirtualMac2,1", "apple"), ("VMware7,1", "vmware"), ("Mac14,2", "unknown")]
)
def test_hypervisors(model: str, hypervisor: str) -> None:
    host = Mac(values={"kern.hv_vmm_present": "1", "hw.model": model})
    assert macos.virtual_machine(host) == hypervisor
    assert macos.virtual_machine(Mac(values={"kern.hv_vmm_present": "0", "hw.model": model})) is None


@pytest.mark.parametrize(("version", "name"), [("15.6.1", "macOS 15.6.1"), ("15.6.1\x1b[2J", None), ("", None)])
def test_the_name_of_macos(version: str, name: str | None) -> None:
    assert macos.os_name(Mac(values={"kern.osproductversion": version})) == name


def test_rosetta_is_the_only_thing_wrong_with_this_mac() -> None:
    found = machine("apple-rosetta")
    (note,) = found.notes
    assert note == Note(
        "Python is an Intel build that Rosetta translates, which makes the engine several times slower",
        "/opt/homebrew/bin/brew install python   "
        "(or from https://www.python.org/downloads; then install llmctl with it)",
    )
    assert found.cpu.arch == "arm64"


def test_a_mac_that_forbids_sysctl_is_learnt_through_psutil() -> None:
    told = {
        "os": "macOS 15.1",
        "arch": "arm64",
        "cpu_name": "Apple M1",
        "physical_cores": 8,
        "logical_cores": 8,
        "allowed_cpus": 8,
        "flags": [],
        "memory_total_bytes": 8 * GIB,
        "memory_available_bytes": 9 * GIB,
        "swap_bytes": 0,
    }
    host = Mac(recording=Recording("darwin", {}, asked=(RecordedReply("llmctl.probe.portable", told),)))
    found = probe(host, store=Path("/models"))
    assert (found.os, found.cpu.name, found.cpu.usable_threads) == ("macOS 15.1", "Apple M1", 8)
    assert (found.memory.total_bytes, found.memory.available_bytes) == (8 * GIB, 8 * GIB)
    assert found.accelerators == ()
