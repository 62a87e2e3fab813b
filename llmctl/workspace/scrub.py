"""Takes out of a text what names a person, a place or a secret, before somebody else reads it. Pure but for
``of_this_machine``."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from msgspec import Struct

from llmctl.address import redacted
from llmctl.child import SECRET
from llmctl.types.endpoint import Endpoint, KeyVariable

SHORTEST = 3  # a name of two letters stands in too many words
SHORTEST_SECRET = 8
EVERYBODYS = frozenset({"root", "user", "ubuntu", "localhost", "home"})
WITHHELD = "(taken out)"


class Scrub(Struct, frozen=True):
    """``words`` are replaced where they stand alone, ``texts`` wherever they stand; both by what they map to."""

    texts: Mapping[str, str]
    words: Mapping[str, str]

    def __call__(self, text: str) -> str:
        text = redacted(text)
        for secret, instead in sorted(self.texts.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(secret, instead)
        for word, instead in self.words.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", instead, text)
        return text


def of_this_machine(endpoints: Sequence[Endpoint]) -> Scrub:
    """For the user, the machine and the servers, and for whatever a variable of the environment holds that is named as
    a secret, or that a server's key is said to be in."""
    texts = {value: WITHHELD for name, value in os.environ.items() if _is_secret(name, value, endpoints)}
    home = os.path.expanduser("~")  # noqa: PTH111  pathlib raises where there is none
    if len(home) > SHORTEST and os.path.isabs(home):  # noqa: PTH117
        texts[home] = "~"
    words = {name: instead for name, instead in _names().items() if _is_telling(name)}
    for number, endpoint in enumerate(endpoints, 1):
        words |= dict.fromkeys((_host(endpoint.url), endpoint.name), f"server-{number}")
    return Scrub(texts, {word: instead for word, instead in words.items() if word})


def _is_secret(name: str, value: str, endpoints: Sequence[Endpoint]) -> bool:
    named = {endpoint.key.name for endpoint in endpoints if isinstance(endpoint.key, KeyVariable)}
    return len(value) >= SHORTEST_SECRET and (name in named or SECRET.search(name) is not None)


def _names() -> dict[str, str]:
    names = {socket.gethostname(): "(this machine)"}
    with suppress(OSError, KeyError):  # no entry in the passwd file
        names[getpass.getuser()] = "(the user)"
    return names


def _is_telling(name: str) -> bool:
    return len(name) >= SHORTEST and name.casefold() not in EVERYBODYS


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
