"""Adding, showing, testing and removing the user's own servers, and which of them is asked first."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from llmctl import settings
from llmctl.endpoint.address import normal_url
from llmctl.endpoint.again import add_command
from llmctl.endpoint.secrets import address_of, is_private, readable_on_the_way
from llmctl.endpoint.session import require_sealing as require_sealing
from llmctl.errors import AccessError, CertificateError, LlmctlError, NetworkError, UsageError
from llmctl.net import host_of, is_loopback
from llmctl.settings import Settings
from llmctl.settings.endpoint_table import (
    PAD_EXPECTED,
    PIN_EXPECTED,
    PROXY_EXPECTED,
    is_pad,
    is_pin,
    is_proxy,
    table_of,
    why_no_key,
)
from llmctl.types.endpoint import (
    NO_LIMITS,
    SYSTEM_TRUST,
    ClientCertificate,
    Endpoint,
    KeyReference,
    Limits,
    Price,
    Seal,
    Trust,
)
from llmctl.types.listener import Listener
from llmctl.workspace import configuration, endpoint_key

if TYPE_CHECKING:
    from llmctl.endpoint.health import ServerOffer
    from llmctl.types.finding import Check

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHOWN_MODELS = 8
SEAL_HINT = "llmctl serve --sealed   shows the line llmctl-key:… on the other machine"


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
    listener: Listener,
    name: str,
    url: str,
    *,
    model: str | None,
    key: KeyReference | None = None,
    trust: Trust = SYSTEM_TRUST,
    limits: Limits = NO_LIMITS,
    priority: int = 0,
    readers: str | None = None,
    proxy: str | None = None,
    price: Price | None = None,
    continues: bool = False,
    seal: Seal | None = None,
    force: bool = False,
) -> Added:
    """Adds a server, which is the consent to send prompts there. ``force`` allows plain http to another machine, and
    replaces the one of that name.

    No prompt is sent. The server is asked for its models where ``model`` is None; and where a person can be asked, for
    them (which program it is), and for its certificate, which may be one that only that person can vouch for. Raises
    UsageError, PolicyError, CertificateError for a server that the person doesn't trust, what asking for models raises
    (OfflineError, too), ResourceError and ConfigError.
    """
    _require_names(name, model)
    key = None if key is None else endpoint_key.checked(key)
    address = normal_url(url)
    plain_http = not is_private(address)
    if plain_http and not force:
        raise readable_on_the_way(address, hint="use https, or add --force if the way is private (a VPN, a tunnel)")
    loaded = configuration.load(listener)  # a file with something wrong in it is not written to
    endpoint = Endpoint(
        name,
        address,
        model or "",
        key=key,
        trust=_checked(trust, address),
        plain_http=plain_http,
        limits=limits,
        priority=priority,
        readers=readers or None,
        proxy=_checked_proxy(proxy, address),
        price=price,
        continues=continues,
        seal=seal,
    )
    if not force and name in (other.name for other in loaded.endpoints):
        raise UsageError(f"there is an endpoint named {name} already", hint=f"{add_command(endpoint)}   replaces it")
    endpoint = replace(endpoint, trust=_confirmed(listener, endpoint, offline=loaded.offline))
    if model is None:
        if not is_loopback(address):
            loaded.require_network(f"{name}, which would be asked for its models,")
        endpoint = replace(endpoint, model=_offered(listener, endpoint))
    elif listener.interactive and not (loaded.offline and not is_loopback(address)):
        _recognise(listener, endpoint)
    file = settings.add_endpoint(endpoint, replacing=force)
    loaded = settings.load()
    return Added(loaded.endpoint(name), loaded, file)


def _require_names(name: str, model: str | None) -> None:
    """Raises UsageError for what can't be a server's or a model's name."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be a name: letters, digits, dot, dash and underscore, at most 64")
    if model is not None and not model.strip():
        raise UsageError("--model must name the model on that server", hint="llmctl endpoint add --help")


def seal(key: str | None, pad_bytes: int | None) -> Seal | None:
    """What requests are sealed for. Raises UsageError for a line that holds no key, and where sealing is not
    installed."""
    if key is None:
        if pad_bytes is not None:
            raise UsageError("--pad is for sealed requests: it needs --seal-key", hint=SEAL_HINT)
        return None
    if (why := why_no_key(key)) is not None:
        raise UsageError(f"--seal-key holds no key: {why}", hint=SEAL_HINT)
    if pad_bytes is not None and not is_pad(pad_bytes):
        raise UsageError(f"--pad must be {PAD_EXPECTED}")
    require_sealing()
    return Seal(key) if pad_bytes is None else Seal(key, pad_bytes)


def seal_words(seal: Seal) -> str:
    """For a person, with the fingerprint of the key that is used now."""
    from llmctl.endpoint.seal_pins import current, pin_of

    key = current(seal)
    pinned = "as pinned" if key == pin_of(seal) else "which the pinned key vouches for"
    return f"for the key {key.fingerprint}, {pinned}; in multiples of {seal.pad_bytes:,} bytes"


def _checked(trust: Trust, url: str) -> Trust:
    """Raises UsageError for a CA file that isn't there and a pin that can be none."""
    if trust.pin is not None and not is_pin(trust.pin):
        raise UsageError(f"--pin must be {PIN_EXPECTED}", hint="llmctl endpoint test NAME   shows a server's")
    if trust.pin is not None and not url.startswith("https:"):
        raise UsageError("--pin is of a certificate, and the address is not https")
    client = trust.client
    if client is not None and not url.startswith("https:"):
        raise UsageError("--client-cert is for https, and the address is not")
    if client is not None:
        client = ClientCertificate(_found(client.cert_file), _found(client.key_file))
    return Trust(None if trust.ca_file is None else _found(trust.ca_file), trust.pin, client)


def _found(file: str) -> str:
    """The path as it means the same from every folder. Raises UsageError."""
    if not Path(file).expanduser().is_file():
        raise UsageError(f"there is no file {file}")
    return str(Path(file).expanduser().resolve())


def _checked_proxy(proxy: str | None, url: str) -> str | None:
    """Raises UsageError for what can be no proxy, or for one on the way to this machine; it is not repeated, it may
    hold a password."""
    if proxy is not None and not is_proxy(proxy):
        raise UsageError(f"--proxy must be {PROXY_EXPECTED}", hint="export HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT")
    if proxy is not None and is_loopback(url):
        raise UsageError("--proxy is a way to another machine, and the address is on this one")
    return proxy


def _confirmed(listener: Listener, endpoint: Endpoint, *, offline: bool) -> Trust:
    """Trust on first use, as SSH has it: a person is shown the key of a certificate that no authority vouches for, and
    it is pinned if that person says so. Raises CertificateError if not."""
    from llmctl.endpoint.trust import identity

    url, trust = endpoint.url, endpoint.trust
    may_ask = listener.interactive and not (offline and not is_loopback(url))
    if not may_ask or trust.ca_file or trust.pin or not url.startswith("https:"):
        return trust
    try:
        seen = identity(url, trust, endpoint.proxy)
    except (NetworkError, AccessError) as error:
        listener.note(f"  its certificate was not looked at: {error.message}")
        return trust
    if seen.problem is None:
        return trust
    shown, host = seen.certificate, host_of(url)
    listener.note(f"Nothing proves that this is your server: {seen.problem}. It shows:")
    listener.note(f"  key  {shown.pin}")
    listener.note(f"  for  {', '.join(shown.names) or shown.subject}")
    listener.note(f"  by   {shown.issuer}")
    listener.note(f"  ends {shown.ends:%Y-%m-%d}")
    if listener.confirm("Is that your server's key? It is trusted from now on", yes=False, by_default=False):
        return replace(trust, pin=shown.pin)
    hint = f"llmctl endpoint add … --pin {shown.pin}   once its owner has confirmed it"
    raise CertificateError(f"the key of {host} was not confirmed, so nothing was added", hint=hint)


def _offered(listener: Listener, endpoint: Endpoint) -> str:
    """The server's only model. Raises UsageError that lists them where there are several."""
    from llmctl.endpoint.health import offer
    from llmctl.endpoint.refusal import keyless

    address = address_of(endpoint)
    try:
        with keyless(address):
            offered = offer(address)
    except NetworkError as error:
        unasked = add_command(replace(endpoint, model="NAME"), force=endpoint.plain_http)
        hint = f"{unasked}   adds it without asking"
        raise type(error)(f"the server can't be asked for its models: {error.message}", hint=hint) from error
    names = offered.models or ()
    _tell_software(listener, offered)
    if len(names) == 1:
        listener.note(f"  {host_of(endpoint.url)} has one model, {names[0]}")
        return names[0]
    if not names:
        raise UsageError("the server lists no models: --model must name the one on that server")
    listed = ", ".join(names[:SHOWN_MODELS]) + (", …" if len(names) > SHOWN_MODELS else "")
    again = add_command(replace(endpoint, model=names[0]), force=endpoint.plain_http)
    raise UsageError(f"the server has {len(names)} models, --model names the one to ask: {listed}", hint=again)


def _recognise(listener: Listener, endpoint: Endpoint) -> None:
    """Says which program the server is, if it tells; that it can't be asked now is no error."""
    from llmctl.endpoint.health import offer

    with suppress(LlmctlError):
        _tell_software(listener, offer(address_of(endpoint)))


def _tell_software(listener: Listener, offered: ServerOffer) -> None:
    if offered.software is not None:
        advice = offered.software.advice
        listener.note(f"  it is {offered.software.name}{'' if advice is None else f': {advice}'}")


def remove(listener: Listener, name: str) -> Settings:
    """Forgets a server, and returns the settings from now on. Raises NotFoundError, ResourceError and ConfigError."""
    configuration.load(listener).endpoint(name)
    settings.remove_endpoint(name)
    return settings.load()


def prefer(listener: Listener, name: str) -> Settings:
    """From now on the endpoint of that name is asked before the others. Raises NotFoundError, ResourceError and
    ConfigError."""
    loaded = configuration.load(listener)
    endpoint = loaded.endpoint(name)
    others = [other.priority for other in loaded.endpoints if other.name != name]
    if loaded.endpoints[0].name != name:
        settings.add_endpoint(replace(endpoint, priority=max(others) + 1))
    return settings.load()


def row(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as JSON has it. ``key_set``: whether the key is where it should be, None where that takes more than
    a look."""
    return {"name": endpoint.name, **table_of(endpoint), "key_set": endpoint_key.is_set(endpoint.key)}


def try_out(listener: Listener, name: str, tell: Callable[[Check], None]) -> LlmctlError | None:
    """Looks at a server from its name to the form of its answers, and tells of each finding. Returns the error after
    which nothing more could be looked at. Raises NotFoundError, OfflineError and ConfigError."""
    from llmctl.checks.endpoint import examine

    loaded = configuration.load(listener)
    endpoint = loaded.endpoint(name)
    if not is_loopback(endpoint.url):
        loaded.require_network(name)
    error = examine(endpoint, tell)
    if error is None:
        from llmctl.router.kept_availability import forget

        forget(endpoint)
    return error
