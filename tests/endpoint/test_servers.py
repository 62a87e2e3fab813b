"""Private servers as they are: streams that were seen, served as they stand, and how each is understood."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from pathlib import Path

import pytest

from llmctl.endpoint.address import normal_url
from llmctl.endpoint.client import chat, request_body
from llmctl.errors import EngineError, NetworkError
from llmctl.types.endpoint import Address
from llmctl.types.event import Text
from llmctl.types.request import Request, Sampling
from tests.fakes.chat_server import DONE, ChatServer, Handler, Reply, data, event, status, stream
from tests.fakes.hostile import STREAM, raw
from tests.fakes.listening import SOON, Heard, failure, heard, listen

STREAMS = Path(__file__).parent.parent / "fixtures" / "remote"
CHUNK = {"choices": [{"index": 0, "delta": {"content": "Hello."}, "finish_reason": "stop"}]}


def served(name: str, code: int = 200) -> Reply:
    kind = "application/json" if name.endswith(".json") else "text/event-stream"
    return answered((STREAMS / name).read_bytes(), code, Content_Type=kind)


def answered(body: bytes, code: int = 200, **headers: str) -> Reply:
    """A body with its length, as a server sends it that knows it beforehand."""

    def reply(handler: Handler) -> None:
        handler.head(code, Content_Length=str(len(body)), **headers)
        handler.wfile.write(body)

    return reply


def listened(reply: Reply) -> Heard:
    with ChatServer(reply) as server:
        return listen(server.address(), timing=SOON)


@pytest.mark.parametrize(
    ("name", "text", "reasoning", "finish"),
    [
        ("byte-order-mark.sse", "Hello.", "", "stop"),
        ("content-as-list-of-parts.sse", "The answer.", "secret", "stop"),
        ("cut-by-content-filter.sse", "Hel", "", "content_filter"),
        ("empty-data-line.sse", "Hello.", "", "stop"),
        ("finished-without-end-mark.sse", "Hello.", "", "stop"),
        ("last-event-without-line-end.sse", "Hello there.", "", "stop"),
        ("message-instead-of-delta.sse", "Hello.", "", "stop"),
        ("refusal-instead-of-content.sse", "No.", "", "refusal"),
        ("whole-answer-as-json.json", "Hello.", "", "stop"),
    ],
)
def test_streams_that_were_seen(name: str, text: str, reasoning: str, finish: str) -> None:
    made = listened(served(name))
    assert (made.text, made.reasoning, made.finished.finish_reason) == (text, reasoning, finish)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("choice-ends-with-finish-reason-error.sse", "failed in the middle: upstream gone"),
        ("error-event-without-error-key.sse", "answered with an error: the context length is 4096 tokens"),
        ("error-as-json-with-status-200.json", "answered with an error: this path is not served (POST /v1/x)"),
    ],
)
def test_errors_with_status_200(name: str, says: str) -> None:
    with ChatServer(served(name)) as server:
        assert failure(server, EngineError).message == f"{server.host} {says}"


@pytest.mark.parametrize(
    ("segment", "says"),
    [
        (data({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}), "Overloaded"),
        (data({"detail": [{"loc": ["body", "model"], "msg": "field required"}]}), "body.model: field required"),
        (data({"choices": [{"delta": {}, "finish_reason": "error"}]}), "without a word of why"),
        (data({"choices": [{"delta": {}, "error": "gone"}]}), "gone"),
        (b"event: error\ndata: it broke\n\n", "it broke"),
        (b'event: error\ndata: {"message": "it broke"}\n\n', "it broke"),
        (data({"error": {"code": 500}}), "without a word of why"),
    ],
)
def test_other_errors_with_status_200(segment: bytes, says: str) -> None:
    with ChatServer(stream(segment, DONE)) as server:
        assert failure(server, EngineError).message == f"{server.host} answered with an error: {says}"


@pytest.mark.parametrize(
    ("delta", "text", "reasoning"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab", ""),
        ({"content": [{"type": "output_text", "text": "a"}]}, "a", ""),
        ({"content": [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "a"}]}, "a", "t"),
        ({"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}]}]}, "", "t"),
        ({"content": ["a", "b"]}, "ab", ""),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "No.", ""),
        ({"content": "a", "reasoning": {"text": "t"}}, "a", "t"),
        ({"content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "t"}]}, "a", "t"),
        ({"content": "a", "reasoning": "t", "reasoning_details": [{"text": "t"}]}, "a", "t"),
        ({"content": "a", "thinking": "t"}, "a", "t"),
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "", ""),
    ],
)
def test_forms_of_content(delta: dict[str, object], text: str, reasoning: str) -> None:
    made = heard(data({"choices": [{"delta": delta}]}), DONE)
    assert (made.text, made.reasoning) == (text, reasoning)


def test_a_message_after_deltas_repeats_them() -> None:
    made = heard(event("Hi"), data({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}), DONE)
    assert made.text == "Hi"


PRETTY = json.dumps(CHUNK, indent=1).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"\r".join(b"data: " + line for line in PRETTY.split(b"\n")) + b"\r\r",
        b"\r\n".join(b"data:" + line for line in PRETTY.split(b"\n")) + b"\r\n\r\ndata: [DONE]\r\n\r\n",
        b":\n: hello\nid: 7\nretry: 10\nevent: message\n" + data(CHUNK) + b"data: [DONE]",
        data(CHUNK) + b"data: [DONE]\n",
        data(CHUNK).strip() + b"\ndata: [DONE]",
        data(CHUNK).strip() + b"  \t",
        b"data:\n\ndata\n\ndata: \n\n" + data(CHUNK),
        b"\xef\xbb\xbf\n\n" + data(CHUNK),
    ],
    ids=["CR", "many lines", "fields", "end mark last", "no blank lines", "blanks at the end", "empty", "mark"],
)  # fmt: skip
def test_events_as_specified_and_as_sent(body: bytes) -> None:
    made = listened(answered(body, Content_Type="text/event-stream"))
    assert (made.text, made.finished.finish_reason) == ("Hello.", "stop")


def deflated(body: bytes) -> bytes:
    compress = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compress.compress(body) + compress.flush()


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:20]) + gzip.compress(body[20:])),
        ("deflate", zlib.compress),
        ("deflate", deflated),
        ("identity", bytes),
    ],
    ids=["gzip", "x-gzip", "members", "deflate", "bare deflate", "identity"],
)
@pytest.mark.parametrize("name", ["content-as-list-of-parts.sse", "whole-answer-as-json.json"])
def test_encodings_that_nobody_asked_for(encoding: str, encoded: object, name: str) -> None:
    plain = (STREAMS / name).read_bytes()
    assert callable(encoded)
    kind = "text/event-stream" if name.endswith("sse") else "application/json"
    reply = answered(encoded(plain), Content_Encoding=encoding, Content_Type=kind)
    assert listened(reply) == listened(served(name))


def test_an_encoded_stream_is_not_held_back() -> None:
    compress = zlib.compressobj(wbits=31)
    first = compress.compress(event("Hello")) + compress.flush(zlib.Z_SYNC_FLUSH)
    with ChatServer(raw(STREAM, b"Content-Encoding: gzip\r\n\r\n", first)) as server:
        answer = chat(server.address(), b"{}", timing=SOON)
        assert next(answer) == Text("Hello")
        answer.close()


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(CHUNK).encode() + b"\n" + json.dumps(CHUNK).encode() + b"\n",
        b"\xef\xbb\xbf\n " + json.dumps([CHUNK, CHUNK]).encode(),
    ],
    ids=["lines", "a list"],
)
def test_json_in_lines(body: bytes) -> None:
    assert listened(answered(body, Content_Type="application/x-ndjson")).text == "Hello.Hello."


# The end


@pytest.mark.parametrize("again", [b"", b": heartbeat\n\n", b"data: {}\n\n"], ids=["silence", "comments", "events"])
def test_an_answer_ends_a_moment_after_its_finish_reason(again: bytes) -> None:
    usage = data({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    begun_s = time.monotonic()
    with ChatServer(raw(STREAM, b"\r\n", event("Hi", finish="stop"), usage, again=again, pause_s=0.05)) as server:
        made = listen(server.address(), timing=SOON)
        took_s = time.monotonic() - begun_s
    assert made.text == "Hi"
    assert made.finished.usage.completion_tokens == 4
    assert SOON.after_finish_s * 0.9 < took_s < 2


# What strict servers don't take


def refusing(field: str, code: int, body: object) -> Reply:
    def reply(handler: Handler) -> None:
        assert hasattr(handler.server, "received")
        if field in json.loads(handler.server.received[-1].body):
            status(code, body)(handler)
        else:
            stream(event("Hi", finish="stop"), DONE)(handler)

    return reply


@pytest.mark.parametrize(
    ("field", "code", "body"),
    [
        ("stream_options", 422, {"error": {"message": "Extra inputs are not permitted: stream_options"}}),
        ("stream_options", 400, {"detail": [{"loc": ["body", "stream_options"], "msg": "extra fields not permitted"}]}),
        ("stream_options", 400, {"message": "Unknown field in request"}),
        ("stream_options", 400, b"stream_options is not supported"),
        ("chat_template_kwargs", 400, {"error": {"message": "Unrecognized request argument: chat_template_kwargs"}}),
    ],
)
def test_a_field_that_a_server_refuses_is_left_out(field: str, code: int, body: object) -> None:
    sampling = Sampling(max_tokens=5, extra={"chat_template_kwargs": {"enable_thinking": False}})
    with ChatServer(refusing(field, code, body)) as server:
        asked = request_body(server.address(), Request.of("Hi", sampling))
        sent: list[int] = []
        assert listen(server.address(), asked, timing=SOON, on_sent=sent.append).text == "Hi"
    first, last = (json.loads(request.body) for request in (server.requests[0], server.requests[-1]))
    assert set(first) - set(last) >= {field}
    assert last["messages"] == first["messages"] and last["max_tokens"] == 5
    assert sum(sent) == sum(len(request.body) for request in server.requests)
    assert len(server.requests) <= 3


def test_the_newer_name_of_max_tokens() -> None:
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    with ChatServer(refusing("max_tokens", 400, {"error": {"message": words}})) as server:
        body = request_body(server.address(), Request.of("Hi", Sampling(max_tokens=5)))
        assert listen(server.address(), body, timing=SOON).text == "Hi"
    assert json.loads(server.requests[1].body)["max_completion_tokens"] == 5


def test_a_field_that_the_user_has_asked_for_is_not_left_out() -> None:
    with ChatServer(refusing("seed", 400, {"error": {"message": "unknown field: seed"}})) as server:
        body = request_body(server.address(), Request.of("Hi", Sampling(seed=1)))
        with pytest.raises(EngineError, match="unknown field: seed"):
            listen(server.address(), body, timing=SOON)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("", ["/v1/chat/completions"]),
        ("/api/paas/v4", ["/api/paas/v4/chat/completions"]),
        ("/api/v3/", ["/api/v3/chat/completions"]),
        ("/v1beta/openai", ["/v1beta/openai/chat/completions"]),
        ("/openai/v1", ["/openai/v1/chat/completions"]),
        ("/inference/chat/completions", ["/inference/chat/completions"]),
    ],
)
def test_where_a_prompt_is_posted(path: str, asked: list[str]) -> None:
    with ChatServer(stream(event("Hi", finish="stop"), DONE)) as server:
        listen(Address(normal_url(f"http://{server.host}{path}"), "m"))
    assert [request.path for request in server.requests] == asked


@pytest.mark.parametrize("code", [404, 405])
def test_a_root_without_a_version(code: int) -> None:
    def reply(handler: Handler) -> None:
        (status(code, b"<title>Not Found</title>") if "v1" in handler.path else stream(event("Hi"), DONE))(handler)

    with ChatServer(reply) as server:
        assert listen(server.address()).text == "Hi"
    assert [request.path for request in server.requests] == ["/v1/chat/completions", "/chat/completions"]


ONE = {"choices": [{"delta": {"content": "Hi"}}]}
END = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
ANOTHER = {"choices": [{"index": 1, "delta": {"content": "No"}, "finish_reason": "length"}]}


def told(message: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "message": message}]}


def parts(*content: dict[str, object]) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": list(content)}}]}


@pytest.mark.parametrize(
    ("segments", "text", "reasoning"),
    [
        ([data(ANOTHER), data(ONE), data(END), data(ANOTHER), DONE], "Hi", ""),
        ([data({"choices": [{"text": "H"}]}), data({"choices": [{"text": "i", "finish_reason": "stop"}]})], "Hi", ""),
        ([data({"choices": [{"text": "Hi", "delta": {"content": "Hi"}}]}), data(END)], "Hi", ""),
        ([data(told({"content": bit})) for bit in ("<think>h", "m</think>H", "i")] + [DONE], "Hi", "hm"),
        ([data(ONE), data({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]})], "Hi", ""),
        ([b"event: ping\ndata: ping\n\n", data(ONE), b"data: keep-alive\n\n", data(END), DONE], "Hi", ""),
        ([data({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}), data(ONE), data(END)], "Hi", ""),
        ([data({"choices": None, "usage": None}), data(ONE), data(END)], "Hi", ""),
        ([data(parts({"type": "thought", "text": "hm"}, {"type": "text", "text": "Hi"})), DONE], "Hi", "hm"),
        ([data(parts({"type": "reasoning_text", "text": "hm"})), data(ONE), DONE], "Hi", "hm"),
        ([data(parts({"text": "hm", "thought": True}, {"text": "Hi", "thought": False})), DONE], "Hi", "hm"),
        ([data(parts({"type": "redacted_thinking", "data": "xx"}, {"type": "text", "text": "Hi"})), DONE], "Hi", ""),
        ([event(reasoning_content="hm"), event(content="<think>hm</think>"), data(ONE), DONE], "Hi", "hmhm"),
        ([event(reasoning_content="hm"), event(content="</think>\n\n"), data(ONE), DONE], "Hi", "hm"),
        ([event(reasoning_content="hm"), event(content="<think> is a mark"), DONE], "<think> is a mark", "hm"),
        ([event(content="\ufeff<think>hm</think>Hi"), DONE], "Hi", "hm"),
    ],
)  # fmt: skip
def test_more_streams_of_servers(segments: list[bytes], text: str, reasoning: str) -> None:
    made = heard(*segments)
    assert (made.text, made.reasoning) == (text, reasoning)


def test_an_error_as_llama_server_sent_it() -> None:
    with ChatServer(stream(data(ONE), b'error: {"code":500,"message":"Compute error."}\n\n')) as server:
        assert failure(server, EngineError).message == f"{server.host} failed in the middle: Compute error."


def test_an_answer_that_was_created() -> None:
    assert listened(answered(json.dumps({"choices": [{"message": {"content": "Hi"}}]}).encode(), 201)).text == "Hi"


@pytest.mark.parametrize("code", [202, 204])
def test_a_success_without_an_answer(code: int) -> None:
    with ChatServer(answered(b"", code)) as server:
        assert "no answer that can be read" in failure(server, NetworkError).message
