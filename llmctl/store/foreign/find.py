"""What other tools hold on this machine, and whether it is what is looked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from llmctl.errors import LlmctlError
from llmctl.gguf.header import read_file
from llmctl.shell import command
from llmctl.store.foreign import llama_cpp, lm_studio, ollama
from llmctl.store.stored import Owner, Stored
from llmctl.types.model import Source


def all_files(hub_root: Path) -> tuple[Stored, ...]:
    """Every GGUF file of ollama, LM Studio and llama.cpp, each once. Raises nothing.

    ``hub_root`` is the hub cache, which some of these tools use as well and which is not looked into here.
    """
    by_path: dict[Path, Stored] = {}
    for stored in (*ollama.files(), *lm_studio.files(), *llama_cpp.files(hub_root)):
        by_path.setdefault(stored.path.resolve(), stored)
    return tuple(by_path.values())


def removal_hint(stored: Stored) -> str:
    """What a person does to remove a file of another tool."""
    match stored.owner:
        case Owner.OLLAMA:
            return command("ollama", "rm", names=[stored.name])
        case Owner.LM_STUDIO:
            return f"delete it in LM Studio, under My Models: {stored.name}"
    return command("rm", names=[stored.path])


def find(files: Iterable[Stored], source: Source) -> Path | None:
    """The file among ``files`` that is ``source``, or None. Nothing is hashed."""
    return next((stored.path for stored in files if same(stored, source)), None)


def same(stored: Stored, source: Source) -> bool:
    """Whether a file is the one that ``source`` means, as far as can be told without hashing: by its sha256 if both
    know one; else by file name and size; else by repository and file name, where the file is whole by its own account.
    """
    own = stored.source
    if own.sha256 is not None and source.sha256 is not None:
        return own.sha256 == source.sha256
    if PurePosixPath(own.file).name != PurePosixPath(source.file).name:
        return False
    if source.bytes is not None and stored.bytes == source.bytes:
        return True
    if source.sha256 is not None or own.repo is None or own.repo != source.repo:
        return False  # where the sha256 is known, so is the size
    try:
        read_file(stored.path)
    except LlmctlError:
        return False
    return True
