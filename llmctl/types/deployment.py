"""What a deployment can be written for."""

from __future__ import annotations

from enum import StrEnum


class DeploymentForm(StrEnum):
    """The first ones start a gateway of llmctl's, the last three vLLM."""

    SYSTEMD = "systemd"
    LAUNCHD = "launchd"
    COMPOSE = "compose"
    QUADLET = "quadlet"
    KUBERNETES = "kubernetes"
    VLLM = "vllm"
    RAY = "ray"
    LLM_D = "llm-d"

    @property
    def is_of_cluster(self) -> bool:
        """For a model's original weights on the GPUs of one or several machines."""
        return self in (DeploymentForm.VLLM, DeploymentForm.RAY, DeploymentForm.LLM_D)

    @property
    def is_in_container(self) -> bool:
        return self in (DeploymentForm.COMPOSE, DeploymentForm.QUADLET, DeploymentForm.KUBERNETES)
