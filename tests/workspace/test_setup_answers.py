"""What may be typed in answer to the set-up's questions, and what it means."""

from __future__ import annotations

from typing import Any

import pytest

from llmctl.errors import UsageError
from llmctl.workspace.names import languages
from llmctl.workspace.setup import answers
from llmctl.workspace.setup.answers import SetupLimits


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("usual", SetupLimits()),
        ("1", SetupLimits()),
        ("Small", SetupLimits(2_000_000_000)),
        ("3", SetupLimits(is_patient=True)),
        ("5GB", SetupLimits(5_000_000_000)),
        ("800 MB", SetupLimits(800_000_000)),
        ("0", None),
        ("much", None),
    ],
)
def test_limits(text: str, meant: SetupLimits | None) -> None:
    if meant is None:
        with pytest.raises(UsageError):
            answers.limits(text)
    else:
        assert answers.limits(text) == meant


@pytest.mark.parametrize(
    ("text", "code"), [("it", "it"), ("Italian", "it"), (" GERMAN ", "de"), ("eu", "eu"), ("ital!an", None), ("", None)]
)
def test_languages(text: str, code: str | None) -> None:
    if code is None:
        with pytest.raises(UsageError):
            answers.language(text, languages())
    else:
        assert answers.language(text, languages()) == code


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"LANG": "it_IT.UTF-8"}, "it"),
        ({"LANG": "en_GB.UTF-8"}, None),
        ({"LANG": "C.UTF-8"}, None),
        ({"LC_ALL": "de_DE@euro", "LANG": "it_IT"}, "de"),
        ({}, None),
    ],
)
def test_the_language_of_the_system(environ: dict[str, str], code: str | None) -> None:
    assert answers.language_of_locale(environ) == code


@pytest.mark.parametrize(
    ("text", "name"), [("2", "fastest"), ("Best", "best"), ("0", None), ("3", None), ("bet", None)]
)
def test_options(text: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(UsageError, match="best"):
            answers.option(text, ["best", "fastest"])
    else:
        assert answers.option(text, ["best", "fastest"]) == name


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("https://llm.example.internal", ("https://llm.example.internal", None)),
        (" https://h/v1  qwen3-32b ", ("https://h/v1", "qwen3-32b")),
        ("llm.example.internal", None),
        ("sk-secret", None),
    ],
)
def test_servers(text: str, meant: Any) -> None:
    if meant is None:
        with pytest.raises(UsageError):
            answers.server(text)
    else:
        assert answers.server(text) == meant


@pytest.mark.parametrize(
    ("address", "taken", "name"),
    [
        ("https://llm.example.internal", (), "llm"),
        ("https://llm.example.internal", ("llm",), "llm2"),
        ("https://192.0.2.10:8443", (), "home"),
        ("http://127.0.0.1:8080", ("home", "home2"), "home3"),
        ("http://localhost:8080", (), "home"),
        ("https://[::1", (), "home"),
    ],
)
def test_names_for_servers(address: str, taken: tuple[str, ...], name: str) -> None:
    assert answers.server_name(address, taken) == name


def test_where_a_key_is() -> None:
    assert answers.key_fields(" OFFICE_KEY ") == {"key_env": "OFFICE_KEY"}
    assert answers.key_fields("~/key") == {"key_file": "~/key"}
