"""Services for what starts them: each form holds the plan's figures, and its own checker finds nothing wrong."""

from __future__ import annotations

import json
import plistlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmctl.cli.app import main
from llmctl.types.deployment import DeploymentForm
from llmctl.workspace.deployment.compose import project
from llmctl.workspace.deployment.container import without_address
from llmctl.workspace.deployment.kubernetes import objects
from llmctl.workspace.deployment.launchd import agent
from llmctl.workspace.deployment.printed import MAKERS
from llmctl.workspace.deployment.quadlet import container
from llmctl.workspace.deployment.service import GatewayService
from llmctl.workspace.deployment.systemd import quoted, unit

AWKWARD = 'a b%c"$d\\e\nf'


@pytest.fixture
def service(tmp_path: Path) -> GatewayService:
    program = tmp_path / "llmctl"
    program.write_text("#!/bin/sh\n", "utf-8")
    program.chmod(0o755)
    return GatewayService(
        ("qwen3-8b", "--users", "4", "--host", "127.0.0.1"),
        ("Qwen3 8B Q4_K_M: planned for 4 users",),
        7 * 2**30 + 1,
        True,
        "127.0.0.1",
        (str(program),),
        "root",
        (tmp_path / "data folder",),
    )


def test_systemd(service: GatewayService, tmp_path: Path) -> None:
    text = unit(service)
    for line in ("MemoryMax=7169M", "IPAddressDeny=any", "LimitCORE=0", "NoNewPrivileges=yes", "User=root"):
        assert f"\n{line}\n" in text
    assert "PrivateDevices" not in text  # it needs the GPU's
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    file = tmp_path / "llmctl-serve.service"
    file.write_text(text, "utf-8")
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if str(file) in line or "llmctl" in line] == []


def test_a_gateway_that_others_reach_has_the_network(service: GatewayService) -> None:
    from msgspec.structs import replace

    assert "IPAddress" not in unit(replace(service, host="0.0.0.0"))


def test_words_of_systemd() -> None:
    assert quoted(["/bin/x", "--a=b", AWKWARD]) == '/bin/x --a=b "a b%%c\\"$$d\\\\e\\nf"'


def test_launchd(service: GatewayService) -> None:
    made: dict[str, Any] = plistlib.loads(agent(service).encode())
    assert made["ProgramArguments"] == list(service.command)
    assert made["KeepAlive"] == {"SuccessfulExit": False} and made["HardResourceLimits"] == {"Core": 0}


def test_compose(service: GatewayService) -> None:
    serve = yaml.safe_load(project(service))["services"]["serve"]
    assert serve["command"][:4] == ["serve", "qwen3-8b", "--users", "4"] and "--yes" in serve["command"]
    assert serve["command"].count("--host") == 1
    assert serve["deploy"]["resources"]["limits"]["memory"] == "7169M"
    assert serve["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_quadlet(service: GatewayService) -> None:
    text = container(service)
    assert "PodmanArgs=--memory=7169m" in text and "AddDevice=nvidia.com/gpu=all" in text


def test_kubernetes(service: GatewayService) -> None:
    documents = list(yaml.safe_load_all(objects(service)))
    assert [each["kind"] for each in documents] == ["PersistentVolumeClaim", "Deployment", "Service"]
    (pod,) = documents[1]["spec"]["template"]["spec"]["containers"]
    assert pod["resources"]["limits"] == {"memory": "7169Mi", "nvidia.com/gpu": "1"}
    assert pod["startupProbe"]["httpGet"]["path"] == pod["livenessProbe"]["httpGet"]["path"] == "/health"
    validate = pytest.importorskip("kubernetes_validate")
    for each in documents:
        validate.validate(each, desired_version=validate.latest_version(), strict=True)


@pytest.mark.parametrize("form", MAKERS)
def test_no_form_lacks_its_reasons(form: DeploymentForm, service: GatewayService) -> None:
    text = MAKERS[form](service)
    assert "planned for 4 users" in text and "Memory: 7.5 GB" in text
    assert max(map(len, text.splitlines())) < 300


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (("m", "--host", "1.2.3.4", "--users", "2"), ["m", "--users", "2"]),
        (("--host=1.2.3.4", "--port=1", "m"), ["m"]),
        (("m", "--port", "0"), ["m"]),
    ],
)
def test_a_container_has_an_address_of_its_own(given: tuple[str, ...], kept: list[str]) -> None:
    assert without_address(given) == kept


@pytest.mark.usefixtures("measured")
def test_from_the_command_line(endless_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["serve", str(endless_file), "--users", "2", "--print"]
    assert main([*words, "systemd", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["form"] == "systemd" and f"serve {endless_file} --users 2\n" in data["text"]
    assert main([*words, "compose"]) == 2
    assert "is a file of this machine, and the container has none" in capsys.readouterr().err
    assert main(["serve", "--count", "2"]) == 2
    assert main(["serve", "--print", "vllm"]) == 2
