"""A llama-server on PATH: what its own words say, and what becomes of those that are broken, old or something else."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.engine import devices
from llmctl.engine.devices import llama_server
from llmctl.host import Host, Ran
from llmctl.probe.recorded.recording import Recorded, RecordedCommand, Recording
from llmctl.types.machine import EngineDevice, EngineInfo

# as llama_print_build_info() and common_print_available_devices() print (llama.cpp's common/), now and before 2026
NEW = "version: 0.5.0 (build 6123, commit 79c1160b)\nbuilt with GNU 13.3.0 for Linux x86_64\n"
OLD = "version: 6123 (79c1160b)\nbuilt with cc (Ubuntu 13.3.0-6ubuntu2~24.04) 13.3.0 for x86_64-linux-gnu\n"
CUDA = "Available devices:\n  CUDA0: NVIDIA GeForce RTX 3090 (24245 MiB, 23880 MiB free)\n"
NONE = "Available devices:\n  (none)\n"
BLAS = "Available devices:\n  BLAS: OpenBLAS (0 MiB, 0 MiB free)\n"
MIB = 1 << 20


def told(version: Ran | None, listed: Ran | None = None) -> EngineInfo | None:
    runs = (RecordedCommand(llama_server.VERSION, version), RecordedCommand(llama_server.LIST, listed))
    return llama_server.ask(Recorded(root=Path("/nowhere"), environ={}, recording=Recording("linux", {}, runs)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (NONE, []),
        ("Available devices:\n", []),  # before there was a word for it
        (CUDA, [("CUDA0", "NVIDIA GeForce RTX 3090", "CUDA", "gpu", 24245, 23880)]),
        (CUDA.replace("\n", "\r\n"), [("CUDA0", "NVIDIA GeForce RTX 3090", "CUDA", "gpu", 24245, 23880)]),
        (BLAS, [("BLAS", "OpenBLAS", "BLAS", "accel", 0, 0)]),
        (
            "ggml_vulkan: Found 2 Vulkan devices:\nAvailable devices:\n"
            "  Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 24100 MiB free)\n"
            "  Vulkan1: AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO) (31920 MiB, 20000 MiB free)\n",
            [
                ("Vulkan0", "AMD Radeon RX 7900 XTX (RADV NAVI31)", "Vulkan", "gpu", 24560, 24100),
                ("Vulkan1", "AMD Radeon Graphics (RADV RAPHAEL_MENDOCINO)", "Vulkan", "gpu", 31920, 20000),
            ],
        ),
        # docs/backend/SYCL.md
        (
            "Available devices:\n  SYCL0: Intel(R) Arc(TM) A770 Graphics (15473 MiB, 15473 MiB free)\n",
            [("SYCL0", "Intel(R) Arc(TM) A770 Graphics", "SYCL", "gpu", 15473, 15473)],
        ),
        ("  MTL0: Apple M3 Max (28753 MiB, 28753 MiB free)", [("MTL0", "Apple M3 Max", "MTL", "gpu", 28753, 28753)]),
        ("  ROCm0: Radeon (1 MiB, 1 MiB free)", [("ROCm0", "Radeon", "ROCm", "gpu", 1, 1)]),
        ("  GPUOpenCL: QUALCOMM Adreno (1 MiB, 0 MiB free)", [("GPUOpenCL", "QUALCOMM Adreno", "OpenCL", "gpu", 1, 0)]),
        ("  RPC0[10.0.0.2:50052]: 10.0.0.2:50052 (1 MiB, 1 MiB free)", [("RPC", "gpu")]),
        ("  CUDA0: RTX \x1b[31m3090 (1 MiB, 1 MiB free)", [("CUDA0", "RTX [31m3090", "CUDA", "gpu", 1, 1)]),
        ("  CUDA0: RTX (-1 MiB, 1 MiB free)\n  CUDA0: RTX (1 MiB)\n  CUDA0 RTX (1 MiB, 1 MiB free)", []),
        ("  CUDA0: RTX (99999999999999999999999 MiB, 1 MiB free)", []),
    ],
)
def test_listed_devices(text: str, expected: list[tuple[str | int, ...]]) -> None:
    found = [
        (one.name, one.description, one.backend, one.kind, one.memory_total_bytes // MIB, one.memory_free_bytes // MIB)
        for one in llama_server.devices(text)
    ]
    if expected and len(expected[0]) == 2:
        assert [one[2:4] for one in found] == expected
    else:
        assert found == expected


@given(
    st.text(), st.sampled_from([CUDA, BLAS, ""]), st.text(alphabet=" :()0123456789MiBfreCUDA,\n\r\x85", max_size=300)
)
def test_no_output_is_too_strange(before: str, line: str, after: str) -> None:
    found = llama_server.devices(before + "\n" + line + after)
    assert len(found) <= llama_server.MOST_DEVICES
    assert len({one.name for one in found}) == len(found)
    for one in found:
        assert 0 <= one.memory_free_bytes < 1 << 63
        assert (one.name + one.description + one.backend).isprintable()


@given(st.integers(-255, 1 << 32), st.text(max_size=80), st.text(max_size=80))
def test_any_program_of_that_name_may_answer_anything(code: int, out: str, err: str) -> None:
    engine = told(Ran(code, out, err), Ran(code, out, err))
    assert engine is None or engine.usable is (engine.why is None)


def test_what_it_tells() -> None:
    card = EngineDevice("CUDA0", "NVIDIA GeForce RTX 3090", "CUDA", "gpu", 24245 * MIB, 23880 * MIB)
    assert told(Ran(0, "", NEW), Ran(0, CUDA, "")) == EngineInfo(
        "llama-server", "0.5.0", "b6123-79c1160b", ("CUDA",), (), (card,), usable=True
    )
    assert told(Ran(0, "", OLD), Ran(0, NONE, "")) == EngineInfo("llama-server", "6123", "b6123-79c1160b", usable=True)


@pytest.mark.parametrize(
    ("version", "listed", "expected"),
    [
        (None, None, None),  # not on PATH
        # there is another program of this name
        (Ran(0, "LLaMA Server 0.2.2\n", ""), None, None),
        (Ran(2, "", "Error: No such option: --version\n"), None, None),
        # it can't tell its devices: none known; it hangs over them: asked again the next time
        (Ran(0, "", OLD), Ran(1, "", "error: invalid argument: --list-devices\n"), (True, None)),
        (Ran(0, "", OLD), None, (False, "llama-server did not list its devices within 10 s")),
        (Ran(0, "", NEW), Ran(134, "", "ggml-cuda.cu: CUDA error\n"), (True, None)),
        # broken
        (Ran(132, "", ""), None, (False, "this build is for another CPU (it was stopped by an illegal instruction)")),
        (Ran(0xC000001D, "", ""), None, (False, "this build is for another CPU (it was stopped by an")),
        (Ran(0, "", NEW), Ran(132, "", ""), (False, "this build is for another CPU (it was stopped by an")),
        (
            Ran(127, "", "llama-server: error while loading shared libraries: libcudart.so.12: cannot open shared "),
            None,
            (False, "llama-server can't be started: error while loading shared libraries: libcudart.so.12: cannot"),
        ),
        (Ran(0xC0000135, "", ""), None, (False, "llama-server can't be started: a library that it needs is missing")),
    ],
)
def test_old_broken_and_other_programs(
    version: Ran | None, listed: Ran | None, expected: tuple[bool, str | None] | None
) -> None:
    engine = told(version, listed)
    if expected is None:
        assert engine is None
        return
    assert engine is not None
    usable, why = expected
    assert (engine.usable, engine.devices, engine.backends) == (usable, (), ())
    assert engine.why is None if why is None else (engine.why or "").startswith(why)


class Server:
    """A llama-server that notes each time it is started."""

    def __init__(self, folder: Path, listed: str) -> None:
        self.file, self.log = folder / "llama-server", folder.parent / "log"
        self.write(listed)
        self.host = Host(environ={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"})

    def write(self, listed: str, version: str = NEW) -> None:
        self.file.write_text(
            f"#!/bin/sh\necho $1 >> {self.log}\n"
            f"[ $1 = --version ] && printf '%s' '{version}' >&2\n[ $1 = --list-devices ] && {listed}\n"
        )
        self.file.chmod(self.file.stat().st_mode | stat.S_IXUSR)

    def engine(self, **environ: str) -> EngineInfo | None:
        host = replace(self.host, environ={**self.host.environ, **environ})
        found = devices.engines(host)
        assert found[0].name == "llama-cpp-python"
        return found[1] if len(found) > 1 else None

    @property
    def starts(self) -> int:
        return len(self.log.read_text().split()) if self.log.exists() else 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "bin"
    place.mkdir()
    return place


def test_one_that_lists_no_gpu_is_asked_once(folder: Path) -> None:
    server = Server(folder, f"printf '{NONE}'")
    first = server.engine()
    assert first == EngineInfo("llama-server", "0.5.0", "b6123-79c1160b", usable=True)
    assert server.starts == 2
    assert server.engine() == first
    assert server.starts == 2
    assert server.engine(CUDA_VISIBLE_DEVICES="0") == first  # another choice of GPUs is another question
    assert server.starts == 4
    server.write(f"printf '{BLAS}'", OLD)
    assert server.engine() == EngineInfo(
        "llama-server",
        "6123",
        "b6123-79c1160b",
        ("BLAS",),
        devices=(EngineDevice("BLAS", "OpenBLAS", "BLAS", "accel", 0, 0),),
        usable=True,
    )
    (folder / "libggml-vulkan.so").touch()  # a backend laid beside it
    starts = server.starts
    server.engine()
    assert server.starts == starts + 2


def test_one_that_lists_gpus_or_is_broken_is_asked_each_time(folder: Path) -> None:
    server = Server(folder, f"printf '{CUDA}'")
    assert [engine.backends for engine in (server.engine(), server.engine()) if engine] == [("CUDA",), ("CUDA",)]
    assert server.starts == 4
    server.write("true")
    server.file.write_text("#!/bin/sh\nkill -ILL $$\n")
    for _ in range(2):
        engine = server.engine()
        assert engine is not None
        assert (engine.usable, engine.why) == (
            False,
            "this build is for another CPU (it was stopped by an illegal instruction)",
        )


def test_without_one_nothing_is_said_of_it(folder: Path) -> None:
    host = Host(environ={**os.environ, "PATH": str(folder)})
    assert llama_server.key(host) is None
    assert [engine.name for engine in devices.engines(host)] == ["llama-cpp-python"]


def test_one_that_hangs_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(folder, "true")
    server.file.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(llama_server, "DEADLINE_S", 0.2)
    assert server.engine() is None


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_where_nothing_shows_that_its_answer_changed_it_is_not_kept(folder: Path, system: str) -> None:
    server = Server(folder, f"printf '{NONE}'")
    assert llama_server.key(replace(server.host, system=system)) is None
    assert llama_server.key(server.host) is not None
