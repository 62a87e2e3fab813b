"""What is secret in an address is never shown, however the address is written."""

from __future__ import annotations

import pytest

from llmctl.address import redacted, without_secrets

ADDRESSES = {
    "https://host/path": "https://host/path",
    "https://host:8080/path": "https://host:8080/path",
    "https://user:password@host:8080/path": "https://host:8080/path",
    "ftp://user:password@host": "ftp://host",
    "ftp://password@host": "ftp://host",
    "https://user:pass@word@host/path": "https://host/path",
    "https://user:pass/word@host/path": "https://host/path",
    "https://user:pass?word@host/path": "https://host/path",
    "https://user:pass#word@host/path": "https://host/path",
    "https://host/path?token=password#password": "https://host/path",
    "https://host/a?mail=me@password": "https://host/a",
    "https://host/@scope/path": "https://host/@scope/path",
    "https://host:443/@scope/path": "https://host:443/@scope/path",
    "user:password@host": "host",
    "socks5://user:password@[::1]:1080": "socks5://[::1]:1080",
    "": "",
}


@pytest.mark.parametrize(("address", "shown"), ADDRESSES.items())
def test_an_address_without_its_secrets(address: str, shown: str) -> None:
    assert without_secrets(address) == shown
    assert redacted(f"GET {address} failed") == f"GET {shown if '://' in address else address} failed"


def test_words_around_addresses_stay_as_they_are() -> None:
    said = "Looking in https://me:pass@index.example/simple/, http://a:b@c/d; someone@example.org asks: what?"
    assert redacted(said) == "Looking in https://index.example/simple/, http://c/d; someone@example.org asks: what?"
    assert redacted("https://host/x.whl?X-Signature=abc&y=1 failed") == "https://host/x.whl failed"
