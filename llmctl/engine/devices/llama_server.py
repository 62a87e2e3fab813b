"""A ``llama-server`` on PATH: what it is, which devices it lists. llmctl does not start it (``devices.STARTED``)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from llmctl.engine.install.remedies import ANOTHER_CPU
from llmctl.host import Host, Ran
from llmctl.probe.text import line
from llmctl.types.machine import EngineDevice, EngineInfo

NAME = "llama-server"
DEADLINE_S = 10.0  # CUDA wakes up every card
VERSION, LIST = (NAME, "--version"), (NAME, "--list-devices")

ILLEGAL_INSTRUCTION = (132, 0xC000001D)  # 128 + SIGILL; Windows' STATUS_ILLEGAL_INSTRUCTION
LIBRARY_NOT_FOUND = (127, 0xC0000135)  # of Linux' loader; Windows' STATUS_DLL_NOT_FOUND, with which nothing is printed
MOST_DEVICES = 64
# common/build-info.cpp.in: "version: 0.5.0 (build 6123, commit 79c1160b)"; before it had numbers of its own,
# "version: 6123 (79c1160b)"
VERSION_LINE = re.compile(
    r"^version: (\S{1,40}) \((?:build (\d{1,9}), commit )?([\w.-]{1,60})\)", re.MULTILINE | re.ASCII
)
# common_print_available_devices() in common/arg.cpp: every device but the CPU, sizes rounded down
DEVICE_LINE = re.compile(r"^  (\S{1,80}?): (.{1,200}) \((\d{1,12}) MiB, (\d{1,12}) MiB free\)$", re.ASCII)
CALLED = {"GPUOpenCL": "OpenCL"}  # the device that is not called as its backend and a number
ACCELERATORS = ("BLAS", "ZenDNN", "zDNN")  # what ggml says ACCEL of: they help the CPU

# What decides which devices there are: drivers, whether this user may ask them, Vulkan's list of them, backends that
# lie elsewhere (Debian), and the user's choice.
DRIVER = "/proc/driver/nvidia/version"
PLACES = (
    "/dev/nvidiactl",
    "/dev/dxg",
    "/dev/kfd",
    "/dev/dri/render*",
    "/usr/share/vulkan/icd.d/*",
    "/etc/vulkan/icd.d/*",
    "/usr/lib/*/ggml/*",
    "/usr/lib/*/ggml/*/*",
)
CHOICES = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "GGML_DISABLE_VULKAN",
    "GGML_BACKEND_PATH",
    "ONEAPI_DEVICE_SELECTOR",
    "LD_LIBRARY_PATH",
)


def ask(host: Host) -> EngineInfo | None:
    """What it tells. None if there is none, if it is no llama.cpp (others have that name too), or if it did not even
    tell its version in time.

    A build for another CPU may well tell all this: nothing is computed with it. One that can't list devices, as before
    2025, is usable with none known. The list has no PCI addresses and doesn't tell integrated GPUs from others: each
    is called "gpu".
    """
    ran = host.run(VERSION, timeout_s=DEADLINE_S)
    if ran is None:
        return None
    told = VERSION_LINE.search(ran.err) or VERSION_LINE.search(ran.out)
    if told is None:
        broken = ran.code in ILLEGAL_INSTRUCTION or ran.code in LIBRARY_NOT_FOUND
        return EngineInfo(NAME, None, None, why=_why(ran)) if broken else None
    version, number, commit = told.groups()
    build = f"b{number or version}-{commit}"  # llama.cpp's own way to write it
    ran = host.run(LIST, timeout_s=DEADLINE_S)
    if ran is None:  # drivers may take their time to wake up; what they would have told must not count as none
        return EngineInfo(NAME, version, build, why=f"{NAME} did not list its devices within {DEADLINE_S:g} s")
    if ran.code in ILLEGAL_INSTRUCTION:
        return EngineInfo(NAME, version, build, why=_why(ran))
    found = devices(ran.out) if ran.code == 0 else ()
    backends = tuple(dict.fromkeys(device.backend for device in found))
    return EngineInfo(NAME, version, build, backends, devices=found, usable=True)


def devices(text: str) -> tuple[EngineDevice, ...]:
    """The devices in what --list-devices prints, lines of another form left out."""
    found: dict[str, EngineDevice] = {}
    for match in map(DEVICE_LINE.match, text.splitlines()):
        if match is None or len(found) == MOST_DEVICES:
            continue
        name, description, total, free = match[1], line(match[2]), int(match[3]), int(match[4])
        backend = re.sub(r"[\d\[].*", "", name) or name  # CUDA0, RPC0[host:port]
        backend = CALLED.get(backend, backend)
        kind = "accel" if backend in ACCELERATORS else "gpu"
        found.setdefault(name, EngineDevice(line(name), description, line(backend), kind, total << 20, free << 20))
    return tuple(found.values())


def key(host: Host) -> tuple[object, ...] | None:
    """Changes whenever the program, or what decides which devices there are, does. None if there is no program, or
    nothing that shows when its answer changes: then it has to be asked each time."""
    program = shutil.which(NAME, path=host.environ.get("PATH"))
    if program is None or host.system != "linux":
        return None
    file = Path(program).resolve()
    try:
        stat, folder = file.stat(), file.parent.stat()
    except OSError:
        return None
    return (
        *(file, stat.st_size, stat.st_mtime_ns, folder.st_mtime_ns),
        host.read(DRIVER),
        *(f"{name} {host.readable(name)}" for pattern in PLACES for name in host.glob(pattern)),
        *(f"{name}={host.environ.get(name)}" for name in CHOICES),
    )


def _why(ran: Ran) -> str:
    if ran.code in ILLEGAL_INSTRUCTION:
        return f"{ANOTHER_CPU} (it was stopped by an illegal instruction)"
    words = next((one.strip() for one in reversed(ran.err.splitlines()) if one.strip()), "")
    return f"{NAME} can't be started: {line(words.removeprefix(f'{NAME}: ')) or 'a library that it needs is missing'}"
