"""Transfers over one connection that break, and how they go on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl import net
from llmctl.errors import IntegrityError, NetworkError
from llmctl.store import Store
from llmctl.transfer import range_request, retry, transfer
from llmctl.transfer.partial_file import noted_bytes
from llmctl.types.model import Source
from tests.fakes.hub import Asked, FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
Add = Callable[..., Path]
Stored = Callable[[], list[str]]


def blob(home: Path, hub: FakeHub) -> Path:
    return home / "cache/huggingface/hub/models--maker--tiny-GGUF/blobs" / hub.sha256(REPO, FILE)


def left_by_another(home: Path, hub: FakeHub, content: bytes) -> Path:
    """What an older tool of the hub leaves behind."""
    path = blob(home, hub).with_name(f"{hub.sha256(REPO, FILE)}.incomplete")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def gets(hub: FakeHub) -> list[Asked]:
    return [one for one in hub.requests if one.side == "cdn"]


def right(path: Path, hub: FakeHub) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == hub.sha256(REPO, FILE)


def interrupt(hub: FakeHub, add: Add, source: Source, at_bytes: int) -> int:
    """Ctrl-C when so much is there, of a server that then sends no more. Returns what is kept."""

    def progress(done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes >= at_bytes:
            raise KeyboardInterrupt

    hub.switch(stall_after_bytes=at_bytes)
    with pytest.raises(KeyboardInterrupt):
        add(source, progress=progress)
    hub.switch()
    return at_bytes


def test_a_dropped_connection_is_taken_up_where_it_broke(hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(drop_after_bytes=1_000_000, times=2)
    assert right(add(source), hub)
    ranges = [one.headers.get("Range") for one in gets(hub)]
    assert ranges == [None, "bytes=1000000-", "bytes=2000000-"]
    assert gets(hub)[1].headers["If-Range"] == f'"{hub.sha256(REPO, FILE)[:32]}"'


def test_patience_ends_without_progress_and_the_part_is_kept(
    hub: FakeHub, add: Add, source: Source, home: Path
) -> None:
    hub.switch(drop_after_bytes=100)
    with pytest.raises(NetworkError, match="broke the connection") as caught:
        add(source)
    assert caught.value.hint == "run the same command again: it goes on after 300 B"
    assert len(gets(hub)) == 1 + retry.FIRST_TRIES
    assert noted_bytes(blob(home, hub)) == 100 * len(gets(hub))


def test_patience_is_full_again_after_progress(
    hub: FakeHub, add: Add, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "REFILL_BYTES", 200_000)
    hub.switch(drop_after_bytes=250_000)
    assert right(add(source), hub)
    assert len(gets(hub)) > 2 + retry.TRIES


def test_fetching_the_same_again_and_again_is_no_progress(hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(ranges=False, drop_after_bytes=2_000_000)
    with pytest.raises(NetworkError, match="broke the connection"):
        add(source)
    assert len(gets(hub)) == 1 + retry.TRIES


@pytest.mark.parametrize("status", [500, 503, 429, 403])
def test_a_server_that_recovers(status: int, hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(cdn_status=status, times=2)
    assert right(add(source), hub)


def test_retry_after_is_waited_for(hub: FakeHub, add: Add, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("llmctl.transfer.retry.time.sleep", waits.append)
    hub.switch(hub_status=429, retry_after="7", times=1)
    assert right(add(source), hub)
    assert waits == [7.0]


def test_a_stall_ends(hub: FakeHub, add: Add, source: Source, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.net.timing.TIMING", net.Timing(idle_s=0.1, answer_s=0.1))
    hub.switch(stall_after_bytes=1000)
    with pytest.raises(NetworkError, match="sent nothing"):
        add(source)
    assert noted_bytes(blob(home, hub)) >= 1000


def test_a_trickle_ends(hub: FakeHub, add: Add, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_request, "SLOW_WINDOW_S", 0.2)
    monkeypatch.setattr(range_request, "SLOWEST_BYTES_PER_S", 50_000)
    hub.switch(bytes_per_s=5_000)
    with pytest.raises(NetworkError, match="sent only"):
        add(source)


def test_ctrl_c_keeps_the_part(hub: FakeHub, add: Add, source: Source, home: Path, stored: Stored) -> None:
    kept = interrupt(hub, add, source, 1_500_000)
    assert noted_bytes(blob(home, hub)) == kept
    assert Store().find(source) is None
    seen: list[int] = []
    assert right(add(source, progress=lambda done, total: seen.append(done)), hub)
    assert gets(hub)[-1].headers["Range"] == f"bytes={kept}-"
    assert seen[0] == kept
    assert not any("incomplete" in name for name in stored())


AGAIN = {
    "no ranges": {"ranges": False},
    "changed etag": {"etag": '"another"'},
    "no etag to speak of": {"etag": 'W/"weak"'},
}


@pytest.mark.parametrize("switches", AGAIN.values(), ids=AGAIN.keys())
def test_a_part_that_cannot_be_gone_on_with_is_fetched_anew(
    switches: dict[str, object], hub: FakeHub, add: Add, source: Source, stored: Stored
) -> None:
    interrupt(hub, add, source, 1_000_000)
    hub.switch(**switches)
    assert right(add(source), hub)
    assert len(stored()) == 3


def test_a_lie_about_the_range_is_not_believed(hub: FakeHub, add: Add, source: Source, home: Path) -> None:
    kept = interrupt(hub, add, source, 1_000_000)
    hub.switch(lie_about_range=17)
    assert right(add(source), hub)
    assert [one.headers.get("Range") for one in gets(hub)] == [None, f"bytes={kept}-", None]


DAMAGE = {
    "other bytes": lambda raw: b"x" * len(raw),
    "complete but for its name": lambda raw: raw,
    "one byte off": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    "longer than the file": lambda raw: raw + b"x",
    "empty": lambda raw: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_whatever_a_part_holds_the_file_is_right(
    damage: Callable[[bytes], bytes],
    hub: FakeHub,
    add: Add,
    source: Source,
    home: Path,
    model_file: Path,
    stored: Stored,
) -> None:
    left_by_another(home, hub, damage(model_file.read_bytes()))
    assert right(add(source), hub)
    assert len(stored()) == 3


def test_a_complete_part_is_not_fetched_again(
    hub: FakeHub, add: Add, source: Source, home: Path, model_file: Path
) -> None:
    left_by_another(home, hub, model_file.read_bytes())
    add(source)
    assert hub.count("hub", "GET") == 0


def test_a_range_that_the_server_does_not_know(
    hub: FakeHub, add: Add, source: Source, home: Path, model_file: Path
) -> None:
    """Everything is there, but nobody states the size: the server answers 416, and sends it all."""
    left_by_another(home, hub, model_file.read_bytes())
    hub.switch(lfs_headers=False, lengths=False)
    assert right(add(replace(source, sha256=hub.sha256(REPO, FILE))), hub)
    assert [one.headers.get("Range") for one in gets(hub)] == [f"bytes={hub.size(REPO, FILE)}-", None]


def test_a_size_that_nobody_states(hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(lfs_headers=False, lengths=False)
    seen: list[tuple[int, int | None]] = []
    known = replace(source, sha256=hub.sha256(REPO, FILE))
    assert right(add(known, progress=lambda done, total: seen.append((done, total))), hub)
    size = hub.size(REPO, FILE)
    assert seen[0] == (0, None)
    assert seen[-1][0] == size
    assert {total for done, total in seen if done < size} == {None}


def test_a_wrong_byte_after_a_resume_costs_one_more_transfer_and_no_more(
    hub: FakeHub, add: Add, source: Source, stored: Stored
) -> None:
    interrupt(hub, add, source, 1_000_000)
    hub.switch(wrong_byte_at=2_500_000)
    with pytest.raises(IntegrityError, match="sha256"):
        add(source)
    assert len(gets(hub)) == 3
    assert stored() == []


def test_a_login_page_in_place_of_the_rest_leaves_the_part_alone(
    hub: FakeHub, add: Add, source: Source, home: Path
) -> None:
    kept = interrupt(hub, add, source, 1_000_000)
    hub.switch(ranges=False, linked_bytes=hub.size(REPO, FILE))
    hub.repos = {REPO: {FILE: b"<html>Welcome</html>"}}
    with pytest.raises(IntegrityError, match="offers 20 bytes"):
        add(source)
    assert noted_bytes(blob(home, hub)) == kept
