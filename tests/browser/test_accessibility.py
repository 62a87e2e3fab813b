"""What axe-core finds of the page: nothing; and that everything can be reached by keyboard."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.browser.conftest import Opened, answered, answers, send
from tests.conftest import MadeOnce

AXE = "axe-core@4.14.1"
PACK_S = 60


@pytest.fixture(scope="module")
def axe(made_once: MadeOnce) -> str:
    """The checker, by npm with whatever registry the machine has; skips where that can't be had."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm here, which has axe-core")

    def fetch(folder: Path) -> None:
        packing = [npm, "pack", "--json", "--pack-destination", str(folder), AXE]
        done = subprocess.run(packing, capture_output=True, text=True, timeout=PACK_S)
        if done.returncode != 0:
            pytest.skip("npm can't fetch axe-core")
        (packed,) = json.loads(done.stdout)
        with tarfile.open(folder / packed["filename"]) as archive:
            archive.extract("package/axe.min.js", folder, filter="data")

    return (made_once("axe", fetch) / "package" / "axe.min.js").read_text()


def test_axe_finds_nothing(site: str, opened: Opened, axe: str) -> None:
    page = opened(site, color_scheme="light")
    send(page, "What is it?")
    page.check("[value=tab]")
    page.evaluate("document.getElementById('settings').open = true")
    page.evaluate(axe)
    violations = "axe.run().then(({ violations }) => violations.map(({ id, impact }) => [id, impact]))"
    assert page.evaluate(violations) == []
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 22)"
    assert page.evaluate(violations) == []


def test_everything_by_keyboard(site: str, opened: Opened) -> None:
    page = opened(site)
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.name || ''"))
    assert {"model", "engine", "prompt", "send", "attach", "log"} <= reached
    page.focus("#prompt")
    page.keyboard.type("What is it?")
    page.keyboard.press("Enter")
    answered(page)
    assert answers(page) == ["The answer is 42."]
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.textContent") == "Retry"
