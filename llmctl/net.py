"""The one requests.Session: time-outs, proxies, the system's trust store, and foreign errors translated.

Loopback never goes through a proxy. ``~/.netrc`` is not read: credentials are the user's explicit choice here.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

from llmctl import __version__
from llmctl.errors import CertificateError, ConfigError, NetworkError, UnreachableError, UsageError

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0  # between two bytes, not for the whole of a transfer
MAX_REDIRECTS = 6
PIECE_BYTES = 1 << 20
LEAST_PIECE_BYTES = 64 << 10
TOGETHER_BYTES = 256 << 10
CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)")


def host_of(url: str) -> str:
    """``host`` or ``host:port`` for messages; never user info, path or query, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.hostname or url
    if ":" in host and parts.hostname:
        host = f"[{host}]"
    try:
        return f"{host}:{parts.port}" if parts.port else host
    except ValueError:  # of a proxy, say: no number
        return host


def require_address(url: str) -> None:
    """Raises UsageError unless ``url`` can be one: a scheme, a host, and a port that is a number, if any."""
    try:
        where = urlsplit(url)
        usable = bool(where.scheme and where.hostname and where.port != 0)
    except ValueError:  # a port that is no number or too large, brackets that don't close
        usable = False
    if not usable:
        shown = url.partition("?")[0].rpartition("@")[2]  # the rest may be secret
        raise UsageError(f"{shown} is not a usable address", hint="https://HOST/PATH, or https://HOST:PORT/PATH")


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own: ``localhost`` or a loopback number, not a name that looks like one."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_origin(one: str, other: str) -> bool:
    """Whether two addresses belong to the same server: scheme, host and port, the port spelt out or not."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def session(url: str, *, ca_file: str | None = None) -> requests.Session:
    """A session for requests to ``url``; another host may need another proxy, so redirects go through ``hops``.

    Certificates are checked against ``ca_file`` if given, else SSL_CERT_FILE / REQUESTS_CA_BUNDLE if set, else
    the operating system's trust store (through truststore), as the user's browser would. Raises ConfigError if that
    file is not there.
    """
    from urllib.request import getproxies

    import requests

    made = requests.Session()
    made.headers["User-Agent"] = f"llmctl/{__version__}"
    made.headers["Accept-Encoding"] = "identity"  # model files don't compress, and ranges must mean file bytes
    made.trust_env = False  # no netrc; the two things we do want from the environment follow
    if not is_loopback(url) and not requests.utils.should_bypass_proxies(url, no_proxy=None):
        made.proxies.update(_proxies(getproxies()))
    bundle = ca_file or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle:
        if not Path(bundle).exists():
            raise ConfigError(
                f"the CA file {bundle} does not exist",
                hint="check the endpoint's ca_file, SSL_CERT_FILE, REQUESTS_CA_BUNDLE",
            )
        made.verify = bundle
    elif urlsplit(url).scheme == "https":
        made.mount("https://", _system_trust())
    return made


def _proxies(told: Mapping[str, str]) -> Mapping[str, str]:
    """Raises ConfigError for one that can't be an address, which is not repeated: it may hold a password."""
    for scheme, proxy in told.items():
        try:
            _ = urlsplit(proxy).port
        except ValueError as error:
            raise ConfigError(
                f"the proxy for {scheme} is not a usable address",
                hint=f"check {scheme.upper()}_PROXY, for example: export {scheme.upper()}_PROXY=http://HOST:PORT",
            ) from error
    return told


def _system_trust() -> requests.adapters.HTTPAdapter:
    import ssl

    import truststore
    from requests.adapters import HTTPAdapter

    class SystemTrust(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> Any:
            context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            return super().init_poolmanager(*args, **kwargs, ssl_context=context)

        def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:  # where private CAs matter most
            context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            return super().proxy_manager_for(proxy, **kwargs, ssl_context=context)

    return SystemTrust()


class Sessions:
    """Sessions that outlive a request, one for each server, so that the next request finds a connection open."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str | None, int | None], requests.Session] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for made in self._made.values():
            made.close()

    def to(self, url: str) -> requests.Session:
        """Raises ConfigError."""
        origin = _origin(url)
        if origin not in self._made:
            self._made[origin] = session(url)
        return self._made[origin]


def hops(
    method: str,
    url: str,
    *,
    doing: str,
    headers: Mapping[str, str],
    secret: Mapping[str, str],
    kept: Sessions | None = None,
) -> Iterator[requests.Response]:
    """The answers on the way that redirects lead, the last of them unread and no redirect.

    Each answer is closed when the next is asked for, and its connection with it unless the answer was read to its end
    and sessions are ``kept``. ``secret`` headers (a token) go to the origin of ``url`` only, and no more once that was
    left. Raises NetworkError (CertificateError) that names the host that failed, also for redirects that turn in
    circles, leave HTTP, or lead from https to http.
    """
    for _ in range(MAX_REDIRECTS):
        with nullcontext(kept.to(url)) if kept is not None else session(url) as made:
            try:
                with translated(url, doing):
                    response = made.request(
                        method,
                        url,
                        headers={**headers, **secret},
                        stream=True,
                        allow_redirects=False,
                        timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
                    )
            except ValueError as error:  # requests reads the Location even when it is not to follow it
                raise _unsafe(url, doing) from error
            with response:
                yield response
        target = redirect_target(response, doing)
        if target is None:
            return
        if not same_origin(url, target):
            secret = {}
        url = target
    raise NetworkError(f"{doing}: {host_of(url)} redirects in circles")


def redirect_target(response: requests.Response, doing: str) -> str | None:
    """Where ``response`` redirects, or None if it doesn't. Raises NetworkError for where nobody should go."""
    if not response.is_redirect:
        return None
    try:
        target = urljoin(response.url, response.headers["Location"])
        safe = _origin(target)[0] in ("https", _origin(response.url)[0])
    except ValueError:
        safe = False
    if not safe:
        raise _unsafe(response.url, doing)
    return target


def _unsafe(url: str, doing: str) -> NetworkError:
    return NetworkError(f"{doing}: {host_of(url)} redirects to an address that can't be followed safely")


def pieces(response: requests.Response, doing: str, *, at_once_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """The body as it has come in, undecoded, at most ``at_once_bytes`` at once. Raises NetworkError when it breaks off.

    Nothing that is here waits for what isn't; but TLS brings 16 KiB at a time, and many of them make one piece.
    """
    import urllib3

    host, connection = host_of(response.url), response.raw.connection
    held: list[bytes] = []
    held_bytes, ask_bytes, failed = 0, LEAST_PIECE_BYTES, None
    try:
        while piece := response.raw.read1(min(ask_bytes, at_once_bytes - held_bytes), decode_content=False):
            if len(piece) == ask_bytes:  # a large buffer for small pieces would cost more than it saves
                ask_bytes = min(PIECE_BYTES, ask_bytes * 2)
            elif len(piece) < ask_bytes // 4:
                ask_bytes = max(LEAST_PIECE_BYTES, ask_bytes // 2)
            held.append(piece)
            held_bytes += len(piece)
            if held_bytes < min(TOGETHER_BYTES, at_once_bytes) and _more(connection):
                continue
            yield b"".join(held)
            held, held_bytes = [], 0
    except urllib3.exceptions.ReadTimeoutError as error:
        failed = NetworkError(f"{doing}: {host} sent nothing for {READ_TIMEOUT_S:.0f} s")
        failed.__cause__ = error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        failed = NetworkError(f"{doing}: {host} broke the connection ({_root(error)})")
        failed.__cause__ = error
    if held:
        yield b"".join(held)
    if failed is not None:
        raise failed


def _more(connection: Any) -> bool:
    """Whether reading from a connection of urllib3's would not have to wait."""
    from urllib3.util import wait_for_read

    sock = getattr(connection, "sock", None)
    try:
        return sock is not None and wait_for_read(sock, timeout=0)
    except (OSError, ValueError):  # closed by another thread
        return False


@contextmanager
def translated(url: str, doing: str, *, hint: str | None = None) -> Iterator[None]:
    """Turns what requests raises into NetworkError that names the host that failed. ``doing``: 'fetching x'."""
    import requests

    host = host_of(url)
    try:
        yield
    except (requests.exceptions.InvalidProxyURL, requests.exceptions.ProxyError) as error:
        raise NetworkError(
            f"{doing}: the proxy could not be used ({_root(error)})", hint="check HTTPS_PROXY / NO_PROXY"
        ) from error
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
        raise UsageError(f"{doing}: {host} is not a usable address", hint=hint or "check how it is written") from error
    except requests.exceptions.SSLError as error:
        if "CERTIFICATE" not in str(error).upper():
            raise NetworkError(
                f"{doing}: {host} does not speak TLS as it should ({_root(error)})", hint=hint
            ) from error
        raise CertificateError(
            f"{doing}: the certificate of {host} could not be verified ({_root(error)})",
            hint="if a proxy or a private CA is between, set SSL_CERT_FILE=/path/to/ca.pem",
        ) from error
    except requests.exceptions.ConnectTimeout as error:
        raise UnreachableError(f"{doing}: {host} did not answer in time", hint=hint) from error
    except requests.exceptions.Timeout as error:
        raise NetworkError(f"{doing}: {host} did not answer in time", hint=hint) from error
    except requests.exceptions.ConnectionError as error:
        kind = UnreachableError if _never_connected(error) else NetworkError
        raise kind(f"{doing}: {host} can't be reached ({_root(error)})", hint=hint) from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise NetworkError(f"{doing}: {host} broke the connection ({_root(error)})", hint=hint) from error
    except requests.exceptions.RequestException as error:
        raise NetworkError(f"{doing}: {host}: {_root(error)}", hint=hint) from error


def _never_connected(error: requests.exceptions.ConnectionError) -> bool:
    import urllib3

    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, urllib3.exceptions.NewConnectionError)  # name resolution is one of them


def _root(error: BaseException) -> str:
    """The innermost reason in a few words: 'Connection refused', 'certificate has expired', ..."""
    seen: BaseException = error
    while True:
        inner = seen.__cause__ or seen.__context__ or getattr(seen, "reason", None)
        if not isinstance(inner, BaseException) or inner is seen:
            break
        seen = inner
    if isinstance(seen, OSError) and seen.strerror:
        return str(getattr(seen, "verify_message", "") or seen.strerror)
    return type(seen).__name__ if not str(seen) else str(seen)[:160]


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a 429 or 503 asks to wait, if it says so as a number."""
    return whole_number(headers.get("Retry-After"))


def whole_number(value: str | None) -> int | None:
    """What a header such as Content-Length says; None for anything but up to 19 plain digits."""
    return int(value) if value is not None and re.fullmatch(r"[0-9]{1,19}", value) else None


def content_range(value: str) -> tuple[int, int, int | None]:
    """First byte, the one after the last, and total of a Content-Range; -1 and 0 where it says nothing, None for an
    unknown total."""
    match = CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        return -1, 0, None
    begin, last = (int(match[1]), int(match[2])) if match[1] else (-1, -1)
    return begin, last + 1, None if match[3] == "*" else int(match[3])
