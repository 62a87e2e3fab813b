"""The screens of ``docs/setup.md``: the wizard's own, on a described machine, so that they are the same everywhere."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from llmctl.cli import main
from llmctl.cli.output import Output
from llmctl.cli.setup import questions
from llmctl.cli.setup.meaning import meaning
from llmctl.cli.setup.questions import Question
from llmctl.cli.setup.session import SetupSession
from llmctl.cli.table import wrapped
from llmctl.types.engine_name import BuildName
from llmctl.types.listener import SilentListener
from llmctl.types.machine import EngineInfo
from llmctl.workspace import situation
from llmctl.workspace.engine_builds import BuildOffer
from llmctl.workspace.machine import described
from llmctl.workspace.setup.steps import Stage

MACHINE = "laptop-rtx-4060"
SMALL = "raspberry-pi-5-8gb"
COLUMNS = 80
OFFER = BuildOffer(
    BuildName.CUDA,
    "GeForce RTX 4060 Laptop GPU can't be used by the engine that is installed.",
    "python -m pip install … --index-url …/whl/cu125 llama-cpp-python",
    "libcudart and libcublas of CUDA 12",
    None,
)
WHY = "the engine that is installed was built for the processor only"
ENGINE = EngineInfo("llama-cpp-python", "0.3.36", None, usable=True)
REPLIES = {Stage.LANGUAGE: "it", Stage.SERVER: "https://llm.example.internal"}


class Recording:
    """Takes each default, and keeps what stands on the screen. What would fetch, ask or send is skipped."""

    is_person = True

    def __init__(self) -> None:
        self.screens: dict[str, str] = {}

    def ask(self, question: Question, heading: str, *, again: bool) -> str:
        shown = f"[{question.default}] › " if question.default else "› "
        lines = [*questions.lines(question, COLUMNS, heading), shown.rstrip()]
        self.screens[question.step] = "\n".join(line.rstrip() for line in lines).strip("\n")
        skipped = (Stage.MODEL, Stage.TEXTS, Stage.SERVER, Stage.EXTRAS, Stage.BUILD)
        return questions.SKIP if question.step in skipped else REPLIES.get(question.step, question.default)


def screens() -> Iterator[tuple[str, str]]:
    """Each screen by its name: what a machine means, the questions by their steps, what small machines are offered."""
    with _away_from_home():
        machine = described(SilentListener(), MACHINE, ram_bytes=None, vram_bytes=None, gpu=None)
        here = situation.look(SilentListener(), machine=machine)
        cards = tuple(replace(card, usable=False, why=WHY) for card in machine.accelerators)
        unused = replace(machine, accelerators=cards)
        sentences = [wrapped(line, COLUMNS, first="  ", indent="  ") for line in meaning(unused, [ENGINE])]
        yield "the machine", "\n".join(sentences)
        asker = Recording()
        with contextlib.redirect_stderr(io.StringIO()):
            SetupSession(Output("setup"), here, asker, {}, offer=OFFER, shell="bash").go()  # noqa: S604  # its name
        yield from asker.screens.items()
        yield SMALL, _offered(SMALL)
        for question in (questions.prompt(), questions.key(), questions.policy()):
            yield question.step, "\n".join(questions.lines(question, COLUMNS, "")).strip("\n")


def _offered(machine: str) -> str:
    """What `llmctl setup --machine` says."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert main(["setup", "--machine", machine]) == 0
    return said.getvalue().strip("\n")


@contextlib.contextmanager
def _away_from_home() -> Iterator[None]:
    """No settings, no model and no language of whoever makes the page."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("LLMCTL_", "LC_", "LANG", "HF_"))]:
            patch.delenv(name)
        for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            patch.setenv(name, folder)
        patch.setenv("LANG", "it_IT.UTF-8")
        patch.chdir(folder)
        yield
