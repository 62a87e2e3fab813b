"""The key of an endpoint, from where its reference says. A key is never in an error, nor in anything that is kept."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
from pathlib import Path
from typing import assert_never

from llmctl.errors import AccessError
from llmctl.printable import printable
from llmctl.shell import command
from llmctl.types.endpoint import ClientCertificate, KeyCommand, KeyFile, KeyReference, KeyringEntry, KeyVariable

LIMIT_BYTES = 64 << 10  # of a key, with what may stand around it
COMMAND_S = 60.0  # a password manager may ask its user for a finger
OTHERS = stat.S_IRWXG | stat.S_IRWXO
EXTRA = 'pip install "llmctl[keyring]"'


def key_of(reference: KeyReference, owner: str) -> str:
    """The key of the endpoint ``owner``. Raises AccessError where there is none, or what can't be one."""
    key = _text(reference, owner).strip()
    if not key:
        lacking = "is not set" if isinstance(reference, KeyVariable) else "is empty"
        raise AccessError(
            f"the key of {owner} should be in {place(reference)}, which {lacking}", hint=mend(reference, owner)
        )
    if not (key.isascii() and key.isprintable()) or " " in key:  # it would break the header, or leak by it
        raise AccessError(
            f"{place(reference)} does not hold a key for {owner}: there are blanks, line ends or letters beyond ASCII "
            "in it",
            hint=mend(reference, owner),
        )
    return key


def require_client(client: ClientCertificate, owner: str) -> None:
    """Raises AccessError where the certificate's private key can't be read by its owner alone, or is encrypted: nobody
    could be asked for its password while a prompt waits."""
    text = _private_text(Path(client.key_file).expanduser(), "the key of the client certificate", owner)
    if "ENCRYPTED" in text:
        plain = command("openssl", "pkey", "-in", client.key_file, "-out", "PLAIN.pem")
        raise AccessError(f"{client.key_file}, the key of {owner}'s client certificate, is encrypted", hint=plain)
    if not Path(client.cert_file).expanduser().is_file():
        raise AccessError(f"the client certificate for {owner} should be in {client.cert_file}, which is no file")


def is_there(reference: KeyReference) -> bool:
    """Whether there is such a variable, file, entry or program. Raises AccessError for a keyring that can't be read."""
    match reference:
        case KeyVariable(name):
            return name in os.environ
        case KeyFile(path):
            return Path(path).expanduser().is_file()
        case KeyringEntry(service, user):
            return bool(_of_keyring(service, user, "the endpoint"))
        case KeyCommand(line):
            return _program(line) is not None
        case _:
            assert_never(reference)


def place(reference: KeyReference) -> str:
    """Where the key is, in words."""
    match reference:
        case KeyVariable(name):
            return name
        case KeyFile(path):
            return f"the file {path}"
        case KeyringEntry(service, user):
            return f"the keyring's entry {service}/{user}"
        case KeyCommand(line):
            return f"the output of {line.split()[0] if line.strip() else 'nothing'}"
        case _:
            assert_never(reference)


def mend(reference: KeyReference, owner: str) -> str:
    """What to type where the key of ``owner`` isn't there. A command may hold a secret, so it is not repeated."""
    match reference:
        case KeyVariable(name):
            return f"export {name}=…"
        case KeyFile(path):
            return f"(umask 077; cat > {shlex.quote(path)})   and paste the key"
        case KeyringEntry(service, user):
            return command("keyring", "set", service, user)
        case KeyCommand():
            return f"{_see(owner)}, whose first line must be the key"
        case _:
            assert_never(reference)


def _text(reference: KeyReference, owner: str) -> str:
    match reference:
        case KeyVariable(name):
            return os.environ.get(name, "")
        case KeyFile(path):
            return _private_text(Path(path).expanduser(), "the key", owner, hint=mend(reference, owner))
        case KeyringEntry(service, user):
            return _of_keyring(service, user, owner)
        case KeyCommand(line):
            return _of_command(line, owner)
        case _:
            assert_never(reference)


def _private_text(file: Path, what: str, owner: str, *, hint: str | None = None) -> str:
    """The text of a file that only its owner can read, and that holds ``what`` of the endpoint ``owner``. Raises
    AccessError."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AccessError(f"{what} of {owner} should be in {file}, which is no file", hint=hint)
        if os.name == "posix" and status.st_mode & OTHERS:
            raise AccessError(
                f"{file} with {what} of {owner} is open to others (mode {stat.S_IMODE(status.st_mode):04o})",
                hint=command("chmod", "600", file),
            )
        with file.open("rb") as stream:
            return stream.read(LIMIT_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise AccessError(f"{file} with {what} of {owner} can't be read: {error.strerror}", hint=hint) from error


def _of_keyring(service: str, user: str, owner: str) -> str:
    try:
        import keyring
    except ImportError as error:
        raise AccessError(
            f"the key of {owner} is in the keyring, and the package that reads it is not installed", hint=EXTRA
        ) from error
    try:
        return keyring.get_password(service, user) or ""
    except Exception as error:  # what a keyring of the system makes of its library: anything
        raise AccessError(
            f"the keyring with the key of {owner} can't be read: {printable(str(error))}", hint="keyring diagnose"
        ) from error


def _of_command(line: str, owner: str) -> str:
    """The first line that the command writes: a password manager's entry may have more. What it writes on stderr goes
    to the user's, and its stdin is empty, so that it takes nothing of a prompt."""
    failed = f"the command for the key of {owner}"
    try:
        done = subprocess.run(
            shlex.split(line), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=COMMAND_S, check=False
        )
    except (OSError, ValueError, IndexError) as error:  # not there; quotes that don't close; NUL; nothing at all
        raise AccessError(f"{failed} can't be started: {_reason(error)}", hint=_see(owner)) from None
    except subprocess.TimeoutExpired:  # which holds what was written so far
        raise AccessError(f"{failed} did not end within {COMMAND_S:.0f} s", hint=_see(owner)) from None
    if done.returncode != 0:
        raise AccessError(f"{failed} failed (exit code {done.returncode})", hint=_see(owner))
    return done.stdout[:LIMIT_BYTES].decode("utf-8", "replace").lstrip().partition("\n")[0]


def _see(owner: str) -> str:
    return command("llmctl", "endpoint", "show", "--json", names=[owner]) + "   shows the command"


def _program(line: str) -> str | None:
    """The path of the program that the command starts, None if there is none."""
    try:
        return shutil.which(shlex.split(line)[0])
    except (ValueError, IndexError):  # quotes that don't close; nothing at all
        return None


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or printable(str(error))
