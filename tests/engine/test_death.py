"""Why an engine has died or could not load, in words: by table, and with real processes, signals, files and limits."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import paths
from llmctl.endpoint.local import ask
from llmctl.engine.death import DOCTOR, NO_LIMIT, PLAN, End, cause, died, not_loaded, planned
from llmctl.engine.llama_cpp.start import start
from llmctl.engine.log import KEPT, EngineLog, crash_words
from llmctl.engine.worker_process import Worker
from llmctl.errors import EngineDiedError, LlmctlError
from llmctl.types.plan import DeviceMemory
from llmctl.types.request import Message, Request, Sampling
from tests.fakes.control_group import control_group
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import write_scripted

ROOT = Path(__file__).parents[2]
HI = Request((Message.of("user", "hi"),))
ASSERTED = "/src/ggml.c:3417: GGML_ASSERT(n > 0) failed"
BAD_ALLOC = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"


@pytest.mark.parametrize(
    ("end", "sentence", "hint", "lacked_memory"),
    [
        (End(-9, ""), "it was killed (signal 9), by hand or by the kernel because memory ran out", DOCTOR, False),
        (End(-9, "", True), "memory ran out, and the kernel ended it (signal 9)", PLAN, True),
        (End(None, "", True), "memory ran out, and the kernel ended it (signal 9)", PLAN, True),
        (End(None, "load_tensors: ok\n"), "", DOCTOR, False),
        (End(-4, ""), "illegal instruction (signal 4), this build is for another CPU", DOCTOR, False),
        (End(-11, "Fatal Python error: Segmentation fault\n"), "it used a wrong address (SIGSEGV)", DOCTOR, False),
        (End(None, "Fatal Python error: Segmentation fault\n"), "Segmentation fault", DOCTOR, False),
        (End(-6, f"loading\n{ASSERTED}\nmore\n"), f"it ended itself (SIGABRT): {ASSERTED}", DOCTOR, False),
        (End(-6, BAD_ALLOC, False), "memory ran out (std::bad_alloc)", PLAN, True),
        (End(-15, ""), "it was ended (SIGTERM), by hand or by a program that keeps memory free", DOCTOR, False),
        (End(-50, ""), "it got a signal (signal 50)", DOCTOR, False),
        (
            End(1, "Traceback\nModuleNotFoundError: llama_cpp\n"),
            "exit code 1 ModuleNotFoundError: llama_cpp",
            DOCTOR,
            False,
        ),
        (End(3, ""), "exit code 3", DOCTOR, False),
    ],
)
def test_how_a_process_ended(end: End, sentence: str, hint: str, lacked_memory: bool) -> None:
    assert cause(end) == (sentence, hint, lacked_memory)
    error = died(end, None)
    assert (error.lacked_memory, error.hint) == (lacked_memory, hint)


@pytest.mark.parametrize(
    ("log", "says", "hint"),
    [
        (
            ["error loading model architecture: unknown model architecture: 'oss'"],
            "it has an architecture that",
            "plan",
        ),
        (["error loading model: missing tensor 'output.weight'"], "a tensor is missing", "fetch it again"),
        (["tensor 'a' data is not within the file bounds, model is corrupted or incomplete"], "it is cut off", "fetch"),
        (["something new"], "can't load tiny: something new", DOCTOR),
        ([], "can't load tiny: Failed", DOCTOR),
    ],
)
def test_what_llama_cpp_does_not_load(log: list[str], says: str, hint: str) -> None:
    error = not_loaded("tiny", "Failed", log)
    assert says in error.message and hint in (error.hint or "")
    assert not error.lacked_memory


@pytest.mark.parametrize(
    ("log", "number"),
    [
        (["alloc_buffer: failed to allocate buffer of size 8589934592"], "8.6 GB"),
        (["failed to allocate output buffer of size 512.00 MiB"], "537 MB"),
        (["ggml_aligned_malloc: insufficient memory (attempted to allocate 1024.00 MB)"], "1.1 GB"),
        (["allocating 4096.00 MiB on device 0: cudaMalloc failed: out of memory"], "4.3 GB"),
        (["error loading model: mmap failed: Cannot allocate memory"], "memory ran out (llama.cpp: "),
    ],
)
def test_memory_that_could_not_be_had(log: list[str], number: str) -> None:
    error = not_loaded("tiny", "Failed to create llama_context", ["unrelated", *log])
    assert number in error.message and log[0] in error.message
    assert error.lacked_memory and error.hint == PLAN


def test_what_was_planned_is_told_of_the_fullest_device() -> None:
    fit = fit_for(Path("x"))
    rows = [DeviceMemory(name, 0, 0, 0, 0, 0, total, 8 << 30) for name, total in (("cpu", 1 << 30), ("gpu0", 7 << 30))]
    assert planned(replace(fit, memory=replace(fit.memory, by_device=tuple(rows)))) == (
        "; 7.5 GB was planned on gpu0, 8.6 GB was free"
    )


# Real processes


def logs() -> list[Path]:
    return sorted((paths.state_dir() / "engines").glob("*.log"))


def test_the_log_is_the_users_alone_and_goes_with_an_engine_that_ends_in_order(tmp_path: Path) -> None:
    fit = fit_for(write_scripted(tmp_path / "model.gguf", ["The", " answer"]))
    with start(fit) as engine:
        list(ask(engine, HI))
        (log,) = logs()
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        assert "llama_context" in log.read_text()
    assert logs() == []


def test_where_the_state_folder_cannot_be_written_the_reason_is_known_all_the_same(tmp_path: Path) -> None:
    (paths.state_dir().parent).mkdir(parents=True, exist_ok=True)
    paths.state_dir().write_text("no folder")
    worker = Worker()
    os.kill(worker.pid, signal.SIGSEGV)
    with pytest.raises(EngineDiedError, match=r"wrong address \(SIGSEGV\)$"):
        start(fit_for(write_scripted(tmp_path / "model.gguf", ["The"])), worker=worker)


def test_so_many_logs_stay_and_no_more() -> None:
    for _ in range(KEPT + 3):
        EngineLog().close()
    assert len(logs()) == KEPT
    old = logs()[0].with_name("2020-01-01-000000-00000000.log")
    logs()[0].rename(old)
    EngineLog().remove()
    assert not old.exists()


def test_a_file_that_is_cut_off_while_it_is_used(tmp_path: Path) -> None:
    file = write_scripted(tmp_path / "model.gguf", ["again", " and"], repeats=True, context=100_000)
    size = file.stat().st_size
    with start(fit_for(file, context=100_000)) as engine:
        pieces = ask(engine, HI)
        next(pieces)
        os.truncate(file, 4096)
        with pytest.raises(EngineDiedError) as caught:
            list(pieces)
    assert f"its file was cut off while it was used: 4,096 of {size:,} bytes are left (SIGBUS)" in caught.value.message
    (log,) = logs()
    assert str(log) in caught.value.message
    # Where both of its threads read what is gone, the second ends it before the first has written.
    assert crash_words(log.read_text()) in ("Bus error", "")


def test_what_a_request_holds_is_in_no_log(tmp_path: Path) -> None:
    """llama.cpp shows a grammar that it can't read, on stderr."""
    asked = replace(HI, sampling=Sampling(extra={"grammar": "root ::= SECRET ) broken"}))
    with start(fit_for(write_scripted(tmp_path / "model.gguf", ["The"]))) as engine:
        with pytest.raises(LlmctlError, match="grammar"):
            list(ask(engine, asked))
        (log,) = logs()
        assert "SECRET" not in log.read_text()


LIMITED = """
import resource, sys
from pathlib import Path
from llmctl.engine.llama_cpp.start import start
from llmctl.errors import EngineError
from tests.fakes.fits import fit_for
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
try:
    start(fit_for(Path(sys.argv[1]), context=8 << 20))
except EngineError as error:
    print(error.lacked_memory, error.message, error.hint, sep="\\n")
"""


def test_a_limit_on_addresses_is_told_with_what_was_asked_for(tmp_path: Path) -> None:
    file, limit_bytes = write_scripted(tmp_path / "model.gguf", ["The"]), 4 << 30
    argv = [sys.executable, "-c", LIMITED, str(file), str(limit_bytes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=100, check=True, env=environment)
    lacked, message, hint = done.stdout.splitlines()
    assert (lacked, hint) == ("True", NO_LIMIT)
    assert "8.6 GB more could not be had; ulimit -v allows 4.3 GB" in message


KILLED = """
import os, sys
from pathlib import Path
from llmctl.engine.llama_cpp.start import start
from llmctl.engine.worker_process import Worker
from llmctl.errors import EngineError
from tests.fakes.control_group import ControlGroup
from tests.fakes.fits import fit_for
group = ControlGroup(Path(sys.argv[2]))
group.procs.write_text(str(os.getpid()))
worker = Worker()
group.leave(64 << 20)
try:
    start(fit_for(Path(sys.argv[1]), context=1 << 20), worker=worker)
except EngineError as error:
    print(error.lacked_memory, error.message, sep="\\n")
"""


def test_the_kernel_ends_it_for_want_of_memory(tmp_path: Path) -> None:
    """Its cache takes 1 GiB, its control group has 64 MiB left."""
    file = write_scripted(tmp_path / "model.gguf", ["The"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with control_group() as group:
        if isinstance(group, str):
            pytest.skip(group)
        argv = [sys.executable, "-c", KILLED, str(file), str(group.procs.parent)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=100, check=True, env=environment)
    lacked, message = done.stdout.splitlines()
    assert lacked == "True"
    assert message.startswith("the engine died: memory ran out, and the kernel ended it (signal 9)")
