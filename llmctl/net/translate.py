"""Foreign errors into this program's: the one door for what requests, urllib3, http.client, ssl and sockets raise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from llmctl.errors import AccessError, CertificateError, LlmctlError, NetworkError, UnreachableError, UsageError
from llmctl.net.address import host_of
from llmctl.printable import printable

REASON_LIMIT = 160
ALERT = re.compile(r"alert (certificate|bad certificate|unknown ca|access denied|unsupported certificate)", re.I)
CLIENT = "llmctl endpoint add … --force --client-cert CERT.pem --client-key KEY.pem   shows one that it has signed"
SOCKS = "pip install pysocks   in the environment that llmctl runs in, or use an http proxy"


@contextmanager
def translated(url: str, doing: str, *, hint: str | None = None) -> Iterator[None]:
    """Turns what a request or the reading of an answer raises into an error that names the host of ``url``.

    ``doing``: 'fetching x'. Raises NetworkError (UnreachableError, CertificateError), AccessError where the other side
    wants a certificate of ours, and UsageError for an address that can't be one.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, foreign_errors()):
            raise
        raise translation(error, url, doing, hint) from error


def foreign_errors() -> tuple[type[Exception], ...]:
    """All that those libraries raise. Their import waits for the first error, since both are heavy."""
    import http.client

    import requests
    import urllib3

    return (
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
        ValueError,  # of text that can't be an address or a header
    )


def translation(error: BaseException, url: str, doing: str, hint: str | None = None) -> LlmctlError:
    """What a foreign error means to a person."""
    import requests
    import urllib3

    foreign, host, why = requests.exceptions, host_of(url), reason(error)
    if _is_of_the_proxy(error):
        lacking = SOCKS if "SOCKS" in why else "check HTTPS_PROXY / NO_PROXY"
        return NetworkError(f"{doing}: the proxy could not be used ({why})", hint=lacking)
    if isinstance(error, UnicodeError | urllib3.exceptions.LocationValueError) or _is_bad_address(error):
        return UsageError(f"{doing}: {host} is not a usable address", hint=hint or "check how it is written")
    if _refuses_our_certificate(error):
        return AccessError(f"{doing}: {host} wants a client certificate that it knows ({why})", hint=CLIENT)
    if isinstance(error, foreign.SSLError | urllib3.exceptions.SSLError):
        if "CERTIFICATE" in str(error).upper():
            return CertificateError(
                f"{doing}: the certificate of {host} could not be verified ({why})",
                hint="if a proxy or a private CA is between, set SSL_CERT_FILE=/path/to/ca.pem",
            )
        return NetworkError(f"{doing}: {host} does not speak TLS as it should ({why})", hint=hint)
    if isinstance(error, foreign.ConnectTimeout | urllib3.exceptions.ConnectTimeoutError):
        return UnreachableError(f"{doing}: {host} did not answer in time", hint=hint)
    if isinstance(error, foreign.Timeout | urllib3.exceptions.TimeoutError | TimeoutError) or _timed_out(error):
        return NetworkError(f"{doing}: {host} did not answer in time", hint=hint)
    if _never_connected(error):
        return UnreachableError(f"{doing}: {host} can't be reached ({why})", hint=hint)
    return NetworkError(f"{doing}: {host} broke the connection ({why})", hint=hint)


def _is_of_the_proxy(error: BaseException) -> bool:
    import requests
    import urllib3

    ours, below = requests.exceptions, urllib3.exceptions
    of_urllib3 = below.ProxyError | below.ProxySchemeUnknown | below.ProxySchemeUnsupported
    lacks_socks = isinstance(error, ours.InvalidSchema) and "SOCKS" in str(error)
    return lacks_socks or isinstance(error, ours.InvalidProxyURL | ours.ProxyError | of_urllib3)


def _refuses_our_certificate(error: BaseException) -> bool:
    """Whether the other side has ended the connection with an alert about a certificate: ours, or that there is none.
    Where it is its own that we don't trust, the alert is ours."""
    import ssl

    return any(isinstance(cause, ssl.SSLError) and ALERT.search(str(cause)) for cause in causes(error))


def _is_bad_address(error: BaseException) -> bool:
    import requests

    foreign = requests.exceptions
    return isinstance(error, foreign.InvalidURL | foreign.MissingSchema | foreign.InvalidSchema | foreign.InvalidHeader)


def _timed_out(error: BaseException) -> bool:
    """Whether a time-out is somewhere below; urllib3 calls some of them a connection that was aborted."""
    return any(isinstance(cause, TimeoutError) for cause in causes(error))


def _never_connected(error: BaseException) -> bool:
    """Whether nothing was connected: the name isn't known, or no program listens."""
    from urllib3.exceptions import NewConnectionError  # the one for names is its subclass

    return any(isinstance(cause, NewConnectionError | ConnectionRefusedError) for cause in causes(error))


def causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it comes from: its cause, its context, or what requests and urllib3 put inside."""
    seen: list[BaseException] = []
    at: object = error
    while isinstance(at, BaseException) and at not in seen:
        seen.append(at)
        yield at
        inside = getattr(at, "reason", None) or next(
            (inner for inner in at.args if isinstance(inner, BaseException)), None
        )
        at = at.__cause__ or at.__context__ or inside


def _is_not_http(error: BaseException) -> bool:
    """Whether http.client could make nothing of a status line, or of the size of a chunk."""
    import http.client

    if isinstance(error, http.client.BadStatusLine):
        return not isinstance(error, http.client.RemoteDisconnected)
    return isinstance(error, ValueError) and "invalid literal for int()" in str(error)


def reason(error: BaseException) -> str:
    """The innermost reason in a few words: 'Connection refused', 'certificate has expired', ..."""
    *_, last = seen = tuple(causes(error))
    if any(map(_is_not_http, seen)):
        return "what it sent is not HTTP"
    if isinstance(last, OSError) and last.strerror:
        return printable(str(getattr(last, "verify_message", "") or last.strerror), REASON_LIMIT)
    return printable(str(last), REASON_LIMIT) or type(last).__name__
