"""NVIDIA GPUs: what NVML says of those that CUDA may use, and what the kernel knows of those that it can't."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from msgspec.structs import replace

from llmctl.files.decode import FieldError, decode
from llmctl.host import Host
from llmctl.probe.gpu import drm, nvidia_kernel, nvml, pci_ids, remedies, tegra
from llmctl.probe.gpu.nvidia_kernel import KernelCard
from llmctl.probe.gpu.nvml import Card, NvmlReport, Slice
from llmctl.probe.gpu.remedies import WSL_LIBRARY
from llmctl.probe.system import container
from llmctl.types.machine import Accelerator, AcceleratorKind, Memory, Note

DEADLINE_S = 10.0  # without nvidia-persistenced each card is woken up first, which takes one to two seconds

SIGNS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", WSL_LIBRARY)
CONTROLS = ("/dev/nvidiactl", "/dev/dxg")
# Where the system's loader may not look: WSL with ldconfig turned off, NixOS.
ELSEWHERE = (WSL_LIBRARY, "/run/opengl-driver/lib/libnvidia-ml.so.1")
WINDOWS_FOLDER = "/Windows/System32"
WINDOWS_SIGNS = (f"{WINDOWS_FOLDER}/nvml.dll", "/Program Files/NVIDIA Corporation/NVSMI/nvml.dll")

SLICES = 8  # "A GPU memory slice is roughly one eighth of the total ... capacity and bandwidth" (MIG User Guide)
BASIS = "memory clock x bus width (NVML)"


def nvidia(host: Host, memory: Memory) -> tuple[tuple[Accelerator, ...], tuple[Note, ...]]:
    """The GPUs that CUDA_VISIBLE_DEVICES lets count, and notes. Starts no child where no driver shows.

    A card with MIG turned on is listed as its slices; how many of them a process sees depends on the driver (before
    570 one, MIG User Guide), which the engine knows. GPUs without memory of their own have ``memory``'s.
    """
    if host.system == "darwin":  # the last driver was for macOS 10.13
        return (), ()
    board = tegra.board(host)
    report, notes = _ask(host, board)
    if board is not None:
        report = tegra.with_board(report, board)
    choice = host.environ.get("CUDA_VISIBLE_DEVICES")
    accelerators: list[Accelerator] = []
    if report is not None:
        accelerators = [_accelerator(card, part, report, memory) for card, part in chosen(report.cards, choice)]
        notes = [*notes, *_notes(host, report, choice)]
    if choice is None and board is None:  # what the variable hides must not come back this way
        others, more = _unlisted(host, report)
        accelerators, notes = [*accelerators, *others], [*notes, *more]
    return tuple(accelerators), tuple(replace(note, message=f"NVIDIA: {note.message}") for note in notes)


def _ask(host: Host, board: tegra.Board | None) -> tuple[NvmlReport | None, list[Note]]:
    """NVML's report, or None and notes why there is none."""
    if board is not None and _contained(host) and not board.reachable:
        return None, [Note("this container was started without its GPU", "docker run --runtime nvidia IMAGE")]
    shows = any(host.exists(sign) for sign in (WINDOWS_SIGNS if host.system == "win32" else SIGNS))
    # the signs mean nothing where paths are of another drive than the one that Windows is on
    if not shows and (host.system != "win32" or host.exists(WINDOWS_FOLDER)):
        return None, []
    if board is None and _contained(host) and not any(map(host.exists, CONTROLS)):
        message = f"the driver is loaded, but there is no {CONTROLS[0]}: this container was started without its GPU"
        return None, [Note(message, remedies.START_WITH_GPU.get(container(host) or ""))]
    reply = host.ask(nvml.__name__, [place for place in ELSEWHERE if host.exists(place)], deadline_s=DEADLINE_S)
    why = Note(f"the driver's library {reply.why}", remedies.where_nvidia_fails(host))
    if reply.data is not None:
        try:
            report = decode(NvmlReport, reply.data, "nvml")
            if report.error is None:
                return report, []
            why = _failure_note(host, report)
        except FieldError as error:
            why = Note(str(error))
    return None, [why] if shows and board is None else []


def _contained(host: Host) -> bool:
    return container(host) not in (None, "wsl")


def _failure_note(host: Host, report: NvmlReport) -> Note:
    """Why NVML did not start, and what mends it."""
    if container(host) == "wsl":
        return Note(f"Windows's driver does not work here: {report.error}", remedies.ON_WSL)
    version = nvidia_kernel.version(host)
    driver = f"the driver {version}" if version else "the driver"
    if host.system == "win32":
        return Note(f"{driver} does not work: {report.error}", remedies.ON_WINDOWS)
    if report.code == nvml.LIBRARY_NOT_FOUND:
        message = f"{driver} is loaded, but its library libnvidia-ml.so.1 is not found"
        return Note(message, remedies.nvidia_libraries(host, version))
    if report.code == nvml.DRIVER_NOT_LOADED:
        return Note("the driver is installed, but not loaded", "sudo modprobe nvidia")
    if report.code != nvml.VERSION_MISMATCH:
        return Note(f"{driver} does not work: {report.error}", remedies.LOG)
    if _contained(host):
        message = f"the libraries in this container are not of the version of {driver} that is loaded"
        return Note(message, remedies.START_ANEW.get(container(host) or ""))
    return Note(f"the libraries are not of the version of {driver} that is loaded, as after an update", remedies.RELOAD)


def chosen(cards: Sequence[Card], choice: str | None) -> tuple[tuple[Card, Slice | None], ...]:
    """The cards and MIG slices that CUDA would show: numbers of cards, or the beginning of uuids, in the order given,
    up to the first that does not exist (CUDA C++ Programming Guide, "CUDA Environment Variables"). A slice has a uuid
    (MIG-...), or for drivers before 470 its place, MIG-<uuid of the card>/<GPU instance>/<compute instance>."""
    if choice is None:
        return tuple(part for card in cards for part in _parts(card))
    shown: list[tuple[Card, Slice | None]] = []
    for word in (part.strip() for part in choice.split(",")):
        matches: Sequence[tuple[tuple[Card, Slice | None], ...]]
        if word.isdecimal():
            matches = [_parts(card) for card in (cards[int(word) : int(word) + 1] if len(word) < 4 else [])]
        else:
            matches = [_parts(card) for card in cards if word and (card.uuid or "").startswith(word)]
            matches = matches or [
                ((card, part),) for card in cards for part in card.slices if word in (_place(card, part), part.uuid)
            ]
        if len(matches) != 1 or any(part in shown for part in matches[0]):
            break
        shown += matches[0]
    return tuple(shown)


def _parts(card: Card) -> tuple[tuple[Card, Slice | None], ...]:
    return tuple((card, part) for part in card.slices) if card.mig else ((card, None),)


def _place(card: Card, part: Slice) -> str | None:
    return f"MIG-{card.uuid}/{part.instance[0]}/{part.instance[1]}" if card.uuid and len(part.instance) == 2 else None


def _notes(host: Host, report: NvmlReport, choice: str | None) -> list[Note]:
    """What is wrong, or not sure, about cards that NVML lists."""
    notes = [Note(failure, remedies.where_nvidia_fails(host)) for failure in report.failures]
    for index, card in enumerate(report.cards):
        if card.mig and not card.slices:
            which = f"-i {shlex.quote(card.address or card.uuid or str(index))}"
            instead = f"what slices there can be: sudo nvidia-smi mig {which} -lgip"
            remedy = f"sudo nvidia-smi {which} -mig 0   (turns it off; {instead})"
            notes.append(Note(f"MIG is turned on for {card.name or 'a card'}, which has no slices", remedy))
    numbered = any(word.strip().isdecimal() for word in (choice or "").split(","))
    unlike = len({card.name for card in report.cards}) > 1
    if numbered and unlike and host.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        message = "which card CUDA_VISIBLE_DEVICES means is not sure: CUDA counts unlike cards from the fastest"
        windows = host.system == "win32"
        remedy = '$env:CUDA_DEVICE_ORDER = "PCI_BUS_ID"' if windows else "export CUDA_DEVICE_ORDER=PCI_BUS_ID"
        notes.append(Note(message, remedy))
    if report.no_cuda:
        message = "the driver's library libcuda.so.1, which every CUDA program needs, is not found"
        notes.append(Note(message, remedies.nvidia_libraries(host, report.driver)))
    return notes


def _accelerator(card: Card, part: Slice | None, report: NvmlReport, memory: Memory) -> Accelerator:
    own, index = part or card, report.cards.index(card)
    total, free = own.memory_total_bytes, own.memory_free_bytes
    if card.shared:
        total, free = memory.total_bytes or None, memory.available_bytes
    bandwidth, basis = bandwidth_of(card, part)
    number = card.slices.index(part) if part else 0
    place = card.address or f"nvidia{index}"
    return Accelerator(
        # never the card's address for a slice: the engine gives that of all of them, and would see each in any
        id=place if part is None else part.uuid or f"nvidia{index}-mig{number}",
        name=(own.name or f"{card.name or 'NVIDIA GPU'} MIG") if part else card.name or "NVIDIA GPU",
        vendor="NVIDIA",
        kind=AcceleratorKind.UNIFIED if card.shared else AcceleratorKind.DISCRETE,
        memory_total_bytes=total,
        memory_free_bytes=None if total is None else free,
        bandwidth_bytes_per_s=bandwidth,
        bandwidth_basis=basis,
        driver=report.driver,
        compute_capability=card.compute_capability,
        shared_bytes=total if card.shared else None,
        api_version=f"CUDA {report.cuda}" if report.cuda else None,
        uuid=own.uuid,
        # on GB10 NVML tells of a link that the GPU's memory does not depend on
        pcie=f"gen{card.pcie[0]} x{card.pcie[1]}" if len(card.pcie) == 2 and not card.shared else None,
        power_limit_w=card.power_limit_mw / 1000 if card.power_limit_mw and part is None else None,
        parent=place if part else None,
        pci_id=card.pci_id,
    )


def bandwidth_of(card: Card, part: Slice | None) -> tuple[float | None, str | None]:
    """Bytes/s, and how they are known. NVML's clock is such that two bits per pin and cycle move, whatever the memory
    (GDDR5 to 7, HBM2 to 3e): RTX 3090 9751 MHz x 2 x 384 bit = 936 GB/s."""
    if not card.memory_clock_mhz or not card.bus_width_bits or card.shared:
        return None, None
    whole = card.memory_clock_mhz * 1e6 * 2 * card.bus_width_bits / 8
    if part is None:
        return whole, BASIS
    if not part.memory_total_bytes or not card.memory_total_bytes:
        return None, None  # without privileges NVML may keep the whole card's memory to itself
    share = max(1, min(SLICES, round(SLICES * part.memory_total_bytes / card.memory_total_bytes)))
    return whole * share / SLICES, f"{share}/{SLICES} of {BASIS}"


def _unlisted(host: Host, report: NvmlReport | None) -> tuple[list[Accelerator], list[Note]]:
    """The cards that NVML did not list, so that the user sees them and why they can't be used."""
    if report is not None and _contained(host):
        return [], []  # the kernel shows a container the whole machine's cards
    listed = {card.address for card in report.cards if card.address} if report else set()
    listed |= {address.partition(":")[2] for address in listed}  # as the bus lists them, without the domain
    version = nvidia_kernel.version(host)
    others, notes = list[Accelerator](), list[Note]()
    for card in nvidia_kernel.cards(host):
        if card.address in listed or (report is not None and report.cards and card.driver == "nvidia"):
            continue  # left out while others work: one that we were not given
        name = pci_ids.name(host, card.pci_id)
        others.append(
            Accelerator(
                id=card.address,
                name=f"NVIDIA {name}" if name else f"NVIDIA GPU ({card.pci_id})" if card.pci_id else "NVIDIA GPU",
                vendor="NVIDIA",
                kind=AcceleratorKind.DISCRETE,
                memory_total_bytes=None,
                memory_free_bytes=None,
                driver=(version or card.driver) if card.driver == "nvidia" else card.driver,
                pci_id=card.pci_id,
            )
        )
        notes += _unlisted_notes(host, card, others[-1].name, report)
    return others, notes


def _unlisted_notes(host: Host, card: KernelCard, name: str, report: NvmlReport | None) -> list[Note]:
    """Why NVML does not list a card, if that was not said yet."""
    gpu = f"{name.removeprefix('NVIDIA ')} at {card.address}"
    if card.driver == "nvidia":
        return [Note(f"the driver does not run {gpu}", remedies.LOG)] if report is not None else []
    if card.driver in drm.VIRTUAL_MACHINE:
        return [Note(f"{gpu} is kept for a virtual machine ({card.driver})")]
    if card.driver is None and nvidia_kernel.installed(host):
        remedy = "sudo modprobe nvidia   (Secure Boot may refuse it: mokutil --sb-state)"
        return [Note(f"the driver is installed, but not loaded for {gpu}", remedy)]
    state = f"is run by {card.driver}, which has no CUDA" if card.driver else "has no driver"
    if _contained(host):  # the driver is the machine's, whose system may be another than the container's
        return [Note(f"{gpu} {state}", f"{remedies.DOWNLOAD}   (on the machine that this container runs on)")]
    return [Note(f"{gpu} {state}", f"{remedies.install_nvidia_driver(host)}   then: sudo reboot")]
