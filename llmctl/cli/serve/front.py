"""Where a gateway is reached and by whom: its certificate, its tokens, and what is said of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from llmctl.errors import UsageError
from llmctl.types.page_access import PageAccess

if TYPE_CHECKING:
    from llmctl.cli.output import Output
    from llmctl.server.gateway import Gateway
    from llmctl.server.guards import Guard
    from llmctl.server.sealed import Sealing
    from llmctl.server.web import WebPage
    from llmctl.workspace.serve_access import ServeAccess
    from llmctl.workspace.serve_plan import ServePlan
    from llmctl.workspace.served_models import ServedModels
    from llmctl.workspace.served_texts import ServedTexts

PAD_BYTES = 256
PAGE_PATH = "/web/"
EXTRA = 'pip install "llmctl[serve]"'


class FrontOptions(Struct, frozen=True):
    """As ``llmctl serve`` takes them. ``page``: people get one, with PageAccess.LINK by a link alone."""

    host: str
    allow_hosts: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    require_token: bool = False
    lock_memory: bool = False
    sealed: bool = False
    pad_bytes: int | None = None
    page: PageAccess | None = None


class Front(Struct, frozen=True):
    """``own_key`` lets programs of this user in, empty where none is needed."""

    guard: Guard
    own_key: str

    def page_url(self, address: str) -> str | None:
        """The page of the gateway at ``address``, None for none. One that has a link's secret lets in once."""
        page = self.guard.page
        if page is None:
            return None
        secret = "" if page.link is None else f"#{page.link.secret}"
        return f"{address.removesuffix('/v1')}{PAGE_PATH}{secret}"

    def gateway(self, models: ServedModels, listening: socket.socket) -> Gateway:
        from llmctl.server.guards import guarded_gateway

        return guarded_gateway(models, listening, self.guard)


def require_server(options: FrontOptions) -> None:
    """Raises UsageError where an extra is not installed."""
    try:
        import llmctl.server.guards  # noqa: F401
    except ImportError as error:
        if error.name is None or error.name.startswith("llmctl"):
            raise
        raise UsageError(f"the gateway needs {error.name}, which is not installed", hint=EXTRA) from error
    if options.sealed:
        from llmctl.workspace.endpoints import require_sealing

        require_sealing()


def access(options: FrontOptions, bound: socket.socket) -> ServeAccess:
    """What is needed where the gateway listens; what is missing is made. Raises UsageError, ConfigError,
    ResourceError."""
    from llmctl.workspace import serve_access
    from llmctl.workspace.serve_access import ServeAccess

    if options.page is PageAccess.LINK:  # the key that the link gives is enough: no token is made
        return ServeAccess(None, True)
    address = bound.getsockname()[0]
    return serve_access.prepared(
        address,
        hosts=[options.host, serve_access.reached_at(address), *_whole_names(options.allow_hosts)],
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        require_token=options.require_token,
    )


def _whole_names(hosts: tuple[str, ...]) -> list[str]:
    return [host for host in hosts if not host.startswith(".")]


@contextmanager
def sealing(options: FrontOptions) -> Iterator[Sealing | None]:
    """What sealed requests are opened with, None where none are taken. Raises ConfigError, ResourceError."""
    if not options.sealed:
        yield None
        return
    from llmctl.server.sealed import Sealing
    from llmctl.workspace import replay_memory, seal_keys

    with seal_keys.held() as keys, replay_memory.ReplayMemory(seal_keys.folder() / "seen") as replays:
        yield Sealing(keys, replays, options.pad_bytes or PAD_BYTES)


def seal_line(options: FrontOptions) -> str | None:
    """The line llmctl-key:… that clients pin, None where no sealed requests are taken. Raises ConfigError,
    ResourceError."""
    if not options.sealed:
        return None
    from llmctl.workspace import seal_keys

    return seal_keys.newest_line()


def guard(
    options: FrontOptions,
    access: ServeAccess,
    hands_over_to: tuple[str, ...],
    plan: ServePlan,
    sealing: Sealing | None = None,
    texts: ServedTexts | None = None,
) -> Front:
    """From here on this process writes no dump of its memory, and none of it to the disk where it is to be locked."""
    from llmctl.confinement import NetworkAccess, confine
    from llmctl.server.guards import Guard
    from llmctl.server.host_check import allowed_hosts
    from llmctl.workspace import tokens

    own_key = tokens.new_token() if access.token_required else ""
    files = access.certificate
    made = Guard(
        allowed_hosts(options.host, options.allow_hosts),
        tokens.KnownTokens(own_key).of,
        access.token_required,
        confine(network=NetworkAccess.ALL, lock_memory=options.lock_memory),
        None if files is None else (files.certificate, files.key),
        hands_over_to,
        sealing,
        _page(options, own_key, plan),
        texts,
    )
    return Front(made, own_key)


def _page(options: FrontOptions, own_key: str, plan: ServePlan) -> WebPage | None:
    from llmctl.server.web import OneTimeLink, WebPage
    from llmctl.workspace import tab_models

    if options.page is None:
        return None
    if options.page is PageAccess.LINK:
        return WebPage(PageAccess.LINK, tab_models.of_plan(plan), OneTimeLink(own_key))
    return WebPage(PageAccess.TOKEN if own_key else PageAccess.NONE, tab_models.of_plan(plan))


def say(out: Output, access: ServeAccess, host: str, port: int, seal_key: str | None = None) -> None:
    """How it is reached from another machine; a token that was made is shown this once, whatever is quiet."""
    from llmctl.workspace.serve_access import KEY_FILE

    if access.new_token is not None and not out.as_json:
        out.must_say(f"Its token, shown this once (llmctl token revoke {access.token_name} ends it):")
        out.must_say(f"  {access.new_token}")
    if (add := _add_command(access, host, port, seal_key)) is not None:
        out.note(f"On another machine, with a token in {KEY_FILE} that only you can read (umask 077):")
        out.note(f"  {add}")


def document(access: ServeAccess, host: str, port: int, seal_key: str | None = None) -> Mapping[str, Any]:
    certificate = access.certificate
    return {
        "pin": None if certificate is None else certificate.pin,
        "token_required": access.token_required,
        "token": access.new_token,
        "endpoint_add": _add_command(access, host, port, seal_key),
        "seal_key": seal_key,
    }


def _add_command(access: ServeAccess, host: str, port: int, seal_key: str | None) -> str | None:
    """None where no other machine reaches it."""
    from llmctl.workspace import serve_access

    if serve_access.is_loopback(host):
        return None
    return serve_access.add_command(access, host, port, seal_key)
