"""What kind of place it is, by the marks that each kind leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from llmctl.host import Host
from llmctl.probe.system import system

RELEASE = "proc/sys/kernel/osrelease"
DMI = "sys/class/dmi/id"
CLOCKS = "sys/devices/system/clocksource/clocksource0/available_clocksource"
GUEST = {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu hypervisor lahf_lm\n"}
HARDWARE = {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu lahf_lm\n"}
ARM = {"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\n"}
MODEL = "proc/device-tree/model"


def host(root: Path, files: Mapping[str, str], environ: Mapping[str, str] | None = None) -> Host:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Host(root=root, environ=environ or {}, system="linux")


@pytest.mark.parametrize(
    ("files", "os"),
    [
        ({}, "Linux"),
        ({RELEASE: "6.8.0-45-generic\n"}, "Linux 6.8"),
        (
            {RELEASE: "6.18.44\n", "etc/os-release": 'NAME=x\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n'},
            "Linux 6.18 (Ubuntu 24.04.1 LTS)",
        ),
        (
            {RELEASE: "6.1.0\n", "usr/lib/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'},
            "Linux 6.1 (Debian GNU/Linux 12)",
        ),
        ({RELEASE: "6.1.0\n", "etc/os-release": "PRETTY_NAME=Buildroot\n"}, "Linux 6.1 (Buildroot)"),
        ({RELEASE: "6.1.0\n", "etc/os-release": 'PRETTY_NAME="\x1b[2J"\n'}, "Linux 6.1 ([2J)"),
        ({RELEASE: "6.1.0\n", "etc/os-release": 'PRETTY_NAME=""\n'}, "Linux 6.1"),
    ],
)
def test_operating_system(tmp_path: Path, files: dict[str, str], os: str) -> None:
    assert system(host(tmp_path, files)).os == os


@pytest.mark.parametrize(
    ("files", "board"),
    [
        (HARDWARE, None),
        ({MODEL: "Raspberry Pi 5 Model B Rev 1.0\0"}, "Raspberry Pi 5 Model B Rev 1.0"),
        ({MODEL: "NVIDIA Jetson Orin Nano Developer Kit\0"}, "NVIDIA Jetson Orin Nano Developer Kit"),
        ({MODEL: "Radxa ROCK 5B\0"}, "Radxa ROCK 5B"),
        ({MODEL: "Apple MacBook Air (M1, 2020)\0"}, "Apple MacBook Air (M1, 2020)"),
        ({MODEL: "linux,dummy-virt\0"}, None),
        ({MODEL: "\0\0"}, None),
        ({"sys/devices/soc0/machine": "Hardkernel ODROID-M1\n"}, "Hardkernel ODROID-M1"),
        # a container: Docker hides the device tree
        ({"proc/cpuinfo": "processor: 0\n\nModel\t\t: Raspberry Pi 4 Model B\n"}, "Raspberry Pi 4 Model B"),
        ({RELEASE: "5.15.148-tegra\n"}, "NVIDIA Jetson"),
        ({RELEASE: "6.6.31+rpt-rpi-v8\n"}, "Raspberry Pi"),
        ({RELEASE: "6.8.0-1013-raspi\n"}, "Raspberry Pi"),
        ({RELEASE: "6.8.0-45-generic\n"}, None),
    ],
)
def test_board(tmp_path: Path, files: dict[str, str], board: str | None) -> None:
    assert system(host(tmp_path, files)).board == board


@pytest.mark.parametrize(
    ("files", "hypervisor"),
    [
        ({}, None),
        (HARDWARE, None),
        (ARM, None),
        (GUEST, "unknown"),
        ({**GUEST, CLOCKS: "tsc kvm-clock \n"}, "kvm"),  # Firecracker has no firmware tables
        ({**GUEST, CLOCKS: "hyperv_clocksource_tsc_page acpi_pm \n"}, "hyper-v"),
        ({**GUEST, f"{DMI}/sys_vendor": "Amazon EC2\n", f"{DMI}/product_name": "m6i.large\n"}, "kvm (Amazon EC2)"),
        ({**HARDWARE, f"{DMI}/sys_vendor": "Amazon EC2\n", f"{DMI}/product_name": "m6i.metal\n"}, None),
        ({**ARM, f"{DMI}/sys_vendor": "Amazon EC2\n", f"{DMI}/product_name": "c7g.large\n"}, "kvm (Amazon EC2)"),
        ({**ARM, f"{DMI}/sys_vendor": "Amazon EC2\n", f"{DMI}/product_name": "c7g.metal\n"}, None),
        ({**GUEST, f"{DMI}/product_name": "Google Compute Engine\n"}, "kvm (Google Compute Engine)"),
        ({**GUEST, f"{DMI}/sys_vendor": "VMware, Inc.\n"}, "vmware"),
        (
            {
                **GUEST,
                f"{DMI}/sys_vendor": "innotek GmbH\n",
                f"{DMI}/product_name": "VirtualBox\n",
                CLOCKS: "kvm-clock tsc\n",
            },
            "virtualbox",
        ),
        (
            {**GUEST, f"{DMI}/sys_vendor": "Microsoft Corporation\n", f"{DMI}/product_name": "Virtual Machine\n"},
            "hyper-v",
        ),
        ({**HARDWARE, f"{DMI}/sys_vendor": "Microsoft Corporation\n", f"{DMI}/product_name": "Surface Pro\n"}, None),
        ({**GUEST, f"{DMI}/sys_vendor": "QEMU\n", CLOCKS: "kvm-clock tsc acpi_pm \n"}, "kvm"),
        ({**GUEST, f"{DMI}/sys_vendor": "QEMU\n", CLOCKS: "tsc acpi_pm \n"}, "qemu"),
        ({**GUEST, f"{DMI}/sys_vendor": "DigitalOcean\n", CLOCKS: "kvm-clock tsc acpi_pm \n"}, "kvm"),
        ({**ARM, f"{DMI}/sys_vendor": "QEMU\n", f"{DMI}/product_name": "KVM Virtual Machine\n"}, "kvm"),
        ({**ARM, f"{DMI}/product_name": "Apple Virtualization Generic Platform\n"}, "apple"),
        ({**ARM, f"{DMI}/product_name": "Parallels ARM Virtual Machine\n"}, "parallels"),
        ({**GUEST, f"{DMI}/sys_vendor": "Xen\n", f"{DMI}/product_name": "HVM domU\n"}, "xen"),
        ({**GUEST, "sys/hypervisor/type": "xen\n"}, "xen"),
        ({**ARM, "proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, "kvm"),
        ({**ARM, "proc/device-tree/hypervisor/compatible": "xen,xen-4.17\0xen,xen\0"}, "xen"),
        ({**ARM, "proc/device-tree/hypervisor/compatible": "acrn,hv\0"}, "unknown"),
        ({**ARM, MODEL: "linux,dummy-virt\0"}, "unknown"),
        ({**ARM, MODEL: "Raspberry Pi 5 Model B Rev 1.0\0"}, None),
        ({**GUEST, RELEASE: "5.15.153.1-microsoft-standard-WSL2\n"}, "hyper-v"),
        ({**GUEST, RELEASE: "4.4.0-19041-Microsoft\n"}, None),
    ],
)
def test_virtual_machine(tmp_path: Path, files: dict[str, str], hypervisor: str | None) -> None:
    assert system(host(tmp_path, files)).virtual_machine == hypervisor


@pytest.mark.parametrize(
    ("files", "environ", "container"),
    [
        ({"proc/1/cgroup": "0::/init.scope\n"}, {}, None),
        ({".dockerenv": ""}, {}, "docker"),
        ({".dockerenv": "", "var/run/secrets/kubernetes.io/serviceaccount/namespace": "default"}, {}, "kubernetes"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"run/.containerenv": ""}, {"container": "oci"}, "podman"),
        ({".dockerenv": ""}, {"container": "oci"}, "docker"),
        ({}, {"container": "podman"}, "podman"),
        ({}, {"container": "lxc"}, "lxc"),
        ({"run/systemd/container": "lxc"}, {}, "lxc"),
        ({"run/systemd/container": "lxc-libvirt\n"}, {}, "lxc"),
        ({"run/host/container-manager": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({}, {"container": "flatpak"}, "flatpak"),
        ({}, {"container": "\x1b[31m"}, None),
        ({".dockerenv": "", ".singularity.d/runscript": ""}, {}, "apptainer"),
        ({"proc/1/cgroup": "0::/system.slice/docker-0001.scope\n"}, {}, "docker"),
        ({"proc/1/cgroup": "4:memory:/docker/0001\n"}, {}, "docker"),
        ({"proc/1/cgroup": "4:memory:/system.slice/docker.service\n"}, {}, None),
        ({"proc/1/cgroup": "0::/kubepods.slice/kubepods-besteffort.slice\n"}, {}, "kubernetes"),
        ({"proc/1/cgroup": "0::/machine.slice/libpod-0001.scope\n"}, {}, "podman"),
        ({"proc/1/cgroup": "4:memory:/lxc.payload.web\n"}, {}, "lxc"),
        ({"proc/vz/veinfo": ""}, {}, "openvz"),
        ({"proc/vz/veinfo": "", "proc/bc/0": ""}, {}, None),
        ({RELEASE: "5.15.153.1-microsoft-standard-WSL2\n"}, {}, "wsl"),
        ({RELEASE: "4.4.0-19041-Microsoft\n"}, {}, "wsl"),
        ({RELEASE: "5.15.153.1-microsoft-standard-WSL2\n", ".dockerenv": ""}, {}, "docker"),
    ],
)
def test_container(tmp_path: Path, files: dict[str, str], environ: dict[str, str], container: str | None) -> None:
    assert system(host(tmp_path, files, environ)).container == container
