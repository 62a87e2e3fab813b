"""What ``docs/troubleshooting.md`` shows of doctor's checks: what they said on recorded machines, and what mends it."""

from __future__ import annotations

import ast
import functools
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_EXAMPLES = 2
WIDTH = 80
OF_RECORDINGS = "was not recorded"
OWN_INDEX = "--index-url"  # such a command is long and depends on the card: doctor prints the whole of it


def check_ids(*modules: str) -> list[str]:
    """The ids in ``llmctl/checks/``, of these modules or of all but ``endpoint``, in the order of the files."""
    files = sorted((ROOT / "llmctl" / "checks").glob("*.py"))
    chosen = [file for file in files if file.stem in modules or (not modules and file.stem != "endpoint")]
    return list(dict.fromkeys(id for file in chosen for id in _ids(ast.parse(file.read_bytes()))))


def _ids(tree: ast.Module) -> Iterator[str]:
    """What is called ``Check("id", …)``, ``_private("id", …)`` or ``EndpointStep("id", …)``, and a module's ID."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            first = node.args[0]
            if node.func.id in ("Check", "_private", "EndpointStep") and isinstance(first, ast.Constant):
                yield str(first.value)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "ID":
            yield str(ast.literal_eval(node.value))


def examples(id: str) -> str:
    """A block with what the check ``id`` said on recorded machines where not all was well; empty where none has it."""
    said = list(_warnings().get(id, {}).items())[:MOST_EXAMPLES]
    lines = [
        line
        for message, remedy in said
        for line in (*textwrap.wrap(message, WIDTH), *([f"  → {remedy}"] if remedy else []))
    ]
    return "\n".join(["```text", *lines, "```", ""]) if lines else ""


@functools.cache
def _warnings() -> dict[str, dict[str, str | None]]:
    """The messages of each check that is not ok, with what mends it."""
    warnings: dict[str, dict[str, str | None]] = {}
    for file in sorted((ROOT / "tests" / "fixtures" / "machines").glob("*/expected.json")):
        for check in json.loads(file.read_text("utf-8"))["checks"]:
            remedy = check.get("remedy")
            shown = "the command that doctor prints" if remedy and OWN_INDEX in remedy else remedy
            if check["status"] != "ok" and OF_RECORDINGS not in check["message"]:
                warnings.setdefault(check["id"], {}).setdefault(check["message"], shown)
    return warnings
