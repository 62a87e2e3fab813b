"""What becomes of tokens on their way to a person: the real engine, with tiny models that say what the test wants."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import requests

from llmctl.endpoint.local import ask
from llmctl.engine import worker_process
from llmctl.engine.llama_cpp.start import start
from llmctl.engine.worker_process import Engine, Worker
from llmctl.errors import EngineDiedError, EngineError
from llmctl.types.event import EngineNote, Finished, Reasoning, Text, ThoughtsSoFar
from llmctl.types.request import Message, Request, Sampling
from tests.fakes.command import llmctl
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import TEMPLATE, Token, byte, control, user_defined, write_scripted

ANSWER = ("The", " answer", " is", " 42", ".")
THOUGHT = ("secret", " plan")
HI = (Message.of("user", "hi"),)
OPENS = TEMPLATE.replace("<|assistant|>", "<think>\n<|assistant|>")


def answered(engine: Engine, messages: Sequence[Message] = HI, **sampling: object) -> tuple[str, str, Finished]:
    """(reasoning, text, how it ended)"""
    reasoning, text = "", ""
    for piece in ask(engine, Request(tuple(messages), sampling=Sampling(**sampling))):  # type: ignore[arg-type]
        if isinstance(piece, Finished):
            return reasoning, text, piece
        if isinstance(piece, Reasoning):
            reasoning += piece.text
        elif isinstance(piece, Text):
            text += piece.text
        elif isinstance(piece, ThoughtsSoFar):
            reasoning, text = reasoning + text, ""
    raise AssertionError("a stream ends with Finished")


def notes(engine: Engine, messages: Sequence[Message]) -> list[str]:
    return [event.text for event in ask(engine, Request(tuple(messages))) if isinstance(event, EngineNote)]


@pytest.mark.parametrize(
    ("script", "template"),
    [
        (["<think>", *THOUGHT, "</think>", "\n\n", *ANSWER], TEMPLATE),
        ([control("<think>"), *THOUGHT, control("</think>"), "\n\n", *ANSWER], TEMPLATE),
        ([user_defined("<think>"), *THOUGHT, user_defined("</think>"), "\n\n", *ANSWER], TEMPLATE),
        ([*THOUGHT, "</think>", "\n\n", *ANSWER], OPENS),
        ([*THOUGHT, control("</think>"), *ANSWER], TEMPLATE),
        ([control("<|channel>"), "thought", *THOUGHT, control("<channel|>"), *ANSWER], TEMPLATE),
        (
            [control("<|channel|>"), "analysis", control("<|message|>"), *THOUGHT, control("<|end|>"), *ANSWER],
            TEMPLATE,
        ),
        (
            [
                *(control("<|START_THINKING|>"), *THOUGHT, control("<|END_THINKING|>")),
                *(control("<|START_RESPONSE|>"), *ANSWER, control("<|END_RESPONSE|>")),
            ],
            TEMPLATE,
        ),
    ],
)
def test_thoughts_are_not_the_answer(tmp_path: Path, script: list[str | Token], template: str) -> None:
    file = write_scripted(tmp_path / "model.gguf", script, template=template)
    with start(fit_for(file)) as engine:
        reasoning, text, finished = answered(engine)
    assert (reasoning, text) == ("secret plan", "The answer is 42.")
    assert finished.finish_reason == "stop"
    assert finished.usage.completion_tokens == len(script)


@pytest.mark.parametrize(
    ("script", "template", "text"),
    [
        (["Use", " <think>", " and", " </think>", "."], TEMPLATE, "Use <think> and </think>."),
        (ANSWER, TEMPLATE.replace("<|assistant|>", "<think>\n\n</think>\n\n<|assistant|>"), "The answer is 42."),
        (["Write", " ", control("<|unknown|>"), "it"], TEMPLATE, "Write it"),
        (["Rocket", byte(0xF0), byte(0x9F), byte(0x9A), byte(0x80), " done"], TEMPLATE, "Rocket\U0001f680 done"),
        (["Rocket", byte(0xF0), byte(0x9F)], TEMPLATE, "Rocket\ufffd"),
        (["Caf", byte(0xE9), " noir"], TEMPLATE, "Caf\ufffd noir"),
        (["a" * 100, "."], TEMPLATE, "a" * 100 + "."),
    ],
)
def test_an_answer_stays_whole(tmp_path: Path, script: list[str | Token], template: str, text: str) -> None:
    file = write_scripted(tmp_path / "model.gguf", script, template=template)
    with start(fit_for(file)) as engine:
        assert answered(engine)[:2] == ("", text)


@pytest.mark.parametrize(
    ("begun", "template", "goes_on"),
    [
        ("ans", TEMPLATE, ("", "wer")),
        ("ans", TEMPLATE.replace("{% endfor %}", "</s>{% endfor %}"), ("", "wer")),
        ("ans", None, ("", "wer")),
        ("<think>pl", TEMPLATE, ("o", "answer")),
    ],
    ids=["as-it-is", "behind-its-end", "no-template", "a-thought"],
)
def test_an_answer_that_was_begun_goes_on(
    tmp_path: Path, begun: str, template: str | None, goes_on: tuple[str, str]
) -> None:
    script = [control("<think>"), *"plo", control("</think>"), *"answer"]  # letters are found again in a prompt
    file = write_scripted(tmp_path / "model.gguf", script, template=template)
    with start(fit_for(file)) as engine:
        assert answered(engine, (*HI, Message.of("assistant", begun)))[:2] == goes_on


@pytest.fixture(scope="module")
def thinking_of_42(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    script: list[str | Token] = [control("<think>"), "42", control("</think>"), "The", *ANSWER[1:]]
    with start(fit_for(write_scripted(tmp_path_factory.mktemp("42") / "model.gguf", script))) as engine:
        yield engine


@pytest.mark.parametrize(
    ("stop", "text"), [(["42"], "The answer is "), (["is 4"], "The answer "), (["nowhere"], "The answer is 42.")]
)
def test_texts_to_stop_at(thinking_of_42: Engine, stop: list[str], text: str) -> None:
    reasoning, said, finished = answered(thinking_of_42, extra={"stop": stop})
    assert (reasoning, said, finished.finish_reason) == ("42", text, "stop")


def test_usage_is_right_when_the_cache_holds_the_beginning(tmp_path: Path) -> None:
    file = write_scripted(tmp_path / "model.gguf", ANSWER)
    longer = (*HI, Message.of("assistant", "Hello"), Message.of("user", "and now"))
    with start(fit_for(file)) as engine:
        once = [answered(engine, messages)[2] for messages in (HI, longer)]
        assert once[0].prefill_tokens == once[0].usage.prompt_tokens
        assert answered(engine, longer, max_tokens=1)[2].usage.completion_tokens == 1
        for messages, first in ((HI, once[0]), (HI, once[0]), (longer, once[1]), (longer, once[1])):
            _, text, finished = answered(engine, messages)
            assert text == "The answer is 42."
            assert finished.usage == first.usage
            assert finished.prefill_tokens is None or finished.prefill_tokens <= (first.usage.prompt_tokens or 0)
    assert once[0].usage.completion_tokens == len(ANSWER)


@pytest.fixture(scope="module")
def repeating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    file = write_scripted(tmp_path_factory.mktemp("repeating") / "model.gguf", ["again", " and"], repeats=True)
    with start(fit_for(file, context=2048)) as engine:
        yield engine


@pytest.mark.parametrize(
    ("limit", "finish", "tokens"), [(None, "repetition", 512), (600, "length", 600), (7, "length", 7)]
)
def test_an_answer_that_repeats_itself_for_ever(repeating: Engine, limit: int | None, finish: str, tokens: int) -> None:
    _, _, finished = answered(repeating, max_tokens=limit)
    assert (finished.finish_reason, finished.usage.completion_tokens) == (finish, tokens)


def test_a_template_that_is_broken_or_refuses_the_system_is_mended_and_that_is_said(tmp_path: Path) -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    messages = (Message.of("system", "be brief"), *HI)
    with start(fit_for(write_scripted(tmp_path / "refuses.gguf", ANSWER, template=refuses))) as engine:
        assert answered(engine, messages)[1] == "The answer is 42."
        assert "takes no system message" in notes(engine, messages)[0]
        assert notes(engine, HI) == []
    broken = write_scripted(tmp_path / "broken.gguf", ANSWER, template="{{- if .System }}{{ .System }}{{ end }}")
    with start(fit_for(broken)) as engine:
        assert "can't be used (unexpected '.')" in notes(engine, messages)[0]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 'x'.center(2000000000) }}" + TEMPLATE, "the model's chat template needs more than 256 MB of memory"),
        ("{{ raise_exception('roles must alternate') }}", "the model's chat template refused: roles must alternate"),
    ],
)
def test_a_template_that_takes_too_much_is_an_error_in_time(tmp_path: Path, template: str, words: str) -> None:
    with start(fit_for(write_scripted(tmp_path / "model.gguf", ANSWER, template=template))) as engine:
        begun = time.monotonic()
        with pytest.raises(EngineError) as error:
            answered(engine)
        assert time.monotonic() - begun < 20
        assert error.value.message == words
        assert psutil.Process(engine.pid).memory_info().rss < 500 << 20


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"messages": [{"role": "user", "content": "x"}], "tools": [{}]}', b'{"messages": "x"}', b""],
)
def test_a_request_that_is_refused_keeps_the_connection(thinking_of_42: Engine, body: bytes) -> None:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {thinking_of_42.address.token}"
        for _ in range(2):
            answer = session.post(f"{thinking_of_42.address.url}/chat/completions", data=body, timeout=10)
            assert answer.status_code == 400
            assert answer.json()["error"]["message"]
    assert answered(thinking_of_42)[1] == "The answer is 42."


def gone(pid: int, within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is stopped has less time to go on."""
    monkeypatch.setattr(worker_process, "LOOK_S", 0.1)
    monkeypatch.setattr(worker_process, "STALL_S", 0.5)


@pytest.mark.usefixtures("impatient")
def test_a_process_that_is_stopped_is_noticed_while_it_loads(tmp_path: Path) -> None:
    worker = Worker()
    os.kill(worker.pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(EngineDiedError, match=r"it was stopped \(SIGSTOP\) and did not go on"):
        start(fit_for(write_scripted(tmp_path / "model.gguf", ANSWER)), worker=worker)
    assert time.monotonic() - begun < 30


@pytest.mark.usefixtures("impatient")
def test_a_process_that_is_stopped_is_noticed_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    file = write_scripted(tmp_path / "model.gguf", ["again", " and"], repeats=True, context=100_000)
    with start(fit_for(file, context=100_000)) as engine:
        pieces = ask(engine, Request.of("hi", Sampling(max_tokens=99_000)))
        next(pieces)
        os.kill(engine.pid, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(EngineDiedError, match=r"it was stopped \(SIGSTOP\) and did not go on"):
            list(pieces)
        assert time.monotonic() - begun < 30


def test_a_process_that_goes_on_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "LOOK_S", 0.1)
    with start(fit_for(write_scripted(tmp_path / "model.gguf", ANSWER))) as engine:
        os.kill(engine.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(engine.pid, signal.SIGCONT)
        assert answered(engine)[1] == "The answer is 42."


PARENT = """
import os, signal, sys
from pathlib import Path
from llmctl.engine.llama_cpp.start import start
from llmctl.endpoint.local import ask
from llmctl.types.request import Request
from tests.fakes.fits import fit_for
engine = start(fit_for(Path(sys.argv[1])))
print(engine.pid, flush=True)
sys.stdin.readline()
list(ask(engine, Request.of("hi")))
sys.stdin.read()
"""


@pytest.mark.parametrize("template", [TEMPLATE, "{{ 9**(9**9) }}" + TEMPLATE])
def test_nothing_outlives_a_parent_that_was_killed_even_if_it_is_stopped(tmp_path: Path, template: str) -> None:
    file = write_scripted(tmp_path / "model.gguf", ANSWER, template=template)
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    with parent:
        assert parent.stdin is not None and parent.stdout is not None
        worker = int(parent.stdout.readline())
        renderers = [child.pid for child in psutil.Process(worker).children()]
        assert renderers
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        time.sleep(0.5)
        os.kill(worker, signal.SIGSTOP)
        parent.kill()
        assert all(gone(pid) for pid in (worker, *renderers))


def test_the_engine_gets_what_it_needs_of_the_environment_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("HF_TOKEN", "OFFICE", "OPENAI_API_KEY", "HTTPS_PROXY", "NVIDIA_API_KEY", "AWS_SECRET_ACCESS_KEY")
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with start(fit_for(write_scripted(tmp_path / "model.gguf", ANSWER))) as engine:
        process = psutil.Process(engine.pid)
        for one in (process, *process.children()):
            assert "secret" not in one.environ().values()
            assert one.environ()["OMP_NUM_THREADS"] == "2"


def test_what_the_command_says(tmp_path: Path) -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    file = write_scripted(tmp_path / "model.gguf", [control("<think>"), *THOUGHT, control("</think>"), *ANSWER])
    broken = write_scripted(tmp_path / "refuses.gguf", ANSWER, template=refuses)
    endless = write_scripted(tmp_path / "endless.gguf", ["again", " and"], repeats=True)
    for words, text, said in (
        (["-m", str(file)], "The answer is 42.\n", "tok/s"),
        (["-s", "be brief", "-m", str(broken)], "The answer is 42.\n", "takes no system message"),
        (["-m", str(endless)], None, "repeat itself for ever"),
    ):
        done = llmctl("run", "--local", *words, "hi")
        assert done.returncode == 0
        assert text is None or done.stdout == text
        assert said in done.stderr
    done = llmctl("run", "--local", "--json", "-s", "be brief", "-m", str(broken), "hi")
    assert "takes no system message" in json.loads(done.stdout)["warnings"][0]
