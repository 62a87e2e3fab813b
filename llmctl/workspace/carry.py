"""A model of this machine into a folder, for a machine without internet."""

from __future__ import annotations

from pathlib import Path

from llmctl import units
from llmctl.shell import command
from llmctl.store import Store
from llmctl.store.carry import Label
from llmctl.types.listener import Listener
from llmctl.workspace.fetch import Obtained
from llmctl.workspace.situation import Shelf


def carry(listener: Listener, shelf: Shelf, obtained: Obtained, to: Path) -> Path:
    """Copies it below ``to``, and returns the folder that holds it. Raises ResourceError and IntegrityError."""
    stored = Store().list()
    by_path, by_bytes = {file.path: file for file in stored}, {file.path.resolve(): file for file in stored}
    files = [by_path.get(path) or by_bytes[path.resolve()] for path in obtained.paths]
    label = Label(obtained.model, obtained.quant, obtained.licence)
    size = units.size(sum(file.bytes for file in files))
    listener.note(f"{obtained.model} {obtained.quant}: {size} to {to}")
    resumes = all(file.source.sha256 for file in files)
    with listener.progress(obtained.model, streams=True, resumes=resumes) as progress:
        folder = shelf.store.carry(files, label, to, progress)
    takes = command("llmctl", "pull", "--from", to, names=[label.reference])
    listener.note(f"  next: {takes}   on the other machine")
    return folder
