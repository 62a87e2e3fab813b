"""The user's token for the model hub. It goes to the hub's own host and nowhere else, and into no message."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from llmctl import net, paths
from llmctl.errors import ConfigError

MAX_TOKEN_BYTES = 4096


@dataclass(frozen=True)
class Token:
    """``origin`` says where it was found."""

    text: str = field(repr=False)
    origin: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.text}"}


def token(hub_url: str) -> Token | None:
    """HF_TOKEN, or the file that the hub's own tools write at login (HF_TOKEN_PATH, HF_HOME).

    None also where it would travel unencrypted. Raises ConfigError for what can't be a token.
    """
    if urlsplit(hub_url).scheme != "https" and not net.is_loopback(hub_url):
        return None
    text, origin = os.environ.get("HF_TOKEN", "").strip(), "HF_TOKEN"
    if not text:
        file = paths.hub_token_file()
        try:
            with file.open("rb") as stream:
                text, origin = stream.read(MAX_TOKEN_BYTES).decode("utf-8", "replace").strip(), str(file)
        except OSError:
            return None
    if not text:
        return None
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ConfigError(
            f"what {origin} holds can't be a token: it has blanks or other characters that no token has",
            hint="export HF_TOKEN=hf_…",
        )
    return Token(text, origin)
