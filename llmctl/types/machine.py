"""What the machine is. Made by ``probe``, completed by ``engine`` with what only the engine can know."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field

from llmctl.types.kernels import Kernels


class AcceleratorKind(StrEnum):
    DISCRETE = "discrete"
    INTEGRATED = "integrated"
    UNIFIED = "unified"


class Cache(Struct, frozen=True):
    """``count`` caches of one level and size, instruction caches left out."""

    level: int
    size_bytes: int
    count: int = 1


class Cpu(Struct, frozen=True):
    """``features`` are the instruction sets that change llama.cpp's speed, in its own spelling (``AVX512_VNNI``).

    ``usable_threads`` = min(physical cores, affinity, ceil of the container's CPU quota), ``usable_threads_reason``
    which of them it was. ``performance_cores`` is how many of the physical cores are the fast ones, None where all
    are alike. ``quota`` is how many CPUs' worth of time a container may use, None where that isn't limited.
    """

    name: str
    arch: str
    physical_cores: int
    logical_cores: int
    usable_threads: int
    features: tuple[str, ...] = ()
    performance_cores: int | None = None
    usable_threads_reason: str | None = None
    caches: tuple[Cache, ...] = ()
    quota: float | None = None

    @property
    def last_cache_bytes(self) -> int | None:
        """The last level of cache, all of its parts together; None where it isn't known."""
        last = max((cache.level for cache in self.caches), default=None)
        return sum(cache.size_bytes * cache.count for cache in self.caches if cache.level == last) if last else None


class Memory(Struct, frozen=True):
    """``available_bytes`` is what can be had without swapping, reclaimable page cache included, limits respected."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None = None
    limit_source: str | None = None
    swap_bytes: int = 0
    bandwidth_bytes_per_s: float | None = None
    bandwidth_basis: str | None = None


class Power(Struct, frozen=True):
    """What the processor's speed depends on beside itself. ``saving`` names what keeps it slow ("the power profile
    low-power"), None where nothing does."""

    on_battery: bool = False
    saving: str | None = None


class Accelerator(Struct, frozen=True):
    """One GPU. ``usable`` says whether the installed engine can run on it; if not, ``why`` says why.

    ``id`` is its PCI address where it has one. ``shared_bytes`` is how much of ``memory_total_bytes`` lies in the
    machine's own memory and is counted there too: all of it on unified chips, what the driver may borrow (GTT) on
    others. ``architecture`` is what kernels are compiled for: gfx1100 with AMD; NVIDIA's is the compute capability.
    ``pcie`` is the link as it could be at best, "gen4 x16". ``api_version`` is the newest version of the vendor's
    interface that the driver takes (CUDA 12.4). A MIG slice names its ``parent``'s id.
    ``engine_device`` is ggml's name of it (``CUDA0``); ``kernels`` were measured on it, as ``Machine.kernels`` on the
    processor.
    ``pci_id`` is the vendor and device number, "1002:747e" in lower case, None where it is on no PCI bus.
    ``compute_flop_per_s`` is what it is specified with in f16, None where that isn't known.
    """

    id: str
    name: str
    vendor: str
    kind: AcceleratorKind
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    bandwidth_bytes_per_s: float | None = None
    bandwidth_basis: str | None = None
    driver: str | None = None
    compute_capability: str | None = None
    engine_backend: str | None = None
    usable: bool = False
    why: str | None = None
    shared_bytes: int | None = None
    architecture: str | None = None
    api_version: str | None = None
    uuid: str | None = None
    pcie: str | None = None
    power_limit_w: float | None = None
    parent: str | None = None
    pci_id: str | None = None
    compute_flop_per_s: float | None = None
    engine_device: str | None = None
    kernels: Kernels | None = None


class Disk(Struct, frozen=True):
    """``filesystem`` is the system's own word for its kind: ext4, apfs, nfs4. ``read_bytes_per_s`` is how fast a file
    is read that isn't in the system's cache, None until that was measured."""

    path: str
    free_bytes: int
    filesystem: str | None = None
    read_bytes_per_s: float | None = None


class Network(Struct, frozen=True):
    hub_reachable: bool | None = None
    download_bytes_per_s: float | None = None


class EngineDevice(Struct, frozen=True):
    """A device of ggml's own list. ``kind`` is ggml's word: cpu, gpu, igpu, accel; ``id`` its PCI address."""

    name: str
    description: str
    backend: str
    kind: str
    memory_total_bytes: int
    memory_free_bytes: int
    id: str | None = None


class EngineInfo(Struct, frozen=True):
    """What an installed llama.cpp build can do. ``why`` tells why it is not usable.

    ``features`` are the instruction sets and options its CPU kernels were built with.
    """

    name: str
    version: str | None
    build: str | None
    backends: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    devices: tuple[EngineDevice, ...] = ()
    usable: bool = False
    why: str | None = None


class Note(Struct, frozen=True):
    """What the probe could not learn, or found odd. ``remedy`` is what to type, None where nothing is to be done."""

    message: str
    remedy: str | None = None


class Machine(Struct, frozen=True):
    """The whole machine. ``kernels`` is None until they were measured here; ``notes`` say what was not learnt.

    ``board`` names what is not a plain computer (Raspberry Pi 5, Jetson); ``virtual_machine`` the hypervisor below.
    ``power`` is None where nothing slows the processor down, or nothing tells.
    """

    memory: Memory
    cpu: Cpu
    accelerators: tuple[Accelerator, ...] = ()
    disk: Disk | None = None
    network: Network = field(default_factory=Network)
    os: str = ""
    container: str | None = None
    board: str | None = None
    virtual_machine: str | None = None
    kernels: Kernels | None = None
    notes: tuple[Note, ...] = ()
    power: Power | None = None
