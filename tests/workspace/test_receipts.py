"""The record of what left: a line for each prompt however it ends, written by many at once, and what was done to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import stat
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from subprocess import PIPE, Popen, run

import pytest
import trustme

from llmctl.cli import main
from llmctl.endpoint.client import request_body
from llmctl.endpoint.trust import identity
from llmctl.engine.pool import Pool
from llmctl.errors import LlmctlError, PolicyError
from llmctl.files.lock import locked
from llmctl.router import receipts as written
from llmctl.router.answer import events
from llmctl.router.partial_answer import PartialAnswer
from llmctl.types.endpoint import Address, Endpoint, LeaveReason, Remote, Trust
from llmctl.types.listener import SilentListener
from llmctl.types.receipt import Outcome, Receipt, Sent
from llmctl.types.request import Request
from llmctl.workspace import receipts
from tests.fakes.chat_server import DONE, ChatServer, Reply, broken_off, event, silence, status, stream
from tests.fakes.command import document, llmctl, spawn

SECRET = "the secret of the house"
REQUEST = Request.of(SECRET)
BODY_BYTES = len(request_body(Address("http://x/v1", "m"), REQUEST))
HELLO = stream(event("Hello", finish="stop"), DONE)


class Warned(SilentListener):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def ask(endpoint: Endpoint, request: Request = REQUEST, *, most: int | None = None) -> tuple[Receipt, ...]:
    """Asks the server, reads ``most`` events of the answer, and returns all receipts there are then."""
    route, listener = Remote(endpoint, LeaveReason.PREFER_REMOTE, "the policy is prefer-remote"), Warned()
    stream = events(route, request, listener=listener, lease=Pool().lease, so_far=PartialAnswer())
    with closing(stream):
        try:
            for count, _ in enumerate(stream, 1):
                if count == most:
                    break
        except LlmctlError:
            pass
    assert listener.warnings == []
    return receipts.read().receipts


def sent(endpoint: str = "office", outcome: Outcome = Outcome.ANSWERED) -> Sent:
    time, reason = "2026-01-02T03:04:05Z", LeaveReason.PINNED
    return Sent(time, endpoint, "llm.example.internal", "qwen3-32b", 1234, True, False, reason, outcome)


@pytest.fixture
def record() -> Path:
    """Five receipts."""
    for number in range(5):
        written.append(sent(f"server-{number}"))
    return written.file()


# What is written


@pytest.mark.parametrize(
    ("script", "most", "outcome", "times"),
    [
        ((HELLO,), None, Outcome.ANSWERED, 1),
        ((status(503), HELLO), None, Outcome.ANSWERED, 2),
        ((status(401),), None, Outcome.FAILED, 1),
        ((broken_off(event("Hel")),), None, Outcome.PARTIAL, 1),
        ((stream(event("Hel"), event("lo"), DONE),), 1, Outcome.INTERRUPTED, 1),
    ],
    ids=["answered", "a-retry", "refused", "broken-off", "given-up"],
)
def test_however_it_ends(script: tuple[Reply, ...], most: int | None, outcome: Outcome, times: int) -> None:
    with ChatServer(*script) as server:
        (receipt,) = ask(Endpoint("office", server.url, "m"), most=most)
    assert (receipt.endpoint, receipt.host, receipt.model) == ("office", server.host, "m")
    assert (receipt.outcome, receipt.bytes) == (outcome, times * BODY_BYTES)
    assert (receipt.tls, receipt.pin, receipt.left_because) == (False, False, LeaveReason.PREFER_REMOTE)
    assert (receipt.number, receipt.before) == (1, None)
    assert SECRET not in written.file().read_text()
    assert stat.S_IMODE(written.file().stat().st_mode) == 0o600
    assert receipts.verify() == receipts.CheckedRecord(1, None, True, None)


def test_tls_and_a_pin(tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with ChatServer(HELLO, tls=context) as server:
        pin = identity(server.url, Trust()).certificate.pin
        ask(Endpoint("office", server.url, "m", trust=Trust(str(tmp_path / "ca.pem"))))
        ca, pinned = ask(Endpoint("desk", server.url, "m", trust=Trust(pin=pin)))
        other = Trust(pin="sha256:" + "0" * 64)
        assert len(ask(Endpoint("desk", server.url, "m", trust=other))) == 2, "no handshake, nothing sent"
    assert (ca.tls, ca.pin) == (True, False)
    assert (pinned.tls, pinned.pin, pinned.number, pinned.before) == (True, True, 2, ca.sha256)


def test_what_was_not_sent_has_no_receipt() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert ask(Endpoint("office", f"http://127.0.0.1:{bound.getsockname()[1]}", "m")) == ()
    private = Request(REQUEST.messages, private=True)
    with ChatServer(HELLO) as server, pytest.raises(PolicyError):
        route = Remote(Endpoint("office", server.url, "m"), LeaveReason.PINNED, "you asked for it")
        list(events(route, private, listener=Warned(), lease=Pool().lease, so_far=PartialAnswer()))
    assert not written.file().exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_command_that_is_stopped(number: int, code: int) -> None:
    with ChatServer(silence) as server:
        assert main(["endpoint", "add", "near", server.url, "-m", "m"]) == 0
        with spawn("run", "-e", "near", SECRET) as process:
            while not server.requests:
                assert process.poll() is None
                time.sleep(0.01)
            os.kill(process.pid, number)
            process.communicate(timeout=60)
    assert process.wait() == code
    (receipt,) = receipts.read().receipts
    assert (receipt.outcome, receipt.left_because) == (Outcome.INTERRUPTED, LeaveReason.PINNED)


def test_a_record_that_cannot_be_written() -> None:
    written.file().mkdir(parents=True)
    with ChatServer(HELLO) as server:
        assert main(["endpoint", "add", "near", server.url, "-m", "m"]) == 0
        done = llmctl("run", "-e", "near", "--json", SECRET)
    assert done.returncode == 0, done.stderr
    made = document(done)
    assert made["data"]["text"] == "Hello"
    (warning,) = made["warnings"]
    sent = made["data"]["left_machine"]["bytes"]
    assert warning.startswith(f"no receipt of the {sent} bytes that were sent could be written: ")


FILLS = """
import resource, sys
from llmctl.errors import ResourceError
from llmctl.router import receipts
from llmctl.types.endpoint import LeaveReason
from llmctl.types.receipt import Outcome, Sent
most = receipts.file().stat().st_size + 50
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    receipts.append(Sent("2026-01-02T03:04:05Z", "o", "h", "m", 1, True, False, LeaveReason.PINNED, Outcome.ANSWERED))
except ResourceError as error:
    print(error.message)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit as Unix has it")
def test_half_a_line_is_taken_back(record: Path) -> None:
    before = record.read_bytes()
    done = run([sys.executable, "-c", FILLS], capture_output=True, text=True, timeout=100)
    assert f"{record} can't be written: " in done.stdout, done.stderr
    assert record.read_bytes() == before
    written.append(sent())
    assert receipts.verify() == receipts.CheckedRecord(6, None, True, None)


def test_a_lock_that_somebody_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "PATIENCE_S", 0.1)
    with locked(written.file().with_suffix(".lock"), waiting=lambda: None), pytest.raises(LlmctlError, match="locked"):
        written.append(sent())


APPENDS = """
import sys
from llmctl.router.receipts import append
from llmctl.types.endpoint import LeaveReason
from llmctl.types.receipt import Outcome, Sent
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[1])):
    append(Sent("2026-01-02T03:04:05Z", "office", "h", "m", number, True, False, LeaveReason.PINNED, Outcome.ANSWERED))
"""


def test_several_processes_at_once() -> None:
    processes, each = 3, 20
    command = [sys.executable, "-c", APPENDS, str(each)]
    with ExitStack() as stack:
        running = [stack.enter_context(Popen(command, stdin=PIPE, stdout=PIPE, text=True)) for _ in range(processes)]
        assert [process.stdout.readline() for process in running if process.stdout] == ["ready\n"] * processes
        for process in running:
            process.communicate("\n", timeout=100)
        assert [process.returncode for process in running] == [0] * processes
    record = receipts.read().receipts
    assert [receipt.number for receipt in record] == list(range(1, processes * each + 1))
    assert sorted(receipt.bytes for receipt in record) == sorted(processes * list(range(each)))
    assert receipts.verify() == receipts.CheckedRecord(processes * each, None, True, None)


# What was done to it


def resealed(line: bytes) -> bytes:
    """The line by somebody who knows how they are sealed, with another number of bytes."""
    fields = json.loads(line)
    content = {name: value for name, value in fields.items() if name != "sha256"}
    body = json.dumps({**content, "bytes": 1}).encode()
    return body[:-1] + f', "sha256": "{written._sha256(body)}"}}\n'.encode()


Lines = list[bytes]


@pytest.mark.parametrize(
    ("tamper", "broken", "says"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b"1234", b"1233"), *lines[3:]], 3, "was changed after"),
        (lambda lines: [*lines[:2], lines[2].replace(b": ", b":", 1), *lines[3:]], 3, "was changed after"),
        (lambda lines: [*lines[:2], resealed(lines[2]), *lines[3:]], 4, "after another receipt 3 than"),
        (lambda lines: [*lines[:4], resealed(lines[4])], 5, "is another receipt 5 than"),
        (lambda lines: [*lines[:1], *lines[2:]], 2, "receipt 2 is gone from before line 2"),
        (lambda lines: lines[2:], 1, "receipts 1 to 2 are gone from before line 1"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2, "receipt 2 is gone from before line 2"),
        (lambda lines: [*lines[:3], *lines[2:]], 4, "is receipt 3 and comes after receipt 3"),
        (lambda lines: [*lines[:2], b"nonsense\n", *lines[2:]], 3, "holds no receipt"),
        (lambda lines: [*lines[:4], lines[4][:50]], 5, "holds no receipt"),
        (lambda lines: lines[:3], None, "receipts 4 to 5 are gone from the end"),
        (lambda lines: [], None, "receipts 1 to 5 are gone from the end"),
    ],
    ids=[
        "changed", "another-spelling", "resealed", "last-resealed", "one-removed", "first-removed", "reordered",
        "doubled", "put-in", "cut-off", "end-removed", "all-removed",
    ],
)  # fmt: skip
def test_what_was_done_to_it(
    record: Path, tamper: Callable[[Lines], Lines], broken: int | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert receipts.verify() == receipts.CheckedRecord(5, None, True, None)
    lines = tamper(record.read_bytes().splitlines(keepends=True))
    record.write_bytes(b"".join(lines))
    assert main(["receipts", "--verify", "--json"]) == 6
    made = json.loads(capsys.readouterr().out)
    assert made["data"] == {"lines": len(lines), "unbroken": False, "broken_line": broken, "end_checked": True}
    assert made["error"]["code"] == "integrity" and says in made["error"]["message"]
    written.append(sent())
    assert receipts.verify().error is not None, "what is written after it doesn't cover it up"


def test_a_record_that_was_removed_with_its_end_begins_anew(record: Path) -> None:
    record.unlink()
    written.end_file().unlink()
    written.append(sent())
    assert receipts.verify() == receipts.CheckedRecord(1, None, True, None)


def test_without_what_the_state_folder_has(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written.end_file().unlink()
    record.write_bytes(b"".join(record.read_bytes().splitlines(keepends=True)[:3]))
    assert main(["receipts", "--verify"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "3 receipts, unbroken\n"
    assert f"can't be told: {written.end_file()} is gone" in shown.err
    written.append(sent())
    assert receipts.verify() == receipts.CheckedRecord(4, None, True, None)


def test_a_process_that_ended_between_the_two_files(record: Path) -> None:
    """The line was written, the state folder not."""
    before = written.end_file().read_bytes()
    written.append(sent())
    written.end_file().write_bytes(before)
    assert receipts.verify() == receipts.CheckedRecord(6, None, True, None)
    written.append(sent())
    assert receipts.verify() == receipts.CheckedRecord(7, None, True, None)


# What a person sees


def test_the_list(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written.append(sent("desk", Outcome.PARTIAL))
    assert main(["receipts", "--last", "2"]) == 0
    shown = capsys.readouterr()
    assert [" ".join(line.split()) for line in shown.out.splitlines()] == [
        "time (UTC) sent way outcome to: reason",
        "2026-01-02 03:04:05 1,234 B TLS answered server-4 (llm.example.internal, qwen3-32b): pinned",
        "2026-01-02 03:04:05 1,234 B TLS partial desk (llm.example.internal, qwen3-32b): pinned",
    ]
    assert shown.err == "2 of 6 receipts\n"
    with record.open("ab") as file:
        file.write(b"nonsense\n")
    assert main(["receipts"]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 7
    assert f"line 7 of {record} can't be read: llmctl receipts --verify" in shown.err


def test_no_receipt(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["receipts"]) == 0
    assert main(["receipts", "--verify"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "0 receipts, unbroken\n"
    assert shown.err == "No receipt: nothing was sent to a server yet.\n"
    assert main(["receipts", "--verify", "--last", "2"]) == 2
