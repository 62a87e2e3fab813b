"""The page as a folder of files, with a model for the engine in the tab, for web servers that know nothing of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from llmctl.errors import ResourceError, UsageError
from llmctl.server import web
from llmctl.shell import command

PAGE, CHARSET = "index.html", b'<meta charset="utf-8">\n'


def require_empty(folder: Path) -> None:
    """Raises UsageError where there is a file, or a folder that holds something, and ResourceError where it can't be
    looked at."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is there and not empty", hint=command("ls", "-l", folder))
    except OSError as error:
        raise ResourceError(f"{folder} can't be looked at: {error.strerror}") from error


def write(folder: Path, model: web.ModelForTab) -> int:
    """Writes the page and ``model`` into ``folder``, which is made, and returns the bytes of all. Raises
    ResourceError."""
    listed = web.listed(model, 0)
    documents = {web.SITE: web.site(None), web.MODELS: {"models": [listed]}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        size = sum(_written(folder / name, [_content(path)]) for name, path in web.static_files().items() if name)
        size += sum(_written(folder / name, [json.dumps(made).encode()]) for name, made in documents.items())
        for part, piece in zip(listed["parts"], model.pieces, strict=True):
            size += _written(folder / part["path"], piece.read(0, piece.size_bytes))
    except OSError as error:
        raise ResourceError(f"{error.filename or folder} can't be written: {error.strerror}") from error
    return size


def _content(path: Path) -> bytes:
    """Of a file of the page. The page itself has its policy in it, where no server of ours sends that."""
    content = path.read_bytes()
    policy = f'<meta http-equiv="Content-Security-Policy" content="{web.POLICY}">'
    return content.replace(CHARSET, CHARSET + policy.encode()) if path.name == PAGE else content


def _written(file: Path, blocks: Iterable[bytes]) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        return sum(map(stream.write, blocks))
