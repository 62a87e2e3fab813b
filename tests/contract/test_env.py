"""`llmctl env` as other programs meet it: the real openai client against an engine that stays."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest
import requests

from llmctl.cli.completion import Shell
from llmctl.cli.env import lines
from llmctl.workspace import engines
from tests.contract.test_page import documented
from tests.fakes.command import document, llmctl
from tests.fakes.encoder import WIDTH, write_encoder
from tests.fakes.scripted_model import write_scripted

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionStreamOptionsParam

pytestmark = pytest.mark.usefixtures("measured")

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
AWKWARD = 'it\'s $HOME `id` \\ "x" ü'


@pytest.fixture
def model(tmp_path: Path, home: Path) -> Iterator[str]:
    yield str(write_scripted(tmp_path / "tiny.gguf", ["The", " answer"]))
    engines.stop(None)


def given(*arguments: str) -> dict[str, str]:
    """The variables that a POSIX shell has after ``eval``."""
    done = llmctl("env", *arguments)
    assert done.returncode == 0, done.stderr
    script = done.stdout + '\nprintf "%s\\n" "$OPENAI_BASE_URL" "$OPENAI_API_KEY" "$OPENAI_MODEL"'
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(zip(("base_url", "api_key", "model"), told, strict=True))


def client(access: Mapping[str, str]) -> openai.OpenAI:
    return openai.OpenAI(base_url=access["base_url"], api_key=access["api_key"], max_retries=0, timeout=60)


def test_the_openai_client_chats_streams_lists_and_is_refused(model: str) -> None:
    access = given(model)
    name = access["model"]
    with client(access) as asked:
        answer = asked.chat.completions.create(model=name, messages=HI, max_tokens=5)
        assert answer.choices[0].message.content == "The answer"
        assert answer.usage is not None and answer.usage.completion_tokens == 2
        # As OpenAI's own examples read a stream: with a choice in each chunk.
        with asked.chat.completions.create(model=name, messages=HI, stream=True) as chunks:
            read = [(chunk.choices[0].delta.content, chunk.choices[0].finish_reason) for chunk in chunks]
        assert "".join(text or "" for text, _ in read) == "The answer" and read[-1][1] == "stop"
        usage: ChatCompletionStreamOptionsParam = {"include_usage": True}
        with asked.chat.completions.create(model=name, messages=HI, stream=True, stream_options=usage) as chunks:
            *_, last = chunks
        assert last.choices == [] and last.usage is not None and last.usage.completion_tokens == 2

        (listed,) = asked.models.list().data
        assert listed == asked.models.retrieve(name)
        assert (listed.id, listed.object, listed.owned_by) == (name, "model", "llmctl")
        with pytest.raises(openai.NotFoundError):
            asked.models.retrieve("another")
        with pytest.raises(openai.BadRequestError, match=r"temperature must be a number") as refused:
            asked.chat.completions.create(model=name, messages=HI, temperature=-1)
        assert (refused.value.code, refused.value.type) == ("invalid_request", "invalid_request_error")
        with pytest.raises(openai.BadRequestError, match=r"tokens"):
            asked.chat.completions.create(model=name, messages=[{"role": "user", "content": "a b " * 5000}])
    with client({**access, "api_key": "wrong"}) as stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_the_openai_client_embeds(tmp_path: Path, home: Path) -> None:
    access = given(str(write_encoder(tmp_path / "encoder.gguf")))
    try:
        with client(access) as asked:
            made = asked.embeddings.create(model=access["model"], input=["one", "two"])
    finally:
        engines.stop(None)
    assert [len(row.embedding) for row in made.data] == [WIDTH, WIDTH]
    assert math.dist(made.data[0].embedding, made.data[1].embedding) > 0


def test_what_was_used_last_is_found_and_what_is_named_is_started(model: str) -> None:
    first = document(llmctl("env", model, "--json"))["data"]
    assert set(first) == set(documented("access"))
    assert (first["was_warm"], first["keep_alive_s"]) == (False, 1800)
    assert document(llmctl("env", "--json"))["data"] == {**first, "was_warm": True}
    named = document(llmctl("env", first["model"], "--keep-alive", "2h", "--json"))["data"]
    assert named == {**first, "was_warm": True, "keep_alive_s": 7200}
    (engine,) = engines.staying()
    assert (engine.address, engine.keep_alive_s) == (first["base_url"], 7200)
    told = llmctl("env").stderr
    assert f"stays for 2.0 h without a use (llmctl stop {engine.name} ends it)" in told
    assert first["api_key"] not in told and "OPENAI" not in told


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("env", "no-such-model"), 4, "there is no model named"),
        (("env", "--keep-alive", "0"), 2, "has no address"),
        (("env", "--shell", "tcsh"), 2, "'tcsh'"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], code: int, says: str, home: Path) -> None:
    done = llmctl(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr


def test_where_no_engine_can_stay(model: str, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    done = llmctl("env", model, XDG_RUNTIME_DIR=str(open_to_all))
    assert (done.returncode, done.stdout) == (7, "")
    assert "no engine can stay" in done.stderr


def test_an_engine_that_answers_a_program_is_in_use(tmp_path: Path, endless_file: Path, home: Path) -> None:
    """Its program holds no lock, and is not cut off by the end of the idle time."""
    access = given(str(endless_file), "--keep-alive", "1s")
    body: dict[str, object] = {"messages": HI, "stream": True, "max_tokens": 100_000, "seed": 1}
    headers = {"Authorization": f"Bearer {access['api_key']}"}
    try:
        with requests.post(
            f"{access['base_url']}/chat/completions", json=body, headers=headers, stream=True, timeout=60
        ) as answer:
            pieces = answer.iter_lines()
            until = time.monotonic() + 2  # in 3 s a quick machine fills the context, and the answer ends
            while time.monotonic() < until:
                assert next(pieces) is not None
            (engine,) = engines.staying()
            assert (engine.users, engine.ends_in_s) == (1, None)
        deadline = time.monotonic() + 30
        while engines.staying() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert engines.staying() == []
    finally:
        engines.stop(None)


@pytest.mark.parametrize(
    ("shell", "program", "show"),
    [
        (Shell.BASH, "bash", 'printf %s "$A"'),
        (Shell.ZSH, "zsh", 'printf %s "$A"'),
        (Shell.FISH, "fish", 'printf %s "$A"'),
        (Shell.POWERSHELL, "pwsh", "Write-Host -NoNewline $env:A"),
    ],
)
def test_a_shell_has_the_value_as_it_is(shell: Shell, program: str, show: str, home: Path) -> None:
    (line,) = lines({"A": AWKWARD}, shell)
    expected = {
        Shell.FISH: "set -gx A 'it\\'s $HOME `id` \\\\ \"x\" ü'",
        Shell.POWERSHELL: "$env:A = 'it''s $HOME `id` \\ \"x\" ü'",
    }
    assert line == expected.get(shell, line)
    if shutil.which(program) is None:
        return
    done = subprocess.run([program, "-c", f"{line}\n{show}"], capture_output=True, check=True, env=os.environ)
    assert done.stdout.decode() == AWKWARD
