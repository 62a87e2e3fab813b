"""The fenced blocks of the README and of docs/, and what each is."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[2]
FRONT = ROOT / "docs" / "index.md"  # of the site: the README, and the menu
DOCS = sorted(set((ROOT / "docs").glob("*.md")) - {FRONT})
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS)
MARKED = re.compile(r"(?:<!-- (?P<mark>[^>]*) -->\s*)?^(?P<indent> *)```(?P<kind>.*)\n(?P<text>(?:.*\n)*?) *```$", re.M)
NOT_RUN = "not run: "
"""``<!-- not run: REASON -->`` stands before commands that no test runs."""
UNTIL_STOPPED = "runs until it is stopped"


class Block(Struct, frozen=True):
    """``kind`` is the word behind the fence, ``mark`` what the comment before it says."""

    page: Path
    kind: str
    mark: str
    text: str

    @property
    def is_run(self) -> bool:
        return self.kind in ("sh", "console") and not self.mark.startswith(NOT_RUN)


def blocks(page: Path) -> list[Block]:
    """In the order of the page."""
    return [
        Block(page, match["kind"], match["mark"] or "", re.sub(f"^{match['indent']}", "", match["text"], flags=re.M))
        for match in MARKED.finditer(page.read_text("utf-8"))
    ]
