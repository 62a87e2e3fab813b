"""The command that helps where the engine is installed but can't be loaded, by the system's error text. Pure."""

from __future__ import annotations

import re

from llmctl.engine.install import (
    COMPILER,
    PACKAGE,
    REQUIREMENT,
    Installed,
    Remedy,
    is_windows,
    newer_driver,
    program,
    rebuild,
    source,
    version,
    vulkan,
)
from llmctl.probe.gpu.remedies import START_WITH_GPU
from llmctl.types.machine import Machine

ANOTHER_CPU = "this build is for another CPU"


def remedy(why: str, machine: Machine, toolchain: Installed) -> Remedy | None:
    """The remedy for an engine that can't be loaded, by the error text ``why``; None if none is known."""
    if ANOTHER_CPU in why or re.search(r"GLIBC(XX)?_[\d.]+' not found", why):  # or built on a newer system
        return rebuild(machine, toolchain)
    if f"{PACKAGE} is not installed" in why or "No module named" in why:  # with what it depends on
        return Remedy(f'{program(toolchain.python, machine)} -m pip install "{REQUIREMENT}"', COMPILER)
    if "incompatible architecture" in why and "need 'arm64'" in why:  # llama-cpp-python's README
        flags = "-DCMAKE_OSX_ARCHITECTURES=arm64 -DCMAKE_APPLE_SILICON_PROCESSOR=arm64 -DGGML_METAL=on"
        return Remedy(source(machine, toolchain, flags), COMPILER, "MTL")
    if is_windows(machine) and "(or one of its dependencies)" in why:  # Windows doesn't say which
        return vulkan(machine, toolchain) if machine.accelerators else None
    missing = missing_library(why)
    return _for_library(missing, machine, toolchain) if missing else None


def missing_library(why: str) -> str | None:
    """The shared library that the loader of Linux did not find: "libcudart.so.12"."""
    match = re.search(r"(lib[\w+.-]{1,60}\.so[.\d]{0,12}): cannot open shared object file", why)
    return match[1] if match else None


def _for_library(library: str, machine: Machine, toolchain: Installed) -> Remedy | None:
    if library.startswith("libcuda."):
        return _cuda_driver(machine, toolchain)
    if library.startswith(("libcudart.", "libcublas")):
        return _cuda_libraries(library, machine, toolchain)
    if library.startswith("libvulkan."):
        return Remedy("sudo apt install libvulkan1   (Fedora: sudo dnf install vulkan-loader)")
    if library.startswith("libgomp."):
        return Remedy("sudo apt install libgomp1   (Fedora: sudo dnf install libgomp)")
    if library.startswith(("libamdhip64.", "libhip", "librocblas.", "libhsa-runtime64.")):
        return vulkan(machine, toolchain)  # ROCm takes many gigabytes to install
    if library.startswith(("libsycl.", "libmkl_", "libdnnl.", "libimf.", "libsvml.", "libirng.", "libintlc.")):
        return Remedy("source /opt/intel/oneapi/setvars.sh", "Intel's oneAPI")
    return None


def _cuda_driver(machine: Machine, toolchain: Installed) -> Remedy:
    """What gives a CUDA build the driver's library, without which it can't be loaded: the container's GPU, a driver, or
    a build for the CPU."""
    if (start := START_WITH_GPU.get(machine.container or "")) is not None:
        toolkit = "the NVIDIA Container Toolkit" if machine.container in ("docker", "podman") else None
        return Remedy(start, toolkit)
    if any(card.vendor == "NVIDIA" for card in machine.accelerators):
        return Remedy(newer_driver(machine))
    return Remedy(source(machine, toolchain), COMPILER)


def _cuda_libraries(library: str, machine: Machine, toolchain: Installed) -> Remedy:
    """The command that installs CUDA's runtime with pip and makes it known to the loader."""
    major = int((version(library.partition(".so.")[2]) or (12,))[0])
    suffix = "" if major >= 13 else f"-cu{major}"  # one folder for everything since 13
    folders = (f"cu{major}",) if major >= 13 else ("cuda_runtime", "cublas")
    bound = f"=={major}.*" if major >= 13 else ""
    packages = " ".join(f'"nvidia-{name}{suffix}{bound}"' for name in ("cuda-runtime", "cublas"))
    where = " + ':' + ".join(f"p + '/nvidia/{folder}/lib'" for folder in folders)
    program_text = f"import sysconfig; p = sysconfig.get_path('purelib'); print({where})"
    run = program(toolchain.python, machine)
    return Remedy(
        f"{run} -m pip install {packages} && "
        f'export LD_LIBRARY_PATH="$({run} -c "{program_text}")${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"'
    )
