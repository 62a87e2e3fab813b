"""The page without its server: kept by the browser on request, and as an exported folder."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmctl.errors import UsageError
from llmctl.server import web_export
from llmctl.types.page_access import PageAccess
from llmctl.workspace.tab_models import TabModel
from tests.browser.conftest import Opened, answers, send, serving, until
from tests.fakes.gateway import Models

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page


def wait_for_chat(page: Page) -> None:
    page.reload()
    page.wait_for_selector("#chat:not([hidden])")


def test_a_page_that_is_kept_answers_without_its_server(
    tab_models: Sequence[TabModel], opened: Opened, new_context: Callable[..., BrowserContext]
) -> None:
    context = new_context()
    with serving(Models(), tab_models, PageAccess.NONE) as (address, _):
        page = opened(address, context)
        page.evaluate("document.getElementById('settings').open = true")
        page.check("#keep-model")
        until(page, "document.getElementById('kept').textContent.startsWith('Kept')")
        page.check("[value=tab]")
        send(page, "What is it?")
        assert answers(page) == ["The answer is 42."]
    wait_for_chat(page)
    assert page.evaluate("crossOriginIsolated") and page.locator("[value=here]").is_disabled()
    send(page, "What is it?")
    assert answers(page) == ["The answer is 42."], page.inner_text("#problem")
    page.evaluate("document.getElementById('settings').open = true")
    page.uncheck("#keep-model")
    until(page, "document.getElementById('kept').textContent === 'Nothing is kept.'")
    stores = "Promise.all([caches.keys(), navigator.serviceWorker.getRegistrations()])"
    assert page.evaluate(stores) == [[], []]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def static(folder: Path) -> Iterator[str]:
    """As ``python -m http.server``, on localhost."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://localhost:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def test_an_exported_folder(
    tab_models: Sequence[TabModel], opened: Opened, new_context: Callable[..., BrowserContext], tmp_path: Path
) -> None:
    folder, context = tmp_path / "site", new_context()
    written = web_export.write(folder, tab_models[0])
    assert written == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with static(folder) as address:
        page = opened(address, context)
        until(page, "crossOriginIsolated && !document.getElementById('chat').hidden")  # the worker brings the headers
        send(page, "What is it?")
        assert answers(page) == ["The answer is 42."], page.inner_text("#problem")
        assert "to other hosts 0" in page.inner_text("#requests")
        page.evaluate("document.getElementById('settings').open = true")
        page.check("#keep-model")
        send(page, "What is it?")
    wait_for_chat(page)
    send(page, "What is it?")
    assert answers(page) == ["The answer is 42."], page.inner_text("#problem")


def test_a_folder_that_holds_something_is_left(tmp_path: Path) -> None:
    web_export.require_empty(tmp_path / "new")
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(UsageError, match="is there and not empty"):
            web_export.require_empty(place)
