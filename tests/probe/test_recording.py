"""A machine into a folder and back: the same machine, and nobody's name in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.child import Reply
from llmctl.files.decode import FieldError
from llmctl.host import Filesystem, Host, Ran
from llmctl.probe.recorded.recording import DOCUMENT, Recorder, recorded
from llmctl.probe.recorded.scrub import Scrubber

UUID = "8c6f1d2e-1b7a-4c3d-9e8f-0123456789ab"
CONTAINER = "f" * 60 + "0123"


def tree(root: Path, files: dict[str, str]) -> Host:
    for name, text in files.items():
        place = root / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return Host(root=root, environ={"CUDA_VISIBLE_DEVICES": f"GPU-{UUID}", "SECRET": "sk-123"})


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    files = {
        "/proc/cpuinfo": "processor : 0\nmodel name : CPU\nSerial\t\t: 10000000abcdef01\n",
        "/proc/self/cgroup": f"0::/system.slice/docker-{CONTAINER}.scope\n",
        "/proc/self/mountinfo": "1 0 8:1 / /home/jane rw - ext4 /dev/disk/by-uuid/x rw\n"
        "2 0 0:2 / /sys/fs/cgroup rw - cgroup2 c rw\n",
        "/proc/self/status": "Name:\tllmctl\nCpus_allowed_list:\t0-3\n",
        "/etc/os-release": 'NAME=x\nPRETTY_NAME="Ubuntu 24.04 LTS"\nID=ubuntu\nID_LIKE=debian\n'
        'VERSION_ID="24.04"\nHOME_URL="https://intra.janes-firm.example"\n',
        "/sys/class/drm/card0/device/vendor": "0x1002\n",
        "/dev/nvidiactl": "",
    }
    host = tree(tmp_path / "here", files)
    return Recorder(machine=host, environ={**host.environ})


def test_what_was_learnt_can_be_learnt_again(recorder: Recorder, tmp_path: Path) -> None:
    learnt = (
        recorder.read("/proc/meminfo"),
        recorder.exists("/dev/nvidiactl"),
        recorder.exists("/dev/dxg"),
        recorder.glob("/sys/class/drm/card*"),
        recorder.read("/sys/class/drm/card0/device/vendor"),
    )
    recorder.runs["sysctl", "hw"] = Ran(1, "hw.memsize: 1\n", "unknown oid\n")
    recorder.runs["gone",] = None
    recorder.asked["llmctl.probe.gpu.nvidia"] = Reply({"driver": "550"}, None)
    recorder.asked["llmctl.engine.devices"] = Reply(None, "was stopped", illegal_instruction=True)
    recorder.store[:] = [Filesystem(10, 5, "ext4")]
    recorder.write(tmp_path / "there")
    again = recorded(tmp_path / "there")
    assert learnt == (
        again.read("/proc/meminfo"),
        again.exists("/dev/nvidiactl"),
        again.exists("/dev/dxg"),
        again.glob("/sys/class/drm/card*"),
        again.read("/sys/class/drm/card0/device/vendor"),
    )
    assert again.run(["sysctl", "hw"], timeout_s=1) == Ran(1, "hw.memsize: 1\n", "unknown oid\n")
    assert again.run(["gone"], timeout_s=1) is None
    assert again.run(["never", "asked"], timeout_s=1) is None
    assert again.ask("llmctl.probe.gpu.nvidia", deadline_s=1) == Reply({"driver": "550"}, None)
    assert again.ask("llmctl.engine.devices", deadline_s=1).illegal_instruction
    assert again.ask("llmctl.never", deadline_s=1).why == "was not recorded"
    assert again.filesystem(Path("/anywhere")) == Filesystem(10, 5, "ext4")
    assert not again.live


def test_nobodys_name_is_in_it(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "janes-laptop.example")
    monkeypatch.setattr("getpass.getuser", lambda: "jane")
    for name in ("/proc/cpuinfo", "/proc/self/cgroup", "/proc/self/mountinfo", "/proc/self/status", "/etc/os-release"):
        recorder.read(name)
    recorder.glob(f"/sys/fs/cgroup/system.slice/docker-{CONTAINER}.scope")
    recorder.asked["x"] = Reply({"uuid": f"GPU-{UUID}", "why": "/home/jane/lib.so: no such file on janes-laptop"}, None)
    recorder.write(tmp_path / "there")
    everything = "\n".join(
        f"{path.relative_to(tmp_path)}\n{path.read_text() if path.is_file() else ''}"
        for path in (tmp_path / "there").rglob("*")
    )
    for secret in ("jane", "laptop", UUID, CONTAINER, "10000000abcdef01", "sk-123", "SECRET", "by-uuid", "llmctl\n"):
        assert secret not in everything.replace("llmctl.", "")
    assert "GPU-00000000-0000-0000-0000-000000000001" in everything
    assert "/home/user/lib.so: no such file on host" in everything
    again = recorded(tmp_path / "there")
    assert again.read("/proc/self/status") == "Cpus_allowed_list:\t0-3\n"
    assert again.read("/etc/os-release") == 'PRETTY_NAME="Ubuntu 24.04 LTS"\nID=ubuntu\nID_LIKE=debian\n'
    assert again.read("/proc/self/mountinfo") == "2 0 0:2 / /sys/fs/cgroup rw - cgroup2 c rw\n"


def test_only_variables_that_were_looked_up_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    recorder = Recorder()
    assert recorder.environ.get("CUDA_VISIBLE_DEVICES") == "0"
    assert "HIP_VISIBLE_DEVICES" not in recorder.environ
    recorder.write(tmp_path / "there")
    assert recorded(tmp_path / "there").environ == {"CUDA_VISIBLE_DEVICES": "0"}
    assert "hf_secret" not in (tmp_path / "there" / DOCUMENT).read_text()


def test_the_real_machine_is_asked_through_a_recorder(tmp_path: Path) -> None:
    recorder = Recorder()
    assert not recorder.live
    assert recorder.read("/proc/version") == Host().read("/proc/version")
    ran = recorder.run(["true"], timeout_s=5)
    assert ran == Ran(0, "", "")
    assert recorder.filesystem(tmp_path) is not None
    assert recorder.ask("llmctl.no_such_module", deadline_s=10).data is None
    recorder.write(tmp_path / "there")
    again = recorded(tmp_path / "there")
    assert again.run(["true"], timeout_s=5) == ran
    assert again.filesystem(Path("/")) == recorder.store[0]


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"system": "linux"},
        {"system": 1, "environ": {}},
        {"system": "linux", "environ": {"a": 1}},
        {"system": "linux", "environ": {}, "more": 1},
        {"system": "linux", "environ": {}, "runs": [{"argv": "x"}]},
        {"system": "linux", "environ": {}, "runs": [{"argv": ["x"], "ran": {"code": "0", "out": "", "err": ""}}]},
        {"system": "linux", "environ": {}, "asked": [{"data": 1}]},
        {"system": "linux", "environ": {}, "store": {"total_bytes": -1, "free_bytes": 0}},
    ],
)
def test_what_is_no_recording_is_refused(document: object, tmp_path: Path) -> None:
    (tmp_path / DOCUMENT).write_text(json.dumps(document))
    with pytest.raises(FieldError):
        recorded(tmp_path)


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("nothing to hide, 0x1002 0000:03:00.0", None),
        ("Serial: 12345\nkept\n", "kept\n"),
        ("a serialized word stays", None),
        (f"GPU-{UUID}", "GPU-00000000-0000-0000-0000-000000000001"),
        (f"pod{UUID.replace('-', '_')}.slice", "pod00000000_0000_0000_0000_000000000001.slice"),
        ("ROCR GPU-d1b2c3d4e5f60718,1", "ROCR GPU-0000000000000001,1"),
        ("link/ether 52:54:00:12:34:56", "link/ether 02:00:00:00:00:01"),
        ("id " + "a1" * 32, "id " + "1".rjust(64, "0")),
        ("jane janet jane-s /home/jane/x jane.", "user janet jane-s /home/user/x user."),
        ("pc.lan and PC", "host and host"),
        ("DRIVER=nvidia ID=fedora", None),  # customary names are words of the system, and nobody's
        ("serial_number: 1\nSerialNumber 2\nx\n", "x\n"),
        ("/mnt/c/Users/Anna Smith/lib.so and C:\\Users\\Anna\\x", "/mnt/c/Users/user/lib.so and C:\\Users\\user\\x"),
    ],
)
def test_scrubbing(text: str, scrubbed: str | None) -> None:
    scrub = Scrubber(
        {"jane": "user", "pc.lan": "host", "pc": "host", "root": "x", "": "y", "nvidia": "user", "fedora": "z"}
    )
    assert scrub(text) == (text if scrubbed is None else scrubbed)


def test_the_same_is_always_replaced_by_the_same() -> None:
    scrub = Scrubber({})
    first, second = scrub(UUID), scrub(UUID.replace("8c", "8d"))
    assert first != second
    assert (scrub(UUID), scrub(UUID.upper())) == (first, first)


@given(st.text(max_size=200), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_scrubbing_never_fails(text: str, names: dict[str, str]) -> None:
    Scrubber(names)(text)


def test_a_folder_that_is_there_already(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(FileExistsError):
        recorder.write(tmp_path)
    assert os.listdir(tmp_path / "root") == []
