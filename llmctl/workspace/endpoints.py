"""Adding and removing the user's own servers."""

from __future__ import annotations

import os
import re
from pathlib import Path

from msgspec import Struct

from llmctl import settings
from llmctl.endpoint.address import normal_url
from llmctl.endpoint.secrets import is_private, readable_on_the_way
from llmctl.errors import UsageError
from llmctl.net import host_of, is_loopback
from llmctl.settings import Settings
from llmctl.types.endpoint import Endpoint
from llmctl.types.listener import Listener
from llmctl.workspace import configuration

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")  # most keys have small letters, and would pass for a name


class Added(Struct, frozen=True):
    """``settings`` are those from now on, kept in ``file``."""

    endpoint: Endpoint
    settings: Settings
    file: Path

    @property
    def host(self) -> str:
        return host_of(self.endpoint.url)

    @property
    def is_on_this_machine(self) -> bool:
        return is_loopback(self.endpoint.url)


def add(
    listener: Listener, name: str, url: str, *, model: str, key_env: str | None, ca_file: str | None, force: bool
) -> Added:
    """Adds a server, which is the consent to send prompts there; nothing is sent now. ``force`` allows plain http to
    another machine, and replaces the one of that name. Raises UsageError, PolicyError, ResourceError and ConfigError.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be a name: letters, digits, dot, dash and underscore, at most 64")
    if not model.strip():
        raise UsageError("--model must name the model on that server", hint="llmctl endpoint add --help")
    if key_env is not None and key_env not in os.environ and not VARIABLE.fullmatch(key_env):
        # It may well be the key itself, so it is not repeated.
        raise UsageError(
            "--key-env takes the name of an environment variable (in capitals, or one that is set), not the key",
            hint="export OFFICE_KEY=…; llmctl endpoint add … --key-env OFFICE_KEY",
        )
    address = normal_url(url)
    plain_http = not is_private(address)
    if plain_http and not force:
        raise readable_on_the_way(address, hint="use https, or add --force if the way is private (a VPN, a tunnel)")
    if ca_file is not None:
        if not Path(ca_file).is_file():
            raise UsageError(f"there is no file {ca_file}")
        ca_file = str(Path(ca_file).resolve())
    configuration.load(listener)  # a file with something wrong in it is not written to
    file = settings.add_endpoint(Endpoint(name, address, model, key_env, ca_file, plain_http), replacing=force)
    loaded = settings.load()
    return Added(loaded.endpoint(name), loaded, file)


def remove(listener: Listener, name: str) -> Settings:
    """Forgets a server, and returns the settings from now on. Raises NotFoundError, ResourceError and ConfigError."""
    configuration.load(listener).endpoint(name)
    settings.remove_endpoint(name)
    return settings.load()
