"""Graphs of ggml's operations over shared buffers, and how long they take. Only to be used in a child process.

Buffers hold constant bytes, of which no kernel's time depends: 0x11 is a small finite number in every weight type,
scales included, and 0x3F is 0.7 as a float of 32 bits.

A pass during which one of the threads lost its core, waited for one, or shared it with another virtual machine, is
disturbed: all the others wait for that thread at the next barrier, and on two cores with one of them busy the same
product takes ten to forty times as long. Its time is an upper bound: the machine is at least that fast.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmctl.engine.measure.ggml import Ggml, InitParams
from llmctl.engine.measure.preemption import involuntary_switches, stolen_ticks

CONTEXT_BYTES = 1 << 19  # descriptions of tensors and a graph only, no data
SCRATCH_BYTES = 48 << 20  # holds what an operation reads beside weights and what it writes
WEIGHT_BYTE = 0x11
ACTIVATION_BYTE = 0x3F
HARMLESS_PREEMPTIONS_PER_S = 40.0  # as many as a quiet machine shows; a neighbour makes it several hundred
HARMLESS_WAITING = 0.05  # of a pass, for cores: all threads together


@dataclass
class Trial:
    """Graphs that are computed in turn with so many threads, one a pass. Each does ``amount`` (bytes streamed,
    operations); ``best_s`` is the fastest undisturbed pass so far, ``disturbed_s`` the fastest disturbed one.

    Passes are short, since only short ones find a quiet moment on a busy machine; that together the graphs read more
    than the cache holds keeps each from finding there what it read the last time. ``shorter`` is nearly the same in
    less time: what it took counts where the trial itself has had no undisturbed pass. ``in_a_row`` is how many passes
    are made at once, where a model's own operations find in the cache what the ones before have left.
    """

    graphs: Sequence[Any]
    amount: float
    threads: int
    best_s: float = math.inf
    disturbed_s: float = math.inf
    passes: int = 0
    shorter: Trial | None = None
    in_a_row: int = 1

    @property
    def certain(self) -> bool:
        """Whether there was an undisturbed pass."""
        return math.isfinite(self.best_s) or (self.shorter is not None and self.shorter.certain)

    @property
    def rate(self) -> float:
        """``amount`` per second; a lower bound where it is not ``certain``, 0 where there was no pass."""
        if math.isfinite(self.best_s):
            return self.amount / self.best_s
        if self.shorter is not None and self.shorter.certain:
            return self.shorter.rate
        return max(self.amount / self.disturbed_s, self.shorter.rate if self.shorter is not None else 0.0)

    def next(self) -> Any:
        self.passes += 1
        return self.graphs[self.passes % len(self.graphs)]


class Buffer:
    """A buffer that tensors are put into, one after the other; when it is full, again from its start. Tensors may
    overlap: only the time of computing counts, not the result."""

    def __init__(self, ggml: Ggml, layout: Any, size_bytes: int, fill: int = WEIGHT_BYTE) -> None:
        self.ggml, self.layout, self.size_bytes = ggml, layout, size_bytes
        self.buffer = ggml.backend_buft_alloc_buffer(layout, size_bytes)
        if not self.buffer:
            raise MemoryError(f"{size_bytes:,} bytes can't be had")
        ggml.backend_buffer_clear(self.buffer, fill)
        self._base = ggml.backend_buffer_get_base(self.buffer)
        self._align: int = ggml.backend_buft_get_alignment(layout)
        self._used = 0

    def size_of(self, tensor: Any) -> int:
        size: int = self.ggml.backend_buft_get_alloc_size(self.layout, tensor)
        return -(-size // self._align) * self._align

    def put(self, tensor: Any) -> Any:
        size = self.size_of(tensor)
        if self._used + size > self.size_bytes:
            self._used = 0
        self.ggml.backend_tensor_alloc(self.buffer, tensor, self._base + self._used)
        self._used += size
        return tensor


class Workbench:
    """``working_set_bytes`` of weights or cache in each layout that is used, filled once and read as every type.

    On the processor, or on the ``device`` that ggml lists by that name, where threads don't count. Raises LookupError
    if it lists none.
    """

    def __init__(self, working_set_bytes: int, device: str | None = None) -> None:
        self.ggml = Ggml()
        self.working_set_bytes = working_set_bytes
        self._weights: dict[Any, Buffer] = {}
        self.on_device = device is not None
        self._cores = Cores()
        self._is_shared = stolen_ticks() > 0  # with other virtual machines; elsewhere that need not be asked
        if device is None:
            self.device = self.ggml.cpu()
            self.backend, self._set_threads = self.ggml.cpu_backend()
            *self.special, self.plain = self.ggml.weight_buffer_types()
        else:
            self.device = self.ggml.device_named(device)
            self.backend, self._set_threads = self.ggml.backend_dev_init(self.device, None), _no_threads
            self.special, self.plain = [], self.ggml.backend_dev_buffer_type(self.device)

    def weights(self, layout: Any) -> Buffer:
        if layout not in self._weights:
            self._weights[layout] = Buffer(self.ggml, layout, self.working_set_bytes)
        return self._weights[layout]

    def scratch(self, size_bytes: int = SCRATCH_BYTES) -> Buffer:
        """Room for what operations read beside weights, and for what they write."""
        return Buffer(self.ggml, self.plain, size_bytes, ACTIVATION_BYTE)

    def context(self) -> Any:
        return self.ggml.init(InitParams(CONTEXT_BYTES, None, True))

    def trial(self, threads: int, amount: float, pieces: Iterable[tuple[Any, Sequence[Any]]]) -> Trial:
        """``pieces`` are contexts with the results that are computed in them; each is a pass that does ``amount``."""
        graphs = []
        for context, results in pieces:
            graph = self.ggml.new_graph(context)
            for result in results:
                self.ggml.build_forward_expand(graph, result)
            graphs.append(graph)
        return Trial(graphs, amount, threads)

    def run(self, trial: Trial) -> None:
        """The passes that are made at once, and those of the ``shorter`` trial while this one has had no undisturbed
        pass; the best count."""
        self._set_threads(self.backend, trial.threads)
        self._cores.spread(trial.threads)
        for _ in range(trial.in_a_row):
            self._pass(trial)
        if trial.shorter is not None and not math.isfinite(trial.best_s):
            self.run(trial.shorter)

    def _pass(self, trial: Trial) -> None:
        stolen = stolen_ticks() if self._is_shared else 0
        switches, waited_s, begun = involuntary_switches() or 0, self._cores.waited_s(), time.perf_counter()
        status = self.ggml.backend_graph_compute(self.backend, trial.next())
        took = time.perf_counter() - begun
        if status != 0:
            raise RuntimeError(f"ggml_backend_graph_compute returned {status}")
        switches, waited_s = (involuntary_switches() or 0) - switches, self._cores.waited_s() - waited_s
        quiet = switches <= HARMLESS_PREEMPTIONS_PER_S * took and waited_s <= HARMLESS_WAITING * took
        quiet &= not self._is_shared or stolen_ticks() == stolen
        if quiet or self.on_device:
            trial.best_s = min(trial.best_s, took)
        else:
            trial.disturbed_s = min(trial.disturbed_s, took)


class Cores:
    """Pins this process's threads to cores and counts their waiting. Does nothing but on Linux.

    Where there is a thread for each core, each gets its own. Otherwise, on a busy machine, two of them share a core for
    seconds and never compute at the same time.
    """

    def __init__(self) -> None:
        self._others = _tasks()  # none of them computes
        self._all = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset[int]()
        self._pinned = frozenset[int]()

    def spread(self, threads: int) -> None:
        """Pins the threads for a pass with ``threads`` of them. Threads that the engine hasn't started yet may run
        anywhere."""
        workers = _tasks() - self._others
        if threads != len(self._all) or len(workers) + 1 < threads:
            self._pin(dict.fromkeys((*self._pinned, os.getpid()), self._all) if self._pinned else {})
            self._pinned = frozenset()
        elif (computing := frozenset({os.getpid(), *workers})) != self._pinned and len(computing) == threads:
            self._pin({task: {core} for task, core in zip(sorted(computing), sorted(self._all), strict=True)})
            self._pinned = computing

    def waited_s(self) -> float:
        """Seconds that all threads together were ready to run but had no core."""
        waited_ns = 0
        for task in _tasks():
            with contextlib.suppress(OSError, IndexError, ValueError):
                waited_ns += int(Path(f"/proc/self/task/{task}/schedstat").read_text().split()[1])
        return waited_ns / 1e9

    def _pin(self, cores: Mapping[int, Collection[int]]) -> None:
        for task, allowed in cores.items():
            with contextlib.suppress(OSError):  # it has ended, or this is not allowed here
                os.sched_setaffinity(task, allowed)


def _tasks() -> frozenset[int]:
    try:
        return frozenset(int(task.name) for task in Path("/proc/self/task").iterdir())
    except OSError:
        return frozenset()


def _no_threads(backend: Any, threads: int) -> None:
    """Sets nothing: a device has no number of threads."""
