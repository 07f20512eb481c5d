"""APPEND and REPLACE, literal by literal: what they mean, however they are cut and spoilt."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.mail.errors import LocalProtocolError
from postroad.mail.flags import Flag
from postroad.protocol.imap import commands
from postroad.protocol.imap.append import MESSAGES_MAX, PARTS_MAX, Append, Replace
from postroad.protocol.imap.events import (
    NEED_DATA,
    AppendData,
    AppendEnd,
    Bad,
    Continue,
    Event,
    LiteralPart,
    MessageBegins,
    URLPart,
)
from postroad.protocol.imap.sequence import STAR
from postroad.protocol.imap.server import DRAIN_OCTETS_MAX, ServerConnection, State

PLAIN = MessageBegins(Flag(0), (), None)


def connection(octets: bytes = b"", state: State = State.SELECTED) -> ServerConnection:
    core = ServerConnection()
    core.state = state
    core.receive_data(octets)
    return core


def events(chunks: list[bytes], abandon_at: int = -1) -> list[Event]:
    """Everything the core says, data joined; literals are accepted, but for that of this number:
    there the command is abandoned."""
    core = connection()
    out: list[Event] = []
    literals = 0
    for chunk in chunks:
        core.receive_data(chunk)
        while (event := core.next_event()) is not NEED_DATA:
            if isinstance(event, AppendData) and out and isinstance(out[-1], AppendData):
                out[-1] = AppendData(out[-1].octets + event.octets)
            else:
                out.append(event)
            if isinstance(event, LiteralPart):
                if literals == abandon_at:
                    assert core.abandon_upload()
                else:
                    core.accept_literal()
                literals += 1
    return out


def literal(size: int, *, plus: bool = True, binary: bool = False, whole: bool = True) -> Event:
    return LiteralPart(size=size, synchronizing=not plus, binary=binary, whole=whole)


# -- one message --------------------------------------------------------------------------------


def test_a_literal_waits_for_a_decision() -> None:
    core = connection(b'a APPEND x (\\Seen k) "17-Jul-1996 02:44:25 -0700" {3}\r\n')
    assert core.next_event() == Append(b"a", "x")
    assert core.next_event() == MessageBegins(Flag.SEEN, (b"k",), 837596665)
    assert core.next_event() == literal(3, plus=False)
    with pytest.raises(LocalProtocolError):
        core.next_event()
    assert core.accept_literal().startswith(b"+ ")
    core.receive_data(b"abc\r\n")
    assert core.next_event() == AppendData(b"abc")
    assert core.next_event() == AppendEnd()
    assert core.is_between_commands


def test_an_abandoned_literal_that_waits_sends_nothing() -> None:
    core = connection(b"a APPEND x {3}\r\n")
    for _ in range(3):
        core.next_event()
    assert core.abandon_upload()
    core.receive_data(b"b NOOP\r\n")
    assert core.next_event() == commands.Noop(b"b")


@given(st.integers(0, 40), st.integers(0, 3))
def test_an_abandoned_literal_that_comes_is_dropped(size: int, told: int) -> None:
    """However many of its events were told."""
    core = connection(b"a APPEND x {%d+}\r\n" % size)
    for _ in range(told):
        core.next_event()
    if not told:
        core.next_event()  # there is no upload before
    assert core.abandon_upload()
    core.receive_data((b"z LOGOUT\r\n" * 4)[:size] + b"\r\nb NOOP\r\n")
    assert core.next_event() == commands.Noop(b"b")


@pytest.mark.parametrize("cut", range(12))
def test_a_literal_abandoned_half_way_is_read_to_its_end(cut: int) -> None:
    core = connection(b"a APPEND x {12+}\r\n" + b"z LOGOUT\r\nz "[:cut])
    for _ in range(3):
        core.next_event()
    core.accept_literal()
    while core.next_event() is not NEED_DATA:
        pass
    assert core.abandon_upload()
    core.receive_data(
        b"z LOGOUT\r\nz "[cut:] + b" {10+}\r\nz LOGOUT\r\n {5+}\r\nz Z\r\n\r\nb NOOP\r\n"
    )
    assert core.next_event() == commands.Noop(b"b")


def test_an_abandoned_literal_may_be_too_long_to_wait_for() -> None:
    core = connection(b"a APPEND x {%d+}\r\n" % (DRAIN_OCTETS_MAX + 1))
    for _ in range(3):
        core.next_event()
    assert not core.abandon_upload()


def test_after_an_abandoned_upload_a_waiting_literal_ends_the_command() -> None:
    """The client has its tagged NO, and does not send it."""
    core = connection(b"a APPEND x {1+}\r\nA {9}\r\nb NOOP\r\n")
    for _ in range(3):
        core.next_event()
    assert core.abandon_upload()
    assert core.next_event() == commands.Noop(b"b")


# -- many messages, many parts --------------------------------------------------------------------

MULTI = (
    b"a APPEND {5+}\r\nINBOX (\\Seen) {3+}\r\none {3+}\r\n\r\n\r "
    b'(k) " 1-Jan-2026 00:00:00 +0000" ~{2+}\r\n\0\0'
    b' CATENATE (URL "/x/;UID=1" TEXT {0+}\r\n URL {3+}\r\n/;x TEXT ~{1+}\r\nz UTF8 (~{2+}\r\nyy))'
    b" () UTF8 (~{1+}\r\nu)\r\n"
    b"b UID REPLACE 7 x CATENATE (URL y)\r\n"
    b"c REPLACE * x {1}\r\nm \r\n"
    b"d NOOP\r\n"
)
MEANING = [
    Append(b"a", "INBOX"),
    MessageBegins(Flag.SEEN, (), None), literal(3), AppendData(b"one"),
    PLAIN, literal(3), AppendData(b"\r\n\r"),
    MessageBegins(Flag(0), (b"k",), 1767225600), literal(2, binary=True), AppendData(b"\0\0"),
    PLAIN, URLPart(b"/x/;UID=1"), literal(0, whole=False), URLPart(b"/;x"),
    literal(1, binary=True, whole=False), AppendData(b"z"),
    literal(2, binary=True, whole=False), AppendData(b"yy"),
    PLAIN, literal(1, binary=True), AppendData(b"u"), AppendEnd(),
    Replace(b"b", True, 7, "x"), PLAIN, URLPart(b"y"), AppendEnd(),
    Replace(b"c", False, STAR, "x"), PLAIN, literal(1, plus=False), AppendData(b"m"), AppendEnd(),
    commands.Noop(b"d"),
]  # fmt: skip


def test_many_messages_and_parts_mean_what_they_say() -> None:
    assert events([MULTI]) == MEANING


@settings(max_examples=150)
@given(st.lists(st.integers(0, len(MULTI)), max_size=12).map(sorted))
def test_packet_borders_change_nothing(cuts: list[int]) -> None:
    chunks = [MULTI[low:high] for low, high in itertools.pairwise([0, *cuts, len(MULTI)])]
    assert events(chunks) == MEANING


def test_octet_by_octet_is_the_same() -> None:
    assert events([MULTI[at : at + 1] for at in range(len(MULTI))]) == MEANING


@given(st.integers(0, 8), st.lists(st.integers(0, len(MULTI)), max_size=4).map(sorted))
def test_wherever_it_is_abandoned_the_next_command_is_found(at: int, cuts: list[int]) -> None:
    chunks = [MULTI[low:high] for low, high in itertools.pairwise([0, *cuts, len(MULTI)])]
    found = events(chunks, abandon_at=at)
    if at < 7:
        assert found[-1] == commands.Noop(b"d")
        assert Replace(b"b", True, 7, "x") in found
        assert [event for event in found if isinstance(event, Bad)] == []


_PARTS = st.one_of(
    st.tuples(st.just(b"TEXT"), st.binary(max_size=20)),
    st.tuples(st.just(b"URL"), st.from_regex(rb"[a-z0-9/;]{1,18}", fullmatch=True)),
    st.tuples(st.just(b"UTF8"), st.binary(max_size=20)),
)  # fmt: skip


@given(st.lists(st.one_of(st.binary(max_size=30), st.lists(_PARTS, min_size=1, max_size=5)),
                min_size=1, max_size=6), st.integers(1, 50), st.booleans())  # fmt: skip
def test_any_order_of_messages_and_parts(
    messages: list[bytes | list[tuple[bytes, bytes]]], step: int, literal_urls: bool
) -> None:
    wire, wanted = b"t APPEND box", []
    for message in messages:
        wanted.append(b"|")
        if isinstance(message, bytes):
            wire += b" ~{%d+}\r\n%b" % (len(message), message)
            wanted.append(message)
            continue
        texts = []
        for kind, octets in message:
            if kind == b"URL" and not literal_urls:
                texts.append(b'URL "%b"' % octets)
            elif kind == b"UTF8":
                texts.append(b"UTF8 (~{%d+}\r\n%b)" % (len(octets), octets))
            else:
                texts.append(b"%b {%d+}\r\n%b" % (kind, len(octets), octets))
            wanted.append(octets)
        wire += b" CATENATE (" + b" ".join(texts) + b")"
    wire += b"\r\nu NOOP\r\n"
    found = events([wire[at : at + step] for at in range(0, len(wire), step)])
    assert found[0] == Append(b"t", "box")
    assert found[-2:] == [AppendEnd(), commands.Noop(b"u")]
    said = []
    for event in found[1:-2]:
        match event:
            case MessageBegins():
                said.append(b"|")
            case AppendData(octets):
                said.append(octets)
            case URLPart(url):
                said.append(url)
    assert said == [octets for octets in wanted if octets]


def test_a_synchronizing_url_is_asked_for() -> None:
    core = connection(b"a APPEND x CATENATE (URL {9}\r\n")
    assert [core.next_event() for _ in range(3)] == [Append(b"a", "x"), PLAIN, Continue()]
    core.receive_data(b"/x/;UID=1)\r\n")
    assert [core.next_event() for _ in range(2)] == [URLPart(b"/x/;UID=1"), AppendEnd()]


def test_a_synchronizing_mailbox_is_asked_for() -> None:
    core = connection(b"a REPLACE 3 {1}\r\n")
    assert core.next_event() == Continue()
    core.receive_data(b"x {1+}\r\nm\r\n")
    assert core.next_event() == Replace(b"a", False, 3, "x")


def test_thousands_of_url_literals_are_read_once_each() -> None:
    """What has been read is not read again with each literal: this took seconds."""
    parts = b" ".join([b"URL {1+}\r\nx"] * PARTS_MAX)
    found = events([b"a APPEND x CATENATE (" + parts + b")\r\n"])
    assert len(found) == PARTS_MAX + 3


# -- what is spoilt -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"APPEND", b"APPEND x", b"APPEND x (\\Seen)", b"APPEND x (\\Bogus) {1+}\r\nz",
        b'APPEND x "1-Foo" {1+}\r\nz', b"APPEND x z {1+}\r\nz", b"APPEND x {1+}\r\nz z",
        b"APPEND x {1+}\r\nz{1+}\r\nz", b"APPEND x UTF8 {1+}\r\nz", b"APPEND x UTF8 ({1+}\r\nz)",
        b"APPEND x UTF8 (~{1+}\r\nz", b"APPEND x CATENATE {1+}\r\nz", b"APPEND x CATENATE ()",
        b"APPEND x CATENATE (TEXT)", b"APPEND x CATENATE (TEXT x)", b"APPEND x CATENATE (URL)",
        b"APPEND x CATENATE (TEXT {1+}\r\nz", b"APPEND x CATENATE (TEXT {1+}\r\nz {1+}\r\nz)",
        b"APPEND x CATENATE (FOO {1+}\r\nz)", b"APPEND x ANNOTATION (a b) {1+}\r\nz",
        b"REPLACE 0 x {1+}\r\nz", b"REPLACE 1:2 x {1+}\r\nz", b"REPLACE x {1+}\r\nz",
        b"UID REPLACE * x {1+}\r\nz", b"REPLACE 1 x {1+}\r\nz {1+}\r\nz", b"REPLACE 1 x",
        b"APPEND " + b"x" * 70_000, b"APPEND x (" + b"y " * 40_000 + b"{1+}\r\nz",
        b"APPEND {70000+}\r\n" + b"x" * 70_000 + b" {1+}\r\nz",
        b"APPEND x CATENATE (URL {70000+}\r\n" + b"x" * 70_000 + b")",
        b"UID APPEND x {1+}\r\nz", b"APPEND &&& {1+}\r\nz", b"APPEND x {1+}\r\nz {1+}\nz",
        b"APPEND x {1+}\r\nz \n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_what_is_spoilt_costs_one_answer(head: bytes, step: int) -> None:
    if step == 1 and len(head) > 1000:
        step = 977
    wire = b"a " + head + b"\r\nb NOOP\r\n"
    found = events([wire[at : at + step] for at in range(0, len(wire), step)])
    bads = [event for event in found if isinstance(event, Bad)]
    assert [bad.tag for bad in bads][:1] == [b"a"]
    assert AppendEnd() not in found
    if not bads[0].fatal and b"\n" not in head[-2:]:
        assert len(bads) == 1
        assert found[-1] == commands.Noop(b"b")


def test_a_bare_line_feed_that_announces_a_literal_ends_the_session() -> None:
    found = events([b"a APPEND x {1+}\r\nz {9+}\nb LOGOUT\r\n"])
    [bad] = [event for event in found if isinstance(event, Bad)]
    assert bad.fatal


def test_messages_of_one_command_are_bounded() -> None:
    found = events([b"a APPEND x" + b" {1+}\r\nz" * (MESSAGES_MAX + 1) + b"\r\nb NOOP\r\n"])
    assert found[-2:] == [
        Bad(b"a", "These are too many messages for one command", b"LIMIT", no=True),
        commands.Noop(b"b"),
    ]


def test_parts_of_one_message_are_bounded() -> None:
    parts = b" ".join([b"URL x"] * PARTS_MAX)
    assert events([b"a APPEND x CATENATE (" + parts + b")\r\n"])[-1] == AppendEnd()
    bad = events([b"a APPEND x CATENATE (" + parts + b" URL x)\r\n"])[-1]
    assert isinstance(bad, Bad)
    assert (bad.code, bad.no) == (b"LIMIT", True)


@pytest.mark.parametrize("verb", [b"APPEND x", b"REPLACE 1 x", b"UID REPLACE 1 x"])
def test_before_login_it_is_not_possible(verb: bytes) -> None:
    core = connection(b"a " + verb + b" {2+}\r\nab\r\nb NOOP\r\n", State.NOT_AUTHENTICATED)
    bad = core.next_event()
    assert isinstance(bad, Bad)
    assert bad.tag == b"a"
    assert core.next_event() == commands.Noop(b"b")


def test_replace_needs_a_selected_mailbox() -> None:
    core = connection(b"a REPLACE 1 x {2}\r\n", State.AUTHENTICATED)
    bad = core.next_event()
    assert isinstance(bad, Bad)
    assert "authenticated" in bad.text


def test_numbers_are_not_for_clients_that_gave_them_up() -> None:
    """RFC 9586 §3.3."""
    core = connection(b"a REPLACE 1 x {2}\r\nb UID REPLACE 1 x {2}\r\n")
    core.enabled.add(b"UIDONLY")
    assert core.next_event() == Bad(b"a", "Only UIDs are used since UIDONLY", b"UIDREQUIRED")
    assert core.next_event() == Replace(b"b", True, 1, "x")
