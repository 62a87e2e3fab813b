"""The gateway's side of TLS: its certificate is read again when its files change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from llmctl.errors import ConfigError, LlmctlError

log = logging.getLogger("llmctl.gateway")

Version = tuple[tuple[int, int, int], ...]


class LiveCertificate:
    """The certificate and key in two PEM files. ``context`` gives each handshake those that are there now; connections
    that are open keep theirs. While the files don't belong together, as between the writing of one and of the other,
    the last that did are used."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises ConfigError."""
        self._files = (certificate, key)
        self._version = _version(self._files)
        self._latest = self.context = _context(*self._files)
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called by each handshake, also of clients that name no host."""
        version = _version(self._files)
        if version != self._version:
            self._version = version
            try:
                self._latest = _reloaded(self._files)
            except LlmctlError as error:
                log.warning("the certificate stays as it was: %s", error.message)
        connection.context = self._latest


def _reloaded(files: tuple[Path, Path]) -> ssl.SSLContext:
    context = _context(*files)
    log.info("the certificate was read again from %s", files[0])
    return context


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise ConfigError(
            f"{certificate} and {key} are no certificate and its key in PEM: {error.reason or 'they can not be read'}"
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the key has a password"
        raise ConfigError(f"{certificate} and {key} can't be read: {reason}") from error
    return context


def _no_password() -> str:
    """Stands for a question at the terminal, which a server may not ask."""
    raise ValueError


def _version(files: tuple[Path, Path]) -> Version:
    return tuple(map(_state, files))


def _state(file: Path) -> tuple[int, int, int]:
    """What changes when the file does: zeros where there is none."""
    try:
        status = file.stat()
    except OSError:
        return (0, 0, 0)
    return status.st_ino, status.st_mtime_ns, status.st_size
