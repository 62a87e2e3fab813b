"""Transfers as processes: killed, several at once, and on a disk that is too small. Real signals, real disks."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmctl.errors import IntegrityError
from llmctl.store import Store
from llmctl.transfer import transfer
from llmctl.transfer.partial_file import noted_bytes
from llmctl.types.model import Source
from tests.fakes.command import preloaded
from tests.fakes.gguf_file import Fill, TensorSpec, write
from tests.fakes.hub import Asked, FakeHub
from tests.fakes.preloaded import Forked

REPO, FILE, LARGE = "maker/tiny-GGUF", "tiny-Q4_0.gguf", "large-Q8_0.gguf"
AGAIN_BYTES = 16 << 20  # what a kill may cost
Add = Callable[..., Path]
Start = Callable[..., Forked]

CHILD = """
import sys
from llmctl import settings
from llmctl.errors import LlmctlError
from llmctl.store import Store
from llmctl.transfer import ramp_up
from llmctl.workspace.fetcher import Fetcher
from llmctl.types.model import Source, SourceKind
file, limit_bytes, sha256 = sys.argv[1], int(sys.argv[2]), sys.argv[3] or None
ramp_up.SETTLE_S, ramp_up.WINDOW_S, ramp_up.WORTH_S = 0.0, 0.05, 0.0
if limit_bytes:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
told = []
def progress(done_bytes, total_bytes):
    told.append(done_bytes)
source = Source(SourceKind.HUB, "maker/tiny-GGUF", file, sha256=sha256)
try:
    print(Fetcher(Store(), settings.load()).add(source, progress))
    print(told)
except LlmctlError as error:
    sys.exit(f"{type(error).__name__} {error.exit_code}: {error.message}")
"""


@pytest.fixture
def child() -> Iterator[Start]:
    """Starts a process that fetches a file; none is left at the end."""
    with ExitStack() as running:

        def start(file: str = FILE, *, limit_bytes: int = 0) -> Forked:
            process = running.enter_context(preloaded().start(file, str(limit_bytes), "", program=CHILD))
            running.callback(process.kill)
            return process

        yield start


def said_alone(before: tuple[str, ...], sha256: str = "") -> str:
    """What a process that fetches the large file, started by ``before``, says on stderr. It has to fail."""
    done = subprocess.run(
        [*before, sys.executable, "-c", CHILD, LARGE, "0", sha256],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 1, "it was kept, though it may never end"
    return done.stderr


@pytest.fixture
def blob(home: Path, hub: FakeHub) -> Path:
    return home / "cache/huggingface/hub/models--maker--tiny-GGUF/blobs" / hub.sha256(REPO, FILE)


@pytest.fixture
def large(home: Path, hub: FakeHub, tmp_path: Path) -> Iterator[Path]:
    """Puts a file of 48 MiB on the hub. Yields where it is stored."""
    tensors = [TensorSpec("token_embd.weight", (1024, 48 << 8), "F32")]
    file = write(tmp_path / LARGE, {"general.architecture": "llama"}, tensors, fill=Fill.RANDOM)
    hub.repos = {REPO: {**hub.repos[REPO], LARGE: file}}
    yield home / "cache/huggingface/hub/models--maker--tiny-GGUF/blobs" / hub.sha256(REPO, LARGE)
    file.unlink()


def gets(hub: FakeHub) -> list[Asked]:
    return [one for one in hub.requests if one.side == "cdn"]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_killed_again_and_again(hub: FakeHub, large: Path, child: Start) -> None:
    """At random moments: the file is right in the end, and little of it was fetched twice."""
    hub.switch(bytes_per_s=10_000_000)
    size, chance, kills, kept_bytes = hub.size(REPO, LARGE), random.Random(7), 0, 0
    while True:
        running = child(LARGE)
        more_bytes = chance.randrange(1 << 20, 22 << 20)
        wait_for(lambda: running.poll() is not None or noted_bytes(large) >= kept_bytes + more_bytes)  # noqa: B023
        if running.poll() is not None:
            break
        running.send_signal(signal.SIGKILL)
        running.communicate()
        kills += 1
        assert noted_bytes(large) >= kept_bytes
        kept_bytes = noted_bytes(large)
        assert not large.exists()
    _, err = running.communicate()
    assert running.returncode == 0, err
    assert sha256(large) == large.name
    assert kills >= 3
    assert hub.most_busy > 1  # how many depends on how busy the machine is
    hub.settle()
    assert hub.sent_bytes - size <= kills * AGAIN_BYTES


def test_several_processes_at_once_transfer_once(hub: FakeHub, child: Start) -> None:
    hub.switch(bytes_per_s=6_000_000, connections=1)
    running = [child() for _ in range(5)]
    said = [one.communicate(timeout=60) for one in running]
    assert [one.returncode for one in running] == [0] * 5, said
    assert len({out.splitlines()[0] for out, _ in said}) == 1
    assert sum("Range" not in one.headers for one in gets(hub)) == 1
    hub.settle()
    assert hub.sent_bytes == hub.size(REPO, FILE)


def test_those_who_wait_see_how_far_the_first_is(hub: FakeHub, large: Path, child: Start) -> None:
    hub.switch(bytes_per_s=6_000_000)
    running = [child(LARGE) for _ in range(2)]
    for out, err in [one.communicate(timeout=60) for one in running]:
        told = [int(number) for number in re.findall(rb"\d+", out.splitlines()[1])]
        assert told == sorted(told), err
        assert len([one for one in told if 0 < one < hub.size(REPO, LARGE)]) >= 2
    assert sum("Range" not in one.headers for one in gets(hub)) == 1


def test_when_the_one_that_transfers_is_killed_another_goes_on(hub: FakeHub, large: Path, child: Start) -> None:
    hub.switch(bytes_per_s=2_000_000, connections=1)  # slow enough for a busy machine to start two more meanwhile
    first = child(LARGE)
    wait_for(lambda: noted_bytes(large) > 2 << 20)
    others = [child(LARGE) for _ in range(2)]
    wait_for(lambda: hub.count("hub", "HEAD") == 3)
    first.kill()
    first.communicate()
    kept_bytes = noted_bytes(large)
    hub.switch()
    assert [(one.communicate(timeout=60), one.returncode)[1] for one in others] == [0, 0]
    assert sha256(large) == large.name
    hub.settle()
    assert kept_bytes > 2 << 20
    assert hub.sent_bytes - hub.size(REPO, LARGE) <= AGAIN_BYTES


def test_a_file_that_may_not_grow_on(hub: FakeHub, add: Add, source: Source, blob: Path, child: Start) -> None:
    limit_bytes = 1_000_000
    running = child(limit_bytes=limit_bytes)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    assert said.startswith(b"ResourceError 7: "), said
    assert noted_bytes(blob) == limit_bytes
    assert sha256(add(source).resolve()) == blob.name
    assert gets(hub)[-1].headers["Range"] == f"bytes={limit_bytes}-"


def test_a_disk_that_is_too_small(hub: FakeHub, home: Path, tmp_path: Path) -> None:
    """A real one of 200 MB, mounted where only the child sees it."""
    file = tmp_path / LARGE
    file.touch()
    os.truncate(file, 230_000_000)
    hub.repos = {REPO: {LARGE: file}}
    place = home / "cache"
    place.mkdir()
    journals = f'find {place} -name "*.journal" -exec cat {{}} +'
    again = 'f=$(find . -name "*.llmctl.incomplete" -size +64M); test -n "$f"'
    script = f'mount -t tmpfs -o size=200m tmpfs {place} && cd {place} && "$@"; {journals}; {again}'
    alone = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True).returncode > 1:
        pytest.skip("no mount of one's own here")
    said = said_alone(alone)  # the size is known: refused before anything is sent
    assert said.startswith(f"ResourceError 7: {LARGE} needs 230 MB, 210 MB is free in "), said
    assert "of which 67 MB must stay free" in said
    assert gets(hub) == []
    hub.switch(lfs_headers=False, lengths=False)  # it isn't: fetched until what must stay free is touched
    said = said_alone(alone, hub.sha256(REPO, LARGE))
    found = re.match(
        rf"ResourceError 7: {LARGE} has filled the disk: (\d+) MB of it is written, (\d+) MB is free in ", said
    )
    assert found is not None, said
    assert 130 < int(found[1]) < 165 and 45 < int(found[2]) <= 67  # of 210 MB
    assert "of which 67 MB must stay free" in said


def test_a_body_without_end(
    hub: FakeHub, add: Add, source: Source, blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MOST_UNSTATED_BYTES", 20 << 20)
    hub.switch(lfs_headers=False, extra_bytes=200 << 20)
    with pytest.raises(IntegrityError, match=r"MB was received without an end.* may have 21 MB"):
        add(replace(source, sha256=blob.name))
    assert list(blob.parent.glob("*")) == []


def wait_for(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_nothing_is_found_of_what_is_half_there(hub: FakeHub, source: Source, blob: Path, child: Start) -> None:
    hub.switch(bytes_per_s=1_000_000)
    running = child()
    wait_for(lambda: blob.with_name(f"{blob.name}.llmctl.incomplete").exists())
    assert Store().find(source) is None
    running.kill()
    running.communicate()
    assert Store().find(source) is None
