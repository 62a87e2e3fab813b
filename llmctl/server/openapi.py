"""What the gateway says of itself: an OpenAPI description, of the types that read its requests where there are some."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmctl import __version__
from llmctl.server.wire.anthropic_request import MessagesRequest
from llmctl.server.wire.responses_request import ResponsesRequest

PATH = "/openapi.json"
REFERENCE = "#/components/schemas/{name}"
JSON, EVENTS, PLAIN = "application/json", "text/event-stream", "text/plain"
Schema = Mapping[str, Any]
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
WHOLE: Schema = {"type": "integer"}
OBJECT: Schema = {"type": "object"}
TEXTS: Schema = {"type": "array", "items": TEXT, "minItems": 1}
TOKENS: Schema = {"type": "array", "items": WHOLE}
REFUSED = {
    "400": "A field can't be had, or is wrong: the message names it",
    "401": "No access token, or a wrong one",
    "403": "The token, or the policy, doesn't allow it",
    "404": "No such model",
    "413": "The body is too long",
    "429": "As many requests wait as may: Retry-After says when to ask again",
    "502": "The engine has failed",
    "503": "The model can't be loaded now, or the gateway is being stopped",
}


def _number(least: float, most: float) -> Schema:
    return {"type": "number", "minimum": least, "maximum": most}


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


WRITING: Mapping[str, Schema] = {
    "model": TEXT,
    "stream": FLAG,
    "stream_options": _object(include_usage=FLAG),
    "max_tokens": {"type": "integer", "minimum": 1},
    "n": {"type": "integer", "minimum": 1, "maximum": 16},
    "seed": WHOLE,
    "temperature": _number(0, 100),
    "top_k": {"type": "integer", "minimum": -1},
    "top_p": _number(0, 1),
    "min_p": _number(0, 1),
    "repeat_penalty": _number(0.01, 100),
    "presence_penalty": _number(-100, 100),
    "frequency_penalty": _number(-100, 100),
    "stop": {"oneOf": [{"type": "string", "minLength": 1}, {**TEXTS, "maxItems": 16}]},
    "logit_bias": {"type": "object", "additionalProperties": _number(-100, 100)},
    "grammar": TEXT,
}
MESSAGE = _object(
    "role",
    "content",
    role={"enum": ["system", "developer", "user", "assistant", "tool"]},
    content={"oneOf": [TEXT, {"type": "array", "items": OBJECT}]},
    tool_calls={"type": "array", "items": OBJECT},
    tool_call_id=TEXT,
)
CHAT = _object(
    "messages",
    messages={"type": "array", "items": MESSAGE, "minItems": 1},
    tools={"type": "array", "items": OBJECT},
    tool_choice={"oneOf": [{"enum": ["none", "auto", "required"]}, OBJECT]},
    parallel_tool_calls=FLAG,
    continue_final_message=FLAG,
    add_generation_prompt=FLAG,
    response_format=OBJECT,
    chat_template_kwargs=OBJECT,
    logprobs=FLAG,
    top_logprobs={"type": "integer", "minimum": 0, "maximum": 20},
    **WRITING,
)
COMPLETION = _object("prompt", prompt={"oneOf": [TEXT, TOKENS]}, logprobs=WHOLE, **WRITING)
EMBEDDINGS = _object(
    "input",
    model=TEXT,
    input={"oneOf": [TEXT, TEXTS]},
    encoding_format={"enum": ["float", "base64"]},
    truncate=FLAG,
)
RERANK = _object("query", "documents", model=TEXT, query=TEXT, documents=TEXTS, top_n=WHOLE, return_documents=FLAG)
SEARCH = _object(*("index", "query"), index=TEXT, query=TEXT, limit={"type": "integer", "minimum": 1, "maximum": 100})
TOKENIZE = _object(model=TEXT, content=TEXT, add_special=FLAG, parse_special=FLAG, with_pieces=FLAG)
DETOKENIZE = _object(model=TEXT, tokens=TOKENS)
MESSAGES, RESPONSE = ({"$ref": REFERENCE.format(name=kind.__name__)} for kind in (MessagesRequest, ResponsesRequest))
POSTED: Mapping[str, tuple[str, Schema, bool]] = {
    "/v1/chat/completions": ("Answers a conversation", CHAT, True),
    "/v1/completions": ("Goes on with a text", COMPLETION, True),
    "/v1/responses": ("Answers a conversation, in the shape of OpenAI's Responses", RESPONSE, True),
    "/v1/messages": ("Answers a conversation, in Anthropic's shape", MESSAGES, True),
    "/v1/messages/count_tokens": ("Counts a conversation's tokens, in Anthropic's shape", MESSAGES, False),
    "/v1/embeddings": ("Makes vectors of texts", EMBEDDINGS, False),
    "/v1/rerank": ("Says how well documents answer a query", RERANK, False),
    "/tokenize": ("Splits a text into a model's tokens", TOKENIZE, False),
    "/detokenize": ("Makes a text of tokens", DETOKENIZE, False),
}
"""Path -> what it does, what it takes, whether it can be streamed."""
OWN_TEXTS: Mapping[str, tuple[str, Schema, bool]] = {
    "/v1/chat/completions": (
        "Answers a conversation, with excerpts of an index if files names one",
        {**CHAT, "properties": {**CHAT["properties"], "files": TEXT}},
        True,
    ),
    "/v1/search": ("Finds passages in an index that the gateway's owner has named", SEARCH, False),
}
"""The same, where the owner lets texts be searched."""
READ = {
    "/v1/models": ("Lists the models", JSON),
    "/v1/privacy": ("Says what the gateway has given up so that nothing leaves it", JSON),
    "/health": ("Says whether a request is answered without waiting", JSON),
    "/metrics": ("Counts requests and tokens, as Prometheus reads it", PLAIN),
    PATH: ("This description", JSON),
}


def route() -> Route:
    async def describe(request: Request) -> Response:
        return Response(description(), media_type=JSON)

    return Route(PATH, describe)


@functools.cache
def description(*, searches: bool = False) -> bytes:
    """The document; ``searches``: of a gateway whose owner lets texts be searched."""
    _, schemas = msgspec.json.schema_components((MessagesRequest, ResponsesRequest), ref_template=REFERENCE)
    posted = {
        path: {"post": _operation(summary, (JSON, EVENTS) if streams else (JSON,), taken)}
        for path, (summary, taken, streams) in {**POSTED, **(OWN_TEXTS if searches else {})}.items()
    }
    read = {path: {"get": _operation(summary, (kind,))} for path, (summary, kind) in READ.items()}
    named = {"name": "name", "in": "path", "required": True, "schema": TEXT}
    by_name = {"/v1/models/{name}": {"get": {**_operation("Shows a model", (JSON,)), "parameters": [named]}}}
    about = {"title": "llmctl", "version": __version__, "description": "Private language models of this machine"}
    components = {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": about,
            "paths": {**posted, **read, **by_name},
            "components": components,
            "security": [{}, {"token": []}],
        }
    )


def _operation(summary: str, kinds: Sequence[str], taken: Schema | None = None) -> dict[str, Any]:
    answered = {"200": {"description": "An answer", "content": {kind: {"schema": {}} for kind in kinds}}}
    refused = {status: {"description": why, "content": {JSON: {"schema": OBJECT}}} for status, why in REFUSED.items()}
    operation: dict[str, Any] = {"summary": summary, "responses": {**answered, **refused}}
    if taken is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": taken}}}
    return operation
