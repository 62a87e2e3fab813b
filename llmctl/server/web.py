"""``/web/``: a page to chat on, and the files of the models that its engine in the tab loads.

The page's own files are for everybody: they hold nothing of anybody's. All else it asks for with a token, as every
client does; ``llmctl web`` gives it one for the secret in the link that it prints, once.
"""

from __future__ import annotations

import hmac
import mimetypes
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from llmctl.gguf.pieces import Piece
from llmctl.server.errors import refusal
from llmctl.server.exchange import exchange_of
from llmctl.types.page_access import PageAccess

FOLDER = Path(__file__).parent / "page"
PATH = "/web/"
SITE, MODELS, SESSION = "page.json", "models.json", "session"
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self' blob:; "
    "img-src 'self' blob: data:; style-src 'self'; base-uri 'none'; form-action 'none'"
)
"""What the page may load, from its own server alone. Engines run in workers that are made of blobs, and pictures are
shown from what a person attached."""
HEADERS = {
    "content-security-policy": f"{POLICY}; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
"""The three of origins are what threads of WebAssembly need."""
MEDIA_TYPES = {".js": "text/javascript", ".json": "application/json", ".wasm": "application/wasm"}
LOADED = frozenset({".js", ".css", ".svg", ".wasm"})  # kinds of files that the page loads
RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
SECRET_BYTES = 32
LONGEST_SECRET = 200


class ModelForTab(Protocol):
    """A model that the engine in the tab may load. ``about`` is what ``models.json`` has of it, beside ``parts``."""

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> Mapping[str, Any]: ...

    @property
    def pieces(self) -> Sequence[Piece]: ...


class OneTimeLink:
    """Gives ``key`` for the secret of a link, to the first that brings it."""

    def __init__(self, key: str) -> None:
        self.secret = secrets.token_urlsafe(SECRET_BYTES)
        self._key = key
        self._is_used = False

    def redeemed(self, secret: str) -> str | None:
        if self._is_used or not hmac.compare_digest(secret.encode(), self.secret.encode()):
            return None
        self._is_used = True
        return self._key


class WebPage(Struct, frozen=True):
    """``models`` lists what the tab may load; it may take seconds, and is called by a thread that may wait."""

    access: PageAccess
    models: Callable[[], Sequence[ModelForTab]]
    link: OneTimeLink | None = None


def static_files() -> Mapping[str, Path]:
    """The page's files by the end of their address, the page itself by an empty one."""
    files = {path.relative_to(FOLDER).as_posix(): path for path in sorted(FOLDER.rglob("*")) if path.is_file()}
    return {"": files["index.html"], **files}


def site(access: PageAccess | None) -> Mapping[str, Any]:
    """What the page asks first; ``access`` None: it is a folder of files, and nothing but the tab answers."""
    return {"api": access is not None, "access": access or PageAccess.NONE, "always_kept": access is None}


def listed(model: ModelForTab, number: int) -> Mapping[str, Any]:
    """A model as ``models.json`` has it, that is the one of this number there."""
    parts = [{"path": f"models/{number}/{at}.gguf", "bytes": piece.size_bytes} for at, piece in enumerate(model.pieces)]
    return {"name": model.name, **model.about, "parts": parts}


def open_paths() -> frozenset[str]:
    """Those that need no token."""
    return frozenset({"/", PATH.rstrip("/"), *(f"{PATH}{name}" for name in (*static_files(), SITE, SESSION))})


def routes(page: WebPage) -> Sequence[BaseRoute]:
    async def ask_site(request: Request) -> Response:
        return JSONResponse(site(page.access), headers=HEADERS)

    def list_models(request: Request) -> Response:
        shown = [listed(model, number) for number, model in _allowed(page, request)]
        return JSONResponse({"models": shown}, headers=HEADERS)

    def part(request: Request) -> Response:
        wanted, at = request.path_params["number"], request.path_params["at"]
        for number, model in _allowed(page, request):
            if number == wanted and at < len(model.pieces):
                return ranged(request, model.pieces[at])
        return refusal(request.scope, 404, "not_found", f"there is no part {at} of a model {wanted}", headers=HEADERS)

    async def begin_session(request: Request) -> Response:
        key = None if page.link is None else page.link.redeemed(await _short_body(request))
        if key is None:
            why = "the link was used before, or is another gateway's: llmctl web prints a new one"
            return refusal(request.scope, 403, "link_refused", why, headers=HEADERS)
        return JSONResponse({"key": key}, headers=HEADERS)

    static = [Route(f"{PATH}{name}", _file(path), methods=["GET", "HEAD"]) for name, path in static_files().items()]
    return (
        *static,
        Route(f"{PATH}{SITE}", ask_site),
        Route(f"{PATH}{MODELS}", list_models),
        Route(f"{PATH}models/{{number:int}}/{{at:int}}.gguf", part),
        Route(f"{PATH}{SESSION}", begin_session, methods=["POST"]),
        *(Route(path, _to_page, methods=["GET", "HEAD"]) for path in ("/", PATH.rstrip("/"))),
    )


def media_type(path: Path) -> str:
    return MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"


def ranged(request: Request, piece: Piece) -> Response:
    """The piece, or the part of it that the request's ``Range`` asks for: one range, else all of it."""
    size, asked = piece.size_bytes, RANGE.fullmatch(request.headers.get("range", ""))
    begin = int(asked[1]) if asked else 0
    end = min(int(asked[2]) + 1 if asked and asked[2] else size, size)
    headers = {**HEADERS, "accept-ranges": "bytes", "cache-control": "no-store"}
    if begin >= end:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
    headers["content-length"] = str(end - begin)
    if asked:
        headers["content-range"] = f"bytes {begin}-{end - 1}/{size}"
    blocks: Iterator[bytes] = piece.read(begin, end)
    return StreamingResponse(blocks, 206 if asked else 200, headers, "application/octet-stream")


def _allowed(page: WebPage, request: Request) -> Iterator[tuple[int, ModelForTab]]:
    """With their numbers among all."""
    may_use = exchange_of(request.scope).may_use
    return ((number, model) for number, model in enumerate(page.models()) if may_use(model.name))


def _file(path: Path) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        return FileResponse(path, headers=HEADERS, media_type=media_type(path))

    return answer


async def _to_page(request: Request) -> Response:
    return RedirectResponse(PATH, headers=HEADERS)


async def _short_body(request: Request) -> str:
    """Empty for one that is too long to be a secret."""
    body = b""
    async for block in request.stream():
        body += block
        if len(body) > LONGEST_SECRET:
            return ""
    return body.decode("utf-8", "replace")
