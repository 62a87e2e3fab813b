"""What else computed on a machine while llmctl looked at it."""

from __future__ import annotations

from msgspec import Struct


class Load(Struct, frozen=True):
    """``other_cores`` is how many cores' worth of time other programs had, ``stolen_cores`` how many the hypervisor
    gave to other virtual machines, ``heat`` whether the processor slowed down because it was hot. ``program`` had most
    of the time; None where it isn't this user's, or there is none that stands out."""

    other_cores: float = 0.0
    stolen_cores: float = 0.0
    heat: bool = False
    program: str | None = None

    def __str__(self) -> str:
        """ "other programs (cc1plus) use 1.3 cores"."""
        who = "other programs" if self.program is None else f"other programs ({self.program})"
        parts = [f"{who} use {self.other_cores:.1f} cores"] if self.other_cores else []
        parts += [f"other virtual machines use {self.stolen_cores:.1f}"] if self.stolen_cores else []
        parts += ["the processor is hot and slows down"] if self.heat else []
        return ", ".join(parts)
