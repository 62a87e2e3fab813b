"""Completion of values: what begins with what was typed, and silence instead of errors."""

from __future__ import annotations

from collections.abc import Iterable

from llmctl.workspace import names


def models(incomplete: str) -> list[str]:
    """Catalogue names; after a colon, that model's quants."""
    name, colon, _ = incomplete.partition(":")
    return _beginning(incomplete, (f"{name}:{quant}" for quant in names.quants(name)) if colon else names.models())


def held(incomplete: str) -> list[str]:
    """The models on this machine."""
    return _beginning(incomplete, names.held())


def licences(incomplete: str) -> list[str]:
    return _beginning_in_any_case(incomplete, names.licences())


def tasks(incomplete: str) -> list[str]:
    return _beginning(incomplete, names.tasks())


def tools(incomplete: str) -> list[str]:
    """What `llmctl launch` starts."""
    return _beginning(incomplete, names.tools())


def templates(incomplete: str) -> list[str]:
    from llmctl.workspace import templates

    return [name for name in templates.names() if name.startswith(incomplete)]


def languages(incomplete: str) -> list[str]:
    return _beginning(incomplete.lower(), names.languages())


def gpus(incomplete: str) -> list[str]:
    return _beginning_in_any_case(incomplete, names.gpus())


def endpoints(incomplete: str) -> list[str]:
    return _beginning(incomplete, names.endpoints())


def indexes(incomplete: str) -> list[str]:
    """The names of the indexes of own texts."""
    return _beginning(incomplete, names.indexes())


def tokens(incomplete: str) -> list[str]:
    """The names of the gateway's tokens."""
    return _beginning(incomplete, names.tokens())


def settings(incomplete: str) -> list[str]:
    """The names of settings."""
    return _beginning(incomplete, names.settings())


def staying(incomplete: str) -> list[str]:
    """The models of engines that stay loaded."""
    return _beginning(incomplete, names.staying())


def machines(incomplete: str) -> list[str]:
    return _beginning(incomplete, names.machines())


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _beginning_in_any_case(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.lower().startswith(incomplete.lower())]
