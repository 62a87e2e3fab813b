"""Engines that stay: found by the next lease, used by several, ended by time, by hand, or for want of room."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
import requests
from msgspec.structs import replace

from llmctl import paths
from llmctl.endpoint.local import ask
from llmctl.engine.pool import Pool
from llmctl.engine.warm import entry, reuse
from llmctl.engine.warm.engine import WarmEngine
from llmctl.engine.warm.process import Process, started
from llmctl.errors import EngineDiedError, EngineError, ResourceError
from llmctl.types.engine import LoadedEngine
from llmctl.types.event import Text
from llmctl.types.listener import SilentListener
from llmctl.types.plan import DeviceMemory, Fit
from llmctl.types.request import Message, Request
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import write_scripted

ROOT = Path(__file__).parents[2]
HI = Request((Message.of("user", "hi"),))


class Heard(SilentListener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    return fit_for(write_scripted(tmp_path / "model.gguf", ["The", " answer"]))


@pytest.fixture(autouse=True)
def nothing_stays(home: Path) -> Iterator[None]:
    yield
    for path in entry.listed(paths.runtime_dir()):
        about = entry.read(path)
        if about is not None and about.ready is not None:
            about.ready.process.end(5)


def entries() -> list[Path]:
    return entry.listed(paths.runtime_dir())


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return holds()


def gone(pid: int) -> bool:
    return within(30, lambda: started(pid) is None)


def stays(fit: Fit, keep_alive_s: float = 60) -> int:
    """An engine that has been used and stays: its process."""
    with Pool(keep_alive_s=keep_alive_s).lease(fit) as engine:
        assert not engine.was_warm
        assert answered(engine) == "The answer"
        return engine.pid


def answered(engine: LoadedEngine) -> str:
    pieces = ask(engine, HI)
    return "".join(piece.text for piece in pieces if isinstance(piece, Text))


def test_the_next_lease_finds_it_and_nothing_stays_without_being_asked_to(fit: Fit) -> None:
    with Pool().lease(fit) as engine:
        alone = engine.pid
    assert gone(alone)
    assert not paths.runtime_dir().exists()
    pid = stays(fit)
    for _ in range(2):
        with Pool() as pool:
            pool.prepare()
            with pool.lease(fit) as engine:
                assert (engine.pid, engine.was_warm) == (pid, True)
                assert answered(engine) == "The answer"
    assert len(entries()) == 1


def test_its_token_is_the_users_alone(fit: Fit) -> None:
    pid = stays(fit)
    (path,) = entries()
    about = entry.read(path)
    assert about is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert about.token not in repr(about)
    process = psutil.Process(pid)
    assert about.token not in " ".join([*process.cmdline(), *process.environ().values()])
    assert os.getsid(pid) == pid
    assert process.cwd() == "/"
    assert about.ready is not None and about.ready.log is not None
    log = Path(about.ready.log)
    assert [os.readlink(f"/proc/{pid}/fd/{stream}") for stream in (0, 1, 2)] == [os.devnull, os.devnull, str(log)]
    assert (stat.S_IMODE(log.stat().st_mode), log.parent) == (0o600, paths.state_dir() / "engines")
    assert "load_tensors" in log.read_text() and "answer" not in log.read_text()


def test_another_engine_for_something_else(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = stays(fit)
    leased_by_another(replace(fit, configuration=replace(fit.configuration, context=256)), pid)
    with monkeypatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "7")
        leased_by_another(fit, pid)
    with Pool().lease(fit) as engine:
        assert engine.pid == pid
    assert fit.candidate.path is not None
    os.utime(fit.candidate.path, (1, 1))
    leased_by_another(fit, pid)


def leased_by_another(fit: Fit, pid: int) -> None:
    """An engine is started for ``fit`` although the one of process ``pid`` has stayed."""
    with Pool().lease(fit) as engine:
        assert engine.pid != pid
        assert not engine.was_warm


def test_it_ends_when_nobody_has_used_it_for_its_time(fit: Fit) -> None:
    with Pool(keep_alive_s=1).lease(fit) as engine:
        time.sleep(2.5)
        assert answered(engine) == "The answer", "it is in use as long as it is leased"
    assert gone(engine.pid)
    assert entries() == []


def test_one_that_stays_answers_several_at_once_and_one_that_does_not_has_one_sequence(tmp_path: Path) -> None:
    endless = fit_for(write_scripted(tmp_path / "model.gguf", ["again", " and"], repeats=True, context=100_000))
    with Pool().lease(endless) as engine:
        assert engine.sequences == 1
    with Pool(keep_alive_s=60).lease(endless) as engine:
        assert engine.sequences > 1
        with closing(ask(engine, HI)) as first, closing(ask(engine, HI)) as second:
            for pieces in (first, second, first):  # the first goes on although the second was begun
                assert isinstance(next(pieces), Text)


def test_one_with_more_sequences_than_are_asked_for_is_found(fit: Fit) -> None:
    pid = stays(fit)
    for wanted, is_found in ((1, True), (4, True), (5, False)):
        several = replace(fit, configuration=replace(fit.configuration, sequences=wanted))
        with Pool().lease(several) as engine:
            assert (engine.was_warm, engine.pid == pid) == (is_found, is_found)


def test_zero_by_name_ends_what_has_stayed(fit: Fit) -> None:
    pid = stays(fit)
    with Pool(keep_alive_s=0, insist=True).lease(fit) as engine:
        assert engine.pid == pid
    assert gone(pid)


def test_infinity_is_for_ever(fit: Fit) -> None:
    pid = stays(fit, float("inf"))
    (about,) = (entry.read(path) for path in entries())
    assert about is not None
    assert about.keep_alive_s is None
    time.sleep(1.5)
    assert started(pid) is not None


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_it_ends_when_its_entry_is_no_longer_there(fit: Fit, how: str) -> None:
    pid = stays(fit)
    (path,) = entries()
    content = path.read_bytes()
    path.unlink()
    if how == "replaced":
        (path.parent / "other").touch(0o600)  # takes the number of the one that was removed
        path.touch(0o600)
        path.write_bytes(content)
    assert gone(pid)


def test_two_that_want_the_same_at_once_share_one(fit: Fit) -> None:
    leased: list[tuple[int, bool]] = []
    both = threading.Barrier(2)

    def use() -> None:
        both.wait()
        with Pool(keep_alive_s=60).lease(fit) as engine:
            assert answered(engine) == "The answer"
            leased.append((engine.pid, engine.was_warm))

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({pid for pid, _ in leased}) == 1
    assert sorted(was_warm for _, was_warm in leased) == [False, True]


def test_one_that_was_killed_is_replaced(fit: Fit) -> None:
    pid = stays(fit)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    again = stays(fit)
    assert again != pid
    assert len(entries()) == 1


def test_one_that_is_stopped_while_it_answers_a_program_is_ended_and_replaced(
    endless_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.engine.warm.reuse.STOP_S", 0.3)
    fit = fit_for(endless_file)
    with Pool(keep_alive_s=60).lease(fit) as engine:
        pid, address = engine.pid, engine.address
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "seed": 1}
    headers = {"Authorization": f"Bearer {address.token}"}
    with requests.post(
        f"{address.url}/chat/completions", json=body, headers=headers, stream=True, timeout=60
    ) as answer:
        assert next(answer.iter_lines())
        os.kill(pid, signal.SIGSTOP)
        with Pool(keep_alive_s=60).lease(fit) as another:
            assert another.pid != pid
    assert gone(pid)


def test_one_that_is_stopped_is_ended_and_replaced(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.engine.warm.reuse.STOP_S", 0.3)
    pid = stays(fit)
    os.kill(pid, signal.SIGSTOP)
    assert stays(fit) != pid
    assert gone(pid)


@pytest.mark.parametrize(
    ("number", "says"),
    [(signal.SIGKILL, r"died while it answered \(log: "), (signal.SIGSEGV, "answered: Segmentation fault")],
)
def test_one_that_dies_while_it_answers(tmp_path: Path, number: int, says: str) -> None:
    endless = fit_for(write_scripted(tmp_path / "model.gguf", ["again", " and"], repeats=True, context=100_000))
    with Pool(keep_alive_s=60).lease(endless):
        pass
    with Pool().lease(endless) as engine:
        pieces = ask(engine, HI)
        next(pieces)
        os.kill(engine.pid, number)
        with pytest.raises(EngineDiedError, match=says):
            list(pieces)


def test_one_that_is_ended_on_purpose_has_not_failed(fit: Fit) -> None:
    """Else its end would be a reason to send the prompt elsewhere."""
    stays(fit)
    (path,) = entries()
    with Pool().lease(fit) as engine:
        path.unlink()
        assert gone(engine.pid)
        with pytest.raises(EngineError, match="was ended while it answered") as caught:
            answered(engine)
    assert not isinstance(caught.value, EngineDiedError)


def test_a_number_that_another_process_has_by_now_is_left_alone(fit: Fit) -> None:
    pid = stays(fit)
    (path,) = entries()
    about = entry.read(path)
    assert about is not None and about.ready is not None
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        process = Process(other.pid, about.ready.process.started)
        path.write_bytes(b"")
        with entry.use(path) or pytest.fail() as file:
            file.write(replace(about, ready=replace(about.ready, process=process)))
        assert not process.is_alive
        assert process.end(1)
        with Pool().lease(fit) as engine:
            assert not engine.was_warm
        assert entries() == []
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"key": 1}', b"\xff"])
def test_what_is_no_entry_is_removed(content: bytes) -> None:
    folder = entry.folder()
    (folder / "broken.json").touch(0o600)
    (folder / "broken.json").write_bytes(content)
    assert reuse.living(folder) == []
    assert entries() == []


def test_what_another_command_loads_is_waited_for_and_what_it_has_left_is_removed(fit: Fit) -> None:
    stays(fit)
    (path,) = entries()
    about = entry.read(path)
    assert about is not None
    with entry.create(entry.folder(), replace(about, ready=None)):
        assert len(reuse.living(path.parent)) == 2
    assert len(reuse.living(path.parent)) == 1
    assert entries() == [path]
    key, loading = "another", replace(about, key="another", ready=None)
    with entry.create(path.parent, loading) as file:
        threading.Timer(0.5, lambda: file.write(replace(about, key=key))).start()
        found = reuse.find(path.parent, key, None)
    assert isinstance(found, WarmEngine)
    found.let_go()


HOLDER = """
import os, signal, sys
from pathlib import Path
from llmctl.endpoint.local import ask
from llmctl.engine.pool import Pool
from llmctl.types.request import Message, Request
from tests.fakes.fits import fit_for
lease = Pool(keep_alive_s=float(sys.argv[2])).lease(fit_for(Path(sys.argv[1])))
engine = lease.__enter__()
list(ask(engine, Request((Message.of("user", "hi"),))))
print(engine.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("keep_alive_s", [0, 60])
def test_its_parent_is_killed(fit: Fit, keep_alive_s: float) -> None:
    argv = [sys.executable, "-c", HOLDER, str(fit.candidate.path), str(keep_alive_s)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, stdout=subprocess.PIPE, env=environment, timeout=100, check=False)
    pid = int(done.stdout)
    if keep_alive_s:
        with Pool(insist=True).lease(fit) as engine:
            assert (engine.pid, engine.was_warm) == (pid, True)
    assert gone(pid)
    assert within(5, lambda: entries() == [])


def linked(place: Path) -> None:
    (place.parent / "elsewhere").mkdir(parents=True, mode=0o700)
    place.symlink_to(place.parent / "elsewhere")


def writable(place: Path) -> None:
    place.mkdir(parents=True)
    place.chmod(0o777)


def a_file(place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.touch()


def replaceable(place: Path) -> None:
    place.mkdir(parents=True, mode=0o700)
    place.parent.chmod(0o777)


def anothers(place: Path) -> None:
    place.mkdir(parents=True, mode=0o700)
    try:
        os.chown(place, 12345, 12345)
    except PermissionError:
        pytest.skip("only root can give a folder away")


def missing(place: Path) -> None:
    os.environ["XDG_RUNTIME_DIR"] = str(place.parent / "nowhere" / "deep")


def read_only(place: Path) -> None:
    place.mkdir(parents=True)
    place.chmod(0o500)
    if os.access(place, os.W_OK):
        pytest.skip("nothing is read-only for root")


SPOILED = (linked, writable, a_file, replaceable, anothers, missing, read_only)


@pytest.fixture
def spoiled(spoil: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.environ["XDG_RUNTIME_DIR"])  # what ``missing`` sets is undone
    spoil(paths.runtime_dir())
    yield
    with suppress(OSError):
        paths.runtime_dir().parent.chmod(0o700)


@pytest.mark.parametrize("spoil", SPOILED)
@pytest.mark.usefixtures("spoiled")
def test_a_folder_that_is_not_the_users_alone_is_refused() -> None:
    with pytest.raises(ResourceError, match="no engine can stay"):
        Pool(keep_alive_s=60, insist=True).prepare()


@pytest.mark.parametrize("spoil", [writable, missing])
@pytest.mark.usefixtures("spoiled")
def test_where_no_engine_can_stay_that_is_said_and_one_answers(fit: Fit) -> None:
    heard = Heard()
    with Pool(keep_alive_s=60, listener=heard) as pool:
        pool.prepare()
        with pool.lease(fit) as engine:
            assert answered(engine) == "The answer"
    assert gone(engine.pid)
    assert [line.partition(":")[0] for line in heard.lines] == ["no engine can stay"]


def needing(fit: Fit, total_bytes: int) -> Fit:
    row = DeviceMemory("cpu", total_bytes, 0, 0, 0, 0, total_bytes, 8 << 30)
    return replace(fit, memory=replace(fit.memory, by_device=(row,)))


def test_an_idle_engine_makes_room_and_a_busy_one_does_not(fit: Fit, tmp_path: Path) -> None:
    other = fit_for(write_scripted(tmp_path / "other.gguf", ["Hi"]))
    pid, heard = stays(fit), Heard()
    with Pool(listener=heard).lease(needing(other, 1 << 30)):
        assert started(pid) is not None
    with Pool().lease(fit) as engine, Pool(listener=heard).lease(needing(other, 8 << 30)):
        assert answered(engine) == "The answer"
    assert heard.lines == []
    with Pool(listener=heard).lease(needing(other, 8 << 30)):
        assert started(pid) is None
    (line,) = heard.lines
    assert line.startswith("ended the idle engine of under-test Q4_1 to make room: ")


CROWDED = """
import resource, sys
from pathlib import Path
from msgspec.structs import replace
from llmctl.engine.pool import Pool
from llmctl.types.plan import Configuration
from tests.engine.test_pool import Heard, answered
from tests.fakes.fits import fit_for
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
heard, fit = Heard(), fit_for(Path(sys.argv[1]))
fit = replace(fit, configuration=Configuration(1 << 19, flash_attention=True))
with Pool(keep_alive_s=60, listener=heard).lease(fit) as engine:
    print(answered(engine), engine.sequences)
print(*heard.lines, sep="\\n")
"""


def test_where_memory_does_not_suffice_for_several_it_answers_one_at_a_time(tmp_path: Path) -> None:
    """A cache of 524,288 tokens takes half a GiB."""
    argv = [sys.executable, "-c", CROWDED, str(write_scripted(tmp_path / "model.gguf", ["The", " answer"]))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, env=environment, timeout=100, check=True)
    answer, warning = done.stdout.splitlines()
    assert answer == "The answer 1"
    assert "memory ran out" in warning and warning.endswith("; it is tried for 1 request at a time")
