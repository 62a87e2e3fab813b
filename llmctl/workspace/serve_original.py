"""What a gateway serves by vLLM: one model of the catalogue in its original weights, on all GPUs of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from llmctl import paths, units
from llmctl.engine.vllm.program import VllmJob, installed
from llmctl.errors import NotFoundError, NothingFitsError, UsageError
from llmctl.shell import command
from llmctl.store.layout import Repository
from llmctl.types.listener import Listener
from llmctl.types.model import Model
from llmctl.workspace.deployment.cluster import ClusterAsked
from llmctl.workspace.deployment.program import ClusterDeployment
from llmctl.workspace.served_room import Memory

if TYPE_CHECKING:
    from llmctl.settings import Settings
    from llmctl.workspace.serve_plan import ServeAsked, ServePlan

BYTES_PER_PARAMETER = 2  # of bfloat16
WEIGHTS = ("*.safetensors", "*.bin")
CONFIGURATION = "config.json"
INSTALL = "pip install vllm   in an environment whose programs are on PATH"


class OriginalModel(Struct, frozen=True):
    """A model that vLLM runs as ``deployment`` says; ``program`` is vLLM's. Its GPUs are its own, so it takes no memory
    that the gateway counts."""

    deployment: ClusterDeployment
    program: str
    model: Model
    tasks: tuple[str, ...]
    pinned: bool = False
    writes: bool = True

    @property
    def name(self) -> str:
        return self.deployment.model

    @property
    def quant(self) -> str:
        return "BF16"

    @property
    def also_named(self) -> tuple[str, ...]:
        return (self.deployment.repo,)

    @property
    def users(self) -> int:
        return self.deployment.users

    @property
    def context(self) -> int:
        return self.deployment.context

    @property
    def memory(self) -> Memory:
        return {}

    @property
    def memory_bytes(self) -> int:
        """Of all GPUs."""
        at = self.deployment.spread
        return (at.weights_bytes + at.cache_bytes) * at.tensor * self.deployment.copies

    @property
    def defaults(self) -> Mapping[str, Any]:
        return self.model.sampling or {}

    @property
    def size_bytes(self) -> int:
        return self.deployment.parameters * BYTES_PER_PARAMETER

    @property
    def decode_tok_s(self) -> None:
        """Nobody has measured it here."""

    @property
    def gpus(self) -> int:
        return self.deployment.spread.tensor * self.deployment.copies

    @property
    def job(self) -> VllmJob:
        settings = {**self.deployment.engine_arguments, "data_parallel_size": self.deployment.copies}
        return VllmJob(self.program, self.deployment.repo, self.name, settings, str(paths.hub_cache()))


def planned(listener: Listener, settings: Settings, asked: ServeAsked) -> ServePlan:
    """The plan for ``serve --engine vllm``. Raises UsageError where vLLM or a GPU is missing, NothingFitsError,
    NotFoundError for a model that isn't in the catalogue and for weights that aren't on this machine."""
    from llmctl.workspace import situation
    from llmctl.workspace.deployment import cluster
    from llmctl.workspace.serve_plan import USUAL_USERS, ServePlan

    program = _required(asked)
    deployment = cluster.planned(listener, ClusterAsked(asked.models[0], asked.users or USUAL_USERS, asked.context))
    if deployment.spread.pipeline > 1 or deployment.copies > deployment.spread.copies:
        raise NothingFitsError(
            f"{deployment.model} for {deployment.users} users takes more GPUs than this machine has",
            hint=command("llmctl", "serve", "--print", "ray", "--count", "2", names=[deployment.model]),
        )
    _require_weights(deployment)
    model = situation.shelf(listener, loaded=settings).candidates(deployment.model)[0].model
    tasks = situation.load_knowledge().tasks
    able = [name for name, task in tasks.items() if task.needs in model.tasks and not task.sees]
    original = OriginalModel(deployment, program, model, tuple(able))
    return ServePlan((original,), dict.fromkeys((*able, settings.task), original.name), settings.task, {}, True)


def _required(asked: ServeAsked) -> str:
    """The program of vLLM. Raises UsageError."""
    if len(asked.models) != 1 or asked.tasks or asked.pinned:
        raise UsageError("--engine vllm serves one model of the catalogue", hint="llmctl models list --all")
    if (program := installed()) is None:
        raise UsageError("--engine vllm needs vLLM, and no program of that name is on PATH", hint=INSTALL)
    return program


def _require_weights(deployment: ClusterDeployment) -> None:
    """Raises NotFoundError: nothing is fetched that wasn't asked for, and vLLM is kept from the network."""
    repository = Repository(paths.hub_cache(), deployment.repo)
    if not any(_is_complete(repository.folder / "snapshots" / commit) for commit in repository.commits()):
        size = units.size(deployment.parameters * BYTES_PER_PARAMETER)
        raise NotFoundError(
            f"the original weights of {deployment.model} ({deployment.repo}, about {size}) are not on this machine",
            hint=command("hf", "download", names=[deployment.repo]),
        )


def _is_complete(snapshot: Path) -> bool:
    """As far as can be told without knowing its files."""
    return (snapshot / CONFIGURATION).exists() and any(
        file.exists() for pattern in WEIGHTS for file in snapshot.glob(pattern)
    )
