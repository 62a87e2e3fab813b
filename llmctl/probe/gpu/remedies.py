"""What to type where a GPU can't be used: commands by system, container and vendor, each of them one line."""

from __future__ import annotations

from collections.abc import Mapping

from llmctl.host import Host
from llmctl.probe.system import container
from llmctl.probe.text import pairs

WSL_LIBRARY = "/usr/lib/wsl/lib/libnvidia-ml.so.1"
DOWNLOAD = "https://www.nvidia.com/drivers"
LOG = "sudo dmesg | grep NVRM   (it may tell why)"
JOIN = {  # what lets the user of a container into the group that the device files belong to
    "docker": "--group-add $(getent group render | cut -d: -f3)",
    "podman": "--group-add keep-groups",
}
IN_THE_POD = "securityContext: {supplementalGroups: [GID]}   (in the pod; GID: getent group render, on its node)"

# By the ID of /etc/os-release: the driver (ubuntu.com/server/docs "NVIDIA drivers installation",
# wiki.debian.org/NvidiaGraphicsDrivers, rpmfusion.org/Howto/NVIDIA, wiki.archlinux.org/title/NVIDIA), and the packages
# that hold libnvidia-ml.so.1 and libcuda.so.1.
NVIDIA_DRIVER: Mapping[str, str] = {
    "ubuntu": "sudo ubuntu-drivers install",
    "debian": "sudo apt install nvidia-driver",
    "fedora": "sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda",
    "arch": "sudo pacman -S nvidia-open nvidia-utils",
}
NVIDIA_LIBRARIES: Mapping[str, str] = {
    "ubuntu": "sudo apt install libnvidia-compute-{series}",
    "debian": "sudo apt install libnvidia-ml1 libcuda1",
    "fedora": "sudo dnf install xorg-x11-drv-nvidia-cuda-libs",
    "arch": "sudo pacman -S nvidia-utils",
}

# What gives a container its GPU, by what it is a container of; what gives it the driver's libraries too; and what lets
# it have them anew, after the driver changed.
START_WITH_GPU = {
    "docker": "docker run --gpus all IMAGE",
    "podman": "podman run --device nvidia.com/gpu=all IMAGE",
    "kubernetes": "resources: {limits: {nvidia.com/gpu: 1}}   (in the container's part of the pod)",
    "lxc": "lxc config device add NAME gpu gpu",
    "apptainer": "apptainer exec --nv IMAGE COMMAND",
}
START_WITH_LIBRARIES = {
    **START_WITH_GPU,
    "docker": "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility IMAGE",
    "kubernetes": 'env: [{name: NVIDIA_DRIVER_CAPABILITIES, value: "compute,utility"}]   '
    "(in the container's part of the pod)",
    "lxc": "lxc config set NAME nvidia.runtime=true",
}
START_ANEW = {kind: f"{kind} restart NAME" for kind in ("docker", "podman", "lxc")}
ON_WINDOWS = f"{DOWNLOAD}   (install the newest, then restart Windows)"
IN_WSL = f"export LD_LIBRARY_PATH={WSL_LIBRARY.rpartition('/')[0]}   (where Windows's driver puts its libraries)"
ON_WSL = "wsl --shutdown   (in Windows; if that is not enough, a newer driver there)"
RELOAD = "sudo reboot   (or: sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia)"


def where_nvidia_fails(host: Host) -> str:
    """What to type where the driver fails and doesn't say why."""
    return ON_WINDOWS if host.system == "win32" else ON_WSL if container(host) == "wsl" else LOG


def nvidia_libraries(host: Host, version: str | None) -> str | None:
    """What brings the driver's libraries; None in other containers. ``version`` is the kernel module's."""
    place = container(host)
    if place == "wsl":  # a driver for Linux would take the place of Windows's (CUDA on WSL User Guide)
        return IN_WSL
    return _install_libraries(host, version) if place is None else START_WITH_LIBRARIES.get(place)


def start_with_gpu(host: Host, vendor: str, driver: str | None, control: str | None) -> str | None:
    """What starts this container with its GPU. One without a mark is taken for Docker's."""
    place = container(host) or "docker"
    if place == "kubernetes":  # the names that AMD's and Intel's device plugins give
        resource = "amd.com/gpu" if vendor == "AMD" else f"gpu.intel.com/{driver}"
        return f"resources: {{limits: {{{resource}: 1}}}}   (in the container's part of the pod)"
    if place == "lxc":
        return "lxc config device add NAME gpu gpu"
    return f"{place} run {_devices(control)} IMAGE" if place in JOIN else None


def join_group(host: Host, control: str | None) -> str:
    """What lets this user open the GPU's files."""
    place = container(host) or ""
    if place == "kubernetes":
        return IN_THE_POD
    if place in JOIN:
        return f"{place} run {_devices(control)} {JOIN[place]} IMAGE"
    return "sudo usermod -aG render,video $USER   then log in anew"


def _devices(control: str | None) -> str:
    return " ".join(f"--device {file}" for file in (control, "/dev/dri") if file)


def install_nvidia_driver(host: Host) -> str:
    """What installs NVIDIA's driver here."""
    return _of_this_system(host, NVIDIA_DRIVER) or DOWNLOAD


def _install_libraries(host: Host, version: str | None) -> str:
    series = (version or "").partition(".")[0]
    command = _of_this_system(host, NVIDIA_LIBRARIES)
    if command is None or ("{series}" in command and not series.isdecimal()):
        return f"{DOWNLOAD}   (or the system's package of the driver's libraries, of the same version)"
    return command.format(series=series)


def _of_this_system(host: Host, commands: Mapping[str, str]) -> str | None:
    release = pairs(host.read("/etc/os-release"), "=")
    names = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".replace('"', "").replace("'", "").split()
    if "rhel" in names:  # calls itself like Fedora, but has other packages
        return None
    return next((commands[name] for name in names if name in commands), None)
