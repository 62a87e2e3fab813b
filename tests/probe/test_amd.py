"""AMD GPUs from sysfs: whose memory it is, what they are compiled for, which of them count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from llmctl.host import Host
from llmctl.probe.gpu import drm, kfd, pci_ids
from llmctl.probe.gpu.amd import amd
from llmctl.probe.gpu.kfd import Node, of_hip, of_rocr, target
from llmctl.probe.memory import memory
from llmctl.probe.recorded.recording import Recorded, Recorder, recorded
from llmctl.types.machine import Accelerator, AcceleratorKind, Memory, Note

GIB = 1 << 30
MAIN = Memory(64 * GIB, 32 * GIB)
APU, CARD = "0000:10:00.0", "0000:03:00.0"  # of the machine amd-dgpu-apu
DEVICE = "sys/class/drm/card0/device"
UEVENT = "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_ID=1002:747E\nPCI_SLOT_NAME=0000:03:00.0\n"
ONE_CARD = {f"{DEVICE}/vendor": "0x1002\n", f"{DEVICE}/uevent": UEVENT}
NODE = "sys/class/kfd/kfd/topology/nodes/1/properties"


def tree(root: Path, files: Mapping[str, str | int], **environ: str) -> Host:
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n" if isinstance(text, int) else text)
    return Host(root=root, environ=environ, system="linux")


def machine(name: str, **environ: str) -> Recorded:
    host = recorded(Path(__file__).parent.parent / "fixtures" / "machines" / name)
    return replace(host, environ={**host.environ, **environ})


def one(host: Host, main: Memory = MAIN) -> Accelerator:
    (card,), _ = amd(host, main)
    return card


@pytest.mark.parametrize(
    ("version", "gfx"),
    [
        (110000, "gfx1100"),
        (110001, "gfx1101"),
        (110501, "gfx1151"),
        (120001, "gfx1201"),
        (100306, "gfx1036"),
        (90010, "gfx90a"),
        (90012, "gfx90c"),
        (90402, "gfx942"),
        (90500, "gfx950"),
        (80003, "gfx803"),
        (0, None),
        (110099, None),
        (10**18, None),
    ],
)
def test_target(version: int, gfx: str | None) -> None:
    assert target(version) == gfx


def test_cards_keep_their_own_target_when_kfd_counts_them_in_another_order() -> None:
    host = machine("amd-dgpu-apu", HIP_VISIBLE_DEVICES="")
    cards, notes = amd(host, memory(host)[0])
    assert [(card.id, card.kind.value, card.architecture) for card in cards] == [
        (APU, "integrated", "gfx1036"),
        (CARD, "discrete", "gfx1100"),
    ]
    assert [node.address for node in kfd.nodes(host)] == [CARD, APU]
    assert notes == ()


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({}, {APU, CARD}),
        ({"HIP_VISIBLE_DEVICES": "0"}, {CARD}),  # KFD's first, though it is the second of DRM's
        ({"HIP_VISIBLE_DEVICES": "1"}, {APU}),
        ({"HIP_VISIBLE_DEVICES": "1,0"}, {APU, CARD}),
        ({"HIP_VISIBLE_DEVICES": "-1"}, set()),
        ({"HIP_VISIBLE_DEVICES": "5,0"}, set()),
        ({"HIP_VISIBLE_DEVICES": " 0"}, set()),
        ({"CUDA_VISIBLE_DEVICES": "1"}, {APU}),
        ({"CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}, {CARD}),
        ({"ROCR_VISIBLE_DEVICES": "1"}, {APU}),
        ({"ROCR_VISIBLE_DEVICES": ""}, set()),
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}, {APU}),  # HIP numbers what ROCR leaves
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "1"}, set()),
        ({"GPU_DEVICE_ORDINAL": "1"}, {APU, CARD}),  # OpenCL's
    ],
)
def test_visible_devices(environ: dict[str, str], shown: set[str]) -> None:
    host = machine("amd-dgpu-apu", **{"HIP_VISIBLE_DEVICES": "", **environ})
    cards, notes = amd(host, memory(host)[0])
    assert {card.id for card in cards} == shown
    assert len(notes) == 2 - len(shown)
    assert all(any(name in note.message and name in (note.remedy or "") for name in environ) for note in notes)


def test_a_hidden_card_is_named() -> None:
    host = machine("amd-dgpu-apu", ROCR_VISIBLE_DEVICES="1,0", HIP_VISIBLE_DEVICES="0")
    assert amd(host, Memory(GIB, GIB))[1] == (
        Note(
            "AMD: Radeon RX 7900 XTX at 0000:03:00.0 is left out: hidden from ROCm by ROCR_VISIBLE_DEVICES, "
            "HIP_VISIBLE_DEVICES",
            "unset ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES   to use it",
        ),
    )


@pytest.mark.parametrize("sign", ["sys/class/drm/card1/device/vendor", "dev/nvidiactl"])
def test_cuda_variable_is_not_meant_for_amd_where_there_is_an_nvidia_card(tmp_path: Path, sign: str) -> None:
    files = {**ONE_CARD, NODE: "simd_count 96\nlocation_id 768\n", "dev/kfd": ""}
    assert amd(tree(tmp_path, files, CUDA_VISIBLE_DEVICES="1"), MAIN)[0] == ()
    files[sign] = "0x10de\n"
    assert one(tree(tmp_path, files, CUDA_VISIBLE_DEVICES="1")).id == CARD


def nodes(*uuids: str | None) -> list[Node]:
    return [Node(f"0000:0{i}:00.0", "gfx90a", False, uuid, None) for i, uuid in enumerate(uuids)]


FOUR = nodes("GPU-babababababababa", "GPU-abbaabbaabbaabba", "GPU-babaabbaabbababa", "GPU-abbababababaabba")


@pytest.mark.parametrize(
    ("choice", "rocr", "hip"),
    [
        ("3,GPU-babababababababa,4", [3, 0], [3, 0]),
        ("3,GPU-BABABABABABABABA,4", [3, 0], [3]),  # HIP looks for the very letters
        ("1,GPU-ABBAABBAABBAABBA,2", [1], [1]),
        ("3,GPU-BABAABBA,GPU-XX", [3, 2], [3]),
        ("GPU-baba", [], [0]),  # two begin so: none of them for ROCR, the first for HIP
        ("GPU-", [], [0]),
        ("2,2,0", [2], [2, 0]),
        ("0,,1", [0], [0]),
        ("01", [1], []),
        ("0x1", [], []),
        (" 1 , 2 ", [1, 2], []),
        ("0,1,2,3,0,1", [0, 1, 2, 3], [0, 1, 2, 3]),
        ("٣", [], []),
    ],
)
def test_words_of_visible_devices(choice: str, rocr: list[int], hip: list[int]) -> None:
    assert of_rocr(FOUR, choice) == [FOUR[i] for i in rocr]
    assert of_hip(FOUR, choice) == [FOUR[i] for i in hip]


def test_the_beginning_of_a_uuid_that_is_too_short() -> None:
    assert of_rocr(FOUR[:1], "GPU-b") == FOUR[:1]
    assert of_rocr(FOUR[:1], "GPU-") == []
    assert of_rocr(FOUR[:1], "GPU-babababababababa0") == []


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("location_id 768", "0000:03:00.0"),
        ("domain 1\nlocation_id 65535", "0001:ff:1f.7"),
        ("domain 65536\nlocation_id 49408", "10000:c1:00.0"),
        ("location_id 268436224", "0000:03:00.0"),  # a partition of one
        ("location_id x", "0000:00:00.0"),
    ],
)
def test_place_of_a_node(tmp_path: Path, place: str, address: str) -> None:
    assert [node.address for node in kfd.nodes(tree(tmp_path, {NODE: f"simd_count 4\n{place}\n"}))] == [address]


def test_rocm_numbers_only_what_a_container_was_given(tmp_path: Path) -> None:
    """libhsakmt leaves out nodes whose device file isn't there before ROCR counts."""
    files = {
        **ONE_CARD,
        "sys/class/kfd/kfd/topology/nodes/1/properties": "simd_count 96\nlocation_id 256\ndrm_render_minor 129\n",
        "sys/class/kfd/kfd/topology/nodes/2/properties": "simd_count 96\nlocation_id 768\ndrm_render_minor 128\n",
        "sys/class/kfd/kfd/topology/nodes/10/properties": "simd_count 96\nlocation_id 1024\ndrm_render_minor 130\n",
        "dev/kfd": "",
        "dev/dri/renderD128": "",
        "dev/dri/renderD130": "",
    }
    assert one(tree(tmp_path, files, HIP_VISIBLE_DEVICES="0")).id == "0000:03:00.0"


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        ({}, "discrete"),  # by its size
        ({f"{DEVICE}/mem_info_vram_total": ""}, "integrated"),  # MI300A, whose memory is all the machine's
        ({f"{DEVICE}/mem_info_vram_total": "", f"{DEVICE}/mem_info_gtt_total": ""}, "discrete"),
        ({f"{DEVICE}/mem_info_vram_total": 4 * GIB}, "integrated"),
        ({f"{DEVICE}/mem_info_vram_total": 4 * GIB, f"{DEVICE}/mem_info_gtt_total": 3 * GIB}, "discrete"),
        ({f"{DEVICE}/mem_info_vram_total": 4 * GIB, f"{DEVICE}/board_info": "type : cem\n"}, "discrete"),
        ({f"{DEVICE}/mem_info_vram_total": 4 * GIB, f"{DEVICE}/mem_info_vram_vendor": "hynix\n"}, "discrete"),
        ({f"{DEVICE}/mem_info_vram_total": 4 * GIB, f"{DEVICE}/mem_info_vram_vendor": "unknown\n"}, "integrated"),
        ({f"{DEVICE}/hwmon/hwmon3/in1_label": "vddnb\n"}, "integrated"),
        ({f"{DEVICE}/uma/carveout": 7}, "integrated"),
        ({NODE: "cpu_cores_count 16\nsimd_count 20\nlocation_id 768\n"}, "integrated"),
        ({NODE: "simd_count 80\nlocation_id 768\ngfx_target_version 110501\n"}, "integrated"),
        ({NODE: "simd_count 80\nlocation_id 1024\ngfx_target_version 110501\n"}, "discrete"),  # another card's
        (
            {
                NODE: "simd_count 28\nlocation_id 768\ngfx_target_version 100304\n",
                f"{DEVICE}/mem_info_vram_total": 4 * GIB,
            },
            "discrete",
        ),
    ],
)
def test_kind(tmp_path: Path, evidence: dict[str, str | int], kind: str) -> None:
    sizes = {f"{DEVICE}/mem_info_vram_total": 96 * GIB, f"{DEVICE}/mem_info_gtt_total": 16 * GIB}
    assert one(tree(tmp_path, {**ONE_CARD, **sizes, **evidence})).kind.value == kind


MEMORY = {
    f"{DEVICE}/mem_info_vram_total": 4 * GIB,
    f"{DEVICE}/mem_info_vram_used": 1 * GIB,
    f"{DEVICE}/mem_info_gtt_total": 16 * GIB,
    f"{DEVICE}/mem_info_gtt_used": 2 * GIB,
}


@pytest.mark.parametrize(
    ("changed", "main", "total", "free", "shared"),
    [
        ({}, Memory(28 * GIB, 20 * GIB), 20, 3 + 14, 16),
        ({}, Memory(28 * GIB, 5 * GIB), 20, 3 + 5, 16),
        ({}, Memory(28 * GIB, 0), 20, 3, 16),
        ({"gtt_total": 64 * GIB}, Memory(28 * GIB, 28 * GIB), 4 + 28, 3 + 28, 28),  # ttm.pages_limit beyond what is
        ({"gtt_used": 17 * GIB}, Memory(28 * GIB, 20 * GIB), 20, 3, 16),
        ({"gtt_used": None}, Memory(28 * GIB, 20 * GIB), 20, None, 16),
        ({"vram_used": None}, Memory(28 * GIB, 20 * GIB), 20, None, 16),
        ({"gtt_total": None}, Memory(28 * GIB, 20 * GIB), 4, 3, None),
        ({"vram_total": None, "vram_used": None}, Memory(28 * GIB, 20 * GIB), 16, 14, 16),
        ({"vram_total": 1 << 60}, Memory(28 * GIB, 20 * GIB), 16, 14, 16),  # no memory is so large: not known
    ],
)
def test_memory_of_an_apu(
    tmp_path: Path, changed: dict[str, int | None], main: Memory, total: int, free: int | None, shared: int | None
) -> None:
    files = MEMORY | {f"{DEVICE}/mem_info_{name}": value for name, value in changed.items()}
    known = {name: value for name, value in files.items() if value is not None}
    card = one(tree(tmp_path, {**ONE_CARD, f"{DEVICE}/hwmon/hwmon0/in1_label": "vddnb\n", **known}), main)
    assert card.kind is AcceleratorKind.INTEGRATED
    assert card.memory_total_bytes == total * GIB
    assert card.memory_free_bytes == (None if free is None else free * GIB)
    assert card.shared_bytes == (None if shared is None else shared * GIB)


def test_the_link_within_an_apu_is_not_told(tmp_path: Path) -> None:
    files = {f"{DEVICE}/max_link_speed": "16.0 GT/s PCIe\n", f"{DEVICE}/max_link_width": "16\n"}
    assert one(tree(tmp_path, {**ONE_CARD, **files})).pcie == "gen4 x16"
    assert one(tree(tmp_path, {f"{DEVICE}/hwmon/hwmon3/in1_label": "vddnb\n"})).pcie is None


def test_a_card_borrows_nothing(tmp_path: Path) -> None:
    card = one(tree(tmp_path, {**ONE_CARD, **MEMORY, f"{DEVICE}/board_info": "type : cem\n"}))
    assert (card.memory_total_bytes, card.memory_free_bytes, card.shared_bytes) == (4 * GIB, 3 * GIB, None)


TABLE = "1002  Advanced Micro Devices, Inc. [AMD/ATI]\n\t747e  {}\n\t\t1eae 7801  Board\n8086  Intel Corporation\n"
REVISIONS = "# List\n\n1.0.0\n747E,\tC8,\tAMD Radeon RX 7800 XT\n747E,\tFF,\tAMD Radeon RX 7700 XT\n"
IDS, LIBDRM = "usr/share/misc/pci.ids", "usr/share/libdrm/amdgpu.ids"


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({}, "AMD GPU (1002:747e)"),
        ({IDS: TABLE.format("Navi 32 [Radeon RX 7800 XT]")}, "AMD Radeon RX 7800 XT"),
        (
            {IDS: TABLE.format("Navi 32 [Radeon RX 7700 XT / 7800 XT]")},
            "AMD Navi 32 [Radeon RX 7700 XT / 7800 XT]",
        ),
        ({IDS: TABLE.format("Phoenix1")}, "AMD GPU (1002:747e)"),  # the chip, no product
        ({IDS: TABLE.replace("747e", "747f").format("Navi 99")}, "AMD GPU (1002:747e)"),
        ({IDS: "8086  Intel\n\t747e  Not this one\n"}, "AMD GPU (1002:747e)"),
        ({IDS: "1002  AMD\n8086  Intel\n\t747e  Not this one\n"}, "AMD GPU (1002:747e)"),
        (
            {"usr/share/hwdata/pci.ids": "1002  AMD\n", IDS: TABLE.format("Navi 32 [Radeon RX 7800 XT]")},
            "AMD Radeon RX 7800 XT",
        ),
        ({IDS: TABLE.format("Navi 32 [Radeon]"), LIBDRM: REVISIONS}, "AMD Radeon RX 7700 XT"),
        ({LIBDRM: REVISIONS, f"{DEVICE}/revision": "0xc8\n"}, "AMD Radeon RX 7800 XT"),
        ({LIBDRM: REVISIONS, f"{DEVICE}/revision": "0x00\n"}, "AMD GPU (1002:747e)"),
        ({LIBDRM: REVISIONS, f"{DEVICE}/product_name": "AMD Radeon PRO W7700\n"}, "AMD Radeon PRO W7700"),
        ({f"{DEVICE}/product_name": "\x1b[31mRadeon\tPRO\n\n"}, "AMD [31mRadeon PRO"),
        ({f"{DEVICE}/uevent": "DRIVER=amdgpu\nPCI_ID=../../etc\n"}, "AMD GPU"),
    ],
)
def test_name(tmp_path: Path, files: dict[str, str], name: str) -> None:
    assert one(tree(tmp_path, {**ONE_CARD, f"{DEVICE}/revision": "0xff\n", **files})).name == name


def test_a_name_behind_the_first_mebibyte_of_the_table(tmp_path: Path) -> None:
    padding = "0001  Vendor\n" + "".join(f"\t{i:04x}  {'x' * 60}\n" for i in range(20_000))
    host = tree(tmp_path, {**ONE_CARD, IDS: padding + TABLE.format("Navi 32 [Radeon RX 7800 XT]")})
    assert one(host).name == "AMD Radeon RX 7800 XT"


@pytest.mark.parametrize(
    ("speed", "width", "pcie"),
    [
        ("16.0 GT/s PCIe\n", "16\n", "gen4 x16"),
        ("32.0 GT/s PCIe\n", "16\n", "gen5 x16"),
        ("8 GT/s\n", "4\n", None),
        ("5.0 GT/s PCIe\n", "1\n", "gen2 x1"),
        ("Unknown\n", "255\n", None),
        ("16.0 GT/s PCIe\n", "255\n", None),
        ("", "", None),
    ],
)
def test_link(tmp_path: Path, speed: str, width: str, pcie: str | None) -> None:
    files = {f"{DEVICE}/max_link_speed": speed, f"{DEVICE}/max_link_width": width}
    assert one(tree(tmp_path, {**ONE_CARD, f"{DEVICE}/board_info": "", **files})).pcie == pcie


@pytest.mark.parametrize(
    ("files", "watts"),
    [
        ({f"{DEVICE}/hwmon/hwmon3/power1_cap": 327_000_000}, 327.0),
        ({f"{DEVICE}/hwmon/hwmon3/power1_cap": 0}, None),
        ({f"{DEVICE}/hwmon/hwmon3/power1_cap": 10**18}, None),
        ({f"{DEVICE}/hwmon/hwmon3/power1_cap": 327_000_000, f"{DEVICE}/power/runtime_status": "active\n"}, 327.0),
        ({f"{DEVICE}/hwmon/hwmon3/power1_cap": 327_000_000, f"{DEVICE}/power/runtime_status": "suspended\n"}, None),
    ],
)
def test_power_limit(tmp_path: Path, files: dict[str, str | int], watts: float | None) -> None:
    assert one(tree(tmp_path, {**ONE_CARD, **files})).power_limit_w == watts


def test_driver_with_a_version_of_its_own(tmp_path: Path) -> None:
    assert one(tree(tmp_path, ONE_CARD)).driver == "amdgpu"
    assert one(tree(tmp_path, {**ONE_CARD, "sys/module/amdgpu/version": "6.10.5\n"})).driver == "amdgpu 6.10.5"


def test_uuid_as_rocminfo_prints_it(tmp_path: Path) -> None:
    node = "simd_count 96\nlocation_id 768\nunique_id {}\n"
    assert one(tree(tmp_path, {**ONE_CARD, NODE: node.format((1 << 64) - 2)})).uuid == "GPU-fffffffffffffffe"
    assert one(tree(tmp_path, {**ONE_CARD, NODE: node.format(0)})).uuid is None
    assert one(tree(tmp_path, {**ONE_CARD, NODE: node.format(1 << 64)})).uuid is None


LACKING = "AMD: the driver is loaded, but there is no"
TWO_CARDS = {
    "sys/class/drm/card0/device/vendor": "0x1002\n",
    "sys/class/drm/card0/device/uevent": "PCI_SLOT_NAME=0000:03:00.0\n",
    "sys/class/drm/card0/device/drm/renderD128/dev": "226:128\n",
    "sys/class/drm/card1/device/vendor": "0x1002\n",
    "sys/class/drm/card1/device/uevent": "PCI_SLOT_NAME=0000:07:00.0\n",
    "sys/class/drm/card1/device/drm/renderD129/dev": "226:129\n",
    NODE: "simd_count 96\nlocation_id 768\ndrm_render_minor 128\n",
    "sys/class/kfd/kfd/topology/nodes/2/properties": "simd_count 96\nlocation_id 1792\ndrm_render_minor 129\n",
}


@pytest.mark.parametrize(
    ("devices", "shown", "message"),
    [
        (["kfd", "dri/renderD128", "dri/renderD129"], 2, None),
        ([], 2, f"{LACKING} /dev/dri/renderD128: this container was started without its GPU"),
        (["dri/renderD128", "dri/renderD129"], 2, f"{LACKING} /dev/kfd: this container was started without it"),
        (["kfd", "dri/renderD129"], 1, "AMD: this container was not given 0000:03:00.0"),
    ],
)
def test_device_files_of_a_container(tmp_path: Path, devices: list[str], shown: int, message: str | None) -> None:
    host = tree(tmp_path, TWO_CARDS | {f"dev/{name}": "" for name in devices})
    cards, notes = amd(host, Memory(GIB, GIB))
    assert len(cards) == shown
    remedy = "docker run --device /dev/kfd --device /dev/dri IMAGE" if shown == 2 else None
    assert notes == ((Note(message, remedy),) if message else ())


@pytest.mark.parametrize(
    ("mark", "start", "join"),
    [
        (
            ".dockerenv",
            "docker run --device /dev/kfd --device /dev/dri IMAGE",
            "docker run --device /dev/kfd --device /dev/dri --group-add $(getent group render | cut -d: -f3) IMAGE",
        ),
        (
            "run/.containerenv",
            "podman run --device /dev/kfd --device /dev/dri IMAGE",
            "podman run --device /dev/kfd --device /dev/dri --group-add keep-groups IMAGE",
        ),
        (
            "var/run/secrets/kubernetes.io/x",
            "resources: {limits: {amd.com/gpu: 1}}   (in the container's part of the pod)",
            "securityContext: {supplementalGroups: [GID]}   (in the pod; GID: getent group render, on its node)",
        ),
        (".singularity.d/x", None, "sudo usermod -aG render,video $USER   then log in anew"),
    ],
)
def test_each_container_has_its_command(tmp_path: Path, mark: str, start: str | None, join: str) -> None:
    (note,) = amd(tree(tmp_path, {**TWO_CARDS, mark: ""}), MAIN)[1]
    assert note == Note(f"{LACKING} /dev/dri/renderD128: this container was started without its GPU", start)
    tree(tmp_path, {"dev/kfd": "", "dev/dri/renderD128": "", "dev/dri/renderD129": ""})
    (note,) = amd(Closed(root=tmp_path, environ={}), MAIN)[1]
    assert note == Note("AMD: you may not open /dev/kfd, /dev/dri/renderD128, /dev/dri/renderD129", join)


def test_cards_are_counted_as_the_kernel_counts_and_once(tmp_path: Path) -> None:
    places = {"card2": "0000:03:00.0", "card10": "0000:07:00.0", "card11": "0000:03:00.0", "card3-DP-1": "0000:09:00.0"}
    files = {f"sys/class/drm/{card}/device/vendor": "0x1002\n" for card in places}
    told = {f"sys/class/drm/{card}/device/uevent": f"PCI_SLOT_NAME={place}\n" for card, place in places.items()}
    found = drm.cards(tree(tmp_path, {**files, **told}))
    assert [(card.card, card.address) for card in found] == [
        ("/sys/class/drm/card2", "0000:03:00.0"),
        ("/sys/class/drm/card10", "0000:07:00.0"),
    ]


def test_without_kfd_no_file_of_its_is_missed(tmp_path: Path) -> None:
    files = {name: text for name, text in TWO_CARDS.items() if "/kfd/" not in name}
    host = tree(tmp_path, files | {"dev/dri/renderD128": "", "dev/dri/renderD129": ""})
    assert amd(host, Memory(GIB, GIB))[1] == ()


def test_device_files_that_this_user_may_not_open() -> None:
    host = machine("amd-dgpu-apu", HIP_VISIBLE_DEVICES="")
    closed = replace(host, recording=structs.replace(host.recording, unreadable=("/dev/kfd", "/dev/dri/renderD128")))
    cards, (note,) = amd(closed, Memory(GIB, GIB))
    assert len(cards) == 2
    assert note == Note(
        "AMD: you may not open /dev/kfd, /dev/dri/renderD128", "sudo usermod -aG render,video $USER   then log in anew"
    )


class Closed(Host):
    """A machine where this user is in no group (root, which tests may run as, may open anything)."""

    def readable(self, name: str) -> bool:
        return not name.startswith("/dev/")


def test_what_this_user_may_not_open_is_recorded_as_such(tmp_path: Path) -> None:
    host = tree(tmp_path / "here", TWO_CARDS | {"dev/kfd": "", "dev/dri/renderD128": "", "dev/dri/renderD129": ""})
    recorder = Recorder(machine=Closed(root=host.root, environ={}), environ={}, system="linux")
    learnt = amd(recorder, Memory(GIB, GIB))
    assert "/dev/kfd, /dev/dri/renderD128, /dev/dri/renderD129" in learnt[1][0].message
    recorder.write(tmp_path / "there")
    assert amd(recorded(tmp_path / "there"), Memory(GIB, GIB)) == learnt


def bus_line(place: str, numbers: str, size: int, driver: str) -> str:
    """A line of /proc/bus/pci/devices."""
    fields = [place, numbers, "0", *(["0"] * 7), f"{size:16x}", *([f"{0:16x}"] * 6), driver]
    return "\t".join(fields) + "\n"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (bus_line("0300", "10027550", 16 * GIB, "amdgpu"), None),
        (
            bus_line("0300", "10027550", 16 * GIB, ""),
            Note(
                "AMD: a GPU (1002:7550 at 03:00.0) has no driver: this kernel may be too old for it",
                "sudo modprobe -a amdgpu",
            ),
        ),
        (
            bus_line("0301", "1002747e", 256 << 20, "vfio-pci"),
            Note("AMD: Radeon RX 7800 XT (1002:747e at 03:00.1) is kept for a virtual machine (vfio-pci)"),
        ),
        (bus_line("0301", "1002ab30", 16 << 10, "vfio-pci"), None),  # its HDMI sound
        (bus_line("0300", "10de2684", 16 * GIB, ""), None),
        (bus_line("0300", "10027550", 16 * GIB, "").replace("0\t0\t", "x\t0\t"), None),
        ("0300\t10027550\n\t\n", None),
    ],
)
def test_gpus_that_no_graphics_driver_has(tmp_path: Path, text: str, note: Note | None) -> None:
    files = {"proc/bus/pci/devices": text, IDS: TABLE.format("Navi 32 [Radeon RX 7800 XT]")}
    assert amd(tree(tmp_path, files), Memory(GIB, GIB)) == ((), (note,) if note else ())


def test_a_recording_holds_what_tells_of_these_cards_and_of_no_single_one(tmp_path: Path) -> None:
    files = {
        **TWO_CARDS,
        "sys/class/drm/card0/device/uevent": UEVENT,
        "sys/class/drm/card0/device/revision": "0xff\n",
        NODE: "simd_count 96\nlocation_id 768\ndrm_render_minor 128\nunique_id 1234567890123456789\n",
        "dev/kfd": "",
        "dev/dri/renderD128": "",
        "dev/dri/renderD129": "",
        IDS: TABLE.format("Navi 32 [Radeon]").replace("8086", "\t747f  Another\n8086") + "\t747e  Not this\n",
        LIBDRM: REVISIONS + "7480,\tC0,\tAMD Radeon RX 7600\n",
        "proc/bus/pci/devices": bus_line("0000", "80864660", 0, "") + bus_line("0001", "1b4b2241", 0, "nvme"),
    }
    recorder = Recorder(machine=tree(tmp_path / "here", files), environ={}, system="linux")
    learnt = amd(recorder, Memory(GIB, GIB))
    recorder.write(tmp_path / "there")
    again = recorded(tmp_path / "there")
    kept = {name: again.read(f"/{name}") for name in (IDS, LIBDRM, NODE, "proc/bus/pci/devices")}
    assert kept == {
        IDS: None,  # libdrm's table told the name
        LIBDRM: "747E,\tC8,\tAMD Radeon RX 7800 XT\n747E,\tFF,\tAMD Radeon RX 7700 XT\n",
        NODE: "simd_count 96\nlocation_id 768\ndrm_render_minor 128\n",
        "proc/bus/pci/devices": bus_line("0000", "80864660", 0, ""),
    }
    other = Recorder(machine=recorder.machine, environ={}, system="linux")
    assert pci_ids.name(other, "1002:747e") == "Radeon"
    other.read("/sys/class/drm/card0/device/uevent")
    other.write(tmp_path / "other")
    assert recorded(tmp_path / "other").read(f"/{IDS}") == (
        "1002  Advanced Micro Devices, Inc. [AMD/ATI]\n\t747e  Navi 32 [Radeon]\n"
    )
    cards, notes = amd(again, Memory(GIB, GIB))
    assert learnt[0][0].uuid == "GPU-112210f47de98115"
    assert (cards[0].uuid, cards[0].name, notes) == (None, learnt[0][0].name, learnt[1])
