"""How many tokens of prompts a step reads, bounded in seconds by how fast they have been read. Pure."""

from __future__ import annotations

WRITING_S = 0.5  # that reading may keep those from their next token whose answers are being written
ARRIVING_S = 2.0  # that it may keep a request from being begun that comes meanwhile
UNMEASURED = 128  # tokens beside answers until a speed is known
LEAST = 16  # tokens: for fewer, streaming the weights would take most of the time
SMOOTHING = 0.5  # of the last step, in the average


class ChunkSize:
    """``most`` tokens are computed at once. With ``is_shared`` other requests may come while a prompt is read."""

    def __init__(self, most: int, *, is_shared: bool) -> None:
        self._most = most
        self._is_shared = is_shared
        self._tokens_per_s: float | None = None

    def tokens(self, *, beside_answers: bool) -> int:
        """Powers of two only, so that the same prompt is mostly cut in the same way, and rounded in the same way."""
        if not self._is_shared:
            return self._most
        if self._tokens_per_s is None:
            return min(self._most, UNMEASURED) if beside_answers else self._most
        size = LEAST
        while 2 * size <= self._tokens_per_s * (WRITING_S if beside_answers else ARRIVING_S):
            size *= 2
        return min(self._most, size)

    def measured(self, tokens: int, seconds: float) -> None:
        """A step that has read ``tokens``, answers beside them included in its time."""
        if tokens < LEAST or seconds <= 0:
            return
        before = self._tokens_per_s or tokens / seconds
        self._tokens_per_s = before + SMOOTHING * (tokens / seconds - before)
