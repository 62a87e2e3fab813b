"""Every example of docs/python.md runs, one after the other as on the page, and prints what the page shows."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.page_home import page_home

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text("utf-8")
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<shown>.*?)```", re.DOTALL)
NUMBER = re.compile(r"\d+(?=( threads\b))")  # what is another on another machine


@pytest.mark.usefixtures("measured")
def test_the_examples(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a machine that has nothing yet; the hub has a tiny model by the name of the page's."""
    (tmp_path / "m").mkdir()
    with page_home(home, tmp_path / "m") as environment:
        monkeypatch.setenv("HF_ENDPOINT", environment["HF_ENDPOINT"])
        run_all(capsys)


def run_all(capsys: pytest.CaptureFixture[str]) -> None:
    examples = list(BLOCK.finditer(PAGE))
    assert len(examples) == PAGE.count("```python") > 5
    namespace: dict[str, Any] = {"__name__": "page"}
    for example in examples:
        exec(compile(example["code"], "docs/python.md", "exec"), namespace)  # noqa: S102
        printed = capsys.readouterr().out
        same = doctest.OutputChecker().check_output(
            NUMBER.sub("N", example["shown"]), NUMBER.sub("N", printed), doctest.ELLIPSIS
        )
        assert same, f"{example['code']}\nprints\n{printed}\nthe page shows\n{example['shown']}"
