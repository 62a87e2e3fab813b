"""The door to the machine: nothing behind it raises, and a recorded machine is closed to the real one."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl import host as host_module
from llmctl.host import READ_LIMIT_BYTES, Host, Ran


@pytest.fixture
def recorded(tmp_path: Path) -> Host:
    root = tmp_path / "machine"
    for name, content in {
        "proc/meminfo": b"MemTotal: 1 kB\n",
        "sys/a/number": b" 42\n",
        "sys/b/number": b"max\n",
        "sys/c/number": b"",
        "sys/d/bytes": b"caf\xe9\n",
        "sys/e/large": b"x" * (READ_LIMIT_BYTES + 5),
    }.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return Host(root=root, environ={"A": "b"})


def test_read(recorded: Host) -> None:
    assert recorded.read("/proc/meminfo") == "MemTotal: 1 kB\n"
    assert recorded.read("/sys/d/bytes") == "caf\ufffd\n"
    assert len(recorded.read("/sys/e/large") or "") == READ_LIMIT_BYTES
    assert recorded.read("/sys/e/large", limit_bytes=100_000) == "x" * 100_000
    assert recorded.read("proc/meminfo") == recorded.read("//proc/meminfo") == "MemTotal: 1 kB\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_what_the_kernel_tells_in_pieces_is_read_whole() -> None:
    """/proc/self/smaps comes in pages, and is longer than one."""
    assert (Host().read("/proc/self/smaps") or "").count("VmFlags:") > 20


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_no_file_stays_open(recorded: Host) -> None:
    before = os.listdir("/proc/self/fd")
    for name in ("/proc/meminfo", "/proc", "/nothing"):  # a folder can be opened, but not read
        recorded.read(name)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("name", ["/nothing", "/proc", "/proc/meminfo/x", "/a\0b", "/" + "x" * 5000])
def test_what_cannot_be_read_is_none(name: str, recorded: Host) -> None:
    assert recorded.read(name) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_none(recorded: Host) -> None:
    recorded.path("/proc/meminfo").chmod(0)
    assert recorded.read("/proc/meminfo") is None


def test_exists(recorded: Host) -> None:
    assert recorded.exists("/proc/meminfo")
    assert recorded.exists("/sys")
    assert not recorded.exists("/dev")
    assert not recorded.exists("/a\0b")


def test_glob(recorded: Host) -> None:
    assert recorded.glob("/sys/*/number") == ["/sys/a/number", "/sys/b/number", "/sys/c/number"]
    assert recorded.glob("/sys/[ab]/*") == ["/sys/a/number", "/sys/b/number"]
    assert recorded.glob("/nothing/*") == []
    assert recorded.glob("") == []


def test_what_glob_finds_can_be_read(recorded: Host) -> None:
    assert [recorded.read(name) for name in recorded.glob("/sys/?/number")] == [" 42\n", "max\n", ""]


def test_glob_on_the_real_machine() -> None:
    assert f"/proc/{os.getpid()}" in Host().glob("/proc/[0-9]*")


@given(name=st.text(max_size=30), content=st.binary(max_size=50))
def test_nothing_raises(name: str, content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / "file").write_bytes(content)
    host = Host(root=root, environ={})
    host.read("/file")
    host.exists(name.replace("..", ""))
    host.read(name.replace("..", ""))
    host.glob(name.replace("..", ""))


def test_a_recorded_machine_runs_nothing(recorded: Host, tmp_path: Path) -> None:
    assert not recorded.live
    assert recorded.run([sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')"], timeout_s=5) is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("print('hi')", Ran(0, "hi\n", "")),
        ("import sys; sys.stdout.buffer.write(b'caf\\xe9')", Ran(0, "caf\ufffd", "")),
        ("import sys; print('said'); sys.exit('no')", Ran(1, "said\n", "no\n")),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", Ran(132, "", "")),
        ("import sys; print(repr(sys.stdin.read()))", Ran(0, "''\n", "")),  # nothing waits for a person
        ("import os; print(os.environ['A'], 'B' in os.environ)", Ran(0, "b False\n", "")),
    ],
)
def test_run(program: str, expected: Ran) -> None:
    assert Host(environ={"A": "b"}).run([sys.executable, "-c", program], timeout_s=20) == expected


def test_run_ends_in_time() -> None:
    begun = time.monotonic()
    assert (
        Host().run([sys.executable, "-c", "import time; print('x', flush=True); time.sleep(60)"], timeout_s=0.5) is None
    )
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("argv", [["no-such-program-anywhere"], ["/etc/passwd"], ["true", "a\0b"]])
def test_what_cannot_be_run_is_none(argv: list[str]) -> None:
    assert Host().run(argv, timeout_s=5) is None


@pytest.mark.skipif(sys.platform != "linux", reason="env(1)")
def test_a_program_gets_no_secret_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_xyz")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    ran = Host().run(["env"], timeout_s=20)
    assert ran is not None
    assert "CUDA_VISIBLE_DEVICES=1\n" in ran.out
    assert "hf_xyz" not in ran.out


def test_the_environment_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    host = Host()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert host.live
    assert host.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_kinds_of_filesystems_are_those_of_psutil() -> None:
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    assert host_module._mounts() == mounts
    usage = psutil.disk_usage("/")
    found = Host().filesystem(Path("/"))
    assert found is not None
    assert (found.total_bytes, found.kind) == (usage.total, mounts["/"])


@pytest.mark.parametrize(
    ("field", "path"),
    [
        (b"/mnt", b"/mnt"),
        (rb"/media/my\040disk", b"/media/my disk"),
        (rb"/a\134b\011\012", b"/a\\b\t\n"),
        (rb"/a\9", rb"/a\9"),
    ],
)
def test_a_mount_point_is_read_as_the_kernel_writes_it(field: bytes, path: bytes) -> None:
    assert host_module._unescaped(field) == path
