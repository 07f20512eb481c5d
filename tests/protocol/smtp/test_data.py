"""DATA framing: nothing but CRLF.CRLF ends a message, packet borders change nothing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.mail.errors import LocalProtocolError
from postroad.protocol.smtp.data import DataFault, DotDecoder, DotEncoder, Unsendable

LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b".", b"..", b".a", b"a.", b". ", b"Subject: x"]),
        st.binary(max_size=40).map(lambda raw: raw.translate(None, b"\r\n\0")),
    ),
    max_size=8,
)
MESSAGES = LINES.map(lambda lines: b"".join(line + b"\r\n" for line in lines))
HOSTILE = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"a", b"\0", b"..", b"x" * 500]),
    max_size=30,
).map(b"".join)


def cut(octets: bytes, data: st.DataObject) -> list[bytes]:
    places = data.draw(st.lists(st.integers(0, len(octets)), max_size=12).map(sorted))
    edges = [0, *places, len(octets)]
    return [octets[a:b] for a, b in itertools.pairwise(edges)]


def encode(chunks: list[bytes]) -> bytes:
    encoder = DotEncoder()
    return b"".join([*(encoder.feed(chunk) for chunk in chunks), encoder.finish()])


def decode(chunks: list[bytes]) -> tuple[bytes, bool, DataFault | None, bytes]:
    """What came out, whether it ended, the fault, and what stood behind the end."""
    decoder = DotDecoder()
    out = []
    for number, chunk in enumerate(chunks):
        out.append(decoder.feed(chunk))
        if decoder.ended:
            rest = decoder.leftover + b"".join(chunks[number + 1 :])
            return b"".join(out), True, decoder.fault, rest
    return b"".join(out), False, decoder.fault, b""


def plain_decode(wire: bytes) -> tuple[bytes, bool, bool, bytes]:
    """The same by the book, one line after the other: octets, ended, clean, leftover."""
    out = b""
    clean = True
    rest = wire
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            return out, False, clean, b""
        if line == b".":
            return out, True, clean, rest
        if line.startswith(b"."):
            line = line[1:]
        if any(octet in line for octet in (b"\r", b"\n", b"\0")) or len(line) > 998:
            clean = False
        out += line + b"\r\n"


@given(MESSAGES, st.data())
def test_encoding_and_decoding_are_inverses_however_cut(
    message: bytes, data: st.DataObject
) -> None:
    wire = encode(cut(message, data))
    assert wire == encode([message])
    assert decode(cut(wire + b"QUIT\r\n", data)) == (message, True, None, b"QUIT\r\n")


@settings(max_examples=300)
@given(HOSTILE, st.data())
def test_hostile_octets_end_where_the_book_says(wire: bytes, data: st.DataObject) -> None:
    wire += b"\r\n.\r\nRSET\r\n"
    expected, ended, clean, rest = plain_decode(wire)
    octets, has_ended, fault, leftover = decode(cut(wire, data))
    assert (has_ended, leftover) == (ended, rest)
    assert (fault is None) == clean
    if clean:
        assert octets == expected


@pytest.mark.parametrize(
    "ending",
    [
        b"\n.\n", b"\r.\r", b"\r\n.\n", b"\n.\r\n", b"\r\n.\r", b"\r.\r\n", b"\r\n\x00.\r\n",
        b"\r\n.\x00\r\n", b"\n\n.\r\n", b"\r\r\n.\r\r\n", b"\r\n.\r\r\n", b"\r.\n", b"\n.\r",
    ],
)  # fmt: skip
def test_no_smuggled_end_ends_a_message(ending: bytes) -> None:
    inner = b"MAIL FROM:<evil@x.example>\r\n"
    wire = b"Subject: a\r\n\r\nbody" + ending + inner + b"\r\n.\r\n"
    octets, ended, fault, rest = decode([wire])
    assert ended and rest == b""
    assert fault is not None
    assert inner not in octets
    for size in (1, 2, 3):
        chunks = [wire[at : at + size] for at in range(0, len(wire), size)]
        assert decode(chunks)[1:] == (True, fault, b"") or decode(chunks)[2] is not None


@pytest.mark.parametrize(("length", "fault"), [(998, None), (999, DataFault.LONG_LINE)])
@pytest.mark.parametrize("size", [1, 7, 997, 1000, 5000])
@pytest.mark.parametrize("first", [b"x", b"."])
def test_a_line_holds_998_octets_without_the_stuffed_dot(
    length: int, fault: DataFault | None, size: int, first: bytes
) -> None:
    line = first + b"x" * (length - 1)
    message = b"a: b\r\n\r\n" + b"y" * 998 + b"\r\n" + line + b"\r\n" + b"z\r\n"
    wire = encode([message])
    chunks = [wire[at : at + size] for at in range(0, len(wire), size)]
    octets, ended, found, _ = decode(chunks)
    assert ended and found is fault
    if fault is None:
        assert octets == message


def test_the_empty_message_ends_at_once() -> None:
    assert decode([b".\r\n"]) == (b"", True, None, b"")
    assert encode([]) == b".\r\n"


def test_a_last_line_without_end_gets_one() -> None:
    assert encode([b"a\r\nb"]) == b"a\r\nb\r\n.\r\n"


@pytest.mark.parametrize("message", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\0", b"a\n.\n", b"a\r"])
def test_the_encoder_sends_no_message_that_ends_early_elsewhere(message: bytes) -> None:
    for chunks in ([message], [message[at : at + 1] for at in range(len(message))]):
        with pytest.raises(Unsendable):
            encode(chunks)


def test_a_decoder_that_ended_takes_no_more() -> None:
    decoder = DotDecoder()
    decoder.feed(b".\r\n")
    with pytest.raises(LocalProtocolError):
        decoder.feed(b"x")
