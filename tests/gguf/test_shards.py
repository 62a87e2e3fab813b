from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.errors import IntegrityError
from llmctl.gguf.shards import MAX_SHARDS, shard_names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.gguf", ["model.gguf"]),
        ("a-00001-of-00001.gguf", ["a-00001-of-00001.gguf"]),
        ("Q4/a-00002-of-00003.gguf", [f"Q4/a-0000{part}-of-00003.gguf" for part in (1, 2, 3)]),
        ("-00001-of-00002.gguf", ["-00001-of-00002.gguf"]),  # no name before the numbers: not a split file
        ("a-1-of-2.gguf", ["a-1-of-2.gguf"]),
        ("a-00001-of-00002.GGUF", ["a-00001-of-00002.GGUF"]),
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
