"""Addresses that answer, and which one was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from llmctl.types.plan import Fit


class LeaveReason(StrEnum):
    """Every reason for which a prompt may leave this machine. A ``Remote`` route can't be made without one."""

    PINNED = "pinned"
    PREFER_REMOTE = "prefer-remote"
    REMOTE_ONLY = "remote-only"
    NOTHING_FITS = "nothing-fits"
    NOT_LOADED = "not-loaded"
    ENGINE_FAILED = "engine-failed"
    PROMPT_TOO_LONG = "prompt-too-long"
    LIMIT_MISSED = "limit-missed"
    DOWNLOADING = "downloading"

    @property
    def when(self) -> str:
        """When the prompt leaves, a sentence for a person."""
        return LEAVES[self][0]

    @property
    def decided_by(self) -> str:
        """By which act of the user's the prompt leaves."""
        return LEAVES[self][1]


ADDED = "you, by adding a server (policy `prefer-local`)"
LEAVES = {
    LeaveReason.PINNED: ("You name the server for this prompt.", "you, by `--endpoint NAME`"),
    LeaveReason.PREFER_REMOTE: (
        "Your policy asks the server first; a model on this machine answers when no server does.",
        'you, by `policy = "prefer-remote"`',
    ),
    LeaveReason.REMOTE_ONLY: (
        "Your policy asks the server and nothing else.",
        'you, by `policy = "remote-only"` or `--remote`',
    ),
    LeaveReason.NOTHING_FITS: ("No model fits this machine and is fast enough for the task.", ADDED),
    LeaveReason.NOT_LOADED: ("The model that llmctl has chosen can't be loaded.", ADDED),
    LeaveReason.ENGINE_FAILED: (
        "The engine dies, stalls or can't decode before its first token; after it, where the server may go on with "
        "the answer (`continues = true`).",
        ADDED,
    ),
    LeaveReason.PROMPT_TOO_LONG: ("The prompt is longer than the context that llmctl has chosen.", ADDED),
    LeaveReason.LIMIT_MISSED: (
        "This machine would take longer to the first token, or a larger download, than you allow.",
        "you, by `max_first_token` or `max_download`, in the settings or as options",
    ),
    LeaveReason.DOWNLOADING: (
        "The model that is to answer here is being fetched.",
        "you, by `server_meanwhile = true`, or by saying yes to that question",
    ),
}
LOCAL_FAILURES = frozenset(
    {
        *(LeaveReason.NOTHING_FITS, LeaveReason.NOT_LOADED, LeaveReason.ENGINE_FAILED, LeaveReason.PROMPT_TOO_LONG),
        *(LeaveReason.LIMIT_MISSED, LeaveReason.DOWNLOADING),
    }
)
Barred = Mapping[LeaveReason, str]
"""The reasons for which this one prompt may not leave, each with the words why."""


class Side(StrEnum):
    LOCAL = "local"
    REMOTE = "remote"


class KeyVariable(Struct, frozen=True):
    """The key is the value of an environment variable."""

    name: str


class KeyFile(Struct, frozen=True):
    """The key is the one line of a file that only its owner can read."""

    path: str


class KeyringEntry(Struct, frozen=True):
    """The key is kept by the system's keyring, as the password of ``user`` for ``service``."""

    service: str
    user: str


class KeyCommand(Struct, frozen=True):
    """The key is the first line that a command writes. ``line`` is split as a shell does, and no shell runs it."""

    line: str


KeyReference = KeyVariable | KeyFile | KeyringEntry | KeyCommand
"""Where a key is, never the key."""


class ClientCertificate(Struct, frozen=True):
    """What proves to a server that this is one of its clients: PEM files of a certificate and its private key."""

    cert_file: str
    key_file: str


class Trust(Struct, frozen=True):
    """What proves that the other side is the user's server: a certificate that the system's authorities, or those in
    ``ca_file``, have signed; or the key of its certificate: ``pin`` is ``sha256:`` and the digest of its
    SubjectPublicKeyInfo in hexadecimal. A pin alone is enough, as with SSH; beside a ``ca_file`` both must hold.
    ``client`` is shown to a server that asks who wants to talk to it."""

    ca_file: str | None = None
    pin: str | None = None
    client: ClientCertificate | None = None


class Limits(Struct, frozen=True):
    """None is llmctl's own limit, or none. ``context``: tokens that the server takes. Seconds: ``connect_s`` to
    connect, ``first_token_s`` to the first word of an answer, ``between_s`` from one word to the next, ``silent_s``
    without a byte before the first word (keep-alives are bytes, and no words)."""

    context: int | None = None
    connect_s: float | None = None
    first_token_s: float | None = None
    between_s: float | None = None
    silent_s: float | None = None


class Price(Struct, frozen=True):
    """What a million tokens cost, in the user's own currency: those of prompts, and those of answers."""

    prompt: float
    answer: float

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float:
        return (prompt_tokens * self.prompt + answer_tokens * self.answer) / 1e6


class Seal(Struct, frozen=True):
    """What requests are sealed for: ``key`` is the line ``llmctl-key:…`` of a gateway of llmctl's; they are padded to a
    multiple of ``pad_bytes``."""

    key: str
    pad_bytes: int = 256


SYSTEM_TRUST = Trust()
NO_LIMITS = Limits()


class Endpoint(Struct, frozen=True):
    """A private server the user has added.

    ``plain_http`` is the user's consent to send prompts to another machine unencrypted. The endpoint with the highest
    ``priority`` is asked first, of several the one that was added first; those that serve the same model at the same
    priority share the work. ``readers`` says who can read prompts there, in the user's own words. ``proxy`` is the way
    there, in place of the environment's. ``continues``: the server goes on with an answer that was begun elsewhere, and
    the user lets it. ``seal``: nothing is sent that isn't sealed.
    """

    name: str
    url: str
    model: str
    key: KeyReference | None = None
    trust: Trust = SYSTEM_TRUST
    plain_http: bool = False
    limits: Limits = NO_LIMITS
    priority: int = 0
    readers: str | None = None
    proxy: str | None = None
    price: Price | None = None
    continues: bool = False
    seal: Seal | None = None


class Address(Struct, frozen=True):
    """An OpenAI-compatible address, near or far. ``token`` never shows in a repr, a log or an error. ``socket``: a file
    to connect to in place of the URL's host."""

    url: str
    model: str
    token: str | None = None
    trust: Trust = SYSTEM_TRUST
    proxy: str | None = None
    seal: Seal | None = None
    socket: str | None = None

    def __repr__(self) -> str:
        return f"Address(url={self.url!r}, model={self.model!r}, trust={self.trust!r})"


class Local(Struct, frozen=True):
    """Run ``fit`` here; ``fallback`` may take over if that fails before the first token, but not for what is
    ``barred``, and after it the ``others`` in their order."""

    fit: Fit
    reason: str
    fallback: Endpoint | None = None
    barred: Barred = field(default_factory=dict)
    others: tuple[Endpoint, ...] = ()


class Remote(Struct, frozen=True):
    """Hand the prompt to ``endpoint``, for the reason ``why``, told in the words ``reason``; where it fails before the
    first token, to the ``others`` in their order; ``fallback`` may run here if all of them do."""

    endpoint: Endpoint
    why: LeaveReason
    reason: str
    fallback: Fit | None = None
    others: tuple[Endpoint, ...] = ()


Route = Local | Remote
