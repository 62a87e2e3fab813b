"""Reads a request of a known shape; what is wrong with it is told by the name of its field."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

import msgspec

from llmctl.server.errors import ProblemError, invalid

T = TypeVar("T")
PLACE = re.compile(r"^(?P<why>.*?)(?: - at `\$(?P<place>.*)`)?$", re.DOTALL)


def read(body: bytes, kind: type[T], *, ignored: Collection[str]) -> T:
    """The request in ``body``. ``ignored``: fields that change no answer. Raises ProblemError (400) for what ``kind``
    doesn't have, or has otherwise."""
    from llmctl.server.wire.openai import fields_of

    fields = {name: value for name, value in fields_of(body).items() if bytes(value) != b"null"}
    names = {field.encode_name for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
    for name in fields:
        if name not in names and name not in ignored:
            raise invalid(f"{name!a:.80}", "is not a field that this gateway knows")
    try:
        return msgspec.json.decode(msgspec.json.encode({k: v for k, v in fields.items() if k in names}), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unreadable(error) from error
    except RecursionError as error:
        raise invalid("the body", "is nested too deeply") from error


def unreadable(error: Exception, inside: str = "") -> ProblemError:
    """msgspec's words, behind the field's name, which lies ``inside`` another."""
    matched = PLACE.match(str(error))
    assert matched is not None
    place, why = (inside + (matched["place"] or "")).lstrip("."), matched["why"]
    return invalid(place or "the body", f"can't be read: {why[:1].lower()}{why[1:]}")


def refuse(given: Iterable[tuple[str, Any, str]]) -> None:
    """Raises ProblemError for the first (name, value, why) whose value is there."""
    for name, value, why in given:
        if value:
            raise invalid(name, why)
