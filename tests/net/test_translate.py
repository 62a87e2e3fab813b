"""No foreign error gets past the door: every class that requests, urllib3 and http.client have is translated."""

from __future__ import annotations

import http.client
import inspect
import socket
import ssl
from types import ModuleType

import pytest
import requests
import urllib3

from llmctl import net
from llmctl.errors import CertificateError, LlmctlError, NetworkError, UnreachableError, UsageError

NEVER_RAISED = {  # warnings, which only a filter makes errors of
    *(kind for kind in vars(urllib3.exceptions).values() if inspect.isclass(kind) and issubclass(kind, Warning)),
    *(kind for kind in vars(requests.exceptions).values() if inspect.isclass(kind) and issubclass(kind, Warning)),
}


SPECIAL: dict[type[BaseException], BaseException] = {
    http.client.IncompleteRead: http.client.IncompleteRead(b"", 5),
    urllib3.exceptions.IncompleteRead: urllib3.exceptions.IncompleteRead(0, 5),
    urllib3.exceptions.InvalidChunkLength: urllib3.exceptions.InvalidChunkLength(urllib3.HTTPResponse(), b"x"),
}


def classes(*modules: ModuleType) -> list[type[BaseException]]:
    return [
        kind
        for module in modules
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Exception) and kind not in NEVER_RAISED
    ]


def made(kind: type[BaseException]) -> BaseException:
    """An instance, whatever its constructor wants to be told."""
    if kind in SPECIAL:
        return SPECIAL[kind]
    error = kind.__new__(kind, "words")
    error.args = ("words",)
    return error


def translated(error: BaseException) -> LlmctlError:
    with pytest.raises(LlmctlError) as caught, net.translated("https://me:secret@host.example/path?key", "asking"):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


FOREIGN = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in classes(requests.exceptions, urllib3.exceptions, http.client, ssl, socket)
    if kind.__module__.partition(".")[0] not in ("builtins", "email", "json") and not kind.__name__.startswith("_")
}


def test_the_list_is_not_empty() -> None:
    assert len(FOREIGN) > 60


@pytest.mark.parametrize("name", FOREIGN)
def test_every_class_is_translated(name: str) -> None:
    error = translated(made(FOREIGN[name]))
    assert type(error) in (NetworkError, UnreachableError, CertificateError, UsageError)
    assert "host.example" in error.message or "proxy" in error.message
    assert "secret" not in error.message and "key" not in error.message


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (UnicodeError("label empty or too long"), UsageError, "is not a usable address"),
        (urllib3.exceptions.LocationParseError("a..b"), UsageError, "is not a usable address"),
        (TimeoutError(), NetworkError, "did not answer in time"),
        (ConnectionResetError(104, "Connection reset by peer"), NetworkError, "broke the connection (Connection reset"),
        (
            http.client.BadStatusLine("\x1b[2Jgone\u202e" + "x" * 1000),
            NetworkError,
            "what it sent is not HTTP",
        ),
        (http.client.IncompleteRead(b"", 5), NetworkError, "IncompleteRead(0 bytes read, 5 more expected)"),
        (requests.ConnectTimeout(), UnreachableError, "did not answer in time"),
        (requests.exceptions.SSLError("EOF occurred"), NetworkError, "does not speak TLS as it should (EOF occurred)"),
        (requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), CertificateError, "could not be verified"),
        (
            requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support."),
            NetworkError,
            "the proxy could not",
        ),
        (requests.exceptions.InvalidSchema("no connection adapters"), UsageError, "is not a usable address"),
        (requests.exceptions.ProxyError("x"), NetworkError, "the proxy could not be used (x)"),
    ],
)
def test_what_it_becomes(error: BaseException, kind: type[LlmctlError], says: str) -> None:
    become = translated(error)
    assert type(become) is kind
    assert says in become.message
    assert become.message.isprintable()
    assert len(become.message) < 300


def test_bugs_of_ours_are_not_hidden() -> None:
    with pytest.raises(KeyError), net.translated("https://host.example", "asking"):
        raise KeyError("x")
