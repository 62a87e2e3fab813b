"""Indexes as commands make them: what is read, what is left out, what a change does, and what a kill leaves."""

from __future__ import annotations

import json
import mailbox
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from llmctl.cli import main
from llmctl.retrieval.text_index import TextIndex
from llmctl.workspace import indexes
from tests.fakes.command import llmctl, spawn

RENT = "The deposit for the flat in Turin was 1,200 euros."
MAIL = "From: Ann <ann@example.org>\nSubject: Insurance\n\nThe car is insured until May.\n"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "rent.md").write_text(RENT)
    (folder / "garden.txt").write_text("Die Pflaumen sind im September reif.")
    return folder


def ran(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == code
    return json.loads(capsys.readouterr().out.splitlines()[-1])["data"]


def files(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    return [hit["file"] for hit in ran(capsys, "search", "notes", *words)["results"]]


def test_what_is_new_changed_renamed_and_removed(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(capsys, "index", "add", str(notes))["new"] == 2
    assert files(capsys, "deposit") == ["rent.md"]
    (notes / "rent.md").rename(notes / "flat.md")
    (notes / "garden.txt").write_text("Die Kirschen sind reif.")
    (notes / "new.txt").write_text("A letter.")
    (change,) = ran(capsys, "index", "update", "notes")["indexes"]
    assert (change["new"], change["changed"], change["renamed"], change["removed"]) == (1, 1, 1, 0)
    assert files(capsys, "deposit") == ["flat.md"] and files(capsys, "Pflaumen") == []
    (notes / "flat.md").unlink()
    os.utime(notes / "garden.txt")
    (change,) = ran(capsys, "index", "update")["indexes"]
    assert (change["new"], change["changed"], change["removed"], change["unchanged"]) == (0, 0, 1, 2)
    assert files(capsys, "deposit") == [] and files(capsys, "Kirsche") == ["garden.txt"]


def test_a_folder_gets_an_index_when_it_is_searched(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hit,) = ran(capsys, "search", str(notes), "deposit?", "Turin")["results"]
    assert (hit["file"], hit["from_line"], hit["to_line"], hit["text"]) == ("rent.md", 1, 1, RENT)
    assert 0 < hit["score"] <= 1


def test_what_can_not_be_read_is_counted(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (notes / "latin.txt").write_bytes("café crème, à Paris".encode("latin-1"))
    (notes / "image.bin").write_bytes(bytes(range(256)) * 4)
    (notes / "noise").write_bytes(os.urandom(1500).replace(b"\0", b"\1"))
    (notes / "empty.md").write_text(" \n")
    (notes / "secret.txt").write_text("-----BEGIN PGP MESSAGE-----\nabc")
    (notes / "old.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (notes / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    (notes / "large.txt").write_text("large " * 400)
    data = ran(capsys, "index", "add", str(notes), "--max-file", "2kB")
    assert data["skipped"] == {"no text": 2, "empty": 1, "encrypted": 2, "broken": 1, "too large": 1}
    assert data["other_encoding"] == 1 and data["files"] == 3
    assert files(capsys, "creme") == ["latin.txt"]
    (change,) = ran(capsys, "index", "update")["indexes"]
    assert change["skipped"] == data["skipped"] and change["changed"] == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_read_when_it_may_be(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (notes / "rent.md").chmod(0)
    assert ran(capsys, "index", "add", str(notes))["skipped"] == {"unreadable": 1}
    (notes / "rent.md").chmod(0o600)
    assert files(capsys, "deposit") == ["rent.md"]


def test_pages_and_mails(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (notes / "page.html").write_text("<script>hidden</script>\n<p>The <b>harbour</b>\n is closed</p>")
    (notes / "one.eml").write_text(MAIL)
    box = mailbox.mbox(notes / "all.mbox")
    box.add(MAIL.replace("car", "boat"))
    box.add("Subject: =?utf-8?q?Caff=C3=A8?=\nContent-Type: text/html\n\n<p>Espresso</p>")
    box.close()
    (hit,) = ran(capsys, "search", str(notes), "harbour")["results"]
    assert (hit["file"], hit["from_line"], hit["to_line"]) == ("page.html", 2, 3) and "hidden" not in hit["text"]
    assert files(capsys, "insured", "car")[0] == "one.eml"
    (hit,) = ran(capsys, "search", "notes", "Caffè")["results"]
    assert hit["file"] == "all.mbox" and hit["text"] == "Subject: Caffè\n\nEspresso"


@pytest.mark.parametrize("words", ['"', "NEAR(", "text:deposit *", "a AND", "-x", "'; DROP TABLE file; --"])
def test_signs_are_no_syntax(words: str, notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--json", str(notes), "--", words]) == 0


def test_the_index_is_its_owner_s_alone(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran(capsys, "index", "add", str(notes))
    index = indexes.get("notes")
    with index.opened() as opened, opened.transaction():
        opened.note("name", "notes")
        on_disk = [file for file in indexes.folder().iterdir() if file.suffix != ".lock"]
        assert len(on_disk) == 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in on_disk} == {0o600}
    assert stat.S_IMODE(indexes.folder().stat().st_mode) == 0o700


def test_list_and_remove(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(capsys, "index", "list") == {"indexes": []}
    ran(capsys, "index", "add", str(notes), "--name", "mine")
    (row,) = ran(capsys, "index", "list")["indexes"]
    assert (row["name"], row["files"], row["passages"], row["folder"]) == ("mine", 2, 2, str(notes))
    ran(capsys, "index", "add", str(notes), "--name", "other", code=2)
    assert ran(capsys, "index", "remove", str(notes))["freed_bytes"] > 0
    assert list(indexes.folder().iterdir()) == [] and (notes / "rent.md").read_text() == RENT
    ran(capsys, "index", "remove", "mine", code=4)


def test_a_second_folder_of_the_same_name(notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "deeper" / "notes"
    other.mkdir(parents=True)
    assert ran(capsys, "index", "add", str(notes))["name"] == "notes"
    assert ran(capsys, "index", "add", str(other))["name"] == "notes-2"


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["index", "add", "nowhere"], 4),
        (["index", "add", "file"], 2),
        (["index", "update", "nowhere"], 4),
        (["search", "nowhere", "x"], 4),
        (["search", "folder", " "], 2),
        (["index", "add", "folder", "--max-file", "much"], 2),
        (["index", "add", "folder", "--name", "a/b"], 2),
    ],
)
def test_what_is_refused(argv: list[str], code: int, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "file").write_text("x")
    (home / "folder").mkdir()
    ran(capsys, *argv, code=code)


def test_a_folder_that_is_gone_keeps_its_index(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran(capsys, "index", "add", str(notes))
    notes.rename(notes.with_name("away"))
    ran(capsys, "index", "update", "notes", code=4)
    assert ran(capsys, "search", "notes", "deposit", "--no-update")["results"]


def test_a_broken_index_is_an_error_of_its_own(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran(capsys, "index", "add", str(notes))
    indexes.get("notes").file.write_bytes(b"no database at all" * 99)
    ran(capsys, "search", str(notes), "deposit", code=6)
    assert ran(capsys, "index", "list") == {"indexes": []}


@pytest.mark.parametrize("kill_after_s", [0.02, 0.1, 0.25])
def test_a_killed_update_leaves_whole_files_and_goes_on(kill_after_s: float, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number}.txt").write_text(f"text{number}\n\n" * 40)
    with spawn("index", "add", str(folder)) as process:
        deadline = time.monotonic() + 20
        while not list(indexes.folder().glob("*.sqlite")) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(kill_after_s)
        process.kill()
    assert llmctl("index", "add", str(folder)).returncode == 0
    index = indexes.get("many")
    with index.opened() as opened:
        require_right(opened)
        assert opened.size().files == 300


def require_right(index: TextIndex) -> None:
    """The tables agree with each other: each passage is a file's, its words are found, and nothing is there twice."""
    assert index.rows("PRAGMA integrity_check") == [("ok",)]
    index.write("INSERT INTO words(words) VALUES ('integrity-check')")
    assert index.rows("SELECT count(*) FROM passage WHERE file NOT IN (SELECT id FROM file)") == [(0,)]
    for path, number in index.rows("SELECT path, count(*) FROM file JOIN passage ON file = file.id GROUP BY file"):
        word = os.fsdecode(path).removesuffix(".txt")  # type: ignore[arg-type]
        assert number == 1, word
        (hit,) = index.rows("SELECT rowid FROM words WHERE words MATCH ?", f'"text{word}"')
        ((of,),) = index.rows("SELECT path FROM file JOIN passage ON file = file.id WHERE passage.id = ?", *hit)
        assert of == path
