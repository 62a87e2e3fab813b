"""Completion of values: no engine, no network, and silence instead of errors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

LICENCE = re.compile(r"""^\s*licence\s*=\s*["']([^"']+)["']""", re.MULTILINE)
ID = re.compile(r"""^\s*id\s*=\s*["']([^"']+)["']""", re.MULTILINE)


def models(incomplete: str) -> list[str]:
    """Catalogue names; after a colon, that model's quants."""
    name, colon, _ = incomplete.partition(":")
    if colon:
        known = _catalogue(only=name)
        return [one for quant, _, _ in known.get(name, ()) if (one := f"{name}:{quant}").startswith(incomplete)]
    # of most files only the names are wanted: to parse them all takes twice the time
    found = dict.fromkeys(id for text in _texts() for id in ID.findall(text))
    return [id for id in found if id.startswith(incomplete)]


def licences(incomplete: str) -> list[str]:
    """Those of the catalogue's models."""
    found = sorted({one for text in _texts() for one in LICENCE.findall(text)})
    return [one for one in found if one.lower().startswith(incomplete.lower())]


def held(incomplete: str) -> list[str]:
    """The models on this machine, with their quants as far as the files' names tell them."""
    from llmctl.gguf import file_names as names
    from llmctl.store import Store

    known = {(repo, file): f"{id}:{quant}" for id, files in _catalogue().items() for quant, repo, file in files}
    found = set()
    for stored in Store().list():
        quant = names.quant(stored.source.file)
        label = f"{stored.name}:{quant}" if quant else stored.name
        found.add(known.get((stored.source.repo or "", stored.source.file), label))
    return sorted(one for one in found if one.startswith(incomplete))


def _catalogue(only: str = "") -> dict[str, list[tuple[str, str, str]]]:
    """Quant, repository and file of all that there is by id, or of the file that has the model ``only``. Reads only
    these facts: a Tab is no time for checks."""
    import tomli

    found = {}
    for text in _texts():
        if only and only not in ID.findall(text):
            continue
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            for model in tomli.loads(text)["model"]:
                files = [(str(one["quant"]), str(one["repo"]), str(one["file"])) for one in model["file"]]
                found[str(model["id"])] = files
    return found


def _texts() -> Iterator[str]:
    """The shipped model files, then the user's own, which may say something else of the same model."""
    from llmctl import paths

    for folder in (paths.profiles_dir() / "models", paths.overlay_dir()):
        for place in sorted(folder.glob("*.toml")):
            with contextlib.suppress(OSError, ValueError):
                yield place.read_text("utf-8")


def tasks(incomplete: str) -> list[str]:
    from llmctl import paths
    from llmctl.catalogue.knowledge import task_names

    return [name for name in task_names(paths.profiles_dir()) if name.startswith(incomplete)]


def languages(incomplete: str) -> list[str]:
    from llmctl.catalogue.search import LANGUAGES

    return [code for code in LANGUAGES if code.startswith(incomplete.lower())]


def gpus(incomplete: str) -> list[str]:
    """The names of the device table."""
    from llmctl import paths

    names = re.findall(r'\bname = "([^"]+)"', (paths.profiles_dir() / "devices.toml").read_text("utf-8"))
    wanted = incomplete.lower()
    return sorted({one for one in names if one.lower().startswith(wanted)})


def endpoints(incomplete: str) -> list[str]:
    from llmctl import settings
    from llmctl.errors import LlmctlError

    try:
        return [one.name for one in settings.load().endpoints if one.name.startswith(incomplete)]
    except LlmctlError:
        return []


def machines(incomplete: str) -> list[str]:
    from llmctl import paths
    from llmctl.probe.described.document import known_machines

    return [name for name in known_machines(paths.profiles_dir() / "machines") if name.startswith(incomplete)]
