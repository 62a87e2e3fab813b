"""The vision projector beside the model: makes of pictures what stands in the place of tokens. The one door to mtmd,
llama.cpp's library for that."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmctl.engine.llama_cpp.context import Context, DecodeError
from llmctl.engine.llama_cpp.mixed_prompt import PictureRows, PromptPictures, picture_tokens
from llmctl.engine.llama_cpp.native_log import NativeLog
from llmctl.engine.llama_cpp.pictures import MARKER, Picture
from llmctl.engine.llama_cpp.refused import invalid
from llmctl.errors import LlmctlError
from llmctl.gguf.header import read_file
from llmctl.gguf.projector import most_tokens

KEPT_BYTES = 32 << 20  # of pictures that were encoded: the next turn of a conversation has them again
FLOAT_BYTES = 4


class MixedChunks:
    """A prompt as mtmd has cut it: pieces of text and parts of pictures. Lives as long as one of its parts does."""

    def __init__(self, mtmd: Any) -> None:
        self.pointer = mtmd.mtmd_input_chunks_init()
        weakref.finalize(self, mtmd.mtmd_input_chunks_free, self.pointer)


@dataclass(frozen=True)
class CutPart:
    """A part of a picture in a prompt, from its token ``begin`` on, whose tokens are ``numbers``; ``name`` is the field
    that the picture was in."""

    begin: int
    numbers: Sequence[int]
    name: str
    chunks: MixedChunks
    pointer: Any


@dataclass(eq=False)
class Part:
    """A part of a picture, encoded. What ``mixed_prompt.Encoded`` is."""

    projector: VisionProjector
    chunks: MixedChunks
    pointer: Any
    rows: int
    positions: int
    embedding: Any

    def compute(self, context: Context, position: int, sequence: int) -> None:
        self.projector.compute(self, context, position, sequence)


def _most_tokens(file: Path) -> int:
    """Of a picture, for a model that takes pictures in their own size; -1 leaves it to the projector."""
    try:
        return most_tokens(read_file(file, whole=False)) or -1
    except LlmctlError:
        return -1  # llama.cpp says what is wrong with it


class VisionProjector:
    """The projector in the file that ``job`` names, for ``model``. Raises RuntimeError where it can't be loaded."""

    def __init__(self, job: Mapping[str, Any], model: Any, log: NativeLog) -> None:
        import llama_cpp
        from llama_cpp import mtmd_cpp

        self._mtmd = mtmd_cpp
        log.listen_to_mtmd()
        params = mtmd_cpp.mtmd_context_params_default()
        params.use_gpu = bool(job["gpu_layers"])
        params.print_timings = params.warmup = False
        params.n_threads = job["prefill_threads"]
        params.media_marker = MARKER.encode()
        params.image_max_tokens = _most_tokens(Path(job["projector"]))
        self._context = mtmd_cpp.mtmd_init_from_file(os.fsencode(job["projector"]), model, params)
        if not self._context:
            raise RuntimeError(f"its vision projector {job['projector']} can't be loaded: {log.taken()}")
        if not mtmd_cpp.mtmd_support_vision(self._context):
            raise RuntimeError(f"its projector {job['projector']} reads no images")
        self._width: int = llama_cpp.llama_model_n_embd_inp(model)
        self._ubatch = int(job["ubatch"])
        self._encoding = threading.Lock()
        self._kept: OrderedDict[int, Any] = OrderedDict()

    def cut(
        self, text: str, pictures: Sequence[Picture], *, add_special: bool, parse_special: bool
    ) -> tuple[list[int], list[CutPart]]:
        """The tokens of a prompt in which MARKER stands for each picture, and which of them are parts of pictures.
        Raises RefusedError."""
        chunks = self._chunks(text, pictures, add_special=add_special, parse_special=parse_special)
        tokens: list[int] = []
        parts: list[CutPart] = []
        whose = self._whose(chunks, pictures)
        for pointer in self._each(chunks):
            if self._mtmd.mtmd_input_chunk_get_type(pointer) == self._mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                tokens += self._text(pointer)
                continue
            picture, number = next(whose)
            numbers = picture_tokens(picture.data, number, self._mtmd.mtmd_input_chunk_get_n_tokens(pointer))
            self._require_computable(pointer, picture, len(numbers))
            parts.append(CutPart(len(tokens), numbers, picture.name, chunks, pointer))
            tokens += numbers
        return tokens, parts

    def encoded(self, parts: Sequence[CutPart], *, keeps: bool) -> PromptPictures:
        """The parts as they are computed in the place of tokens. This takes as long as it takes: nothing else waits for
        it. ``keeps``: for the next prompt with the same picture. Raises RefusedError."""
        return PromptPictures(tuple(PictureRows(part.begin, self._encoded(part, keeps=keeps)) for part in parts))

    def _encoded(self, part: CutPart, *, keeps: bool) -> Part:
        positions = self._mtmd.mtmd_input_chunk_get_n_pos(part.pointer)
        embedding = self._embedding(part, keeps=keeps)
        return Part(self, part.chunks, part.pointer, len(part.numbers), positions, embedding)

    def compute(self, part: Part, context: Context, position: int, sequence: int) -> None:
        """Raises DecodeError."""
        import llama_cpp

        behind = llama_cpp.llama_pos()
        code = self._mtmd.mtmd_helper_decode_image_chunk(
            *(self._context, context.pointer, part.pointer, part.embedding, position, sequence, context.batch),
            *(ctypes.byref(behind), self._mtmd.mtmd_helper_post_decode_callback(0), None),
        )
        if code != 0:
            raise DecodeError(f"a picture could not be computed: mtmd returned {code}")
        llama_cpp.llama_synchronize(context.pointer)

    def _chunks(self, text: str, pictures: Sequence[Picture], *, add_special: bool, parse_special: bool) -> MixedChunks:
        encoded = text.encode("utf-8", "replace")
        given = self._mtmd.mtmd_input_text(encoded, len(encoded), add_special, parse_special)
        bitmaps = [self._bitmap(picture) for picture in pictures]
        try:
            for at, bitmap in enumerate(bitmaps):
                self._mtmd.mtmd_bitmap_set_id(bitmap, str(at).encode())
            array = (self._mtmd.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
            chunks = MixedChunks(self._mtmd)
            code = self._mtmd.mtmd_tokenize(self._context, chunks.pointer, ctypes.byref(given), array, len(bitmaps))
        finally:
            for bitmap in bitmaps:
                self._mtmd.mtmd_bitmap_free(bitmap)
        if code != 0:
            raise invalid(f"messages: the model's projector doesn't take these images (mtmd returned {code})")
        return chunks

    def _bitmap(self, picture: Picture) -> Any:
        data = (ctypes.c_uint8 * len(picture.data)).from_buffer_copy(picture.data)
        bitmap = self._mtmd.mtmd_helper_bitmap_init_from_buf(self._context, data, len(data), False)
        if not bitmap:
            raise invalid(f"{picture.name} is a broken image")
        return bitmap

    def _each(self, chunks: MixedChunks) -> Iterator[Any]:
        for at in range(self._mtmd.mtmd_input_chunks_size(chunks.pointer)):
            yield self._mtmd.mtmd_input_chunks_get(chunks.pointer, at)

    def _whose(self, chunks: MixedChunks, pictures: Sequence[Picture]) -> Iterator[tuple[Picture, int]]:
        """For each part of a picture: which picture, and the number of the part among the picture's."""
        counts = [0] * len(pictures)
        for pointer in self._each(chunks):
            if self._mtmd.mtmd_input_chunk_get_type(pointer) != self._mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                at = int(self._mtmd.mtmd_input_chunk_get_id(pointer) or b"0")
                counts[at] += 1
                yield pictures[at], counts[at]

    def _text(self, pointer: Any) -> list[int]:
        """Raises RefusedError for a projector that is another model's."""
        count = ctypes.c_size_t()
        given = self._mtmd.mtmd_input_chunk_get_tokens_text(pointer, ctypes.byref(count))
        tokens = list(given[: count.value])
        if min(tokens, default=0) < 0:
            raise invalid("messages: the marks that this projector puts around an image are no tokens of the model")
        return tokens

    def _require_computable(self, pointer: Any, picture: Picture, rows: int) -> None:
        """A picture in which each token sees all is computed at once. Raises RefusedError where that is too much."""
        if rows > self._ubatch and self._mtmd.mtmd_decode_use_non_causal(self._context, pointer):
            raise invalid(f"{picture.name} takes {rows:,} tokens at once, this engine computes {self._ubatch:,}")

    def _embedding(self, part: CutPart, *, keeps: bool) -> Any:
        """The rows of a part of a picture. Raises RefusedError."""
        key = part.numbers[0]
        with self._encoding:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            code = self._mtmd.mtmd_encode_chunk(self._context, part.pointer)
            if code != 0:
                raise invalid(f"{part.name} could not be encoded (mtmd returned {code})")
            count = len(part.numbers) * self._width
            made = (ctypes.c_float * count)()
            ctypes.memmove(made, self._mtmd.mtmd_get_output_embd(self._context), count * FLOAT_BYTES)
            if keeps:
                self._keep(key, made)
            return made

    def _keep(self, key: int, embedding: Any) -> None:
        self._kept[key] = embedding
        while len(self._kept) > 1 and sum(map(ctypes.sizeof, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)
