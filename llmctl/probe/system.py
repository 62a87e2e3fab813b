"""The operating system, the board, the virtual machine and the container that llmctl runs on."""

from __future__ import annotations

import re

from msgspec import Struct

from llmctl.host import Host
from llmctl.probe import macos
from llmctl.probe.portable import portable
from llmctl.probe.text import cpuinfo, line, pairs

DMI = "/sys/class/dmi/id"
CLOCKS = "/sys/devices/system/clocksource/clocksource0/available_clocksource"

# What firmware tables say in a virtual machine begins with, and the hypervisor. EC2 and Google run their machines on
# KVM (docs.aws.amazon.com "AWS Nitro System", cloud.google.com "Nested virtualization").
FIRMWARE: tuple[tuple[str, str], ...] = (
    ("amazon ec2", "kvm (Amazon EC2)"),
    ("google compute engine", "kvm (Google Compute Engine)"),
    ("virtualbox", "virtualbox"),
    ("innotek", "virtualbox"),
    ("vmware", "vmware"),
    ("parallels", "parallels"),
    ("microsoft corporation virtual machine", "hyper-v"),
    ("apple virtualization", "apple"),
    ("bhyve", "bhyve"),
    ("xen", "xen"),
    ("kvm", "kvm"),
    ("openstack", "kvm"),
    ("kubevirt", "kvm"),
    ("qemu", "qemu"),
    ("bochs", "bochs"),
)
# Clocks that only a guest's kernel has: arch/x86/kernel/kvmclock.c, drivers/clocksource/hyperv_timer.c,
# arch/x86/xen/time.c. They tell where there are no firmware tables: Firecracker, WSL.
GUEST_CLOCKS = (("kvm-clock", "kvm"), ("hyperv_clocksource", "hyper-v"), ("xen", "xen"))
PATTERNS = ("linux,dummy-virt", "riscv-virtio,qemu")  # device trees that hypervisors make up
UNKNOWN = "unknown"  # there is a hypervisor, but nothing says which

# Kernels made for one kind of board, by a part of their release: containers don't see the device tree
# (github.com/moby/moby/issues/43419), but they see the kernel.
KERNELS = (("tegra", "NVIDIA Jetson"), ("rpi", "Raspberry Pi"), ("raspi", "Raspberry Pi"))

# Where a container's manager puts its name: systemd.io/CONTAINER_INTERFACE
NAMED_IN = ("/run/host/container-manager", "/run/systemd/container")

# Groups that a container's first process is in, where its group is not hidden by a namespace of its own.
GROUPS = re.compile(r"/(docker(?=[-/])|kubepods|libpod|lxc)[-./]")
MANAGERS = {"kubepods": "kubernetes", "libpod": "podman", "docker": "docker", "lxc": "lxc"}


class Platform(Struct, frozen=True):
    """``board`` names what is no plain computer (a Raspberry Pi, a Jetson), ``virtual_machine`` the hypervisor."""

    os: str
    container: str | None = None
    board: str | None = None
    virtual_machine: str | None = None


def system(host: Host) -> Platform:
    """The platform of ``host``. Raises nothing."""
    first_cpu = cpuinfo(host.read("/proc/cpuinfo"))
    return Platform(
        os=os_name(host),
        container=container(host),
        board=_board(host, first_cpu.get("Model")),
        virtual_machine=_virtual_machine(host, first_cpu.get("flags")),
    )


def os_name(host: Host) -> str:
    """For people, kernel and distribution: "Linux 6.8 (Ubuntu 24.04.1 LTS)"."""
    release = _release(host)
    if not release:
        return _portable(host)
    text = "Linux " + ".".join(release.split("-")[0].split(".")[:2])
    # os-release(5): the second place is where images that have no /etc of their own keep it
    os_release = pairs(host.read("/etc/os-release") or host.read("/usr/lib/os-release"), "=")
    distribution = line(os_release.get("PRETTY_NAME", "").strip("\"'"))
    distribution = distribution.partition(" (")[0]  # of "Debian GNU/Linux 12 (bookworm)"
    return f"{text} ({distribution})" if distribution else text


def _board(host: Host, model: str | None) -> str | None:
    """The board's name for itself, "Raspberry Pi 5 Model B Rev 1.0"; None for plain computers, which have no device
    tree, and where it names a pattern instead of a product ("linux,dummy-virt").

    ``model``: the line of /proc/cpuinfo that kernels for the Raspberry Pi add; x86's is "model".
    """
    name = line(host.read("/proc/device-tree/model") or host.read("/sys/devices/soc0/machine") or model)
    if name:
        return None if "," in name and " " not in name else name
    flavour = re.split(r"[^a-z]+", _release(host).lower())
    return next((product for part, product in KERNELS if part in flavour), None)


def _virtual_machine(host: Host, flags: str | None) -> str | None:
    """The hypervisor below, "kvm", "hyper-v", "kvm (Amazon EC2)"; "unknown" if nothing names it. None on hardware.

    x86 says in its ``flags`` (of /proc/cpuinfo) whether there is one, so that firmware tables only have to name it:
    those of a metal instance are the cloud's, too. ARM has no such flag.
    """
    if host.system == "darwin":
        return macos.virtual_machine(host)
    release = _release(host).lower()
    if "microsoft" in release:  # WSL 1 is no Linux kernel, hence "4.4.0-19041-Microsoft" and no machine of its own
        return "hyper-v" if "microsoft-standard" in release else None
    if flags is not None and "hypervisor" not in flags.split():
        return None
    vendor, product, *more = (
        line(host.read(f"{DMI}/{name}")).lower()
        for name in ("sys_vendor", "product_name", "board_vendor", "bios_vendor")
    )
    if flags is None and ".metal" in product:
        return None
    clocks = host.read(CLOCKS) or ""
    for firmware in (product, vendor, f"{vendor} {product}", *more):
        for beginning, name in FIRMWARE:
            if firmware.startswith(beginning):
                return "kvm" if name == "qemu" and "kvm-clock" in clocks else name
    for beginning, name in GUEST_CLOCKS:
        if any(clock.startswith(beginning) for clock in clocks.split()):
            return name
    tree = line(host.read("/proc/device-tree/hypervisor/compatible"))
    if "xen" in tree or line(host.read("/sys/hypervisor/type")) == "xen":
        return "xen"
    if tree:
        return "kvm" if tree.startswith("linux,kvm") else UNKNOWN
    virtual = line(host.read("/proc/device-tree/model")) in PATTERNS
    return UNKNOWN if flags is not None or virtual else None


def container(host: Host) -> str | None:
    """kubernetes, apptainer, podman, docker, lxc, systemd-nspawn, flatpak, openvz or wsl, told by the marks that each
    of them leaves; None without a mark.

    The innermost counts: a container of Docker's within WSL is Docker's. Images carry /.dockerenv along, so it comes
    late.
    """
    if host.exists("/var/run/secrets/kubernetes.io") or "KUBERNETES_SERVICE_HOST" in host.environ:
        return "kubernetes"
    if host.exists("/.singularity.d") or "APPTAINER_CONTAINER" in host.environ:
        return "apptainer"
    named = next(filter(None, (host.environ.get("container"), *map(host.read, NAMED_IN))), "").strip()
    if host.exists("/run/.containerenv") or named == "podman":
        return "podman"
    if named.startswith("lxc"):
        return "lxc"
    if named in ("systemd-nspawn", "flatpak"):
        return named
    if host.exists("/.dockerenv") or named == "docker":
        return "docker"
    if group := GROUPS.search(host.read("/proc/1/cgroup") or ""):
        return MANAGERS[group[1]]
    if host.exists("/proc/vz") and not host.exists("/proc/bc"):  # OpenVZ's host has both
        return "openvz"
    return "wsl" if "microsoft" in _release(host).lower() else None


def _release(host: Host) -> str:
    return line(host.read("/proc/sys/kernel/osrelease"))


def _portable(host: Host) -> str:
    if host.system == "linux":
        return "Linux"
    if host.system == "darwin" and (name := macos.os_name(host)):
        return name
    facts, _ = portable(host)
    return facts.os if facts else ""
