"""Which token is sent: the one that the hub's own tools would send, from the same places."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from llmctl.hub.token import token

HUB = "https://huggingface.co"
THEIRS = """
import importlib, json, os, sys
from huggingface_hub import constants
from huggingface_hub.utils import build_hf_headers
for variables in json.loads(sys.argv[1]):
    os.environ.update(variables)
    importlib.reload(constants)  # the settings are read when it is imported
    print(json.dumps(build_hf_headers().get("authorization")))
    for name in variables:
        del os.environ[name]
"""

SETTINGS: dict[str, tuple[dict[str, str], str | None]] = {
    "none": ({}, None),
    "the variable": ({"HF_TOKEN": "hf_a"}, "hf_a"),
    "its older name": ({"HUGGING_FACE_HUB_TOKEN": "hf_b"}, "hf_b"),
    "both": ({"HF_TOKEN": "hf_a", "HUGGING_FACE_HUB_TOKEN": "hf_b"}, "hf_a"),
    "an empty one": ({"HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": "hf_b"}, "hf_b"),
    "blanks and line ends": ({"HF_TOKEN": " \thf_a\r\n "}, "hf_a"),
    "a line end within": ({"HF_TOKEN": "hf_\na"}, "hf_a"),
    "the file": ({"HF_TOKEN_PATH": "{home}/token"}, "hf_file"),
    "before the file": ({"HF_TOKEN_PATH": "{home}/token", "HUGGING_FACE_HUB_TOKEN": "hf_b"}, "hf_b"),
    "kept back": ({"HF_TOKEN": "hf_a", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, None),
    "kept back in words": ({"HF_TOKEN": "hf_a", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "yes"}, None),
    "the file kept back": ({"HF_TOKEN_PATH": "{home}/token", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "TRUE"}, None),
    "not kept back": ({"HF_TOKEN": "hf_a", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0"}, "hf_a"),
}


def in_place(variables: Mapping[str, str], folder: Path) -> dict[str, str]:
    return {name: value.format(home=folder) for name, value in variables.items()}


def with_token(folder: Path) -> Path:
    (folder / "token").write_text("hf_file\n")
    return folder


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What the hub's own library sends with each of the settings."""
    pytest.importorskip("huggingface_hub")
    folder = with_token(tmp_path_factory.mktemp("hub"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "XDG_"))}
    rows = json.dumps([in_place(variables, folder) for variables, _ in SETTINGS.values()])
    argv = [sys.executable, "-c", THEIRS, rows]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=True, env={**clean, "HOME": str(folder)}
    )
    return dict(zip(SETTINGS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", SETTINGS)
def test_as_the_hubs_own_library(
    name: str, theirs: Mapping[str, str | None], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, wanted = SETTINGS[name]
    for variable, value in in_place(variables, with_token(home)).items():
        monkeypatch.setenv(variable, value)
    ours = token(HUB)
    assert (ours.text if ours else None) == wanted
    assert theirs[name] == (f"Bearer {wanted}" if wanted else None)


@pytest.mark.parametrize("text", ['"hf_a"', "'hf_a'", ' "hf_a"\n', '" hf_a "'])
def test_quotes_around_it_are_no_part_of_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", text)
    found = token(HUB)
    assert found is not None and found.text == "hf_a"
