"""The POP3 core: order, bounds, and that packet borders change nothing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.mail.errors import LocalProtocolError, ProtocolError
from postroad.mail.secret import Secret
from postroad.protocol.pop3 import commands as c
from postroad.protocol.pop3.commands import parse_command, render_command
from postroad.protocol.pop3.server import LEGAL, NEED_DATA, Bad, ServerConnection, State
from postroad.protocol.sasl.mechanism import PASSWORD_OCTETS_MAX

NUMBER = st.integers(1, 2**31)
WORD = st.text(st.characters(min_codepoint=33, exclude_categories=("Cs",)), min_size=1, max_size=20)
COMMANDS = st.one_of(
    st.sampled_from(
        [c.Capa(), c.Stls(), c.Utf8(), c.Stat(), c.Noop(), c.Rset(), c.Quit(), c.Auth("", None)]
    ),
    st.builds(c.User, WORD),
    st.builds(
        c.Pass, st.binary(min_size=1, max_size=20).filter(lambda b: b"\n" not in b).map(Secret)
    ),
    st.builds(c.Auth, st.sampled_from(["PLAIN", "SCRAM-SHA-256"]), st.sampled_from([None, b"="])),
    st.builds(c.List, st.none() | NUMBER),
    st.builds(c.Uidl, st.none() | NUMBER),
    st.builds(c.Retr, NUMBER),
    st.builds(c.Dele, NUMBER),
    st.builds(c.Top, NUMBER, st.integers(0, 1000)),
)
DIALOG = (
    b"CAPA\r\nUSER ann@one.example\r\nPASS a secret \r\nstat\r\nLIST 1\r\nUIDL\nRETR 1\r\n"
    b"TOP 1 10\r\n\r\nXYZZY\r\nDELE 99999999999\r\nRETR 0\r\nRETR\r\n"
    + b"NOOP "
    + b"x" * 300
    + b"\r\nNOOP\r\nRSET\r\nAUTH PLAIN\r\nQUIT\r\nNOOP\r\n"
)


@given(COMMANDS)
@settings(max_examples=150)
def test_parse_and_render_are_inverses(command: c.Command) -> None:
    assert parse_command(render_command(command)[:-2]) == command


def events(chunks: list[bytes], *, in_transaction: bool) -> list[object]:
    conn = ServerConnection()
    if in_transaction:
        conn.authenticated()
    out: list[object] = []
    for chunk in chunks:
        conn.receive_data(chunk)
        while (event := conn.next_event()) is not NEED_DATA:
            out.append(event)
            if isinstance(event, c.Quit):
                conn.close()
    return out


@given(st.lists(st.integers(0, len(DIALOG)), max_size=12), st.booleans())
@settings(max_examples=150)
def test_packet_borders_change_nothing(cuts: list[int], in_transaction: bool) -> None:
    places = [0, *sorted(cuts), len(DIALOG)]
    chunks = [DIALOG[a:b] for a, b in itertools.pairwise(places)]
    whole = events([DIALOG], in_transaction=in_transaction)
    assert events(chunks, in_transaction=in_transaction) == whole
    octets = [DIALOG[at : at + 1] for at in range(len(DIALOG))]
    assert events(octets, in_transaction=in_transaction) == whole


def test_what_the_dialog_means() -> None:
    found = events([DIALOG], in_transaction=True)
    names = [type(event).__name__ for event in found]
    assert names == [
        *["Capa", "Bad", "Bad", "Stat", "List", "Uidl", "Retr", "Top", "Bad", "Bad", "Bad", "Bad"],
        *["Bad", "Bad", "Noop", "Rset", "Bad", "Quit"],
    ]
    before = events([DIALOG], in_transaction=False)
    assert before[1:3] == [c.User("ann@one.example"), c.Pass(Secret("a secret "))]


@given(st.lists(st.binary(max_size=400), max_size=6))
@settings(max_examples=100)
def test_hostile_octets_never_grow_the_core(chunks: list[bytes]) -> None:
    conn = ServerConnection()
    for chunk in chunks:
        conn.receive_data(chunk)
        while conn.next_event() is not NEED_DATA:
            pass
        assert len(conn._buffer) <= 12400


def test_an_endless_line_is_dropped_and_answered_once() -> None:
    conn = ServerConnection()
    for _ in range(1000):
        conn.receive_data(b"x" * 1000)
        assert conn.next_event() is NEED_DATA
        assert len(conn._buffer) <= 1000
    assert conn.has_unread
    conn.receive_data(b"\r\nQUIT\r\n")
    assert conn.next_event() == Bad("the line is too long")
    assert conn.next_event() == c.Quit()


def test_a_password_may_be_as_long_as_everywhere() -> None:
    """RFC 2449 §4 would stop at 255 octets, and who has a longer one could use IMAP only."""
    conn = ServerConnection()
    password = b"p" * PASSWORD_OCTETS_MAX
    conn.receive_data(b"USER ann\r\nPASS " + password + b"\r\nUSER ann\r\nPASS " + b"p" * 1100)
    assert conn.next_event() == c.User("ann")
    event = conn.next_event()
    assert isinstance(event, c.Pass) and event.password.reveal() == password
    assert conn.next_event() == c.User("ann")
    assert conn.next_event() is NEED_DATA
    conn.receive_data(b"\r\n")
    assert conn.next_event() == Bad("the line is too long")


def test_auth_lines_may_be_long_and_others_not() -> None:
    conn = ServerConnection()
    conn.receive_data(b"auth PLAIN " + b"A" * 5000 + b"\r\n")
    assert conn.next_event() == c.Auth("PLAIN", b"A" * 5000)
    conn.begin_exchange()
    conn.receive_data(b"B" * 12000 + b"\r\nPASS x\r\n" + b"C" * 13000 + b"\r\n")
    assert conn.next_event() == c.AuthResponse(b"B" * 12000)
    assert conn.next_event() == c.AuthResponse(b"PASS x")
    assert conn.next_event() == c.AuthResponse(b"*")
    conn.end_exchange()
    conn.receive_data(b"QUIT\r\n")
    assert conn.next_event() == c.Quit()


@pytest.mark.parametrize("state", [State.AUTHORIZATION, State.TRANSACTION])
@pytest.mark.parametrize(
    "line",
    [
        "USER x",
        "PASS x",
        "AUTH PLAIN",
        "STLS",
        "UTF8",
        "CAPA",
        "QUIT",
        "STAT",
        "LIST",
        "UIDL",
        "RETR 1",
        "DELE 1",
        "TOP 1 1",
        "NOOP",
        "RSET",
        "APOP a b",
        "XTND",
    ],
)
def test_every_pair_of_state_and_command_is_answered(state: State, line: str) -> None:
    conn = ServerConnection()
    if state is State.TRANSACTION:
        conn.authenticated()
    conn.receive_data(line.encode() + b"\r\n")
    event = conn.next_event()
    legal = isinstance(event, LEGAL[state])
    assert legal or isinstance(event, Bad)
    if line.startswith("PASS"):
        assert not legal, "PASS needs USER before it"


def test_user_is_forgotten_by_the_next_command_and_by_tls() -> None:
    """RFC 1939 §7: PASS comes immediately after USER; RFC 2595 §4: TLS forgets."""
    for between in (b"CAPA\r\n", b"BOGUS\r\n"):
        conn = ServerConnection()
        conn.receive_data(b"USER ann\r\n" + between + b"PASS x\r\n")
        conn.next_event(), conn.next_event()
        assert conn.next_event() == Bad("USER comes first")
    conn = ServerConnection()
    conn.receive_data(b"USER ann\r\n")
    conn.next_event()
    conn.tls_started()
    conn.receive_data(b"PASS x\r\n")
    assert conn.next_event() == Bad("USER comes first")


def test_our_own_faults_are_seen() -> None:
    conn = ServerConnection()
    conn.receive_data(b"STLS\r\nUSER x\r\n")
    conn.next_event()
    with pytest.raises(LocalProtocolError):
        conn.tls_started()
    conn.authenticated()
    with pytest.raises(LocalProtocolError):
        conn.authenticated()
    with pytest.raises(LocalProtocolError):
        conn.begin_exchange()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"STAT 1",
        b"LIST x",
        b"RETR -1",
        b"RETR 1 2",
        b"TOP 1",
        b"TOP 1 x",
        b"USER",
        b"USER \xff",
        b"PASS",
        b"AUTH PL/AIN",
        b"RETR 00000000000000000001",
        b"\0",
    ],
)
def test_malformed_commands(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_command(line)
