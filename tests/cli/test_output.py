"""The one sink: plain JSON of everything that flows, the envelope, what goes where, and when there is colour."""

from __future__ import annotations

import io
import json
import math
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from llmctl.cli.output import PIPE_WIDTH, Output, colour, envelope, jsonable
from llmctl.errors import NetworkError, PolicyError
from llmctl.types.answer import Answer, Executed, LeftMachine, Predicted, Timings
from llmctl.types.endpoint import Endpoint, LeaveReason, Local, Remote, Side
from llmctl.types.event import Usage
from llmctl.types.header import Header, Tensor
from llmctl.types.kernels import Kernels, MatrixRate
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Disk, EngineDevice, EngineInfo, Machine, Memory
from llmctl.types.model import Evidence, Openness
from llmctl.types.plan import Basis, NoFit, Plan, Rejected, RejectionCode
from llmctl.types.policy import Policy
from tests.fakes.fits import fit_for


@pytest.fixture(autouse=True)
def start() -> None:
    """As main() does: what the process has been warned of so far is forgotten."""
    Output("").warnings.clear()


FIT = fit_for(Path("/models/a.gguf"))
ENDPOINT = Endpoint("office", "https://x/v1", "m")
EVERYTHING: list[Any] = [
    Answer(
        "text",
        None,
        Executed(Side.REMOTE, "office", "m", None, "why", LeaveReason.PINNED),
        Usage(1, None),
        Timings(None, 0.5, None, 16.2, 3.0),
        Predicted(16.0, 1 << 32, Basis.CALIBRATED),
        LeftMachine("x", 200, True),
        "stop",
    ),
    Local(FIT, "it fits", ENDPOINT),
    Remote(ENDPOINT, LeaveReason.PINNED, "why", FIT),
    Plan(FIT, (FIT,), (Rejected("m", "Q4", RejectionCode.MEMORY, "too big", 5),), {"best": FIT}),
    NoFit("why", (), None),
    Header(3, "llama", {"a": 1, "b": (1, 2)}, {"tokens": 5}, (Tensor("t", (1, 2), "F16", 0, 4),), 64),
    Machine(
        Memory(1, 1),
        Cpu("cpu", "x86_64", 2, 2, 2, ("AVX2",)),
        (Accelerator("0", "GPU", "v", AcceleratorKind.DISCRETE, 8, None),),
        Disk("/", 1),
        kernels=Kernels((MatrixRate("Q4_K", True, 2, 1e9, 1e9),)),
    ),
    EngineInfo("e", "1", None, devices=(EngineDevice("CPU", "d", "cpu", "cpu", 1, 1),)),
    Evidence("b", 0.5, "https://source"),
    Openness("e", "m", "same_release", "https://source", {"weights": "open"}),
]


def same(made: Any, original: Any) -> None:
    """``made`` came back from JSON and says all that ``original`` does, under the same names."""
    if isinstance(original, Struct):
        assert list(made) == list(original.__struct_fields__)
        for name, value in made.items():
            same(value, getattr(original, name))
    elif isinstance(original, dict):
        assert list(made) == [str(key) for key in original]
        for (_, value), inner in zip(made.items(), original.values(), strict=True):
            same(value, inner)
    elif isinstance(original, tuple | list):
        assert len(made) == len(original)
        for value, inner in zip(made, original, strict=True):
            same(value, inner)
    else:
        assert made == (str(original) if isinstance(original, PurePosixPath | StrEnum) else original)
        assert type(made) in (str, int, float, bool, type(None))


@pytest.mark.parametrize("value", EVERYTHING, ids=lambda value: type(value).__name__)
def test_everything_that_flows_survives_json(value: Any) -> None:
    same(json.loads(json.dumps(jsonable(value), allow_nan=False)), value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Policy.LOCAL_ONLY, "local-only"),
        (Path("/a b"), "/a b"),
        ({Side.LOCAL: (1, 2), Path("/x"): None}, {"local": [1, 2], "/x": None}),
        ({"b", "a", "c"}, ["a", "b", "c"]),
        (frozenset({3, 1}), [1, 3]),
        ([math.nan, math.inf, -math.inf, 1.5], [None, None, None, 1.5]),
        (True, True),
        (98_362_432, 98_362_432),
        ("naïve\n", "naïve\n"),
    ],
)
def test_jsonable(value: object, expected: object) -> None:
    made = jsonable(value)
    assert made == expected
    assert type(made) is type(expected)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_plain_json_is_left_as_it_is(value: object) -> None:
    assert json.loads(json.dumps(jsonable(value))) == value


def test_envelope() -> None:
    assert envelope("run", {"a": (1,)}, ["careful"]) == {
        "schema": "llmctl/1",
        "command": "run",
        "data": {"a": [1]},
        "warnings": ["careful"],
        "error": None,
    }
    assert envelope("run", None, [], PolicyError("no", hint="--local"))["error"] == {
        "code": "policy",
        "message": "no",
        "hint": "--local",
    }


Captured = pytest.CaptureFixture[str]


def speak(out: Output) -> None:
    out.note("a note")
    out.warn("careful")
    out.thought("hm")
    out.text("a line")
    out.piece("a piece")
    out.data({"x": 1})


def test_words_for_a_person(capsys: Captured) -> None:
    speak(Output("run"))
    captured = capsys.readouterr()
    assert captured.out == "a line\na piece"
    assert captured.err == "a note\nwarning: careful\n"


def test_quiet_keeps_answers_and_warnings(capsys: Captured) -> None:
    speak(Output("run", quiet=True))
    captured = capsys.readouterr()
    assert captured.out == "a line\na piece"
    assert captured.err == "warning: careful\n"


@pytest.mark.parametrize("quiet", [True, False])
def test_one_document_and_nothing_else(quiet: bool, capsys: Captured) -> None:
    speak(Output("run", as_json=True, quiet=quiet))
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert json.loads(captured.out) == envelope("run", {"x": 1}, ["careful"])
    assert captured.err == ""


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("quiet", [True, False])
def test_that_a_prompt_leaves_is_always_said(as_json: bool, quiet: bool, capsys: Captured) -> None:
    Output("run", as_json=as_json, quiet=quiet).must_say("→ office")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "→ office\n")


def test_errors_in_words(capsys: Captured) -> None:
    Output("run").failed(NetworkError("no route", hint="try again"))
    Output("run", quiet=True).failed(NetworkError("no hint"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: no route\n  next: try again\nerror: no hint\n"


def test_errors_in_json(capsys: Captured) -> None:
    out = Output("run", as_json=True)
    out.warn("careful")
    out.failed(NetworkError("no route", hint="try again"), {"text": "so far"})
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == {
        "schema": "llmctl/1",
        "command": "run",
        "data": {"text": "so far"},
        "warnings": ["careful"],
        "error": {"code": "network", "message": "no route", "hint": "try again"},
    }


def test_an_error_has_the_warnings_that_came_before_it(capsys: Captured) -> None:
    """main() tells of an error by the Output that the command made last."""
    Output("run", as_json=True).warn("careful")
    Output.latest.failed(NetworkError("no route"))
    assert json.loads(capsys.readouterr().out)["warnings"] == ["careful"]


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": ""}, False),
        (True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        (False, {"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        (False, {"TERM": "dumb"}, False),
    ],
)
def test_colour(terminal: bool, environment: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = Stream(terminal)
    assert colour(stream) is expected
    monkeypatch.setattr("sys.stdout", stream)
    Output("plan").console().print("ok", style="red")
    assert ("\x1b[31m" in stream.getvalue()) is expected


@pytest.mark.parametrize(
    ("stdin", "stderr", "as_json", "expected"),
    [(True, True, False, True), (False, True, False, False), (True, False, False, False), (True, True, True, False)],
)
def test_questions_need_a_person(
    stdin: bool, stderr: bool, as_json: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Stream(stdin))
    monkeypatch.setattr("sys.stderr", Stream(stderr))
    assert Output("run", as_json=as_json).interactive is expected


@pytest.mark.parametrize(
    ("columns", "width"), [(None, PIPE_WIDTH), ("60", 60), ("", PIPE_WIDTH), ("wide", PIPE_WIDTH), ("0", PIPE_WIDTH)]
)
def test_piped_lines_are_not_broken(columns: str | None, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    stream = Stream(False)
    monkeypatch.setattr("sys.stdout", stream)
    console = Output("plan").console()
    assert console.width == width
    console.print("word " * 40)
    assert stream.getvalue().count("\n") == -(-200 // width)


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_of_the_story(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken between words on a terminal, as they are in a pipe; the command to paste is never broken."""
    monkeypatch.setenv("COLUMNS", "40")
    stream = Stream(terminal)
    monkeypatch.setattr("sys.stderr", stream)
    text, command = "  " + "word " * 15 + "end", "llmctl " + "x" * 50 + " --model y"
    out = Output("run")
    out.note(text)
    out.failed(NetworkError("no route", hint=command))
    noted, _, told = stream.getvalue().partition("error: ")
    assert (noted.count("\n") > 1) is terminal
    assert noted.split() == text.split()
    assert all(line.startswith("  ") for line in noted.splitlines())
    assert told == f"no route\n  next: {command}\n"


def test_brackets_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names from files and servers are never taken for markup or emoji."""
    stream = Stream(False)
    monkeypatch.setattr("sys.stdout", stream)
    Output("plan").console().print("[red]x[/red] :smile: 1234")
    assert stream.getvalue() == "[red]x[/red] :smile: 1234\n"


def test_ctrl_c_with_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    Output("run", as_json=True).interrupted()
    document = json.loads(capsys.readouterr().out)
    assert document["error"] == {"code": "interrupted", "message": "stopped by Ctrl-C", "hint": None}
    told = Output("run", as_json=True)
    told.data({"text": "half an answer"})
    told.interrupted()
    assert len(capsys.readouterr().out.splitlines()) == 1
    Output("run").interrupted()
    assert capsys.readouterr().out == ""
