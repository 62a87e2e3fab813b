"""One headless Chromium, behind a proxy that counts, and gateways with the page."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmctl.confinement import NOT_ASKED, Confinement
from llmctl.engine.llama_cpp.start import start
from llmctl.gguf.pieces import whole_file
from llmctl.server import web
from llmctl.server.app import create_app
from llmctl.server.guards import Guard, guards
from llmctl.server.host_check import allowed_hosts
from llmctl.server.metrics import Metrics
from llmctl.server.web import OneTimeLink, WebPage
from llmctl.types.page_access import PageAccess
from llmctl.workspace import tokens
from llmctl.workspace.tab_models import TabModel
from tests.fakes import guarded
from tests.fakes.counting_proxy import CountingProxy, counting_proxy
from tests.fakes.fits import fit_for
from tests.fakes.gateway import Model, Models
from tests.fakes.scripted_model import write_scripted

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_MS = 60_000
LOOK_MS = 30
# Pages of the browser's own that nobody sees, each with a process that takes more than the page. This list stands for
# playwright's, which has more that costs nothing here.
NOT_NEEDED = (
    *("AimEnabled", "PreloadTopChromeWebUI", "WebUIOmniboxAimPopup", "WebUIOmniboxPopup"),
    *("MediaRouter", "NetworkTimeServiceQuerying", "OptimizationHints"),
    *("PaintHolding", "SpareRendererForSitePerProcess"),
)
SCRIPT = ("The", " answer", " is", " **42**", ".")
CONTEXT = 8192
Opened = Callable[..., "Page"]


@pytest.fixture(scope="package")
def proxy() -> Iterator[CountingProxy]:
    with counting_proxy() as proxy:
        yield proxy


@pytest.fixture(scope="package")
def browser(proxy: CountingProxy) -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("there is no Chromium here")
    arguments = ["--no-sandbox", f"--proxy-server=127.0.0.1:{proxy.port}", "--proxy-bypass-list=<-loopback>"]
    arguments += ["--js-flags=--liftoff-only,--wasm-lazy-compilation"]  # tiny models gain less from more than it costs
    arguments += [f"--disable-features={','.join(NOT_NEEDED)}"]
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scripted(tmp_path_factory.mktemp("tab") / "scripted-F32.gguf", SCRIPT, context=CONTEXT)


@pytest.fixture(scope="package")
def models(scripted: Path, endless_file: Path) -> Iterator[Models]:
    with (
        start(fit_for(scripted, threads=1, context=CONTEXT, name="scripted")) as short,
        start(fit_for(endless_file, threads=1, context=CONTEXT, name="endless")) as endless,
    ):
        yield Models(Model(short.address, "scripted", context=CONTEXT), Model(endless.address, "endless"))


def tab_model(name: str, file: Path) -> TabModel:
    size = file.stat().st_size
    about = {"size_bytes": size, "memory_bytes": 2 * size, "limit_bytes": 1 << 32, "tok_s": 10.0, "threads": 2}
    return TabModel(
        name, {**about, "context": CONTEXT, "why_not": None, "openness": "full", "licence": "MIT"}, (whole_file(file),)
    )


@pytest.fixture(scope="package")
def tab_models(scripted: Path, endless_file: Path) -> Sequence[TabModel]:
    too_large = TabModel("huge", {**tab_model("huge", scripted).about, "memory_bytes": 9 << 30}, ())
    return [tab_model("scripted", scripted), tab_model("endless", endless_file), too_large]


@contextmanager
def serving(models: Models, tab_models: Sequence[TabModel], access: PageAccess) -> Iterator[tuple[str, OneTimeLink]]:
    """The page's address, and a link to it."""
    key = tokens.new_token()
    page = WebPage(access, lambda: tab_models, OneTimeLink(key))
    nothing = Confinement(NOT_ASKED, NOT_ASKED, NOT_ASKED)
    required = access is not PageAccess.NONE
    guard = Guard(allowed_hosts("127.0.0.1"), tokens.KnownTokens(key).of, required, nothing, page=page)
    app = create_app(models, middleware=guards(guard, Metrics()), routes=web.routes(page))
    with guarded.listening(app) as port:
        yield f"http://127.0.0.1:{port}/web/", page.link or OneTimeLink(key)


@pytest.fixture(scope="package")
def site(models: Models, tab_models: Sequence[TabModel]) -> Iterator[str]:
    """A page for everybody."""
    with serving(models, tab_models, PageAccess.NONE) as (address, _):
        yield address


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    contexts = []

    def new(**options: Any) -> BrowserContext:
        context = browser.new_context(**options)
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        return context

    yield new
    for context in contexts:
        context.close()


@pytest.fixture
def opened(new_context: Callable[..., BrowserContext]) -> Opened:
    """The page at an address, ready to be typed into, in a context of its own unless one is given."""

    def open_page(address: str, context: BrowserContext | None = None, **options: Any) -> Page:
        page = (context or new_context(**options)).new_page()
        page.goto(address)
        page.wait_for_selector("#chat:not([hidden])")
        return page

    return open_page


@contextmanager
def elsewhere() -> Iterator[int]:
    """The port of another server, that lets every page use what it has."""

    async def answer(request: Request) -> Response:
        return Response(
            "", headers={"cross-origin-resource-policy": "cross-origin", "access-control-allow-origin": "*"}
        )

    with guarded.listening(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])) as port:
        yield port


def send(page: Page, text: str, *, waits: bool = True) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")
    if waits:
        answered(page)


def answered(page: Page) -> None:
    until(page, "document.getElementById('log').getAttribute('aria-busy') === 'false'")


def until(page: Page, holds: str) -> None:
    """Waits until the expression is true. Playwright's own way has the page evaluate text, which its policy forbids."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not _evaluated(page, holds):
        assert time.monotonic() < deadline, (
            holds,
            page.inner_text("header"),
            page.locator("#violations").text_content(),
        )
        page.wait_for_timeout(LOOK_MS)


def _evaluated(page: Page, holds: str) -> Any:
    """None while the page loads."""
    from playwright.sync_api import Error

    try:
        return page.evaluate(holds)
    except Error:
        return None


def answers(page: Page) -> list[str]:
    return page.locator("article.assistant .text").all_inner_texts()
