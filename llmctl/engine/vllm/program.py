"""The program of vLLM on this machine, and how it is started. Options and variables are those of vLLM 0.32."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from llmctl import child

NAME = "vllm"


class VllmJob(Struct, frozen=True):
    """``repo``: the repository of the weights, which is in the hub cache at ``hub_cache``; ``model``: its name for
    clients; ``settings``: options of vLLM by the names of its fields, as planned."""

    program: str
    repo: str
    model: str
    settings: Mapping[str, int | float]
    hub_cache: str


def installed() -> str | None:
    """Where the program is on PATH. Places that depend on the working directory don't count: anybody's files may lie
    there."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return shutil.which(NAME, path=os.pathsep.join(folder for folder in folders if Path(folder).is_absolute()))


def arguments(job: VllmJob, socket: Path) -> list[str]:
    """The command line of a server that listens at the file ``socket``, and at no port."""
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in job.settings.items()]
    return [
        *(job.program, "serve", job.repo, f"--served-model-name={job.model}"),
        *settings,
        *(f"--uds={socket}", "--disable-uvicorn-access-log"),
    ]


def environment(environ: Mapping[str, str], hub_cache: str) -> dict[str, str]:
    """The part of ``environ`` that vLLM needs, and what keeps it from asking or telling anybody anything."""
    return {
        **child.environment(environ),
        "HF_HUB_CACHE": hub_cache,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
