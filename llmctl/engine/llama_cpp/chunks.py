"""How many tokens of prompts a step reads, bounded in seconds by how fast they have been read. Pure."""

from __future__ import annotations

from collections.abc import Sequence

WRITING_S = 0.5  # that reading may keep those from their next token whose answers are being written
ARRIVING_S = 2.0  # that it may keep a request from being begun that comes meanwhile
UNMEASURED = 128  # tokens beside answers until a speed is known
ROWS = 4  # that repacked weights are multiplied by at once (ggml_gemm_*, ggml/src/ggml-cpu/repack.cpp)
LEAST = 16  # tokens: for fewer, streaming the weights would take most of the time
SMOOTHING = 0.5  # of the last step, in the average


class ChunkSize:
    """``most`` tokens are computed at once. With ``is_shared`` other requests may come while a prompt is read."""

    def __init__(self, most: int, *, is_shared: bool) -> None:
        self._most = most
        self._is_shared = is_shared
        self._rows_per_s: float | None = None

    @property
    def fixed(self) -> int:
        """How many to read of a prompt that is always to be cut in the same way."""
        return min(self._most, UNMEASURED) if self._is_shared else self._most

    def tokens(self, *, answers: int) -> int:
        """How many to read beside so many ``answers``, of each of which a token is computed. Powers of two only, so
        that the same prompt is mostly cut in the same way, and rounded in the same way."""
        if not self._is_shared:
            return self._most
        if self._rows_per_s is None:
            return min(self._most, UNMEASURED) if answers else self._most
        size = LEAST
        while 2 * size <= self._rows_per_s * (WRITING_S if answers else ARRIVING_S) - answers:
            size *= 2
        return min(self._most, size)

    def measured(self, tokens: int, answers: int, seconds: float) -> None:
        """A step that has read ``tokens`` and computed a token of each of so many ``answers``, which takes as long as
        one that is read: else many answers would make reading look slow, and few tokens be read ever after."""
        if tokens < LEAST or seconds <= 0:
            return
        rows_per_s = (tokens + answers) / seconds
        before = self._rows_per_s or rows_per_s
        self._rows_per_s = before + SMOOTHING * (rows_per_s - before)


def parts(room: int, left: Sequence[int], *, answers: int) -> list[int]:
    """How many tokens to read of each of several prompts, of which so many are ``left``, shortest first: equally many
    of those that aren't read to their end, ``room`` in all, and beside ``answers`` one of each more.

    llama.cpp computes together what has equally many tokens of each sequence: first one of each, answers too, then the
    rest of what is read. It multiplies repacked weights by four rows at a time and by single ones what is over, each
    of which takes as long as four: so that rest is cut to a multiple of four.
    """
    counts: list[int] = []
    for at, tokens in enumerate(left):
        equal = max(1, room // (len(left) - at))
        if equal >= ROWS:
            equal += int(answers > 0) - equal % ROWS
        if tokens > equal:
            return counts + [equal] * (len(left) - at)
        counts.append(tokens)
        room -= tokens
    return counts
