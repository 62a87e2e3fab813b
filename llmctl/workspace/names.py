"""The names that options take, for completion: no engine, no network, no checks, only as much read as is needed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

LICENCE = re.compile(r"""^\s*licence\s*=\s*["']([^"']+)["']""", re.MULTILINE)
ID = re.compile(r"""^\s*id\s*=\s*["']([^"']+)["']""", re.MULTILINE)


def models() -> list[str]:
    """The ids of the catalogue. Of most files only these are wanted: to parse them all takes twice the time."""
    return list(dict.fromkeys(id for text in _texts() for id in ID.findall(text)))


def quants(model: str) -> list[str]:
    """Those of one model of the catalogue."""
    return [quant for quant, _, _ in _files(only=model).get(model, ())]


def licences() -> list[str]:
    """Those of the catalogue's models."""
    return sorted({licence for text in _texts() for licence in LICENCE.findall(text)})


def held() -> list[str]:
    """The models on this machine, with their quants as far as the files' names tell them."""
    from llmctl.gguf import file_names
    from llmctl.store import Store

    labels = {(repo, file): f"{id}:{quant}" for id, files in _files().items() for quant, repo, file in files}
    names = set()
    for stored in Store().list():
        quant = file_names.quant(stored.source.file)
        label = f"{stored.name}:{quant}" if quant else stored.name
        names.add(labels.get((stored.source.repo or "", stored.source.file), label))
    return sorted(names)


def staying() -> list[str]:
    """The models of engines that stay loaded."""
    from llmctl.workspace import engines

    return sorted({engine.name for engine in engines.staying()})


def tasks() -> list[str]:
    from llmctl import paths
    from llmctl.catalogue.knowledge import task_names

    return task_names(paths.profiles_dir())


def tools() -> list[str]:
    """The tools that can be launched."""
    from llmctl.workspace import launch

    return list(launch.tools())


def languages() -> dict[str, str]:
    """English names by code."""
    from llmctl.catalogue.search import LANGUAGES

    return LANGUAGES


def gpus() -> list[str]:
    """The names of the device table."""
    from llmctl import paths

    text = (paths.profiles_dir() / "devices.toml").read_text("utf-8")
    return sorted(set(re.findall(r'\bname = "([^"]+)"', text)))


def machines() -> list[str]:
    """The described machines."""
    from llmctl import paths
    from llmctl.probe.described.document import known_machines

    return known_machines(paths.profiles_dir() / "machines")


def endpoints() -> list[str]:
    """The user's servers, none where the configuration can't be read."""
    from llmctl.errors import LlmctlError
    from llmctl.settings import load

    try:
        return [endpoint.name for endpoint in load().endpoints]
    except LlmctlError:
        return []


def settings() -> list[str]:
    from llmctl.settings import SETTINGS

    return [setting.name for setting in SETTINGS]


def tokens() -> list[str]:
    """The names of the gateway's tokens, none where their file can't be read."""
    from llmctl.errors import LlmctlError
    from llmctl.workspace import tokens

    try:
        return [token.name for token in tokens.read()]
    except LlmctlError:
        return []


def indexes() -> list[str]:
    """The names of the indexes of own texts, none where they can't be read."""
    from llmctl.errors import LlmctlError
    from llmctl.workspace import indexes

    try:
        return [index.name for index in indexes.readable()[0]]
    except LlmctlError:
        return []


def _files(only: str = "") -> dict[str, list[tuple[str, str, str]]]:
    """Quant, repository and file of all that there is by id, or of the file that has the model ``only``."""
    import tomli

    files_by_id = {}
    for text in _texts():
        if only and only not in ID.findall(text):
            continue
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            for model in tomli.loads(text)["model"]:
                files = [(str(file["quant"]), str(file["repo"]), str(file["file"])) for file in model["file"]]
                files_by_id[str(model["id"])] = files
    return files_by_id


def _texts() -> Iterator[str]:
    """The shipped model files, then the user's own, which may say something else of the same model."""
    from llmctl import paths

    for folder in (paths.profiles_dir() / "models", paths.overlay_dir()):
        for place in sorted(folder.glob("*.toml")):
            with contextlib.suppress(OSError, ValueError):
                yield place.read_text("utf-8")
