"""The page as people use it: a real Chromium, both engines, real models that say what a test wants to hear."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import pytest

from llmctl.types.page_access import PageAccess
from llmctl.workspace import tokens, transcript
from llmctl.workspace.tab_models import TabModel
from tests.browser.conftest import Opened, answered, answers, elsewhere, send, serving, until
from tests.fakes.counting_proxy import CountingProxy
from tests.fakes.gateway import Models

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ViewportSize

NARROW: ViewportSize = {"width": 390, "height": 844}
WIDE: ViewportSize = {"width": 1280, "height": 800}
SCHEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")


@pytest.mark.parametrize("engine", ["here", "tab"])
def test_an_answer_is_streamed_stopped_and_asked_for_again(site: str, opened: Opened, engine: str) -> None:
    page = opened(site)
    page.check(f"[value={engine}]")
    send(page, "What is it?")
    assert answers(page) == ["The answer is 42."] and page.locator("article strong").inner_text() == "42"
    place = page.inner_text("#place")
    assert place == "this machine" if engine == "here" else place.startswith("this tab, processor, ")
    assert "tok/s" in page.inner_text("#speed") and "to other hosts 0, refused 0" in page.inner_text("#requests")
    page.select_option("#model", "endless")
    send(page, "Go on", waits=False)
    until(page, "document.querySelectorAll('article.assistant .text')[1]?.textContent.includes('w3')")
    page.keyboard.press("Escape")
    answered(page)
    assert "stopped" in page.locator("article.assistant .facts").nth(1).inner_text()
    page.select_option("#model", "scripted")
    page.get_by_role("button", name="Retry").nth(1).click()
    answered(page)
    assert answers(page) == ["The answer is 42."] * 2
    page.get_by_role("button", name="Edit").first.click()
    assert page.input_value("#prompt") == "What is it?"
    send(page, "What was it?")
    assert page.locator("article.user .text").all_inner_texts() == ["What was it?"]
    send(page, "a " * 350)  # 700 tokens: more than either engine takes at a time
    assert answers(page) == ["The answer is 42."] * 2, page.inner_text("#problem")


def test_what_does_not_fit_a_tab_is_not_sent(site: str, opened: Opened) -> None:
    page = opened(site)
    page.check("[value=tab]")
    page.select_option("#model", "huge")
    assert "does not fit this tab: it takes 9.7 GB, a tab has 4.3 GB at most" in page.inner_text("#about-model")
    assert page.locator("#send").is_disabled()
    page.check("[value=here]")
    assert page.locator("#send").is_enabled()


def test_a_link_opens_tabs_of_one_browser(
    models: Models, tab_models: Sequence[TabModel], opened: Opened, new_context: Callable[..., BrowserContext]
) -> None:
    with serving(models, tab_models, PageAccess.LINK) as (address, link):
        context = new_context()
        page = opened(f"{address}#{link.secret}", context)
        assert page.url == address
        page.reload()
        page.wait_for_selector("#chat:not([hidden])")
        other = opened(address, context)
        for tab in (page, other):
            send(tab, "What is it?", waits=False)
        for tab in (page, other):
            answered(tab)
            assert answers(tab) == ["The answer is 42."]
        stranger = new_context().new_page()
        stranger.goto(f"{address}#{link.secret}")
        stranger.wait_for_selector("#access:not([hidden])")
        stranger.fill("#token", "llmctl-wrong")
        stranger.keyboard.press("Enter")
        until(stranger, "document.getElementById('access-error').textContent.includes('revoked')")
        _, token = tokens.add("person")
        stranger.fill("#token", token)
        stranger.keyboard.press("Enter")
        stranger.wait_for_selector("#chat:not([hidden])")


def test_files_and_conversations(site: str, opened: Opened, tmp_path: Path) -> None:
    page = opened(site)
    notes, broken = tmp_path / "notes.txt", tmp_path / "broken.bin"
    notes.write_text("Forty-two.")
    broken.write_bytes(b"\xff\x00\xfe")
    page.set_input_files("#attach", [notes, broken])
    until(page, "document.getElementById('problem').textContent.includes('broken.bin is neither text')")
    page.evaluate("document.getElementById('settings').open = true")
    page.fill("#system", "Be brief.")
    send(page, "What is in it?")
    with page.expect_download() as download:
        page.click("#export")
    file = tmp_path / "exported.json"
    download.value.save_as(file)
    conversation = transcript.load(file)
    (turn,) = conversation.turns
    assert (conversation.system, turn.answer, turn.whole) == ("Be brief.", "The answer is **42**.", True)
    assert turn.prompt == "notes.txt:\n\nForty-two.\n\nWhat is in it?"
    page.click("#clear")
    assert answers(page) == []
    page.set_input_files("#import", file)
    page.wait_for_selector("article.assistant")
    assert answers(page) == ["The answer is 42."]
    file.write_text(json.dumps({"turns": []}))
    page.set_input_files("#import", file)
    until(page, "document.getElementById('problem').textContent.includes('no conversation of llmctl')")


def test_nothing_is_kept_unless_it_is_switched_on(site: str, opened: Opened) -> None:
    page = opened(site)
    kept = "[localStorage.length, document.cookie]"
    stores = "Promise.all([caches.keys(), indexedDB.databases(), navigator.serviceWorker.getRegistrations()])"
    send(page, "What is it?")
    assert page.evaluate(kept) == [0, ""] and page.evaluate(stores) == [[], [], []]
    page.reload()
    page.wait_for_selector("#chat:not([hidden])")
    assert answers(page) == []
    page.evaluate("document.getElementById('settings').open = true")
    page.check("#keep-chat")
    send(page, "What is it?")
    page.reload()
    page.wait_for_selector("article.assistant")
    assert answers(page) == ["The answer is 42."]
    page.evaluate("document.getElementById('settings').open = true")
    page.uncheck("#keep-chat")
    until(page, "localStorage.length === 0")


BROWSER_MAKERS = (".google.com", ".googleapis.com", ".gvt1.com")  # a browser asks its maker, whatever the page
MARKED = [
    ("<img src=x onerror=alert(1)>", "<p>&lt;img src=x onerror=alert(1)&gt;</p>"),
    ("[go](javascript:alert(1))", "<p>[go](javascript:alert(1))</p>"),
    ("![x](https://other.example/a)", '<p><a href="https://other.example/a">x</a></p>'),
    ("**a** *b* `c*d*`", "<p><strong>a</strong> <em>b</em> <code>c*d*</code></p>"),
    ("snake_case_name 2 * 3 * 4", "<p>snake_case_name 2 * 3 * 4</p>"),
    ("# T\n\n- a\n  - b\n- c", "<h3>T</h3><ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>"),
    ("2. d\n3. e", '<ol start="2"><li>d</li><li>e</li></ol>'),
    ("> q\n\n---", "<blockquote><p>q</p></blockquote><hr>"),
    ("```py\n</code><b>\n```", "<pre><code>&lt;/code&gt;&lt;b&gt;</code></pre><button>Copy code</button>"),
    (
        "|a|b|\n|-|-|\n|1|<i>|",
        "<div><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>&lt;i&gt;</td></tr></tbody>"
        "</table></div>",
    ),
    ("> " * 300 + "deep", None),
    ("*" * 5000, None),
    ("[" * 5000, None),
]


def test_markdown(site: str, opened: Opened) -> None:
    page = opened(site)
    shown = """async (texts) => {
        const { element, rendered } = await import('./markdown.js');
        const others = / (?!href|start)[a-z-]+="[^"]*"/g;
        return texts.map((text) => element('div', {}, rendered(text)).innerHTML.replace(others, ''));
    }"""
    made = page.evaluate(shown, [text for text, _ in MARKED])
    for (text, wanted), html in zip(MARKED, made, strict=True):
        assert wanted is None or html == wanted, text[:40]


TRIES = """async (other) => {
    const failed = [];
    const ended = (what) => new Promise((resolve) => { what.onload = what.onopen = what.onerror = resolve; });
    const script = Object.assign(document.createElement('script'), { src: `${other}/script.js` });
    document.head.append(script);
    await ended(script);
    await ended(Object.assign(new Image(), { src: `${other}/image.png` }));
    try { await ended(new Worker(`${other}/worker.js`)); } catch (error) { failed.push('worker'); }
    const socket = `${other.replace('http', 'ws')}/socket`;
    try { await ended(new WebSocket(socket)); } catch (error) { failed.push('socket'); }
    await fetch(`${other}/fetch`, { mode: 'no-cors' }).catch(() => failed.push('fetch'));
    navigator.sendBeacon(`${other}/beacon`, 'x');
    const inner = new Blob([`fetch('${other}/inner', { mode: 'no-cors' }).catch(() => 0).then(() => postMessage(1))`]);
    const worker = new Worker(URL.createObjectURL(inner));
    await new Promise((resolve) => { worker.onmessage = resolve; worker.onerror = resolve; });
}"""


@pytest.mark.parametrize("policy", [True, False])
def test_nothing_goes_to_another_host(site: str, opened: Opened, proxy: CountingProxy, *, policy: bool) -> None:
    """With the policy off the same count sees what is tried."""
    with elsewhere() as port:
        page = opened(site, bypass_csp=not policy)
        proxy.hosts.clear()
        send(page, "What is it?")
        page.evaluate(TRIES, f"http://127.0.0.1:{port}")
        until(page, "document.getElementById('requests').textContent.match(/hosts [1-9]|refused [5-9]/)")
        hosts = [host for host in proxy.hosts if not host.removesuffix(":443").endswith(BROWSER_MAKERS)]
        own, shown = urlsplit(site).netloc, page.inner_text("#requests")
        if policy:
            assert set(hosts) == {own} and "to other hosts 0" in shown
        else:
            assert hosts.count(f"127.0.0.1:{port}") >= 4 and own in hosts and "to other hosts 0" not in shown


def test_nothing_sticks_out(site: str, opened: Opened) -> None:
    page = opened(site, viewport=NARROW)
    page.evaluate("document.getElementById('settings').open = true")
    send(page, "What is it?")
    for size, scheme in itertools.product((NARROW, WIDE), SCHEMES):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("[innerWidth, document.documentElement.scrollWidth <= innerWidth]") == [
            size["width"],
            True,
        ]
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(20, 23, 22)") == (scheme == "dark")
