"""What the machine is. Made by ``probe``, completed by ``engine`` with what only the engine can know."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class AcceleratorKind(StrEnum):
    DISCRETE = "discrete"
    INTEGRATED = "integrated"
    UNIFIED = "unified"


@dataclass(frozen=True, slots=True)
class Cache:
    """``count`` caches of one level and size, instruction caches left out."""

    level: int
    size_bytes: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Cpu:
    """``features`` are the instruction sets that change llama.cpp's speed, in its own spelling (``AVX512_VNNI``).

    ``usable_threads`` = min(physical cores, affinity, ceil of the container's CPU quota), ``usable_threads_reason``
    which of them it was. ``performance_cores`` is how many of the physical cores are the fast ones, None where all
    are alike.
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

    @property
    def last_cache_bytes(self) -> int | None:
        """The last level of cache, all of its parts together; None where it isn't known."""
        last = max((cache.level for cache in self.caches), default=None)
        return sum(one.size_bytes * one.count for one in self.caches if one.level == last) if last else None


@dataclass(frozen=True, slots=True)
class Memory:
    """``available_bytes`` is what can be had without swapping, reclaimable page cache included, limits respected."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None = None
    limit_source: str | None = None
    swap_bytes: int = 0
    bandwidth_bytes_per_s: float | None = None
    bandwidth_basis: str | None = None


@dataclass(frozen=True, slots=True)
class MatrixRate:
    """How fast one weight type goes through the engine's matrix kernels here, with so many ``threads`` (0: on a GPU).

    ``decode_bytes_per_s``: weight bytes streamed by matrix x vector; ``prefill_flop_per_s``: operations of
    matrix x matrix. ``weight_type`` is ggml's name (``Q4_K``). ``repacked``: in the layout that the engine, if it is
    let, gives such weights when it loads them, which takes a second, anonymous copy.

    ``uncertain`` (of the other rates, too) names the figures that no undisturbed pass stands for: as measured they are
    lower bounds, as ``planner.kernel_rows`` completes them they are estimates.
    """

    weight_type: str
    repacked: bool
    threads: int
    decode_bytes_per_s: float
    prefill_flop_per_s: float
    uncertain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttentionRate:
    """Attention with a cache of ``kv_type``. In decoding, bytes of cache per second with one head of queries to each of
    keys and values (``alone``) and with four (``shared``); in prefill, operations per second."""

    kv_type: str
    flash: bool
    threads: int
    alone_bytes_per_s: float
    shared_bytes_per_s: float
    prefill_flop_per_s: float
    uncertain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeRate:
    """What lies between the products: operations of a graph per second that have next to nothing to compute, begun by
    all threads, which then wait for each other; and elements of a batch per second that one operation goes over."""

    threads: int
    nodes_per_s: float
    elements_per_s: float
    uncertain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kernels:
    """What the engine's kernels were measured to do here. ``experts`` are matrix products of which each token uses a
    few out of many. Any row may be missing: other programs may have disturbed each of its passes."""

    matrices: tuple[MatrixRate, ...]
    experts: tuple[MatrixRate, ...] = ()
    attention: tuple[AttentionRate, ...] = ()
    overheads: tuple[NodeRate, ...] = ()


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One GPU. ``usable`` says whether the installed engine can run on it; if not, ``why`` says why.

    ``id`` is its PCI address where it has one. ``shared_bytes`` is how much of ``memory_total_bytes`` lies in the
    machine's own memory and is counted there too: all of it on unified chips, what the driver may borrow (GTT) on
    others. ``architecture`` is what kernels are compiled for: gfx1100 with AMD; NVIDIA's is the compute capability.
    ``pcie`` is the link as it could be at best, "gen4 x16". ``api_version`` is the newest version of the vendor's
    interface that the driver takes (CUDA 12.4). A MIG slice names its ``parent``'s id.
    ``engine_device`` is ggml's name of it (``CUDA0``), and ``kernels`` what the engine's were measured to do on it.
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


@dataclass(frozen=True, slots=True)
class Disk:
    """``filesystem`` is the system's own word for its kind: ext4, apfs, nfs4."""

    path: str
    free_bytes: int
    filesystem: str | None = None


@dataclass(frozen=True, slots=True)
class Network:
    hub_reachable: bool | None = None
    download_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class EngineDevice:
    """A device of ggml's own list. ``kind`` is ggml's word: cpu, gpu, igpu, accel; ``id`` its PCI address."""

    name: str
    description: str
    backend: str
    kind: str
    memory_total_bytes: int
    memory_free_bytes: int
    id: str | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
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


@dataclass(frozen=True, slots=True)
class Note:
    """What the probe could not learn, or found odd. ``remedy`` is what to type, None where nothing is to be done."""

    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """The whole machine. ``kernels`` is None until they were measured here; ``notes`` say what was not learnt.

    ``board`` names what is not a plain computer (Raspberry Pi 5, Jetson); ``virtual_machine`` the hypervisor below.
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
