"""Where ``llmctl pull`` takes a model from: any repository, an address, a file, a folder, a stick."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmctl import net
from llmctl.cli import main
from llmctl.cli.output import Output
from llmctl.files.disk import LEAST_RESERVE_BYTES
from llmctl.workspace import situation
from tests.fakes import command, other_tools
from tests.fakes.gguf_file import Fill, TensorSpec, Value, model_shape, write, write_model
from tests.fakes.hub import COMMIT, FakeHub

REPO = "maker/tiny-GGUF"

pytestmark = pytest.mark.usefixtures("kernels_known")


def place(home: Path, quant: str) -> Path:
    return home / f"cache/huggingface/hub/models--maker--tiny-GGUF/snapshots/{COMMIT}/tiny-{quant}.gguf"


def test_any_repository(hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.licences[REPO] = "apache-2.0"
    assert main(["pull", f"{REPO}:q8_0"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{place(home, 'Q8_0')}\n"
    assert err.splitlines()[0] == f"{REPO} Q8_0: 2 MB from {net.host_of(hub.url)}, licence apache-2.0"
    assert (place(home, "Q8_0").parents[2] / "refs/main").read_text() == COMMIT
    asked = len(hub.requests)
    for name in (f"{REPO}:Q8_0", f"{REPO}:tiny-Q8_0.gguf"):
        assert main(["pull", name]) == 0
        assert capsys.readouterr().out == out
    assert len(hub.requests) == asked


def test_a_repository_without_a_quant_is_asked_for_and_found_offline(
    hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["pull", REPO]) == 0
    out, err = capsys.readouterr()
    assert out == f"{place(home, 'Q4_0')}\n"
    assert "Q4_0 of maker/tiny-GGUF; there is also Q8_0" in err
    assert main(["pull", "--offline", REPO]) == 0
    assert capsys.readouterr().out == out
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # and where there is no route
    assert main(["pull", REPO]) == 0
    told = capsys.readouterr()
    assert told.out == out
    assert "warning: asking for maker/tiny-GGUF: 127.0.0.1:9" in told.err


@pytest.mark.parametrize("page", ["", "/tree/main", "/resolve/main/tiny-Q4_0.gguf", "/blob/main/tiny-Q4_0.gguf"])
def test_a_page_out_of_the_browser(page: str, hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", f"{hub.url}/{REPO}{page}"]) == 0
    assert capsys.readouterr().out == f"{place(home, 'Q4_0')}\n"


NAMES_OF_THE_HUB = (
    f"hf.co/{REPO}:Q4_0",
    f"huggingface.co/{REPO}:Q4_0",
    f"hf://{REPO}",
    f"hf://{REPO}:Q4_0",
    f"hf://{REPO}/tiny-Q4_0.gguf",
    f"https://hf.co/{REPO}:Q4_0",
    f"https://huggingface.co/{REPO}",
    f"https://huggingface.co/{REPO}/tree/main",
    f"https://huggingface.co/{REPO}/blob/main/tiny-Q4_0.gguf",
    f"https://huggingface.co/{REPO}/resolve/main/tiny-Q4_0.gguf?download=true",
)


@pytest.mark.parametrize("name", NAMES_OF_THE_HUB)
def test_the_hub_by_its_own_names_while_a_mirror_is_set(
    name: str, hub: FakeHub, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos = {REPO: {"tiny-Q4_0.gguf": write_model(tmp_path / "m.gguf", model_shape("tiny"))}}
    assert main(["plan", name, "--machine", "laptop-16gb", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["choice"]["model"] == REPO
    assert main(["pull", name]) == 0
    assert capsys.readouterr().out == f"{place(home, 'Q4_0')}\n"
    asked = len(hub.requests)
    (held,) = situation.shelf(Output("run")).candidates(name)  # what ``run -m`` takes
    assert held.path == place(home, "Q4_0")
    assert len(hub.requests) == asked


def test_a_file_that_is_called_as_a_model_is_called(
    hub: FakeHub, home: Path, gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name of the catalogue or of the hub is that, whatever lies in the working directory."""
    (home / "maker").mkdir()
    for name in (REPO, "tiny", "model.bin", "smollm2-135m-instruct"):
        shutil.copy(gguf, home / name)
    for name in (REPO, f"{REPO}:Q4_0", "tiny:Q4_0"):
        assert main(["pull", name]) == 0
        assert capsys.readouterr().out == f"{place(home, 'Q4_0')}\n"
    shelf = situation.shelf(Output("run"))
    assert [one.path for one in shelf.candidates("smollm2-135m-instruct")] == [None]  # not here; the file is
    for verb in ("pull", "plan", "bench"):
        assert main([verb, "model.bin"]) == 4
        assert "next: ./model.bin   for the file of that name here" in capsys.readouterr().err
    assert main(["pull", "./model.bin"]) == 0
    assert "copied" in capsys.readouterr().err


def test_a_revision(hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", f"{REPO}:Q4_0", "--revision", COMMIT]) == 0
    assert not (place(home, "Q4_0").parents[2] / "refs").exists()  # a commit is no branch
    asked = len(hub.requests)
    assert main(["pull", f"{REPO}:Q4_0", "--revision", COMMIT]) == 0
    assert len(hub.requests) == asked
    assert main(["pull", f"{REPO}:Q4_0", "--revision", "main"]) == 0  # asks where the branch stands now
    assert len(hub.requests) > asked
    assert (place(home, "Q4_0").parents[2] / "refs/main").read_text() == COMMIT


def test_an_address(hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sha256 = hub.sha256(REPO, "tiny-Q4_0.gguf")
    for _ in range(2):
        assert main(["pull", "--sha256", sha256, f"{hub.cdn_url}/{REPO}/tiny-Q4_0.gguf?signature=x"]) == 0
        assert capsys.readouterr().out == f"{home}/data/llmctl/models/files/{sha256}/tiny-Q4_0.gguf\n"
    assert hub.count("cdn", "GET") >= 1


def test_a_file_and_a_folder_of_the_users_own(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = home / "mine"
    mine.mkdir()
    file = write_model(mine / "my-model-Q8_0.gguf", model_shape("tiny"))
    for name in (str(file), "./mine", "mine/my-model-Q8_0.gguf"):
        assert main(["pull", name]) == 0
        out, err = capsys.readouterr()
        assert Path(out.rstrip()).read_bytes() == file.read_bytes()
        assert "copied" in err
    assert main(["models", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["my-model", "Q8_0"]
    write_model(mine / "another-Q8_0.gguf", model_shape("tiny"))
    assert main(["pull", "./mine"]) == 4
    assert "exactly one model" in capsys.readouterr().err


def test_from_one_machine_to_another(
    hub: FakeHub, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = tmp_path / "stick"
    assert main(["pull", "tiny:Q4_0", "--to", str(stick)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{stick}/tiny-Q4_0\n"
    assert f"llmctl pull --from {stick} tiny:Q4_0" in err
    assert main(["pull", f"{REPO}:Q8_0", "--to", str(stick)]) == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other/cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other/data"))
    asked = len(hub.requests)
    assert main(["pull", "--from", str(stick)]) == 4
    assert f"holds {REPO}:Q8_0, tiny:Q4_0: name one" in capsys.readouterr().err
    assert main(["pull", "--from", str(stick), "tiny", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["data"]["source"]["revision"] == COMMIT
    assert main(["pull", "--offline", "tiny:Q4_0", "-q"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/other/cache/huggingface/hub/")
    assert len(hub.requests) == asked


def test_a_stick_cannot_bring_another_model_under_the_catalogues_name(
    hub: FakeHub, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", "tiny:Q4_0", "--to", str(tmp_path / "stick")]) == 0
    tiny = home / "config/llmctl/models/tiny.toml"
    pinned = tiny.read_text().replace('file = "tiny-Q4_0.gguf"', f'file = "tiny-Q4_0.gguf"\nsha256 = "{"0" * 64}"')
    tiny.write_text(pinned)
    capsys.readouterr()
    assert main(["pull", "--from", str(tmp_path / "stick")]) == 6
    assert "the catalogue says 0000" in capsys.readouterr().err


CLAIMS: dict[str, dict[str, str]] = {
    "the architecture": {'architecture = "llama"': 'architecture = "qwen35"'},
    "the size": {"SIZE": "1SIZE"},
}


@pytest.mark.parametrize("own_file", [False, True], ids=["the catalogue's file", "a file of that name"])
@pytest.mark.parametrize(("changes"), CLAIMS.values(), ids=CLAIMS.keys())
def test_a_stick_that_calls_a_model_what_it_is_not(
    changes: dict[str, str],
    own_file: bool,
    hub: FakeHub,
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stick = tmp_path / "stick"
    if own_file:
        shutil.copy(str(hub.repos[REPO]["tiny-Q4_0.gguf"]), home / "tiny-Q4_0.gguf")
    assert main(["pull", "./tiny-Q4_0.gguf" if own_file else "tiny:Q4_0", "--to", str(stick)]) == 0
    entry = home / "config/llmctl/models/tiny.toml"
    text = entry.read_text()
    for old, new in changes.items():
        size = str(hub.size(REPO, "tiny-Q4_0.gguf"))
        text = text.replace(old.replace("SIZE", size), new.replace("SIZE", size))
    entry.write_text(text)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other/cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other/data"))
    capsys.readouterr()
    assert main(["pull", "--from", str(stick)]) == 6
    assert "what is called tiny Q4_0 there is another file: its " in capsys.readouterr().err
    assert list((tmp_path / "other").rglob("*.gguf")) == []


def test_what_only_a_folder_vouches_for_is_not_called_sound(
    hub: FakeHub, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stick = tmp_path / "stick"
    assert main(["pull", "tiny:Q4_0", "--to", str(stick)]) == 0

    def states() -> list[str]:
        capsys.readouterr()
        assert main(["models", "verify", "--json"]) == 0
        return [one["state"] for one in json.loads(capsys.readouterr().out)["data"]["files"]]

    assert states() == ["sound"]  # the hub has said so
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other/cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other/data"))
    assert main(["pull", "--from", str(stick)]) == 0
    assert states() == ["unchanged"]
    assert main(["models", "verify"]) == 0
    assert "unchanged since it came, not checked against the publisher" in capsys.readouterr().out
    entry = home / "config/llmctl/models/tiny.toml"
    pinned = f'file = "tiny-Q4_0.gguf"\nsha256 = "{hub.sha256(REPO, "tiny-Q4_0.gguf")}"'
    entry.write_text(entry.read_text().replace('file = "tiny-Q4_0.gguf"', pinned))
    assert states() == ["sound"]  # the catalogue says so, too


def test_a_limit_on_the_rate_and_the_time_it_will_take(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "tiny:Q4_0", "--limit-rate", "20M"]) == 0
    assert "Tiny 1B Q4_0: 2 MB, ~0.1 s from" in capsys.readouterr().err


def test_what_is_here_runs_by_its_name(hub: FakeHub, home: Path, tmp_path: Path) -> None:
    """Any repository, and what another tool holds; and the list knows that it ran."""
    hub.repos = {REPO: {"real-Q4_0.gguf": write_model(tmp_path / "m.gguf", model_shape("tiny"))}}
    held = write_model(tmp_path / "held.gguf", replace(model_shape("tiny"), name="held"))
    other_tools.ollama(home / ".ollama/models", held)
    assert main(["pull", f"{REPO}:Q4_0"]) == 0
    for name, model in ((f"{REPO}:Q4_0", REPO), ("llama3.2:1b", "llama3.2:1b")):
        done = command.llmctl("run", "--offline", "-m", name, "-n", "2", "--json", "hi")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["data"]["route"]["model"] == model
    done = command.llmctl("run", "-m", "maker/other-GGUF:Q4_0", "hi")
    assert (done.returncode, done.stdout) == (4, "")
    assert "llmctl pull maker/other-GGUF:Q4_0" in done.stderr
    rows = json.loads(command.llmctl("models", "list", "--json").stdout)["data"]["models"]
    assert {row["name"]: row["last_used"] is not None for row in rows} == {REPO: True, "llama3.2:1b": True}


# Room


Free = Callable[[Path, int], None]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Free:
    """Gives the filesystem below a folder so many bytes for a download, as a disk of its own."""
    rooms: dict[Path, int] = {}
    real, real_stat = shutil.disk_usage, Path.stat

    def disk(place: Path) -> int | None:
        return next((at for at, room in enumerate(rooms) if Path(place).is_relative_to(room)), None)

    def usage(place: Path) -> object:
        at = disk(place)
        if at is None:
            return real(place)
        return real(place)._replace(total=0, free=LEAST_RESERVE_BYTES + list(rooms.values())[at])

    def stat(path: Path, **options: bool) -> object:
        told = real_stat(path, **options)
        at = disk(path)
        return told if at is None else os.stat_result((*told[:2], -1 - at, *told[3:10]))

    def give(place: Path, room_bytes: int) -> None:
        place.mkdir(parents=True, exist_ok=True)
        rooms[place] = room_bytes
        monkeypatch.setattr(shutil, "disk_usage", usage)
        monkeypatch.setattr("llmctl.files.disk.Path.stat", stat)

    return give


def split(hub: FakeHub) -> None:
    file = hub.repos[REPO]["tiny-Q4_0.gguf"]
    hub.repos = {REPO: {f"tiny-Q4_0-0000{part}-of-00002.gguf": file for part in (1, 2)}}


def test_a_split_model_has_room_as_a_whole_or_nothing_is_asked_for(
    hub: FakeHub, home: Path, free: Free, capsys: pytest.CaptureFixture[str]
) -> None:
    split(hub)
    free(home / "cache/huggingface", 3_000_000)  # for one of the two parts
    assert main(["pull", f"{REPO}:Q4_0"]) == 7
    assert f"{REPO} needs 4 MB, 70 MB is free in {home}/cache/huggingface/hub" in capsys.readouterr().err
    assert hub.count("cdn") == 0


@pytest.mark.parametrize("name", ["tiny:Q4_0", f"{REPO}:Q4_0", "./mine.gguf", "smollm2-135m-instruct:Q4_1"])
def test_room_on_the_stick_is_looked_for_first(
    name: str, hub: FakeHub, home: Path, tmp_path: Path, free: Free, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "mine.gguf").symlink_to(write_model(home / "mine", model_shape("tiny")))
    stick = tmp_path / "stick"
    free(stick, 20_000)
    assert main(["pull", name, "--to", str(stick)]) == 7
    assert f"67 MB is free in {stick}" in capsys.readouterr().err
    assert hub.count("cdn") == 0
    assert not list(home.rglob("*.gguf*"))[1:]
    assert list(stick.iterdir()) == []


def test_store_and_stick_may_share_a_disk(
    hub: FakeHub, home: Path, free: Free, capsys: pytest.CaptureFixture[str]
) -> None:
    free(home, 3_000_000)
    assert main(["pull", f"{REPO}:Q4_0", "--to", str(home / "stick")]) == 7
    assert f"hub and {home}/stick, of which" in capsys.readouterr().err
    assert hub.count("cdn") == 0
    free(home, 5_000_000)
    assert main(["pull", f"{REPO}:Q4_0", "--to", str(home / "stick")]) == 0


# What a person may type wrongly, or find strange


@pytest.mark.parametrize("where", ["example.org:x", "example.org:99999", "[::1", "", "user:secret@example.org:x"])
def test_an_address_that_is_none(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", f"https://{where}/x.gguf?key=secret", "--sha256", "0" * 64]) == 2
    err = capsys.readouterr().err
    assert "is not a usable address" in err and "Traceback" not in err and "secret" not in err


@pytest.mark.parametrize("architecture", ["clip", "bert", "unheard-of"])
def test_a_file_of_another_kind_is_fetched_and_found(
    architecture: str, hub: FakeHub, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the engine can run it is for ``run`` to say."""
    metadata: dict[str, Value] = {"general.architecture": architecture, "general.license": "mit"}
    file = write(tmp_path / "x-F16.gguf", metadata, [TensorSpec("w", (256, 100), "F16")], fill=Fill.RANDOM)
    hub.repos = {REPO: {"x-F16.gguf": file}}
    assert main(["pull", REPO]) == 0
    path = capsys.readouterr().out
    assert main(["pull", f"{REPO}:F16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["path"] == path.strip()
    assert main(["pull", f"{REPO}:F16", "--to", str(tmp_path / "stick")]) == 0
    assert json.loads((tmp_path / "stick/maker-tiny-GGUF-F16/llmctl.json").read_text())["licence"] == "mit"
    assert main(["pull", str(file)]) == 0


def test_names_in_another_case(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    """The hub of these tests tells them apart."""
    assert main(["pull", REPO.upper()]) == 4
    assert f"there is {REPO}\n  next: llmctl pull {REPO}\n" in capsys.readouterr().err


def test_a_file_in_another_case(hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = hub.repos[REPO]["tiny-Q4_0.gguf"]
    hub.repos = {REPO: {"TINY-Q4_0.GGUF": file, "tonly-Q8_0.gguf": file}}
    assert main(["pull", "tiny:Q4_0"]) == 4
    assert f"llmctl pull {REPO}:Q4_0" in capsys.readouterr().err


def test_paths_that_are_not_utf8(hub: FakeHub, home: Path, gguf: Path) -> None:
    """As the system hands them over: folders, a home and arguments with bytes that are no text."""
    odd = os.fsdecode(b"st\xe9")
    (home / odd).mkdir()
    shutil.copy(gguf, home / odd / "mine-Q4_0.gguf")
    elsewhere = {
        name: f"{home}/{odd}/{name}" for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")
    }
    for arguments in (
        ["pull", f"./{odd}/mine-Q4_0.gguf", "--to", f"{odd}/stick"],
        ["pull", "--from", f"{odd}/stick"],
        ["pull", f"{REPO}:Q4_0", "--to", f"{odd}/other", "--json"],
        ["models", "list"],
        ["models", "verify", "--json"],
        ["models", "rm", "mine", "--yes"],
        ["models", "prune", "--yes"],
    ):
        done = command.llmctl(*arguments, timeout=150, **elsewhere)
        assert done.returncode == 0, (arguments, done.stderr)
    assert (home / odd / "XDG_DATA_HOME/llmctl/models").is_dir()
    for arguments in (["models", "rm", odd], ["pull", odd], ["plan", odd], ["pull", f"./{odd}/none.gguf", "--json"]):
        done = command.llmctl(*arguments)
        assert done.returncode == 4, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
