"""What becomes of a prompt: what a gateway and its engine have given up, and that no word of it lies anywhere."""

from __future__ import annotations

import json
import logging
import platform
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from llmctl.confinement import CALLS, NOT_ASKED, Confinement
from llmctl.engine.llama_cpp.start import start
from llmctl.server.guards import Guard, guarded_gateway
from llmctl.server.host_check import allowed_hosts
from llmctl.workspace import tokens
from tests.fakes import guarded
from tests.fakes.fits import fit_for
from tests.fakes.gateway import Model, Models
from tests.fakes.marked_requests import MARK_END, marked
from tests.fakes.scripted_model import write_scripted

PROMPTS = 100
GATEWAY = Confinement(None, NOT_ASKED, NOT_ASKED)


class Running:
    """``records`` has every line of any logger, with its traceback."""

    def __init__(self, url: str, records: list[str]) -> None:
        self.url, self.records = url, records

    def post(self, path: str, body: Any, **headers: str) -> requests.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return requests.post(self.url + path, data=data, headers=headers, timeout=30)

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=30)


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("urllib3"):  # the test's own client
            self.lines.append(logging.Formatter("%(name)s %(message)s").format(record))


@pytest.fixture
def running(home: Path, tmp_path: Path) -> Iterator[Running]:
    """An engine and a gateway in a home of their own, all of whose loggers tell all that they can."""
    records, root = Records(), logging.getLogger()
    level = root.level
    root.addHandler(records)
    root.setLevel(logging.DEBUG)
    file = write_scripted(tmp_path / "scripted-F32.gguf", ["The", " answer", "-of", "-the", "-search"])
    try:
        with start(fit_for(file, threads=1, name="scripted")) as engine, ExitStack() as stack:
            models = Models(Model(engine.address, "scripted"))
            allowed = allowed_hosts("127.0.0.1")
            guard = Guard(allowed, tokens.KnownTokens().of, False, GATEWAY, hands_over_to=("office",))
            bound = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            with guarded.running(guarded_gateway(models, bound, guard)):
                yield Running(f"http://127.0.0.1:{bound.getsockname()[1]}", records.lines)
    finally:
        root.removeHandler(records)
        root.setLevel(level)


def engines() -> list[psutil.Process]:
    """The engine's process, and the one that renders its template."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "llmctl.engine.llama_cpp.worker" in child.cmdline()]


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() not in CALLS, reason="what Linux offers for it")
def test_what_was_given_up(running: Running) -> None:
    said = running.get("/v1/privacy").json()
    given_up, not_asked = {"off": True, "why_not": None}, {"off": False, "why_not": "not asked for"}
    assert said == {
        "object": "privacy",
        **dict.fromkeys(("prompts_logged", "answers_logged", "prompts_kept", "answers_kept"), False),
        "hands_over_to": ["office"],
        "gateway": {"core_dumps": given_up, "memory_on_disk": not_asked},
        "engines": [
            {"model": "scripted", "core_dumps": given_up, "memory_on_disk": not_asked, "network": given_up},
        ],
    }
    processes = engines()
    assert len(processes) == 2
    for process in processes:
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            assert "\nSeccomp:\t2\n" in (thread / "status").read_text()
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)


def test_no_word_of_a_prompt_is_anywhere(running: Running, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    statuses = set()
    for number in range(PROMPTS):
        path, body, headers = marked(number)
        statuses.add(running.post(path, body, **headers).status_code)
    assert {200, 400, 403, 404, 421} <= statuses and 500 not in statuses
    pages = [running.get(path).text for path in ("/metrics", "/v1/privacy", "/v1/models", "/health")]
    assert 'llmctl_tokens_total{kind="prompt",model="scripted"}' in pages[0]
    assert running.records
    for text in (*pages, *running.records, *capfd.readouterr()):
        assert MARK_END not in text
    files = [file for file in home.rglob("*") if file.is_file()]
    assert [file for file in files if MARK_END.encode() in file.read_bytes()] == []
