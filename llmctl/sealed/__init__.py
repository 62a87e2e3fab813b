"""Oblivious HTTP in chunks, as bytes: keys (RFC 9458), binary HTTP (RFC 9292), and what seals a request and its answer
(draft-ietf-ohai-chunked-ohttp-08). No network, no file, no clock. HPKE and AES are an extra, ``llmctl[sealed]``."""
