"""Lays a model out on the devices of a machine, and works out whether each has room for its part."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from msgspec import Struct
from msgspec.structs import replace

from llmctl.gguf.layers import SHARED_TABLE
from llmctl.planner.compute import (
    NOTHING_COPIED,
    compute_bytes,
    embedding_bytes,
    given_bytes,
    grown_output_bytes,
    input_bytes,
    touched_bytes,
)
from llmctl.planner.copied import copied_weights
from llmctl.planner.devices import borrowed_bytes, devices
from llmctl.planner.flash_kernels import has_kernel
from llmctl.planner.memory import (
    Stack,
    kv_bytes,
    margin_bytes,
    repacked_types,
    stack,
    state_bytes,
    vocabulary_bytes,
)
from llmctl.planner.memory_rows import as_engine_says, device_memory
from llmctl.planner.parts import DeviceShare, parts
from llmctl.types.machine import Accelerator, Machine
from llmctl.types.model import Shape, Weights
from llmctl.types.plan import CPU, Allocation, Configuration, DeviceMemory, MemoryBasis, MemoryPlan

COPIES = 4  # of its inputs, where devices work on several micro-batches at once: GGML_SCHED_MAX_COPIES


class Placement(Struct, frozen=True):
    """Where the parts of a model go with its settings, and what memory they take.

    ``parts`` are the CPU's, first, and each device's; ``accelerator`` is the device that has most of the weights.
    ``shortages`` has the bytes that are missing on each device that has no room, margin included: none if it fits.
    """

    memory: MemoryPlan
    configuration: Configuration
    accelerator: Accelerator | None
    shortages: Mapping[str, int]
    parts: tuple[DeviceShare, ...]

    @property
    def gpu_layers(self) -> int:
        return self.configuration.gpu_layers

    @property
    def short_bytes(self) -> int:
        return max(self.shortages.values(), default=0)


class Placer:
    """A model with the devices it may use, cut anew for each configuration that is tried.

    ``beside_bytes`` are a vision projector's: it is loaded into the memory of the device with the model's head.
    ``spare_bytes`` of the machine's memory are to stay free for other programs, or the margin if that is more.
    ``flashes``: whether every device has a flash attention kernel for this model.
    """

    def __init__(
        self, machine: Machine, shape: Shape, weights: Weights, beside_bytes: int = 0, spare_bytes: int = 0
    ) -> None:
        self.machine, self.shape, self.weights, self.beside_bytes = machine, shape, weights, beside_bytes
        self.spare_bytes = spare_bytes
        self.devices = devices(machine)
        self.repacked_types = repacked_types(machine)
        self.flashes = all(has_kernel(device, shape) for device in self.devices)
        self._stacks: dict[tuple[int, str, int, bool], Stack] = {}

    @property
    def room_bytes(self) -> int:
        """All memory that is free, of devices that share the machine's own counted twice."""
        return self.machine.memory.available_bytes + sum(device.memory_free_bytes or 0 for device in self.devices)

    @property
    def height(self) -> int:
        """All that llama.cpp counts on devices: the layers, those for drafting too, and the output head."""
        return self.shape.n_layer + self.shape.n_draft + 1

    @property
    def expert_layers(self) -> int:
        """Layers whose experts may stay on the CPU: those for drafting too, where their experts are loaded."""
        return self.shape.n_layer + (self.shape.n_draft if self.weights.draft_layer_bytes else 0)

    def stack(self, configuration: Configuration) -> Stack:
        key = (configuration.context, configuration.kv_type, configuration.ubatch, configuration.flash_attention)
        if key not in self._stacks:
            self._stacks[key] = stack(self.shape, self.weights, configuration)
        return self._stacks[key]

    def spread(self, configuration: Configuration) -> Configuration | None:
        """The configuration with its layers laid out on the devices, each within its own free memory less the margin;
        None where that can't be.

        What one device has room for goes to the roomiest alone. Otherwise the devices share by free memory, as
        llama.cpp would; where that doesn't fit them, each in turn takes as much as it can.
        """
        layers = configuration.gpu_layers
        if not self.devices:
            return None
        if layers == self.height or len(self.devices) == 1:
            for at in sorted(range(len(self.devices)), key=lambda index: -(self.devices[index].memory_free_bytes or 0)):
                counts = tuple(layers if index == at else 0 for index in range(len(self.devices)))
                if self._fits(configuration, counts):
                    return self._laid_out(configuration, counts)
        if len(self.devices) == 1:
            return None
        counts = self.shares(layers)
        if self._fits(configuration, counts):
            return self._laid_out(configuration, counts)
        filled = self._filled(configuration)
        return None if filled is None else self._laid_out(configuration, filled)

    def shares(self, layers: int) -> tuple[int, ...]:
        """Layers for each device, divided by free memory as in llama.cpp (get_layer_buft_list, src/llama-model.cpp)."""
        free = [device.memory_free_bytes or 0 for device in self.devices]
        ends = [-(-layers * end // sum(free)) for end in accumulate(free)]
        return tuple(end - begin for begin, end in pairwise([0, *ends]))

    def most_layers(self, configuration: Configuration) -> int:
        """The largest number of layers, the head counted, that the devices have room for."""

        def too_many(layers: int) -> bool:
            return self.spread(replace(configuration, gpu_layers=layers)) is None

        low, high = 0, self.height  # the most that fits lies between
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (low, middle - 1) if too_many(middle) else (middle, high)
        return low

    def place(self, configuration: Configuration, allocation: Allocation | None = None) -> Placement:
        """The placement of a configuration, with bytes on every device, whether there is room or not.

        ``allocation`` is what the engine itself said of it, if it was asked. Layers that were not laid out are divided
        as llama.cpp would.
        """
        if not self.devices or configuration.gpu_layers == 0:
            if configuration.gpu_layers or configuration.layers_per_device or configuration.cpu_expert_layers:
                configuration = replace(configuration, gpu_layers=0, layers_per_device=(), cpu_expert_layers=0)
            return self._on_cpu(configuration, allocation)
        counts = configuration.layers_per_device or self.shares(configuration.gpu_layers)
        configuration = self._laid_out(configuration, counts)
        cuts = zip(self.devices, self._cuts(configuration, counts), strict=True)
        used = [(device, begin, end) for device, (begin, end) in cuts if end > begin]
        rows = [self._device_row(device, configuration, begin, end, counts) for device, begin, end in used]
        return self._placement(configuration, [self._host_row(configuration), *rows], allocation)

    def _laid_out(self, configuration: Configuration, counts: tuple[int, ...]) -> Configuration:
        return replace(configuration, layers_per_device=counts if len(self.devices) > 1 else ())

    def _cuts(self, configuration: Configuration, counts: Sequence[int]) -> Sequence[tuple[int, int]]:
        first = self.height - configuration.gpu_layers
        return list(pairwise([first, *(first + count for count in accumulate(counts))]))

    def _fits(self, configuration: Configuration, counts: tuple[int, ...]) -> bool:
        return all(
            begin == end or self._needs(configuration, begin, end, counts) <= _room(device.memory_free_bytes or 0)
            for device, (begin, end) in zip(self.devices, self._cuts(configuration, counts), strict=True)
        )

    def _filled(self, configuration: Configuration) -> tuple[int, ...] | None:
        """Each device in turn takes as many layers as it has room for; None if some are left over."""
        several = (1, *(0 for _ in self.devices[2:]), 1)
        begin, counts = self.height - configuration.gpu_layers, []
        for device in self.devices:
            room = _room(device.memory_free_bytes or 0)
            ends = range(begin + 1, self.height + 1)
            counts.append(bisect_right(ends, room, key=lambda end: self._needs(configuration, begin, end, several)))
            begin += counts[-1]
        return tuple(counts) if begin == self.height else None

    def _needs(self, configuration: Configuration, begin: int, end: int, counts: tuple[int, ...]) -> int:
        weights, kv, state = self._cut(configuration, begin, end)
        return weights + kv + state + self._device_compute(configuration, begin, end, counts)

    def _cut(self, configuration: Configuration, begin: int, end: int) -> tuple[int, int, int]:
        """Weights, cache and state of the layers from ``begin`` on, experts that stay on the CPU left out."""
        model, stay = self.stack(configuration), configuration.cpu_expert_layers
        experts = model.experts[min(end, stay)] - model.experts[begin] if begin < stay else 0
        beside = self.beside_bytes if end == self.height else 0
        return (
            model.weights[end] - model.weights[begin] - experts + beside,
            model.kv[end] - model.kv[begin],
            model.state[end] - model.state[begin],
        )

    def _device_compute(self, configuration: Configuration, begin: int, end: int, counts: tuple[int, ...]) -> int:
        """The buffer of a device with the layers from ``begin`` to before ``end``. The first one computes with what is
        copied to it."""
        first = begin == self.height - configuration.gpu_layers
        copied = NOTHING_COPIED
        if first:
            copied = copied_weights(self.shape, self.weights, self.stack(configuration), configuration)
        shared = self.shape.architecture in SHARED_TABLE
        head = first if shared else end == self.height
        size = compute_bytes(self.shape, configuration, head=head, copied=copied)
        table = self.weights.embedding_bytes if shared and first else 0  # copied too
        if not self._in_turns(configuration, counts):
            return size + table
        return size + COPIES * table + self._turns_bytes(configuration, first=first)

    def _turns_bytes(self, configuration: Configuration, *, first: bool) -> int:
        """Where several devices hold all of a model, they work on different micro-batches at once, and each keeps
        COPIES of what it is given (ggml_backend_sched); what comes from the device before, twice. Looped layers go from
        one device to another and back in each pass."""
        embeddings = embedding_bytes(self.shape, configuration)
        masks = (COPIES - 1) * given_bytes(self.shape, configuration)
        again = 3 * self.shape.n_layer // 2 if self.shape.passes > 1 else 0
        return masks + (again + (COPIES - 1 if first else 2 * COPIES)) * embeddings

    def _in_turns(self, configuration: Configuration, counts: Sequence[int]) -> bool:
        """Whether several devices hold all of a model. Source: pipeline_parallel in src/llama-context.cpp."""
        whole = configuration.gpu_layers == self.height and not configuration.cpu_expert_layers
        return whole and sum(count > 0 for count in counts) > 1

    def _device_row(
        self, device: Accelerator, configuration: Configuration, begin: int, end: int, counts: tuple[int, ...]
    ) -> DeviceMemory:
        weights, kv, state = self._cut(configuration, begin, end)
        compute = self._device_compute(configuration, begin, end, counts)
        return device_memory(device.id, weights, 0, kv, state, compute, device.memory_free_bytes or 0)

    def _host_row(self, configuration: Configuration) -> DeviceMemory:
        """The CPU's row when devices hold the last ``gpu_layers``, with the head. Prompts are computed on the devices,
        so the CPU's buffer holds only the graph's inputs and output."""
        shape, weights, first = self.shape, self.weights, self.height - configuration.gpu_layers
        model = self.stack(configuration)
        on_devices, kv, state = self._cut(configuration, first, self.height)
        streamed = model.weights[-1]
        on_cpu = streamed + self.beside_bytes - on_devices
        repacked = self._repacked(configuration, on_cpu, streamed)
        inputs = input_bytes(shape, configuration)
        if self._in_turns(configuration, configuration.layers_per_device):
            inputs *= COPIES - 1
        compute = inputs + grown_output_bytes(shape, configuration)
        return device_memory(
            CPU,
            weights.embedding_bytes + weights.tied_bytes + on_cpu - repacked,
            repacked,
            model.kv[-1] - kv,
            model.state[-1] - state,
            compute,
            self.machine.memory.available_bytes,
        )

    def _on_cpu(self, configuration: Configuration, allocation: Allocation | None) -> Placement:
        shape, total = self.shape, self.weights.total_bytes
        repacked = self._repacked(configuration, 1, 1)
        row = device_memory(
            CPU,
            total + self.beside_bytes - repacked,
            repacked,
            kv_bytes(shape, configuration),
            state_bytes(shape, configuration),
            compute_bytes(shape, configuration) + grown_output_bytes(shape, configuration),
            self.machine.memory.available_bytes,
        )
        return self._placement(configuration, [row], allocation)

    def _repacked(self, configuration: Configuration, on_cpu: int, streamed: int) -> int:
        """Bytes of the second copy of weights on the CPU, where ``on_cpu`` of ``streamed`` bytes are computed; weight
        types are taken to be spread evenly."""
        if not configuration.repack or not streamed:
            return 0
        plain = self.weights.unpackable_bytes
        repackable = {name: size - plain.get(name, 0) for name, size in self.weights.type_bytes.items()}
        return sum(size for name, size in repackable.items() if name in self.repacked_types) * on_cpu // streamed

    def _placement(
        self, configuration: Configuration, rows: Sequence[DeviceMemory], allocation: Allocation | None
    ) -> Placement:
        if allocation is not None and self.shape.pools:  # the engine tells what it has before its first text
            allocation = replace(allocation, output_bytes=grown_output_bytes(self.shape, configuration))
        asked = None if allocation is None else as_engine_says(rows, allocation)
        # The last row is that of the device with the output head.
        untouched = max(0, rows[-1].compute_bytes - touched_bytes(self.shape, configuration))
        memory = self._memory(rows, untouched)
        if asked is not None:
            formulas, rows = memory.must_fit_bytes, asked
            memory = replace(self._memory(rows, untouched), basis=MemoryBasis.ENGINE, analytic_must_fit_bytes=formulas)
        needs = {row.device: row.total_bytes for row in rows}
        by_id = {device.id: device for device in self.devices}
        for row in rows[1:]:
            needs[CPU] += borrowed_bytes(by_id[row.device], row.total_bytes)  # the same memory, counted once, in full
        kept = {row.device: margin_bytes(row.available_bytes) for row in rows}
        kept[CPU] = max(kept[CPU], self.spare_bytes)
        short = {row.device: needs[row.device] + kept[row.device] - row.available_bytes for row in rows}
        most = max(rows[1:], key=lambda row: row.weights_bytes, default=None)
        return Placement(
            memory,
            configuration,
            None if most is None else by_id[most.device],
            {name: size for name, size in short.items() if size > 0},
            self._parts(configuration),
        )

    def _memory(self, rows: Sequence[DeviceMemory], untouched: int) -> MemoryPlan:
        host, others = rows[0], rows[1:]
        beside = 0 if others else self.beside_bytes  # a copy of its own, not mapped
        must_fit = host.total_bytes - host.weights_bytes + beside + sum(row.total_bytes for row in others)
        mapped = host.weights_bytes + host.repacked_bytes - beside
        touched = must_fit - untouched + vocabulary_bytes(self.shape)
        return MemoryPlan(tuple(rows), max(must_fit, touched), mapped, touched)

    def _parts(self, configuration: Configuration) -> tuple[DeviceShare, ...]:
        if configuration.gpu_layers == 0:
            return (DeviceShare(None, 1.0, 1.0, 1.0),)
        counts = configuration.layers_per_device or (configuration.gpu_layers,)
        cuts = zip(self.devices, self._cuts(configuration, counts), strict=True)
        return parts(self.shape, self.stack(configuration), configuration, [(device, *cut) for device, cut in cuts])


def _room(available_bytes: int) -> int:
    return available_bytes - margin_bytes(available_bytes)
