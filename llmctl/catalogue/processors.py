"""The memory that processors are made for: ``profiles/processors.toml``."""

from __future__ import annotations

import re

from msgspec import Struct

from llmctl.files.decode import Table


class ProcessorFamily(Struct, frozen=True):
    """Processors whose name matches the regular expression ``names``, and the slowest ``memory`` they are sold for,
    with all ``channels`` of a socket filled: ``gb_per_s`` 10^9 bytes a second."""

    names: str
    memory: str
    channels: int
    gb_per_s: float

    def has(self, processor_name: str) -> bool:
        return re.search(self.names, processor_name) is not None

    @property
    def bandwidth_bytes_per_s(self) -> float:
        return self.gb_per_s * 1e9


def read_processors(table: Table) -> tuple[ProcessorFamily, ...]:
    """The lines out of the file, in its order. Raises FieldError."""
    families = table.structs("family", ProcessorFamily)
    for at, family in enumerate(families):
        try:
            re.compile(family.names)
        except re.error:
            table.check(False, f"family.{at}.names", "a regular expression")
    return families
