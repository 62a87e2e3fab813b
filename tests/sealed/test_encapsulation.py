"""Sealing: the example of draft-ietf-ohai-chunked-ohttp-08 byte for byte, RFC 9458's key, and tampering."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmctl.sealed.chunks import ChunkSplitter, framed
from llmctl.sealed.encapsulation import (
    HEADER_BYTES,
    NONCE_BYTES,
    AnswerCipher,
    RequestOpener,
    RequestSealer,
    configuration_of,
    new_private_key,
)
from llmctl.sealed.key_configuration import KeyConfiguration, listed
from llmctl.sealed.message_error import SealedMessageError

PRIVATE = bytes.fromhex("1c190d72acdbe4dbc69e680503bb781a932c70a12c8f3754434c67d8640d8698")
CONFIGURATION = bytes.fromhex(
    "010020668eb21aace159803974a4c67f08b4152d29bed10735fd08f98ccdd6fe09570800080001000100010003"
)
EPHEMERAL = bytes.fromhex("b26d565f3f875ed480d1abced3d665159650c99174fd0b124ac4bda0c64ae324")
MESSAGE = bytes.fromhex("00034745540568747470730b6578616d706c652e636f6d012f")
HEADER = bytes.fromhex("010020000100018811eb457e100811c40a0aa71340a1b81d804bb986f736f2f566a7199761a032")
CHUNKS = (
    bytes.fromhex("1c2ad24942d4d692563012f2980c8fef437a336b9b2fc938ef77a5834f"),
    bytes.fromhex("1d2e33d8fd25577afe31bd1c79d094f76b6250ae6549b473ecd950501311"),
    bytes.fromhex("001c6c1395d0ef7c1022297966307b8a7f"),
)
ANSWER = bytes.fromhex("0140c8")
NONCE = bytes.fromhex("bcce7f4cb921309ba5d62edf1769ef09")
ANSWER_CHUNKS = (
    bytes.fromhex("1179bf1cc87fa0e2c02de4546945aa3d1e48"),
    bytes.fromhex("12b348b5bd4c594c16b6170b07b475845d1f32"),
    bytes.fromhex("00ed9d8a796617a5b27265f4d73247f639"),
)
RFC_9458_PRIVATE = bytes.fromhex("3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a")
RFC_9458_CONFIGURATION = bytes.fromhex(
    "01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003"
)


def test_seals_the_draft_s_request_byte_for_byte() -> None:
    sealer = RequestSealer(KeyConfiguration.decoded(CONFIGURATION), EPHEMERAL)
    assert sealer.header == HEADER
    parts = (MESSAGE[:12], False), (MESSAGE[12:], False), (b"", True)
    assert tuple(sealer.chunk(data, is_final=final) for data, final in parts) == CHUNKS


def test_seals_and_opens_the_draft_s_answer_byte_for_byte() -> None:
    sealer = RequestSealer(KeyConfiguration.decoded(CONFIGURATION), EPHEMERAL)
    opener = RequestOpener(PRIVATE, HEADER)
    assert opened(opener, b"".join(CHUNKS)) == MESSAGE
    cipher = opener.answer(NONCE)
    parts = (ANSWER[:1], False), (ANSWER[1:], False), (b"", True)
    assert tuple(cipher.seal(data, is_final=final) for data, final in parts) == ANSWER_CHUNKS
    assert opened(sealer.answer(NONCE), b"".join(ANSWER_CHUNKS)) == ANSWER


@pytest.mark.parametrize(
    ("private", "raw"), [(PRIVATE, CONFIGURATION), (RFC_9458_PRIVATE, RFC_9458_CONFIGURATION)], ids=["draft", "RFC"]
)
def test_reads_and_writes_the_standards_keys(private: bytes, raw: bytes) -> None:
    configuration = KeyConfiguration.decoded(raw)
    assert configuration.encoded() == raw
    assert configuration.public_key == configuration_of(1, private).public_key
    assert KeyConfiguration.of_line(configuration.line) == configuration
    assert listed([configuration, configuration]) == 2 * (len(raw).to_bytes(2, "big") + raw)


LINE = KeyConfiguration.decoded(CONFIGURATION).line
WRONG_LINES = {
    "empty": "",
    "another prefix": LINE.replace("llmctl-key", "age-key"),
    "cut off": LINE[:-9],
    "longer": LINE + "AAAA",
    "with a space": LINE + " ",
    "of another length of base64": LINE + "A",
    "another KEM": KeyConfiguration.decoded(CONFIGURATION).line.replace("AQAg", "AQAQ"),
    "another AEAD alone": "llmctl-key:AQAgZo6yGqzhWYA5dKTGfwi0FS0pvtEHNf0I-YzN1v4JVwgABAABAAM",
}


@pytest.mark.parametrize("name", WRONG_LINES)
def test_refuses_lines_that_hold_no_key(name: str) -> None:
    with pytest.raises(SealedMessageError):
        KeyConfiguration.of_line(WRONG_LINES[name])


def test_a_long_message_is_sealed_in_chunks_that_everybody_takes() -> None:
    private = new_private_key()
    message = bytes(range(256)) * 200
    sealed = RequestSealer(configuration_of(7, private)).whole(message)
    opener = RequestOpener(private, sealed[:HEADER_BYTES])
    assert opened(opener, sealed[HEADER_BYTES:]) == message
    assert len(sealed) == HEADER_BYTES + len(message) + 3 * (4 + 16) + 1 + 16


def answer_of_three() -> tuple[AnswerCipher, list[bytes]]:
    """What opens an answer, and its chunks."""
    private = new_private_key()
    sealer = RequestSealer(configuration_of(7, private))
    cipher = RequestOpener(private, sealer.header).answer()
    chunks = [cipher.seal(b"one"), cipher.seal(b"two"), cipher.seal(b"three", is_final=True)]
    return sealer.answer(cipher.nonce), chunks


def opened(cipher: AnswerCipher | RequestOpener, stream: bytes) -> bytes:
    splitter = ChunkSplitter()
    data = b"".join(cipher.open(chunk, is_final=False) for at in stream for chunk in splitter.feed(bytes([at])))
    return data + cipher.open(splitter.end(), is_final=True)


def test_an_answer_is_opened_in_its_order() -> None:
    cipher, chunks = answer_of_three()
    assert opened(cipher, b"".join(chunks)) == b"onetwothree"


Tampering = Callable[[list[bytes]], list[bytes]]
TAMPERINGS: dict[str, Tampering] = {
    "altered": lambda chunks: [chunks[0][:-1] + bytes([chunks[0][-1] ^ 1]), *chunks[1:]],
    "swapped": lambda chunks: [chunks[1], chunks[0], chunks[2]],
    "repeated": lambda chunks: [chunks[0], chunks[0], *chunks[1:]],
    "dropped": lambda chunks: [chunks[0], chunks[2]],
    "cut off after a chunk": lambda chunks: chunks[:2],
    "cut off in the last": lambda chunks: [*chunks[:2], chunks[2][:-1]],
    "a chunk made the last": lambda chunks: [chunks[0], framed(chunks[1][1:], is_final=True)],
    "the last made a chunk": lambda chunks: [*chunks[:2], framed(chunks[2][1:], is_final=False), b"\0"],
    "something behind the last": lambda chunks: [*chunks, b"x"],
    "a chunk of nothing": lambda chunks: [b"\x01x", *chunks],
    "a chunk of 2 MiB": lambda chunks: [b"\x80\x20\x00\x00", *chunks],
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_refuses_what_was_tampered_with(name: str) -> None:
    cipher, chunks = answer_of_three()
    with pytest.raises(SealedMessageError):
        opened(cipher, b"".join(TAMPERINGS[name](chunks)))


def test_refuses_an_empty_chunk_that_is_not_the_last() -> None:
    private = new_private_key()
    sealer = RequestSealer(configuration_of(7, private))
    with pytest.raises(SealedMessageError, match="16 bytes"):
        opened(RequestOpener(private, sealer.header), sealer.chunk(b"") + sealer.chunk(b"", is_final=True))


def test_another_key_another_identifier_and_another_answer_are_refused() -> None:
    private = new_private_key()
    sealed = RequestSealer(configuration_of(7, private)).whole(MESSAGE)
    for key, header in (
        (new_private_key(), sealed[:HEADER_BYTES]),
        (private, b"\x08" + sealed[1:HEADER_BYTES]),
        (private, sealed[: HEADER_BYTES - 1] + b"\0"),
    ):
        with pytest.raises(SealedMessageError):
            opened(RequestOpener(key, header), sealed[HEADER_BYTES:])
    cipher, _ = answer_of_three()
    _, others = answer_of_three()
    with pytest.raises(SealedMessageError):
        opened(cipher, b"".join(others))
    assert len(cipher.nonce) == NONCE_BYTES


def test_other_algorithms_are_refused() -> None:
    with pytest.raises(SealedMessageError, match="AES-128-GCM"):
        RequestOpener(PRIVATE, HEADER[:6] + b"\x03" + HEADER[7:])


def test_a_public_key_that_can_be_none_is_refused() -> None:
    with pytest.raises(SealedMessageError):
        RequestSealer(KeyConfiguration(1, bytes(32)))
