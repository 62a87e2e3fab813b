"""Where a key comes from, and what can't be one."""

from __future__ import annotations

import pytest

from llmctl.endpoint.secrets import address_of
from llmctl.errors import AccessError, ConfigError
from llmctl.types.endpoint import Address, Endpoint, KeyVariable, Trust

OFFICE = Endpoint("office", "https://llm.example.internal/v1", "qwen3-32b", KeyVariable("OFFICE_KEY"), Trust("/ca.pem"))


def test_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_KEY", " sk-123\n")  # as `$(cat file)` or a copy may leave it
    address = address_of(OFFICE)
    assert address == Address("https://llm.example.internal/v1", "qwen3-32b", "sk-123", Trust("/ca.pem"))
    assert "sk-123" not in repr(address)


def test_without_a_key() -> None:
    assert address_of(Endpoint("home", "http://127.0.0.1:8080/v1", "m")).token is None


def test_other_keys_in_the_environment_are_nobodys_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    assert address_of(Endpoint("home", "http://127.0.0.1:8080/v1", "m")).token is None


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_missing_key(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OFFICE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("OFFICE_KEY", value)
    with pytest.raises(AccessError, match="the key of office should be in OFFICE_KEY, which is not set") as caught:
        address_of(OFFICE)
    assert caught.value.hint == "export OFFICE_KEY=…"


@pytest.mark.parametrize("value", ["sk-1\nsk-2", "sk-1 sk-2", "sk-1\tx", "sk-1…", "sk-é", "sk-\x7f", "sk-\udcff"])
def test_what_cannot_be_sent_as_a_key_is_not_repeated(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_KEY", value)
    with pytest.raises(AccessError, match="OFFICE_KEY does not hold a key for office") as caught:
        address_of(OFFICE)
    assert "sk-" not in caught.value.message + str(caught.value.hint)


@pytest.mark.parametrize("url", ["https://llm.example.internal", "https://llm.example.internal/v1/"])
def test_an_address_edited_by_hand_may_lack_v1(url: str) -> None:
    assert address_of(Endpoint("office", url, "m")).url == "https://llm.example.internal/v1"


@pytest.mark.parametrize("url", ["ftp://host", "https://host:99999", "https://me:sk-123@host/v1"])
def test_an_address_edited_by_hand_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="endpoint office: ") as caught:
        address_of(Endpoint("office", url, "m"))
    assert "sk-123" not in caught.value.message
