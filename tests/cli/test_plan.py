"""``llmctl plan`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from llmctl import catalogue, paths, units
from llmctl.cli import main
from llmctl.cli.output import Output
from llmctl.cli.plan.screen import BAR_WIDTH, WIDTH
from llmctl.types.plan import Allocation
from llmctl.workspace import plan, situation
from tests.fakes import gguf_file
from tests.fakes.gguf_file import Fill

pytestmark = pytest.mark.usefixtures("engine_known")

GIB = 1 << 30


@pytest.fixture
def laptop(tmp_path: Path) -> str:
    return machine(tmp_path, 16, bandwidth_bytes_per_s=51.2e9)


def machine(folder: Path, gib: float, **memory: float) -> str:
    file = folder / f"machine-{gib}.json"
    size = round(gib * GIB)
    cpu = {"name": "a laptop", "arch": "x86_64", "physical_cores": 8, "features": ["AVX2"]}
    file.write_text(json.dumps({"memory": {"total_bytes": size, **memory}, "cpu": cpu}))
    return str(file)


def document(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    assert main(["plan", *argv, "--json"]) == code
    told = capsys.readouterr()
    assert told.err == ""
    envelope: dict[str, Any] = json.loads(told.out)
    assert (envelope["schema"], envelope["command"]) == ("llmctl/1", "plan")
    return envelope


def screen(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert main(["plan", *argv]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_whole_catalogue(capsys: pytest.CaptureFixture[str], laptop: str) -> None:
    data = document(capsys, "--machine", laptop)["data"]
    assert set(data) == {
        "task",
        "choice",
        "picks",
        "alternatives",
        "rejected",
        "no_fit",
        "changes",
        "present",
        "drafts",
        "capacity",
        "browser",
    }
    assert data["no_fit"] is None and data["present"] is None
    assert data["picks"]["best"] == {"model": data["choice"]["model"], "quant": data["choice"]["quant"]}
    known = catalogue.load(paths.profiles_dir() / "models").models
    files = sum(len(model.artifacts) for model in known)
    assert 1 + len(data["alternatives"]) + len(data["rejected"]) == files
    assert set(data["rejected"][0]) == {"model", "name", "quant", "code", "reason", "short_by_bytes"}
    available = data["choice"]["memory"]["by_device"][0]["available_bytes"]
    assert available == 16 * GIB


def test_the_screen_says_what_why_and_what_next(capsys: pytest.CaptureFixture[str], laptop: str) -> None:
    lines = screen(capsys, "--machine", laptop)
    text = "\n".join(lines)
    assert lines[0] == "For chat on machine-16.json, 8,192 tokens of context, 17.2 GB of memory free:"
    assert "its quality of " in text and "published results" in text
    assert "▸ best" in text and " tok/s (" in text
    assert "Not picked:" in text and "floor 8" in text
    assert "Open: weights" in text and "licence" in text
    assert "modelled from the memory's 51.2 GB/s" in text
    assert lines[-2].startswith(" llmctl models show ") and lines[-1].startswith(" llmctl run -m ")
    assert "\x1b" not in text


@pytest.mark.parametrize("argv", [(), ("--all",), ("--task", "code"), ("qwen3.5-9b",), ("--limit", "20")])
def test_it_reads_at_80_columns(capsys: pytest.CaptureFixture[str], laptop: str, argv: tuple[str, ...]) -> None:
    lines = screen(capsys, *argv, "--machine", laptop)
    assert max(map(len, lines)) <= WIDTH == 80


def test_one_model_shows_every_quant_and_its_memory(capsys: pytest.CaptureFixture[str], laptop: str) -> None:
    text = "\n".join(screen(capsys, "qwen3.5-2b", "--machine", laptop))
    assert all(quant in text for quant in ("Q8_0", "UD-Q4_K_XL", "Q4_K_M"))
    assert "KV cache" in text and "repacked" in text
    assert "llmctl run -m qwen3.5-2b:" in text


@pytest.mark.parametrize("name", ["desktop-rtx-3060", "strix-halo-128gb", "macbook-air-m2-16gb", "laptop-16gb"])
@pytest.mark.parametrize("model", ["qwen3.5-9b", "gpt-oss-20b"])
def test_a_bar_for_each_device(capsys: pytest.CaptureFixture[str], name: str, model: str) -> None:
    lines = screen(capsys, model, "--machine", name)
    assert max(map(len, lines)) <= WIDTH
    bars = [line for line in lines if "█" in line and "legend" not in line and " of " in line]
    rows = document(capsys, model, "--machine", name)["data"]["choice"]["memory"]["by_device"]
    assert len(bars) == len(rows) == (1 if name == "laptop-16gb" else 2)
    for bar, row in zip(bars, rows, strict=True):
        drawn = bar.split()[1]
        assert len(drawn) == BAR_WIDTH and drawn == "".join(sorted(drawn, key="█▓▒░·-".index))
        share = sum(drawn.count(mark) for mark in "█▓▒░") / BAR_WIDTH
        assert share == pytest.approx(row["total_bytes"] / row["available_bytes"], abs=4 / BAR_WIDTH)
        assert drawn.endswith("--")  # the margin
    text = " ".join(" ".join(lines).split())
    assert "█ weights ▓ repacked ▒ KV cache, state ░ compute · free - kept free" in text
    assert "must fit" in text and "which the system can drop and read again. By formulas" in text


def test_what_was_asked_for_and_does_not_fit_tells_the_gap(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small = machine(tmp_path, 7)
    wish = ("qwen3.5-9b:UD-Q4_K_XL", "--machine", small, "--context", "131072", "--kv-type", "f16")
    envelope = document(capsys, *wish, code=3)
    nearest = envelope["data"]["no_fit"]["nearest"]
    assert nearest["short_by_bytes"] > 0 and "short" in envelope["error"]["message"]
    roomier = machine(tmp_path, 7 + nearest["short_by_bytes"] * 1.06 / GIB)  # a twentieth of it has to stay free
    assert (
        document(capsys, *(roomier if word == small else word for word in wish))["data"]["choice"]["kv_type"] == "f16"
    )


def test_the_shortest_gap_of_a_file_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of the settings that are no wish, the ones that are the least short; what is wished for is never shorter."""
    file = gguf_file.write_model(tmp_path / "own.gguf", gguf_file.model_shape("smollm2-360m"), fill=Fill.NOTHING)
    wish = (str(file), "--context", "8192", "--no-repack", "--machine", machine(tmp_path, 0.75))

    def gap(*more: str) -> int:
        nearest = document(capsys, *wish, *more, code=3)["data"]["no_fit"]["nearest"]
        assert nearest["model"] == "own"
        return int(nearest["short_by_bytes"])

    shortest = gap()
    assert 0 < shortest == gap("--kv-type", "q8_0") < gap("--kv-type", "f16")
    assert main(["plan", *wish]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{units.size(shortest)} short" in told.err


@pytest.mark.usefixtures("kernels_known")
def test_where_the_engine_and_the_formulas_are_apart_the_document_says_so(
    capsys: pytest.CaptureFixture[str], starter_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is made to say that it computes in as much as the formulas say, or in four times that."""
    for mib, apart in ((98, False), (400, True)):
        told = Allocation(90 << 20, 0, 0, {"CPU": mib << 20})
        monkeypatch.setattr(plan, "dry_run", lambda *_, told=told: (told, None))
        memory = document(capsys, str(starter_file), "--context", "4096")["data"]["choice"]["memory"]
        assert memory["basis"] == "engine"
        off = abs(memory["analytic_must_fit_bytes"] / memory["must_fit_bytes"] - 1)
        assert (off > 0.05) == apart
        assert memory["disagreement"] == (pytest.approx(off, abs=0.001) if apart else None)


def test_all_tells_the_reason_of_every_file(capsys: pytest.CaptureFixture[str], laptop: str) -> None:
    rejected = document(capsys, "--machine", laptop)["data"]["rejected"]
    few = "\n".join(screen(capsys, "--machine", laptop)).count("Not picked:")
    everything = "\n".join(screen(capsys, "--machine", laptop, "--all")).count("Not picked:")
    assert everything == len(rejected) > few == 3


def test_limit_bounds_both_lists(capsys: pytest.CaptureFixture[str], laptop: str) -> None:
    data = document(capsys, "--machine", laptop, "--limit", "2")["data"]
    assert (len(data["alternatives"]), len(data["rejected"])) == (2, 2)
    data = document(capsys, "--machine", laptop, "--limit", "0")["data"]
    assert (data["alternatives"], data["rejected"]) == ([], [])


@pytest.mark.parametrize(
    ("argv", "check"),
    [
        (("--task", "summarise"), lambda choice: "floor 5" in choice["reasons"][0]),
        (("--min-tok-s", "25"), lambda choice: choice["speed"]["decode_tok_s"] >= 25),
        (("--context", "4096"), lambda choice: choice["context"] == 4096),
        (("--max-download", "1GB"), lambda choice: choice["source"]["bytes"] <= 1_000_000_000),
        (("--threads", "3"), lambda choice: choice["threads"] == 3),
        (("--kv-type", "q8_0"), lambda choice: choice["kv_type"] == "q8_0" and choice["settings"]["flash_attention"]),
        (("--kv-type", "q4_0"), lambda choice: choice["kv_type"] == "q4_0"),
        ((), lambda choice: (choice["kv_type"], choice["settings"]["ubatch"]) == ("f16", 512)),
        (("--no-repack",), lambda choice: choice["memory"]["by_device"][0]["repacked_bytes"] == 0),
    ],
)
def test_options_reach_the_plan(
    capsys: pytest.CaptureFixture[str], laptop: str, argv: tuple[str, ...], check: Any
) -> None:
    assert check(document(capsys, "--machine", laptop, *argv)["data"]["choice"])


def test_settings_reach_the_plan(
    capsys: pytest.CaptureFixture[str], laptop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCTL_TASK", "code")
    monkeypatch.setenv("LLMCTL_CONTEXT", "4096")
    data = document(capsys, "--machine", laptop)["data"]
    assert (data["task"], data["choice"]["context"]) == ("code", 4096)
    assert document(capsys, "--machine", laptop, "--task", "chat")["data"]["task"] == "chat"  # the flag wins


def test_a_task_that_is_none_is_a_wrong_setting(
    capsys: pytest.CaptureFixture[str], laptop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCTL_TASK", "dance")
    error = document(capsys, "--machine", laptop, code=10)["error"]
    assert "LLMCTL_TASK" in error["message"] and "'dance', it must be one of chat, " in error["message"]


def test_nothing_fits_with_both_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small = machine(tmp_path, 0.5)
    envelope = document(capsys, "--machine", small, code=3)
    data = envelope["data"]
    assert data["choice"] is None and data["alternatives"] == []
    assert data["no_fit"]["nearest"] == data["rejected"][0]
    assert data["no_fit"]["nearest"]["short_by_bytes"] > 0
    assert envelope["error"]["code"] == "nothing_fits"
    assert main(["plan", "--machine", small]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert "error: no model fits; the nearest, SmolLM2 135M Instruct Q4_1 needs " in told.err
    assert "537 MB is free" in told.err and "short" in told.err and "next: llmctl " in told.err


def test_an_unknown_model_is_answered_with_near_names(capsys: pytest.CaptureFixture[str], laptop: str) -> None:
    envelope = document(capsys, "qwen35-4b", "--machine", laptop, code=4)
    assert "qwen3.5-4b" in envelope["error"]["message"]
    assert envelope["data"] is None


def test_a_header_is_enough(capsys: pytest.CaptureFixture[str], laptop: str, tmp_path: Path) -> None:
    file = gguf_file.write_model(tmp_path / "own.gguf", gguf_file.model_shape("smollm2-360m"), fill=Fill.NOTHING)
    choice = document(capsys, str(file), "--machine", laptop)["data"]["choice"]
    assert choice["model"] == "own"
    assert choice["source"]["file"] == choice["path"] == str(file)
    assert choice["source"]["bytes"] > 100 * file.stat().st_size / 10
    assert choice["quality"] == {"index": None, "basis": None, "evidence": []}
    lines = screen(capsys, str(file), "--machine", laptop)
    assert lines[-1] == f' llmctl run -m {file} "…"'


@pytest.mark.parametrize(("raw", "code"), [(b"just words " * 20, 6), (None, 4)])
def test_a_file_that_is_none(
    capsys: pytest.CaptureFixture[str], laptop: str, tmp_path: Path, raw: bytes | None, code: int
) -> None:
    file = tmp_path / "x.gguf"
    if raw is not None:
        file.write_bytes(raw)
    assert main(["plan", str(file), "--machine", laptop]) == code
    told = capsys.readouterr()
    assert told.out == "" and str(file) in told.err and "Traceback" not in told.err


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("--max-download", "a lot"), 2, "it must be a size like 5GB"),
        (("--task", "poetry"), 2, "chat, code"),
        (("--context", "0"), 2, "context"),
        (("--kv-type", "q5_1"), 2, "error: invalid value for '--kv-type': 'q5_1' is not one of 'f16', 'q8_0', 'q4_0'"),
        (("--machine", "nowhere.json"), 4, "nowhere.json"),
        (("--lang", "Italian"), 2, "next: llmctl plan --lang it"),
        (("--lang", ""), 2, "a code of two or three letters"),
        (("--lang", "xx"), 3, "for chat no model is listed for the language xx"),
        (("--plot", "frontier.png"), 2, "next: llmctl plan --plot frontier.svg"),
        (("--gpu", "unheard of"), 2, "next: llmctl plan --gpu 'unheard of' --vram 16GB"),
    ],
)
def test_what_makes_no_sense(
    capsys: pytest.CaptureFixture[str], laptop: str, argv: tuple[str, ...], code: int, words: str
) -> None:
    where = () if "--machine" in argv else ("--machine", laptop)
    assert main(["plan", *argv, *where]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err


def test_a_broken_profile_of_the_users_is_a_warning(capsys: pytest.CaptureFixture[str], laptop: str) -> None:
    folder = paths.overlay_dir()
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('[[model]]\nid = "mine"\ncontext = 4096\nname = 3\n')
    envelope = document(capsys, "--machine", laptop)
    (warning,) = envelope["warnings"]
    assert "mine.toml:1: model[1].shape must be a table" in warning
    assert envelope["data"]["choice"] is not None


def test_a_missed_floor_is_a_warning_for_a_model_by_name(capsys: pytest.CaptureFixture[str], laptop: str) -> None:
    assert main(["plan", "granite-4.2-8b", "--machine", laptop]) == 0
    told = capsys.readouterr()
    assert "warning: Granite 4.2 8B Q4_K_M fits, but would write" in told.err
    assert "Granite 4.2 8B" in told.out


def test_what_is_stored_here_is_not_stored_on_another_machine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("llmctl.store.Store.find", lambda self, source: tmp_path / "here.gguf")
    choice = document(capsys, "qwen3.5-2b:Q8_0", "--machine", "laptop-16gb")["data"]["choice"]
    assert choice["path"] is None and choice["download"]["bytes"] == choice["source"]["bytes"]
    text = " ".join(screen(capsys, "qwen3.5-2b:Q8_0", "--machine", "laptop-16gb"))
    assert "on laptop-16gb, " in text and "this machine" not in text and " here " not in text


def test_a_name_too_long_for_a_file_is_a_name(capsys: pytest.CaptureFixture[str], laptop: str) -> None:
    assert document(capsys, "x" * 300, "--machine", laptop, code=4)["error"]["code"] == "not_found"


def test_what_cannot_chat_has_to_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = (paths.profiles_dir() / "models" / "qwen3.5.toml").read_text("utf-8")
    entry = text[text.index("[[model]]") :].split("[[model]]")[1]
    before, after = entry.split("tasks = [", 1)
    openness = text[: text.index("[[model]]")]
    folder = paths.overlay_dir()
    folder.mkdir(parents=True)
    name = entry.split('id = "')[1].split('"')[0]
    made = before.replace(f'"{name}"', '"a-base"', 1) + 'tasks = ["embedding"]' + after.split("]", 1)[1]
    (folder / "mine.toml").write_text(f"{openness}[[model]]{made}", "utf-8")
    shelf = situation.shelf(Output("test"))
    assert not shelf.catalogue.problems
    assert {one.model.id for one in shelf.candidates("a-base")} == {"a-base"}
    data = document(capsys, "--machine", "laptop-16gb")["data"]
    assert {one["reason"] for one in data["rejected"] if one["model"] == "a-base"} == {"is for embedding, not for chat"}


PICKS = ("best", "quality", "balanced", "fastest")


def test_the_chart_stands_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = screen(capsys, "--machine", "desktop-rtx-3060", "--chart")
    assert max(map(len, lines)) <= WIDTH
    axis = next(at for at, line in enumerate(lines) if line.startswith("      └"))
    table = next(at for at, line in enumerate(lines) if "▸ best" in line)
    reasons = next(at for at, line in enumerate(lines) if line.startswith(" best: "))
    assert table < axis < reasons
    drawn = "\n".join(lines[table:reasons])
    assert "quality ↑ · speed → · ┊ floor 8.0" in drawn
    assert drawn.count("●") == sum(f" {name} " in drawn for name in PICKS) == len(PICKS)
    assert not any("└" in line for line in screen(capsys, "--machine", "desktop-rtx-3060"))  # not into a pipe


def test_what_is_said_of_the_best_pick_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    lines = screen(capsys, "--machine", "desktop-rtx-3060")
    last = max(at for at, line in enumerate(lines) if line.startswith((" balanced: ", " fastest: ")))
    assert any(line.startswith(" best: its quality of ") for line in lines[last:])
    assert not any(line.startswith((" its quality", " the answer")) for line in lines)


def test_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "frontier.svg"
    assert main(["plan", "--machine", "desktop-rtx-3060", "--plot", str(file)]) == 0
    assert f"{file} is written" in capsys.readouterr().err
    root = ElementTree.parse(file).getroot()  # noqa: S314  our own
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    dots = root.findall("{http://www.w3.org/2000/svg}circle")
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert len(dots) >= 3
    assert all(0 < float(dot.get("cx", 0)) < width and 0 < float(dot.get("cy", 0)) < height for dot in dots)
    for name in ("frontier.png", "no/where.svg"):
        assert main(["plan", "--machine", "desktop-rtx-3060", "--plot", str(tmp_path / name)]) == 2
    assert "--plot writes FILE.svg" in capsys.readouterr().err


def test_the_settings_that_were_considered(capsys: pytest.CaptureFixture[str]) -> None:
    lines = screen(capsys, "--machine", "vm-epyc-24gb", "--explain")
    assert max(map(len, lines)) <= WIDTH
    rows = lines[next(at for at, line in enumerate(lines) if "Settings considered" in line) + 2 :]
    assert len(rows) == 4 and sum("▸" in row for row in rows) == 1
    assert sum("the defaults" in row for row in rows) == 1


def test_what_if(capsys: pytest.CaptureFixture[str]) -> None:
    def best(*argv: str) -> float:
        choice = document(capsys, "--machine", "laptop-16gb", *argv)["data"]["choice"]
        return float(choice["quality"]["index"])

    assert best() < best("--ram", "32GB") < best("--ram", "32GB", "--gpu", "GeForce RTX 4090")
    assert best("--gpu", "GeForce RTX 4060", "--vram", "48GB") > best("--gpu", "GeForce RTX 4060")
    first = screen(capsys, "--machine", "laptop-16gb", "--ram", "32GB", "--gpu", "none")[0]
    assert first.startswith("For chat on laptop-16gb with --ram 32GB --gpu none, ")
    assert main(["plan", "--machine", "laptop-16gb", "--ram", "much"]) == 2
    assert "--ram is 'much'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "check"),
    [
        (
            ("--lang", "it"),
            lambda data: any("not listed for the language" in one["reason"] for one in data["rejected"]),
        ),
        (("--licence", "mit"), lambda data: data["choice"]["licence"] == "MIT"),
        (("--open", "weights"), lambda data: any("less open" in one["reason"] for one in data["rejected"])),
        (("--tight",), lambda data: not any("other programs" in one["reason"] for one in data["rejected"])),
        (("--task", "embed"), lambda data: data["choice"]["model"] == "qwen3-embedding-0.6b"),
        (("--prompt-tokens", "4000"), lambda data: data["choice"]["speed"]["first_token_s"] > 10),
        (("--flash-attention",), lambda data: data["choice"]["settings"]["flash_attention"]),
        ((), lambda data: all(one["fit"]["model"] and one["condition"] for one in data["changes"]) and data["changes"]),
    ],
)
def test_more_options_reach_the_plan(
    capsys: pytest.CaptureFixture[str], laptop: str, argv: tuple[str, ...], check: Any
) -> None:
    assert check(document(capsys, "--machine", laptop, *argv)["data"])


def test_installed_and_nothing_is_here(capsys: pytest.CaptureFixture[str], laptop: str) -> None:
    data = document(capsys, "--machine", laptop, "--installed", code=3)["data"]
    assert {one["reason"] for one in data["rejected"]} >= {"is not on this machine"}
    assert main(["plan", "--machine", laptop, "--installed", "--task", "code"]) == 3
    assert "next: llmctl plan --task code " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--machine", "laptop-16gb", "--gpu-layers", "5"), "--gpu-layers 5 has no effect"),
        (("--machine", "desktop-rtx-4090", "--gpu-layers", "500"), "--gpu-layers 500: "),
        (("--machine", "vm-epyc-24gb", "--threads", "64"), "--threads 64 is more than the 2 "),
        (("--machine", "laptop-16gb", "qwen3.5-4b", "--task", "embed"), "Qwen3.5 4B is not for embed"),
        (("--machine", "desktop-rtx-4090", "--gpu-layers", "3"), None),
        (("--machine", "desktop-rtx-4090", "--gpu-layers", "-1"), None),
        (("--machine", "vm-epyc-24gb", "--gpu-layers", "0", "--threads", "2"), None),
        (("--machine", "laptop-16gb", "qwen3-embedding-0.6b"), None),
    ],
)
def test_what_has_no_effect_is_told(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], words: str | None
) -> None:
    warnings = document(capsys, *argv)["warnings"]
    assert [words in one for one in warnings] == [True] if words else not warnings


def test_the_gap_on_a_gpu_has_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "qwen3.8-27b", "--machine", "desktop-rtx-4060", "--gpu-layers", "-1"]) == 3
    assert " of the GeForce RTX 4060's memory " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("laptop-16gb", " GB of memory free:"),
        ("desktop-rtx-4090", "65.5 GB of memory and 25.8 GB on the GeForce RTX 4090 free:"),
        ("strix-halo-128gb", "134 GB of memory, 68.7 GB of it for the Radeon 8060S, free:"),
    ],
)
def test_the_heading_has_a_gpu_by_its_name_and_memory_once(
    capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    lines = screen(capsys, "--machine", name)
    assert words in " ".join(line.strip() for line in lines[: lines.index("")])


def test_a_quantized_cache_is_nothing_without_flash_attention(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--kv-type", "q8_0", "--no-flash-attention"]) == 2
    assert "exclude each other" in capsys.readouterr().err
