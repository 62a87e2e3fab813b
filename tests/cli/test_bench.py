"""What `llmctl bench` asks for, shows and draws. The engine itself runs in `tests/contract/test_first_time.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from llmctl.cli import bench
from llmctl.cli.bench.chart import BAR_WIDTH, bars
from llmctl.cli.bench.svg import picture
from llmctl.engine.worker_process import Engine, Worker
from llmctl.errors import EngineError, UsageError
from llmctl.types.endpoint import Address
from llmctl.types.event import Event, Finished, Text, Usage
from llmctl.types.request import Request
from llmctl.workspace import bench as rounds
from llmctl.workspace.bench import BenchRow, Foretold, Rates
from llmctl.workspace.benchmark import DEPTHS, affordable
from tests.fakes.command import llmctl
from tests.fakes.fits import fit_for

LAST = Finished("length", Usage(500, 32))


def row(depth: int, decode: float, *, threads: int = 2, prefill: float | None = 100.0, told: float = 10.0) -> BenchRow:
    read = None if prefill is None else Rates(prefill, prefill * 0.9, prefill * 1.1)
    foretold = Foretold(None if prefill is None else 90.0, told, told * 0.8, told * 1.2)
    return BenchRow(
        depth, threads, threads, depth + 3, read, Rates(decode, decode * 0.95, decode * 1.05), foretold, 0, LAST
    )


ROWS = [row(0, 12.0, prefill=None), row(512, 9.0), row(2048, 6.0, prefill=80.0)]


@pytest.mark.parametrize(
    ("text", "least", "expected"),
    [
        ("0", 0, [0]),
        ("512, 0,2048,512", 0, [0, 512, 2048]),
        ("1,2", 1, [1, 2]),
    ],
)
def test_lists_of_numbers(text: str, least: int, expected: list[int]) -> None:
    assert bench._numbers(text, "--depths", least=least) == expected


@pytest.mark.parametrize(("text", "least"), [("", 0), ("1,", 0), ("a", 0), ("-1", 0), ("0,2", 1), ("1e3", 0), ("²", 0)])
def test_lists_that_are_none(text: str, least: int) -> None:
    with pytest.raises(UsageError, match="--depths is"):
        bench._numbers(text, "--depths", least=least)


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--plot", "speed.png"), "must end in .svg"),
        (("--plot", "speed"), "must end in .svg"),
        (("--depths", "many"), "whole numbers from 0 on"),
        (("--threads", "0"), "whole numbers from 1 on"),
        (("--threads", "1,100000"), "this processor runs"),
    ],
)
def test_what_is_no_use(arguments: tuple[str, ...], words: str) -> None:
    done = llmctl("bench", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    ("context", "token_s", "expected"),
    [
        (512, 0.001, [0]),
        (8192, 0.001, [0, 512, 2048]),  # 8,192 have no room for an answer
        (131072, 0.0001, list(DEPTHS)),
        (131072, 0.1, [0, 512]),  # three times 512 tokens of prompt take 154 s, but one depth tells nothing
        (131072, 0.01, [0, 512, 2048]),
    ],
)
def test_depths_that_take_two_minutes(context: int, token_s: float, expected: list[int]) -> None:
    """A speed of ``token_s`` for each token of a prompt; answers cost ten of them."""
    from msgspec.structs import replace

    from llmctl.types.speed_model import SpeedModel

    fit = replace(
        fit_for(None, context=context), speed_model=SpeedModel(10 * token_s, 0.0, 0.0, token_s, 0.0, 0.0, None, 0)
    )
    assert affordable([fit], 3) == expected


def test_the_table_fits_a_terminal() -> None:
    lines = list(bench._table([*ROWS, row(32768, 123.0, prefill=1234.0, told=123.0)]))
    assert all(len(line) <= 80 for line in lines), lines
    assert len(lines) == 6


def test_bars_show_both_in_proportion() -> None:
    lines = list(bars(ROWS))
    assert all(len(line) <= 80 for line in lines)
    decode = lines[1:7]
    # The highest of all is 12 tokens a second: of what was measured, and of the range of 10.
    assert [line.count("█") for line in decode[::2]] == [BAR_WIDTH, BAR_WIDTH * 9 // 12, BAR_WIDTH // 2]
    for line in decode[1::2]:
        ends = [line.index(mark) - 9 for mark in "├●┤"]
        assert ends == [round(share / 12 * BAR_WIDTH) - 1 for share in (8, 10, 12)]
    assert len(lines) == 7 + 1 + 5, "no prefill without a prompt"


def test_bars_are_those_of_the_fastest_threads() -> None:
    lines = list(bars([row(0, 5.0, threads=1), row(0, 9.0, threads=4)]))
    assert "4 threads" in lines[0]
    assert len([line for line in lines if "█" in line[1:]]) == 4  # two titles, two bars


def test_the_picture() -> None:
    rows = [*ROWS, *(row(depth, 3.0, threads=1) for depth in (0, 512))]
    root = ElementTree.fromstring(picture("A <b> & model", rows))  # noqa: S314  # our own
    name = "{http://www.w3.org/2000/svg}"
    texts = [one.text for one in root.iter(f"{name}text")]
    assert "A <b> & model" in texts
    assert {"2,048", "1 thread", "2 threads"} <= set(texts)
    circles = list(root.iter(f"{name}circle"))
    assert len(circles) == 5 + 4  # each depth and number of threads; without a prompt there is no prefill
    for circle in circles:
        assert 0 < float(circle.get("cx") or 0) < 880 and 0 < float(circle.get("cy") or 0) < 400


def test_of_two_measurements_the_higher_is_higher() -> None:
    root = ElementTree.fromstring(picture("m", [row(0, 4.0), row(512, 8.0)]))  # noqa: S314
    low, high = list(root.iter("{http://www.w3.org/2000/svg}circle"))[:2]
    assert float(low.get("cy") or 0) > float(high.get("cy") or 0)


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    from llmctl.errors import ResourceError

    with pytest.raises(ResourceError, match="can't be written"):
        bench._write(tmp_path / "missing" / "speed.svg", fit_for(None), ROWS)


def test_a_document_has_every_row() -> None:
    from llmctl.engine.history import run_of
    from tests.engine.test_history import Started

    fit = fit_for(None)
    run = run_of(fit, Started(), LAST, 9.0, 90.0)
    data: dict[str, Any] = bench._document(fit, ROWS, run, 3)
    assert [one["depth"] for one in data["rows"]] == [0, 512, 2048]
    assert data["rows"][0]["measured"]["prefill"] is None
    assert data["rows"][1]["predicted"]["decode_low_tok_s"] == 8.0


@pytest.mark.parametrize(("answers", "depths"), [([32, 32, 32], [0, 512, 2048]), ([32, 3, 32], [0, 2048])])
def test_a_depth_where_answers_end_too_early_is_left_out(
    monkeypatch: pytest.MonkeyPatch, answers: list[int], depths: list[int]
) -> None:
    made = measured(monkeypatch, dict(zip([0, 512, 2048], answers, strict=True)))
    assert [row.depth for row in made] == depths


def test_answers_that_all_end_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="ends its answers too early"):
        measured(monkeypatch, {0: 1, 512: 3, 2048: 0})


def measured(monkeypatch: pytest.MonkeyPatch, answers: dict[int, int]) -> list[BenchRow]:
    """Rounds with an engine whose answers have so many tokens, by how deep they are asked for."""

    def ask(_: object, request: Request) -> Iterator[Event]:
        prompt = len(request.messages[0].text.split())
        deep = max((depth for depth in answers if depth <= prompt), default=0)
        length = min(answers[deep], request.sampling.max_tokens or 0)
        for _ in range(length):
            yield Text("word ")
        yield Finished("stop", Usage(prompt, length), prefill_tokens=prompt, prefill_s=0.1)

    monkeypatch.setattr(rounds, "ask", ask)
    engine = Engine(cast(Worker, None), Address("http://127.0.0.1:1/v1", "m", None), 0.1, True, "a build")
    return list(rounds.rounds(fit_for(None), engine, list(answers), 2, lambda _: None))
