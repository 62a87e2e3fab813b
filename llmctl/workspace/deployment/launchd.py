"""A launch agent of macOS, for this user."""

from __future__ import annotations

import plistlib
from pathlib import Path

from llmctl import paths
from llmctl.workspace.deployment.comment import comment
from llmctl.workspace.deployment.service import DRAIN_S, FETCHES_NOTHING, LABEL, GatewayService


def agent(service: GatewayService) -> str:
    """launchd limits no memory of a process; the plan leaves what other programs need."""
    log = str(paths.state_dir() / "logs" / f"{LABEL}.log")
    made = plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(service.command),
            "EnvironmentVariables": {"LLMCTL_OFFLINE": "true", "PATH": _path(service)},
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": DRAIN_S,
            "ProcessType": "Interactive",
            "HardResourceLimits": {"Core": 0},
            "StandardOutPath": log,
            "StandardErrorPath": log,
        },
        sort_keys=False,
    ).decode()
    head, _, rest = made.partition("\n")
    usage = f"~/Library/LaunchAgents/{LABEL}.plist, then: launchctl bootstrap gui/$(id -u) FILE"
    said = "\n".join(comment((line.replace("--", "- -") for line in (*service.reasons(), FETCHES_NOTHING, usage)), ""))
    return f"{head}\n<!--\n{said}\n-->\n{rest}"


def _path(service: GatewayService) -> str:
    return f"{Path(service.program[0]).parent}:/usr/bin:/bin"
