from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.errors import IntegrityError, NotFoundError
from llmctl.gguf.header import read_file
from llmctl.gguf.shards import MAX_SHARDS, read_model, shard_names
from tests.fakes.gguf_file import Kind, Value, llama_metadata, llama_tensors, model_shape, write


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.gguf", ["model.gguf"]),
        ("a-00001-of-00001.gguf", ["a-00001-of-00001.gguf"]),
        ("Q4/a-00002-of-00003.gguf", [f"Q4/a-0000{part}-of-00003.gguf" for part in (1, 2, 3)]),
        ("-00001-of-00002.gguf", ["-00001-of-00002.gguf"]),  # no name before the numbers: not a split file
        ("a-1-of-2.gguf", ["a-1-of-2.gguf"]),
        ("a-00001-of-00002.GGUF", ["a-00001-of-00002.GGUF", "a-00002-of-00002.GGUF"]),
        ("a-٠٠٠٠١-of-٠٠٠٠٢.gguf", ["a-٠٠٠٠١-of-٠٠٠٠٢.gguf"]),  # digits, but not these
        ("a-00001-of-00002.gguf.part", ["a-00001-of-00002.gguf.part"]),
    ],
)
def test_shard_names(name: str, expected: list[str]) -> None:
    assert shard_names(name) == expected


@pytest.mark.parametrize("numbers", ["00000-of-00003", "00004-of-00003", "00001-of-00000", "00001-of-99999"])
def test_numbers_that_make_no_sense(numbers: str) -> None:
    with pytest.raises(IntegrityError, match=r"claims to be part \d+ of \d+"):
        shard_names(f"a-{numbers}.gguf")


@given(total=st.integers(1, MAX_SHARDS), part=st.data())
def test_every_part_names_the_same_parts(total: int, part: st.DataObject) -> None:
    names = shard_names(f"a-00001-of-{total:05}.gguf")
    assert len(names) == len(set(names)) == total
    assert shard_names(part.draw(st.sampled_from(names))) == names


TINY = model_shape("tiny")
TENSORS = llama_tensors(TINY)


BOUNDS = (0, 8, 8, 16, len(TENSORS))  # one part has no tensors


def split(folder: Path, first: Mapping[str, Value] = MappingProxyType({})) -> list[Path]:
    """As llama-gguf-split writes it: the model's metadata stand in the first part alone."""
    total, made = len(BOUNDS) - 1, []
    for number, (start, end) in enumerate(pairwise(BOUNDS)):
        part: dict[str, Value] = {
            "split.no": Kind(2, "H", number),
            "split.count": Kind(2, "H", total),
            "split.tensors.count": Kind(5, "i", len(TENSORS)),
        }
        metadata = llama_metadata(TINY) | part | dict(first)
        name = f"t-{number + 1:05}-of-{total:05}.gguf"
        made.append(write(folder / name, part if number else metadata, TENSORS[start:end]))
    return made


def test_all_parts_make_one_header(tmp_path: Path) -> None:
    whole = read_file(write(tmp_path / "whole.gguf", llama_metadata(TINY), TENSORS), whole=False)
    parts = split(tmp_path)
    for part in parts:
        files, header = read_model(part)
        assert files == parts
        assert [(tensor.name, tensor.shape, tensor.type, tensor.nbytes) for tensor in header.tensors] == [
            (tensor.name, tensor.shape, tensor.type, tensor.nbytes) for tensor in whole.tensors
        ]
        assert header.tensor_bytes == whole.tensor_bytes
        assert (header.architecture, header.chat_template) == ("llama", whole.chat_template)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[1].unlink()
    parts[3].unlink()
    with pytest.raises(NotFoundError, match=r"2 of the model's 4 parts are missing: t-00002-of-\S+, t-00004") as caught:
        read_model(parts[0])
    assert str(tmp_path) in (caught.value.hint or "")


def test_many_missing_parts_are_counted(tmp_path: Path) -> None:
    (part, *_) = split(tmp_path)
    alone = part.rename(tmp_path / "t-00003-of-00900.gguf")
    with pytest.raises(NotFoundError, match=r"899 of the model's 900 .*, t-00006-of-00900.gguf and 894 more$"):
        read_model(alone)


def test_parts_by_another_name_are_told(tmp_path: Path) -> None:
    first, second, *_ = split(tmp_path)
    with pytest.raises(IntegrityError, match=r"renamed\.gguf is one of 4 parts by its header, one of 1 by its name"):
        read_model(first.rename(tmp_path / "renamed.gguf"))
    second.rename(first)
    write(second, {"split.no": Kind(2, "H", 1), "split.count": Kind(2, "H", 4)})
    with pytest.raises(IntegrityError, match=r"t-00001-of-00004\.gguf is number 1 of the parts"):
        read_model(first)


def test_parts_that_do_not_go_together(tmp_path: Path) -> None:
    parts = split(tmp_path)
    write(parts[3], {"split.no": Kind(2, "H", 3), "split.count": Kind(2, "H", 4)}, TENSORS[:1])
    with pytest.raises(
        IntegrityError, match=r"t-00004-of-00004\.gguf holds tensor 'token_embd\.weight', which another"
    ):
        read_model(parts[0])
    write(parts[3], {"split.no": Kind(2, "H", 3), "split.count": Kind(2, "H", 4)})
    with pytest.raises(IntegrityError, match=rf"promises {len(TENSORS)} tensors in all parts, they hold 16"):
        read_model(parts[0])


@pytest.mark.parametrize("key", ["split.count", "split.no", "split.tensors.count"])
def test_figures_of_another_kind(tmp_path: Path, key: str) -> None:
    parts = split(tmp_path, {key: "\x1b[2J many"})
    with pytest.raises(IntegrityError, match=rf"t-00001-of-00004\.gguf has .* as {key}, not a number") as caught:
        read_model(parts[0])
    assert caught.value.message.isprintable()


def test_one_file_may_say_that_it_is_one_of_one_or_of_none(tmp_path: Path) -> None:
    for count in (0, 1):
        metadata = llama_metadata(TINY) | {"split.no": Kind(2, "H", 0), "split.count": Kind(2, "H", count)}
        path = write(tmp_path / "a.gguf", metadata, TENSORS)
        assert read_model(path)[0] == [path]
