"""What the machine is. Made by ``probe``, completed by ``engine`` with what only the engine can know."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class AcceleratorKind(StrEnum):
    DISCRETE = "discrete"
    INTEGRATED = "integrated"
    UNIFIED = "unified"


@dataclass(frozen=True, slots=True)
class Cpu:
    """``features`` are the instruction sets that change llama.cpp's speed, in its own spelling (``AVX512_VNNI``).

    ``usable_threads`` = min(physical cores, affinity, ceil of the container's CPU quota).
    """

    name: str
    arch: str
    physical_cores: int
    logical_cores: int
    usable_threads: int
    features: tuple[str, ...] = ()


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
class Accelerator:
    """One GPU. ``usable`` says whether the installed engine can run on it; if not, ``why`` says why."""

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


@dataclass(frozen=True, slots=True)
class Disk:
    path: str
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Network:
    hub_reachable: bool | None = None
    download_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class KernelRate:
    """How fast one weight type goes through the engine's matrix kernels here, with all usable threads.

    ``decode_bytes_per_s``: weight bytes streamed by matrix x vector; ``prefill_flop_per_s``: operations of
    matrix x matrix. ``weight_type`` is ggml's name (``Q4_K``). ``repacked``: on this machine the engine lays such
    weights out anew when it loads them, which takes a second, anonymous copy; the rates are then of that layout.
    """

    weight_type: str
    decode_bytes_per_s: float
    prefill_flop_per_s: float
    repacked: bool = False


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
class Machine:
    """The whole machine. ``kernels`` is empty until they were measured here; ``notes`` say what was not learnt."""

    memory: Memory
    cpu: Cpu
    accelerators: tuple[Accelerator, ...] = ()
    disk: Disk | None = None
    network: Network = field(default_factory=Network)
    os: str = ""
    container: str | None = None
    kernels: tuple[KernelRate, ...] = ()
    notes: tuple[str, ...] = ()
