"""Transfers that break, and how they go on."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmctl import net
from llmctl.errors import IntegrityError, NetworkError
from llmctl.store import Store, download, patience
from llmctl.types.model import Source
from tests.fakes.hub import Asked, FakeHub

REPO, FILE = "maker/tiny-GGUF", "tiny-Q4_0.gguf"
Add = Callable[..., Path]
Stored = Callable[[], list[str]]

CHILD = """
import sys
from llmctl import settings
from llmctl.errors import LlmctlError
from llmctl.store import Store
from llmctl.types.model import Source, SourceKind
limit_bytes, sha256 = int(sys.argv[1]), sys.argv[2] or None
if limit_bytes:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
source = Source(SourceKind.HUB, "maker/tiny-GGUF", "tiny-Q4_0.gguf", sha256=sha256)
try:
    print(Store().add(source, settings=settings.load(), progress=lambda done, total: None))
except LlmctlError as error:
    sys.exit(f"{type(error).__name__}: {error.message}")
"""


def child(limit_bytes: int = 0, sha256: str = "", before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-c", CHILD, str(limit_bytes), sha256],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def partial(home: Path, hub: FakeHub) -> Path:
    return home / "cache/huggingface/hub/models--maker--tiny-GGUF/blobs" / f"{hub.sha256(REPO, FILE)}.incomplete"


def gets(hub: FakeHub) -> list[Asked]:
    return [one for one in hub.requests if one.side == "cdn"]


def right(path: Path, hub: FakeHub) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == hub.sha256(REPO, FILE)


def interrupt(add: Add, source: Source, at_bytes: int) -> None:
    """Ctrl-C when so much is there."""

    def progress(done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes >= at_bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add(source, progress=progress)


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
    assert len(gets(hub)) == 1 + patience.FIRST_TRIES
    assert partial(home, hub).stat().st_size == 100 * len(gets(hub))


def test_patience_is_full_again_after_progress(
    hub: FakeHub, add: Add, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "REFILL_BYTES", 200_000)
    hub.switch(drop_after_bytes=250_000)
    assert right(add(source), hub)
    assert len(gets(hub)) > 2 + patience.TRIES


@pytest.mark.parametrize("status", [500, 503, 429, 403])
def test_a_server_that_recovers(status: int, hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(cdn_status=status, times=2)
    assert right(add(source), hub)


def test_retry_after_is_waited_for(hub: FakeHub, add: Add, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("llmctl.store.patience.time.sleep", waits.append)
    hub.switch(hub_status=429, retry_after="7", times=1)
    assert right(add(source), hub)
    assert waits == [7.0]


def test_a_stall_ends(hub: FakeHub, add: Add, source: Source, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "READ_TIMEOUT_S", 0.1)
    hub.switch(stall_after_bytes=1000)
    with pytest.raises(NetworkError, match="sent nothing"):
        add(source)
    assert partial(home, hub).stat().st_size >= 1000


def test_a_trickle_ends(hub: FakeHub, add: Add, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SLOW_WINDOW_S", 0.2)
    monkeypatch.setattr(download, "SLOWEST_BYTES_PER_S", 50_000)
    hub.switch(bytes_per_s=5_000)
    with pytest.raises(NetworkError, match="sent only"):
        add(source)


def test_ctrl_c_keeps_the_part(hub: FakeHub, add: Add, source: Source, home: Path, stored: Stored) -> None:
    interrupt(add, source, 1_500_000)
    kept = partial(home, hub).stat().st_size
    assert kept >= 1_500_000
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
    interrupt(add, source, 1_000_000)
    hub.switch(**switches)
    assert right(add(source), hub)
    assert len(stored()) == 3


def test_a_lie_about_the_range_is_not_believed(hub: FakeHub, add: Add, source: Source, home: Path) -> None:
    interrupt(add, source, 1_000_000)
    kept = partial(home, hub).stat().st_size
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
@pytest.mark.parametrize("etag", [True, False])
def test_whatever_a_part_holds_the_file_is_right(
    damage: Callable[[bytes], bytes],
    etag: bool,
    hub: FakeHub,
    add: Add,
    source: Source,
    home: Path,
    model_file: Path,
    stored: Stored,
) -> None:
    left = partial(home, hub)
    left.parent.mkdir(parents=True)
    left.write_bytes(damage(model_file.read_bytes()))
    if etag:
        left.with_name(left.name + ".etag").write_text(f'"{hub.sha256(REPO, FILE)[:32]}"')
    assert right(add(source), hub)
    assert len(stored()) == 3


def test_a_complete_part_is_not_fetched_again(
    hub: FakeHub, add: Add, source: Source, home: Path, model_file: Path
) -> None:
    left = partial(home, hub)
    left.parent.mkdir(parents=True)
    shutil.copy(model_file, left)
    add(source)
    assert hub.count("hub", "GET") == 0


def test_a_range_that_the_server_does_not_know(
    hub: FakeHub, add: Add, source: Source, home: Path, model_file: Path
) -> None:
    """Everything is there, but nobody states the size: the server answers 416, and sends it all."""
    left = partial(home, hub)
    left.parent.mkdir(parents=True)
    shutil.copy(model_file, left)
    hub.switch(lfs_headers=False, lengths=False)
    assert right(add(replace(source, sha256=hub.sha256(REPO, FILE))), hub)
    assert [one.headers.get("Range") for one in gets(hub)] == [f"bytes={hub.size(REPO, FILE)}-", None]


def test_a_size_that_nobody_states(hub: FakeHub, add: Add, source: Source) -> None:
    hub.switch(lfs_headers=False, lengths=False)
    seen: list[tuple[int, int | None]] = []
    known = replace(source, sha256=hub.sha256(REPO, FILE))
    assert right(add(known, progress=lambda done, total: seen.append((done, total))), hub)
    assert {total for _, total in seen} == {None}


def test_a_wrong_byte_after_a_resume_costs_one_more_transfer_and_no_more(
    hub: FakeHub, add: Add, source: Source, stored: Stored
) -> None:
    interrupt(add, source, 1_000_000)
    hub.switch(wrong_byte_at=2_500_000)
    with pytest.raises(IntegrityError, match="sha256"):
        add(source)
    assert len(gets(hub)) == 3
    assert stored() == []


def test_a_login_page_in_place_of_the_rest_leaves_the_part_alone(
    hub: FakeHub, add: Add, source: Source, home: Path
) -> None:
    interrupt(add, source, 1_000_000)
    kept = partial(home, hub).stat().st_size
    hub.switch(ranges=False, linked_bytes=hub.size(REPO, FILE))
    hub.repos = {REPO: {FILE: b"<html>Welcome</html>"}}
    with pytest.raises(IntegrityError, match="offers 20 bytes"):
        add(source)
    assert partial(home, hub).stat().st_size == kept


def test_killed_again_and_again(hub: FakeHub, add: Add, source: Source, home: Path) -> None:
    hub.switch(bytes_per_s=4_000_000)
    kept = 0
    for at_bytes in (400_000, 1_200_000, 2_400_000):
        running = child()
        wait_for(lambda: partial(home, hub).exists() and partial(home, hub).stat().st_size > at_bytes)  # noqa: B023
        running.send_signal(signal.SIGKILL)
        running.communicate()
        now = partial(home, hub).stat().st_size
        assert now > kept
        kept = now
        assert Store().find(source) is None
    hub.switch()
    assert right(add(source), hub)
    starts = [int(one.headers.get("Range", "bytes=0-")[6:-1]) for one in gets(hub)]
    assert len(starts) == 4
    assert starts == sorted(starts)
    assert starts[-1] == kept  # nothing that was there was fetched again


def test_two_processes_at_once_transfer_once(hub: FakeHub) -> None:
    hub.switch(bytes_per_s=6_000_000)
    running = [child() for _ in range(2)]
    said = [one.communicate(timeout=60) for one in running]
    assert [one.returncode for one in running] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert len(gets(hub)) == 1


def test_when_the_one_that_transfers_is_killed_the_other_goes_on(hub: FakeHub, home: Path) -> None:
    hub.switch(bytes_per_s=4_000_000)
    first = child()
    wait_for(lambda: partial(home, hub).exists() and partial(home, hub).stat().st_size > 500_000)
    second = child()
    wait_for(lambda: hub.count("hub", "HEAD") == 2)
    first.kill()
    first.communicate()
    said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert "Range" in gets(hub)[-1].headers


def test_a_file_that_may_not_grow_on(hub: FakeHub, add: Add, source: Source, home: Path) -> None:
    limit_bytes = 1_000_000
    running = child(limit_bytes)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    assert said.startswith("ResourceError: "), said
    assert partial(home, hub).stat().st_size == limit_bytes
    assert right(add(source), hub)
    assert gets(hub)[-1].headers["Range"] == f"bytes={limit_bytes}-"


def test_a_disk_that_runs_full(hub: FakeHub, home: Path) -> None:
    """A real one of 1 MiB, mounted where only the child sees it. The size is not known before, so it has to try."""
    place = home / "cache"
    place.mkdir()
    script = f'mount -t tmpfs -o size=1m tmpfs {place} && "$@"; find {place} -name "*.incomplete" -printf "%f %s\\n"'
    alone = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount of one's own here")
    hub.switch(lfs_headers=False, lengths=False)
    running = child(sha256=hub.sha256(REPO, FILE), before=alone)
    listed, said = running.communicate(timeout=60)
    assert said.startswith("ResourceError: the disk ran full"), said
    (left,) = listed.splitlines()
    name, size = left.split()
    assert name == partial(home, hub).name
    assert 900_000 < int(size) <= 1 << 20
    hub.switch()  # now the size is known: refused with both numbers, before anything is sent
    asked = len(gets(hub))
    running = child(before=alone)
    _, said = running.communicate(timeout=60)
    assert said.startswith(f"ResourceError: {FILE} needs 3 MB, 1 MB is free in "), said
    assert len(gets(hub)) == asked


def wait_for(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)
