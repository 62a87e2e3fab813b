"""A file for Docker Compose."""

from __future__ import annotations

import json

from llmctl.workspace.deployment.comment import comment
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
        *comment(reasons(service)),
        "name: llmctl",
        "services:",
        "  serve:",
        f"    image: {IMAGE}",
        "    volumes:",
        f"      - models:{DATA}",
        "    ports:",
        f"      - '127.0.0.1:{PORT}:{PORT}'  # of this machine alone; leave out the address for others",
        f"    command: {json.dumps(arguments(service, ['serve']))}",
        "    restart: on-failure:5",
        "    healthcheck:",
        f"      test: {json.dumps(['CMD', 'python3', '-c', HEALTH])}",
        "      start_period: 300s",
        "    cap_drop: [ALL]",
        "    deploy:",
        "      resources:",
        "        limits:",
        f"          memory: {service.memory_mi}M",
        *reservations,
        "    read_only: true",
        "    security_opt: ['no-new-privileges:true']",
        f"    stop_grace_period: {DRAIN_S}s",
        "    tmpfs: [/tmp]",
        "    ulimits:",
        "      core: 0",
        "volumes:",
        "  models: {}",
    ]
    return "\n".join(lines) + "\n"
