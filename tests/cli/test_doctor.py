"""``llmctl doctor`` as it is typed: the screen, the contract's document, exit codes, and a document read back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmctl.cli import main
from llmctl.cli.doctor import instructions
from llmctl.engine import devices
from llmctl.engine.measure import kernels
from llmctl.errors import EngineError
from llmctl.host import Host
from llmctl.types.kernels import Kernels
from llmctl.types.load import Load
from llmctl.types.machine import Machine
from llmctl.workspace import machine as machines
from tests.fakes.kernel_rates import rates

pytestmark = pytest.mark.usefixtures("engine_known")

# contract.md, "data of llmctl doctor --json"
FIELDS = {"cpu", "memory", "accelerators", "disk", "network", "os", "container"}
CPU = {"name", "arch", "physical_cores", "logical_cores", "usable_threads", "features"}
MEMORY = {
    "total_bytes",
    "available_bytes",
    "limit_bytes",
    "limit_source",
    "swap_bytes",
    "bandwidth_bytes_per_s",
    "bandwidth_basis",
}
ENGINE = {"name", "version", "build", "backends", "devices", "usable"}
ALSO = {"kernels", "notes", "board", "virtual_machine", "power"}  # beyond the contract


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The benchmark is tested where it lives; here it costs nothing and counts its calls."""
    calls: list[int] = []

    def measure(_: Host, machine: Machine, *__: Any, **___: Any) -> Kernels:
        calls.append(1)
        return rates(kernels.thread_counts(machine.cpu))

    monkeypatch.setattr(kernels, "measure", measure)
    return calls


def document(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    assert main(["doctor", "--json", *argv]) == code
    out, err = capsys.readouterr()
    assert err == ""
    loaded: dict[str, Any] = json.loads(out)
    return loaded


def test_json_is_the_contracts_document(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys)
    assert (found["schema"], found["command"], found["error"]) == ("llmctl/1", "doctor", None)
    data = found["data"]
    assert set(data) == {"machine", "engines", "checks", "timings"}
    assert data["timings"]["slowest"] == "kernels" or data["timings"]["slowest"] in data["timings"]["parts_s"]
    machine = data["machine"]
    assert set(machine) == FIELDS | ALSO
    assert set(machine["cpu"]) >= CPU
    assert set(machine["memory"]) == MEMORY
    assert set(machine["disk"]) == {"path", "free_bytes", "filesystem", "read_bytes_per_s"}
    assert set(machine["network"]) == {"hub_reachable", "download_bytes_per_s"}
    assert machine["memory"]["bandwidth_basis"] == "measured (engine kernels)"
    (engine,) = data["engines"]
    assert set(engine) >= ENGINE
    assert engine["usable"]
    for check in data["checks"]:
        assert set(check) == {"id", "status", "message", "remedy"}
        assert check["status"] in {"ok", "warn", "fail"}


def test_the_document_is_a_machine(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    first = document(capsys)
    (home / "machine.json").write_text(json.dumps(first))
    again = document(capsys, "--machine", "machine.json")
    assert again["data"]["machine"] == first["data"]["machine"]
    assert again["data"]["engines"] == []


def test_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    labels = [line[:15].strip() for line in out.splitlines() if line and not line.startswith(" ")]
    assert [label for label in labels if label] == ["This machine", "Memory", "Graphics", "Engine", "Store"]
    assert "41.0 GB/s measured" in out
    assert " ok    " in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert err == "Measuring the engine's kernels, some two seconds, once per machine …\n"


def test_colour_only_on_the_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert main(["doctor", "--verbose"]) == 0
    out, _ = capsys.readouterr()
    coloured = [line for line in out.splitlines() if "\x1b" in line]
    assert coloured
    assert all(line.startswith(" \x1b[32mok   \x1b[0m ") for line in coloured if "ok" in line[:12])
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["doctor", "--verbose"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_measured_once_and_again_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, measured: list[int]
) -> None:
    monkeypatch.setattr(kernels, "cached", lambda _, machine, __: rates(kernels.thread_counts(machine.cpu)))
    assert document(capsys)["data"]["machine"]["memory"]["bandwidth_basis"] == "measured (engine kernels)"
    assert measured == []
    document(capsys, "--measure")
    assert measured == [1]


def disturbed(machine: Machine) -> Kernels:
    """Every pass of Q8_0 with all threads was disturbed."""
    whole = rates(kernels.thread_counts(machine.cpu))
    low: dict[str, Any] = {"decode_bytes_per_s": 9e9, "uncertain": ("decode_bytes_per_s",)}
    usable = machine.cpu.usable_threads
    return replace(
        whole,
        matrices=tuple(
            replace(one, **low) if (one.weight_type, one.threads) == ("Q8_0", usable) else one for one in whole.matrices
        ),
    )


@pytest.mark.parametrize(("busy", "times"), [(None, 1), (Load(0.0), 1), (Load(64.0), 0)])
def test_what_was_disturbed_is_measured_again_by_the_next_command_on_a_quiet_machine(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    measured: list[int],
    busy: Load | None,
    times: int,
) -> None:
    monkeypatch.setattr(kernels, "cached", lambda _, machine, __: disturbed(machine))
    monkeypatch.setattr(machines, "load", lambda *_: busy)
    assert main(["doctor"]) == 0
    assert measured == [1] * times
    assert capsys.readouterr().err.startswith("Measuring again what other programs disturbed") == bool(times)


def test_the_first_time_kernels_are_measured_on_a_busy_machine_too(
    monkeypatch: pytest.MonkeyPatch, measured: list[int]
) -> None:
    monkeypatch.setattr(kernels, "cached", lambda *_: None)
    monkeypatch.setattr(machines, "load", lambda *_: Load(64.0))
    assert main(["doctor"]) == 0
    assert measured == [1]


def test_what_disturbed_a_measurement_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = Load(1.3, program="cc1plus")
    monkeypatch.setattr(kernels, "measure", lambda _, machine, *__, **___: replace(disturbed(machine), load=busy))
    assert main(["doctor"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "other programs (cc1plus) used 1.3 cores while the engine's kernels were measured: 1 of " in said


def test_a_disturbed_measurement_is_a_warning_and_its_bandwidth_no_measured_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "measure", lambda _, machine, *__, **___: disturbed(machine))
    found = document(capsys)
    memory = found["data"]["machine"]["memory"]
    assert memory["bandwidth_basis"].startswith("estimated (engine kernels")
    assert memory["bandwidth_bytes_per_s"] > 20e9
    (check,) = (one for one in found["data"]["checks"] if one["id"] == "kernels")
    assert (check["status"], check["remedy"].split("   ")[0]) == ("warn", "llmctl doctor --measure")
    assert "1 of " in check["message"] and "figures are estimates" in check["message"]


@pytest.mark.parametrize("name", ["one-kernel", "one-thread-only", "three-hogs-half-a-round"])
def test_a_described_machine_with_a_part_of_a_measurement_is_planned_for(
    name: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    part = json.loads((Path(__file__).parents[1] / "fixtures" / "kernels" / f"{name}.json").read_text())
    cpu = {"name": "AMD EPYC", "physical_cores": 2, "features": ["AVX2", "AVX512"]}
    machine = {"memory": {"total_bytes": 25 << 30}, "cpu": cpu, "kernels": part}
    (home / "machine.json").write_text(json.dumps(machine))
    assert main(["plan", "--machine", "machine.json", "--json"]) == 0
    choice = json.loads(capsys.readouterr().out)["data"]["choice"]
    assert (choice["threads"], choice["prefill_threads"], choice["speed"]["basis"]) == (2, 2, "modelled")


def test_a_measurement_that_fails_is_a_finding_unless_it_was_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any, **__: Any) -> None:
        raise EngineError("other programs keep the processor busy")

    monkeypatch.setattr(kernels, "measure", busy)
    found = document(capsys)
    assert found["warnings"] == ["other programs keep the processor busy"]
    warned = {check["id"]: check["remedy"] for check in found["data"]["checks"] if check["status"] == "warn"}
    assert warned == {"kernels": "llmctl doctor --measure"}
    assert document(capsys, "--measure", code=8)["error"]["message"] == "other programs keep the processor busy"


def test_no_usable_engine_blocks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "MODULE", "no_such_engine")
    found = document(capsys, code=8)
    assert found["error"]["code"] == "engine"
    assert found["data"]["checks"][0]["status"] == "fail"
    assert main(["doctor"]) == 8
    out, _ = capsys.readouterr()
    assert " fail  nothing can run here: llama-cpp-python is not installed" in out
    assert "-m pip install" in out


def test_a_broken_setting_is_shown_with_all_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCTL_THREADS", "many")
    found = document(capsys, code=10)
    assert found["error"]["code"] == "config"
    assert "LLMCTL_THREADS" in found["error"]["message"]
    assert found["data"]["machine"]["memory"]["total_bytes"] > 0


def test_strict(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_THREADS", "4096")
    assert main(["doctor"]) == 0
    assert main(["doctor", "--strict"]) == 7
    assert " warn  the setting threads is 4096" in capsys.readouterr().out


def test_a_config_file_that_others_can_read(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    file = home / "config" / "llmctl" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('task = "chat"\n')
    for mode, status in ((0o644, "warn"), (0o600, "ok")):
        file.chmod(mode)
        found = {check["id"]: check["status"] for check in document(capsys)["data"]["checks"]}
        assert found["config-permissions"] == status


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["--machine", "no-such-board"], 4), (["--machine", "no.toml"], 4), (["--machine", "x", "--measure"], 2)],
)
def test_wrong_questions(capsys: pytest.CaptureFixture[str], argv: list[str], code: int) -> None:
    assert document(capsys, *argv, code=code)["data"] is None


def test_a_machine_that_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--machine", "raspberry-pi-5-8gb"]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("This machine   Cortex-A76 · 4 cores")
    assert "17.1 GB/s theoretical peak" in out
    assert "Engine" not in out


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ((), ""),
        (("SSE3", "AVX"), ""),
        (("AVX", "AVX2", "AVX_VNNI"), "AVX2 VNNI"),
        (("AVX2", "AVX_VNNI", "AVX512", "AVX512_VNNI", "AVX512_BF16"), "AVX512 VNNI BF16"),
        (("AVX2", "AVX512", "AMX_INT8"), "AVX512 AMX_INT8"),
        (("NEON", "MATMUL_INT8", "SVE", "DOTPROD"), "NEON DOTPROD MATMUL_INT8 SVE"),
    ],
)
def test_instruction_sets_worth_naming(features: tuple[str, ...], said: str) -> None:
    assert instructions(features) == said


def test_a_store_that_cannot_even_be_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """What pathlib raises for a folder that may not be read it raises for a name that no folder can have, too, and
    the latter also where the tests run as root."""
    monkeypatch.setenv("HF_HUB_CACHE", str(home / ("x" * 300) / "hub"))
    found = document(capsys)
    assert {check["id"] for check in found["data"]["checks"]} >= {"store"}


def test_a_store_below_a_folder_that_may_not_be_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    closed = home / "closed"
    closed.mkdir(mode=0)
    monkeypatch.setenv("HF_HUB_CACHE", str(closed / "hub"))
    found = {check["id"]: check["status"] for check in document(capsys)["data"]["checks"]}
    assert found["store"] == "warn"
