"""The user's token for the model hub. It goes to the hub's own host and nowhere else, and into no message."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from llmctl import net, paths
from llmctl.errors import ConfigError

MAX_TOKEN_BYTES = 4096
KEPT_BACK = "HF_HUB_DISABLE_IMPLICIT_TOKEN"


@dataclass(frozen=True)
class Token:
    """``origin`` says where it was found."""

    text: str = field(repr=False)
    origin: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.text}"}


def token(hub_url: str) -> Token | None:
    """HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the file that the hub's own tools write at login (HF_TOKEN_PATH, HF_HOME).

    None also where it would travel unencrypted, and where HF_HUB_DISABLE_IMPLICIT_TOKEN keeps it back. Raises
    ConfigError for what can't be a token.
    """
    if is_kept_back() or (urlsplit(hub_url).scheme != "https" and not net.is_loopback(hub_url)):
        return None
    text, origin = next(_sources(), ("", ""))
    if not text:
        return None
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ConfigError(
            f"what {origin} holds can't be a token: it has blanks or other characters that no token has",
            hint="export HF_TOKEN=hf_…",
        )
    return Token(text, origin)


def is_kept_back() -> bool:
    """Whether the user wants no token sent but on demand; llmctl has no option for that."""
    return os.environ.get(KEPT_BACK, "").upper() in ("1", "ON", "YES", "TRUE")


def advice() -> str:
    """What a person does so that a token is sent."""
    return f"unset {KEPT_BACK}, which keeps the token back" if is_kept_back() else "set HF_TOKEN"


def _sources() -> Iterator[tuple[str, str]]:
    """What may be the token, and where it was found, the first in force before the others."""
    for variable in paths.HUB_TOKEN_VARIABLES:
        if text := _cleaned(os.environ.get(variable, "")):
            yield text, variable
    file = paths.hub_token_file()
    with suppress(OSError), file.open("rb") as stream:
        yield _cleaned(stream.read(MAX_TOKEN_BYTES).decode("utf-8", "replace")), str(file)


def _cleaned(text: str) -> str:
    """As the hub's tools clean it, and without the quotes that files of variables leave around a value."""
    text = text.replace("\r", "").replace("\n", "").strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1].strip() if quoted else text
