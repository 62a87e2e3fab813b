"""The forms of a service that the system starts, which ``llmctl serve --print`` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llmctl.types.deployment import DeploymentForm
from llmctl.workspace.deployment import compose, kubernetes, launchd, quadlet, systemd
from llmctl.workspace.deployment.service import GatewayService

MAKERS: Mapping[DeploymentForm, Callable[[GatewayService], str]] = {
    DeploymentForm.SYSTEMD: systemd.unit,
    DeploymentForm.LAUNCHD: launchd.agent,
    DeploymentForm.COMPOSE: compose.project,
    DeploymentForm.QUADLET: quadlet.container,
    DeploymentForm.KUBERNETES: kubernetes.objects,
}
