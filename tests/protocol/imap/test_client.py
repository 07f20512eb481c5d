"""The client's side: responses as values, however their octets are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.client import (
    LINE_OCTETS_MAX,
    SMALL_LITERAL_OCTETS,
    Condition,
    Continuation,
    Data,
    IMAPClient,
    Literal,
    LiteralBegins,
    LiteralData,
    Response,
    literal_begin,
    parse_values,
    render_mailbox,
    render_string,
)

BIG = b"x" * (SMALL_LITERAL_OCTETS + 1)
DIALOG = (
    b"* OK [CAPABILITY IMAP4rev1 SASL-IR] ready\r\n"
    b"+ \r\n+ Z28gYWhlYWQ=\r\n"
    b'* LIST (\\HasNoChildren \\Sent) "/" "Sent \\"x\\" \\\\"\r\n'
    b"* LIST () NIL {5}\r\nINBOX\r\n"
    b"* 12 FETCH (UID 7 FLAGS (\\Seen $x) BODY[] {%d}\r\n%b MODSEQ (12))\r\n"
    b"* 13 FETCH (BODY[HEADER.FIELDS (DATE)] ~{3}\r\n\0ab BODY[] NIL X {0}\r\n)\r\n"
    b"* SEARCH\r\n* SEARCH 1 2 3\r\n"
    b'* ESEARCH (TAG "P1") UID ALL 1:3,7\r\n'
    b"P1 OK [APPENDUID 38505 3955] done\r\nP2 NO [TRYCREATE] no\r\nP3 BAD what\r\n* BYE\r\n"
) % (len(BIG), BIG)


def events(pieces: list[bytes]) -> list[Response]:
    """Neighbouring pieces of one literal are put together."""
    client = IMAPClient()
    found: list[Response] = []
    for piece in pieces:
        client.receive_data(piece)
        while (event := client.next_event()) is not None:
            if isinstance(event, LiteralData) and isinstance(found[-1], LiteralData):
                found[-1] = LiteralData(found[-1].octets + event.octets)
            else:
                found.append(event)
    assert client.is_idle
    return found


def test_a_dialog() -> None:
    found = events([DIALOG])
    assert found[:5] == [
        Condition(b"*", b"OK", b"CAPABILITY", b"IMAP4rev1 SASL-IR", "ready"),
        Continuation(b""),
        Continuation(b"Z28gYWhlYWQ="),
        Data(b"LIST", 0, [[b"\\HasNoChildren", b"\\Sent"], b"/", b'Sent "x" \\']),
        Data(b"LIST", 0, [[], None, b"INBOX"]),
    ]
    assert found[5:8] == [
        LiteralBegins(0, len(BIG)),
        LiteralData(BIG),
        Data(b"FETCH", 12, [[b"UID", b"7", b"FLAGS", [b"\\Seen", b"$x"], b"BODY[]", Literal(0),
                             b"MODSEQ", [b"12"]]]),
    ]  # fmt: skip
    assert found[8] == Data(
        b"FETCH", 13, [[b"BODY[HEADER.FIELDS (DATE)]", b"\0ab", b"BODY[]", None, b"X", b""]]
    )
    assert found[9:12] == [
        Data(b"SEARCH", 0, []),
        Data(b"SEARCH", 0, [b"1", b"2", b"3"]),
        Data(b"ESEARCH", 0, [[b"TAG", b"P1"], b"UID", b"ALL", b"1:3,7"]),
    ]
    assert found[12:] == [
        Condition(b"P1", b"OK", b"APPENDUID", b"38505 3955", "done"),
        Condition(b"P2", b"NO", b"TRYCREATE", b"", "no"),
        Condition(b"P3", b"BAD", b"", b"", "what"),
        Condition(b"*", b"BYE", b"", b"", ""),
    ]


@settings(deadline=None)
@given(st.lists(st.integers(0, len(DIALOG)), max_size=12))
def test_packet_borders_change_nothing(cuts: list[int]) -> None:
    borders = [0, *sorted(cuts), len(DIALOG)]
    pieces = [DIALOG[low:high] for low, high in pairwise(borders)]
    assert events(pieces) == events([DIALOG])


@given(st.binary(max_size=300))
def test_hostile_octets_end_in_a_value_or_an_error(octets: bytes) -> None:
    client = IMAPClient()
    client.receive_data(octets + b"\r\n")
    try:
        while client.next_event() is not None:
            pass
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    "octets",
    [b"hello\r\n", b"* 1 FETCH (\r\n", b"* 1 FETCH )\r\n", b"* LIST \0" + b"9\0\r\n",
     b'* LIST "x\r\n', b"* X " + b"(" * 300 + b"\r\n"],
)  # fmt: skip
def test_what_is_no_response(octets: bytes) -> None:
    client = IMAPClient()
    client.receive_data(octets)
    with pytest.raises(ProtocolError):
        client.next_event()


def test_a_line_without_end_is_bounded() -> None:
    client = IMAPClient()
    client.receive_data(b"x" * (LINE_OCTETS_MAX + 1))
    with pytest.raises(ProtocolError):
        client.next_event()


def test_literals_wait_where_they_must() -> None:
    assert literal_begin(5000, frozenset()) == b"{5000}\r\n"
    assert literal_begin(5000, frozenset((b"LITERAL+",))) == b"{5000+}\r\n"
    assert literal_begin(4096, frozenset((b"LITERAL-",))) == b"{4096+}\r\n"
    assert literal_begin(4097, frozenset((b"LITERAL-",))) == b"{4097}\r\n"
    assert literal_begin(1, frozenset(), binary=True) == b"~{1}\r\n"


def test_strings_and_names() -> None:
    none: frozenset[bytes] = frozenset()
    assert render_string(b"ann", none) == [b"ann"]
    assert render_string(b"NIL", none) == [b'"NIL"']
    assert render_string(b'a "b" \\', none) == [b'"a \\"b\\" \\\\"']
    assert render_string("ä".encode(), none) == [b"{2}\r\n", "ä".encode()]
    assert render_string("ä".encode(), frozenset((b"LITERAL+",))) == ["{2+}\r\nä".encode()]
    assert render_mailbox("Entwürfe & mehr", none) == [b'"Entw&APw-rfe &- mehr"']
    assert parse_values(b"a (b (c)) NIL", []) == [b"a", [b"b", [b"c"]], None]
