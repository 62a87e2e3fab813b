"""What pip's own words are taken for, and a real pip that may not write."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmctl.errors import IntegrityError, LlmctlError, NetworkError, NotFoundError, ResourceError
from llmctl.store import pip
from tests.store.test_wheels import write_wheel

LIMIT_BYTES = 200_000


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        (
            """ProtocolError: ("Connection broken: OSError(28, 'No space left on device')", OSError(28, …))""",
            ResourceError,
            "the disk ran full",
        ),
        ("ERROR: Could not install packages due to an OSError: [Errno 122] Disk quota exceeded", ResourceError, "full"),
        (
            """ProtocolError: ("Connection broken: OSError(27, 'File too large')", OSError(27, 'File too large'))""",
            ResourceError,
            "may not write a file that large",
        ),
        (
            "OSError: [Errno 30] Read-only file system: '/m/idna.whl'",
            ResourceError,
            "can't write x: Read-only file system",
        ),
        ("OSError: [Errno 12] Cannot allocate memory", ResourceError, "not enough memory"),
        ("ERROR: Wheel 'idna' located at /fl/idna-3.10-py3-none-any.whl is invalid.", IntegrityError, "is damaged"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", IntegrityError, "is damaged"),
        (
            "WARNING: Failed to establish a new connection: [Errno 13] Permission denied",
            NetworkError,
            "can't be reached (Permission denied)",
        ),
        ("ERROR: Could not find a version that satisfies x (from versions: none)", NetworkError, "or has no x"),
        ("ERROR: No matching distribution found for x", NotFoundError, "the package index has no x"),
    ],
)
def test_what_pip_says(line: str, error: type[LlmctlError], words: str) -> None:
    known = pip.known_failure("x", ["Collecting x", line])
    assert type(known) is error and words in known.message


def test_what_is_not_known() -> None:
    assert pip.known_failure("x", ["ERROR: something new"]) is None


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond LIMIT_BYTES: here, and in children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_is_larger_than_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    index, into = tmp_path / "index", tmp_path / "into"
    for folder in (index, into):
        folder.mkdir()
    name, version, *_ = write_wheel(index, random.Random(1).randbytes(2 * LIMIT_BYTES)).name.split("-")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    request.getfixturevalue("small_files")
    with pytest.raises(ResourceError, match="may not write a file that large"):
        pip.download(f"{name}=={version}", into, looking=lambda: None)
