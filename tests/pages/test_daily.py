"""docs/daily.md: its table is that of the bench, and the commands in it are ones that llmctl takes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from llmctl.cli.app import app
from tests.bench.daily_jobs import JOBS, Job, table

PAGE = (Path(__file__).parents[2] / "docs" / "daily.md").read_text("utf-8")


def test_the_table_is_the_one_of_the_bench() -> None:
    assert table() in PAGE


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_llmctl_takes_the_command(job: Job) -> None:
    words = shlex.split(job.ours.partition(" < ")[0].rpartition("| ")[2])
    assert words[0] == "llmctl"
    group = get_command(app)
    with group.make_context("llmctl", words[1:], resilient_parsing=False) as context:
        command = group.get_command(context, words[1])  # type: ignore[attr-defined]
        command.make_context(words[1], words[2:], parent=context)
    with pytest.raises(typer.TyperException), group.make_context("llmctl", words[1:]) as context:
        command.make_context(words[1], [*words[2:], "--no-such-option"], parent=context)
