"""Which architectures the installed engine can load: it is asked, and what it said is kept for its build."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from llmctl import catalogue, paths
from llmctl.child import Reply
from llmctl.engine.devices import architectures
from llmctl.engine.devices.architectures import loadable
from llmctl.host import Host

LOADED = ("llama", "glm4", "chatglm", "qwen", "qwen2", "bert", "nomic-bert", "gpt-oss", "t5")
REFUSED = (
    *("oss", "e", "gptj", "no-such-architecture", "(unknown)", "", "LLAMA", "general", "llama\n"),
    *("moe", "2", "3n", "-oss", "lama", "bert-v3"),  # tails of names that it knows
)


def test_what_the_engine_loads_and_refuses() -> None:
    assert loadable(Host(), [*LOADED, *REFUSED]) == frozenset(LOADED)


def test_the_installed_engine_loads_all_of_the_catalogue() -> None:
    names = {model.shape.architecture for model in catalogue.load(paths.profiles_dir() / "models").models}
    begin = time.perf_counter()
    assert loadable(Host(), names) == frozenset(names)
    assert time.perf_counter() - begin < 5  # 0.4 s on the reference machine


def test_it_is_asked_once_for_a_name_and_for_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loadable(Host(), ["llama", "oss"], also=["glm4"]) == frozenset({"llama"})
    monkeypatch.setattr(Host, "ask", lambda *_, **__: pytest.fail("asked again"))
    assert loadable(Host(), ["glm4", "oss"]) == frozenset({"glm4"})
    assert loadable(Host(), [], also=["new"]) == frozenset()
    with pytest.raises(pytest.fail.Exception):
        loadable(Host(), ["llama", "new"])


@pytest.mark.parametrize("data", [None, [], {}, {"llama": "yes"}, {"gemma": True}])
def test_without_an_answer_nothing_is_known(data: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "ask", lambda *_, **__: Reply(data, "crashed"))
    assert loadable(Host(), ["llama"]) is None
    monkeypatch.undo()
    assert loadable(Host(), ["llama"]) == frozenset({"llama"})


def test_without_an_engine_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    assert loadable(Host(), ["llama"]) is None
    monkeypatch.setattr("llmctl.engine.devices.libraries", lambda: None)
    assert loadable(Host(), ["llama"]) is None


def test_another_build_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loadable(Host(), ["llama"]) == frozenset({"llama"})
    (tmp_path / "libllama.so").write_bytes(b"another build")
    monkeypatch.setattr("llmctl.engine.devices.libraries", lambda: tmp_path)
    monkeypatch.setattr(Host, "ask", lambda *_, **__: Reply({"llama": False}))
    assert loadable(Host(), ["llama"]) == frozenset()
    assert architectures.SUBJECT == "architectures"
