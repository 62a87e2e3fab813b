"""Deployments for vLLM, Ray Serve and llm-d say what was planned, in a form that those programs read."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmctl.errors import LlmctlError, NothingFitsError, UsageError
from llmctl.types.deployment import DeploymentForm
from llmctl.types.listener import SilentListener
from llmctl.workspace.deployment import cluster
from llmctl.workspace.deployment.cluster import ClusterAsked

OPTIONS = (Path(__file__).parent.parent / "fixtures" / "vllm" / "0.32.0.txt").read_text("utf-8").split("\n")[1:]
MODEL, REPO = "qwen3-8b", "Qwen/Qwen3-8B"
CARDS = """
[memory]
total_bytes = 137_438_953_472
[cpu]
name = "a server"
arch = "x86_64"
physical_cores = 16
logical_cores = 32
[[accelerators]]
name = "GeForce RTX 4090"
[[accelerators]]
name = "GeForce RTX 4090"
"""


@pytest.fixture
def two_cards(tmp_path: Path) -> str:
    file = tmp_path / "machine.toml"
    file.write_text(CARDS, "utf-8")
    return str(file)


def text(program: DeploymentForm, machine: str, **asked: Any) -> str:
    given = {"model": MODEL, "users": 4, "machine": machine, **asked}
    return cluster.text(SilentListener(), program, ClusterAsked(**given))


def test_vllm(two_cards: str) -> None:
    script = text(DeploymentForm.VLLM, two_cards)
    command = shlex.split(script[script.index("exec vllm") :].replace("\\\n", ""))
    assert command[:4] == ["exec", "vllm", "serve", REPO]
    options = {name[2:]: value for name, _, value in (option.partition("=") for option in command[4:])}
    assert not {name.replace("-", "_") for name in options} - set(OPTIONS)
    assert options["host"] == "127.0.0.1" and options["max-model-len"] == "8192"
    assert int(options["tensor-parallel-size"]) * int(options["data-parallel-size"]) <= 2
    assert "VLLM_API_KEY:?" in script and "VLLM_NO_USAGE_STATS=1" in script


def test_ray_serve(two_cards: str) -> None:
    (application,) = yaml.safe_load(text(DeploymentForm.RAY, two_cards, count=3, users=64))["applications"]
    (config,) = application["args"]["llm_configs"]
    assert application["import_path"] == "ray.serve.llm:build_openai_app"
    assert config["model_loading_config"] == {"model_id": MODEL, "model_source": REPO}
    replicas, engine = config["deployment_config"]["num_replicas"], config["engine_kwargs"]
    assert not set(engine) - set(OPTIONS)
    assert replicas * engine["max_num_seqs"] >= 64 and replicas * engine["tensor_parallel_size"] <= 6


def test_llm_d(two_cards: str) -> None:
    values = yaml.safe_load(text(DeploymentForm.LLM_D, two_cards))
    decode = values["decode"]
    (container,) = decode["containers"]
    assert values["modelArtifacts"]["uri"] == f"hf://{REPO}"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == str(decode["parallelism"]["tensor"])
    assert not {argument[2:].split("=")[0].replace("-", "_") for argument in container["args"]} - set(OPTIONS)


@pytest.mark.parametrize("program", [form for form in DeploymentForm if form.is_of_cluster])
def test_every_value_has_its_reason(program: DeploymentForm, two_cards: str) -> None:
    written = text(program, two_cards)
    comment = " ".join(line for line in written.splitlines() if line.startswith("#"))
    for name in ("tensor_parallel_size", "pipeline_parallel_size", "max_model_len", "max_num_seqs"):
        assert name in comment
    assert "gpu_memory_utilization" in comment and "nothing of it was run" in comment


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        ({"model": "gpt-oss-120b"}, NothingFitsError, "GB short, with"),
        ({"machine": "laptop-16gb"}, UsageError, "the machine has none"),
        ({"users": 10_000}, NothingFitsError, "10000 users of 8,192 tokens doesn't fit 1 x 2 GPUs of 25.8 GB"),
    ],
)
def test_what_can_not_be(asked: dict[str, Any], kind: type[LlmctlError], words: str, two_cards: str) -> None:
    with pytest.raises(kind, match=words):
        text(DeploymentForm.VLLM, **{"machine": two_cards, **asked})


def test_more_than_one_machine_is_not_for_vllm_alone(two_cards: str) -> None:
    asked = {"model": "qwen3-32b", "count": 4, "users": 1}
    with pytest.raises(NothingFitsError, match=r"takes \d machines"):
        text(DeploymentForm.VLLM, two_cards, **asked)
    assert "pipeline_parallel_size: " in text(DeploymentForm.RAY, two_cards, **asked)
