"""Names that both sides of a sealed request use (RFC 9458, RFC 9540, draft-ietf-ohai-chunked-ohttp-08)."""

from __future__ import annotations

PATH = "/.well-known/ohttp-gateway"
REQUESTS, ANSWERS, KEYS = "message/ohttp-chunked-req", "message/ohttp-chunked-res", "application/ohttp-keys"
PROBLEMS = "https://iana.org/assignments/http-problem-types#"
KEY_PROBLEM, DATE_PROBLEM = f"{PROBLEMS}ohttp-key", f"{PROBLEMS}date"
NEXT_KEY = "x-llmctl-next-key"
"""The field of a sealed answer that has the line of the key to seal for from now on."""
PAD_BYTES = 256
