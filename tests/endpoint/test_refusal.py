"""What a server refuses, in which words and as which error."""

from __future__ import annotations

from base64 import b64encode

import pytest

from llmctl.endpoint.client import TRIES
from llmctl.errors import AccessError, ContextError, EngineError, LlmctlError, NetworkError, NotFoundError
from llmctl.types.endpoint import Address
from tests.fakes.chat_server import ChatServer, status
from tests.fakes.listening import HELLO, KEY, failure, listen


def words(message: str, code: object = None, **more: object) -> dict[str, object]:
    return {"error": {"message": message, "code": code, **more}}


LLAMA_SERVER = words(
    "the request exceeds the available context size, try increasing it", 400, type="exceed_context_size_error"
)
VLLM = {
    "object": "error",
    "message": "x",
    "error": words("This model's maximum context length is 4096 tokens.", 400)["error"],
}


@pytest.mark.parametrize(
    ("code", "body", "kind", "says"),
    [
        (400, words("the prompt is 9 tokens, local context is 8", "context_length_exceeded"), ContextError, "9 tokens"),
        (400, LLAMA_SERVER, ContextError, "available context size"),
        (400, VLLM, ContextError, "maximum context length"),
        (413, words("", "context_length_exceeded"), ContextError, "longer than the context"),
        (400, words("unknown field: context_manager"), EngineError, "refused the request (400): unknown field"),
        (400, {"detail": "no"}, EngineError, "(400): no"),
        (400, [1, 2], EngineError, "(400)"),
        (400, b"\xff not json", EngineError, "(400)"),
        (401, words(f"wrong key: {KEY}"), AccessError, "refused the key (401): wrong key: …"),
        (401, {"error": f"wrong key: {KEY}"}, AccessError, "refused the key (401): wrong key: …"),
        (401, words("x" * 180 + KEY), AccessError, "xx…"),
        (403, None, AccessError, "refused the key (403)"),
        (404, words("no such model"), NotFoundError, "(404): no such model"),
        (422, {"detail": [{"loc": ["body"], "msg": "bad"}]}, EngineError, "(422)"),
        (400, {"object": "error", "message": "the context length is 4096 tokens", "code": 400}, ContextError, "4096"),
        (400, {"message": "bad thing"}, EngineError, "(400): bad thing"),
        (400, {"error": "Bad Request", "message": "bad thing"}, EngineError, "(400): bad thing"),
        (400, {"errors": [{"title": "bad"}, {"message": "thing"}]}, EngineError, "(400): bad; thing"),
        (400, {"detail": {"message": "bad thing"}}, EngineError, "(400): bad thing"),
        (400, b"<html><title>400 Bad thing</title><p>more", EngineError, "(400): 400 Bad thing"),
        (400, b"<p>no title", EngineError, "refused the request (400)"),
        (400, b"Bad\x1b[2J thing\n", EngineError, "(400): Bad thing"),
        (400, {"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}, ContextError, "too long"),
        (422, {"detail": [{"loc": ["body", "messages", 0], "msg": "bad"}]}, EngineError, "body.messages.0: bad"),
        (402, {"error": "no money"}, AccessError, "wants to be paid first (402): no money"),
        (405, None, NotFoundError, "(405)"),
        (408, {"message": "slow"}, NetworkError, "answered 408: slow"),
        (409, None, NetworkError, "answered 409"),
        (410, None, NotFoundError, "(410)"),
        (413, b"", ContextError, "longer than the context"),
        (425, None, NetworkError, "answered 425"),
        (401, {"error": b64encode(KEY.encode()).decode()}, AccessError, "(401): …"),
        (401, {"error": "\x1b[0m".join(KEY)}, AccessError, "(401): …"),
        (401, {"error": "\u202e" + KEY}, AccessError, "(401): …"),
        (422, words("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"), ContextError, "4096"),
        (422, {"error": "`inputs` must have less than 4095 tokens. Given: 5000"}, ContextError, "4095"),
        (400, words("input length and `max_tokens` exceed context limit: 9 > 8"), ContextError, "9 > 8"),
        (400, words("litellm.ContextWindowExceededError: x"), ContextError, "Window"),
        (400, words("Prompt length 5000 is greater than max_seq_len 4096"), ContextError, "5000"),
        (400, {"code": "x", "error": "This model's maximum prompt length is 8 but it has 9"}, ContextError, "is 8"),
        (500, words("context shift is disabled"), ContextError, "disabled"),
        (500, words("the input length exceeds the context length"), ContextError, "exceeds"),
        (400, words("context must be an object"), EngineError, "an object"),
        (404, words('model "m" not found, try pulling it first'), NotFoundError, 'no such model (404): model "m"'),
        (400, words("m is not a valid model ID", 400), NotFoundError, "has no such model (400)"),
        (400, words("Model Not Exist"), NotFoundError, "has no such model (400)"),
        (400, words("No models loaded. Please load a model"), NotFoundError, "has no such model (400)"),
        (400, {"message": "wrong: m", "type": "invalid_model"}, NotFoundError, "has no such model (400): wrong: m"),
        (400, words("the model takes no field `tools`"), EngineError, "(400)"),
        (400, [{"error": {"message": "API key not valid. Pass a valid one."}}], AccessError, "the key (400)"),
        (400, {"code": "x", "error": "Incorrect API key provided"}, AccessError, "the key (400)"),
        (418, words("\x1b[31mteapot\nin\rtwo lines"), EngineError, "teapot in two lines"),
    ],
)
def test_refusals_are_final(code: int, body: object, kind: type[LlmctlError], says: str) -> None:
    with ChatServer(status(code, body)) as server:
        error = failure(server, kind)
    assert says in error.message
    assert error.message.isprintable()
    assert len(error.message) < 300
    assert kind is ContextError or error.message.startswith(server.host)
    assert len(server.requests) == (TRIES if kind is NetworkError else 2 if code == 405 else 1)


def test_a_context_error_from_afar_names_the_server(afar: None) -> None:
    with ChatServer(status(400, LLAMA_SERVER)) as server, pytest.raises(ContextError) as caught:
        listen(Address(f"http://llm.example.internal:{server.port}/v1", "m"))
    assert caught.value.message.startswith(f"llm.example.internal:{server.port}: ")


def test_words_of_a_server_are_cut_short() -> None:
    with ChatServer(status(400, words("long " * 100_000))) as server:
        assert len(failure(server, EngineError).message) < 300


@pytest.mark.parametrize("location", ["http://127.0.0.1:{port}/v1/chat/completions", "http://[broken", None])
@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(code: int, location: str | None) -> None:
    with ChatServer(HELLO) as other:
        headers = {} if location is None else {"Location": location.format(port=other.port)}
        with ChatServer(status(code, **headers)) as server:
            error = failure(server, NotFoundError)
    assert error.message.startswith(f"{server.host} redirects ({code})")
    assert len(server.requests) == 1
    assert other.connections == 0


@pytest.mark.parametrize("code", [401, 403])
def test_a_server_that_wants_a_key(code: int) -> None:
    with ChatServer(status(code, {"error": "no key"})) as server, pytest.raises(AccessError) as caught:
        listen(server.address())
    assert "--key-env" in (caught.value.hint or "")
    said = "wants a key (401)" if code == 401 else "refused access (403)"
    assert caught.value.message == f"{server.host} {said}: no key"
