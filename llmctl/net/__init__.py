"""HTTP, and the only door to it: sessions, redirects, bodies with limits and deadlines, foreign errors translated."""

from llmctl.net.address import host_of, is_host, is_loopback, require_address, same_origin
from llmctl.net.body import PIECE_BYTES, Reader, SilentError, decoded, first_bytes, pieces, whole
from llmctl.net.headers import content_range, retry_after_s, whole_number
from llmctl.net.hops import hops, redirect_target
from llmctl.net.response import Response, exchange_of
from llmctl.net.session import Sessions, engine_session, proxy_of, session, unverified_peer
from llmctl.net.timing import Timing
from llmctl.net.translate import translated

__all__ = [
    "PIECE_BYTES",
    "Reader",
    "Response",
    "Sessions",
    "SilentError",
    "Timing",
    "content_range",
    "decoded",
    "engine_session",
    "exchange_of",
    "first_bytes",
    "hops",
    "host_of",
    "is_host",
    "is_loopback",
    "pieces",
    "proxy_of",
    "redirect_target",
    "require_address",
    "retry_after_s",
    "same_origin",
    "session",
    "translated",
    "unverified_peer",
    "whole",
    "whole_number",
]
