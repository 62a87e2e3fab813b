"""``llmctl token``: what it prints, where, and what it refuses."""

from __future__ import annotations

import json

import pytest

from llmctl.cli import main
from llmctl.workspace import tokens


def test_a_token_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "add", "laptop"]) == 0
    added = capsys.readouterr()
    token = added.out.strip()
    assert tokens.KnownTokens().of(token) is not None
    assert token not in added.err and "good until it is revoked" in added.err
    assert main(["token", "list"]) == 0
    listed = capsys.readouterr()
    assert "laptop" in listed.out and "never" in listed.out
    assert main(["token", "list", "--json"]) == 0
    assert main(["token", "revoke", "laptop"]) == 0
    later = listed.out + listed.err + "".join(capsys.readouterr())
    assert token not in later and tokens.read() == ()


def test_limits(capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--requests-per-minute", "20", "--tokens-per-minute", "3000"]
    assert main(["token", "add", "ci", "--expires", "30d", "--models", "a", "--models", "b", *limits, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    (kept,) = tokens.read()
    assert kept.models == ("a", "b") == tuple(data["models"])
    assert (kept.requests_per_minute, kept.tokens_per_minute) == (20, 3000)
    assert data["expires"] == kept.expires is not None and not data["expired"]
    assert "sha256" not in data


@pytest.mark.parametrize("expires", ["", "0", "-1", "soon", "30 days", "999999999d"])
def test_no_duration(expires: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "add", "ci", "--expires", expires]) == 2
    assert capsys.readouterr().out == "" and tokens.read() == ()


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["revoke", "nobody"], 4, "there is no token named nobody"),
        (["add", "a b"], 2, "can't be a name"),
    ],
)
def test_errors(argv: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", *argv]) == code
    assert words in capsys.readouterr().err


def test_a_broken_file(capsys: pytest.CaptureFixture[str]) -> None:
    tokens.file().parent.mkdir(parents=True)
    tokens.file().write_text("{")
    for argv in (["list"], ["add", "ci"], ["revoke", "ci"]):
        assert main(["token", *argv]) == 10
        assert "does not hold tokens" in capsys.readouterr().err
    assert tokens.file().read_text() == "{"
