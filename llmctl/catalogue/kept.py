"""The catalogue as it was read last, kept in the cache folder: to read all profiles takes ten times as long."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from llmctl import __version__, paths
from llmctl.catalogue import profiles
from llmctl.catalogue.profiles import Catalogue
from llmctl.errors import ConfigError
from llmctl.files import atomic
from llmctl.types import model
from llmctl.types.model import Model

NAME = "catalogue.msgpack"
LIMIT_BYTES = 16 << 20

Stamp = tuple[str, int, int]


class KeptModels(Struct, frozen=True):
    """``models`` and the stamps of all that they were read from, and by."""

    version: str
    stamps: tuple[Stamp, ...]
    models: tuple[Model, ...]


def load(folder: Path, overlay: Path) -> Catalogue:
    """As ``profiles.load``, read from the profiles only if one of them has changed, or the last time had problems."""
    file, stamps = _file(), tuple(_stamps(folder, overlay))
    kept = None if file is None else _read(file)
    if kept is not None and (kept.version, kept.stamps) == (__version__, stamps):
        return Catalogue(kept.models)
    loaded = profiles.load(folder, overlay)
    if file is not None and not loaded.problems:
        with suppress(OSError):
            atomic.write(file, msgspec.msgpack.encode(KeptModels(__version__, stamps, loaded.models)))
    return loaded


def _read(file: Path) -> KeptModels | None:
    try:
        with file.open("rb") as stream:
            return msgspec.msgpack.decode(stream.read(LIMIT_BYTES), type=KeptModels)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None


def _stamps(folder: Path, overlay: Path) -> Iterable[Stamp]:
    """Of all profiles, and of the code that reads them: a checkout changes without another version."""
    code = Path(__file__).parent.glob("*.py")
    for file in (*sorted(folder.glob("*.toml")), *sorted(overlay.glob("*.toml")), *sorted(code), Path(model.__file__)):
        try:
            about = file.stat()
        except OSError:  # a profile that can't be read is a problem, which is told each time
            continue
        yield str(file), about.st_size, about.st_mtime_ns


def _file() -> Path | None:
    """None where a user has no folders of their own."""
    try:
        return paths.cache_dir() / NAME
    except ConfigError:
        return None
