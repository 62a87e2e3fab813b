"""Every finding of doctor by its facts: which id, which status, what mends it, and what it does to the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.checks import Check, Status, Surroundings, blocking, checks, machine_checks
from llmctl.endpoint.health import EndpointHealth
from llmctl.engine.install import Installed, rebuild
from llmctl.errors import ConfigError
from llmctl.hub.reachability import Reach
from llmctl.store import Unfinished
from llmctl.types.kernels import Kernels
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Disk, EngineInfo, Machine, Memory, Note
from tests.fakes.kernel_rates import rates

MACHINE = Machine(
    memory=Memory(32 << 30, 20 << 30, swap_bytes=2 << 30),
    cpu=Cpu("cpu", "x86_64", 8, 16, 8, ("AVX2", "AVX512")),
    disk=Disk("/models", 200 * 10**9, "ext4"),
    kernels=rates((8, 6, 4)),
    os="Linux 6.8",
)
ENGINE = EngineInfo("llama-cpp-python", "0.3.36", "ggml", ("CPU",), ("AVX2", "AVX512"), usable=True)
BROKEN = EngineInfo("llama-cpp-python", None, None, why="this build is for another CPU")
AROUND = Surroundings(Path("/models"), True, Path("/home/u/.config/llmctl/config.toml"), 0o600)
WELL = EndpointHealth("office", "m", "llm.example", 0.012, ("m",))
GOOD = Reach("hub.example", "the system's trust store", file_host="cdn.example", bytes_per_s=23e6)
NVIDIA = Accelerator(
    "0000:01:00.0",
    "RTX 3090",
    "NVIDIA",
    AcceleratorKind.DISCRETE,
    24 << 30,
    None,
    why="the engine is built for the CPU only",
)


def without_with_all(kernels: Kernels) -> Kernels:
    """All threads were disturbed in each pass, and what was disturbed was not kept."""
    return replace(kernels, matrices=tuple(row for row in kernels.matrices if row.threads < 8))


def disturbed(kernels: Kernels) -> Kernels:
    first, *others = kernels.matrices
    row = replace(first, decode_bytes_per_s=9e9, uncertain=("decode_bytes_per_s", "prefill_flop_per_s"))
    return replace(kernels, matrices=(row, *others))


def slower_with_all(kernels: Kernels) -> Kernels:
    first, *others = kernels.matrices
    return replace(kernels, matrices=(replace(first, decode_bytes_per_s=20e9), *others))


def changed(**parts: Any) -> dict[str, Check]:
    machine = replace(MACHINE, **{key: value for key, value in parts.items() if key not in ("engines", "around")})
    return {check.id: check for check in checks(machine, parts.get("engines", (ENGINE,)), parts.get("around", AROUND))}


def test_a_healthy_machine_without_a_gpu() -> None:
    findings = checks(MACHINE, (ENGINE,), AROUND)
    assert {check.status for check in findings} == {Status.OK}
    assert {check.remedy for check in findings} == {None}
    assert len({check.id for check in findings}) == len(findings)
    assert blocking(findings, strict=True) is None


@pytest.mark.parametrize(
    ("parts", "id", "said", "remedy"),
    [
        ({"engines": (replace(ENGINE, features=("AVX2",)),)}, "engine-cpu", "built without AVX512", "--no-binary"),
        ({"accelerators": (NVIDIA,)}, "gpu", "built for the CPU only", "/whl/cu121"),
        ({"accelerators": (replace(NVIDIA, vendor="Apple"),)}, "gpu", "RTX 3090 can't be used", None),
        (
            {"accelerators": (NVIDIA,), "engines": (replace(ENGINE, backends=("CUDA", "CPU")),)},
            "gpu",
            "RTX 3090 can't be used",
            "nvidia-smi",
        ),
        ({"kernels": None}, "kernels", "not measured", "llmctl doctor --measure"),
        ({"kernels": without_with_all(rates((8, 6, 4)))}, "kernels", "measured in part", "llmctl doctor --measure"),
        ({"kernels": disturbed(rates((8, 6, 4)))}, "kernels", "2 of 65 figures are estimates", "when nothing else"),
        ({"kernels": slower_with_all(rates((8, 1)))}, "kernels", "1 of 59 figures are est", "when nothing else"),
        ({"notes": (Note("NVIDIA: it crashed"),)}, "probe", "NVIDIA: it crashed", None),
        ({"notes": (Note("NVIDIA: it slept", "wake it"),)}, "probe", "NVIDIA: it slept", "wake it"),
        (
            {"memory": Memory(32 << 30, 500 << 20, swap_bytes=1)},
            "memory",
            "only 524 MB of 34.4 GB of memory is free",
            "close",
        ),
        ({"memory": Memory(2 << 30, 2 << 30)}, "swap", "no swap", "swapon"),
        ({"around": replace(AROUND, threads=12)}, "threads", "is 12, but only 8 cores", "unset LLMCTL_THREADS"),
        ({"around": replace(AROUND, store_writable=False)}, "store", "/models can't be written", "HF_HUB_CACHE"),
        ({"disk": Disk("/models", 10**9, "ext4")}, "disk", "only 1.0 GB is free", "HF_HUB_CACHE"),
        ({"around": replace(AROUND, config_mode=0o644)}, "config-permissions", "mode 0644", "chmod 600"),
    ],
)
def test_warnings_with_their_remedy(parts: dict[str, Any], id: str, said: str, remedy: str | None) -> None:
    findings = changed(**parts)
    assert {check.id for check in findings.values() if check.status is Status.WARN} == {id}
    assert said in findings[id].message
    assert findings[id].remedy is None if remedy is None else remedy in (findings[id].remedy or "")
    assert blocking(list(findings.values()), strict=False) is None


def test_a_limit_or_a_quota_that_is_respected_is_no_warning() -> None:
    limited = replace(MACHINE.memory, limit_bytes=8 << 30, limit_source="/sys/fs/cgroup/memory.max")
    findings = changed(memory=limited, cpu=replace(MACHINE.cpu, usable_threads=2))
    assert findings["memory"] == Check("memory", Status.OK, "memory is limited to 8.6 GB by /sys/fs/cgroup/memory.max")
    assert findings["threads"].message == "2 threads are used: affinity or CPU quota"


@pytest.mark.parametrize(
    ("usable", "reason", "setting", "message"),
    [
        (8, "all 8 physical cores", None, "all 8 cores may be used"),
        (5, "affinity allows 5 of 8 cores", None, "5 threads are used: affinity allows 5 of 8 cores"),
        (2, "CPU quota of 1.5 CPUs", None, "2 threads are used: CPU quota of 1.5 CPUs"),
        (1, "CPU quota of 1 CPU", None, "1 thread is used: CPU quota of 1 CPU"),
        (5, "affinity allows 5 of 8 cores", 3, "3 threads are used: that is the setting threads"),
        (5, "affinity allows 5 of 8 cores", 5, "5 threads are used: affinity allows 5 of 8 cores"),
    ],
)
def test_why_so_many_threads(usable: int, reason: str, setting: int | None, message: str) -> None:
    cpu = replace(MACHINE.cpu, usable_threads=usable, usable_threads_reason=reason)
    finding = changed(cpu=cpu, around=replace(AROUND, threads=setting))["threads"]
    assert finding == Check("threads", Status.OK, message)


def test_no_engine_blocks() -> None:
    remedy = rebuild(MACHINE, Installed()).command
    for engines in ((), (BROKEN,)):
        findings = checks(MACHINE, engines, AROUND)
        assert findings[0].status is Status.FAIL
        assert findings[0].remedy == remedy
        error = blocking(findings, strict=False)
        assert error is not None
        assert (error.exit_code, error.hint) == (8, remedy)


def test_a_wrong_setting_blocks() -> None:
    findings = checks(MACHINE, (ENGINE,), replace(AROUND, config_error=ConfigError("context is 'x'", hint="mend it")))
    error = blocking(findings, strict=False)
    assert error is not None
    assert (error.exit_code, error.message, error.hint) == (10, "context is 'x'", "mend it")


@pytest.mark.parametrize(
    ("parts", "exit_code"),
    [
        ({"accelerators": (NVIDIA,)}, 8),
        ({"kernels": None}, 7),
        ({"disk": Disk("/models", 10**9)}, 7),
        ({"around": replace(AROUND, config_mode=0o666)}, 10),
    ],
)
def test_strict_turns_the_first_warning_into_an_exit_code(parts: dict[str, Any], exit_code: int) -> None:
    error = blocking(list(changed(**parts).values()), strict=True)
    assert error is not None
    assert error.exit_code == exit_code


def test_a_failure_decides_before_an_earlier_warning() -> None:
    findings = checks(replace(MACHINE, kernels=None), (ENGINE,), replace(AROUND, config_error=ConfigError("wrong")))
    error = blocking(findings, strict=True)
    assert error is not None
    assert error.exit_code == 10


def test_a_described_machine_has_no_engine_and_no_store() -> None:
    assert [check.id for check in machine_checks(MACHINE)] == ["probe", "memory", "threads", "swap"]


OLD = Unfinished(Path("/models/models--a--b/blobs/x.incomplete"), "a/b", 3 * 10**9, 9 * 86_400.0)


@pytest.mark.parametrize(
    ("around", "id", "status", "said", "remedy"),
    [
        ({"unfinished": (OLD,)}, "downloads", Status.WARN, "1 unfinished download holds 3.0 GB", "llmctl models prune"),
        ({"unfinished": (replace(OLD, idle_s=60.0),)}, "downloads", Status.OK, "llmctl pull resumes it", None),
        ({"token_file": Path("/t"), "token_mode": 0o644}, "token-permissions", Status.WARN, "0644", "chmod 600 /t"),
        ({"token_file": Path("/t"), "token_mode": 0o600}, "token-permissions", Status.OK, "nobody else", None),
        ({"endpoints": (WELL,)}, "endpoint", Status.OK, "office (llm.example) answers in 12 ms", None),
        ({"endpoints": (replace(WELL, offers=None),)}, "endpoint", Status.OK, "answers", None),
        (
            {"endpoints": (replace(WELL, offers=("b",)),)},
            "endpoint",
            Status.WARN,
            "has no model m (it has: b)",
            "llmctl endpoint test office",
        ),
        ({"endpoints": (replace(WELL, wrong="gone", hint="look"),)}, "endpoint", Status.WARN, "office: gone", "look"),
        ({"reach": GOOD}, "hub", Status.OK, "hub.example answers, files come from cdn.example at 23 MB/s", None),
        ({"reach": GOOD}, "proxy", Status.OK, "hub.example is reached without a proxy", None),
        ({"reach": replace(GOOD, proxy="proxy:3128")}, "proxy", Status.OK, "through the proxy proxy:3128", None),
        ({"reach": GOOD}, "ca", Status.OK, "checked against the system's trust store", None),
        ({"reach": replace(GOOD, wrong="no way", hint="go")}, "hub", Status.WARN, "no way", "go"),
        ({"reach": replace(GOOD, wrong="bad", hint="ca", untrusted=True)}, "ca", Status.WARN, "bad", "ca"),
        ({"reach": replace(GOOD, wrong="bad", hint="ca", untrusted=True)}, "hub", Status.WARN, "certificate", "ca"),
    ],
)
def test_what_is_around(around: dict[str, Any], id: str, status: Status, said: str, remedy: str | None) -> None:
    finding = changed(around=replace(AROUND, **around))[id]
    assert finding.status is status
    assert said in finding.message
    assert finding.remedy is None if remedy is None else remedy in (finding.remedy or "")


@pytest.mark.parametrize(
    ("kind", "status"), [("nfs4", Status.WARN), ("9p", Status.WARN), ("ext4", Status.OK), ("apfs", Status.OK)]
)
def test_models_behind_a_network(kind: str, status: Status) -> None:
    assert changed(disk=Disk("/models", 10**11, kind))["filesystem"].status is status


def test_nothing_is_said_of_a_network_that_nobody_asked() -> None:
    assert not {"hub", "proxy", "ca", "endpoint"} & changed().keys()


OLD_DRIVER = replace(NVIDIA, driver="470.57.02", api_version="CUDA 11.4", compute_capability="8.6")
SECOND = replace(NVIDIA, id="0000:00:02.0", name="UHD 770", vendor="Intel", kind=AcceleratorKind.INTEGRATED)
WORKING = replace(NVIDIA, usable=True, why=None, engine_backend="CUDA")


@pytest.mark.parametrize(
    ("cards", "backends", "expected"),
    [
        ((WORKING,), ("CUDA", "CPU"), [("gpu", Status.OK, False)]),
        ((NVIDIA,), ("CPU",), [("gpu", Status.WARN, True)]),
        # one build can't be for both: the command is for the card
        ((NVIDIA, SECOND), ("CPU",), [("gpu", Status.WARN, True), ("gpu", Status.WARN, False)]),
        # nothing is wrong where the engine runs on the better one
        ((WORKING, SECOND), ("CUDA", "CPU"), [("gpu", Status.OK, False), ("gpu", Status.OK, False)]),
        # a build for CUDA doesn't see it: first the driver
        ((OLD_DRIVER,), ("CUDA", "CPU"), [("gpu-driver", Status.WARN, True), ("gpu", Status.WARN, True)]),
        ((replace(NVIDIA, driver="vfio-pci"),), ("CPU",), [("gpu", Status.WARN, False)]),
    ],
)
def test_each_card_is_told_of_and_one_gets_the_command(
    cards: tuple[Accelerator, ...], backends: tuple[str, ...], expected: list[tuple[str, Status, bool]]
) -> None:
    findings = checks(replace(MACHINE, accelerators=cards), (replace(ENGINE, backends=backends),), AROUND)
    of_gpus = [
        (finding.id, finding.status, finding.remedy is not None) for finding in findings if finding.id.startswith("gpu")
    ]
    assert of_gpus == expected
