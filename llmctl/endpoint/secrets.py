"""Where an endpoint's key comes from: the environment variable whose name is configured, never a file of ours."""

from __future__ import annotations

import os
import shlex
from urllib.parse import urlsplit

from llmctl import net
from llmctl.endpoint.address import normal_url
from llmctl.errors import AccessError, ConfigError, PolicyError, UsageError
from llmctl.types.endpoint import Address, Endpoint


def address_of(endpoint: Endpoint) -> Address:
    """The endpoint with its key.

    Raises AccessError when the variable that should hold it is empty or can't be a key, ConfigError when its address,
    perhaps edited by hand, can't be used, PolicyError when prompt and key would pass a proxy in clear.
    """
    token = None
    if endpoint.key_env:
        token = os.environ.get(endpoint.key_env, "").strip() or None
        if token is None:
            raise AccessError(
                f"the key of {endpoint.name} should be in {endpoint.key_env}, which is not set",
                hint=f"export {endpoint.key_env}=…",
            )
        if not (token.isascii() and token.isprintable()) or " " in token:  # it would break the header, or leak by it
            raise AccessError(
                f"{endpoint.key_env} does not hold a key for {endpoint.name}: there are blanks, line ends or letters "
                "beyond ASCII in it",
                hint=f"export {endpoint.key_env}=…",
            )
    try:
        url = normal_url(endpoint.url)
    except UsageError as error:
        raise ConfigError(f"endpoint {endpoint.name}: {error.message}", hint=error.hint) from error
    _require_no_reader(url)
    return Address(url=url, model=endpoint.model, token=token, ca_file=endpoint.ca_file)


def _require_no_reader(url: str) -> None:
    """Raises PolicyError where plain http goes through a proxy: consent to a server isn't one to the proxy, which could
    read prompt and key. Through https it sees the server's name alone."""
    proxy = net.proxy_of(url) if url.startswith("http:") else None
    if proxy is not None:
        host = urlsplit(url).hostname
        raise PolicyError(
            f"plain http to {net.host_of(url)} would go through the proxy {net.host_of(proxy)}, which could read "
            "prompt and key; nothing was sent",
            hint=f"export NO_PROXY={shlex.quote(str(host))}   to go there directly, or use an https address",
        )
