"""What kind of place this is: the operating system, the board, a virtual machine, a container."""

from __future__ import annotations

from dataclasses import dataclass

from llmctl.host import Host
from llmctl.probe.portable import portable


@dataclass(frozen=True, slots=True)
class Place:
    """``board`` names what is no plain computer (a Raspberry Pi, a Jetson), ``virtual_machine`` the hypervisor."""

    os: str
    container: str | None = None
    board: str | None = None
    virtual_machine: str | None = None


def system(host: Host) -> Place:
    """The place that ``host`` is. Raises nothing."""
    return Place(os=os_name(host), container=container(host))


def os_name(host: Host) -> str:
    """For people: "Linux 6.8", "Linux 6.6 on Raspberry Pi 5 Model B Rev 1.0", "Linux 6.18 (virtual machine)"."""
    release = (host.read("/proc/sys/kernel/osrelease") or "").strip()
    if not release:
        return _portable(host)
    text = "Linux " + ".".join(release.split("-")[0].split(".")[:2])
    if board := (host.read("/proc/device-tree/model") or "").strip("\0 \n"):
        return f"{text} on {board}"
    flags = (line for line in (host.read("/proc/cpuinfo") or "").splitlines() if line.startswith("flags"))
    return f"{text} (virtual machine)" if "hypervisor" in next(flags, "").split() else text


def container(host: Host) -> str | None:
    """docker, podman, kubernetes, lxc or wsl, told by the marks that each of them leaves; None without a mark."""
    named = host.environ.get("container", "") or (host.read("/run/systemd/container") or "").strip()
    if host.exists("/var/run/secrets/kubernetes.io") or "KUBERNETES_SERVICE_HOST" in host.environ:
        return "kubernetes"
    if host.exists("/run/.containerenv") or named == "podman":
        return "podman"
    if host.exists("/.dockerenv") or named == "docker":
        return "docker"
    if named.startswith("lxc"):
        return "lxc"
    return "wsl" if "microsoft" in (host.read("/proc/sys/kernel/osrelease") or "").lower() else None


def _portable(host: Host) -> str:
    if host.system == "linux":
        return "Linux"
    told, _ = portable(host)
    return told.os if told else ""
