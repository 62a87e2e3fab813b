"""A container of Podman as a unit of systemd (podman-systemd.unit(5))."""

from __future__ import annotations

from llmctl.workspace.deployment.comment import comment
from llmctl.workspace.deployment.container import DATA, HEALTH, IMAGE, PORT, arguments, reasons
from llmctl.workspace.deployment.service import DRAIN_S, GatewayService
from llmctl.workspace.deployment.systemd import quoted


def container(service: GatewayService) -> str:
    gpu = ["AddDevice=nvidia.com/gpu=all"] if service.uses_gpu else []
    lines = [
        *comment(reasons(service)),
        "# ~/.config/containers/systemd/llmctl.container, then:",
        "#   systemctl --user daemon-reload; systemctl --user start llmctl",
        "[Unit]",
        "Description=Local language models for other programs (llmctl serve)",
        "",
        "[Container]",
        f"Image={IMAGE}",
        f"Exec={quoted(arguments(service, ['llmctl']))}",
        f"PublishPort=127.0.0.1:{PORT}:{PORT}",
        f"Volume=llmctl-models:{DATA}",
        *gpu,
        f"PodmanArgs=--memory={service.memory_mi}m",
        "Ulimit=core=0",
        "ReadOnly=true",
        "NoNewPrivileges=true",
        "DropCapability=ALL",
        f"HealthCmd={quoted(['python3', '-c', HEALTH])}",
        "HealthStartPeriod=300s",
        "",
        "[Service]",
        "Restart=on-failure",
        f"TimeoutStopSec={DRAIN_S}",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"
