"""An engine that dies again and again while it loads isn't started for ever."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import paths
from llmctl.engine import failures
from llmctl.engine.pool import Pool
from llmctl.errors import EngineDiedError
from llmctl.types.plan import Fit
from tests.fakes.fits import fit_for
from tests.fakes.scripted_model import write_scripted

AGAIN = "has failed 2 times with these settings, so it isn't started again for 10 min; the last time: the engine died: "


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    return fit_for(write_scripted(tmp_path / "model.gguf", ["The", " answer"]))


def dies(fit: Fit, keep_alive_s: float = 0) -> None:
    """The engine for ``fit`` is killed before it has loaded."""
    with Pool(keep_alive_s=keep_alive_s) as pool:
        pool.prepare()
        assert pool._prepared is not None
        os.kill(pool._prepared.pid, signal.SIGKILL)
        with pytest.raises(EngineDiedError, match="engine died: it was killed"), pool.lease(fit):
            pytest.fail("it has loaded")


def loads(fit: Fit) -> bool:
    with Pool().lease(fit):
        return True


def failed(fit: Fit) -> None:
    """As ``dies``, without an engine."""
    with pytest.raises(EngineDiedError, match="killed"), failures.counted(fit):
        raise EngineDiedError("killed")


def is_tried(fit: Fit) -> bool:
    with failures.counted(fit):
        return True


def kept() -> Path:
    return paths.state_dir() / "engines" / "failures.json"


@pytest.mark.parametrize("keep_alive_s", [0, 60])
def test_it_is_not_started_a_third_time(fit: Fit, keep_alive_s: float) -> None:
    dies(fit, keep_alive_s)
    dies(fit, keep_alive_s)
    refused = pytest.raises(EngineDiedError, match=AGAIN)
    with Pool(keep_alive_s=keep_alive_s) as pool, refused as caught, pool.lease(fit):
        pytest.fail("it was started")
    assert caught.value.hint == f"llmctl doctor   or, to try it all the same, rm {kept()}"
    assert stat.S_IMODE(kept().stat().st_mode) == 0o600
    kept().unlink()
    assert loads(fit)


def test_once_is_forgiven_when_it_has_loaded(fit: Fit) -> None:
    dies(fit)
    assert loads(fit)
    dies(fit)
    assert loads(fit)
    assert kept().read_bytes() == b"{}"


def other_settings(fit: Fit) -> Fit:
    return replace(fit, configuration=replace(fit.configuration, context=256))


def other_file(fit: Fit) -> Fit:
    assert fit.candidate.path is not None
    os.utime(fit.candidate.path, (1, 1))
    return fit


def later(fit: Fit) -> Fit:
    shift(fit, -failures.FORGOTTEN_S)
    return fit


def clock_set_back(fit: Fit) -> Fit:
    shift(fit, 3600)
    return fit


def shift(fit: Fit, seconds: float) -> None:
    """The deaths were so much later."""
    read = failures._read()
    failures._write(
        {key: replace(one, died_s=tuple(died_s + seconds for died_s in one.died_s)) for key, one in read.items()}
    )


@pytest.mark.parametrize("change", [other_settings, other_file, later, clock_set_back])
def test_another_one_is_tried_at_once(fit: Fit, change: Callable[[Fit], Fit]) -> None:
    for _ in range(failures.MOST):
        failed(fit)
    with pytest.raises(EngineDiedError, match=AGAIN.partition(";")[0]):
        is_tried(fit)
    assert is_tried(change(fit))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"key": {"died_s": 1}}', b"\xff"])
def test_what_is_no_record_counts_for_nothing(fit: Fit, content: bytes) -> None:
    kept().parent.mkdir(parents=True)
    kept().write_bytes(content)
    failed(fit)
    assert is_tried(fit)


def test_a_want_of_memory_is_remembered_as_such(fit: Fit) -> None:
    error = EngineDiedError("memory ran out")
    error.lacked_memory = True
    for _ in range(failures.MOST):
        with pytest.raises(EngineDiedError), failures.counted(fit):
            raise error
    with pytest.raises(EngineDiedError, match="the last time: memory ran out") as caught, failures.counted(fit):
        pytest.fail("it was started")
    assert caught.value.lacked_memory, "so that the next step down is taken at once"
    assert time.time() - failures._read()[failures._key(fit)].died_s[-1] < 60
