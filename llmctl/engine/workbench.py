"""Graphs of ggml's operations over shared buffers, and how long they take. Only to be used in a child process.

Buffers hold constant bytes, of which no kernel's time depends: 0x11 is a small finite number in every weight type,
scales included, and 0x3F is 0.7 as a float of 32 bits.

A pass during which the kernel took the processor away from one of the threads says nothing: all the others wait for
that thread at the next barrier, and on two cores with one of them busy the same product takes ten to forty times as
long. Such passes are not counted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmctl.engine.ggml import Ggml, InitParams

CONTEXT_BYTES = 1 << 19  # descriptions of tensors and a graph only, no data
SCRATCH_BYTES = 48 << 20  # holds what an operation reads beside weights and what it writes
WEIGHT_BYTE = 0x11
ACTIVATION_BYTE = 0x3F
HARMLESS_PREEMPTIONS_PER_S = 40.0  # as many as a quiet machine shows; a neighbour makes it several hundred


@dataclass
class Trial:
    """Graphs that are computed in turn with so many threads, one a pass. Each does ``amount`` (bytes streamed,
    operations); ``best_s`` is the fastest undisturbed pass so far.

    Passes are short, since only short ones find a quiet moment on a busy machine; that together the graphs read more
    than the cache holds keeps each from finding there what it read the last time.
    """

    graphs: Sequence[Any]
    amount: float
    threads: int
    best_s: float = math.inf
    passes: int = 0

    @property
    def rate(self) -> float:
        """Of ``amount`` per second; 0 where every pass was disturbed."""
        return self.amount / self.best_s

    def next(self) -> Any:
        self.passes += 1
        return self.graphs[self.passes % len(self.graphs)]


class Place:
    """A buffer whose room is given out from the front. What no longer fits begins again at the front: only time counts,
    and what lies there has been read long ago."""

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
        self._weights: dict[Any, Place] = {}
        self.on_device = device is not None
        if device is None:
            self.device = self.ggml.cpu()
            self.backend, self._set_threads = self.ggml.cpu_backend()
            *self.special, self.plain = self.ggml.weight_buffer_types()
        else:
            self.device = self.ggml.device_named(device)
            self.backend, self._set_threads = self.ggml.backend_dev_init(self.device, None), _no_threads
            self.special, self.plain = [], self.ggml.backend_dev_buffer_type(self.device)

    def weights(self, layout: Any) -> Place:
        if layout not in self._weights:
            self._weights[layout] = Place(self.ggml, layout, self.working_set_bytes)
        return self._weights[layout]

    def scratch(self, size_bytes: int = SCRATCH_BYTES) -> Place:
        """Room for what operations read beside weights, and for what they write."""
        return Place(self.ggml, self.plain, size_bytes, ACTIVATION_BYTE)

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
        """One pass; the best counts."""
        self._set_threads(self.backend, trial.threads)
        before, begun = _preemptions(), time.perf_counter()
        status = self.ggml.backend_graph_compute(self.backend, trial.next())
        took = time.perf_counter() - begun
        if status != 0:
            raise RuntimeError(f"ggml_backend_graph_compute returned {status}")
        if self.on_device or _preemptions() - before <= HARMLESS_PREEMPTIONS_PER_S * took:
            trial.best_s = min(trial.best_s, took)


def _no_threads(backend: Any, threads: int) -> None:
    """What a device computes with is its own affair."""


def _preemptions() -> int:
    """How often a thread of ours has lost the processor to somebody else, as far as the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
