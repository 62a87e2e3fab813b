"""Completion of values: no engine, no network, and silence instead of errors."""

from __future__ import annotations

import contextlib


def models(incomplete: str) -> list[str]:
    """Catalogue names; after a colon, that model's quants."""
    name, colon, _ = incomplete.partition(":")
    known = _catalogue()
    names = [f"{name}:{quant}" for quant, _, _ in known.get(name, ())] if colon else list(known)
    return [one for one in names if one.startswith(incomplete)]


def held(incomplete: str) -> list[str]:
    """The models on this machine, with their quants as far as the files' names tell them."""
    from llmctl.store import Store, names

    known = {(repo, file): f"{id}:{quant}" for id, files in _catalogue().items() for quant, repo, file in files}
    found = set()
    for stored in Store().list():
        quant = names.quant(stored.source.file)
        label = f"{stored.name}:{quant}" if quant else stored.name
        found.add(known.get((stored.source.repo or "", stored.source.file), label))
    return sorted(one for one in found if one.startswith(incomplete))


def _catalogue() -> dict[str, list[tuple[str, str, str]]]:
    """Quant, repository and file of all that there is by id. Reads only these facts: a Tab is no time for checks."""
    import tomllib

    from llmctl import paths

    found = {}
    for folder in (paths.profiles_dir() / "models", paths.overlay_dir()):
        for place in sorted(folder.glob("*.toml")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
                for model in tomllib.loads(place.read_text("utf-8"))["model"]:
                    files = [(str(one["quant"]), str(one["repo"]), str(one["file"])) for one in model["file"]]
                    found[str(model["id"])] = files
    return found


def tasks(incomplete: str) -> list[str]:
    from llmctl import paths
    from llmctl.catalogue.knowledge import task_names

    return [name for name in task_names(paths.profiles_dir()) if name.startswith(incomplete)]


def endpoints(incomplete: str) -> list[str]:
    from llmctl import settings
    from llmctl.errors import LlmctlError

    try:
        return [one.name for one in settings.load().endpoints if one.name.startswith(incomplete)]
    except LlmctlError:
        return []


def machines(incomplete: str) -> list[str]:
    from llmctl import paths
    from llmctl.probe.document import known_machines

    return [name for name in known_machines(paths.profiles_dir() / "machines") if name.startswith(incomplete)]
