"""Machines that aren't here: a folder that stands behind the door ``Host`` in place of a machine, and how one is made.

    NAME/root/...        the files that a probe reads, as they were read
    NAME/machine.json    the operating system, the environment that matters, what commands and children answered
    NAME/expected.json   what llmctl made of it

``llmctl doctor --capture DIR`` writes such a folder. What could name a person, a computer or a single device is
replaced: see ``scrub``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import Struct

from llmctl.child import Reply
from llmctl.files.decode import decode
from llmctl.host import READ_LIMIT_BYTES, Filesystem, Host, Ran
from llmctl.probe.gpu import pci_ids
from llmctl.probe.recorded.scrub import Scrubber
from llmctl.struct import asdict

DOCUMENT = "machine.json"
ROOT = "root"
LIMIT_BYTES = 16 << 20


class RecordedCommand(Struct, frozen=True):
    """``ran`` is None for a command that isn't there or didn't end."""

    argv: tuple[str, ...]
    ran: Ran | None = None


class RecordedReply(Struct, frozen=True):
    """A question to a module of ours; the rest is as in ``Reply``."""

    module: str
    data: Any = None
    why: str | None = None
    illegal_instruction: bool = False


class Recording(Struct, frozen=True):
    """What machine.json holds. ``system`` is Python's sys.platform, ``store`` the filesystem that models are on,
    ``unreadable`` the files that are there but not for this user."""

    system: str
    environ: Mapping[str, str]
    runs: tuple[RecordedCommand, ...] = ()
    asked: tuple[RecordedReply, ...] = ()
    store: Filesystem | None = None
    unreadable: tuple[str, ...] = ()


NOTHING = Recording("linux", {})


@dataclass(frozen=True)
class Recorded(Host):
    """Another machine. What was not recorded isn't there."""

    recording: Recording = NOTHING

    def readable(self, name: str) -> bool:
        return name not in self.recording.unreadable and self.exists(name)

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Ran | None:
        return next((command.ran for command in self.recording.runs if command.argv == tuple(argv)), None)

    def ask(self, module: str, question: Any = None, *, deadline_s: float) -> Reply:
        reply = next((recorded for recorded in self.recording.asked if recorded.module == module), None)
        if reply is None:
            return Reply(None, "was not recorded")
        return Reply(reply.data, reply.why, reply.illegal_instruction)

    def filesystem(self, path: Path) -> Filesystem | None:
        return self.recording.store


def recorded(folder: Path) -> Recorded:
    """The machine in ``folder``. Raises OSError, and ValueError where machine.json is not one."""
    with (folder / DOCUMENT).open("rb") as stream:
        recording = decode(Recording, json.loads(stream.read(LIMIT_BYTES)), "recording")
    return Recorded(root=folder / ROOT, environ=recording.environ, system=recording.system, recording=recording)


class _Consulted(Mapping[str, str]):
    """An environment that records which of its variables are looked up."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self.environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.environ)

    def __len__(self) -> int:
        return len(self.environ)


@dataclass(frozen=True)
class Recorder(Host):
    """This machine, with a memory of everything that was learnt of it."""

    environ: Mapping[str, str] = field(default_factory=lambda: Host().environ)
    machine: Host = field(default_factory=Host)
    files: dict[str, str | None] = field(default_factory=dict)
    runs: dict[tuple[str, ...], Ran | None] = field(default_factory=dict)
    asked: dict[str, Reply] = field(default_factory=dict)
    store: list[Filesystem | None] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not isinstance(self.environ, _Consulted):
            object.__setattr__(self, "environ", _Consulted(self.environ))

    @property
    def live(self) -> bool:
        """What was kept from earlier is not asked for again, so it would be missing from the recording."""
        return False

    def read(self, name: str, *, limit_bytes: int = READ_LIMIT_BYTES) -> str | None:
        text = self.machine.read(name, limit_bytes=limit_bytes)
        if text is not None:
            self.files[name] = text
        return text

    def exists(self, name: str) -> bool:
        is_file = self.machine.exists(name)
        if is_file:
            self.files.setdefault(name, None)
        return is_file

    def readable(self, name: str) -> bool:
        may = self.machine.readable(name)
        if not may and self.exists(name):
            self.unreadable.add(name)
        return may

    def glob(self, pattern: str) -> list[str]:
        names = self.machine.glob(pattern)
        for name in names:
            self.files.setdefault(name, None)
        return names

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Ran | None:
        self.runs[tuple(argv)] = ran = self.machine.run(argv, timeout_s=timeout_s)
        return ran

    def ask(self, module: str, question: Any = None, *, deadline_s: float) -> Reply:
        self.asked[module] = reply = self.machine.ask(module, question, deadline_s=deadline_s)
        return reply

    def filesystem(self, path: Path) -> Filesystem | None:
        filesystem = self.machine.filesystem(path)
        self.store[:] = [filesystem]
        return filesystem

    def write(self, folder: Path) -> None:
        """The recording, scrubbed. Raises OSError; ``folder`` may exist, what a recording holds must not."""
        folder.mkdir(parents=True, exist_ok=True)
        scrub = Scrubber.of_this_machine(self.files.get("/proc/self/cgroup") or "")
        (folder / ROOT).mkdir()
        pairs = (pair for text in self.files.values() for pair in PCI_ID.findall(text or ""))
        devices = frozenset(f"{vendor}:{device}".lower() for vendor, device in pairs)
        for name, text in sorted(self.files.items()):
            place = folder / ROOT / scrub.path(name).lstrip("/")
            if text is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(scrub(_recorded_lines(name, text, devices)), encoding="utf-8")
            elif not any(other.startswith(name + "/") for other in self.files):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
        assert isinstance(self.environ, _Consulted)
        environ = {name: self.environ[name] for name in sorted(self.environ.names) if name in self.environ}
        recording = Recording(  # the system and our own words are not scrubbed: a user may be called like one of them
            system=self.system,
            environ={name: "set" if name in PRESENCE else scrub(value) for name, value in environ.items()},
            runs=tuple(
                RecordedCommand(argv, ran and Ran(ran.code, scrub(ran.out), scrub(ran.err)))
                for argv, ran in self.runs.items()
            ),
            asked=tuple(
                RecordedReply(
                    module, _scrubbed(scrub, reply.data), reply.why and scrub(reply.why), reply.illegal_instruction
                )
                for module, reply in self.asked.items()
            ),
            store=next(iter(self.store), None),
            unreadable=tuple(sorted(map(scrub.path, self.unreadable))),
        )
        with (folder / DOCUMENT).open("x", encoding="utf-8") as out:
            out.write(json.dumps(asdict(recording), indent=2, ensure_ascii=False) + "\n")


PRESENCE = frozenset({"KUBERNETES_SERVICE_HOST"})  # only that it is set matters, its value is an address

# in a device's uevent, and in /proc/bus/pci/devices
PCI_ID = re.compile(r"(?m)^(?:PCI_ID=|[0-9a-f]{4}\t)([0-9A-Fa-f]{4}):?([0-9A-Fa-f]{4})\b")
# Of these files only the lines that are looked at are kept: mounts name servers and folders, a status its process, a
# GPU's unique_id is one card's alone, a firm's own release has the firm's addresses.
LINES = {
    r"/proc/self/mountinfo": r" - cgroup",
    r"/proc/self/status": r"Cpus_allowed_list:",
    r"/proc/bus/pci/devices": r"^[0-9a-f]{4}\t(1002|10de|8086)",
    r"/(etc|usr/lib)/os-release": r"^(PRETTY_NAME|ID|ID_LIKE)=",
    r"/sys/class/kfd/kfd/topology/nodes/\d+/properties": r"^(?!unique_id)",
}


def _recorded_lines(name: str, text: str, devices: frozenset[str]) -> str:
    """What of a file goes into the recording; of the tables of PCI devices the lines of ``devices``."""
    table = pci_ids.excerpt(name, text, devices)
    if table is not None:
        return table
    mark = next((mark for pattern, mark in LINES.items() if re.fullmatch(pattern, name)), None)
    if mark is None:
        return text
    return "".join(line for line in text.splitlines(keepends=True) if re.search(mark, line))


def _scrubbed(scrub: Scrubber, value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Mapping):
        return {key: _scrubbed(scrub, item) for key, item in value.items()}
    return [_scrubbed(scrub, item) for item in value] if isinstance(value, list | tuple) else value
