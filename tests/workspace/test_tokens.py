"""The gateway's tokens: what is kept of them, who may read it, and that changes are seen at once."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from multiprocessing.pool import ThreadPool

import pytest

from llmctl.errors import ConfigError, NotFoundError, UsageError
from llmctl.types.access_token import AccessToken
from llmctl.workspace import tokens


def test_the_token_itself_is_kept_nowhere() -> None:
    kept, token = tokens.add("laptop", models=("small",), requests_per_minute=5, tokens_per_minute=6)
    assert token.startswith("llmctl-") and len(token) == len("llmctl-") + 43  # 256 bits in base64
    text = tokens.file().read_text()
    assert token not in text and token.removeprefix("llmctl-") not in text
    assert json.loads(text)[0]["sha256"] == kept.sha256 == sha256(token.encode()).hexdigest()
    assert tokens.read() == (kept,)
    assert stat.S_IMODE(tokens.file().stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["", "-x", "two words", "a/b", "a" * 65, "\x1b[31m", "é"])
def test_a_name_that_cannot_be_one(name: str) -> None:
    with pytest.raises(UsageError, match="can't be a name"):
        tokens.add(name)


def test_a_name_stands_for_one_token() -> None:
    first, _ = tokens.add("ci")
    with pytest.raises(UsageError, match="a token named ci already"):
        tokens.add("ci")
    assert tokens.read() == (first,)


def test_a_running_gateway_sees_every_change() -> None:
    known = tokens.KnownTokens()
    kept, token = tokens.add("ci")
    assert known.of(token) == kept
    other, second = tokens.add("laptop")
    assert (known.of(token), known.of(second)) == (kept, other)
    assert tokens.revoke("ci") == kept
    assert (known.of(token), known.of(second)) == (None, other)
    tokens.file().unlink()
    assert known.of(second) is None


@pytest.mark.parametrize("wrong", ["", "llmctl-", "x" * 50, "\udcff", "é"])
def test_what_is_no_token(wrong: str) -> None:
    _, token = tokens.add("ci")
    known = tokens.KnownTokens()
    assert known.of(wrong) is None
    assert known.of(token[:-1]) is None
    assert known.of(token + " ") is None


def test_a_broken_file_opens_to_nobody() -> None:
    _, token = tokens.add("ci")
    known = tokens.KnownTokens()
    whole = tokens.file().read_bytes()
    tokens.file().write_text('[{"name": "ci"}]')
    for _ in range(2):
        with pytest.raises(ConfigError, match="does not hold tokens"):
            known.of(token)
    tokens.file().write_bytes(whole)
    assert known.of(token) is not None


def test_revoking_what_is_not_there() -> None:
    tokens.add("laptop")
    with pytest.raises(NotFoundError, match="no token named laptpo; did you mean laptop"):
        tokens.revoke("laptpo")


def test_a_token_expires_by_the_second() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    token = AccessToken("ci", "", "2026-01-01T00:00:00Z", "2026-01-02T03:04:05Z")
    assert not token.has_expired(now - timedelta(seconds=1))
    assert token.has_expired(now)
    assert not AccessToken("ci", "", "2026-01-01T00:00:00Z").has_expired(now)
    kept, _ = tokens.add("short", expires_s=60)
    assert not kept.has_expired()
    assert kept.has_expired(datetime.now(UTC) + timedelta(seconds=61))


def test_many_at_once_lose_nothing() -> None:
    with ThreadPool(8) as pool:
        pool.map(lambda number: tokens.add(f"t{number}"), range(16))
    assert {token.name for token in tokens.read()} == {f"t{number}" for number in range(16)}
