"""The one requests.Session: time-outs, proxies, the system's trust store, and foreign errors translated.

Loopback never goes through a proxy. ``~/.netrc`` is not read: credentials are the user's explicit choice here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmctl import __version__
from llmctl.errors import NetworkError, UsageError

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0  # between two bytes, not for the whole of a transfer
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def host_of(url: str) -> str:
    """``host`` or ``host:port`` for messages; never user info, path or query, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.hostname or url
    return f"{host}:{parts.port}" if parts.port else host


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in LOOPBACK or host.startswith("127.")


def session(url: str, *, ca_file: str | None = None) -> requests.Session:
    """A session for requests to ``url`` and wherever it redirects.

    Certificates are checked against ``ca_file`` if given, else SSL_CERT_FILE / REQUESTS_CA_BUNDLE if set, else
    the operating system's trust store (through truststore), as the user's browser would.
    """
    from urllib.request import getproxies

    import requests

    made = requests.Session()
    made.headers["User-Agent"] = f"llmctl/{__version__}"
    made.headers["Accept-Encoding"] = "identity"  # model files don't compress, and ranges must mean file bytes
    made.trust_env = False  # no netrc; the two things we do want from the environment follow
    if not is_loopback(url) and not requests.utils.should_bypass_proxies(url, no_proxy=None):
        made.proxies.update(getproxies())
    bundle = ca_file or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle:
        made.verify = bundle
    elif urlsplit(url).scheme == "https":
        made.mount("https://", _system_trust())
    return made


def _system_trust() -> requests.adapters.HTTPAdapter:
    import ssl

    import truststore
    from requests.adapters import HTTPAdapter

    class SystemTrust(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> Any:
            context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            return super().init_poolmanager(*args, **kwargs, ssl_context=context)

    return SystemTrust()


@contextmanager
def translated(url: str, doing: str, *, hint: str | None = None) -> Iterator[None]:
    """Turns what requests raises into NetworkError that names the host that failed. ``doing``: 'fetching x'."""
    import requests

    host = host_of(url)
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
        raise UsageError(f"{doing}: {host} is not a usable address", hint=hint) from error
    except requests.exceptions.SSLError as error:
        raise NetworkError(
            f"{doing}: the certificate of {host} could not be verified ({_root(error)})",
            hint="if a proxy or a private CA is between, set SSL_CERT_FILE=/path/to/ca.pem",
        ) from error
    except requests.exceptions.ProxyError as error:
        raise NetworkError(
            f"{doing}: the proxy could not be used ({_root(error)})", hint="check HTTPS_PROXY / NO_PROXY"
        ) from error
    except requests.exceptions.Timeout as error:
        raise NetworkError(f"{doing}: {host} did not answer in time", hint=hint) from error
    except requests.exceptions.ConnectionError as error:
        raise NetworkError(f"{doing}: {host} can't be reached ({_root(error)})", hint=hint) from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise NetworkError(f"{doing}: {host} broke the connection ({_root(error)})", hint=hint) from error
    except requests.exceptions.RequestException as error:
        raise NetworkError(f"{doing}: {host}: {_root(error)}", hint=hint) from error


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
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None
