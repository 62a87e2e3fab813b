"""The real llama.cpp with a real model in a real child process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from msgspec.structs import replace

from llmctl import paths
from llmctl.catalogue import load
from llmctl.endpoint import local
from llmctl.endpoint.client import chat, request_body
from llmctl.endpoint.refusal import ANY_OBJECT
from llmctl.engine.llama_cpp.request import OPTIONS
from llmctl.engine.llama_cpp.start import start
from llmctl.engine.worker_process import Engine, Worker
from llmctl.errors import AccessError, ContextError, EngineDiedError, EngineError, NetworkError, UsageError
from llmctl.types.event import Event, Finished, Text
from llmctl.types.request import JsonSchema, Request, Sampling
from tests.fakes.fits import fit_for
from tests.fakes.gguf_file import Fill, llama_metadata, llama_tensors, model_shape, write

QUESTION = "Name three primary colours."


@pytest.fixture(scope="module")
def engine(starter_file: Path) -> Iterator[Engine]:
    with start(fit_for(starter_file, context=1024)) as loaded:
        yield loaded


def ask(engine: Engine, sampling: Sampling, prompt: str = QUESTION) -> list[Event]:
    return list(chat(engine.address, request_body(engine.address, Request.of(prompt, sampling)), tries=1))


def text(pieces: list[Event]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, Text))


BARE = """
import json, sys
from llama_cpp import Llama
llama = Llama(sys.argv[1], n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
made = llama.create_chat_completion([{"role": "user", "content": sys.argv[2]}], max_tokens=24, temperature=0)
print(json.dumps(made))
"""


def test_it_answers_like_the_bare_library(engine: Engine, starter_file: Path) -> None:
    pieces = ask(engine, Sampling(max_tokens=24, temperature=0))
    argv = [sys.executable, "-c", BARE, str(starter_file), QUESTION]
    same = json.loads(subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout)
    assert text(pieces) == same["choices"][0]["message"]["content"]
    last = pieces[-1]
    assert isinstance(last, Finished)
    assert last.finish_reason == "length"
    assert last.usage.completion_tokens == same["usage"]["completion_tokens"] == 24
    assert last.usage.prompt_tokens == same["usage"]["prompt_tokens"]
    assert last.prefill_s is not None and last.prefill_s > 0
    assert last.decode_s is not None and last.decode_s > 0


def test_usage_of_an_answer_that_ends_by_itself(engine: Engine) -> None:
    prompt = "Reply with the single word: yes"
    last = ask(engine, Sampling(max_tokens=200, temperature=0), prompt)[-1]
    assert isinstance(last, Finished)
    assert last.finish_reason == "stop"
    assert last.usage.completion_tokens is not None and 0 < last.usage.completion_tokens < 200


def test_a_seed_repeats_an_answer(engine: Engine) -> None:
    first, second = (text(ask(engine, Sampling(max_tokens=16, temperature=1.0, seed=7))) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("token", [None, "guess"])
def test_nobody_else_is_served(engine: Engine, token: str | None) -> None:
    address = replace(engine.address, token=token)
    with pytest.raises(AccessError, match="401"):
        list(chat(address, request_body(address, Request.of(QUESTION)), tries=1))
    assert requests.get(f"{address.url}/models", timeout=5).status_code == 401


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"messages": []}', b'{"messages": "x"}', b'{"messages": [1]}']
)
def test_a_bad_request_is_refused_and_the_engine_lives(engine: Engine, body: bytes) -> None:
    answer = requests.post(
        f"{engine.address.url}/chat/completions",
        data=body,
        headers={"Authorization": f"Bearer {engine.address.token}"},
        timeout=5,
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert text(ask(engine, Sampling(max_tokens=1)))


def test_a_prompt_that_is_too_long_is_told_with_both_numbers(engine: Engine) -> None:
    with pytest.raises(ContextError, match=r"the prompt is 3,\d\d\d tokens, local context is 1,024"):
        ask(engine, Sampling(), "word " * 3000)


def test_a_schema_that_it_cannot_keep_to_is_the_users_mistake(engine: Engine) -> None:
    request = replace(Request.of(QUESTION), response_format=JsonSchema({"type": "integer", "multipleOf": 3}))
    with pytest.raises(UsageError, match=r"schema\.multipleOf is not possible here") as caught:
        list(local.ask(engine, request))
    assert caught.value.hint == ANY_OBJECT


def test_a_reader_who_leaves_stops_the_decoding(engine: Engine) -> None:
    stream = chat(engine.address, request_body(engine.address, Request.of(QUESTION, Sampling(temperature=0))), tries=1)
    next(stream)
    stream.close()
    begun = time.perf_counter()
    ask(engine, Sampling(max_tokens=1))
    assert time.perf_counter() - begun < 2, "the next request waited for an answer that nobody reads"


def test_it_listens_on_loopback_only_and_keeps_its_token_to_itself(engine: Engine) -> None:
    process = psutil.Process(engine.pid)
    listening = [c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]
    token = engine.address.token
    assert token and len(token) >= 32
    assert token not in " ".join(process.cmdline())
    assert token not in str(process.environ())
    assert token not in repr(engine.address)


def test_killed_in_the_middle_of_an_answer(endless_file: Path) -> None:
    with start(fit_for(endless_file)) as engine:
        stream = chat(
            engine.address, request_body(engine.address, Request.of(QUESTION, Sampling(temperature=0))), tries=1
        )
        assert isinstance(next(stream), Text)
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(NetworkError, match="broke off"):
            list(stream)
        with pytest.raises(EngineDiedError, match="signal 9"):
            raise engine.death()


def test_killed_while_it_waits_for_a_job(endless_file: Path) -> None:
    worker = Worker()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(EngineDiedError, match="signal 9"):
        start(fit_for(endless_file), worker=worker)


def test_an_illegal_instruction_means_a_build_for_another_cpu(endless_file: Path) -> None:
    worker = Worker()
    os.kill(worker.pid, signal.SIGILL)
    with pytest.raises(EngineDiedError, match="another CPU"):
        start(fit_for(endless_file), worker=worker)


def test_what_cannot_be_loaded_is_told_in_the_words_of_llama_cpp(tmp_path: Path) -> None:
    file = tmp_path / "strange.gguf"
    metadata = llama_metadata(model_shape("tiny"))
    metadata["tokenizer.ggml.model"] = "no-such-tokenizer"
    write(file, metadata, llama_tensors(model_shape("tiny")), fill=Fill.RANDOM)
    with pytest.raises(EngineError, match=r"llama\.cpp can't load under-test: .*no-such-tokenizer"):
        start(fit_for(file))


def test_nothing_of_the_working_directory_is_run(
    endless_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("llama_cpp", "hmac", "queue"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the working directory was run')")
    monkeypatch.chdir(tmp_path)
    with start(fit_for(endless_file)) as engine:
        assert text(ask(engine, Sampling(max_tokens=1)))


def test_every_sampling_default_of_the_catalogue_is_taken_by_the_engine(engine: Engine) -> None:
    known = load(paths.profiles_dir() / "models").models
    together = {name: value for model in known for name, value in (model.sampling or {}).items()}
    assert "top_k" in together
    assert set(together) <= set(OPTIONS)
    assert text(ask(engine, Sampling(max_tokens=2, extra=together)))


def test_a_base_model_continues_text(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    metadata = llama_metadata(model_shape("tiny"))
    del metadata["tokenizer.chat_template"]
    write(file, metadata, llama_tensors(model_shape("tiny")), fill=Fill.RANDOM)
    with start(fit_for(file, context=256)) as engine:
        assert not engine.has_chat_template
        last = ask(engine, Sampling(max_tokens=8, seed=1))[-1]
    assert isinstance(last, Finished)


def test_the_engine_does_not_outlive_a_parent_that_was_killed(endless_file: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys, signal; from pathlib import Path\n"
        "from tests.fakes.fits import fit_for; from llmctl.engine.llama_cpp.start import start\n"
        f"engine = start(fit_for(Path({str(endless_file)!r}))); print(engine.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, cwd=root, timeout=60, env={**os.environ, "PYTHONPATH": "."}
    )
    assert parent.returncode == -signal.SIGKILL
    pid = int(parent.stdout)
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
