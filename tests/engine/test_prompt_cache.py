"""Beginnings of prompts on disk: found by the next engine, refused when they aren't ours, gone when they are to go."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from llmctl import paths
from llmctl.endpoint.local import ask
from llmctl.engine.llama_cpp import prompt_cache
from llmctl.engine.llama_cpp.prompt_cache import PromptCache
from llmctl.engine.llama_cpp.slots import LEAST_FRESH
from llmctl.engine.llama_cpp.start import start
from llmctl.types.engine import LoadedEngine
from llmctl.types.event import Finished, Text
from llmctl.types.plan import Fit
from llmctl.types.request import Message, Request, Sampling
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import write_scripted

LIMIT = 1 << 30
LONG = "word " * 300


def asked(question: str = "why?", *, private: bool = False, limit: int = LIMIT, text: str = LONG) -> Request:
    message = Message.of("user", text + question)
    return Request((message,), sampling=Sampling(max_tokens=8), private=private, prompt_cache_bytes=limit)


def read(engine: LoadedEngine, request: Request) -> tuple[str, int, int]:
    """The answer, the tokens of its prompt, and how many of these were computed."""
    text = ""
    for event in ask(engine, request):
        if isinstance(event, Text):
            text += event.text
        elif isinstance(event, Finished):
            assert event.usage.prompt_tokens is not None and event.prefill_tokens is not None
            return text, event.usage.prompt_tokens, event.prefill_tokens
    raise AssertionError("a stream ends with Finished")


def alone(fit: Fit, request: Request) -> tuple[str, int, int]:
    """As ``read``, by an engine that ends with its answer."""
    with start(fit) as engine:
        return read(engine, request)


def files() -> list[Path]:
    return sorted(prompt_cache.place().glob("*"))


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    file = write_scripted(tmp_path / "model.gguf", ["The", " answer", "."], context=4096)
    return fit_for(file, context=4096)


def test_the_next_engine_goes_on_where_the_file_ends(fit: Fit) -> None:
    text, tokens, computed = alone(fit, asked())
    assert computed == tokens > 1400
    (file,) = files()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    for question in ("why?", "and how?"):
        again, tokens, computed = alone(fit, asked(question))
        assert again == text
        assert LEAST_FRESH <= computed <= prompt_cache.STEP_TOKENS + len(question) + LEAST_FRESH
    assert files() == [file], "what is there isn't written again"
    longer = asked(text=LONG * 2)
    assert alone(fit, longer)[2] > 1000
    assert alone(fit, longer)[2] < 300
    assert len(files()) == 2


def test_nothing_is_written_or_read_unless_it_is_asked_for(fit: Fit) -> None:
    requests = [asked(private=True), asked(limit=0), asked(text="short "), asked(limit=1000, text=LONG[1:])]
    with start(fit) as engine:
        for request in requests:
            read(engine, request)
            assert files() == []
    alone(fit, asked())
    _, tokens, computed = alone(fit, asked(private=True))
    assert computed == tokens


def test_a_file_that_was_altered_is_read_anew_and_where_no_folder_can_be_nothing_is_kept(fit: Fit) -> None:
    text, tokens, _ = alone(fit, asked())
    (file,) = files()
    altered(file)
    assert alone(fit, asked()) == (text, tokens, tokens)
    assert alone(fit, asked())[2] < 300
    prompt_cache.forget()
    prompt_cache.place().rmdir()
    prompt_cache.place().touch()
    assert alone(fit, asked()) == (text, tokens, tokens)


PROMPT = [7 * at % 1000 for at in range(3000)]


def cache_of(identity: str = "a model", *, can_cut: bool = True) -> PromptCache:
    return PromptCache(identity, can_cut=can_cut)


def kept(cache: PromptCache, prompt: list[int] = PROMPT, *, limit: int = LIMIT) -> None:
    """Lets the cache keep a beginning of ``prompt``, as llama.cpp would have written it."""
    on_disk = cache.plan(prompt, held=0)
    assert on_disk.target is not None
    tokens = prompt[: on_disk.write_at]
    head = prompt_cache.HEAD.pack(1, 2, len(tokens))
    on_disk.target.write_bytes(head + array("i", tokens).tobytes() + bytes(10_000))
    on_disk.is_written = True
    cache.finish(on_disk, limit)


def found(cache: PromptCache, prompt: list[int] = PROMPT, *, held: int = 0) -> int:
    """How many tokens of ``prompt`` are found on disk."""
    on_disk = cache.plan(prompt, held=held)
    cache.finish(on_disk, LIMIT)  # which takes away the file that nothing was written to
    return 0 if on_disk.source is None else on_disk.source.shared


@pytest.mark.parametrize(
    ("prompt", "held", "can_cut", "tokens"),
    [
        (PROMPT, 0, True, 2816),
        (PROMPT, 0, False, 2816),
        (PROMPT[:2900], 0, True, 2816),
        (PROMPT, 2500, True, 2816),
        (PROMPT, 2700, True, 0),  # hardly more than a sequence holds
        (PROMPT[:2000], 0, True, 2000 - LEAST_FRESH),
        (PROMPT[:2000], 0, False, 0),
        ([*PROMPT[:1500], *[1] * 1500], 0, True, 1500),
        ([*PROMPT[:1500], *[1] * 1500], 0, False, 0),
        ([*PROMPT[:200], *[1] * 1500], 0, True, 0),
        (PROMPT[:1000], 0, True, 0),  # short
    ],
)
def test_what_is_found(prompt: list[int], held: int, can_cut: bool, tokens: int) -> None:
    kept(cache_of(can_cut=can_cut))
    assert found(cache_of(can_cut=can_cut), prompt, held=held) == tokens
    assert len(files()) == 1


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 5000)


def altered(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def head_alone(file: Path) -> None:
    os.truncate(file, prompt_cache.HEAD.size)


def many_tokens(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:8] + b"\xff\xff\xff\x7f" + content[12:])


def signed_by_another(file: Path) -> None:
    (paths.state_dir() / "prompts.key").write_bytes(os.urandom(prompt_cache.KEY_BYTES))


def of_another_model(file: Path) -> None:
    """Sound and ours, under a name as this model's files have it."""
    kept(cache_of("another model"))
    (other,) = (made for made in files() if made != file)
    other.replace(file)


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    "spoil", [cut, altered, empty, head_alone, many_tokens, signed_by_another, of_another_model, a_pipe]
)
def test_what_is_not_ours_is_not_used(spoil: Callable[[Path], None]) -> None:
    kept(cache_of())
    (file,) = files()
    spoil(file)
    assert found(cache_of()) == 0
    kept(cache_of())
    assert found(cache_of()) == 2816


def test_a_folder_that_others_may_write_to_is_not_looked_at() -> None:
    kept(cache_of())
    prompt_cache.place().chmod(0o777)
    assert found(cache_of()) == 0


def test_what_was_used_least_recently_goes() -> None:
    prompts = [[name, *PROMPT] for name in range(3)]
    for name, prompt in enumerate(prompts[:2]):
        kept(cache_of(), prompt)
        os.utime(next(file for file in files() if file.stat().st_mtime > 1000), (name + 1, name + 1))
    assert found(cache_of(), prompts[0]) > 0, "which uses it"
    kept(cache_of(), prompts[2], limit=sum(file.stat().st_size for file in files()))
    assert [found(cache_of(), prompt) > 0 for prompt in prompts] == [True, False, True]


def test_all_of_it_is_forgotten() -> None:
    kept(cache_of())
    size = sum(file.stat().st_size for file in files())
    assert prompt_cache.forget() == size > 10_000
    assert files() == []
    assert not (paths.state_dir() / "prompts.key").exists()
    assert prompt_cache.forget() == 0
