"""Finds the settings to run a model with: the first that fit, in an order of preference.

What was asked for (context, type of the cache, layers on the GPU) is never changed: if it doesn't fit, nothing does.
The rest gives way in this order, each step only where those before it were not enough:

1. everything on the GPUs, the cache in f16, 512 tokens at once, with flash attention where they have a kernel for it
2. of a mixture of experts: the experts of some layers on the CPU, as few as it takes. A token uses a few of them, so
   this costs the least speed, and no quality.
3. the cache in q8_0: half the size for a loss that is hardly measurable, which is less than what comes next
4. 256 tokens at once, then 128: long prompts are read more slowly
5. fewer layers on the GPUs, back with the settings of 1: each layer on the CPU is some five to ten times as slow
6. less context, by halves, down to a least one: what can't be remembered can't be answered

Without a GPU, 1 is without flash attention, which a CPU seldom has a use for but with a quantized cache, and 2 and 5
fall away. A cache in q4_0 loses more than q8_0, and is used on request only. Windows are not cached in full length
(``swa_full``), and there is a sequence for each user; an encoder has several, since they take no memory.

More memory never gives less context or fewer layers on a GPU: with everything there, the context is the wanted one;
the layers that go there otherwise are as many as it has room for at the wanted context, whatever context the CPU's
memory then leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from llmctl.gguf.layers import ENCODERS
from llmctl.planner.devices import shares_memory
from llmctl.planner.graphs import graph_of
from llmctl.planner.memory import quantizable
from llmctl.planner.placement import Placement, Placer
from llmctl.types.model import Shape
from llmctl.types.plan import F16, Q8_0, UBATCH, Allocation, Configuration, Want

SMALLER_UBATCHES = (256, 128)
PICTURE_TOKENS = 256  # of Gemma's pictures, which have to be computed at once
TEXTS_AT_ONCE = 16  # of an encoder, which keeps nothing of any: they cost no memory


def configure(
    placer: Placer, want: Want, contexts: Sequence[int], engine: Callable[[Configuration], Allocation | None]
) -> Placement:
    """The placement of the first configuration that fits, else of the one that is least short of memory.

    ``contexts`` are the wanted one and smaller ones that may take its place; ``engine`` gives what the engine itself
    said of a configuration, if it was asked.
    """
    nearest: Placement | None = None
    for configuration in _in_order(placer, want, contexts):
        placement = placer.place(configuration, engine(configuration))
        if not placement.shortages:
            return placement
        if nearest is None or placement.short_bytes < nearest.short_bytes:
            nearest = placement
    assert nearest is not None, "there is always one to try"
    return nearest


def _in_order(placer: Placer, want: Want, contexts: Sequence[int]) -> Iterator[Configuration]:
    layers = 0 if not placer.devices else want.gpu_layers
    if layers == 0:
        yield from _on_cpu(placer, want, contexts)
    elif layers is not None:
        layers = placer.height if layers < 0 else min(layers, placer.height)
        for context in contexts:
            yield from _on_devices(placer, want, context, layers)
    else:
        yield from _on_devices(placer, want, contexts[0], placer.height)
        yield from _on_both(placer, want, contexts)


def _on_cpu(placer: Placer, want: Want, contexts: Sequence[int]) -> Iterator[Configuration]:
    for context in contexts:
        yield from _settings(placer.shape, want, context, flashes=False, quantizes=True)


def _on_devices(placer: Placer, want: Want, context: int, layers: int) -> Iterator[Configuration]:
    """Configurations with exactly ``layers`` on devices, also those without room: their gap is reported."""
    for settings in _on_device_settings(placer, want, context):
        wanted = replace(settings, gpu_layers=layers)
        fitting = placer.spread(wanted)
        if fitting is None and placer.shape.n_expert:
            fitting = _fewest_experts(placer, wanted)
        yield fitting or wanted


def _on_both(placer: Placer, want: Want, contexts: Sequence[int]) -> Iterator[Configuration]:
    """Configurations with as many layers on devices as have room at the wanted context, then on the CPU.

    Where a device shares the machine's memory, layers on it save none: smaller contexts are tried on the CPU only."""
    wanted = next(_on_device_settings(placer, want, contexts[0]))
    if placer.shape.n_expert:
        wanted = replace(wanted, cpu_expert_layers=placer.expert_layers)
    layers = placer.most_layers(wanted)
    experts = wanted.cpu_expert_layers
    shared = any(map(shares_memory, placer.devices))
    for context in contexts[:1] if shared else contexts:
        for settings in _on_device_settings(placer, want, context):
            fitting = placer.spread(replace(settings, gpu_layers=layers, cpu_expert_layers=experts))
            if layers and fitting is not None:
                yield fitting
    if shared or not layers:
        yield from _on_cpu(placer, want, contexts)


def _fewest_experts(placer: Placer, wanted: Configuration) -> Configuration | None:
    """The configuration with the experts of the fewest layers on the CPU; None if there is no room with all of them."""
    low, high = 1, placer.expert_layers
    best = placer.spread(replace(wanted, cpu_expert_layers=high))
    while best is not None and low < high:
        middle = (low + high) // 2
        fitting = placer.spread(replace(wanted, cpu_expert_layers=middle))
        if fitting is None:
            low = middle + 1
        else:
            best, high = fitting, middle
    return best


def _on_device_settings(placer: Placer, want: Want, context: int) -> Iterator[Configuration]:
    """The settings to try on devices: flash attention, and with it a quantized cache, if all have a kernel for it."""
    flashes = placer.flashes
    return _settings(placer.shape, want, context, flashes=flashes, quantizes=flashes)


def _settings(shape: Shape, want: Want, context: int, *, flashes: bool, quantizes: bool) -> Iterator[Configuration]:
    """The cache's type, then what is computed at once. A model that keeps no cache, or none that can be quantized, has
    f16; an encoder reads a text in one go. ``flashes``: with flash attention, if nothing is said of that; with
    ``quantizes`` the cache may be quantized unasked."""
    flash_attention = flashes if want.flash_attention is None else want.flash_attention
    first = Configuration(
        context,
        want.kv_type or F16,
        flash_attention=flash_attention or want.kv_type not in (None, F16),
        ubatch=UBATCH,
        repack=want.repack is not False,
        sequences=1 if graph_of(shape).embeds else want.users,
    )
    if shape.architecture in ENCODERS:
        yield replace(first, ubatch=context, sequences=TEXTS_AT_ONCE)
        return
    yield first
    if quantizes and want.kv_type is None and want.flash_attention is not False and takes_quantized_cache(shape):
        first = replace(first, kv_type=Q8_0, flash_attention=True)
        yield first
    for ubatch in SMALLER_UBATCHES:
        if ubatch >= PICTURE_TOKENS or not want.sees:
            yield replace(first, ubatch=ubatch)


def takes_quantized_cache(shape: Shape) -> bool:
    """Whether there is a cache to quantize, of whole blocks, and flash attention, which a quantized one takes."""
    graph = graph_of(shape)
    return shape.kv_width + shape.kv_window_width > 0 and quantizable(shape) and graph.flash and not graph.bias
