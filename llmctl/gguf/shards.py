"""Models split over several files, as llama-gguf-split names them: ``name-00001-of-00003.gguf``."""

from __future__ import annotations

import re

from llmctl.errors import IntegrityError

SHARD = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<total>[0-9]{5})\.gguf", re.DOTALL)
MAX_SHARDS = 1000


def shard_names(name: str) -> list[str]:
    """The names of all files of the model that file ``name`` belongs to, in order: ``[name]`` if it isn't split.

    ``name`` may have folders before it; they are kept. Raises IntegrityError for numbers that make no sense.
    """
    match = SHARD.fullmatch(name)
    if match is None:
        return [name]
    number, total = int(match["number"]), int(match["total"])
    if not 1 <= number <= total <= MAX_SHARDS:
        raise IntegrityError(f"{name} claims to be part {number} of {total}; at most {MAX_SHARDS} parts are possible")
    return [f"{match['stem']}-{part:05}-of-{total:05}.gguf" for part in range(1, total + 1)]
