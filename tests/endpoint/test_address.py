"""Addresses as people write them, and where they lead."""

from __future__ import annotations

import pytest

from llmctl.endpoint.address import chat_url, models_url, normal_url
from llmctl.errors import UsageError
from tests.fakes.listening import KEY


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://llm.example.internal", "https://llm.example.internal/v1"),
        ("https://llm.example.internal/", "https://llm.example.internal/v1"),
        ("https://llm.example.internal/v1", "https://llm.example.internal/v1"),
        ("https://llm.example.internal/v1/", "https://llm.example.internal/v1"),
        ("https://llm.example.internal:8443/v1/chat/completions", "https://llm.example.internal:8443/v1"),
        ("https://llm.example.internal/team/llama", "https://llm.example.internal/team/llama/v1"),
        ("HTTPS://LLM.example.internal", "https://llm.example.internal/v1"),
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        ("http://[::]:8080/v1", "http://[::1]:8080/v1"),
        ("http://[::1]:8080", "http://[::1]:8080/v1"),
        ("localhost:11434", "http://localhost:11434/v1"),
        ("localhost", "http://localhost/v1"),
        ("https://host/api/paas/v4", "https://host/api/paas/v4"),
        ("https://host/api/v3/", "https://host/api/v3"),
        ("https://host/v1beta/openai", "https://host/v1beta/openai"),
        ("https://host/v1beta/openai/chat/completions", "https://host/v1beta/openai"),
        ("https://host/openai/v1", "https://host/openai/v1"),
        ("https://host/v1.0", "https://host/v1.0"),
        ("https://host/V2", "https://host/V2"),
        ("https://host/chat/completions", "https://host/chat/completions"),
        ("https://host/inference/chat/completions/", "https://host/inference/chat/completions"),
        ("https://host/vision", "https://host/vision/v1"),
        ("https://host./v1", "https://host./v1"),
    ],
)
def test_base_address(given: str, expected: str) -> None:
    assert normal_url(given) == expected
    assert normal_url(expected) == expected


@pytest.mark.parametrize(
    "url",
    [
        "", "https://", "ftp://host", "file:///etc/passwd", "unix:///run/x.sock", "https://host:99999", "https://host:0",
        "https://host:port", "https://[::1", "https://ho st", "https://host/\nv1", "https://llm..example", "https://.example",
        "https://" + "a" * 64 + ".example", "https://" + "a." * 140 + "b", "https://exa`mple", "https://host/\u202ev1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(UsageError, match="address") as caught:
        normal_url(url)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("url", [f"https://me:{KEY}@host", f"ftp://{KEY}@host", f"https://host/v1?key={KEY}"])
def test_secrets_in_an_address_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        normal_url(url)
    assert KEY not in caught.value.message + str(caught.value.hint)


@pytest.mark.parametrize(
    ("url", "chat", "models"),
    [
        ("https://host", "https://host/v1/chat/completions", "https://host/v1/models"),
        ("https://host/api/paas/v4", "https://host/api/paas/v4/chat/completions", "https://host/api/paas/v4/models"),
        ("https://host/x/chat/completions", "https://host/x/chat/completions", "https://host/x/models"),
    ],
)
def test_where_it_leads(url: str, chat: str, models: str) -> None:
    assert (chat_url(normal_url(url)), models_url(normal_url(url))) == (chat, models)
