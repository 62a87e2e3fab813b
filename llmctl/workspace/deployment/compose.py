"""A file for Docker Compose."""

from __future__ import annotations

import json

from llmctl.workspace.deployment.container import DATA, HEALTH, IMAGE, PORT, arguments, reasons
from llmctl.workspace.deployment.service import DRAIN_S, GatewayService


def project(service: GatewayService) -> str:
    gpu = [
        "          devices:",
        "            - driver: nvidia",
        "              count: all",
        "              capabilities: [gpu]",
    ]
    reservations = ["        reservations:", *gpu] if service.uses_gpu else []
    lines = [
        *(f"# {line}" for line in reasons(service)),
        "name: llmctl",
        "services:",
        "  serve:",
        f"    image: {IMAGE}",
        f"    command: {json.dumps(arguments(service))}",
        "    restart: on-failure:5",
        "    read_only: true",
        "    tmpfs: [/tmp]",
        "    cap_drop: [ALL]",
        "    security_opt: ['no-new-privileges:true']",
        f"    stop_grace_period: {DRAIN_S}s",
        "    ulimits:",
        "      core: 0",
        "    ports:",
        f"      - '127.0.0.1:{PORT}:{PORT}'  # of this machine alone; leave out the address for others",
        "    volumes:",
        f"      - 'models:{DATA}'",
        "    deploy:",
        "      resources:",
        "        limits:",
        f"          memory: {service.memory_mi}M",
        *reservations,
        "    healthcheck:",
        f"      test: {json.dumps(['CMD', 'python3', '-c', HEALTH])}",
        "      start_period: 300s",
        "volumes:",
        "  models: {}",
    ]
    return "\n".join(lines) + "\n"
