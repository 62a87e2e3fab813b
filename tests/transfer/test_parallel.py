"""Transfers over several connections, and what a server may do to them."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies
from msgspec.structs import replace

from llmctl import net, settings
from llmctl.errors import IntegrityError, LlmctlError
from llmctl.store import Store
from llmctl.transfer import ramp_up, retry, segments, transfer
from llmctl.types.model import Source
from llmctl.workspace.fetcher import Fetcher
from tests.fakes.hub import Asked, FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
TICK_S = transfer.TICK_S
SHARE = 6_000_000  # bytes per second, of every connection
Add = Callable[..., Path]
Stored = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a few MiB worth several connections, and decides at once."""
    monkeypatch.setattr(ramp_up, "SETTLE_S", 0.0)
    monkeypatch.setattr(ramp_up, "WINDOW_S", 0.03)
    monkeypatch.setattr(ramp_up, "WORTH_S", 0.0)
    monkeypatch.setattr(segments, "LEAST_BYTES", 64 << 10)
    monkeypatch.setattr(segments, "FEW_BYTES", 64 << 10)
    monkeypatch.setattr(transfer, "TICK_S", 0.005)
    monkeypatch.setattr(transfer, "WAIT_S", 0.02)


def gets(hub: FakeHub) -> list[Asked]:
    return [one for one in hub.requests if one.side == "cdn"]


def right(path: Path, hub: FakeHub) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == hub.sha256(REPO, FILE)


def test_several_where_every_connection_has_its_share(hub: FakeHub, add: Add, source: Source) -> None:
    share = SHARE // 8  # slow, so that what the machine itself takes is little beside it
    hub.switch(bytes_per_s=share)
    begun_s = time.monotonic()
    assert right(add(source), hub)
    assert time.monotonic() - begun_s < hub.size(REPO, FILE) / share / 2
    assert 4 <= hub.most_busy <= ramp_up.MOST + 2  # it counts for a moment those that have just hung up
    asked = [re.fullmatch(r"bytes=(\d+)-(\d*)", one.headers.get("Range", "bytes=0-")) for one in gets(hub)]
    starts = [int(one[1]) for one in asked if one is not None]
    assert len(set(starts)) == len(starts) == len(gets(hub))
    assert all("If-Range" in one.headers for one in gets(hub)[1:])


def test_a_part_takes_no_question_and_no_connection_of_its_own(hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(bytes_per_s=SHARE // 8)  # slow enough for several parts on a busy machine as well
    add(source)
    assert len(gets(hub)) > hub.count("hub", "GET")
    assert len(gets(hub)) > hub.opened.count("cdn")


def test_an_address_that_expires_is_asked_for_anew(hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(bytes_per_s=SHARE, answers=[{}] * 10 + [{"cdn_status": 403}] * 3)
    assert right(add(source), hub)


def test_progress_of_many_is_one(hub: FakeHub, add: Add, source: Source) -> None:
    seen: list[tuple[int, int | None]] = []
    hub.switch(bytes_per_s=SHARE)
    add(source, progress=lambda done, total: seen.append((done, total)))
    size = hub.size(REPO, FILE)
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    assert seen == sorted(set(seen))


def test_progress_is_not_told_more_often_than_anyone_can_see(
    hub: FakeHub, add: Add, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TICK_S", TICK_S)
    hub.switch(bytes_per_s=SHARE)
    told_s: list[float] = []
    add(source, progress=lambda done, total: told_s.append(time.monotonic()))
    assert len(told_s) <= 2 + (told_s[-1] - told_s[0]) * 21


ALONE: dict[str, dict[str, object]] = {
    "no ranges, and says so": {"ranges": False, "accept_ranges": "none"},
    "no ranges, and doesn't say so": {"ranges": False, "accept_ranges": None},
    "no part but the first": {"answers": [{}] + [{"cdn_status": 416}] * 99},
    "lies about every part": {"answers": [{}] + [{"lie_about_range": 7}] * 99},
    "one at a time": {"connections": 1},
    "encodes what comes later": {"answers": [{}] + [{"encoding": "gzip"}] * 99},
    "a log-in page for what comes later": {"answers": [{}] + [{"cdn_status": 511}] * 99},
}


@pytest.mark.parametrize("switches", ALONE.values(), ids=ALONE.keys())
def test_one_connection_where_the_server_has_no_more(
    switches: dict[str, object], hub: FakeHub, add: Add, source: Source
) -> None:
    """The first goes on, and gets every byte. It is slow enough not to reach another's part before that is refused."""
    hub.switch(bytes_per_s=SHARE // 2, **switches)
    assert right(add(source), hub)
    assert hub.sent_bytes < hub.size(REPO, FILE) * 1.3
    assert "Range" not in gets(hub)[0].headers


def test_no_more_connections_than_the_server_takes(hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(bytes_per_s=SHARE // 2, connections=3)
    assert right(add(source), hub)
    assert hub.most_busy > 3
    assert hub.turned_away <= 8


def test_retry_after_holds_for_new_connections_while_others_go_on(hub: FakeHub, add: Add, source: Source) -> None:
    turned_away = {"cdn_status": 429, "retry_after": "1"}
    hub.switch(bytes_per_s=SHARE // 2, answers=[{}, turned_away])
    assert right(add(source), hub)
    first, second, *others = gets(hub)
    assert second.at_s - first.at_s < 0.9
    assert all(one.at_s - second.at_s >= 1 for one in others)


def test_a_stalled_connection_is_given_up_and_its_part_fetched_by_another(
    hub: FakeHub, add: Add, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "WATCH_S", 0.1)
    hub.switch(bytes_per_s=SHARE // 8, answers=[{}, {}, {}, {"stall_after_bytes": 5000}, {"bytes_per_s": 5000}])
    begun_s = time.monotonic()
    assert right(add(source), hub)
    assert time.monotonic() - begun_s < net.Timing().idle_s / 3


def test_another_etag_in_the_middle_starts_over(hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(bytes_per_s=SHARE, etag='"new"', answers=[{"etag": '"old"'}])
    assert right(add(source), hub)
    assert sum("Range" not in one.headers for one in gets(hub)) == 2  # the first, and the one that starts over


def test_parts_that_do_not_fit_together_are_fetched_as_one(hub: FakeHub, add: Add, source: Source) -> None:
    """A broken cache on the way: all answers but the first hold a wrong byte near the end."""
    size = hub.size(REPO, FILE)
    hub.switch(bytes_per_s=SHARE // 2, answers=[{}, *[{"wrong_byte_at": size - 5}] * 200])
    wrong = hub.switches.answers

    def progress(done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes == size:
            wrong.clear()

    assert right(add(source, progress=progress), hub)
    assert sum("Range" not in one.headers for one in gets(hub)) == 2  # the first, and the one that fetches it as one


def test_a_wrong_byte_in_the_source_is_told_and_nothing_stored(
    hub: FakeHub, add: Add, source: Source, stored: Stored
) -> None:
    hub.switch(bytes_per_s=SHARE, wrong_byte_at=2_000_000)
    with pytest.raises(IntegrityError, match="sha256"):
        add(source)
    assert stored() == []


def test_ctrl_c_ends_every_connection_and_keeps_what_they_brought(hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(bytes_per_s=SHARE // 4)

    def progress(done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes >= 1_500_000:
            raise KeyboardInterrupt

    begun_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        add(source, progress=progress)
    assert time.monotonic() - begun_s < 3
    assert Store().find(source) is None
    assert hub.most_busy > 2
    hub.switch()
    hub.settle()
    before_bytes = hub.sent_bytes
    assert right(add(source), hub)
    hub.settle()
    assert hub.sent_bytes - before_bytes < hub.size(REPO, FILE) - 1_400_000


@pytest.mark.parametrize("server", [{}, {"bytes_per_s": 700_000}], ids=["fast", "slow, with many connections"])
def test_limit_rate(server: dict[str, object], hub: FakeHub, source: Source) -> None:
    hub.switch(**server)
    limit_bytes_per_s, seen = 3_000_000, [(time.monotonic(), 0)]

    def progress(done_bytes: int, total_bytes: int | None) -> None:
        seen.append((time.monotonic(), done_bytes))

    Fetcher(Store(), settings.load(), limit_bytes_per_s).add(source, progress)
    wanted_s = hub.size(REPO, FILE) / limit_bytes_per_s
    assert wanted_s * 0.9 < seen[-1][0] - seen[0][0] < wanted_s * 1.7  # a start and an end have their own times
    for (one_s, one_bytes), (other_s, other_bytes) in pairwise(seen):
        assert other_bytes - one_bytes <= limit_bytes_per_s * (other_s - one_s + 0.25)


FAULTS: list[dict[str, object]] = [
    *[{}] * 10,
    {"drop_after_bytes": 0},
    {"drop_after_bytes": 70_000},
    {"drop_after_bytes": 300_000},
    {"stall_after_bytes": 30_000},
    {"cdn_status": 500},
    {"cdn_status": 429},
    {"cdn_status": 403},
    {"cdn_status": 416},
    {"cdn_status": 204},
    {"ranges": False},
    {"lie_about_range": 1000},
    {"etag": '"another"'},
    {"etag": 'W/"weak"'},
    {"encoding": "gzip"},
    {"lengths": False},
    {"lengths": False, "drop_after_bytes": 100_000},
    {"extra_bytes": 3},
    {"wrong_byte_at": 1_000_000},
    {"accept_ranges": "none"},
]


@hypothesis.given(strategies.lists(strategies.sampled_from(FAULTS), min_size=1, max_size=25), strategies.booleans())
@hypothesis.settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
def test_whatever_goes_wrong_the_file_is_right_or_nothing_is_stored(
    hub: FakeHub, add: Add, source: Source, home: Path, faults: list[dict[str, object]], known: bool
) -> None:
    """Then, without faults, the same command always ends well."""
    blobs = home / "cache/huggingface/hub/models--maker--tiny-GGUF/blobs"
    for left in blobs.parent.rglob("*"):
        if not left.is_dir():
            left.unlink()
    wanted = source if known else replace(source, sha256=hub.sha256(REPO, FILE))
    hub.switch(bytes_per_s=20_000_000, lfs_headers=known, answers=[dict(one) for one in faults])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmctl.net.timing.TIMING", net.Timing(idle_s=0.2, answer_s=0.2))
        patch.setattr(ramp_up, "WINDOW_S", 0.01)
        patch.setattr(transfer, "WATCH_S", 0.1)
        patch.setattr(retry, "FIRST_TRIES", 3)
        try:
            assert right(add(wanted), hub)
        except LlmctlError:
            assert Store().find(wanted) is None
            assert not (blobs / hub.sha256(REPO, FILE)).exists()
    hub.switch()
    assert right(add(wanted), hub)
    assert [one.name for one in blobs.iterdir()] == [hub.sha256(REPO, FILE)]
