"""The text of an HTML page, on the lines where it stands in the file."""

from __future__ import annotations

from html.parser import HTMLParser

SILENT = ("script", "style", "template", "noscript", "svg")  # what a reader of the page doesn't see


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SILENT:
            self._silent.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        line = self.getpos()[0] - 1
        for number, text in enumerate(data.split("\n"), line):
            self.lines += [""] * (number + 1 - len(self.lines))
            if text.strip():
                self.lines[number] = f"{self.lines[number]} {' '.join(text.split())}".strip()


def text_of(page: str) -> str:
    """What a reader of the page sees, without tags, scripts and styles. A broken page is read as far as it goes."""
    parser = _Page()
    parser.feed(page)
    parser.close()
    return "\n".join(parser.lines)
