"""Which token is sent: the one that the hub's own tools would send, from the same places."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmctl.hub.token import token

HUB = "https://huggingface.co"
THEIRS = "import json, huggingface_hub.utils as u; print(json.dumps(u.build_hf_headers().get('authorization')))"

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


def prepare(variables: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "token").write_text("hf_file\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=home))


@pytest.mark.parametrize(("variables", "wanted"), SETTINGS.values(), ids=SETTINGS.keys())
def test_as_the_hubs_own_library(
    variables: dict[str, str], wanted: str | None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    prepare(variables, home, monkeypatch)
    found = token(HUB)
    assert (found.text if found else None) == wanted
    done = subprocess.run([sys.executable, "-c", THEIRS], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == (f"Bearer {wanted}" if wanted else None)


@pytest.mark.parametrize("text", ['"hf_a"', "'hf_a'", ' "hf_a"\n', '" hf_a "'])
def test_quotes_around_it_are_no_part_of_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", text)
    found = token(HUB)
    assert found is not None and found.text == "hf_a"
