"""The tokens of those who may use the gateway: ``tokens.json`` in the data folder.

A token is 256 bits from the system's generator, and only its sha256 is kept. A slow hash would protect nothing more:
it makes guessing dear where people choose what is guessed, and nobody guesses 256 bits. It would make every request
dear instead.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from llmctl import paths
from llmctl.errors import ConfigError, NotFoundError, ResourceError, UsageError
from llmctl.files import atomic
from llmctl.near import did_you_mean, near
from llmctl.shell import command
from llmctl.struct import asdict
from llmctl.types.access_token import PREFIX, TIME, AccessToken

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RANDOM_BYTES = 32
OWN_NAME = "llmctl on this machine"  # which none in the file can have
LONGEST_S = 100 * 365 * 86_400  # until a token expires
FILE_BYTES = 1 << 20
PATIENCE_S = 10.0  # another process has the lock for as long as the file takes to write
DATA_ELSEWHERE = "export XDG_DATA_HOME=/path   where you may write"

Version = tuple[int, int, int]


def file() -> Path:
    return paths.data_dir() / "tokens.json"


def add(
    name: str,
    *,
    expires_s: float | None = None,
    models: Sequence[str] = (),
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> tuple[AccessToken, str]:
    """Makes a token, for ``expires_s`` seconds from now, and returns what is kept of it and the token itself, which is
    kept nowhere. Raises UsageError for a name that can't be one or is taken, ConfigError, ResourceError."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be a name: letters, digits, dot, dash and underscore, at most 64")
    if expires_s is not None and expires_s > LONGEST_S:
        raise UsageError("a token expires within 100 years: without --expires it doesn't", hint="llmctl token add -h")
    token = new_token()
    now = datetime.now(UTC)
    expires = None if expires_s is None else (now + timedelta(seconds=expires_s)).strftime(TIME)
    kept = AccessToken(
        name, _sha256(token), now.strftime(TIME), expires, tuple(models), requests_per_minute, tokens_per_minute
    )

    def added(tokens: tuple[AccessToken, ...]) -> tuple[AccessToken, ...]:
        if name in (other.name for other in tokens):
            raise UsageError(
                f"there is a token named {name} already",
                hint=command("llmctl", "token", "revoke", names=[name]) + "   ends it",
            )
        return (*tokens, kept)

    _change(added)
    return kept, token


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def revoke(name: str) -> AccessToken:
    """From now on the token of that name opens nothing, also in gateways that run. Returns what was kept of it. Raises
    NotFoundError, ConfigError, ResourceError."""
    revoked: list[AccessToken] = []

    def without(tokens: tuple[AccessToken, ...]) -> tuple[AccessToken, ...]:
        revoked.extend(token for token in tokens if token.name == name)
        if not revoked:
            likely = did_you_mean(near(name, [token.name for token in tokens]))
            raise NotFoundError(f"there is no token named {name}{likely}", hint="llmctl token list")
        return tuple(token for token in tokens if token.name != name)

    _change(without)
    return revoked[0]


def read() -> tuple[AccessToken, ...]:
    """The tokens there are, the oldest first, those that have expired too. Raises ConfigError."""
    place = file()
    try:
        with place.open("rb") as stream:
            return msgspec.json.decode(stream.read(FILE_BYTES), type=tuple[AccessToken, ...])
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{place} can't be read: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:  # its words may repeat what stands there
        raise ConfigError(
            f"{place} does not hold tokens as llmctl writes them",
            hint=command("rm", place) + "   then llmctl token add for each who may use the gateway",
        ) from error


class KnownTokens:
    """The tokens of the file as it is now: what is added or revoked counts from the next request on. ``own`` is a token
    beside them, for programs that llmctl starts on this machine; none where it is empty."""

    def __init__(self, own: str = "") -> None:
        self._own = AccessToken(OWN_NAME, _sha256(own), "") if own else None
        self._version: Version | None = None
        self._tokens: tuple[tuple[bytes, AccessToken], ...] = ()

    def of(self, secret: str) -> AccessToken | None:
        """The token that ``secret`` is, expired or not; None if it is none. How long that takes tells nothing of how
        much of it is right. Raises ConfigError, and then no token is known."""
        self._read_again()
        given = _sha256(secret).encode()
        matching = [token for digest, token in self._tokens if hmac.compare_digest(digest, given)]
        if self._own is not None and hmac.compare_digest(self._own.sha256.encode(), given):
            matching.append(self._own)
        return matching[0] if matching else None

    def _read_again(self) -> None:
        version = _version(file())
        if version != self._version:
            self._version, self._tokens = None, ()
            self._tokens = tuple((token.sha256.encode(), token) for token in read())
            self._version = version


def _version(place: Path) -> Version:
    """What changes whenever the file is replaced: zeros where there is none."""
    try:
        status = place.stat()
    except OSError:
        return (0, 0, 0)
    return status.st_ino, status.st_mtime_ns, status.st_size


def _change(change: Callable[[tuple[AccessToken, ...]], tuple[AccessToken, ...]]) -> None:
    from llmctl.files.lock import locked

    place = file()
    with locked(place.with_suffix(".lock"), waiting=_impatient(place), hint=DATA_ELSEWHERE):
        tokens = change(read())
        try:
            atomic.write(place, msgspec.json.encode([asdict(token) for token in tokens]), lasting=True)
        except OSError as error:
            raise ResourceError(
                f"{place} can't be written: {error.strerror or error}", hint=command("ls", "-ld", place.parent)
            ) from error


def _impatient(place: Path) -> Callable[[], None]:
    """To be called while the lock is waited for: raises ResourceError after PATIENCE_S."""
    until = time.monotonic() + PATIENCE_S

    def waiting() -> None:
        if time.monotonic() > until:
            raise ResourceError(
                f"{place} is being changed by another process, for more than {PATIENCE_S:g} s now",
                hint="run the same command again when that is done",
            )

    return waiting


def _sha256(token: str) -> str:
    import hashlib

    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
