"""Everything that can go wrong, as one tree.

    LlmctlError                 1  a bug of ours, if it ever reaches a person unspecialised
    ├── UsageError              2  the command line, or what it asks for, makes no sense
    │   └── ContextError        2  the prompt is longer than the context
    ├── NothingFitsError        3  no model fits and no endpoint may be used
    │   └── UnsupportedFileError  3  a sound file that no engine here answers with: another format or kind of model
    ├── NotFoundError           4  model, quant, file, endpoint or session
    ├── NetworkError            5  unreachable, timed out, server error
    │   ├── OfflineError        5  offline, and not on this machine
    │   ├── UnreachableError    5  no connection was made, so nothing was sent
    │   ├── CertificateError    5  the other side could not prove who it is
    │   └── SealError           5  what came sealed can't be opened, or what was sealed isn't taken
    ├── IntegrityError          6  size, sha256 or GGUF structure wrong
    ├── ResourceError           7  disk full, lock held, port taken
    │   ├── OccupiedError       7  a server of ours has as many requests waiting as may
    │   └── DrainingError       7  a server of ours is being stopped, and takes no new requests
    ├── EngineError             8  the engine could not be loaded, or refused the work
    │   ├── EngineDiedError     8  the engine's process ended in the middle of it
    │   └── DecodingError       8  the engine took the request and failed to compute the answer
    ├── AccessError             9  401, 403, gated, key missing
    ├── ConfigError            10  a setting, a profile or an endpoint is written wrongly
    └── PolicyError            11  the prompt may not leave this machine

Every class has a stable ``code`` (for scripts), an exit code (the contract's table) and every instance a message
that says what failed, with both numbers where there are two, and a ``hint``: the next command to type.
"""

from __future__ import annotations

from typing import ClassVar


class LlmctlError(Exception):
    """Root of the tree. ``message`` is one line for a person; ``hint`` is what to type next, or None."""

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "a bug of ours"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LlmctlError):
    code = "usage"
    exit_code = 2
    meaning = "usage"


class ContextError(UsageError):
    code = "context"


class NothingFitsError(LlmctlError):
    code = "nothing_fits"
    exit_code = 3
    meaning = "nothing fits and no endpoint may be used"


class UnsupportedFileError(NothingFitsError):
    code = "unsupported_file"


class NotFoundError(LlmctlError):
    code = "not_found"
    exit_code = 4
    meaning = "model, quant, file, endpoint or session not found"


class NetworkError(LlmctlError):
    """``retry_after_s``: the server asks to be left alone for so long."""

    code = "network"
    exit_code = 5
    meaning = "network: unreachable, timed out, server error, offline and not cached"
    retry_after_s: float | None = None


class OfflineError(NetworkError):
    code = "offline"


class UnreachableError(NetworkError):
    code = "unreachable"


class CertificateError(NetworkError):
    code = "certificate"


class SealError(NetworkError):
    code = "seal"


class IntegrityError(LlmctlError):
    code = "integrity"
    exit_code = 6
    meaning = "integrity: size, sha256 or GGUF structure wrong"


class ResourceError(LlmctlError):
    code = "resource"
    exit_code = 7
    meaning = "resource: disk full, lock held, port taken"


class OccupiedError(ResourceError):
    """``retry_after_s``: when there may be room."""

    code = "busy"

    def __init__(self, message: str, *, hint: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class DrainingError(ResourceError):
    """``retry_after_s``: when another server may answer at this address."""

    code = "draining"
    retry_after_s = 5


class EngineError(LlmctlError):
    """``lacked_memory``: with settings that take less it may do."""

    code = "engine"
    exit_code = 8
    meaning = "engine failed or died"
    lacked_memory = False


class EngineDiedError(EngineError):
    code = "engine_died"


class DecodingError(EngineError):
    code = "decoding"


class AccessError(LlmctlError):
    code = "access"
    exit_code = 9
    meaning = "access: 401, 403, gated, key missing"


class ConfigError(LlmctlError):
    code = "config"
    exit_code = 10
    meaning = "a setting or profile is wrong"


class PolicyError(LlmctlError):
    code = "policy"
    exit_code = 11
    meaning = "policy: the prompt may not leave this machine"
