"""Findings about the store, what is left in it of broken downloads, and the user's own files."""

from __future__ import annotations

import shlex
from pathlib import Path

from llmctl import units
from llmctl.checks.surroundings import Surroundings
from llmctl.types.finding import Check, Status
from llmctl.types.machine import Machine

LITTLE_DISK_BYTES = 10_000_000_000  # room for one model of 8 to 14 billion parameters at 4 to 5 bits
OTHERS_MAY = 0o077
STALE_S = 7 * 86_400  # nobody who wants a model waits a week to go on with it
ELSEWHERE = "export HF_HUB_CACHE=DIRECTORY"

# What the systems call filesystems behind a network, or behind a virtual machine's door: mapped weights are read over
# it whenever they have left memory, and locks are not always kept.
NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "webdav", "9p", "v9fs", "drvfs", "ceph", "glusterfs", "lustre"}
    | {"beegfs", "afs", "ncpfs", "davfs", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.glusterfs", "fuse.ceph"}
)


def checks(machine: Machine, around: Surroundings) -> tuple[Check, ...]:
    """The store's findings first, then those of the user's files."""
    return (_store(around), *_disk(machine), *_unfinished(around), *_files(around))


def _store(around: Surroundings) -> Check:
    if around.store_writable:
        return Check("store", Status.OK, f"{around.store} can be written")
    message = f"{around.store} can't be written: models that are there run, new ones can't be fetched"
    return Check("store", Status.WARN, message, ELSEWHERE)


def _disk(machine: Machine) -> list[Check]:
    disk = machine.disk
    if disk is None:
        return []
    free = units.size(disk.free_bytes)
    findings = [Check("disk", Status.OK, f"{free} is free for models")]
    if disk.free_bytes < LITTLE_DISK_BYTES:
        findings = [Check("disk", Status.WARN, f"only {free} is free for models", f"{ELSEWHERE} on a larger disk")]
    if disk.filesystem in NETWORK_FILESYSTEMS:
        message = f"models are on a network filesystem ({disk.filesystem}): loading them is slow, locks may not hold"
        return [*findings, Check("filesystem", Status.WARN, message, f"{ELSEWHERE} on a local disk")]
    return [*findings, Check("filesystem", Status.OK, f"models are on a local filesystem ({disk.filesystem})")]


def _unfinished(around: Surroundings) -> list[Check]:
    if not around.unfinished:
        return [Check("downloads", Status.OK, "no download is unfinished")]
    total_bytes = sum(download.bytes for download in around.unfinished)
    oldest = max(around.unfinished, key=lambda download: download.idle_s)
    count = len(around.unfinished)
    holding = units.number_of(count, "unfinished download holds", "unfinished downloads hold")
    message = f"{holding} {units.size(total_bytes)}"
    if oldest.idle_s < STALE_S:
        return [Check("downloads", Status.OK, f"{message}; llmctl pull resumes {'it' if count == 1 else 'them'}")]
    message += f", the oldest untouched for {oldest.idle_s / 86_400:.0f} days: {oldest.name}"
    return [Check("downloads", Status.WARN, message, "llmctl models prune   (llmctl pull MODEL goes on with one)")]


def _files(around: Surroundings) -> list[Check]:
    if around.config_error is None:
        findings = [Check("config", Status.OK, "the settings can be read")]
    else:
        findings = [Check("config", Status.FAIL, around.config_error.message, around.config_error.hint)]
    findings.append(_private("config-permissions", "the settings", around.config_file, around.config_mode))
    if around.token_file is not None and around.token_mode is not None:
        findings.append(_private("token-permissions", "the hub's token", around.token_file, around.token_mode))
    return findings


def _private(id: str, what: str, file: Path, mode: int | None) -> Check:
    if mode is not None and mode & OTHERS_MAY:
        message = f"{what}, {file}, can be read by other users of this machine (mode {mode:04o})"
        return Check(id, Status.WARN, message, f"chmod 600 {shlex.quote(str(file))}")
    return Check(id, Status.OK, f"nobody else can read {what}")
