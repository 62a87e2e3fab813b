"""Binary HTTP: the examples of RFC 9292, section 5, whole and byte by byte, and what is no message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.sealed.binary_http import (
    END,
    MessageDecoder,
    RequestHead,
    ResponseHead,
    content,
    request,
    response_head,
)
from llmctl.sealed.integers import decoded, encoded
from llmctl.sealed.message_error import SealedMessageError

KNOWN_REQUEST = bytes.fromhex(
    "0003474554056874747073000a2f68656c6c6f2e747874406c0a757365722d6167656e74346375726c2f372e31362e33206c"
    "69626375726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f7777772e65"
    "78616d706c652e636f6d0f6163636570742d6c616e677561676506656e2c206d690000"
)
STREAMED_REQUEST = bytes.fromhex(
    "0203474554056874747073000a2f68656c6c6f2e7478740a757365722d6167656e74346375726c2f372e31362e33206c6962"
    "6375726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f7777772e657861"
    "6d706c652e636f6d0f6163636570742d6c616e677561676506656e2c206d6900000000000000000000000000"
)
STREAMED_RESPONSE = bytes.fromhex(
    "0340660772756e6e696e670a22736c65657020313522004067046c696e6b233c2f7374796c652e6373733e3b2072656c3d70"
    "72656c6f61643b2061733d7374796c65046c696e6b243c2f7363726970742e6a733e3b2072656c3d7072656c6f61643b2061"
    "733d7363726970740040c804646174651d4d6f6e2c203237204a756c20323030392031323a32383a353320474d5406736572"
    "766572064170616368650d6c6173742d6d6f6469666965641d5765642c203232204a756c20323030392031393a31353a3536"
    "20474d5404657461671422333461613338372d642d3135363865623030220d6163636570742d72616e676573056279746573"
    "0e636f6e74656e742d6c656e67746802353104766172790f4163636570742d456e636f64696e670c636f6e74656e742d7479"
    "70650a746578742f706c61696e003348656c6c6f20576f726c6421204d7920636f6e74656e7420696e636c75646573206120"
    "747261696c696e672043524c462e0d0a0000"
)
KNOWN_RESPONSE = bytes.fromhex(
    "0140c8001d5468697320636f6e74656e7420636f6e7461696e732043524c462e0d0a0d07747261696c65720474657874"
)
REQUEST_HEAD = RequestHead(
    "GET",
    "https",
    "",
    "/hello.txt",
    (
        ("user-agent", "curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"),
        ("host", "www.example.com"),
        ("accept-language", "en, mi"),
    ),
)
FIELDS = (
    ("date", "Mon, 27 Jul 2009 12:28:53 GMT"),
    ("server", "Apache"),
    ("last-modified", "Wed, 22 Jul 2009 19:15:56 GMT"),
    ("etag", '"34aa387-d-1568eb00"'),
    ("accept-ranges", "bytes"),
    ("content-length", "51"),
    ("vary", "Accept-Encoding"),
    ("content-type", "text/plain"),
)
HELLO = b"Hello World! My content includes a trailing CRLF.\r\n"
EXAMPLES = {
    "request of known length": (KNOWN_REQUEST, REQUEST_HEAD, b"", ()),
    "streamed request, padded": (STREAMED_REQUEST, REQUEST_HEAD, b"", ()),
    "streamed response after informational ones": (STREAMED_RESPONSE, ResponseHead(200, FIELDS), HELLO, ()),
    "response of known length, with a trailer": (
        KNOWN_RESPONSE,
        ResponseHead(200),
        b"This content contains CRLF.\r\n",
        (("trailer", "text"),),
    ),
    "streamed request, cut to its least": (STREAMED_REQUEST[:-12], REQUEST_HEAD, b"", ()),
    "request of known length, cut to its least": (KNOWN_REQUEST[:-2], REQUEST_HEAD, b"", ()),
    "request without fields (draft-ietf-ohai-chunked-ohttp-08)": (
        bytes.fromhex("00034745540568747470730b6578616d706c652e636f6d012f"),
        RequestHead("GET", "https", "example.com", "/"),
        b"",
        (),
    ),
    "response without fields": (bytes.fromhex("0140c8"), ResponseHead(200), b"", ()),
}


def read(message: bytes, step: int) -> MessageDecoder:
    decoder = MessageDecoder()
    for at in range(0, len(message), step):
        decoder.feed(message[at : at + step])
    decoder.end()
    return decoder


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("name", EXAMPLES)
def test_reads_the_examples_of_the_standard(name: str, step: int) -> None:
    message, head, content, trailers = EXAMPLES[name]
    decoder = read(message, step)
    assert (decoder.head, decoder.taken(), decoder.trailers) == (head, content, trailers)


def test_writes_the_request_of_the_standard_but_for_what_may_be_cut_off() -> None:
    assert request(REQUEST_HEAD) == KNOWN_REQUEST[:-1]


@given(
    st.binary(max_size=300), st.lists(st.binary(min_size=1, max_size=80), max_size=5), st.integers(1, 512), st.data()
)
def test_reads_what_it_writes(body: bytes, pieces: list[bytes], multiple: int, data: st.DataObject) -> None:
    head = RequestHead("POST", "https", "h.example", "/v1/x?y=1", (("authorization", "Bearer k"),))
    message = request(head, body, multiple_bytes=multiple)
    decoder = read(message, data.draw(st.integers(1, 400)))
    assert (decoder.head, decoder.taken(), len(message) % multiple) == (head, body, 0)
    answer = ResponseHead(418, (("x", "y"),))
    decoder = read(b"".join((response_head(answer), *map(content, pieces), END)), data.draw(st.integers(1, 90)))
    assert (decoder.head, decoder.taken()) == (answer, b"".join(pieces))


def control(*texts: bytes, framing: int = 0) -> bytes:
    return encoded(framing) + b"".join(encoded(len(text)) + text for text in texts)


GET = control(b"GET", b"https", b"h", b"/")
REFUSED = {
    "nothing": b"",
    "another framing": b"\4" + GET[1:],
    "cut off in the control data": GET[:-1],
    "cut off in a field": GET + b"\4\1a",
    "cut off in the content": GET + b"\0\5abc",
    "cut off between pieces": b"\2" + GET[1:] + b"\0" + content(b"piece"),
    "cut off in the streamed fields": b"\2" + GET[1:] + b"\1a\1b",
    "padding that isn't zero": GET + b"\0\0\0\0\1",
    "a field that is longer than its section": GET + b"\4\1a\5b",
    "a pseudo-field": GET + b"\x09\7:method\0",
    "a field without a name": GET + b"\2\0\0",
    "a name with a space": GET + b"\4\2a \0",
    "a value with a line's end": GET + b"\6\1a\3b\r\n",
    "a value that begins with a space": GET + b"\5\1a\2 b",
    "a section that is too long": GET + encoded(1 << 20),
    "no method": control(b"GET IT", b"https", b"h", b"/"),
    "another scheme": control(b"GET", b"file", b"h", b"/"),
    "no path": control(b"GET", b"https", b"h", b"h"),
    "a path with a line's end": control(b"GET", b"https", b"h", b"/\r\nx: y"),
    "a status that is none": b"\1" + encoded(99),
    "a status beyond all": b"\1" + encoded(600),
    "an informational response and no other": b"\1" + encoded(100) + b"\0",
}


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_is_no_message(name: str, step: int) -> None:
    with pytest.raises(SealedMessageError):
        read(REFUSED[name], step)


@given(st.binary(max_size=400))
def test_anything_is_a_message_or_refused(raw: bytes) -> None:
    decoder = MessageDecoder()
    try:
        decoder.feed(raw)
        decoder.end()
    except SealedMessageError:
        return
    assert decoder.head is not None


@pytest.mark.parametrize(
    ("number", "raw"),
    [(151_288_809_941_952_652, "c2197c5eff14e88c"), (494_878_333, "9d7f3e7d"), (15_293, "7bbd"), (37, "25")],
)
def test_integers_are_those_of_rfc_9000(number: int, raw: str) -> None:
    assert encoded(number).hex() == raw
    assert decoded(bytes.fromhex(raw)) == (number, len(raw) // 2)


def test_an_integer_need_not_be_as_short_as_can_be() -> None:
    assert decoded(bytes.fromhex("4025")) == (37, 2)  # RFC 9000, appendix A.1
