"""This machine, completed: what the probe learnt of it, what the engine sees, and what its kernels were measured to do.

The only place where a ``Machine`` gets what ``probe`` can't know. A described machine has it from its document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from llmctl import catalogue, paths
from llmctl.engine.devices import engines, pairing, startable
from llmctl.engine.devices.pairing import BACKENDS, CPU_BACKENDS
from llmctl.engine.measure import kernels
from llmctl.host import Host
from llmctl.planner import kernel_rows
from llmctl.probe import probe
from llmctl.probe.stopwatch import Stopwatch
from llmctl.types.kernels import Kernels
from llmctl.types.machine import Accelerator, AcceleratorKind, EngineDevice, EngineInfo, Machine, Memory

NOT_MEASURED: Mapping[str, Kernels] = {}
MEASURED = "measured (engine kernels)"
ESTIMATED = "estimated (engine kernels, measured on a busy machine)"
# The quantized weight type with the least to unpack and no second layout: its rate is the memory's bandwidth as
# llama.cpp can use it. Within 11 % of the engine's effective rate on five models of 1 to 3.8 GB in Q4_0, Q4_K and Q8_0
# on two cores of an AMD EPYC (tests/bench/bandwidth_against_engine.py); the fastest type: up to 39 % too high.
PLAINEST = "Q8_0"
DECODING = "decode_bytes_per_s"
SPELT = {"MTL": "Metal"}  # as people call it, where a backend's own name is another


def this_machine(host: Host, *, store: Path, watch: Stopwatch | None = None) -> tuple[Machine, tuple[EngineInfo, ...]]:
    """The machine with the rates that were measured earlier, and its engines. Nothing is measured. Raises nothing."""
    machine, answered = seen(host, store=store, watch=watch or Stopwatch())
    engine = startable(answered)
    if engine is None:
        return with_kernels(machine, None), answered
    return with_kernels(machine, kernels.cached(host, machine, engine), of_cards(host, machine, engine)), answered


def seen(host: Host, *, store: Path, watch: Stopwatch) -> tuple[Machine, tuple[EngineInfo, ...]]:
    """The machine as the probe and the engine see it, without the kernels' rates; and its engines. Raises nothing."""
    machine = probe(host, store=store, watch=watch)
    with watch.part("engine"):
        answered = engines(host)
    return with_devices(machine, answered), answered


def of_cards(host: Host, machine: Machine, engine: EngineInfo) -> dict[str, Kernels]:
    """What was measured earlier of the machine's GPUs, by their ids."""
    cards = [card for card in machine.accelerators if card.engine_device]
    return {card.id: rates for card in cards if (rates := kernels.cached_device(host, card, engine)) is not None}


def with_kernels(machine: Machine, measured: Kernels | None, cards: Mapping[str, Kernels] = NOT_MEASURED) -> Machine:
    """``machine`` with what the engine's kernels were measured to do on its processor and, by their ids, its GPUs.

    Memory bandwidth is the rate of PLAINEST with all usable threads, also that of GPUs without memory of their own.
    """
    memory = machine.memory if measured is None else _with_rate(replace(machine, kernels=measured))
    accelerators = (replace(_with_bandwidth(card, memory), kernels=cards.get(card.id)) for card in machine.accelerators)
    return replace(machine, accelerators=tuple(accelerators), memory=memory, kernels=measured)


def with_devices(machine: Machine, engines: Sequence[EngineInfo]) -> Machine:
    """``machine`` with the engine's view of its GPUs merged in. Pure.

    A card that both know is one card (``pairing``); a GPU that only the engine sees is added; one that the engine
    can't use gets ``usable`` False and ``why``. Where several backends see a card, its backend is the first in ggml's
    list, as in llama.cpp (llama_prepare_model_devices() in src/llama.cpp): CUDA or ROCm, Metal, SYCL, then Vulkan.
    """
    cards, listed = _paired(machine.accelerators, engines)
    used_parents = {cards[index].parent for index in listed} - {None}
    accelerators = []
    for index, card in enumerate(cards):
        if index in listed:
            card = _usable(card, listed[index])
        else:
            why = _other_slice(card) if card.parent in used_parents else _why(card, engines)
            card = replace(card, engine_backend=None, usable=False, why=why)
        accelerators.append(card)
    return replace(machine, accelerators=tuple(accelerators))


def _paired(
    accelerators: Sequence[Accelerator], engines: Sequence[EngineInfo]
) -> tuple[list[Accelerator], dict[int, EngineDevice]]:
    """The cards, those that only the engine sees behind the others; and by the number of a card the device of the
    first backend that sees it."""
    cards, listed = list(accelerators), dict[int, EngineDevice]()
    engine = startable(engines)
    gpus = [device for device in engine.devices if pairing.is_gpu(device)] if engine is not None else []
    for backend in dict.fromkeys(device.backend for device in gpus):
        devices = [device for device in gpus if device.backend == backend]
        pairs = pairing.pairs(cards, devices)
        for index, device in enumerate(devices):
            if index not in pairs:
                if any(pairing.same_address(card, device) for card in cards):
                    continue  # one more of a card that is paired: llama.cpp can split a GPU to try itself out
                pairs[index] = len(cards)
                cards.append(_only_engine_knows(device, cards))
            listed.setdefault(pairs[index], device)
    return cards, listed


def _with_rate(machine: Machine) -> Memory:
    """The memory with its bandwidth as the engine's kernels use it: as measured with all usable threads, or estimated
    from what other programs left undisturbed. Where that is nothing, it stays as it was."""
    certain = kernel_rows.measured(machine.kernels or Kernels(())).certain
    decoding = {
        figure: rate for figure, rate in certain.items() if figure.group == "matrices" and figure.rate == DECODING
    }
    if not decoding:
        return machine.memory
    plainest = (PLAINEST, machine.cpu.usable_threads)
    usable = [rate for figure, rate in decoding.items() if (figure.kind[0], figure.threads) == plainest]
    if usable:
        return replace(machine.memory, bandwidth_bytes_per_s=max(usable), bandwidth_basis=MEASURED)
    constants = catalogue.load_knowledge(paths.profiles_dir()).speed
    rows = kernel_rows.completed(machine, constants).matrices
    rate = max(row.decode_bytes_per_s for row in rows if row.weight_type == PLAINEST)
    return replace(machine.memory, bandwidth_bytes_per_s=rate, bandwidth_basis=ESTIMATED)


def _with_bandwidth(card: Accelerator, memory: Memory) -> Accelerator:
    """A GPU without memory of its own has the machine's bandwidth."""
    if card.kind is AcceleratorKind.DISCRETE or card.bandwidth_bytes_per_s or not memory.bandwidth_bytes_per_s:
        return card
    return replace(card, bandwidth_bytes_per_s=memory.bandwidth_bytes_per_s, bandwidth_basis=memory.bandwidth_basis)


def _usable(card: Accelerator, device: EngineDevice) -> Accelerator:
    """The card with what the engine knows of it as ``device``."""
    backend = SPELT.get(device.backend, device.backend)
    whole = _completed(card, device)
    return replace(whole, engine_backend=backend, engine_device=device.name, usable=True, why=None)


def _other_slice(card: Accelerator) -> str:
    return f"CUDA uses another slice of its card: CUDA_VISIBLE_DEVICES={card.uuid or card.id} chooses this one"


def _completed(card: Accelerator, device: EngineDevice) -> Accelerator:
    """``card`` with what the probe did not learn of it. An engine that calls it integrated is right, one that does not
    may be wrong: ROCm's driver doesn't always report it.

    The probe's free memory stands: it is the whole card's. An engine's is what is left beside the context that it made
    to ask, and Vulkan's a guess of the driver, or all there is (no VK_EXT_memory_budget).
    """
    kind = card.kind
    if device.kind == "igpu" and kind is AcceleratorKind.DISCRETE:
        kind = pairing.kind(card.vendor, device)
    listed_total = device.memory_total_bytes or None  # 0 where the driver doesn't report it
    total = card.memory_total_bytes or listed_total
    if listed_total is not None and card.vendor == "Apple" and kind is AcceleratorKind.UNIFIED:
        total = listed_total  # Metal's recommended working set itself, which the probe can only work out
    free = card.memory_free_bytes
    if free is None and listed_total is not None:
        free = min(device.memory_free_bytes, total or 0)
    if free is not None and total is not None:
        free = min(free, total)
    shared = card.shared_bytes
    if kind is AcceleratorKind.UNIFIED or (
        shared is None and kind is not AcceleratorKind.DISCRETE and card.memory_total_bytes is None
    ):
        shared = total
    return replace(card, kind=kind, memory_total_bytes=total, memory_free_bytes=free, shared_bytes=shared)


def _why(card: Accelerator, engines: Iterable[EngineInfo]) -> str:
    """Why the engine can't use a card that it does not list."""
    engine = startable(engines)
    if engine is None:
        return next((engine.why for engine in engines if engine.why), "no engine is installed")
    backends = [backend for backend in engine.backends if backend not in CPU_BACKENDS]
    if not backends:
        return "the engine is built for the CPU only"
    fitting = [backend for backend in backends if backend in BACKENDS.get(card.vendor, ())]
    if fitting:
        return f"the engine's {fitting[0]} backend does not see it"
    return f"the engine is built for {', '.join(backends)}, which can't drive {card.vendor} cards"


def _only_engine_knows(device: EngineDevice, cards: Sequence[Accelerator]) -> Accelerator:
    address, taken = pairing.address(device.id), {card.id for card in cards}
    id = "{:04x}:{:02x}:{:02x}.{:x}".format(*address) if address else device.name
    others = (f"{id}-{number}" for number in range(2, len(taken) + 3))
    vendor = pairing.vendor(device)
    blank = Accelerator(
        id=next(candidate for candidate in (id, *others) if candidate not in taken),
        name=device.description or device.name,
        vendor=vendor,
        kind=pairing.kind(vendor, device),
        memory_total_bytes=None,
        memory_free_bytes=None,
    )
    return _completed(blank, device)
