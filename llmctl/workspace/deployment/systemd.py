"""A unit of systemd, for the whole system and with this user's models."""

from __future__ import annotations

from collections.abc import Iterable

from llmctl.workspace.deployment.comment import comment
from llmctl.workspace.deployment.service import DRAIN_S, FETCHES_NOTHING, LABEL, GatewayService


def unit(service: GatewayService) -> str:
    network = ["IPAddressDeny=any", "IPAddressAllow=localhost"] if service.is_loopback else []
    devices = [] if service.uses_gpu else ["PrivateDevices=yes"]
    lines = [
        *comment((*service.reasons(), FETCHES_NOTHING)),
        f"# /etc/systemd/system/{LABEL}.service, then: systemctl daemon-reload; systemctl enable --now {LABEL}",
        "[Unit]",
        "Description=Local language models for other programs (llmctl serve)",
        "After=network-online.target",
        "Wants=network-online.target",
        "StartLimitIntervalSec=300",
        "StartLimitBurst=5",
        "",
        "[Service]",
        f"User={service.user}",
        f"ExecStart={quoted(service.command)}",
        "Environment=LLMCTL_OFFLINE=true",
        "# where other commands of this user look for the gateway",
        f"Environment=XDG_RUNTIME_DIR=/run/{LABEL}",
        f"RuntimeDirectory={LABEL}",
        "RuntimeDirectoryMode=0700",
        "Restart=on-failure",
        "RestartSec=5",
        "KillMode=mixed",
        f"TimeoutStopSec={DRAIN_S}",
        f"MemoryMax={service.memory_mi}M",
        "LimitCORE=0",
        "LimitMEMLOCK=infinity",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        *(f"ReadWritePaths={quoted([f'-{folder}'])}" for folder in service.folders),
        "PrivateTmp=yes",
        *devices,
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "SystemCallArchitectures=native",
        "UMask=0077",
        *network,
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def quoted(words: Iterable[str]) -> str:
    """As ExecStart= has words (systemd.service(5), "COMMAND LINES"): in quotes, its own signs doubled."""
    return " ".join(word if _is_plain(word) else f'"{escaped(word)}"' for word in words)


def escaped(text: str) -> str:
    """``text`` as it stands between quotes."""
    for sign, written in (("\\", "\\\\"), ("%", "%%"), ("\n", "\\n"), ('"', '\\"'), ("$", "$$")):
        text = text.replace(sign, written)
    return text


def _is_plain(word: str) -> bool:
    return bool(word) and all(character.isalnum() or character in "-_./:,=@+" for character in word)
