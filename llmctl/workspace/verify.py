"""Whether what is on this machine is still what it was."""

from __future__ import annotations

from msgspec import Struct

from llmctl.errors import IntegrityError
from llmctl.files.progress import shifted
from llmctl.shell import command
from llmctl.store.upkeep.verify import Soundness, Verdict
from llmctl.types.listener import Listener
from llmctl.types.model import SourceKind
from llmctl.workspace import inventory
from llmctl.workspace.inventory import Item
from llmctl.workspace.situation import Shelf

__all__ = ["Verdict", "Verified", "verify"]


class Verified(Struct, frozen=True):
    """Every file that was read, with the model that it belongs to."""

    verdicts: tuple[tuple[Item, Verdict], ...]

    @property
    def wrong(self) -> list[tuple[Item, Verdict]]:
        return [(item, verdict) for item, verdict in self.verdicts if verdict.state is Soundness.WRONG]

    @property
    def error(self) -> IntegrityError | None:
        """What is wrong, and the command that mends it; None if nothing is."""
        if not (wrong := self.wrong):
            return None
        item, first = wrong[0]
        message = f"{item.label} is not what it must be: it {first.why}"
        if len(wrong) > 1:
            message = f"{len(wrong)} of {len(self.verdicts)} files are not what they must be; {item.label} {first.why}"
        if item.owner.foreign:
            return IntegrityError(message, hint=f"{item.owner.label} has to fetch {first.stored.name} again")
        remove = command("llmctl", "models", "rm", "--yes", names=[item.label])
        if first.stored.source.kind is SourceKind.LOCAL:
            return IntegrityError(message, hint=f"{remove}   and pull it again from where it came")
        return IntegrityError(message, hint=f"{remove} && {command('llmctl', 'pull', names=[item.label])}")


def verify(listener: Listener, shelf: Shelf, name: str | None) -> Verified:
    """Reads every model on this machine, or those that ``name`` means, and compares them with the sha256 that they
    must have. Raises NotFoundError."""
    items = shelf.items() if name is None else inventory.named(shelf.items(), name)
    files = [(item, file) for item in items for file in item.files]
    total_bytes, done_bytes = sum(file.bytes for _, file in files), 0
    verdicts: list[tuple[Item, Verdict]] = []
    with listener.progress("Reading", resumes=False) as progress:
        for item, file in files:
            expected = item.sha256 if len(item.files) == 1 else None
            part = shifted(progress, done_bytes, total_bytes)
            verdicts.append((item, shelf.store.verify(file, expected, part)))
            done_bytes += file.bytes
    return Verified(tuple(verdicts))
