"""What stands after "next:" is pasted into shells. Names in it come from hubs, sticks, folders and other tools: a shell
must hand them on as they are, and run nothing of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmctl.cli import main
from tests.fakes import other_tools
from tests.fakes.gguf_file import model_shape, write_model
from tests.fakes.hub import FakeHub

REPO = "maker/tiny-GGUF"

pytestmark = pytest.mark.usefixtures("kernels_known")

HOSTILE = ("$(touch ran)", "`touch ran`; touch ran & touch ran", "two words", "it's $HOME", "-rf", "~")


@dataclass(frozen=True)
class Scene:
    """A hub, a home and a place for files; ``model`` is a GGUF file that can be copied under any name."""

    hub: FakeHub
    home: Path
    place: Path
    model: Path


@pytest.fixture
def scene(hub: FakeHub, home: Path, tmp_path: Path) -> Scene:
    return Scene(hub, home, tmp_path, write_model(tmp_path / "m.gguf", model_shape("tiny")))


def unknown_quant(scene: Scene, name: str) -> list[str]:
    scene.hub.repos = {REPO: {f"{name}.gguf": scene.model}}
    return ["pull", f"{REPO}:Q9"]


def two_of_one_quant(scene: Scene, name: str) -> list[str]:
    scene.hub.repos = {REPO: {f"{name}/a-Q4_0.gguf": scene.model, f"{name}/b-Q4_0.gguf": scene.model}}
    return ["pull", f"{REPO}:Q4_0"]


def many_models(scene: Scene, name: str) -> list[str]:
    scene.hub.repos = {REPO: {f"{name}{letter}-Q4_0.gguf": scene.model for letter in "abcdefg"}}
    return ["plan", REPO, "--machine", "laptop-16gb"]


def two_on_a_stick(scene: Scene, name: str) -> list[str]:
    for letter in "ab":
        folder = scene.place / "stick" / letter
        folder.mkdir(parents=True)
        made = {"schema": "llmctl-model/1", "name": f"{name} {letter}", "quant": "Q4_0", "origin": "file", "place": "x"}
        files = [{"file": "m.gguf", "bytes": 1, "sha256": "0" * 64}]
        (folder / "llmctl.json").write_text(json.dumps({**made, "files": files}))
    return ["pull", "--from", str(scene.place / "stick")]


def stick_of_that_name(scene: Scene, name: str) -> list[str]:
    folder = scene.place / name
    folder.mkdir()
    return ["pull", "--from", str(folder), "--limit-rate", "1M"]


def two_in_a_folder(scene: Scene, name: str) -> list[str]:
    folder = scene.place / name
    folder.mkdir()
    for letter in "ab":
        (folder / f"{name} {letter}-Q4_0.gguf").write_bytes(scene.model.read_bytes())
    return ["pull", str(folder)]


def another_tools(scene: Scene, name: str) -> list[str]:
    other_tools.ollama(scene.home / ".ollama/models", scene.model, f"registry.ollama.ai/library/{name}/x")
    return ["models", "rm", f"{name}:x"] if not name.startswith("-") else ["models", "rm", "--", f"{name}:x"]


def nobody_said_yes(scene: Scene, name: str) -> list[str]:
    file = scene.place / f"{name}-Q4_0.gguf"
    file.write_bytes(scene.model.read_bytes())
    assert main(["pull", str(file)]) == 0
    return ["models", "rm", "--", f"{name}:Q4_0"]


def damaged(scene: Scene, name: str) -> list[str]:
    nobody_said_yes(scene, name)
    (file,) = scene.home.glob("data/llmctl/models/files/*/*.gguf")
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    return ["models", "verify"]


def carried(scene: Scene, name: str) -> list[str]:
    file = scene.place / f"{name}-Q4_0.gguf"
    file.write_bytes(scene.model.read_bytes())
    return ["pull", str(file), "--to", str(scene.place / name)]


def file_of_that_name(scene: Scene, name: str) -> list[str]:
    (scene.home / name).write_bytes(b"GGUF")
    return ["plan", "--", name]


def not_here(scene: Scene, name: str) -> list[str]:
    return ["bench", f"{REPO}:{name}"]


SCENES = (
    unknown_quant,
    two_of_one_quant,
    many_models,
    two_on_a_stick,
    stick_of_that_name,
    two_in_a_folder,
    another_tools,
    nobody_said_yes,
    damaged,
    carried,
    file_of_that_name,
    not_here,
)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("make", SCENES, ids=[one.__name__ for one in SCENES])
def test_what_is_pasted_runs_nothing_but_the_command(
    make: Callable[[Scene, str], list[str]], name: str, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    if make is file_of_that_name and name == "~":
        pytest.skip("that is the home folder, and a path")
    arguments = make(scene, name)
    capsys.readouterr()
    main(arguments)
    lines = re.findall(r"^  next: (.+)$", capsys.readouterr().err, re.MULTILINE)
    assert lines
    for line in lines:
        words = pasted(re.split(r" {3}", line)[0], scene.place)
        assert not (scene.home / "ran").exists()
        assert any(name in word for word in words)


def pasted(line: str, place: Path) -> list[str]:
    """The words that the commands of ``line`` were given; the commands themselves are others of the same name."""
    tools = place / "tools"
    tools.mkdir()
    for tool in ("llmctl", "ollama", "rm"):
        (tools / tool).write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >> "{place}/words"\n')
        (tools / tool).chmod(stat.S_IRWXU)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "HOME": "/nobody"}
    subprocess.run(["sh", "-c", line], env=environment, capture_output=True, timeout=10, check=False)
    words = place / "words"
    return words.read_text().split("\0") if words.exists() else shlex.split(line)
