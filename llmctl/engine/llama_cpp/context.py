"""A context of llama.cpp with several sequences: computing tokens, and what its memory holds of each sequence.

Each sequence has a memory of its own (``kv_unified`` is false), as the planner counts it: no request takes another's
room, and an answer doesn't slow down because other sequences still hold theirs. The price is that a beginning that two
sequences share is copied, and that what has another number of tokens is computed in a graph of its own. With one memory
for all a step of four answers of a 135M model took 0.89 of the processor's time behind 60 tokens each, but 1.23 of it
behind 500: the cells of others are looked at, too.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llmctl.engine.llama_cpp.loading import context_params

BATCH = 512  # tokens that are handed over at once: the binding's own number


class Row(NamedTuple):
    """A token to compute. ``wants_next``: what may follow it is to be sampled."""

    token: int
    position: int
    sequence: int
    wants_next: bool


class DecodeError(Exception):
    """llama.cpp could not compute a batch."""


class Context:
    """``length``: tokens for each sequence; ``batch``: rows that can be computed at once; ``can_cut``: the end of a
    sequence can be forgotten, as far as a window allows; ``can_cut_saved``: also of one that was saved, of which
    nothing outside the window is left; ``is_stateless``: nothing is kept of any, as of an encoder."""

    def __init__(self, model: Any, settings: Mapping[str, Any]) -> None:
        import llama_cpp

        params = context_params(settings)
        params.n_batch = max(settings["ubatch"], BATCH)
        params.n_threads, params.n_threads_batch = settings["threads"], settings["prefill_threads"]
        self.pointer: Any = llama_cpp.llama_init_from_model(model, params)
        if not self.pointer:
            raise RuntimeError("Failed to create llama_context")
        self.length: int = llama_cpp.llama_n_ctx_seq(self.pointer)
        self.batch: int = llama_cpp.llama_n_batch(self.pointer)
        self._memory: Any = llama_cpp.llama_get_memory(self.pointer)
        self.is_stateless = not self._memory
        self._window: int = llama_cpp.llama_model_n_swa(model)
        self.can_cut = not (llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model))
        self.can_cut_saved = self.can_cut and self._window <= 0
        self._rows: Any = llama_cpp.llama_batch_init(self.batch, 0, 1)

    def decode(self, rows: Sequence[Row]) -> None:
        """Computes them and waits for it. Raises DecodeError."""
        import llama_cpp

        batch = self._rows
        batch.n_tokens = len(rows)
        for at, row in enumerate(rows):
            batch.token[at] = row.token
            batch.pos[at] = row.position
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = row.sequence
            batch.logits[at] = row.wants_next
        code = llama_cpp.llama_decode(self.pointer, batch)
        if code != 0:
            raise DecodeError(f"llama_decode returned {code}")
        llama_cpp.llama_synchronize(self.pointer)

    def keep(self, sequence: int, length: int) -> bool:
        """Forgets what a sequence holds behind its first ``length`` tokens. False, and then all is forgotten, where the
        model's memory doesn't allow it: a recurrent state can't go back, and a window has moved on."""
        import llama_cpp

        if (
            length
            and self._holds(sequence, length)
            and llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1)
        ):
            return True
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return length == 0

    def _holds(self, sequence: int, length: int) -> bool:
        """Whether all that a token behind the first ``length`` ones looks at is there."""
        import llama_cpp

        first: int = llama_cpp.llama_memory_seq_pos_min(self._memory, sequence)
        last: int = llama_cpp.llama_memory_seq_pos_max(self._memory, sequence)
        return last == length - 1 or (last >= length and (first == 0 or 0 < first < length - self._window))

    def save(self, sequence: int, tokens: Sequence[int], file: Path) -> bool:
        """Writes what a sequence holds, which are ``tokens``, to ``file``, which must be there."""
        import llama_cpp

        given = (llama_cpp.llama_token * len(tokens))(*tokens)
        name = os.fsencode(file)
        return bool(llama_cpp.llama_state_seq_save_file(self.pointer, name, sequence, given, len(tokens)))

    def load(self, sequence: int, tokens: Sequence[int], file: Path) -> bool:
        """Makes a sequence hold the ``tokens`` that ``save`` has written to ``file``; False, and then it holds nothing,
        where they aren't in it or there is no room. The file must be one that ``save`` has written, to the byte."""
        import llama_cpp

        room, count = (llama_cpp.llama_token * len(tokens))(), ctypes.c_size_t()
        name = os.fsencode(file)
        is_read = llama_cpp.llama_state_seq_load_file(
            self.pointer, name, sequence, room, len(room), ctypes.byref(count)
        )
        if is_read and list(room[: count.value]) == list(tokens):
            return True
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return False

    def copy(self, source: int, target: int) -> None:
        """Makes ``target`` hold what ``source`` holds. llama.cpp copies whole sequences only."""
        import llama_cpp

        llama_cpp.llama_memory_seq_rm(self._memory, target, -1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)
