"""What else computed on a machine while llmctl looked at it."""

from __future__ import annotations

from msgspec import Struct

LEAST_TOLD = 0.05  # of a core or of the time: less would read as 0.0


class Load(Struct, frozen=True):
    """``other_cores`` is how many cores' worth of time other programs had, ``stolen_cores`` how many the hypervisor
    gave to other virtual machines, ``heat`` whether the processor slowed down because it was hot. ``waiting`` and
    ``short_of_memory`` are the shares of the time in which a program waited for a core and for memory to be freed, by
    the kernel's pressure counters; 0 where it has none. ``program`` had most of the time; None where it isn't this
    user's, or there is none that stands out."""

    other_cores: float = 0.0
    stolen_cores: float = 0.0
    heat: bool = False
    program: str | None = None
    waiting: float = 0.0
    short_of_memory: float = 0.0

    def __str__(self) -> str:
        """ "other programs (cc1plus) use 1.3 cores"."""
        who = "other programs" if self.program is None else f"other programs ({self.program})"
        parts = [f"{who} use {self.other_cores:.1f} cores"] if self.other_cores >= LEAST_TOLD else []
        if self.stolen_cores >= LEAST_TOLD:
            cores = "" if parts else " cores"
            parts.append(f"other virtual machines use {self.stolen_cores:.1f}{cores}")
        parts += [f"programs wait for memory {self.short_of_memory:.0%} of the time"] if self.is_short_of_memory else []
        parts += ["the processor is hot and slows down"] if self.heat else []
        if not parts:
            return f"programs wait for a core {self.waiting:.0%} of the time"
        return ", ".join(parts)

    @property
    def is_short_of_memory(self) -> bool:
        return self.short_of_memory >= LEAST_TOLD
