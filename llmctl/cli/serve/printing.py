"""``llmctl serve --print``: a file for what starts services, on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmctl.cli.serve import screen
from llmctl.errors import UsageError
from llmctl.types.deployment import DeploymentForm

if TYPE_CHECKING:
    from llmctl.cli.output import Output
    from llmctl.cli.serve.session import ServeOptions
    from llmctl.settings import Settings


def printed(
    out: Output,
    loaded: Settings,
    serving: ServeOptions,
    form: DeploymentForm,
    arguments: Sequence[str],
    *,
    machine: str | None,
    count: int,
) -> None:
    """``arguments`` are those of the service. Raises what planning raises."""
    if form.is_of_cluster:
        text = _of_cluster(out, serving, form, machine, count)
    else:
        text = _of_service(out, loaded, serving, form, arguments)
    out.text(text.rstrip("\n"))
    out.data({"form": form, "text": text})


def _of_cluster(out: Output, serving: ServeOptions, form: DeploymentForm, machine: str | None, count: int) -> str:
    from llmctl.workspace.deployment.cluster import ClusterAsked, text
    from llmctl.workspace.serve_plan import USUAL_USERS

    asked = serving.asked
    if len(asked.models) != 1:
        raise UsageError(f"--print {form} takes one model of the catalogue", hint="llmctl models list --all")
    return text(out, form, ClusterAsked(asked.models[0], asked.users or USUAL_USERS, asked.context, machine, count))


def _of_service(
    out: Output, loaded: Settings, serving: ServeOptions, form: DeploymentForm, arguments: Sequence[str]
) -> str:
    from llmctl.workspace.deployment.printed import MAKERS
    from llmctl.workspace.deployment.service import gateway_service
    from llmctl.workspace.serve_plan import planned

    files = [name for name in serving.asked.models if "/" in name or name.endswith(".gguf")]
    if form.is_in_container and files:
        raise UsageError(f"{files[0]} is a file of this machine, and the container has none", hint="llmctl models list")
    plan = planned(out, loaded, serving.asked)
    absolute = [str(Path(word).resolve()) if word in files else word for word in arguments]
    service = gateway_service(plan, screen.lines(plan), absolute, serving.front.host)
    return MAKERS[form](service)
