"""The tree of errors is the contract's table of exit codes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from llmctl import errors
from llmctl.errors import LlmctlError

# contract.md, "Exit codes"
CONTRACT = {
    "LlmctlError": 1,
    "UsageError": 2,
    "NothingFitsError": 3,
    "NotFoundError": 4,
    "NetworkError": 5,
    "IntegrityError": 6,
    "ResourceError": 7,
    "EngineError": 8,
    "AccessError": 9,
    "ConfigError": 10,
    "PolicyError": 11,
}


def tree(root: type[LlmctlError] = LlmctlError) -> Iterator[type[LlmctlError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


CLASSES = [one for one in tree() if one.__module__ == errors.__name__]


def test_exit_codes() -> None:
    direct = {one.__name__: one.exit_code for one in CLASSES if one is LlmctlError or one.__base__ is LlmctlError}
    assert direct == CONTRACT


@pytest.mark.parametrize("kind", CLASSES)
def test_a_special_case_exits_like_its_parent(kind: type[LlmctlError]) -> None:
    parent = kind.__base__
    assert parent is not None
    if issubclass(parent, LlmctlError) and parent is not LlmctlError:
        assert kind.exit_code == parent.exit_code


def test_codes_are_unique_and_stable() -> None:
    codes = [one.code for one in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_each_exit_code_has_its_own_meaning() -> None:
    """The table of docs/reference.md is made of these."""
    direct = [one for one in CLASSES if one.__name__ in CONTRACT]
    assert len({one.meaning for one in direct}) == len(direct)


def test_the_tree_drawn_at_the_top_is_the_tree() -> None:
    drawn = re.findall(r"(\w+Error) +(\d+)  ", errors.__doc__ or "")
    assert {name: int(code) for name, code in drawn} == {one.__name__: one.exit_code for one in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_message_and_hint(kind: type[LlmctlError]) -> None:
    error = kind("19.2 GB short", hint="llmctl plan")
    assert str(error) == error.message == "19.2 GB short"
    assert error.hint == "llmctl plan"
    assert kind("x").hint is None
