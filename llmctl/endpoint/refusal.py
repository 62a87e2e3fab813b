"""What a server says when it refuses: its words, made fit to be shown, and the class of error."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from msgspec import Struct

from llmctl import net, units
from llmctl.errors import (
    AccessError,
    ContextError,
    EngineError,
    LlmctlError,
    NetworkError,
    NotFoundError,
    UsageError,
)
from llmctl.printable import printable
from llmctl.types.endpoint import Address

PAGE_LIMIT_BYTES = 64 << 10
WORDS_LIMIT = 200
NESTED = 5  # levels of a JSON document that are looked into for words
LISTED = 3  # of a list of errors
LONGEST_ANNOUNCED_S = 86_400
TOO_LONG = re.compile(  # llama-server, vLLM, LM Studio, OpenAI, Anthropic, TGI, SGLang
    r"context[ _]?(length|size|window|limit)|maximum (context|prompt)|(prompt|input|request) (is )?too (long|large)"
    r"|too many (input )?tokens|max_model_len|max_seq_len|longer than the (model|maximum)|context shift is disabled"
    r"|tokens \+ `max_new_tokens`|must have less than \d+ tokens"
    r"|exceeds the (maximum|max|available|model)[\w ]* (tokens|length|context)",
    re.IGNORECASE,
)
NO_MODEL = re.compile(
    r"model_not_found|invalid_model|no models? (is )?loaded|is not a valid model|invalid model\b"
    r"|\bmodel\b.{0,100}\b(not found|not exist|does not exist|doesn't exist|could not be found)",
    re.IGNORECASE,
)
WRONG_KEY = re.compile(r"(incorrect|invalid) api[ _-]?key|api[ _-]?key (is )?(not valid|invalid)|invalid_api_key", re.I)
TITLE = re.compile(r"<title[^>]*>([^<]{1,500})", re.IGNORECASE)
TRANSIENT = (408, 409, 425, 429)  # beside 5xx: too slow, busy with something else, too early, too many
WANTS_A_KEY = "llmctl endpoint add … --force --key-env VARIABLE   names the variable that holds the key"
ITS_MODELS = "llmctl doctor   names the models that the server offers"
ANY_OBJECT = "llmctl run --json-object …   takes any JSON object; what the schema asks beyond that is yours to check"
OPTIONS = "llmctl run --help   says what can be asked for"
OTHER_ADDRESS = "llmctl endpoint add … --force https://HOST/…/chat/completions   takes an address as it is"


class Refusal(Struct, frozen=True):
    """An answer that is none. ``words`` are fit to be shown, ``page`` is what they were taken from, not to be shown;
    ``kind`` is the server's name for the error. ``is_own_engine``: the server is our worker."""

    host: str
    status: int
    words: str
    kind: str
    page: str
    has_key: bool
    is_local: bool
    is_own_engine: bool
    retry_after_s: float | None

    @property
    def is_transient(self) -> bool:
        """Whether another try may be answered."""
        return self.status in TRANSIENT or (self.status >= 500 and not self._is_too_long)

    @property
    def error(self) -> LlmctlError:
        """What it means, by the contract's classes."""
        host, status, says = self.host, self.status, f": {self.words}" if self.words else ""
        if status == 401 and not self.has_key:
            return AccessError(f"{host} wants a key (401){says}", hint=WANTS_A_KEY)
        if status == 403 and not self.has_key:
            return AccessError(f"{host} refused access (403){says}", hint=WANTS_A_KEY)
        if status in (401, 403) or (status == 400 and WRONG_KEY.search(f"{self.kind} {self.words}")):
            hint = "llmctl endpoint list   shows which variable holds it"
            return AccessError(f"{host} refused the key ({status}){says}", hint=hint if self.has_key else WANTS_A_KEY)
        if status == 402:
            return AccessError(f"{host} wants to be paid first (402){says}", hint="see the account at that server")
        if self._is_too_long:
            where = "" if self.is_local else f"{host}: "  # the local engine needs no name
            return ContextError(where + (self.words or "the prompt is longer than the context"))
        if status in (400, 404, 422) and NO_MODEL.search(f"{self.kind} {self.words}"):
            return NotFoundError(f"{host} has no such model ({status}){says}", hint=ITS_MODELS)
        if status in (404, 405, 410):
            return NotFoundError(f"{host} has no such model or address ({status}){says}", hint=OTHER_ADDRESS)
        if 300 <= status < 400:
            return NotFoundError(
                f"{host} redirects ({status}), and a prompt goes only where you said", hint="llmctl endpoint list"
            )
        if self.is_transient:
            error = NetworkError(f"{host} answered {status}{says}", hint=self._when)
            error.retry_after_s = self.retry_after_s
            return error
        if self.is_own_engine and self.kind.startswith("invalid_request"):
            return UsageError(self.words, hint=ANY_OBJECT if "json_schema" in self.words else OPTIONS)
        return EngineError(f"{host} refused the request ({status}){says}")

    @property
    def _is_too_long(self) -> bool:
        return self.status == 413 or (
            self.status in (400, 422, 500) and bool("context" in self.kind or TOO_LONG.search(self.words))
        )

    @property
    def _when(self) -> str:
        wait_s = self.retry_after_s
        return (
            "try again later"
            if wait_s is None or wait_s > LONGEST_ANNOUNCED_S
            else f"try again in {units.seconds(wait_s)}"
        )


def refusal_of(response: net.Response, address: Address, *, page_s: float, own_engine: bool = False) -> Refusal:
    """Reads the beginning of the error's page, for ``page_s`` at most. Raises nothing."""
    raw = net.first_bytes(response, limit_bytes=PAGE_LIMIT_BYTES, within_s=page_s)
    page = raw.decode("utf-8", "replace")
    said = _json(page)
    words = (_page_words(page) if said is None else words_of(said)) if page.strip() else ""
    return Refusal(
        host=net.host_of(address.url),
        status=response.status_code,
        words=shown(words, address),
        kind=_kind(said),
        page=page,
        has_key=address.token is not None,
        is_local=net.is_loopback(address.url),
        is_own_engine=own_engine,
        retry_after_s=net.retry_after_s(response.headers),
    )


def _json(page: str) -> object:
    try:
        said: object = json.loads(page)
    except (ValueError, RecursionError):
        return None
    return said


def _page_words(page: str) -> str:
    """The title of a page, or a text without tags."""
    if title := TITLE.search(page):
        return title[1]
    text = page.strip("\ufeff \r\n\t")
    return "" if text.startswith(("<", "{", "[")) or text == "null" else page


def words_of(said: object, nested: int = NESTED) -> str:
    """The words in an error of any server's form: a text, an object with a message, a list of such."""
    if isinstance(said, str):
        return said
    if not nested:
        return ""
    if isinstance(said, list):
        return "; ".join(filter(None, (words_of(item, nested - 1) for item in said[:LISTED])))
    if not isinstance(said, dict):
        return ""
    inner = said.get("error")
    for value in (None if isinstance(inner, str) else inner, *map(said.get, ("message", "detail", "error", "errors"))):
        if words := words_of(value, nested - 1):
            return words
    if isinstance(place := said.get("loc"), list) and isinstance(said.get("msg"), str):  # pydantic's
        return f"{'.'.join(map(str, place[:8]))}: {said['msg']}"
    return next((words for name in ("msg", "error_description", "title") if (words := words_of(said.get(name), 1))), "")


def _kind(said: object) -> str:
    """What the server calls the error: its code and its type."""
    if not isinstance(said, dict):
        return ""
    inner = said["error"] if isinstance(said.get("error"), dict) else said
    return f"{inner.get('code')} {inner.get('type')}"[:WORDS_LIMIT]


def shown(text: str, address: Address) -> str:
    """``text`` in one short line that can't drive a terminal and doesn't repeat the key."""
    line = printable(without_key(text, address.token), PAGE_LIMIT_BYTES)
    return printable(without_key(line, address.token), WORDS_LIMIT)  # it may have been broken by what isn't printable


def without_key(text: str, key: str | None) -> str:
    """``text`` without the key, as it is, percent-encoded or in base64, also where it is cut at the end."""
    text = text[:PAGE_LIMIT_BYTES]
    if not key:
        return text
    for form in (key, quote(key, safe=""), base64.b64encode(key.encode()).decode().rstrip("=")):
        text = text.replace(form, "…")
        cut = next((n for n in range(len(form) - 1, 3, -1) if text.endswith(form[:n])), 0)
        text = f"{text[:-cut]}…" if cut else text
    return text


@contextmanager
def keyless(address: Address) -> Iterator[None]:
    """Errors raised in here don't hold the key, whatever a server has made of its status line or its certificate."""
    try:
        yield
    except LlmctlError as error:
        message = without_key(error.message, address.token)
        if message == error.message:
            raise
        error.message, error.args = message, (message,)
        error.__cause__ = error.__context__ = None  # what it came from repeats it
        raise
