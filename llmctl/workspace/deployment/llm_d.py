"""Values for llm-d's chart `llm-d-modelservice`, which runs vLLM on Kubernetes behind its scheduler."""

from __future__ import annotations

from llmctl.workspace.deployment.comment import comment
from llmctl.workspace.deployment.program import ClusterDeployment

ALREADY_SET = ("tensor_parallel_size",)  # the chart passes it on by itself, from parallelism.tensor


def values(deployment: ClusterDeployment) -> str:
    arguments = {name: value for name, value in deployment.engine_arguments.items() if name not in ALREADY_SET}
    gpus = deployment.spread.tensor
    lines = [
        *comment(deployment.reasons("vLLM on llm-d")),
        "# Where llm-d's gateway and scheduler are: helm install NAME llm-d-modelservice/llm-d-modelservice -f FILE",
        "modelArtifacts:",
        f"  name: {deployment.model}",
        f"  uri: hf://{deployment.repo}",
        f"  size: {_volume_gi(deployment.parameters)}Gi  # the weights in bfloat16, and a quarter more",
        f"multinode: {str(deployment.spread.pipeline > 1).lower()}",
        "accelerator:",
        "  type: nvidia",
        "decode:",
        f"  replicas: {deployment.copies}",
        "  parallelism:",
        f"    tensor: {gpus}",
        f"    workers: {deployment.spread.pipeline}",
        "  containers:",
        "  - name: vllm",
        "    image: vllm/vllm-openai:v0.32.0",
        "    modelCommand: vllmServe",
        "    args:",
        *(f"    - --{name.replace('_', '-')}={value}" for name, value in arguments.items()),
        "    - --disable-uvicorn-access-log",
        "    env:",
        "    - name: VLLM_NO_USAGE_STATS  # else vLLM sends figures of its use to its makers",
        '      value: "1"',
        "    resources:",
        "      limits:",
        f'        nvidia.com/gpu: "{gpus}"',
        "      requests:",
        f'        nvidia.com/gpu: "{gpus}"',
        "    mountModelVolume: true",
        "prefill:",
        "  create: false  # prompts are read where answers are written; apart it pays with many more users",
    ]
    return "\n".join(lines) + "\n"


def _volume_gi(parameters: int) -> int:
    return -(-parameters * 2 * 5 // 4 // 2**30)
