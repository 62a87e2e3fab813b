"""Addresses as they may be shown: without what is secret in them."""

from __future__ import annotations

import re

USER_INFO = re.compile(r"[^/?#\s]*@")
# A password may hold what would end a host: "name:pa/ss@host". What follows the colon of a host is a port.
ODD_USER_INFO = re.compile(r"[^/?#@\s]*:(?![0-9]{1,5}(?:[/?#]|$))\S*@")
WITHIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def without_secrets(address: str) -> str:
    """``address`` without user, password, query and fragment, any of which may be a key."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        scheme, rest = "", address
    user_info = USER_INFO.match(rest) or ODD_USER_INFO.match(rest)
    rest = rest[user_info.end() :] if user_info is not None else rest
    return scheme + mark + re.split(r"[?#]", rest, maxsplit=1)[0]


def redacted(text: str) -> str:
    """``text``, somebody else's words, with every address in it without its secrets."""
    return WITHIN.sub(lambda match: without_secrets(match[0]), text)
