"""Takes what could identify a person or a computer out of a recorded machine."""

from __future__ import annotations

import getpass
import os
import platform
import re
from collections.abc import Mapping

# cgroups that every machine has; any other name may be a user's, a pod's or a program's
COMMON_GROUPS = frozenset(
    {
        "user.slice",
        "system.slice",
        "init.scope",
        "machine.slice",
        "docker",
        "kubepods",
        "kubepods.slice",
        "lxc",
        "libpod",
    }
)
# Names that say nothing of anybody, and are words of what is recorded: replaced, they would make another machine of it.
NAMELESS = frozenset(
    {"", "root", "/root", "user", "localhost", "host", "linux", "fedora", "ubuntu", "debian", "arch", "nvidia", "amd"}
    | {"intel", "apple", "docker", "podman", "llmctl", "jetson", "raspberrypi", "cpu", "gpu", "system", "device"}
)
SHORTEST_NAME = 3

SERIAL = re.compile(r"(?im)^.*\bserial(?:[ _-]?(?:number|num|no))?\b.*\n?")
HOME = re.compile(r"(?i)(/home/|/Users/|\\Users\\)[^/\\\n:\"']+")
UUID = re.compile(r"(?i)[0-9a-f]{8}(?:([-_])[0-9a-f]{4}){3}\1[0-9a-f]{12}(?![0-9a-f])")
HARDWARE_ADDRESS = re.compile(r"(?i)(?<![0-9a-f:])[0-9a-f]{2}(?::[0-9a-f]{2}){5}(?![0-9a-f:])")
GPU_ID = re.compile(r"(?i)\bGPU-[0-9a-f]{16}\b")  # ROCm's uuids
LONG_ID = re.compile(r"(?i)(?<![0-9a-f])[0-9a-f]{32,}(?![0-9a-f])")


class Scrubber:
    """Replaces in text what could identify a person or a computer, always in the same way.

    Uuids, hardware addresses and long hexadecimal ids become numbers of their own kind, host and user names "host" and
    "user", cgroups "group1"; lines with a serial number go.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        """``names``: what stands for what, whole words only."""
        self._names = {name.lower(): instead for name, instead in names.items() if name.lower() not in NAMELESS}
        longest_first = sorted(self._names, key=len, reverse=True)
        self._words = re.compile(r"(?i)(?<![\w-])(" + "|".join(map(re.escape, longest_first)) + r")(?![\w-])")
        if not longest_first:
            self._words = re.compile(r"(?!)")
        self._numbers: dict[str, int] = {}

    @classmethod
    def of_this_machine(cls, cgroups: str) -> Scrubber:
        """``cgroups``: the text of /proc/self/cgroup."""
        names: dict[str, str] = {}
        groups = {part for line in cgroups.splitlines() for part in line.split(":", 2)[-1].split("/")}
        unusual = sorted(part for part in groups - COMMON_GROUPS if len(part) >= SHORTEST_NAME)
        names |= {part: f"group{number}" for number, part in enumerate(unusual, 1)}
        node = platform.node()
        names |= dict.fromkeys((node, node.partition(".")[0]), "host")
        try:
            user = getpass.getuser()
        except (OSError, KeyError):
            user = ""
        home = os.path.expanduser("~")  # noqa: PTH111  pathlib raises where there is none
        return cls(names | {user: "user", home: "/home/user"})

    def __call__(self, text: str) -> str:
        return self.path(SERIAL.sub("", text))

    def path(self, text: str) -> str:
        """The same for a file's name, which is no line that could go."""
        text = HOME.sub(r"\1user", text)
        text = self._words.sub(lambda match: self._names.get(match[1].lower(), "name"), text)
        text = UUID.sub(
            lambda match: f"00000000-0000-0000-0000-{self._number(match[0]):012d}".replace("-", match[1]), text
        )
        text = GPU_ID.sub(lambda match: f"GPU-{self._number(match[0]):016d}", text)
        text = HARDWARE_ADDRESS.sub(lambda match: f"02:00:00:00:00:{self._number(match[0]) % 100:02d}", text)
        return LONG_ID.sub(lambda match: f"{self._number(match[0]):0{len(match[0])}d}", text)

    def _number(self, text: str) -> int:
        return self._numbers.setdefault(text.lower(), len(self._numbers) + 1)
