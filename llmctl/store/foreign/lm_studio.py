"""GGUF files that LM Studio holds, as ``<publisher>/<repository>/<file>.gguf``. Read, never written.

Where: LM Studio keeps the path of its home in ``~/.lmstudio-home-pointer`` (else ``~/.lmstudio``, formerly
``~/.cache/lm-studio``), and the models in ``models`` there unless ``downloadsFolder`` in its ``settings.json`` says
otherwise. https://lmstudio.ai/docs/app/advanced/import-model
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from llmctl.gguf.file_names import ANY_CASE, is_hidden, is_projector
from llmctl.store.foreign.reading import document, home, inside
from llmctl.store.stored import Owner, Stored
from llmctl.types.model import Source, SourceKind

POINTER = ".lmstudio-home-pointer"
MAX_POINTER_BYTES = 4096
MAX_FILES = 5000


def roots() -> list[Path]:
    """The models folders that there may be, each once."""
    user = home()
    if user is None:
        return []
    homes = [*_pointed(user), user / ".lmstudio", user / ".cache" / "lm-studio"]
    return list(dict.fromkeys(_models(home) for home in homes))


def files() -> Iterator[Stored]:
    """Every GGUF file that can be read. Raises nothing."""
    for root in roots():
        for path in islice(sorted(root.glob(f"*/*/{ANY_CASE}")), MAX_FILES):
            status = None if is_hidden(path.name) else inside(path, root)
            if status is not None:
                repo = "/".join(path.parts[-3:-1])
                source = Source(SourceKind.HUB, repo, path.name, status.st_size)
                yield Stored(path, status.st_size, source, Owner.LM_STUDIO, repo, is_projector(path.name))


def _pointed(user: Path) -> list[Path]:
    try:
        with (user / POINTER).open("rb") as file:
            home = Path(file.read(MAX_POINTER_BYTES).decode("utf-8", "replace").strip())
        return [home] if home.is_absolute() and home.is_dir() else []
    except (OSError, ValueError):
        return []


def _models(home: Path) -> Path:
    moved = document(home / "settings.json", home).get("downloadsFolder")
    try:
        if isinstance(moved, str) and Path(moved).is_absolute() and Path(moved).is_dir():
            return Path(moved)
    except (OSError, ValueError):
        pass
    return home / "models"
