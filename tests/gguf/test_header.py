"""Sound headers are read whole; anything else is an IntegrityError that names what and where, and soon."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from llmctl.errors import AccessError, IntegrityError, NotFoundError, UnsupportedFileError
from llmctl.gguf import header as gguf
from llmctl.gguf.cursor import WINDOW_BYTES
from llmctl.gguf.formats import GGML
from llmctl.types.header import Header
from tests.fakes.gguf_file import Fill, Kind, TensorSpec, Value, cut, header, model_shape, overwrite, write, write_model

LLAMA: dict[str, Value] = {"general.architecture": "llama"}
TENSORS = [TensorSpec("token_embd.weight", (64, 10), "Q8_0"), TensorSpec("blk.0.attn_norm.weight", (64,), "F32")]


def read(raw: bytes, *, size_bytes: int | None = None) -> Header:
    return gguf.read_header(BytesIO(raw), size_bytes=size_bytes)


def test_values_of_every_kind_are_kept() -> None:
    kinds: dict[str, Value] = {
        "u8": Kind(0, "B", 255),
        "i8": Kind(1, "b", -128),
        "u16": Kind(2, "H", 65535),
        "i16": Kind(3, "h", -32768),
        "u32": Kind(4, "I", 4294967295),
        "i32": Kind(5, "i", -2147483648),
        "f32": Kind(6, "f", 0.5),
        "bool": Kind(7, "?", True),
        "u64": Kind(10, "Q", 2**64 - 1),
        "i64": Kind(11, "q", -(2**63)),
        "f64": Kind(12, "d", 0.1),
    }
    metadata = read(header({**LLAMA, **kinds, "text": "Grüße", "empty": ""})).metadata
    expected = {key: kind.value for key, kind in kinds.items() if isinstance(kind, Kind)}
    assert metadata == {**LLAMA, **expected, "text": "Grüße", "empty": ""}
    assert metadata["bool"] is True


def test_short_numeric_arrays_are_kept_and_other_arrays_only_counted() -> None:
    arrays: dict[str, Value] = {
        "per_layer": [8, 0, 8],
        "pattern": [True, False],
        "limit": [1] * gguf.MAX_KEPT_ELEMENTS,
        "scores": [0.5] * (gguf.MAX_KEPT_ELEMENTS + 1),
        "tokens": ["a", "", "bcd"],
        "none": [],
    }
    parsed = read(header({**LLAMA, **arrays, "after": "still in step"}))
    assert parsed.metadata["per_layer"] == (8, 0, 8)
    assert parsed.metadata["pattern"] == (True, False)
    assert parsed.metadata["limit"] == (1,) * gguf.MAX_KEPT_ELEMENTS
    assert parsed.metadata["none"] == ()
    assert parsed.metadata["after"] == "still in step"
    assert parsed.array_lengths == {"scores": gguf.MAX_KEPT_ELEMENTS + 1, "tokens": 3}


def test_a_chat_template_is_kept_and_a_whole_tokenizer_is_not() -> None:
    template = "{% for m in messages %}" * 3000
    parsed = read(
        header({**LLAMA, "tokenizer.chat_template": template, "huge": "x" * (gguf.MAX_KEPT_STRING_BYTES + 1)})
    )
    assert parsed.chat_template == template
    assert parsed.array_lengths == {"huge": gguf.MAX_KEPT_STRING_BYTES + 1}
    assert read(header(LLAMA)).chat_template is None


def test_later_parts_of_a_split_file_have_no_metadata_of_their_own() -> None:
    parsed = read(header({"split.no": Kind(2, "H", 1), "split.count": Kind(2, "H", 2)}, TENSORS))
    assert (parsed.architecture, len(parsed.tensors)) == ("", 2)
    with pytest.raises(IntegrityError, match=r"general\.architecture is 'None'"):
        read(header({"split.no": Kind(2, "H", 0)}, TENSORS))


def test_text_that_is_not_utf8_is_kept_readable() -> None:
    raw = header({**LLAMA, "general.name": "Grüße"}).replace("ü".encode(), b"\xff\xfe")
    assert read(raw).metadata["general.name"] == "Gr\ufffd\ufffdße"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_tensors_lie_one_after_another(version: int, alignment: int, tmp_path: Path) -> None:
    metadata: dict[str, Value] = {**LLAMA, "general.alignment": alignment}
    tensors = [TensorSpec("a", (32, 3), "Q4_0"), TensorSpec("b", (7,), "F32"), TensorSpec("c", (256, 2, 1, 1), "Q4_K")]
    raw = header(metadata, tensors, version=version)
    parsed = read(raw)
    assert parsed.version == version
    assert parsed.architecture == "llama"
    assert parsed.data_offset == len(raw)
    assert [(t.name, t.shape, t.type, t.nbytes) for t in parsed.tensors] == [
        ("a", (32, 3), "Q4_0", 54),
        ("b", (7,), "F32", 28),
        ("c", (256, 2, 1, 1), "Q4_K", 288),
    ]
    assert all(t.offset % alignment == 0 for t in parsed.tensors)
    path = write(tmp_path / "m.gguf", metadata, tensors, fill=Fill.RANDOM)
    assert path.stat().st_size == parsed.data_offset + parsed.tensor_bytes, "no padding after the last"
    assert gguf.read_file(path).tensors == parsed.tensors


def test_arrays_and_strings_may_cross_every_window_border() -> None:
    words = ["x" * (number % 1000) for number in range(WINDOW_BYTES // 200)]
    metadata: dict[str, Value] = {
        **LLAMA,
        "words": words,
        "numbers": [7] * (WINDOW_BYTES // 2),
        "long": ["y" * 3 * WINDOW_BYTES],
    }
    parsed = read(header({**metadata, "last": 42}, TENSORS))
    assert parsed.array_lengths == {"words": len(words), "numbers": WINDOW_BYTES // 2, "long": 1}
    assert parsed.metadata["last"] == 42
    assert len(parsed.tensors) == 2


def test_a_stream_that_gives_a_byte_at_a_time_is_read_all_the_same() -> None:
    class Slow(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size, 1) if size is not None and size > 0 else size)

    raw = header({**LLAMA, "words": ["one", "two"], "numbers": [1.5] * 2000}, TENSORS)
    assert gguf.read_header(Slow(raw), size_bytes=None) == read(raw)


def test_a_header_may_stand_behind_other_bytes() -> None:
    stream = BytesIO(b"x" * 100 + header({**LLAMA, "numbers": [1.5] * (WINDOW_BYTES // 3)}, TENSORS))
    stream.seek(100)
    assert len(gguf.read_header(stream, size_bytes=None).tensors) == 2


# What a header can have wrong: (name, bytes, words of the message)
def key_value(key: bytes, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + value


def with_keys(*pairs: bytes, count: int | None = None) -> bytes:
    architecture = key_value(b"general.architecture", struct.pack("<IQ", 8, 5) + b"llama")
    number = len(pairs) + 1 if count is None else count
    return b"GGUF" + struct.pack("<IQQ", 3, 0, number) + architecture + b"".join(pairs)


def with_tensor(raw: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + with_keys()[24:] + raw


def tensor(name: bytes = b"t", shape: tuple[int, ...] = (32,), type: int = 0, offset: int = 0) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return struct.pack("<Q", len(name)) + name + dimensions + struct.pack("<IQ", type, offset)


SOUND = header(LLAMA, TENSORS)
ONE = struct.pack("<II", 4, 1)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 1\n"
MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"this is not a model\n", "is a text file, not a GGUF file: it begins with 'this is not a model'"),
    "web page": (b"\n<!DOCTYPE html>\n<html>", "is a web page, not a GGUF file: it begins with '<!DOCTYPE html>'"),
    "text cut in a letter": (("ä" * 40).encode()[:63], "text file"),
    "lfs pointer": (POINTER, "is a Git LFS pointer"),
    "zeros": (bytes(1000), "begins with bytes 00 00 00 00"),
    "magic only": (b"GGUF", "is cut off in its header: the version reaches byte 8, the file has 4"),
    "version 0": (b"GGUF" + struct.pack("<IQQ", 0, 0, 0), "its version is 0"),
    "tensor count": (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "claims 9223372036854775808 tensors, at most 65536"),
    "key count": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**64 - 1), "claims 18446744073709551615 metadata keys, at most"),
    "fewer keys than claimed": (with_keys(count=3), "is cut off in its header: key 2 of 3 reaches byte 77"),
    "no architecture": (header({"general.name": "x"}), "general.architecture is 'None'"),
    "architecture a number": (header({"general.architecture": 7}), "general.architecture is '7'"),
    "architecture of strange letters": (header({"general.architecture": "\x1b[31m"}), "general.architecture is"),
    "key twice": (with_keys(*[key_value(b"k", struct.pack("<II", 4, 1))] * 2), "key 'k' occurs twice"),
    "key empty": (with_keys(key_value(b"", b"")), "key 2 of 2 has 0 bytes, 1 to 65536"),
    "key too long": (with_keys(struct.pack("<Q", 65537)), "key 2 of 2 has 65537 bytes, 1 to 65536"),
    "value of no kind": (with_keys(key_value(b"k", struct.pack("<I", 13))), "the value of 'k' is of kind 13"),
    "array of no kind": (with_keys(key_value(b"k", struct.pack("<IIQ", 9, 99, 1))), "the value of 'k' is of kind 99"),
    "array of arrays": (with_keys(key_value(b"k", struct.pack("<IIQ", 9, 9, 1))), "the value of 'k' is of kind 9"),
    "array too long": (with_keys(key_value(b"k", struct.pack("<IIQ", 9, 4, 2**60))), "claims 1152921504606846976 elem"),
    "array past the end": (with_keys(key_value(b"k", struct.pack("<IIQ", 9, 4, 5000))), "'k' reaches byte 20094"),
    "array past the limit": (with_keys(key_value(b"k", struct.pack("<IIQ", 9, 10, 2**28))), "reaches byte 2147483742"),
    "too many strings": (with_keys(key_value(b"k", struct.pack("<IIQ", 9, 8, 2**40))), "more than 16777216 strings"),
    "string past the end": (with_keys(key_value(b"k", struct.pack("<IQ", 8, 999))), "'k' reaches byte 1089.* has 90"),
    "string past the limit": (with_keys(key_value(b"k", struct.pack("<IQ", 8, 2**64 - 1))), "header of at most"),
    "string in array past the end": (
        with_keys(key_value(b"k", struct.pack("<IIQQ", 9, 8, 1, 500))),
        "'k' reaches byte 602, the file has 102",
    ),
    "string in array past the limit": (
        with_keys(key_value(b"k", struct.pack("<IIQQ", 9, 8, 2, 2**64 - 1))),
        "header of at most",
    ),
    "alignment 0": (with_keys(key_value(b"general.alignment", struct.pack("<II", 4, 0))), "alignment is '0', not a"),
    "alignment odd": (
        with_keys(key_value(b"general.alignment", struct.pack("<II", 4, 48))),
        "alignment is '48', not a",
    ),
    "alignment vast": (with_keys(key_value(b"general.alignment", struct.pack("<II", 4, 2**31))), "is '2147483648'"),
    "alignment text": (with_keys(key_value(b"general.alignment", struct.pack("<IQ", 8, 2) + b"32")), "is '32'"),
    "alignment truth": (with_keys(key_value(b"general.alignment", struct.pack("<I?", 7, True))), "is 'True'"),
    "tensor without name": (with_tensor(tensor(b"")), "name of tensor 1 of 1 has 0 bytes, 1 to 63"),
    "tensor name long": (with_tensor(tensor(b"n" * 64)), "name of tensor 1 of 1 has 64 bytes, 1 to 63"),
    "no dimensions": (with_tensor(tensor(shape=())), "'t' has 0 dimensions, 1 to 4"),
    "five dimensions": (with_tensor(tensor(shape=(1,) * 5)), "'t' has 5 dimensions, 1 to 4"),
    "dimension 0": (with_tensor(tensor(shape=(32, 0))), r"'t' of shape \(32, 0\) has 0 elements"),
    "elements overflow": (with_tensor(tensor(shape=(2**63, 2**63))), "has 85070591730234615865843651857942052864"),
    "type of no descendant": (with_tensor(tensor(type=2**30)), "'t' has weight type 1073741824, which is none"),
    "row not whole": (with_tensor(tensor(shape=(100,), type=12)), "'t' has rows of 100, not a multiple of Q4_K's 256"),
    "offset": (with_tensor(tensor(offset=32)), "'t' begins at byte 32 of the weights, expected at 0"),
    "tensor twice": (header(LLAMA, [TENSORS[0]] * 2), "'token_embd.weight' occurs twice"),
    "tensor table cut": (
        SOUND[:150],
        r"is cut off in its header: the name of tensor 2 of 2 reaches byte 156, the file has 150",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("sized", [True, False], ids=["size known", "size unknown"])
def test_malformed(name: str, sized: bool) -> None:
    raw, words = MALFORMED[name]
    with pytest.raises(IntegrityError, match=words):
        read(raw, size_bytes=len(raw) if sized else None)


PICKLE = b"\x80\x02}q\x00" + bytes(59)
SAFETENSORS = struct.pack("<Q", 40) + b'{"__metadata__":{"format":"pt"}}'.ljust(56)
OTHER_FILES: dict[str, tuple[bytes, str]] = {
    "ggml of 2023": (GGML + struct.pack("<I", 32000), "is in the ggml format that GGUF replaced in 2023"),
    "ggjt of 2023": (b"tjgg" + bytes(60), "is in the ggjt format that GGUF replaced in 2023"),
    "whisper.cpp": (GGML + struct.pack("<I", 51865), r"is a speech model in whisper\.cpp's own format"),
    "whisper.cpp, large": (GGML + struct.pack("<I", 51866), r"is a speech model in whisper\.cpp's own format"),
    "safetensors": (SAFETENSORS, "holds weights in the safetensors format"),
    "pytorch": (b"PK\x03\x04" + bytes(60), "is a ZIP archive, as PyTorch saves its models"),
    "pickle": (PICKLE, "is a Python pickle, as PyTorch used to save its models"),
    "llamafile": (b"MZqFpD='\n" + bytes(60), "is a llamafile, a program with a model inside"),
    "pickle of protocol 4": (b"\x80\x04\x95" + bytes(61), "is a Python pickle"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x05" + bytes(51), "is an ONNX model"),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3" + bytes(56), "is a TensorFlow Lite model"),
    "importance matrix": (
        struct.pack("<ii", 197, 19) + b"blk.0.attn_q.weight" + bytes(37),
        "is an importance matrix in its old format",
    ),
    "lz4": (b"\x04\x22\x4d\x18" + bytes(60), "is compressed with lz4"),
    "RAR": (b"Rar!\x1a\x07\x01\0" + bytes(56), "is a RAR archive"),
    "program": (b"\x7fELF" + bytes(60), "is a program"),
    "document": (b"%PDF-1.7\n" + bytes(55), "is a PDF document"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(56), "is a picture"),
    "gzip": (b"\x1f\x8b\x08" + bytes(60), "is compressed with gzip"),
    "version 1": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "is GGUF version 1; versions 2 and 3 can be read"),
    "version 4": (b"GGUF" + struct.pack("<IQQ", 4, 0, 0), "is GGUF version 4; versions 2 and 3 can be read"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is a big-endian GGUF file"),
    "type of another engine": (with_tensor(tensor(type=99)), "tensor 't' has weight type 99, which is none"),
    "type to come": (with_tensor(tensor(type=43)), "tensor 't' has weight type 43, which is none"),
    "type withdrawn": (with_tensor(tensor(type=31)), r"tensor 't' has weight type 31 \(Q4_0_4_4, withdrawn\)"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_a_sound_file_of_another_kind_is_not_called_damaged(name: str) -> None:
    raw, words = OTHER_FILES[name]
    with pytest.raises(UnsupportedFileError, match=words):
        read(raw, size_bytes=len(raw))


# What llama.cpp loads, however odd it is; made when it is read, for some have many megabytes.
ODD: dict[str, Callable[[], bytes]] = {
    "3,000 keys": lambda: header({**LLAMA, **{f"key.{number}": number for number in range(3000)}}),
    "a key of 2 KB": lambda: header({**LLAMA, "k" * 2000: 1}),
    "keys that are no text": lambda: with_keys(key_value(b"a\xff", ONE), key_value(b"a\xfe", ONE)),
    "17 MB of text": lambda: header(
        {**LLAMA, **{f"text.{number}": "x" * gguf.MAX_KEPT_STRING_BYTES for number in range(17)}}
    ),
    "alignment 1": lambda: header({**LLAMA, "general.alignment": 1}, TENSORS),
    "alignment 2": lambda: header({**LLAMA, "general.alignment": 2}, TENSORS),
    "alignment 4": lambda: header({**LLAMA, "general.alignment": 4}, TENSORS),
    "alignment 2 MiB": lambda: header({**LLAMA, "general.alignment": 1 << 21}, TENSORS),
    "a tensor's name of 63 bytes": lambda: header(LLAMA, [TensorSpec("n" * 63, (32,), "F32")]),
    "70 MB of numbers": lambda: with_keys(key_value(b"k", struct.pack("<IIQ", 9, 0, 70_000_000) + bytes(70_000_000))),
    "5 million strings": lambda: with_keys(key_value(b"k", struct.pack("<IIQ", 9, 8, 5_000_000) + bytes(40_000_000))),
}


@pytest.mark.parametrize("name", ODD)
def test_what_the_engine_loads_is_read(name: str) -> None:
    raw = ODD[name]()
    begin = time.perf_counter()
    assert read(raw).architecture == "llama"
    assert time.perf_counter() - begin < 2  # 0.4 s for the strings on the reference machine


def test_text_without_end_is_passed_over() -> None:
    parsed = read(ODD["17 MB of text"]())
    assert set(parsed.array_lengths.values()) == {gguf.MAX_KEPT_STRING_BYTES}
    assert sum(len(str(value)) for value in parsed.metadata.values()) <= gguf.MAX_KEPT_BYTES


def test_keys_without_end_are_refused() -> None:
    with pytest.raises(IntegrityError, match=r"its keys have more than 16777216 bytes, at key 25\d of"):
        read(with_keys(*(key_value(b"%05d" % number + b"k" * 65_500, ONE) for number in range(300))))


def test_what_was_passed_over_can_be_found_again() -> None:
    raw = header({**LLAMA, "numbers": [7] * 2000, "after": 1}, TENSORS)
    (span,) = read(raw).array_spans.values()
    assert raw[slice(*span)].startswith(struct.pack("<Q", 7) + b"numbers")
    assert raw[span[1] :].startswith(struct.pack("<Q", 5) + b"after")


def test_a_file_cut_off_in_its_weights_says_both_sizes(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", model_shape("tiny"), fill=Fill.SPARSE)
    whole = path.stat().st_size
    assert gguf.read_file(path).architecture == "llama"
    cut(path, whole - 1)
    with pytest.raises(
        IntegrityError, match=f"model.gguf is cut off: its header promises {whole} bytes, the file has {whole - 1}$"
    ) as caught:
        gguf.read_file(path)
    assert caught.value.hint
    assert gguf.read_file(path, whole=False).data_offset < whole


def test_a_header_alone_is_enough_to_plan_with(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", model_shape("tiny"), fill=Fill.NOTHING)
    assert gguf.read_file(path, whole=False).tensor_bytes > 0
    with pytest.raises(IntegrityError, match="is cut off"):
        gguf.read_file(path)


def test_cut_off_anywhere(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", model_shape("tiny"))
    for size_bytes in range(path.stat().st_size - 1, 0, -331):
        cut(path, size_bytes)
        with pytest.raises(IntegrityError, match=r"is cut off|text file"):
            gguf.read_file(path)


def test_what_a_plan_is_told_of_the_tokenizer_is_kept(tmp_path: Path) -> None:
    parsed = gguf.read_file(write_model(tmp_path / "model.gguf", model_shape("tiny")), whole=False)
    assert parsed.metadata["tokenizer.ggml.model"] == "llama"
    assert parsed.metadata["llama.context_length"] == 512
    assert parsed.chat_template and "messages" in parsed.chat_template
    assert {tensor.type for tensor in parsed.tensors} == {"F32", "Q4_0", "Q8_0"}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"absent\.gguf does not exist"):
        gguf.read_file(tmp_path / "absent.gguf")
    with pytest.raises(NotFoundError, match="is not a file"):
        gguf.read_file(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(NotFoundError, match="is not a file"):
        gguf.read_file(tmp_path / "pipe.gguf")
    if os.geteuid():
        closed = write(tmp_path / "closed.gguf", LLAMA)
        closed.chmod(0)
        with pytest.raises(AccessError, match="may not be read"):
            gguf.read_file(closed)


def vocabulary(n_vocab: int) -> dict[str, Value]:
    tokens = [f"\u2581token{number}" for number in range(n_vocab)]
    return {**LLAMA, "tokens": tokens, "scores": [0.0] * n_vocab, "types": [1] * n_vocab}


def test_a_large_vocabulary_is_passed_over_in_no_time_and_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", vocabulary(262_144), TENSORS)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        gguf.read_file(path, whole=False)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.15  # 0.025 s on the reference machine; ten times as much if it were materialised
    tracemalloc.start()
    gguf.read_file(path, whole=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * WINDOW_BYTES


@pytest.mark.parametrize("length", [0, 1])
def test_a_million_strings_take_under_half_a_second(length: int) -> None:
    count = 1 << 20
    raw = with_keys(key_value(b"k", struct.pack("<IIQ", 9, 8, count)))
    raw += (struct.pack("<Q", length) + b"x" * length) * count
    begin = time.process_time()
    assert read(raw).array_lengths == {"k": count}
    assert time.process_time() - begin < 0.5  # 0.08 s on the reference machine


def test_damage_in_the_middle_of_a_real_file(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", model_shape("tiny"))
    overwrite(path, 8, struct.pack("<Q", 5))  # fewer tensors than there are: the weights begin elsewhere
    with_less = gguf.read_file(path)
    assert len(with_less.tensors) == 5
    overwrite(path, 8, struct.pack("<Q", 60))  # more: the next "name" is weights
    with pytest.raises(IntegrityError, match="tensor 21 of 60"):
        gguf.read_file(path)


def test_a_file_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(header(LLAMA, TENSORS))
    first = gguf.read_file(path, whole=False)
    assert gguf.read_file(path, whole=False) is first
    other = tmp_path / "other.gguf"
    other.write_bytes(path.read_bytes().replace(b"llama", b"qwen2"))
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert gguf.read_file(path, whole=False).architecture == "qwen2"
