"""The site: ``python -m sphinx -W -b html docs site``. Every warning is an error; a link that leads nowhere is one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

ROOT = Path(__file__).parent.parent
OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)]*)\)")

project = "llmctl"
release = re.findall(r'^__version__ = "(.*)"', (ROOT / "llmctl" / "__init__.py").read_text("utf-8"), re.MULTILINE)[0]
copyright = "the llmctl authors, Apache-2.0"

extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "llmctl"
html_copy_source = False
myst_heading_anchors = 3
nitpicky = True


def setup(app: Any) -> None:
    app.add_lexer("keys", TextLexer)  # of the blocks in contract.md
    app.connect("source-read", _as_page)


def _as_page(_: Any, name: str, source: list[str]) -> None:
    """The front page is the README; what lies outside of docs/ is named, not linked."""
    if name == root_doc:
        readme = (ROOT / "README.md").read_text("utf-8")
        moved = re.sub(r"\]\((?!\w+:)", "](../", readme).replace("](../docs/", "](")
        source[0] = f"{moved}\n{source[0]}"
    source[0] = OUTSIDE.sub(r"\1 (`\2`)", source[0])
