"""What is typed in answer to a question of the set-up, as what it means. Pure; what makes no sense is a UsageError."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from llmctl import units
from llmctl.errors import UsageError
from llmctl.near import did_you_mean, near

USUAL, SMALL, PATIENT = "usual", "small", "patient"
SMALL_BYTES = 2_000_000_000
PATIENT_SHARE = 0.25  # of the speed that is usual for the task
BOTH, KEEP_ALIVE, COMPLETION, NONE = "both", "keep-alive", "completion", "none"
STAYS = "5m"
LOCALE = re.compile(r"([a-z]{2,3})(?:[_.@]|$)")
HINT = "llmctl setup --help"


class SetupLimits(Struct, frozen=True):
    """``max_download_bytes`` is the largest download, None for whatever the disk has room for; ``is_patient``: a slow
    answer is accepted where it is a better one."""

    max_download_bytes: int | None = None
    is_patient: bool = False


def option(text: str, names: Sequence[str]) -> str:
    """The name that is meant by its number, from 1, or by itself."""
    typed = text.strip().casefold()
    if typed.isdecimal() and 1 <= int(typed) <= len(names):
        return names[int(typed) - 1]
    if typed in names:
        return typed
    meant = did_you_mean(near(typed, names))
    raise UsageError(
        f"{text!r} is none of {', '.join(names)}, nor a number from 1 to {len(names)}{meant}",
        hint=HINT,
    )


def limits(text: str) -> SetupLimits:
    """Of usual, small, patient, or a size like 5GB."""
    match text.strip().casefold():
        case "usual" | "1":
            return SetupLimits()
        case "small" | "2":
            return SetupLimits(SMALL_BYTES)
        case "patient" | "3":
            return SetupLimits(is_patient=True)
    try:
        size_bytes = units.parse_size(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is none of usual, small, patient, nor a size like 5GB", hint=HINT) from error
    if size_bytes < 1:
        raise UsageError(f"a download of {text!r} holds no model", hint=HINT)
    return SetupLimits(size_bytes)


def language(text: str, names: Mapping[str, str]) -> str:
    """The code of a language by its code or its English name; ``names`` has the English name of each code."""
    typed = text.strip().casefold()
    if typed in names:
        return typed
    code = next((code for code, name in names.items() if name == typed), None)
    if code is not None:
        return code
    if typed.isascii() and typed.isalpha() and len(typed) in (2, 3):
        return typed
    meant = did_you_mean(near(typed, list(names.values())))
    raise UsageError(f"{text!r} is no language that is known here{meant}", hint=HINT)


def language_of_locale(environ: Mapping[str, str]) -> str | None:
    """The language of the user's system, None for English and where it isn't said."""
    said = next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), "")
    match = LOCALE.match(said)
    return None if match is None or match[1] == "en" else match[1]


def server(text: str) -> tuple[str, str | None]:
    """An address, and behind a blank the model's name there, where the server has several."""
    address, _, model = text.strip().partition(" ")
    if not address.startswith(("http://", "https://")):
        raise UsageError(f"{address!r} is no address: it must begin with https:// (or http:// on this machine)")
    return address, model.strip() or None


def server_name(address: str, taken: Sequence[str]) -> str:
    """A short name for the server at ``address``: the first part of its host's."""
    from urllib.parse import urlsplit

    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        host = ""
    first = host.partition(".")[0]
    is_name = re.fullmatch(r"[a-z][a-z0-9-]{0,30}", first) is not None
    base = first if is_name and first != "localhost" else "home"
    numbered = (base if number == 1 else f"{base}{number}" for number in range(1, len(taken) + 2))
    return next(name for name in numbered if name not in taken)


def key_fields(text: str) -> dict[str, str | None]:
    """Where a key is, by the field of the configuration: a variable's name, or a file's path."""
    typed = text.strip()
    is_file = "/" in typed or typed.startswith("~")
    return {"key_file" if is_file else "key_env": typed}
