"""What an endpoint needs before anything is sent: its key, which is nowhere in a file of ours, and a way there that the
user has agreed to."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from llmctl import net
from llmctl.endpoint.address import normal_url
from llmctl.endpoint.again import add_command
from llmctl.endpoint.keys import key_of, require_client
from llmctl.errors import ConfigError, PolicyError, UsageError
from llmctl.types.endpoint import Address, Endpoint


def address_of(endpoint: Endpoint) -> Address:
    """The endpoint with its key.

    Raises AccessError when the key, its own or that of its client certificate, is not where it should be or can't be
    one, ConfigError when its address, perhaps
    edited by hand, can't be used, and PolicyError when it leads over plain http to another machine and the user has not
    agreed to that, or when prompt and key would pass a proxy in clear.
    """
    try:
        url = normal_url(endpoint.url)
    except UsageError as error:
        raise ConfigError(f"endpoint {endpoint.name}: {error.message}", hint=error.hint) from error
    if not (endpoint.plain_http or is_private(url)):
        raise readable_on_the_way(url, hint=f"{add_command(endpoint)}   if the way is private (a VPN, a tunnel)")
    if endpoint.proxy is not None and net.is_loopback(url):
        raise ConfigError(f"endpoint {endpoint.name}: it is on this machine, where no proxy leads to")
    _require_no_reader(url, endpoint.proxy)
    if endpoint.trust.pin and not url.startswith("https:"):
        raise ConfigError(f"endpoint {endpoint.name}: a pin is of a certificate, and its address is not https")
    if endpoint.trust.client is not None:
        require_client(endpoint.trust.client, endpoint.name)
    token = None if endpoint.key is None else key_of(endpoint.key, endpoint.name)
    return Address(url, endpoint.model, token, endpoint.trust, endpoint.proxy, endpoint.seal)


def is_private(url: str) -> bool:
    """Whether nobody on the way to ``url`` can read what is sent: it is https, or leads to this machine."""
    return not url.startswith("http:") or net.is_loopback(url)


def readable_on_the_way(url: str, *, hint: str) -> PolicyError:
    """The error for an address that is not ``is_private`` and was not agreed to."""
    return PolicyError(f"plain http would send prompts to {net.host_of(url)} readable by anyone on the way", hint=hint)


def _require_no_reader(url: str, own_proxy: str | None) -> None:
    """Raises PolicyError where plain http goes through a proxy: consent to a server isn't one to the proxy, which could
    read prompt and key. Through https it sees the server's name alone."""
    proxy = own_proxy or net.proxy_of(url) if url.startswith("http:") else None
    if proxy is not None:
        host = urlsplit(url).hostname
        direct = f"export NO_PROXY={shlex.quote(str(host))}   to go there directly, or use an https address"
        raise PolicyError(
            f"plain http to {net.host_of(url)} would go through the proxy {net.host_of(proxy)}, which could read "
            "prompt and key; nothing was sent",
            hint=direct if own_proxy is None else "use an https address, or leave out the endpoint's proxy",
        )
