"""An endpoint as a table of the configuration, ``[endpoints.office]``, and back.

``key_env``, ``key_file``, ``key_keyring`` (``SERVICE/USER``, or the user of the service llmctl) and ``key_command`` say
where the key is; one of them at most.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, assert_never

from llmctl.files.decode import FieldError, Table
from llmctl.types.endpoint import (
    Endpoint,
    KeyCommand,
    KeyFile,
    KeyReference,
    KeyringEntry,
    KeyVariable,
    Limits,
    Trust,
)

KEYRING_SERVICE = "llmctl"
PIN = re.compile(r"sha256:[0-9a-f]{64}")
PIN_EXPECTED = "sha256: and 64 hexadecimal digits in lower case"
FIELD_OF: Mapping[type[KeyReference], str] = {
    KeyVariable: "key_env",
    KeyFile: "key_file",
    KeyringEntry: "key_keyring",
    KeyCommand: "key_command",
}
KEYS = tuple(FIELD_OF.values())
LIMITS_S = ("connect_s", "first_token_s", "between_s")
FIELDS = ("url", "model", *KEYS, "ca_file", "pin", "plain_http", "context", *LIMITS_S, "priority", "readers")


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
        trust=Trust(table.text_or_none("ca_file"), pin),
        plain_http=table.flag("plain_http"),
        limits=Limits(table.count_or_none("context"), *(_seconds(table, field) for field in LIMITS_S)),
        priority=table.count_or_none("priority") or 0,
        readers=table.text_or_none("readers"),
    )
    table.end()
    return made


def table_of(endpoint: Endpoint) -> dict[str, Any]:
    """All FIELDS, None where nothing is set."""
    key, trust, limits = endpoint.key, endpoint.trust, endpoint.limits
    keys = {} if key is None else {FIELD_OF[type(key)]: text_of(key)}
    return {
        "url": endpoint.url,
        "model": endpoint.model,
        **dict.fromkeys(KEYS),
        **keys,
        "ca_file": trust.ca_file,
        "pin": trust.pin,
        "plain_http": endpoint.plain_http,
        "context": limits.context,
        **{field: getattr(limits, field) for field in LIMITS_S},
        "priority": endpoint.priority,
        "readers": endpoint.readers,
    }


def is_pin(text: str) -> bool:
    return PIN.fullmatch(text) is not None


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
    value = table.positive_or_none(field)
    table.check(value is None or value < math.inf, field, "a number of seconds")
    return None if value is None else float(value)
