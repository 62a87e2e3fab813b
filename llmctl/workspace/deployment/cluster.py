"""A model in its original weights on the GPUs of one or several machines, for vLLM and what stands on it."""

from __future__ import annotations

from msgspec import Struct

from llmctl import units
from llmctl.errors import NothingFitsError, UsageError
from llmctl.planner.parallel import Cluster, TooFewGpus, spread
from llmctl.types.deployment import DeploymentForm
from llmctl.types.listener import Listener
from llmctl.types.machine import AcceleratorKind, Machine
from llmctl.types.model import Model
from llmctl.workspace.deployment import llm_d, ray_serve, vllm
from llmctl.workspace.deployment.program import ClusterDeployment

HUB = "https://huggingface.co/"
MOST_CONTEXT = 8192  # where none is asked for: as the planner's usual one


class ClusterAsked(Struct, frozen=True):
    """``model`` by its name in the catalogue, ``machine`` as ``plan --machine`` takes it (None: this one), of which
    there are ``count``."""

    model: str
    users: int
    context: int | None = None
    machine: str | None = None
    count: int = 1


def text(listener: Listener, form: DeploymentForm, asked: ClusterAsked) -> str:
    """The deployment of ``form``. Raises NotFoundError, UsageError, and NothingFitsError for too few GPUs."""
    made = planned(listener, asked)
    if form is DeploymentForm.VLLM:
        if made.spread.pipeline > 1:
            raise NothingFitsError(
                f"{made.model} takes {made.spread.pipeline} machines, {made.cluster.gpus} GPUs of one don't hold it",
                hint="llmctl serve MODEL --print ray …   or --print llm-d",
            )
        return vllm.script(made)
    return ray_serve.configuration(made) if form is DeploymentForm.RAY else llm_d.values(made)


def planned(listener: Listener, asked: ClusterAsked) -> ClusterDeployment:
    """Raises as ``text``."""
    from llmctl.workspace import situation
    from llmctl.workspace.machine import described

    machine = described(listener, asked.machine, ram_bytes=None, vram_bytes=None, gpu=None)
    looked_at = situation.look(listener, machine=machine, measure=False)
    candidates = looked_at.candidates(asked.model, ask_hub=False)
    model = candidates[0].model
    if not model.parameters or original(model) is None:
        raise UsageError(f"where {asked.model} has its original weights isn't known", hint="llmctl models list --all")
    cluster = _cluster(looked_at.machine, asked.count)
    context = min(asked.context or MOST_CONTEXT, model.shape.context_train)
    answer = spread(model.shape, model.parameters, cluster, users=asked.users, context=context)
    if isinstance(answer, TooFewGpus):
        raise NothingFitsError(_too_few(model, cluster, answer, asked.users, context))
    return ClusterDeployment(model.id, str(original(model)), answer, cluster, asked.users, context, model.parameters)


def original(model: Model) -> str | None:
    """The repository of the model's original weights, as the catalogue knows it."""
    address = model.sources.get("facts", "")
    repo = address.removeprefix(HUB)
    return repo if address.startswith(HUB) and repo.count("/") == 1 else None


def _cluster(machine: Machine, count: int) -> Cluster:
    """Raises UsageError for a machine without GPUs that vLLM could use."""
    cards = [
        card.memory_total_bytes
        for card in machine.accelerators
        if card.vendor.lower() in ("nvidia", "amd") and card.memory_total_bytes
        if card.kind is AcceleratorKind.DISCRETE or card.vendor.lower() == "nvidia"
    ]
    if not cards:
        raise UsageError(
            "this takes GPUs of NVIDIA or AMD, and the machine has none",
            hint="llmctl serve MODEL --print vllm --machine FILE   for another machine, as a document",
        )
    return Cluster(count, len(cards), min(cards))


def _too_few(model: Model, cluster: Cluster, lacking: TooFewGpus, users: int, context: int) -> str:
    widest = lacking.widest
    size = units.size
    return (
        f"{model.name} for {users} users of {context:,} tokens doesn't fit {cluster.machines} x {cluster.gpus} GPUs "
        f"of {size(cluster.gpu_bytes)}: each of the {widest.gpus} of a copy is {size(lacking.short_by_bytes)} short, "
        f"with {size(widest.weights_bytes)} of weights in the {size(widest.usable_bytes)} that vLLM takes of it"
    )
