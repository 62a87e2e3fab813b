"""Settings that change a model's speed, not its answers: which combinations to try, and which is best.

llama.cpp's defaults are not the best for every processor and task. Weights in the layout of the CPU's fast kernels
stream faster than as they lie in the file, but some of these kernels read prompts at half the speed, and the copy takes
memory; flash attention saves memory and, on a processor, mostly costs time. So each combination is timed with the
rates that were measured here, for the expected prompt and answer. Where nothing was measured the defaults stand; a
setting that was asked for always does.

A longer context, an unquantized cache and more layers on a GPU go before speed, as long as it is fast enough: of what
is equal in that, the least time for the whole task is chosen, and the defaults unless another is better by more than
the rates are uncertain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from llmctl.planner.graphs import graph_of
from llmctl.planner.placement import Placement, Placer
from llmctl.types.plan import KV_TYPES, Want

WORTH_CHANGING = 0.97  # of the defaults' time


def variants(placer: Placer, want: Want) -> Iterator[Want]:
    """The wish with each combination of settings that is worth a try, the engine's defaults first."""
    kernels, repacks, flashes = placer.machine.kernels, [want.repack], [want.flash_attention]
    if kernels is not None and want.repack is None and placer.repacked_types & set(placer.weights.type_bytes):
        repacks.append(False)
    if kernels is not None and want.flash_attention is None and not placer.devices and graph_of(placer.shape).flash:
        flashes.append(True)
    for flash in flashes:
        for repack in repacks:
            same = (repack, flash) == (want.repack, want.flash_attention)
            yield want if same else replace(want, repack=repack, flash_attention=flash)


def best(tried: Sequence[tuple[Placement, float, bool]]) -> int:
    """The index of the best of ``tried``: placements that fit, each with its seconds for the whole task and whether
    that is fast enough; the engine's defaults come first."""
    ranks = [(enough, _worth(placement)) for placement, _, enough in tried]
    equal = [at for at, rank in enumerate(ranks) if rank == max(ranks)]
    fastest = min(equal, key=lambda at: tried[at][1])
    return fastest if tried[fastest][1] < WORTH_CHANGING * tried[equal[0]][1] else equal[0]


def _worth(placement: Placement) -> tuple[int, int, int, int, int]:
    """Rank of what matters more than speed: context, cache type, layers on a GPU."""
    settings = placement.configuration
    kv = -KV_TYPES.index(settings.kv_type)
    return settings.context, kv, settings.gpu_layers, -settings.cpu_expert_layers, settings.ubatch
