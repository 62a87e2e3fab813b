"""The engine in a tab beside the one here, in one run: the same file, threads, prompt and length, alternating.

    python tests/bench/browser.py FILE.gguf... [--rounds 5] [--tokens 64] [--threads 2]

Needs a Chromium and the package playwright, and a machine with nothing else to do. Both engines answer the page's own
code, so what is timed is what a person sees. Prints every round, then the rows of the table in docs/browser.md and of
profiles/browser.toml.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from llmctl.catalogue import from_file  # noqa: E402
from llmctl.engine.llama_cpp.start import start  # noqa: E402
from llmctl.gguf import split  # noqa: E402
from llmctl.server import web  # noqa: E402
from llmctl.server.app import create_app  # noqa: E402
from llmctl.server.gateway import Gateway  # noqa: E402
from llmctl.types.page_access import PageAccess  # noqa: E402
from llmctl.workspace.tab_models import TabModel, browser_tab  # noqa: E402
from tests.fakes.fits import fit_for  # noqa: E402
from tests.fakes.gateway import Model, Models  # noqa: E402
from tests.fakes.guarded import running  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PROMPT = "Tell me about the sea, its tides and its colours. " * 12
CONTEXT = 2048
TIMED = """async ([engine, model, prompt, tokens, threads]) => {
    const answering = await import(engine === 'tab' ? './tab.js' : './here.js');
    const settings = { threads, context: model.context, gpu: false, keep: false };
    if (engine === 'tab') await answering.load(model, settings, () => {}, new AbortController().signal);
    const messages = [{ role: 'user', content: prompt }];
    const request = { model: model.name, messages, max_tokens: tokens, temperature: 0 };
    const begun = performance.now();
    let first, last, count = 0, usage = null;
    for await (const event of answering.answer(request, new AbortController().signal)) {
        if (event.text || event.thoughts) {
            last = performance.now();
            first ??= last;
            count += 1;
        }
        usage = event.usage ?? usage;
    }
    const written = usage?.completion_tokens ?? count;
    const tok_s = (written - 1) * 1000 / (last - first);
    return { first_s: (first - begun) / 1000, tok_s, backend: answering.backend?.() };
}"""


@contextmanager
def page_of(file: Path, threads: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The address of a page with that model, for both engines, and the model as the page knows it."""
    pieces = split.pieces(file, browser_tab().part_bytes)
    tab = TabModel(file.stem, {"size_bytes": sum(piece.size_bytes for piece in pieces), "context": CONTEXT}, pieces)
    with (
        start(fit_for(file, threads=threads, context=CONTEXT, name=file.stem)) as engine,
        socket.create_server(("127.0.0.1", 0)) as bound,
    ):
        page = web.WebPage(PageAccess.NONE, lambda: [tab])
        app = create_app(Models(Model(engine.address, file.stem, context=CONTEXT)), routes=web.routes(page))
        with running(Gateway(app, bound)):
            yield f"http://127.0.0.1:{bound.getsockname()[1]}/web/", dict(web.listed(tab, 0))


def measured(page: Page, model: dict[str, Any], given: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Rounds by engine. The first of each is left out: it loads, and reads the whole prompt into its memory."""
    rounds: dict[str, list[dict[str, Any]]] = {"here": [], "tab": []}
    for number in range(given.rounds + 1):
        for engine, done in rounds.items():
            prompt = f"{number} {PROMPT}"  # else it would be found in the engine's memory
            done.append(page.evaluate(TIMED, [engine, model, prompt, given.tokens, given.threads]))
            print(f"{model['name']} {engine} {number}: {done[-1]}", flush=True)
    return {engine: done[1:] for engine, done in rounds.items()}


def told(file: Path, rounds: dict[str, list[dict[str, Any]]], threads: int) -> tuple[str, str]:
    """The row of the table in the docs, and that of the profile."""
    here, tab = ([row["tok_s"] for row in rounds[engine]] for engine in ("here", "tab"))
    first = [median(row["first_s"] for row in rounds[engine]) for engine in ("here", "tab")]
    ratio = median(tab) / median(here)
    candidate, today = from_file(file), date.today().isoformat()
    name, quant = candidate.model.name, candidate.artifact.quant
    speeds = f"{min(here):.0f} to {max(here):.0f} tok/s | {min(tab):.1f} to {max(tab):.1f} tok/s"
    row = f"| {name} {quant} | {threads} | {speeds} | {ratio:.2f} | first token {first[0]:.2f} s, {first[1]:.2f} s"
    profile = f'[[measured]]\nmodel = "{name}"\nquant = "{quant}"\nthreads = {threads}\n'
    profile += f"native_tok_s = {median(here):.1f}\ntab_tok_s = {median(tab):.1f}\n"
    return row, f'{profile}source = "tests/bench/browser.py, {today}"\n'


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("files", nargs="+", type=Path)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise SystemExit("there is no Chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        rows = []
        for file in given.files:
            with page_of(file, given.threads) as (address, model):
                page = browser.new_page()
                page.goto(address)
                rows.append(told(file, measured(page, model, given), given.threads))
                page.close()
        browser.close()
        print("\n".join(row for row, _ in rows), *(profile for _, profile in rows), sep="\n")


if __name__ == "__main__":
    main()
