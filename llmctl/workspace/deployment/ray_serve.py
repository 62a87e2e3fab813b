"""A configuration for Ray Serve, which spreads vLLM over machines. The builder is that of Ray 2.60."""

from __future__ import annotations

from llmctl.workspace.deployment.comment import comment
from llmctl.workspace.deployment.program import ClusterDeployment


def configuration(deployment: ClusterDeployment) -> str:
    engine = [f"        {name}: {value}" for name, value in deployment.engine_arguments.items()]
    lines = [
        *comment(deployment.reasons("vLLM on Ray Serve")),
        "# First machine: ray start --head; the others: ray start --address=FIRST:6379; then: serve deploy FILE",
        "proxy_location: HeadOnly",
        "http_options:",
        "  host: 127.0.0.1  # for other machines: put a proxy with TLS and access tokens before it, Ray has neither",
        "  port: 8000",
        "logging_config:",
        "  enable_access_log: false",
        "applications:",
        "- name: llm",
        "  route_prefix: /",
        "  import_path: ray.serve.llm:build_openai_app",
        "  args:",
        "    llm_configs:",
        "    - model_loading_config:",
        f"        model_id: {deployment.model}",
        f"        model_source: {deployment.repo}",
        "      deployment_config:",
        f"        num_replicas: {deployment.copies}",
        f"        max_ongoing_requests: {deployment.requests_at_once}",
        "      engine_kwargs:",
        *engine,
        "      runtime_env:",
        "        env_vars:",
        '          VLLM_NO_USAGE_STATS: "1"  # else vLLM sends figures of its use to its makers',
    ]
    return "\n".join(lines) + "\n"
