"""Drivers x cards x systems: which build is installed for which, by what command; and pip itself run on it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmctl.engine import install
from llmctl.engine.install import Installed, build_for, driver_too_old, installed, main_card, rebuild
from llmctl.engine.install.remedies import missing_library, remedy
from llmctl.host import Host
from llmctl.types.machine import Accelerator, AcceleratorKind, Cpu, Machine, Memory
from tests.properties import examples

LINUX, WINDOWS, MAC = "Linux 6.8", "Windows 11", "macOS 15.1"
HERE = Installed()
PIP = "-m pip install --force-reinstall --no-deps --no-cache-dir"
FROM_INDEX = f"{PIP} --only-binary llama-cpp-python --index-url https://abetlen.github.io/llama-cpp-python/whl"
FROM_SOURCE = f'{PIP} --no-binary llama-cpp-python "llama-cpp-python>=0.3.36"'


def machine(*cards: Accelerator, os: str = LINUX, arch: str = "x86_64", container: str | None = None) -> Machine:
    cpu = Cpu("cpu", arch, 8, 16, 8)
    return Machine(Memory(32 << 30, 20 << 30), cpu, accelerators=cards, os=os, container=container)


def card(vendor: str, **facts: Any) -> Accelerator:
    kind = facts.pop("kind", AcceleratorKind.DISCRETE)
    return Accelerator(facts.pop("id", "0000:01:00.0"), "card", vendor, kind, 8 << 30, None, **facts)


def nvidia(cuda: str | None, capability: str | None, driver: str | None = None, **facts: Any) -> Accelerator:
    api = f"CUDA {cuda}" if cuda else None
    return card("NVIDIA", api_version=api, compute_capability=capability, driver=driver, **facts)


def amd(architecture: str | None = None, **facts: Any) -> Accelerator:
    return card("AMD", architecture=architecture, driver="amdgpu", **facts)


def index_of(command: str) -> str | None:
    """The wheel index in a command, which is otherwise as it has to be; None for a build from source."""
    if "--index-url" not in command:
        assert command.endswith(FROM_SOURCE)
        return None
    start, _, rest = command.partition(f"{FROM_INDEX}/")
    index, _, requirement = rest.partition(" ")
    assert (start, requirement) == ("python ", '"llama-cpp-python>=0.3.36"')
    return index


@pytest.mark.parametrize(
    ("cuda", "capability", "driver", "linux", "windows"),
    [
        # the newest CUDA that the driver takes
        ("13.2", "8.6", "595.10", "cu132", "cu132"),
        ("13.1", "8.6", "590.44.01", "cu130", "cu130"),
        ("13.0", "12.0", "580.65.06", "cu130", "cu130"),
        ("14.0", "12.0", "610.10", "cu132", "cu132"),
        ("12.9", "8.9", "575.51.03", "cu125", "cu125"),
        ("12.5", "8.6", "555.42.02", "cu125", "cu125"),
        ("12.4", "8.6", "550.54.15", "cu124", "cu124"),
        # there are no wheels of these for Windows; within 12 a driver runs what is built for a later one
        ("12.3", "8.6", "545.23.06", "cu123", "cu124"),
        ("12.2", "8.6", "535.183.01", "cu122", "cu124"),
        ("12.1", "8.6", "531.14", "cu121", "cu124"),
        ("12.0", "9.0", "528.33", "cu121", "cu124"),
        ("11.8", "8.6", "520.61.05", "cu118", "cu118"),
        ("11.4", "7.5", "470.223.02", "cu118", "cu118"),
        # what the card is too old for: the newest that has code for it
        ("13.0", "7.0", "580.65.06", "cu125", "cu125"),  # V100
        ("13.0", "6.1", "580.65.06", "cu125", "cu125"),  # GTX 1080
        ("13.0", "7.5", "580.65.06", "cu130", "cu130"),  # T4
        # what is known of the driver alone, or of nothing
        (None, "8.6", "580.95.05", "cu130", "cu130"),
        (None, "8.6", "550.54.15", "cu121", "cu124"),
        (None, "8.6", "470.223.02", "cu118", "cu118"),
        (None, None, None, "cu121", "cu124"),
        ("12.4", None, None, "cu124", "cu124"),
        # no wheel has code for Maxwell, CUDA 12's compiler has
        ("12.4", "5.2", "550.54.15", None, None),
    ],
)
def test_wheels_for_cuda(
    cuda: str | None, capability: str | None, driver: str | None, linux: str | None, windows: str | None
) -> None:
    for os, arch, expected in ((LINUX, "x86_64", linux), (WINDOWS, "AMD64", windows)):
        gpu = nvidia(cuda, capability, driver)
        build = build_for(gpu, machine(gpu, os=os, arch=arch), HERE)
        assert build is not None
        assert build.backend == "CUDA"
        assert index_of(build.command) == expected
        if expected is None:
            assert "-DGGML_CUDA=on" in build.command
            assert build.needs is not None and "a CUDA toolkit older than 13" in build.needs


@pytest.mark.parametrize(
    ("gpu", "os", "why"),
    [
        (
            nvidia("10.2", "7.5", "440.33.01"),
            LINUX,
            "the driver 440.33.01 is too old: builds of llama.cpp for CUDA 11 ",
        ),
        (nvidia("11.0", "7.5", "450.51.06"), LINUX, "need 450.80.02 or newer"),
        (nvidia("11.0", "7.5", "451.82"), WINDOWS, "need 452.39 or newer"),
        (nvidia("10.2", "7.5"), LINUX, "the driver is too old: builds of llama.cpp for CUDA 11 need 450.80.02"),
        # a Hopper needs CUDA 12's wheels
        (nvidia("11.8", "9.0", "520.61.05"), LINUX, "for CUDA 12 need 525.60.13 or newer"),
        (nvidia("11.8", "8.6", "520.61.05"), LINUX, None),
        (nvidia("11.0", "7.5", "450.80.02"), LINUX, None),
        (nvidia("12.4", "8.6", "550.54.15"), LINUX, None),
        (nvidia(None, None), LINUX, None),
        (nvidia("12.6", "8.7", "36.4.0", kind=AcceleratorKind.UNIFIED), LINUX, None),  # a Jetson's own count
        (amd("gfx1100"), LINUX, None),
    ],
)
def test_drivers_that_are_too_old(gpu: Accelerator, os: str, why: str | None) -> None:
    where = machine(gpu, os=os)
    reason = driver_too_old(gpu, where)
    if why is None:
        assert reason is None
        assert build_for(gpu, where, HERE) is not None
    else:
        assert reason is not None and why in reason
        assert build_for(gpu, where, HERE) is None


@pytest.mark.parametrize(
    ("driver", "cuda", "why"),
    [
        ("470.223.02", 12, "builds of llama.cpp for CUDA 12 need 525.60.13 or newer"),
        ("525.60.13", 12, None),
        ("575.51.03", 13, "builds of llama.cpp for CUDA 13 need 580.65.06 or newer"),
        ("580.65.06", 13, None),
    ],
)
def test_drivers_for_one_cuda(driver: str, cuda: int, why: str | None) -> None:
    gpu = nvidia(None, "8.6", driver)
    reason = driver_too_old(gpu, machine(gpu), cuda=cuda)
    assert reason is None if why is None else why in (reason or "")


ROCM7, ROCM6, ROCM5 = Installed(rocm=(7, 2, 0)), Installed(rocm=(6, 4, 1)), Installed(rocm=(5, 7))
HIP = 'HIPCXX="$(hipconfig -l)/clang" HIP_PATH="$(hipconfig -R)" CMAKE_ARGS="-DGGML_HIP=on -DAMDGPU_TARGETS='


@pytest.mark.parametrize(
    ("gpu", "os", "arch", "toolchain", "backend", "command", "needs"),
    [
        # wheels for CUDA and ROCm want glibc 2.35, are for x86_64, and bring no libraries
        (nvidia("12.4", "8.6"), LINUX, "x86_64", Installed(glibc=(2, 35)), "CUDA", "whl/cu124", "libcudart and"),
        (nvidia("12.4", "8.6"), LINUX, "x86_64", Installed(glibc=(2, 34)), "CUDA", "-DGGML_CUDA=on", "CUDA toolkit"),
        (nvidia("12.4", "8.6"), LINUX, "x86_64", Installed(glibc=(0, 0)), "CUDA", "-DGGML_CUDA=on", "CUDA toolkit"),
        (nvidia("13.0", "12.1"), LINUX, "aarch64", HERE, "CUDA", 'CMAKE_ARGS="-DGGML_CUDA=on" python -m', "CUDA tool"),
        (nvidia("12.6", "8.7"), LINUX, "aarch64", HERE, "CUDA", 'CMAKE_ARGS="-DGGML_CUDA=on" python -m', "CUDA tool"),
        (nvidia("12.4", "8.6"), WINDOWS, "AMD64", HERE, "CUDA", "whl/cu124", "CUDA 12 toolkit, for cublas64_12.dll"),
        (nvidia(None, None, "nouveau"), LINUX, "x86_64", HERE, "CUDA", "whl/cu121", "NVIDIA's driver in place of nouv"),
        (nvidia(None, None), LINUX, "x86_64", HERE, "CUDA", "whl/cu121", "NVIDIA's driver, libcudart"),
        (nvidia("11.4", "3.5", "470.223.02"), LINUX, "x86_64", HERE, None, "", None),  # Kepler
        (nvidia(None, None, "vfio-pci"), LINUX, "x86_64", HERE, None, "", None),
        # AMD: ROCm where it is there and for this card, else Vulkan
        (amd("gfx1100"), LINUX, "x86_64", ROCM7, "ROCm", "whl/rocm72", None),
        (amd("gfx1100"), LINUX, "x86_64", replace(ROCM7, rocm=(8, 0)), "ROCm", f'{HIP}gfx1100" python', "development"),
        (amd("gfx1100"), LINUX, "x86_64", replace(ROCM7, glibc=(2, 34)), "ROCm", f'{HIP}gfx1100" python', "ROCm with"),
        (amd("gfx90a"), LINUX, "x86_64", ROCM6, "ROCm", f'{HIP}gfx90a" python', "ROCm with its development"),
        (amd("gfx1100"), LINUX, "x86_64", ROCM5, "Vulkan", "whl/vulkan", "libvulkan.so.1"),
        (amd("gfx1031"), LINUX, "x86_64", ROCM7, "Vulkan", "whl/vulkan", "libvulkan.so.1"),
        (amd("gfx1100"), LINUX, "x86_64", HERE, "Vulkan", "whl/vulkan", "libvulkan.so.1"),
        (amd(), LINUX, "x86_64", ROCM7, "Vulkan", "whl/vulkan", "libvulkan.so.1"),
        (amd("gfx1100"), LINUX, "x86_64", Installed(glibc=(2, 31)), "Vulkan", "whl/vulkan", "libvulkan.so.1"),
        (amd("gfx1100"), LINUX, "x86_64", Installed(glibc=(0, 0)), "Vulkan", "-DGGML_VULKAN=on", "glslc"),
        (amd(), LINUX, "aarch64", HERE, "Vulkan", 'CMAKE_ARGS="-DGGML_VULKAN=on" python', "glslc"),
        (amd("gfx1100"), WINDOWS, "AMD64", HERE, "ROCm", "whl/hip-radeon", "AMD's current driver"),
        (amd(), WINDOWS, "AMD64", HERE, "Vulkan", "whl/vulkan", None),
        # Intel
        (card("Intel"), LINUX, "x86_64", HERE, "Vulkan", "whl/vulkan", "mesa-vulkan-drivers"),
        (card("Intel"), WINDOWS, "AMD64", HERE, "Vulkan", "whl/vulkan", None),
        (
            card("Intel"),
            WINDOWS,
            "ARM64",
            HERE,
            "Vulkan",
            '$env:CMAKE_ARGS = "-DGGML_VULKAN=on"; python -m',
            "Vulkan SDK",
        ),
        # Macs
        (card("Apple"), MAC, "arm64", HERE, "MTL", "whl/metal", None),
        (card("Apple"), "Darwin 24.1.0", "arm64", HERE, "MTL", "whl/metal", None),
        (amd(), MAC, "x86_64", HERE, "MTL", f"python {FROM_SOURCE}", "C++ compiler"),
        # nothing drives these
        (card("unknown"), LINUX, "x86_64", HERE, None, "", None),
    ],
)
def test_builds_for_cards(
    gpu: Accelerator, os: str, arch: str, toolchain: Installed, backend: str | None, command: str, needs: str | None
) -> None:
    build = build_for(gpu, machine(gpu, os=os, arch=arch), toolchain)
    if backend is None:
        assert build is None
        return
    assert build is not None
    assert build.backend == backend
    assert command in build.command
    assert (index_of(build.command) is None) == ("whl/" not in command)
    assert build.needs is None if needs is None else needs in (build.needs or "")


def test_rocm_is_built_for_all_cards_of_a_known_kind() -> None:
    cards = (amd("gfx1100"), amd("gfx90a", id="b"), amd('"; reboot; "', id="c"), amd(id="d"), card("Intel", id="e"))
    build = build_for(cards[0], machine(*cards), ROCM6)
    assert build is not None
    assert build.command == f'{HIP}gfx1100;gfx90a" python {FROM_SOURCE}'


def test_the_card_that_a_build_is_for() -> None:
    integrated = card("Intel", kind=AcceleratorKind.INTEGRATED, id="a")
    small, kept = nvidia("12.4", "8.6", id="b"), replace(amd(id="c"), memory_total_bytes=64 << 30, driver="vfio-pci")
    large = replace(small, id="d", memory_total_bytes=24 << 30)
    assert main_card(machine()) is None
    assert main_card(machine(integrated)) == integrated
    assert main_card(machine(integrated, small, large, kept)) == large


@pytest.mark.parametrize(
    ("cards", "os", "flags"),
    [
        ((), LINUX, ""),
        ((nvidia("12.4", "8.6"),), LINUX, 'CMAKE_ARGS="-DGGML_CUDA=on" '),
        ((nvidia("12.4", "8.6"),), WINDOWS, '$env:CMAKE_ARGS = "-DGGML_CUDA=on"; '),
        ((nvidia("11.4", "3.5", "470.10"),), LINUX, ""),
        ((amd("gfx1100"),), LINUX, 'CMAKE_ARGS="-DGGML_VULKAN=on" '),
        ((card("Intel", kind=AcceleratorKind.INTEGRATED),), LINUX, ""),
        ((card("Apple", kind=AcceleratorKind.UNIFIED),), MAC, ""),
    ],
)
def test_built_anew_for_this_processor(cards: tuple[Accelerator, ...], os: str, flags: str) -> None:
    assert rebuild(machine(*cards, os=os), HERE).command == f"{flags}python {FROM_SOURCE}"
    if "Linux" in os and cards and cards[0].vendor == "AMD":
        assert rebuild(machine(*cards), ROCM7).command == f'{HIP}gfx1100" python {FROM_SOURCE}'


LOAD = "llama-cpp-python can't be loaded: Failed to load shared library '/venv/llama_cpp/lib/libllama.so': "
NOT_FOUND = ": cannot open shared object file: No such file or directory"
GTX = nvidia("12.4", "8.6")


@pytest.mark.parametrize(
    ("why", "where", "command"),
    [
        (
            "this build is for another CPU (it was stopped by an illegal instruction)",
            machine(),
            f"python {FROM_SOURCE}",
        ),
        ("this build is for another CPU", machine(GTX), f'CMAKE_ARGS="-DGGML_CUDA=on" python {FROM_SOURCE}'),
        (
            f"{LOAD}/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /venv/libggml.so)",
            machine(),
            f"python {FROM_SOURCE}",
        ),
        (f"{LOAD}libstdc++.so.6: version `GLIBCXX_3.4.32' not found", machine(), f"python {FROM_SOURCE}"),
        ("llama-cpp-python is not installed", machine(GTX), 'python -m pip install "llama-cpp-python>=0.3.36"'),
        (f"{LOAD}No module named 'numpy'", machine(GTX), 'python -m pip install "llama-cpp-python>=0.3.36"'),
        (
            f"{LOAD}dlopen(...): tried: '/x' (mach-o file, but is an incompatible architecture (have 'x86_64', need "
            "'arm64'))",
            machine(os=MAC, arch="arm64"),
            'CMAKE_ARGS="-DCMAKE_OSX_ARCHITECTURES=arm64 -DCMAKE_APPLE_SILICON_PROCESSOR=arm64 -DGGML_METAL=on" ',
        ),
        (f"{LOAD}libvulkan.so.1{NOT_FOUND}", machine(GTX), "sudo apt install libvulkan1 "),
        (f"{LOAD}libgomp.so.1{NOT_FOUND}", machine(), "sudo apt install libgomp1 "),
        (f"{LOAD}libamdhip64.so.7{NOT_FOUND}", machine(amd("gfx1100")), f"python {FROM_INDEX}/vulkan "),
        (f"{LOAD}librocblas.so.5{NOT_FOUND}", machine(amd("gfx1100")), f"python {FROM_INDEX}/vulkan "),
        (f"{LOAD}libsycl.so.8{NOT_FOUND}", machine(card("Intel")), "source /opt/intel/oneapi/setvars.sh"),
        # the driver's own library: no driver here, or not let into the container
        (f"{LOAD}libcuda.so.1{NOT_FOUND}", machine(container="docker"), "docker run --gpus all IMAGE"),
        (f"{LOAD}libcuda.so.1{NOT_FOUND}", machine(container="podman"), "podman run --device nvidia.com/gpu=all IMAGE"),
        (f"{LOAD}libcuda.so.1{NOT_FOUND}", machine(container="kubernetes"), "resources: {limits: {nvidia.com/gpu: 1}}"),
        (f"{LOAD}libcuda.so.1{NOT_FOUND}", machine(nvidia(None, None, "nouveau")), "sudo ubuntu-drivers install "),
        (f"{LOAD}libcuda.so.1{NOT_FOUND}", machine(), f"python {FROM_SOURCE}"),
        (
            "llama-cpp-python can't be loaded: Could not find module 'C:\\llama.dll' (or one of its dependencies). Try",
            machine(GTX, os=WINDOWS, arch="AMD64"),
            f"python {FROM_INDEX}/vulkan ",
        ),
        ("llama-cpp-python can't be loaded: Could not find (or one of its dependencies).", machine(os=WINDOWS), None),
        (f"{LOAD}libunheard.so.3{NOT_FOUND}", machine(), None),
        ("llama-cpp-python crashed (signal 11)", machine(), None),
        ("", machine(), None),
    ],
)
def test_what_mends_an_engine_that_cannot_be_loaded(why: str, where: Machine, command: str | None) -> None:
    suggested = remedy(why, where, HERE)
    if command is None:
        assert suggested is None
    else:
        assert suggested is not None and suggested.command.startswith(command)


@pytest.mark.parametrize(
    ("library", "packages", "folders"),
    [
        ("libcudart.so.11.0", ["nvidia-cuda-runtime-cu11", "nvidia-cublas-cu11"], ["cuda_runtime", "cublas"]),
        ("libcudart.so.12", ["nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12"], ["cuda_runtime", "cublas"]),
        ("libcublasLt.so.12", ["nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12"], ["cuda_runtime", "cublas"]),
        ("libcublas.so.13", ["nvidia-cuda-runtime==13.*", "nvidia-cublas==13.*"], ["cu13"]),
    ],
)
def test_cudas_libraries_come_from_pip_and_are_found(
    library: str, packages: list[str], folders: list[str], tmp_path: Path
) -> None:
    assert missing_library(f"{LOAD}{library}{NOT_FOUND}") == library
    suggested = remedy(f"{LOAD}{library}{NOT_FOUND}", machine(GTX), Installed(python=sys.executable))
    assert suggested is not None
    pip, _, export = suggested.command.partition(" && ")
    assert shlex.split(pip) == [sys.executable, "-m", "pip", "install", *packages]
    output = subprocess.run(
        ["sh", "-c", f'{export}; printf %s "$LD_LIBRARY_PATH"'],
        capture_output=True,
        text=True,
        env={"LD_LIBRARY_PATH": "/before"},
        check=True,
    ).stdout
    site = next(path for path in sys.path if path.endswith("site-packages"))
    assert output.split(":") == [*(f"{site}/nvidia/{folder}/lib" for folder in folders), "/before"]


@pytest.mark.parametrize(
    ("python", "os", "start"),
    [
        ("/home/u/.venv/bin/python", LINUX, "/home/u/.venv/bin/python -m"),
        ("/home/u/my env/bin/python", LINUX, "'/home/u/my env/bin/python' -m"),
        ("C:\\venv\\Scripts\\python.exe", WINDOWS, "C:\\venv\\Scripts\\python.exe -m"),
        ("C:\\Users\\O'Neil X\\python.exe", WINDOWS, "& 'C:\\Users\\O''Neil X\\python.exe' -m"),
    ],
)
def test_commands_install_where_llmctl_is(python: str, os: str, start: str) -> None:
    gpu = nvidia("12.4", "8.6")
    build = build_for(gpu, machine(gpu, os=os), Installed(python=python))
    assert build is not None and build.command.startswith(start)


FLAGS = r"-D(GGML_CUDA=on|GGML_VULKAN=on|GGML_HIP=on -DAMDGPU_TARGETS=gfx[0-9a-f]{3,4})"
INDEX = r"https://abetlen\.github\.io/llama-cpp-python/whl/(cu\d{3}|rocm72|hip-radeon|vulkan|metal)"
COMMANDS = (
    rf'({re.escape(HIP.partition("CMAKE")[0])})?(CMAKE_ARGS="{FLAGS}" |\$env:CMAKE_ARGS = "{FLAGS}"; )?python {PIP} '
    rf'--(no|only)-binary llama-cpp-python (--index-url {INDEX} )?"llama-cpp-python>=0\.3\.36"',
    r'python -m pip install "nvidia-cuda-runtime(-cu\d+|==\d+\.\*)" "nvidia-cublas(-cu\d+|==\d+\.\*)" && '
    r'export LD_LIBRARY_PATH="\$\(python -c "[\w /\'+:=().;]+"\)\$\{LD_LIBRARY_PATH:\+:\$LD_LIBRARY_PATH\}"',
    r"sudo (apt install libvulkan1|ubuntu-drivers install)   \(.*\)",
    r"install the current driver on Windows: https://www\.nvidia\.com/drivers",
)
WORDS = st.one_of(st.none(), st.text(max_size=20), st.sampled_from(["CUDA 12.4", "CUDA ", "gfx1100", "12.0", "535.1"]))


@examples(200)
@given(
    st.builds(
        card,
        st.sampled_from(["NVIDIA", "AMD", "Intel", "Apple", "unknown"]),
        driver=st.one_of(WORDS, st.from_regex(r"[34][0-9]{2}\.[0-9]+.?")),
        api_version=WORDS,
        architecture=WORDS,
        compute_capability=WORDS,
        kind=st.sampled_from(AcceleratorKind),
    ),
    st.sampled_from([LINUX, WINDOWS, MAC, ""]),
    st.sampled_from(["x86_64", "AMD64", "aarch64", "arm64", ""]),
    st.sampled_from([HERE, ROCM5, ROCM6, ROCM7, Installed(glibc=(0, 0))]),
    st.one_of(st.text(), st.from_regex(r"lib(cudart|cublas|cuda|vulkan)\.so[.0-9]*: cannot open shared object file")),
)
def test_nothing_that_a_machine_says_of_itself_gets_into_a_command(
    gpu: Accelerator, os: str, arch: str, toolchain: Installed, why: str
) -> None:
    where = machine(gpu, os=os, arch=arch)
    assert (driver_too_old(gpu, where) or "").isprintable()
    for suggested in (build_for(gpu, where, toolchain), rebuild(where, toolchain), remedy(why, where, toolchain)):
        assert suggested is None or any(re.fullmatch(pattern, suggested.command, re.ASCII) for pattern in COMMANDS), (
            suggested
        )


def test_the_bound_is_the_projects_own() -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        assert install.REQUIREMENT in tomllib.load(file)["project"]["dependencies"]


def test_what_is_installed_here(tmp_path: Path) -> None:
    toolchain = installed(Host())
    assert toolchain.python == sys.executable
    assert toolchain.glibc is None or len(toolchain.glibc) >= 2
    assert installed(Host(root=tmp_path)) == Installed()
    for name, text, rocm in (
        ("core/.info/version", "7.14.0\n", (7, 14, 0)),
        (".info/version", "7.2.0-43\n", (7, 2, 0)),
        (".info/version", "next week", (7, 14, 0)),
    ):
        file = tmp_path / "opt" / "rocm" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        assert installed(Host(root=tmp_path)) == Installed("python", None, rocm)


def lay(index: Path, *versions: str) -> None:
    """A wheel index with wheels that hold nothing."""
    folder = index / "llama-cpp-python"
    folder.mkdir(parents=True)
    links = []
    for version in versions:
        name = f"llama_cpp_python-{version}"
        about = {
            "METADATA": f"Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: {version}\nRequires-Dist: nowhere\n",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }
        with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
            for file, text in about.items():
                wheel.writestr(f"{name}.dist-info/{file}", text)
        links.append(f'<a href="{name}-py3-none-any.whl">{name}-py3-none-any.whl</a>')
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")


@pytest.mark.parametrize(("versions", "chosen"), [(("0.3.35", "0.3.36", "0.3.40"), "0.3.40"), (("0.3.35",), None)])
def test_pip_takes_the_wheel_of_that_index_or_refuses(
    versions: tuple[str, ...], chosen: str | None, tmp_path: Path
) -> None:
    """The command as it is, but for where the index lies; nothing is installed."""
    if shutil.which("sh") is None:
        pytest.skip("commands of POSIX shells")
    lay(tmp_path / "cu124", *versions)
    gpu = nvidia("12.4", "8.6")
    build = build_for(gpu, machine(gpu), Installed(python=sys.executable))
    assert build is not None
    command = build.command.replace(install.INDEX, tmp_path.as_uri()).replace(" install ", " install --dry-run ")
    environ = {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environ)
    assert (ran.returncode == 0) == (chosen is not None), ran.stderr
    if chosen:
        assert f"Would install llama_cpp_python-{chosen}" in ran.stdout
    else:
        assert "No matching distribution found for llama-cpp-python>=0.3.36" in ran.stderr
