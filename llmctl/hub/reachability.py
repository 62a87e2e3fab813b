"""Whether the model hub can be reached, and how fast it sends."""

from __future__ import annotations

import os
import time

from msgspec import Struct

from llmctl import net
from llmctl.errors import CertificateError, LlmctlError, NetworkError
from llmctl.hub import files
from llmctl.settings import Settings
from llmctl.types.model import Source

SAMPLE_BYTES = 16 << 20
SAMPLE_S = 2.0
NOT_THIS_FILE = (401, 403, 404)
LEAST_SAMPLE_BYTES = 1 << 20  # of less, the time is mostly latency


class Reach(Struct, frozen=True):
    """``wrong`` says why the hub can't be used, ``untrusted`` that it is for its certificate; ``file_host`` is where
    the hub sends files from. ``proxy`` is the host of the proxy that is used, without what else its address holds."""

    host: str
    trust: str
    proxy: str | None = None
    wrong: str | None = None
    hint: str | None = None
    untrusted: bool = False
    file_host: str | None = None
    bytes_per_s: float | None = None


def reach(settings: Settings, sample: Source | None) -> Reach:
    """Asks the hub, then fetches the beginning of ``sample`` for SAMPLE_S at most and throws it away.

    No token is sent. Raises nothing.
    """
    url = settings.hub_url
    bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
    trust = bundle or "the system's trust store"
    proxy = None
    try:
        proxy = net.proxy_of(url)
        proxy = proxy and net.host_of(proxy)
        error = files.unreachable(settings)
        if error is not None:
            raise error
        file_host, rate = (None, None) if sample is None else _sampled(files.address(settings, sample))
    except LlmctlError as error:
        untrusted = isinstance(error, CertificateError)
        return Reach(net.host_of(url), trust, proxy, error.message, error.hint, untrusted)
    return Reach(net.host_of(url), trust, proxy, file_host=file_host, bytes_per_s=rate)


def _sampled(url: str) -> tuple[str, float | None]:
    """The host that files come from, and bytes per second once they flow. Raises NetworkError naming who failed."""
    doing = "fetching a sample"
    headers = {"Range": f"bytes=0-{SAMPLE_BYTES - 1}"}
    host, rate = net.host_of(url), None
    for response in net.hops("GET", url, doing=doing, headers=headers, secret={}):
        if response.is_redirect:
            continue
        host = net.host_of(response.url)
        if response.status_code in NOT_THIS_FILE and net.same_origin(url, response.url):
            break  # the hub answers; that this file isn't to be had is another matter
        if response.status_code not in (200, 206):
            raise NetworkError(f"{doing}: {host} answers {response.status_code}")
        received, took_s, begun = 0, 0.0, time.perf_counter()
        for piece in net.pieces(response, doing):
            received += len(piece)
            took_s = time.perf_counter() - begun
            if received >= SAMPLE_BYTES or took_s > SAMPLE_S:
                break
        if received >= LEAST_SAMPLE_BYTES or took_s > SAMPLE_S:
            rate = received / took_s
    return host, rate
