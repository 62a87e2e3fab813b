"""The table of faults through the command line: which side answers, exit code, stderr, receipts, and what was sent;
each where the server is the only one, and where another stands behind it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from llmctl import paths
from llmctl.cli import main
from llmctl.types.receipt import Outcome
from llmctl.workspace import receipts
from tests.fakes.chat_server import DONE, ChatServer, event, stream
from tests.fakes.faults import FAULTS, Certificates, Fault, Office, served

SECRET = "the secret of the house"
LAB_ANSWERS = stream(event("Lab"), event(finish="stop"), DONE)
EACH = pytest.mark.parametrize("fault", [fault for fault in FAULTS if not fault.slow], ids=lambda fault: fault.name)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def lab_server() -> Iterator[ChatServer]:
    with ChatServer(LAB_ANSWERS) as server:
        yield server


@pytest.fixture
def lab(lab_server: ChatServer) -> ChatServer:
    lab_server.requests.clear()
    return lab_server


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits between tries."""
    monkeypatch.setattr("llmctl.endpoint.client.time", SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic))


def run(office: Office, lab: ChatServer | None, *arguments: str) -> int:
    behind = "" if lab is None else f'[endpoints.lab]\nurl = "{lab.url}"\nmodel = "m"\n'
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text(f'policy = "remote-only"\n{office.table}{behind}')
    return main(["run", "--no-stdin", *arguments, SECRET])


def was_sent(office: Office) -> bool:
    return office.server is not None and any(SECRET.encode() in asked.body for asked in office.server.requests)


@EACH
@pytest.mark.usefixtures("at_once")
def test_it_is_the_only_server(
    fault: Fault, certificates: Certificates, lab: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = lab.connections
    with served(fault, certificates, lab.url) as office:
        assert run(office, None) == fault.code
        assert was_sent(office) is fault.sent
    shown = capsys.readouterr()
    assert shown.out.strip() == fault.text
    assert fault.says in shown.err and "Traceback" not in shown.err
    assert shown.err.count("→") == (0 if fault.name in NOT_EVEN_BEGUN else 1)
    outcome = Outcome.ANSWERED if fault.is_answered else Outcome.PARTIAL if fault.is_partial else Outcome.FAILED
    assert [receipt.outcome for receipt in receipts.read().receipts] == ([outcome] if fault.sent else [])
    assert lab.connections == before, "no redirect is followed"


NOT_EVEN_BEGUN = ("http to another machine", "the key is missing", "no context for it")


@EACH
def test_another_stands_behind_it(
    fault: Fault, certificates: Certificates, lab: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(fault, certificates, lab.url) as office:
        code = run(office, lab)
        assert was_sent(office) is fault.sent
    shown, asked = capsys.readouterr(), len(lab.requests)
    kept = [receipt.endpoint for receipt in receipts.read().receipts]
    if fault.is_answered or fault.is_partial:
        assert (code, shown.out.strip(), asked) == (fault.code, fault.text, 0)
        assert kept == ["office"]
    else:
        assert (code, shown.out, asked) == (0, "Lab\n", 1), shown.err
        assert kept == (["office", "lab"] if fault.sent else ["lab"])
        (line,) = [line for line in shown.err.splitlines() if line.startswith("→ lab")]
        assert line.startswith(f"→ lab ({lab.host}, m): office failed: ") and fault.says in line
    assert receipts.verify().error is None


def test_there_are_enough_rows() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
