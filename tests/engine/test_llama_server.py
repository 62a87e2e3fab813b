"""llama-server behind the lease: a program that behaves like it, in real processes with real signals; and the real one
where this machine has it."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from msgspec.structs import replace

from llmctl import paths
from llmctl.confinement import CALLS
from llmctl.endpoint.local import ask
from llmctl.engine.llama_server import programs
from llmctl.engine.llama_server.options import PLAIN_TEMPLATE, options
from llmctl.engine.llama_server.start import start
from llmctl.engine.pool import Pool
from llmctl.engine.warm import entry
from llmctl.engine.warm.process import started
from llmctl.errors import DecodingError, EngineDiedError, EngineError
from llmctl.types.engine import LoadedEngine, ServerSource
from llmctl.types.event import Text
from llmctl.types.machine import EngineDevice, EngineInfo
from llmctl.types.plan import Configuration, Draft, Fit
from llmctl.types.request import Message, Request
from tests.fakes.fits import fit_for
from tests.fakes.llama_server import Behaviour, FakeServer, fake_server
from tests.fakes.scripted_model import write_scripted

SECRET = "a-word-that-nobody-writes-down"
ROOT = Path(__file__).parents[2]
# Looked for in the user's own folders, before each test gets some of its own.
REAL = next((program for program in programs.programs(None) if not program.is_stale), None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_scripted(tmp_path / "model.gguf", ["The", " answer"])


@pytest.fixture(autouse=True)
def nothing_stays(home: Path) -> Iterator[None]:
    yield
    for path in entry.listed(paths.runtime_dir()):
        about = entry.read(path)
        path.unlink(missing_ok=True)
        if about is not None and about.ready is not None:
            about.ready.process.end(5)


def text(engine: LoadedEngine) -> str:
    request = Request((Message.of("user", SECRET),))
    return "".join(event.text for event in ask(engine, request) if isinstance(event, Text))


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def gone(pid: int) -> bool:
    return within(20, lambda: started(pid) is None)


def value(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"context": 2048}, ["--ctx-size 2048", "--parallel 1", "--batch-size 512", "--ubatch-size 512"]),
        ({"context": 2048, "sequences": 4}, ["--ctx-size 8192", "--parallel 4", "--batch-size 128"]),
        ({"context": 2048, "ubatch": 64, "sequences": 4}, ["--batch-size 64", "--ubatch-size 64"]),
        ({"context": 256, "kv_type": "q8_0"}, ["--cache-type-k q8_0", "--cache-type-v q8_0"]),
        ({"context": 256, "flash_attention": True}, ["--flash-attn on"]),
        ({"context": 256}, ["--flash-attn off", "--device none", "--threads 3", "--threads-batch 3"]),
        ({"context": 256, "swa_full": True, "repack": False}, ["--swa-full", "--no-repack"]),
        ({"context": 256, "gpu_layers": 9, "layers_per_device": (0, 9)}, ["--split-mode none --main-gpu 1"]),
        ({"context": 256, "gpu_layers": 9, "layers_per_device": (4, 5)}, ["--n-gpu-layers 9", "--tensor-split 4,5"]),
        ({"context": 256, "cpu_expert_layers": 7}, ["--n-cpu-moe 7"]),
    ],
)
def test_the_settings_of_the_plan_are_its_options(settings: dict[str, Any], expected: list[str]) -> None:
    fit = replace(fit_for(Path("/m.gguf"), threads=3), configuration=Configuration(**settings))
    line = " ".join(options(fit, has_chat_template=True))
    assert [part for part in expected if f" {part} " not in f" {line} "] == []


def drafting(path: str) -> Draft:
    return Draft(replace(fit_for(None).candidate, path=Path(path)), Configuration(256, gpu_layers=5), 3, 1.5)


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        (fit_for(Path("/m.gguf")), ["--no-mmproj"]),
        (replace(fit_for(None), candidate=replace(fit_for(None).candidate, projector=Path("/p.gguf"))), ["--mmproj"]),
        (replace(fit_for(Path("/m.gguf")), drafts_itself=True), ["--no-mmproj", "--spec-type draft-mtp"]),
        (
            replace(fit_for(Path("/m.gguf")), draft=drafting("/d.gguf"), drafts_itself=True),
            ["--spec-type draft-simple", "--spec-draft-model /d.gguf", "--spec-draft-ngl 5"],
        ),
    ],
    ids=["alone", "with a projector", "with heads for drafting", "with a draft model"],
)
def test_what_is_loaded_beside_the_model(fit: Fit, expected: list[str]) -> None:
    line = " ".join(options(fit, has_chat_template=True))
    beside = ("--mmproj", "--no-mmproj", "--spec-type", "--spec-draft-model", "--spec-draft-ngl")
    assert [part for part in expected if f" {part} " not in f" {line} "] == []
    names = {part.partition(" ")[0] for part in expected}
    assert {name for name in beside if name in line.split()} - {"--no-mmproj"} == names - {"--no-mmproj"}


def test_what_it_alone_sees_it_places_layers_on_by_itself(tmp_path: Path) -> None:
    server = replace(fake_server(tmp_path).native, gpus=("CUDA0 (a card)",))
    given = options(replace(fit_for(Path("/m.gguf")), server=server), has_chat_template=True)
    assert value(given, "--fit") == "on"
    assert "--n-gpu-layers" not in given


@pytest.mark.parametrize(
    ("worker", "gpus"),
    [
        (EngineInfo("llama-cpp-python", "1", None, usable=True), ("Vulkan0 (A card)",)),
        (EngineInfo("llama-cpp-python", "1", None, devices=(EngineDevice("CUDA0", "x", "CUDA", "gpu", 1, 1),)), ()),
    ],
)
def test_a_gpu_that_the_processor_plays_is_none(tmp_path: Path, worker: EngineInfo, gpus: tuple[str, ...]) -> None:
    devices = ("  Vulkan0: A card (9 MiB, 9 MiB free)", "  Vulkan1: llvmpipe (LLVM 15) (9 MiB, 9 MiB free)")
    server = fake_server(tmp_path, Behaviour(devices=devices))
    program = programs.Program(server.program, ServerSource.PATH)
    assert programs.server_of(program, programs.asked(program), worker).gpus == gpus


@pytest.mark.parametrize("unwanted", ["--swa-full", "--no-repack", "--tensor-split", "--n-cpu-moe", "--chat-template"])
def test_what_was_not_planned_is_no_option(unwanted: str) -> None:
    assert unwanted not in options(fit_for(Path("/m.gguf")), has_chat_template=True)


@pytest.mark.parametrize(
    "private",
    [
        "--host 127.0.0.1",
        "--port 0",
        "--no-webui",
        "--no-slots",
        "--log-disable",
        "--offline",
        "--cache-ram 0",
        "--fit off",
    ],
)
def test_it_is_always_private_and_as_planned(private: str) -> None:
    assert private in " ".join(options(fit_for(Path("/m.gguf")), has_chat_template=True))
    assert value(options(fit_for(Path("/m.gguf")), has_chat_template=True), "--cors-origins") == ""


def test_it_answers_who_has_its_key_and_its_key_is_in_no_argument_and_no_variable(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"LLAMA_ARG_API_KEY": "none", "AIP_MODE": "PREDICTION", "LLAMA_SERVER_SLOTS_DEBUG": "1", "MY_API_KEY": "k"}
    for name, its_value in given.items():
        monkeypatch.setenv(name, its_value)
    server = fake_server(tmp_path / "bin", Behaviour(loads_s=0.3))
    with start(replace(fit_for(model), server=server.native)) as engine:
        assert text(engine) == "The answer"
        assert engine.build == "llama-server 9.8.7"
        assert requests.get(f"{engine.address.url}/models", timeout=5).status_code == 401
        (begun,) = server.starts
    assert begun["key"] == engine.address.token and len(begun["key"]) >= 32
    assert not [part for part in [*begun["argv"], *begun["environment"].values()] if begun["key"] in part]
    assert not given.keys() & begun["environment"].keys()
    (headers,) = server.headers
    assert "x-conversation-id" not in {name.lower() for name in headers}
    assert gone(begun["pid"])


@pytest.mark.parametrize(("template", "expected"), [("{{ messages }}", None), (None, PLAIN_TEMPLATE)])
def test_a_base_model_continues_text(tmp_path: Path, template: str | None, expected: str | None) -> None:
    server = fake_server(tmp_path / "bin")
    model = write_scripted(tmp_path / "model.gguf", ["The"], template=template)
    with start(replace(fit_for(model), server=server.native)) as engine:
        assert engine.has_chat_template is (template is not None)
    assert server.starts[0]["chat_template"] == expected


def test_no_text_of_a_prompt_is_in_any_file(tmp_path: Path, model: Path) -> None:
    server = fake_server(tmp_path / "bin")  # which writes prompts on stderr
    with Pool(keep_alive_s=60).lease(replace(fit_for(model), server=server.native)) as engine:
        assert text(engine) == "The answer"
        written = [file for file in tmp_path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    assert written == []


@pytest.mark.parametrize(
    ("at", "number", "message"),
    [
        ("load", signal.SIGKILL, "it was killed (signal 9)"),
        ("load", signal.SIGILL, "illegal instruction (signal 4), this build is for another CPU"),
        ("answer", signal.SIGKILL, "it was killed (signal 9)"),
        ("answer", signal.SIGSEGV, "SIGSEGV"),
    ],
)
def test_its_deaths_are_explained_as_those_of_the_worker(
    tmp_path: Path, model: Path, at: str, number: int, message: str
) -> None:
    server = fake_server(tmp_path / "bin", Behaviour(dies_at=at, signal=number))
    with pytest.raises(EngineDiedError) as caught, start(replace(fit_for(model), server=server.native)) as engine:
        text(engine)
    assert message in caught.value.message and caught.value.hint == "llmctl doctor"
    assert gone(server.starts[-1]["pid"])


def test_an_assertion_that_failed_is_told(tmp_path: Path, model: Path) -> None:
    says = "/src/ggml.c:12: GGML_ASSERT(a == b) failed"
    server = fake_server(tmp_path / "bin", Behaviour(dies_at="answer", signal=signal.SIGABRT, says=says))
    with pytest.raises(EngineDiedError) as caught, start(replace(fit_for(model), server=server.native)) as engine:
        text(engine)
    assert caught.value.message.startswith(f"the engine died: it ended itself (SIGABRT): {says}")


def test_an_answer_that_it_fails_to_compute_is_no_death(tmp_path: Path, model: Path) -> None:
    server = fake_server(tmp_path / "bin", Behaviour(fails=True))
    with (
        pytest.raises(DecodingError, match=r"the engine failed: .*Compute error\."),
        start(replace(fit_for(model), server=server.native)) as engine,
    ):
        text(engine)


def test_why_a_model_cannot_be_loaded_is_told_although_the_log_is_off(tmp_path: Path, model: Path) -> None:
    says = "0.00.013.273 E llama_model_load: error loading model: unknown model architecture: 'x'"
    server = fake_server(tmp_path / "bin", Behaviour(dies_at="load", says=says))
    with pytest.raises(EngineError) as caught:
        start(replace(fit_for(model), server=server.native))
    assert caught.value.message == (
        "llama.cpp can't load under-test: it has an architecture that the installed engine can't load "
        "(llama.cpp: unknown model architecture: 'x')"
    )
    silent, logging = server.starts
    assert silent["log_disable"] and not logging["log_disable"]


def test_a_program_that_is_gone(tmp_path: Path, model: Path) -> None:
    server = FakeServer(tmp_path / "nothing")
    with pytest.raises(EngineError, match="nothing can't be started: No such file"):
        start(replace(fit_for(model), server=server.native))


def test_one_that_is_stopped_is_ended(tmp_path: Path, model: Path) -> None:
    server = fake_server(tmp_path / "bin")
    with start(replace(fit_for(model), server=server.native)) as engine:
        os.kill(server.starts[0]["pid"], signal.SIGSTOP)
        with pytest.raises(EngineDiedError, match=r"stopped \(SIGSTOP\) and did not go on"):
            text(engine)


def test_it_does_not_outlive_a_parent_that_was_killed(tmp_path: Path, model: Path) -> None:
    server = fake_server(tmp_path / "bin")
    script = (
        "import os, signal; from pathlib import Path\n"
        "from msgspec.structs import replace; from tests.fakes.fits import fit_for\n"
        "from tests.fakes.llama_server import FakeServer; from llmctl.engine.llama_server.start import start\n"
        f"server = FakeServer(Path({str(server.program)!r}))\n"
        f"engine = start(replace(fit_for(Path({str(model)!r})), server=server.native))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60, env={**os.environ, "PYTHONPATH": "."})
    assert parent.returncode == -signal.SIGKILL
    assert gone(server.starts[0]["pid"])


def test_it_stays_and_is_found_and_ends(tmp_path: Path, model: Path) -> None:
    server = fake_server(tmp_path / "bin")
    fit = replace(fit_for(model), server=server.native)
    with Pool(keep_alive_s=60).lease(fit) as first:
        pid = first.pid
    with Pool().lease(fit) as second:  # which may answer several at once by now
        assert second.was_warm and second.pid == pid == server.starts[0]["pid"]
        assert text(second) == "The answer"
    supervisor = psutil.Process(pid).ppid()
    (path,) = entry.listed(paths.runtime_dir())
    path.unlink()
    assert gone(pid) and gone(supervisor)


def test_one_that_stays_ends_when_its_time_is_over(tmp_path: Path, model: Path) -> None:
    server = fake_server(tmp_path / "bin")
    with Pool(keep_alive_s=0.5).lease(replace(fit_for(model), server=server.native)) as engine:
        pid = engine.pid
    assert gone(pid)
    assert entry.listed(paths.runtime_dir()) == []


def test_another_engine_is_another_key(tmp_path: Path, model: Path) -> None:
    server = fake_server(tmp_path / "bin")
    fit = fit_for(model)
    with Pool(keep_alive_s=60).lease(fit) as worker:
        build = worker.build
    with Pool(keep_alive_s=60).lease(replace(fit, server=server.native)) as other:
        assert not other.was_warm and other.build != build


@pytest.mark.parametrize(
    ("says", "devices"),
    [
        ((), []),
        (("  CUDA0: NVIDIA GeForce RTX 3060 (12044 MiB, 11848 MiB free)",), [("CUDA0", "CUDA", 12044 << 20)]),
        (
            ("  Vulkan0: A (1 MiB, 1 MiB free)", "  Vulkan1: B (2 MiB, 2 MiB free)"),
            [("Vulkan0", "Vulkan", 1 << 20), ("Vulkan1", "Vulkan", 2 << 20)],
        ),
        (("  what is this", "CUDA0: not indented"), []),
    ],
)
def test_what_it_says_of_itself(tmp_path: Path, says: tuple[str, ...], devices: list[tuple[str, str, int]]) -> None:
    server = fake_server(tmp_path, Behaviour(devices=says))
    about = programs.asked(programs.Program(server.program, ServerSource.PATH))
    assert (about.usable, about.version, about.build) == (True, "9.8.7", "build 1234, commit abcdef0")
    assert [(device.name, device.backend, device.memory_total_bytes) for device in about.devices] == devices
    assert about.backends == tuple(dict.fromkeys(["CPU", *(backend for _, backend, _ in devices)]))


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo hello", "is no llama-server"), ("exit 3", "--version fails"), ("kill -ILL $$", "--version fails")],
)
def test_a_program_that_is_something_else(tmp_path: Path, script: str, why: str) -> None:
    program = tmp_path / "llama-server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    about = programs.asked(programs.Program(program, ServerSource.PATH))
    assert not about.usable and about.why is not None and why in about.why


def test_the_order_in_which_programs_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, on_path = (fake_server(tmp_path / name).program for name in ("own", "path"))
    monkeypatch.setenv("PATH", f"{on_path.parent}:{os.environ['PATH']}")
    stale = paths.data_dir() / "engines" / "llama-server-0.1.0-00000000" / "llama-server"
    stale.parent.mkdir(parents=True)
    shutil.copy(own, stale)
    listed = [(program.path, program.source, program.is_stale) for program in programs.programs(own)]
    assert listed == [
        (own, ServerSource.SETTING, False),
        (stale, ServerSource.BUILT, True),
        (on_path, ServerSource.PATH, False),
    ]
    assert "another llama-cpp-python" in (programs.asked(programs.Program(stale, ServerSource.BUILT, True)).why or "")


def test_nothing_of_the_working_directory_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fake_server(tmp_path / "checkout").program.parent)
    monkeypatch.setenv("PATH", ".:")
    assert list(programs.programs(None)) == []


@pytest.mark.skipif(platform.machine() not in CALLS or sys.platform != "linux", reason="what Linux offers for it")
@pytest.mark.parametrize("gpu_layers", [0, 1])
def test_it_has_no_network_unless_a_gpu_is_used(tmp_path: Path, model: Path, gpu_layers: int) -> None:
    server = fake_server(tmp_path / "bin")
    fit = fit_for(model)
    fit = replace(fit, server=server.native, configuration=replace(fit.configuration, gpu_layers=gpu_layers))
    with start(fit) as engine:
        (program,) = psutil.Process(engine.pid).children()
        status = Path(f"/proc/{program.pid}/status").read_text("ascii")
    assert ("\nSeccomp:\t2\n" in status) is (gpu_layers == 0)


@pytest.mark.skipif(REAL is None, reason="no llama-server is here: llmctl engine install llama-server")
def test_the_real_one_answers_as_the_worker_does(starter_file: Path) -> None:
    from llmctl.engine.llama_cpp import start as llama_cpp
    from llmctl.types.request import Sampling

    assert REAL is not None
    server = programs.server_of(REAL, programs.asked(REAL))
    question = Request(
        (Message.of("user", "Name the capital of France."),), sampling=Sampling(max_tokens=12, temperature=0)
    )
    with (
        start(replace(fit_for(starter_file), server=server)) as native,
        llama_cpp.start(fit_for(starter_file)) as worker,
    ):
        answers = [
            [event.text for event in ask(engine, question) if isinstance(event, Text)] for engine in (native, worker)
        ]
        assert requests.get(f"{native.address.url}/models", timeout=5).status_code == 401
        assert requests.get(f"{native.address.url}/slots", timeout=5).status_code != 200
    assert "".join(answers[0]) == "".join(answers[1])
