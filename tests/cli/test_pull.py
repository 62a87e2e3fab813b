"""``llmctl pull`` as it is typed, against a hub on loopback and a catalogue entry of the user's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmctl.cli import main
from llmctl.engine import kernels
from llmctl.types.machine import KernelRate
from tests.fakes.gguf_file import Fill, TensorSpec, write
from tests.fakes.hub import COMMIT, FakeHub

REPO = "maker/tiny-GGUF"
SIZE_BYTES = 2 << 20

MODEL = """
[[model]]
id = "{id}"
name = "{name}"
context = 512
tasks = ["chat"]
[model.sources]
facts = "https://model.example/card"
shape = "https://model.example/config.json"
[model.shape]
architecture = "llama"
n_layer = 2
n_embd = 64
n_head = 4
n_vocab = 320
kv = [{{ layers = 2, heads = 2, head_dim = 16 }}]
"""
FILE = """
[[model.file]]
quant = "{quant}"
repo = "maker/tiny-GGUF"
file = "{id}-{quant}.gguf"
bytes = {bytes}
tensor_bytes = {bytes}
types = {{ Q4_0 = {bytes} }}
"""


def entry(id: str, name: str, **files: int) -> str:
    text = MODEL.format(id=id, name=name)
    return text + "".join(FILE.format(id=id, quant=quant, bytes=size) for quant, size in files.items())


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    tensors = [TensorSpec("token_embd.weight", (256, SIZE_BYTES // 1024), "F32")]
    file = write(tmp_path / "tiny.gguf", {"general.architecture": "llama"}, tensors, fill=Fill.RANDOM)
    models = home / "config" / "llmctl" / "models"
    models.mkdir(parents=True)
    size = file.stat().st_size
    (models / "tiny.toml").write_text(
        entry("tiny", "Tiny 1B", Q4_0=size, Q8_0=size + 1) + entry("vast", "Vast 9T", Q4_0=10**15, Q8_0=2 * 10**15)
    )
    with FakeHub({REPO: {"tiny-Q4_0.gguf": file, "tiny-Q8_0.gguf": file}}) as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark is tested where it lives; here it costs nothing."""
    rates = tuple(KernelRate(name, 41e9, 4e11) for name in kernels.WEIGHT_TYPES)
    monkeypatch.setattr(kernels, "measure", lambda *_, **__: rates)


def place(home: Path, quant: str) -> Path:
    return home / f"cache/huggingface/hub/models--maker--tiny-GGUF/snapshots/{COMMIT}/tiny-{quant}.gguf"


def test_the_path_is_all_that_goes_to_stdout(hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "tiny:q8_0"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{place(home, 'Q8_0')}\n"
    assert err.splitlines()[0] == f"Tiny 1B Q8_0: 2 MB from {REPO} on {hub.url.removeprefix('http://')}"
    asked = len(hub.requests)
    assert main(["pull", "tiny:Q8_0"]) == 0
    again = capsys.readouterr()
    assert again.out == out
    assert again.err == "Tiny 1B Q8_0 is on this machine\n"
    assert len(hub.requests) == asked


def test_quiet(hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "-q", "tiny:Q4_0"]) == 0
    assert capsys.readouterr() == (f"{place(home, 'Q4_0')}\n", "")


def test_json(hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for fetched in (True, False):
        assert main(["pull", "--json", "tiny:Q4_0"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        said = json.loads(out)
        assert (said["schema"], said["command"], said["error"]) == ("llmctl/1", "pull", None)
        data = said["data"]
        assert data["source"].pop("revision") == "main"
        size = hub.size(REPO, "tiny-Q4_0.gguf")
        assert data == {
            "model": "tiny",
            "quant": "Q4_0",
            "path": str(place(home, "Q4_0")),
            "bytes": size,
            "fetched": fetched,
            "source": {"kind": "hub", "repo": REPO, "file": "tiny-Q4_0.gguf", "bytes": size, "sha256": None},
        }


def test_without_a_quant_the_planner_chooses(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    from llmctl.cli import situation
    from llmctl.cli.output import Output
    from llmctl.types.plan import Plan

    found = situation.look(Output("test"))
    planned = found.plan(found.candidates("tiny"), situation.want(found.settings))
    assert isinstance(planned, Plan)
    capsys.readouterr()
    assert main(["pull", "tiny"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(planned.choice.candidate.artifact.source.file)


def test_what_cannot_run_here_is_fetched_only_by_its_full_name(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", "vast"]) == 3
    assert "llmctl pull vast:Q4_0" in capsys.readouterr().err
    assert hub.requests == []
    assert main(["pull", "vast:Q4_0"]) == 4  # the hub was asked, and has no such file
    err = capsys.readouterr().err
    assert f"{REPO} on " in err
    assert hub.count("hub", "HEAD") == 1


@pytest.mark.parametrize(
    ("arguments", "switches", "code", "words"),
    [
        (["nonesuch"], {}, 4, "nonesuch"),
        (["tiny:Q1_0"], {}, 4, "Q1_0"),
        ([], {}, 2, "NAME"),
        (["tiny:Q4_0"], {"hub_status": 401}, 9, "HF_TOKEN"),
        (["tiny:Q4_0"], {"hub_status": 403, "error_code": "GatedRepo"}, 9, "licence"),
        (["tiny:Q4_0"], {"hub_status": 429, "retry_after": "900"}, 5, "900 s"),
        (["tiny:Q4_0"], {"wrong_byte_at": 1_000_000}, 6, "sha256"),
        (["tiny:Q4_0"], {"linked_bytes": 1 << 42}, 7, "4.4 TB"),
    ],
)
def test_exit_codes(
    arguments: list[str],
    switches: dict[str, object],
    code: int,
    words: str,
    hub: FakeHub,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.switch(**switches)
    assert main(["pull", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err
    assert list(home.rglob("*.incomplete*")) == []


def test_offline(hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["pull", "tiny:Q4_0"]) == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["pull", "tiny:Q4_0"]) == 0
    assert main(["pull", "tiny:Q8_0"]) == 5
    assert "offline" in capsys.readouterr().err


def test_ctrl_c_keeps_the_part_and_the_same_command_goes_on(hub: FakeHub, home: Path) -> None:
    hub.switch(bytes_per_s=1_000_000)
    command = [sys.executable, "-m", "llmctl", "pull", "tiny:Q4_0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    until_s = time.monotonic() + 30
    while not any(path.stat().st_size > 200_000 for path in home.rglob("*.incomplete")):
        assert time.monotonic() < until_s
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert out == ""
    assert "stopped at " in err.splitlines()[-1]
    assert "Traceback" not in err
    (left,) = home.rglob("*.incomplete")
    kept = left.stat().st_size
    hub.switch()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert hub.requests[-1].headers["Range"] == f"bytes={kept}-"
    assert done.stdout == f"{place(home, 'Q4_0')}\n"
