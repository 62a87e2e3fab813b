"""Every form in which ``llmctl serve --print`` writes a deployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from llmctl.workspace.deployment import compose, kubernetes, launchd, quadlet, systemd
from llmctl.workspace.deployment.service import GatewayService


class ServiceForm(StrEnum):
    SYSTEMD = "systemd"
    LAUNCHD = "launchd"
    COMPOSE = "compose"
    QUADLET = "quadlet"
    KUBERNETES = "kubernetes"


MAKERS: Mapping[ServiceForm, Callable[[GatewayService], str]] = {
    ServiceForm.SYSTEMD: systemd.unit,
    ServiceForm.LAUNCHD: launchd.agent,
    ServiceForm.COMPOSE: compose.project,
    ServiceForm.QUADLET: quadlet.container,
    ServiceForm.KUBERNETES: kubernetes.objects,
}
