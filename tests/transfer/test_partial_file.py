"""What is kept of a file that isn't whole, and how much of that is believed afterwards."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

from llmctl.transfer import journal, partial_file
from llmctl.transfer.hasher import Hasher
from llmctl.transfer.journal import SLOT_BYTES, Journal
from llmctl.transfer.partial_file import PartialFile, noted_bytes
from llmctl.transfer.ranges import Ranges
from llmctl.transfer.segments import ENDLESS_BYTES, Segments

MIB = 1 << 20
SPANS = strategies.lists(strategies.tuples(strategies.integers(0, 60), strategies.integers(0, 60)), max_size=12)


@hypothesis.given(SPANS)
def test_ranges_are_sets_of_bytes(spans: list[tuple[int, int]]) -> None:
    ranges = Ranges(spans)
    there = {byte for start, end in spans for byte in range(start, end)}
    assert {byte for start, end in ranges for byte in range(start, end)} == there
    assert {byte for start, end in ranges.gaps(60) for byte in range(start, end)} == set(range(60)) - there
    assert {byte for start, end in ranges.before(30) for byte in range(start, end)} == there & set(range(30))
    flat = [edge for span in ranges for edge in span]
    assert flat == sorted(set(flat))  # in order, none empty, none touching another
    assert ranges.total_bytes == len(there)
    assert ranges.prefix_bytes == next(byte for byte in range(61) if byte not in there)
    assert ranges.end == max(there, default=-1) + 1


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "blobs").mkdir()
    return tmp_path / "blobs" / "blob"


@pytest.fixture
def content() -> bytes:
    return random.Random(3).randbytes(3 * MIB)


def write(there: PartialFile, content: bytes, start: int, end: int) -> None:
    there.write(start, content[start:end], there.epoch)


def test_what_was_written_is_there_in_the_next_process(target: Path, content: bytes) -> None:
    with PartialFile(target) as there:
        write(there, content, 2 * MIB, 3 * MIB)
        write(there, content, 0, MIB)
        there.note_validator('"v1"')
    assert noted_bytes(target) == 2 * MIB
    with PartialFile(target) as there:
        assert list(there.written) == [(0, MIB), (2 * MIB, 3 * MIB)]
        assert there.joined
        assert there.validator == '"v1"'
        write(there, content, MIB, 2 * MIB)
        assert there.sha256(3 * MIB) == hashlib.sha256(content).hexdigest()
        there.publish()
    assert target.read_bytes() == content
    assert os.listdir(target.parent) == [target.name]


def test_after_a_reboot_only_what_was_synced_is_believed(
    target: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_file, "NOTED_BYTES", 1)
    with PartialFile(target) as there:
        write(there, content, 0, MIB)
        there.sync()
        write(there, content, MIB, 2 * MIB)
        assert noted_bytes(target) == 2 * MIB
        for boot in ("another", None):  # if the power failed now
            monkeypatch.setattr(journal, "boot_id", lambda: boot)  # noqa: B023
            assert noted_bytes(target) == MIB
            note = journal.read(target.with_name("blob.llmctl.incomplete.journal"))
            assert note is not None
            assert list(note.trusted) == [(0, MIB)]


def test_a_download_that_ends_is_synced(target: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with PartialFile(target) as there:
        write(there, content, 0, MIB)
    monkeypatch.setattr(journal, "boot_id", lambda: "another")
    with PartialFile(target) as there:
        assert there.done_bytes == MIB


def test_a_file_shorter_than_its_journal_says(target: Path, content: bytes) -> None:
    with PartialFile(target) as there:
        write(there, content, 0, 2 * MIB)
    os.truncate(target.with_name("blob.llmctl.incomplete"), 5000)
    with PartialFile(target) as there:
        assert list(there.written) == [(0, 5000)]
    target.with_name("blob.llmctl.incomplete").unlink()
    with PartialFile(target) as there:
        assert there.done_bytes == 0
    assert os.listdir(target.parent) == []


def test_a_journal_that_is_lost_costs_everything_and_nothing_else(target: Path, content: bytes) -> None:
    with PartialFile(target) as there:
        write(there, content, 0, 2 * MIB)
    target.with_name("blob.llmctl.incomplete.journal").write_bytes(b"\0" * 9000)
    with PartialFile(target) as there:
        assert there.done_bytes == 0
        write(there, content, 0, 3 * MIB)
        assert there.sha256(3 * MIB) == hashlib.sha256(content).hexdigest()


def test_nothing_is_left_of_an_empty_one(target: Path) -> None:
    with PartialFile(target):
        assert len(os.listdir(target.parent)) == 2
    assert os.listdir(target.parent) == []


def test_what_comes_late_is_not_written_any_more(target: Path, content: bytes) -> None:
    with PartialFile(target) as there:
        write(there, content, 0, MIB)
        before = there.epoch
        there.restart()
        there.write(5, b"too late", before)
        assert there.done_bytes == 0
        write(there, content, 0, 3 * MIB)
        assert there.sha256(3 * MIB) == hashlib.sha256(content).hexdigest()
        last = there.epoch
    there.write(0, b"much too late", last)
    assert target.with_name("blob.llmctl.incomplete").read_bytes() == content


def test_many_write_at_once(target: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_file, "NOTED_BYTES", 1 << 14)
    with PartialFile(target) as there:

        def every_eighth(first: int) -> None:
            for start in range(first << 12, len(content), 8 << 12):
                write(there, content, start, start + (1 << 12))

        threads = [threading.Thread(target=every_eighth, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert there.sha256(len(content)) == hashlib.sha256(content).hexdigest()
        there.publish()
    assert target.read_bytes() == content


THEIRS = {"older ones": "blob.incomplete", "newer ones": "blob.0a1b2c3d.incomplete"}


@pytest.mark.parametrize("name", THEIRS.values(), ids=THEIRS.keys())
def test_what_the_hubs_own_tools_left_is_gone_on_with(name: str, target: Path, content: bytes) -> None:
    left = target.with_name(name)
    left.write_bytes(content[:MIB])
    os.utime(left, (time.time() - 3600,) * 2)
    with PartialFile(target) as there:
        assert list(there.written) == [(0, MIB)]
        assert there.joined
        write(there, content, MIB, 3 * MIB)
        assert there.sha256(3 * MIB) == hashlib.sha256(content).hexdigest()
        there.publish()
    assert os.listdir(target.parent) == [target.name]


def test_what_another_tool_may_still_be_writing_is_left_alone(target: Path, content: bytes) -> None:
    left = target.with_name("blob.0a1b2c3d.incomplete")
    left.write_bytes(content)
    with PartialFile(target) as there:
        assert there.done_bytes == 0
    assert os.listdir(target.parent) == [left.name]


@pytest.mark.parametrize(
    "name", ["other.incomplete", "blob2.incomplete", "blob.copy.incomplete", "blob.link.incomplete"]
)
def test_what_is_not_of_this_file_is_left_alone(name: str, target: Path, content: bytes) -> None:
    target.with_name(name).write_bytes(content)
    with PartialFile(target) as there:
        assert there.done_bytes == 0
    assert os.listdir(target.parent) == [name]


def test_a_link_is_not_gone_on_with(target: Path, content: bytes, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(content)
    target.with_name("blob.incomplete").symlink_to(outside)
    with PartialFile(target) as there:
        write(there, b"x" * MIB, 0, MIB)
    assert outside.read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="holes can't be seen here")
def test_a_hole_in_what_another_tool_left_ends_it(target: Path, content: bytes) -> None:
    left = target.with_name("blob.incomplete")
    with left.open("wb") as file:
        file.write(content[: MIB // 2])
        file.seek(2 * MIB)
        file.write(content[2 * MIB :])
        file.flush()
        if os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 3 * MIB:
            pytest.skip("no holes on this filesystem")
    with PartialFile(target) as there:
        assert there.written.prefix_bytes <= MIB // 2
        assert there.done_bytes == there.written.prefix_bytes > 0


def test_the_longest_note_fits_its_slot(tmp_path: Path) -> None:
    spans = Ranges((start, start + 1000) for start in range(1 << 43, (1 << 43) + 200_000, 2000))
    etag = '"' + '\\"' * 120 + '"'
    with Journal(tmp_path / "journal") as made:
        for _ in range(journal.SLOTS + 1):
            made.save(spans, spans, etag)
    assert (tmp_path / "journal").stat().st_size == journal.SLOTS * SLOT_BYTES
    note = journal.read(tmp_path / "journal")
    assert note is not None
    assert note.etag == etag
    assert list(note.written) == list(spans)[: journal.MOST_SPANS]


def test_one_slot_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path) as made:
        made.save(Ranges([(0, 5)]), Ranges(), None)
        made.save(Ranges([(0, 6)]), Ranges(), None)
    sound = path.read_bytes()
    (older,) = (slot for slot in range(2) if b"[[0,5]]" in sound[slot * SLOT_BYTES :][:SLOT_BYTES])
    for cut in (1, 9, 40, 4000):  # the writer died in the middle of the next, which goes where the older one was
        damaged = bytearray(sound)
        damaged[older * SLOT_BYTES : older * SLOT_BYTES + cut] = b"f" * cut
        path.write_bytes(damaged)
        note = journal.read(path)
        assert note is not None
        assert note.written.end == 6
    path.write_bytes(sound[: SLOT_BYTES + 100])
    assert journal.read(path) is not None


ODD = [b"", b"\0" * 8192, b"\xff" * 8192, b"00000000 \n", b"[" * 8192]


@pytest.mark.parametrize("odd", ODD)
def test_a_journal_of_anything_else_is_none(odd: bytes, tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(odd)
    assert journal.read(tmp_path / "journal") is None


@pytest.mark.parametrize(
    "change",
    [
        ('"written":[[0,5]]', '"written":[[5,0]]'),
        ('"written":[[0,5]]', '"written":[[-5,5]]'),
        ('"written":[[0,5]]', '"written":[[0,5.5]]'),
        ('"written":[[0,5]]', '"written":[[0,true]]'),
        ('"written":[[0,5]]', '"written":{}}'),
        ('"written":[[0,5]]', '"written":[0]'),
        ('"written":[[0,5]]', '"written":null'),
        ('"etag":null', '"etag":7'),
        ('"number":1', '"number":"x"'),
    ],
)
def test_a_journal_that_makes_no_sense_is_none(change: tuple[str, str], tmp_path: Path) -> None:
    import zlib

    path = tmp_path / "journal"
    with Journal(path) as made:
        made.save(Ranges([(0, 5)]), Ranges(), None)
    text = path.read_bytes().strip(b"\0").strip()[9:].decode()
    assert change[0] in text
    text = text.replace(*change)
    path.write_bytes(b"%08x %b\n" % (zlib.crc32(text.encode()), text.encode()))
    assert journal.read(path) is None


def test_the_digest_reads_what_it_was_not_handed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with Hasher(path) as digest:
        digest.grow(MIB, 0, content[: MIB // 2])  # in hand, and more that isn't
        digest.grow(3 * MIB, 2 * MIB, content[2 * MIB :])  # not the next one
        assert digest.sha256(3 * MIB) == hashlib.sha256(content).hexdigest()


def test_a_file_that_becomes_shorter_while_it_is_hashed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"short")
    with Hasher(path) as digest:
        digest.grow(MIB, 0, b"")
        with pytest.raises(OSError, match="shorter"):
            digest.sha256(MIB)


def test_segments_cover_the_file_once(target: Path, content: bytes) -> None:
    """Whatever is taken, written, extended and given back: in the end every byte was written exactly once."""
    chance = random.Random(11)
    with PartialFile(target) as there:
        write(there, content, 100_000, 250_000)
        segments = Segments(there, len(content))
        counted = 150_000
        taken = [segments.take(1, 0.0)]
        assert taken[0] is not None
        assert (taken[0].at, taken[0].end) == (0, 100_000)
        while not segments.complete:
            if len(taken) < 8 and (more := segments.take(8, chance.choice([0.0, 1e4, 1e9]))) is not None:
                taken.append(more)
            segment = chance.choice(taken)
            assert segment is not None
            count = chance.randrange(1, 90_000)
            counted += segments.write(segment, content[segment.at : segment.at + count])
            if segment.at >= segment.end and not (chance.random() < 0.5 and segments.extend(segment, 8, 0.0)):
                segments.give_back(segment)
                taken.remove(segment)
            elif chance.random() < 0.05:
                segments.give_back(segment)
                assert segments.write(segment, b"lost") == 0
                taken.remove(segment)
        assert counted == len(content)
        assert there.sha256(len(content)) == hashlib.sha256(content).hexdigest()


def test_a_size_that_is_stated_later_ends_what_is_taken(target: Path) -> None:
    with PartialFile(target) as there:
        segments = Segments(there, None)
        whole = segments.take(1, 0.0)
        assert whole is not None
        assert whole.end == ENDLESS_BYTES
        assert segments.take(8, 0.0) is None
        segments.set_total_bytes(1000)
        assert whole.end == 1000
        assert segments.alone(whole)
