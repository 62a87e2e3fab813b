"""Where things live: XDG variables win, the hub's cache is where the hub's own tools have it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmctl import paths
from tests.fakes.command import ran
from tests.fakes.preloaded import Preloaded

VARIABLES = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")


@pytest.fixture
def bare(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Only HOME is set."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return home


def test_xdg_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config", "data", "cache"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path / name))
    assert paths.config_file() == tmp_path / "config/llmctl/config.toml"
    assert paths.overlay_dir() == tmp_path / "config/llmctl/models"
    assert paths.data_dir() == tmp_path / "data/llmctl"
    assert paths.cache_dir() == tmp_path / "cache/llmctl"


@pytest.mark.skipif(sys.platform != "linux", reason="the defaults are each system's own")
@pytest.mark.parametrize("value", [None, "", "relative/path"])
def test_defaults_on_linux(value: str | None, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is to be ignored, says the XDG specification."""
    if value is not None:
        for name in VARIABLES[:3]:
            monkeypatch.setenv(name, value)
    assert paths.config_file() == bare / ".config/llmctl/config.toml"
    assert paths.data_dir() == bare / ".local/share/llmctl"
    assert paths.cache_dir() == bare / ".cache/llmctl"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "{home}/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HF_HOME": "/hf", "XDG_CACHE_HOME": "/x"}, "/hf/hub"),
        ({"HF_HOME": "~/hf"}, "{home}/hf/hub"),
        ({"HF_HUB_CACHE": "/cache", "HF_HOME": "/hf"}, "/cache"),
        ({"HF_HUB_CACHE": "~/cache"}, "{home}/cache"),
        ({"HF_HUB_CACHE": "", "HF_HOME": ""}, "{home}/.cache/huggingface/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/older", "HF_HOME": "/hf"}, "/older"),
        ({"HUGGINGFACE_HUB_CACHE": "/older", "HF_HUB_CACHE": "/cache"}, "/cache"),
        ({"HF_HOME": "$HOME/hf"}, "{home}/hf/hub"),
    ],
)
def test_hub_cache(variables: dict[str, str], expected: str, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert paths.hub_cache() == Path(expected.format(home=bare))


def test_profiles_are_found() -> None:
    assert list((paths.profiles_dir() / "models").glob("*.toml"))


COMMANDS = {
    "--help": 0,
    "--version": 0,
    "completion bash": 0,
    "models list": 10,
    "models prune": 10,
    "plan": 10,
    "pull smollm2-135m-instruct": 10,
    "run hi": 10,
    "doctor": 10,
    "endpoint list": 10,
}


NAMELESS = ["unshare", "--user", "--map-user=54321"]  # who may read what we may, and has no entry in the passwd file


def _may_be_nameless() -> bool:
    return shutil.which(NAMELESS[0]) is not None and subprocess.run([*NAMELESS, "true"], check=False).returncode == 0


@pytest.fixture(scope="module")
def nameless() -> Iterator[Preloaded]:
    if not _may_be_nameless():
        pytest.skip("no user namespace can be made here")
    with Preloaded(*NAMELESS) as made:
        yield made


@pytest.mark.parametrize(("home_variable", "why"), [(None, "HOME is not set"), ("some/where", "no absolute path")])
@pytest.mark.parametrize(("arguments", "code"), COMMANDS.items())
def test_a_user_without_a_home(
    arguments: str,
    code: int,
    home_variable: str | None,
    why: str,
    bare: Path,
    nameless: Preloaded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir("/")
    if home_variable is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home_variable)
    done = ran(arguments.split(), interpreter=nameless)
    said = done.stderr.decode()
    assert done.returncode == code, said
    assert "Traceback" not in said
    if code:
        assert "there is no home folder" in said and why in said
        assert "next: export HOME=/path" in said
    assert not Path("/~").exists()
