"""``llmctl endpoint test``: every finding in its order, of servers that can do all and of such that lack something."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from llmctl.checks.endpoint import examine
from llmctl.cli import main
from llmctl.errors import AccessError, CertificateError, LlmctlError, NetworkError, NotFoundError, UnreachableError
from llmctl.settings import add_endpoint, load
from llmctl.types.endpoint import Endpoint, KeyVariable, Limits, Trust
from llmctl.types.finding import Check
from tests.fakes.chat_server import DONE, ChatServer, Handler, Reply, data, event, stream
from tests.fakes.chat_server import status as answers

KEY = "sk-Secret-of-the-office-0123456789"
USED = data({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 20}})
COUNTED = stream(*(event(f"{number} ") for number in range(1, 11)), event(finish="stop"), USED, DONE)
CALL = {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "add", "arguments": '{"a": 2}'}}]}
CALLED = stream(event(**CALL), event(finish="tool_calls"), DONE)
FORMED = stream(event('{"ok": true}', finish="stop"), DONE)
GONE_ON = stream(event(" 5, 6,", finish="length"), DONE)
REFUSED = answers(400, {"error": {"message": "no such field"}})


def able(
    *,
    models: Reply | None = None,
    counts: Reply = COUNTED,
    calls: Reply = CALLED,
    forms: Reply = FORMED,
    goes_on: Reply = GONE_ON,
) -> Reply:
    """A server that does each thing in one way."""
    listed = models or answers(200, {"data": [{"id": "m"}]})

    def reply(handler: Handler) -> None:
        body = handler.server.received[-1].body  # type: ignore[attr-defined]
        asked = json.loads(body) if body else {}
        assert asked.get("max_tokens", 1) <= 64, "a slow server would be asked for minutes"
        chosen = listed if not body else calls if "tools" in asked else forms if "response_format" in asked else counts
        if body and asked["messages"][-1]["role"] == "assistant":
            chosen = goes_on
        chosen(handler)

    return reply


def examined(endpoint: Endpoint) -> tuple[dict[str, Check], LlmctlError | None]:
    findings: list[Check] = []
    error = examine(endpoint, findings.append)
    assert len({check.id for check in findings}) == len(findings)
    return {check.id: check for check in findings}, error


def statuses(findings: dict[str, Check]) -> dict[str, str]:
    return {id: str(check.status) for id, check in findings.items()}


FINE = dict.fromkeys(("tls", "key", "models", "answer", "stream", "tools", "schema", "continues"), "ok")


def test_a_server_that_can_do_all() -> None:
    with ChatServer(able()) as server:
        findings, error = examined(Endpoint("office", server.url, "m"))
    assert error is None
    assert statuses(findings) == FINE
    assert list(findings) == list(FINE)
    assert findings["answer"].message.startswith("first token ")
    assert " tok/s" in findings["answer"].message


@pytest.mark.parametrize(
    ("reply", "id", "says"),
    [
        (able(counts=stream(event("1 to 10", finish="stop"), DONE)), "stream", "in one piece"),
        (able(calls=COUNTED), "tools", "it called no tool"),
        (able(calls=REFUSED), "tools", "refused the request (400): no such field"),
        (able(forms=COUNTED), "schema", "does not keep to a JSON schema"),
        (able(forms=REFUSED), "schema", "refused the request (400)"),
    ],
)
def test_what_may_be_missing(reply: Reply, id: str, says: str) -> None:
    with ChatServer(reply) as server:
        findings, error = examined(Endpoint("office", server.url, "m"))
    assert error is None
    assert statuses(findings) == {**FINE, id: "warn"}
    assert says in findings[id].message


def private(**different: Any) -> Reply:
    """A server like llmctl's own gateway, but for what is ``different``."""
    off = {"off": True, "why_not": None}
    engine = {"model": "m", "core_dumps": off, "network": off, "memory_on_disk": off, **different.pop("engine", {})}
    promises = dict.fromkeys(("prompts_logged", "answers_logged", "prompts_kept", "answers_kept"), False)
    said = {"object": "privacy", **promises, "hands_over_to": [], "engines": [engine], **different}

    def reply(handler: Handler) -> None:
        (answers(200, said) if handler.path == "/v1/privacy" else able())(handler)

    return reply


@pytest.mark.parametrize(
    ("different", "status_", "says"),
    [
        ({}, "ok", "it says that nothing of prompts and answers is logged or kept, and that its engine has no network"),
        ({"prompts_logged": True, "answers_kept": True}, "warn", "it says that prompts are logged; answers are kept"),
        ({"hands_over_to": ["desk"]}, "warn", "it says that prompts may go on to desk"),
        (
            {"engine": {"network": {"off": False, "why_not": "other \x1b[31mprocessor"}}},
            "warn",
            "it says that the engine of m may make connections (other processor)",
        ),
    ],
)
def test_what_a_server_says_of_privacy(different: dict[str, Any], status_: str, says: str) -> None:
    with ChatServer(private(**different)) as server:
        findings, error = examined(Endpoint("office", server.url, "m"))
    assert error is None
    assert statuses(findings) == {**FINE, "privacy": status_}
    assert findings["privacy"].message == says


@pytest.mark.parametrize(
    ("goes_on", "continues", "status", "says", "remedy"),
    [
        (GONE_ON, False, "ok", "it goes on with an answer", "--continues"),
        (GONE_ON, True, "ok", "it goes on with an answer", None),
        (COUNTED, False, "ok", "it begins anew", None),
        (COUNTED, True, "warn", "it begins anew", "llmctl endpoint add --force --model m office"),
        (REFUSED, True, "warn", "refused the request (400)", None),
    ],
)
def test_whether_it_goes_on(goes_on: Reply, continues: bool, status: str, says: str, remedy: str | None) -> None:
    with ChatServer(able(goes_on=goes_on)) as server:
        findings, error = examined(Endpoint("office", server.url, "m", continues=continues))
    found = findings["continues"]
    assert error is None and found.status == status and says in found.message
    assert (remedy is None) or remedy in (found.remedy or "")
    assert continues or found.remedy is None or add_again(found.remedy).continues


def add_again(remedy: str) -> Endpoint:
    """What the command in a finding adds."""
    assert main(remedy.partition("   ")[0].split()[1:]) == 0
    return load().endpoint("office")


@pytest.mark.parametrize(
    ("limit", "status", "added"), [(None, "ok", 32768), (16384, "ok", None), (65536, "warn", 32768)]
)
def test_the_program_and_its_context(limit: int | None, status: str, added: int | None) -> None:
    listed = {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 32768}]}
    with ChatServer(able(models=answers(200, listed))) as server:
        findings, error = examined(Endpoint("office", server.url, "m", limits=Limits(context=limit)))
        assert error is None
        assert findings["software"].message == "it is vLLM"
        assert findings["context"].status == status and "32,768 tokens" in findings["context"].message
        remedy = findings["context"].remedy
        assert (None if remedy is None else add_again(remedy).limits.context) == added


@pytest.mark.parametrize(
    ("reply", "id", "kind", "says", "hint"),
    [
        (able(models=answers(401)), "models", AccessError, "wants a key (401)", "--key-env"),
        (able(models=answers(404)), "models", NotFoundError, "neither models nor a chat", "/chat/completions"),
        (
            able(models=answers(200, {"data": [{"id": "other"}]})),
            "models",
            NotFoundError,
            "it has no model m (it has: other)",
            "llmctl endpoint add --force --model other office http://127.0.0.1:",
        ),
        (able(counts=answers(503)), "answer", NetworkError, "answered 503", "try again"),
        (able(counts=stream(event(finish="stop"), DONE)), "answer", LlmctlError, "without a word", "llmctl run"),
    ],
)
def test_the_first_thing_that_fails_is_the_last(
    reply: Reply,
    id: str,
    kind: type[LlmctlError],
    says: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with ChatServer(reply) as server:
        findings, error = examined(Endpoint("office", server.url, "m"))
    assert isinstance(error, kind)
    assert list(findings)[-1] == id
    assert (findings[id].status, says in findings[id].message) == ("fail", True)
    assert hint in (findings[id].remedy or "")


def test_a_name_that_nobody_knows() -> None:
    findings, error = examined(Endpoint("office", "https://nonesuch.invalid/v1", "m"))
    assert isinstance(error, UnreachableError)
    assert statuses(findings) == {"name": "fail"}
    assert findings["name"].remedy == "llmctl endpoint show office"


def test_a_key_that_is_not_set() -> None:
    with ChatServer(able()) as server:
        findings, error = examined(Endpoint("office", server.url, "m", KeyVariable("NOT_SET_ANYWHERE")))
    assert isinstance(error, AccessError)
    assert statuses(findings) == {"tls": "ok", "key": "fail"}
    assert server.requests == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[ssl.SSLContext, Path]]:
    made, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    made.cert_pem.write_to_path(str(file))
    return lambda: (context, file)


def test_tls(authority: Callable[[], tuple[ssl.SSLContext, Path]], capsys: pytest.CaptureFixture[str]) -> None:
    """Untrusted, then pinned by the command that the finding gives, then by the CA file."""
    context, ca_file = authority()
    with ChatServer(able(), tls=context) as server:
        findings, error = examined(Endpoint("office", server.url, "m"))
        assert isinstance(error, CertificateError)
        assert statuses(findings) == {"tls": "fail"}
        add = (findings["tls"].remedy or "").partition("   ")[0]
        assert add.startswith("llmctl endpoint add --force --model m --pin sha256:")
        assert main(add.split()[1:]) == 0
        capsys.readouterr()
        assert main(["endpoint", "test", "office"]) == 0
        shown = capsys.readouterr().out
        assert "TLSv1.3, the pinned key, certificate ends in" in shown
        by_file, _ = examined(Endpoint("office", server.url, "m", trust=Trust(str(ca_file))))
    assert "signed by the CA file's authority" in by_file["tls"].message


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_KEY", KEY)
    with ChatServer(able(), able(), able(models=answers(500, {"error": KEY}))) as server:
        add_endpoint(Endpoint("office", server.url, "m", KeyVariable("OFFICE_KEY")))
        assert main(["endpoint", "test", "office", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert [check["id"] for check in document["data"]["checks"]] == list(FINE)
        assert main(["endpoint", "test", "office"]) == 5
    captured = capsys.readouterr()
    assert " fail  " in captured.out
    assert KEY not in captured.out + captured.err + json.dumps(document)
    assert main(["endpoint", "test", "nobody"]) == 4


def test_offline_asks_no_other_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_OFFLINE", "1")
    add_endpoint(Endpoint("office", "https://llm.example.internal/v1", "m"))
    assert main(["endpoint", "test", "office"]) == 5
    assert "stay offline" in capsys.readouterr().err


def test_a_proxy_that_keeps_a_stream_back() -> None:
    """The server has written for two seconds, and all of it comes at once."""
    times = data({"choices": [], "timings": {"predicted_ms": 2000.0, "predicted_n": 10}})
    kept_back = stream(*(event(f"{number} ") for number in range(1, 11)), times, event(finish="stop"), DONE)
    with ChatServer(able(counts=kept_back)) as server:
        checks, error = examined(Endpoint("desk", server.url, "m"))
    assert error is None
    assert (checks["stream"].status, "a proxy on the way keeps it back" in checks["stream"].message) == ("warn", True)
