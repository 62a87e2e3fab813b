"""A script that starts vLLM on one machine. Its options are those of vLLM 0.32."""

from __future__ import annotations

from llmctl.shell import command
from llmctl.workspace.deployment.comment import comment
from llmctl.workspace.deployment.program import ClusterDeployment


def script(deployment: ClusterDeployment) -> str:
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in deployment.engine_arguments.items()]
    options = [
        f"--served-model-name={deployment.model}",
        *arguments,
        f"--data-parallel-size={deployment.copies}",
        "--host=127.0.0.1",
        "--port=8000",
        "--disable-uvicorn-access-log",
    ]
    lines = [
        "#!/bin/sh",
        *comment(deployment.reasons("vLLM")),
        "# It listens to this machine alone; for others: --host with --ssl-certfile and --ssl-keyfile, or a proxy.",
        "# Clients need the key; it is read from the environment and stands in no file:",
        ': "${VLLM_API_KEY:?export VLLM_API_KEY=… first}"',
        "export VLLM_NO_USAGE_STATS=1  # else vLLM sends figures of its use to its makers",
        " \\\n  ".join([command("exec", "vllm", "serve", deployment.repo), *options]),
    ]
    return "\n".join(lines) + "\n"
