"""What an endpoint needs before anything is sent: its key, which stands in the environment variable whose name is
configured and never in a file of ours, and a way there that the user has agreed to."""

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
    perhaps edited by hand, can't be used, and PolicyError when it leads over plain http to another machine and the user
    has not agreed to that, or when prompt and key would pass a proxy in clear.
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
    if not (endpoint.plain_http or is_private(url)):
        again = shlex.join(["llmctl", "endpoint", "add", endpoint.name, endpoint.url, "--model", endpoint.model])
        raise readable_on_the_way(url, hint=f"{again} --force   if the way is private (a VPN, a tunnel)")
    _require_no_reader(url)
    return Address(url=url, model=endpoint.model, token=token, ca_file=endpoint.ca_file)


def is_private(url: str) -> bool:
    """Whether nobody on the way to ``url`` can read what is sent: it is https, or leads to this machine."""
    return not url.startswith("http:") or net.is_loopback(url)


def readable_on_the_way(url: str, *, hint: str) -> PolicyError:
    """The error for an address that is not ``is_private`` and was not agreed to."""
    return PolicyError(f"plain http would send prompts to {net.host_of(url)} readable by anyone on the way", hint=hint)


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
