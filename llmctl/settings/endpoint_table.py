"""An endpoint as a table of the configuration, ``[endpoints.office]``, and back.

``key_env``, ``key_file``, ``key_keyring`` (``SERVICE/USER``, or the user of the service llmctl) and ``key_command`` say
where the key is; one of them at most.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, assert_never
from urllib.parse import urlsplit

from llmctl.files.decode import FieldError, Table
from llmctl.types.endpoint import (
    ClientCertificate,
    Endpoint,
    KeyCommand,
    KeyFile,
    KeyReference,
    KeyringEntry,
    KeyVariable,
    Limits,
    Price,
    Seal,
    Trust,
)

KEYRING_SERVICE = "llmctl"
PIN = re.compile(r"sha256:[0-9a-f]{64}")
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
PROXY_EXPECTED = "an address such as http://proxy.example:3128, without a password: that belongs into HTTPS_PROXY"
MOST_PAD_BYTES = 1 << 20
SEAL_EXPECTED = "the line llmctl-key:… that `llmctl serve --sealed` shows"
PAD_EXPECTED = f"a number of bytes from 1 (no padding) to {MOST_PAD_BYTES:,}"
PIN_EXPECTED = "sha256: and 64 hexadecimal digits in lower case"
FIELD_OF: Mapping[type[KeyReference], str] = {
    KeyVariable: "key_env",
    KeyFile: "key_file",
    KeyringEntry: "key_keyring",
    KeyCommand: "key_command",
}
KEYS = tuple(FIELD_OF.values())
LIMITS_S = ("connect_s", "first_token_s", "between_s", "silent_s")
CLIENT = ("client_cert", "client_key")
PRICES = ("price_in", "price_out")
SEAL = ("seal_key", "seal_pad")
FIELDS = (
    *("url", "model", *KEYS, "ca_file", "pin", *CLIENT, "proxy", "plain_http", "context", *LIMITS_S),
    *("priority", *PRICES, "continues", "readers", *SEAL),
)


def endpoint_of(name: str, value: object) -> Endpoint:
    """Raises FieldError for a field that is missing, wrong, or none of FIELDS."""
    table = Table(value, f"[endpoints.{name}]")
    keys = {field: text for field in KEYS if (text := table.text_or_none(field)) is not None}
    if len(keys) > 1:
        raise FieldError(table.path(list(keys)[1]), f"must be left out: the key is in {next(iter(keys))}")
    pin = table.text_or_none("pin")
    table.check(pin is None or is_pin(pin), "pin", PIN_EXPECTED)
    made = Endpoint(
        name,
        table.text("url"),
        table.text("model"),
        key=next((reference_of(field, text) for field, text in keys.items()), None),
        trust=Trust(table.text_or_none("ca_file"), pin, _client(table)),
        plain_http=table.flag("plain_http"),
        limits=Limits(table.count_or_none("context"), *(_seconds(table, field) for field in LIMITS_S)),
        priority=table.count_or_none("priority") or 0,
        readers=table.text_or_none("readers"),
        proxy=_proxy(table),
        price=_price(table),
        continues=table.flag("continues"),
        seal=_seal(table),
    )
    table.end()
    return made


def _client(table: Table) -> ClientCertificate | None:
    cert_file, key_file = map(table.text_or_none, CLIENT)
    table.check((cert_file is None) == (key_file is None), CLIENT[0], f"given with {CLIENT[1]}, or neither")
    return None if cert_file is None or key_file is None else ClientCertificate(cert_file, key_file)


def _proxy(table: Table) -> str | None:
    proxy = table.text_or_none("proxy")
    table.check(proxy is None or is_proxy(proxy), "proxy", PROXY_EXPECTED)
    return proxy


def _price(table: Table) -> Price | None:
    prices = [_finite(table, field) for field in PRICES]
    return None if prices == [None, None] else Price(*(price or 0.0 for price in prices))


def _seal(table: Table) -> Seal | None:
    key, pad_bytes = table.text_or_none("seal_key"), table.count_or_none("seal_pad")
    if key is None:
        table.check(pad_bytes is None, "seal_pad", "given with seal_key, or neither")
        return None
    table.check(why_no_key(key) is None, "seal_key", SEAL_EXPECTED)
    table.check(pad_bytes is None or is_pad(pad_bytes), "seal_pad", PAD_EXPECTED)
    return Seal(key) if pad_bytes is None else Seal(key, pad_bytes)


def why_no_key(line: str) -> str | None:
    """What is wrong with a gateway's line, None where nothing is."""
    from llmctl.sealed.key_configuration import KeyConfiguration
    from llmctl.sealed.message_error import SealedMessageError

    try:
        KeyConfiguration.of_line(line)
    except SealedMessageError as error:
        return str(error)
    return None


def is_pad(pad_bytes: int) -> bool:
    return 1 <= pad_bytes <= MOST_PAD_BYTES


def table_of(endpoint: Endpoint) -> dict[str, Any]:
    """All FIELDS, None where nothing is set."""
    key, trust, limits = endpoint.key, endpoint.trust, endpoint.limits
    keys = {} if key is None else {FIELD_OF[type(key)]: text_of(key)}
    client, price = trust.client, endpoint.price
    return {
        "url": endpoint.url,
        "model": endpoint.model,
        **dict.fromkeys(KEYS),
        **keys,
        "ca_file": trust.ca_file,
        "pin": trust.pin,
        "client_cert": None if client is None else client.cert_file,
        "client_key": None if client is None else client.key_file,
        "proxy": endpoint.proxy,
        "plain_http": endpoint.plain_http,
        "context": limits.context,
        **{field: getattr(limits, field) for field in LIMITS_S},
        "priority": endpoint.priority,
        "price_in": None if price is None else price.prompt,
        "price_out": None if price is None else price.answer,
        "continues": endpoint.continues,
        "readers": endpoint.readers,
        "seal_key": None if endpoint.seal is None else endpoint.seal.key,
        "seal_pad": None if endpoint.seal is None else endpoint.seal.pad_bytes,
    }


def is_pin(text: str) -> bool:
    return PIN.fullmatch(text) is not None


def is_proxy(text: str) -> bool:
    """Whether ``text`` can be a proxy's address that is kept in a file: one with a password can't."""
    try:
        parts = urlsplit(text)
        return parts.scheme in PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0 and "@" not in text
    except ValueError:  # no number, brackets that don't close
        return False


def reference_of(field: str, text: str) -> KeyReference:
    """The key reference that stands as ``text`` in one of KEYS."""
    if field == "key_env":
        return KeyVariable(text)
    if field == "key_file":
        return KeyFile(text)
    if field == "key_command":
        return KeyCommand(text)
    service, separator, user = text.rpartition("/")
    return KeyringEntry(service if separator else KEYRING_SERVICE, user)


def text_of(reference: KeyReference) -> str:
    """The reference as its field holds it."""
    match reference:
        case KeyVariable(name):
            return name
        case KeyFile(path):
            return path
        case KeyringEntry(service, user):
            return f"{service}/{user}"
        case KeyCommand(line):
            return line
        case _:
            assert_never(reference)


def _seconds(table: Table, field: str) -> float | None:
    return _finite(table, field, "a number of seconds")


def _finite(table: Table, field: str, expected: str = "a finite number") -> float | None:
    value = table.positive_or_none(field)
    table.check(value is None or value < math.inf, field, expected)
    return None if value is None else float(value)
