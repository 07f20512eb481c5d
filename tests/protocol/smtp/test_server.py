"""The server core: order, lengths, pipelining, STARTTLS and AUTH, without a socket."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.mail import limits
from postroad.mail.errors import LocalProtocolError
from postroad.mail.reply import Reply
from postroad.protocol.smtp import replies
from postroad.protocol.smtp.commands import Auth, Data, Helo, Mail, Quit, Rcpt, Rset, StartTLS
from postroad.protocol.smtp.data import DataFault
from postroad.protocol.smtp.server import (
    LEGAL,
    NEED_DATA,
    Chunk,
    EndOfData,
    Event,
    Malformed,
    Response,
    ServerConnection,
    State,
    ehlo_reply,
)

CHALLENGE = Reply(334, None, ("",))
GREETING = Reply.of(220, None, "mx.one.example ESMTP")


def answer(event: Event) -> Reply:
    """A service that says yes to everything, with one step of SASL."""
    match event:
        case Malformed():
            return event.reply
        case Data():
            return replies.START_INPUT
        case StartTLS():
            return replies.TLS_READY
        case Auth(_, None):
            return CHALLENGE
        case Auth():
            return replies.AUTH_OK
        case Response():
            return replies.AUTH_OK if event.line else replies.AUTH_CANCELLED
        case Quit():
            return replies.CLOSING
        case Helo():
            return ehlo_reply("mx.one.example", "192.0.2.1", ("PIPELINING",))
        case _:
            return replies.OK


def drive(conn: ServerConnection, octets: bytes) -> list[tuple[Event, Reply | None]]:
    """Feeds octets and answers all that comes out; neighbouring chunks are joined."""
    conn.receive_data(octets)
    seen: list[tuple[Event, Reply | None]] = []
    while (event := conn.next_event()) is not NEED_DATA:
        if isinstance(event, Chunk):
            seen.append((event, None))
            continue
        reply = answer(event)
        assert conn.send(reply) == reply.render()
        seen.append((event, reply))
    return seen


def joined(seen: list[tuple[Event, Reply | None]]) -> list[tuple[Event, Reply | None]]:
    out: list[tuple[Event, Reply | None]] = []
    for event, reply in seen:
        if isinstance(event, Chunk) and out and isinstance(out[-1][0], Chunk):
            out[-1] = (Chunk(out[-1][0].octets + event.octets), None)
        else:
            if isinstance(event, EndOfData) and event.fault and isinstance(out[-1][0], Chunk):
                del out[-1]  # how much of a refused message was given out is nobody's business
            out.append((event, reply))
    return out


def session(chunks: list[bytes]) -> tuple[list[tuple[Event, Reply | None]], State]:
    conn = ServerConnection("mx.one.example")
    seen = []
    for chunk in chunks:
        seen += drive(conn, chunk)
    return joined(seen), conn.state


def codes(octets: bytes, conn: ServerConnection | None = None) -> list[int]:
    conn = conn or ServerConnection("mx.one.example")
    return [reply.code for _, reply in drive(conn, octets) if reply is not None]


DIALOG = (
    b"EHLO client.example\r\n"
    b"MAIL FROM:<a@b.example> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=x+2By\r\n"
    b"RCPT TO:<c@one.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@one.example\r\n"
    b"RCPT TO:<d@one.example>\r\n"
    b"DATA\r\n"
    b"Subject: x\r\n\r\n..dots\r\n...\r\nend\r\n.\r\n"
    b"NOOP\r\nbogus\r\nMAIL FROM:<>\r\nRSET\r\nAUTH PLAIN\r\nAGEAYg==\r\n"
    b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@one.example>\r\nDATA\r\nbare \n here\r\n.\r\n"
    b"MAIL FROM:<a@b.example>\r\nDATA\r\nVRFY x\r\nEXPN y\r\nHELP\r\nQUIT\r\nNOOP\r\n"
)


@settings(max_examples=150)
@given(st.lists(st.integers(0, len(DIALOG)), max_size=20).map(sorted))
def test_packet_borders_change_nothing(places: list[int]) -> None:
    edges = [0, *places, len(DIALOG)]
    chunks = [DIALOG[a:b] for a, b in itertools.pairwise(edges)]
    assert session(chunks) == session([DIALOG])


def test_one_octet_at_a_time() -> None:
    assert session([DIALOG[at : at + 1] for at in range(len(DIALOG))]) == session([DIALOG])


def test_the_whole_dialog() -> None:
    seen, state = session([DIALOG])
    assert state is State.CLOSED
    assert [reply.code for _, reply in seen if reply] == [
        250, 250, 250, 250, 354, 250, 250, 500, 250, 250, 334, 235,
        250, 250, 354, 250, 250, 554, 250, 250, 250, 221,
    ]  # fmt: skip
    mail = next(event for event, _ in seen if isinstance(event, Mail))
    assert (mail.size, mail.ret, mail.envid) == (100, "HDRS", "x+2By")
    rcpt = next(event for event, _ in seen if isinstance(event, Rcpt))
    assert rcpt.recipient.notify == {"SUCCESS", "DELAY"}
    chunks = [event.octets for event, _ in seen if isinstance(event, Chunk)]
    assert chunks[0] == b"Subject: x\r\n\r\n.dots\r\n..\r\nend\r\n"
    ends = [event.fault for event, _ in seen if isinstance(event, EndOfData)]
    assert ends == [None, DataFault.BARE_LF]


# -- order -----------------------------------------------------------------------------------

REACH = {
    State.START: b"",
    State.READY: b"EHLO c.example\r\n",
    State.MAIL: b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n",
    State.RCPT: b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n",
}
LINES = {
    "Helo": b"EHLO c.example",
    "Mail": b"MAIL FROM:<x@y.example>",
    "Rcpt": b"RCPT TO:<x@y.example>",
    "Data": b"DATA",
    "Rset": b"RSET",
    "Noop": b"NOOP",
    "Vrfy": b"VRFY x",
    "Expn": b"EXPN x",
    "Help": b"HELP",
    "Quit": b"QUIT",
    "StartTLS": b"STARTTLS",
    "Auth": b"AUTH PLAIN AGEAYg==",
}


@pytest.mark.parametrize("state", REACH)
@pytest.mark.parametrize("name", LINES)
def test_every_command_in_every_state_is_answered(state: State, name: str) -> None:
    conn = ServerConnection("mx.one.example")
    drive(conn, REACH[state])
    assert conn.state is state
    ((event, reply),) = drive(conn, LINES[name] + b"\r\n")
    assert reply is not None
    legal = {(at, command.__name__): to for (at, command), to in LEGAL.items()}
    if (state, name) in legal:
        assert type(event).__name__ == name
        assert reply.code < 400
        assert conn.state is legal[state, name]
    else:
        assert isinstance(event, Malformed)
        assert reply.code in (503, 554)
        assert conn.state is state


def test_a_refused_command_moves_nothing() -> None:
    conn = ServerConnection("mx.one.example")
    drive(conn, REACH[State.READY])
    for line, state in ((b"MAIL FROM:<a@b.example>\r\n", State.READY),):
        conn.receive_data(line)
        conn.next_event()
        conn.send(Reply.of(550, "5.7.1", "no"))
        assert conn.state is state
    drive(conn, b"MAIL FROM:<a@b.example>\r\n")
    conn.receive_data(b"RCPT TO:<c@d.example>\r\n")
    conn.next_event()
    conn.send(replies.NO_SUCH_USER)
    assert conn.state is State.MAIL
    assert codes(b"DATA\r\n", conn) == [554]


def test_ehlo_ends_a_transaction_and_helo_takes_no_parameters() -> None:
    conn = ServerConnection("mx.one.example")
    drive(conn, REACH[State.RCPT])
    drive(conn, b"HELO c.example\r\n")
    assert conn.state is State.READY
    assert codes(b"MAIL FROM:<a@b.example> SIZE=1\r\n", conn) == [555]
    assert codes(b"MAIL FROM:<a@b.example>\r\n", conn) == [250]


def test_an_event_is_answered_before_the_next() -> None:
    conn = ServerConnection("mx.one.example")
    with pytest.raises(LocalProtocolError):
        conn.send(replies.OK)
    conn.receive_data(b"NOOP\r\nNOOP\r\n")
    conn.next_event()
    with pytest.raises(LocalProtocolError):
        conn.next_event()
    conn.send(replies.OK)
    conn.next_event()


def test_421_ends_the_session_in_place_of_any_answer() -> None:
    conn = ServerConnection("mx.one.example")
    conn.receive_data(b"NOOP\r\nNOOP\r\n")
    conn.next_event()
    assert conn.send(replies.DRAINING).startswith(b"421 4.3.2 ")
    assert conn.state is State.CLOSED
    assert conn.next_event() is NEED_DATA
    assert not conn.has_unread


def test_a_refused_greeting_closes() -> None:
    conn = ServerConnection("mx.one.example")
    assert conn.greet(GREETING).startswith(b"220 mx.one.example")
    assert conn.state is State.START
    conn.greet(Reply.of(554, "5.7.1", "no"))
    assert conn.state is State.CLOSED


# -- lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, 4096, 1 << 20])
def test_a_line_too_long_is_answered_once_and_the_next_is_read(size: int) -> None:
    line = b"NOOP " + b"x" * 100_000 + b"\r\n"
    octets = line + b"NOOP\r\n"
    conn = ServerConnection("mx.one.example")
    seen = []
    for at in range(0, len(octets), size):
        seen += drive(conn, octets[at : at + size])
    assert [reply.code for _, reply in seen if reply] == [500, 250]
    assert seen[0][1] is replies.LINE_TOO_LONG


def test_the_longest_line_is_read() -> None:
    longest = limits.SMTP_COMMAND_OCTETS_MAX
    line = b"NOOP " + b"x" * (longest - 7) + b"\r\n"
    assert len(line) == longest
    for size in (1, len(line)):
        conn = ServerConnection("mx.one.example")
        found = [
            code for at in range(0, longest, size) for code in codes(line[at : at + size], conn)
        ]
        assert found == [250]
    assert codes(b"NOOP " + b"x" * (longest - 6) + b"\r\n") == [500]


def test_an_endless_line_grows_nothing() -> None:
    conn = ServerConnection("mx.one.example")
    for _ in range(1000):
        assert drive(conn, b"x" * 65536) == []
        assert len(conn._buffer) <= limits.SMTP_COMMAND_OCTETS_MAX
    assert codes(b"\r\nNOOP\r\n", conn) == [500, 250]


@pytest.mark.parametrize(
    "line", [b"NOOP\nQUIT", b"NOOP\rQUIT", b"NO\x00OP", b"\nQUIT", b"QUIT\n", b"QUIT\r"]
)
def test_a_bare_cr_or_lf_never_ends_a_command_line(line: bytes) -> None:
    conn = ServerConnection("mx.one.example")
    assert drive(conn, line) == []
    assert codes(b"\r\n", conn) == [500]
    assert conn.state is State.START


def test_bad_commands_end_the_session() -> None:
    conn = ServerConnection("mx.one.example")
    found = codes(b"bogus\r\n" * (limits.SMTP_BAD_COMMANDS_MAX + 5), conn)
    assert found == [500] * limits.SMTP_BAD_COMMANDS_MAX + [421]
    assert conn.state is State.CLOSED


def test_a_session_without_mail_ends() -> None:
    conn = ServerConnection("mx.one.example")
    found = codes(b"NOOP\r\n" * (limits.SMTP_IDLE_COMMANDS_MAX + 5), conn)
    assert found == [250] * limits.SMTP_IDLE_COMMANDS_MAX + [421]


def test_a_browser_is_sent_away_at_once() -> None:
    conn = ServerConnection("mx.one.example")
    assert codes(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@b.example>\r\n", conn) == [421]
    assert conn.state is State.CLOSED


# -- STARTTLS --------------------------------------------------------------------------------


@pytest.mark.parametrize("injected", [b"R", b"RSET\r\n", b"\x16\x03\x01", b"\r\n"])
def test_octets_behind_starttls_are_never_interpreted(injected: bytes) -> None:
    conn = ServerConnection("mx.one.example")
    drive(conn, b"EHLO c.example\r\n")
    ((event, reply),) = drive(conn, b"STARTTLS\r\n" + injected)
    assert isinstance(event, Malformed)
    assert reply is replies.TLS_PIPELINED
    assert conn.state is State.CLOSED
    assert not conn.has_unread
    assert drive(conn, b"NOOP\r\n") == []


def test_everything_is_forgotten_after_the_handshake() -> None:
    conn = ServerConnection("mx.one.example")
    drive(conn, b"EHLO c.example\r\nAUTH PLAIN AGEAYg==\r\n")
    assert conn.authenticated
    drive(conn, b"STARTTLS\r\n")
    assert conn.state is State.TLS
    assert conn.next_event() is NEED_DATA
    conn.tls_started()
    assert conn.tls and not conn.authenticated
    assert codes(b"MAIL FROM:<a@b.example>\r\n", conn) == [503]
    assert codes(b"EHLO c.example\r\nSTARTTLS\r\n", conn) == [250, 503]


def test_octets_between_starttls_and_the_handshake_are_a_bug_of_the_service() -> None:
    conn = ServerConnection("mx.one.example")
    with pytest.raises(LocalProtocolError):
        conn.tls_started()
    drive(conn, b"EHLO c.example\r\nSTARTTLS\r\n")
    drive(conn, b"RSET\r\n")
    with pytest.raises(LocalProtocolError):
        conn.tls_started()


# -- AUTH ------------------------------------------------------------------------------------


def test_a_cancelled_exchange_leaves_the_session_usable() -> None:
    conn = ServerConnection("mx.one.example")
    assert codes(b"EHLO c.example\r\nAUTH PLAIN\r\n*\r\nNOOP\r\n", conn) == [250, 334, 501, 250]
    assert not conn.authenticated


def test_exchanges_without_end_end_the_session() -> None:
    """Each one asks the directory; broken off with `*` they were not counted at all."""
    conn = ServerConnection("mx.one.example")
    drive(conn, b"EHLO c.example\r\n")
    most = limits.SMTP_AUTH_EXCHANGES_MAX
    assert codes(b"AUTH PLAIN\r\n*\r\n" * (most + 2), conn) == [334, 501] * most + [421]


def test_a_second_login_is_refused() -> None:
    conn = ServerConnection("mx.one.example")
    assert codes(b"EHLO c.example\r\n" + b"AUTH PLAIN AGEAYg==\r\n" * 2, conn) == [250, 235, 503]


def test_exchange_lines_have_their_own_length() -> None:
    conn = ServerConnection("mx.one.example")
    longest = limits.SMTP_AUTH_LINE_OCTETS_MAX
    drive(conn, b"EHLO c.example\r\nAUTH PLAIN\r\n")
    ((event, _),) = drive(conn, b"A" * (longest - 2) + b"\r\n")
    assert isinstance(event, Response) and event.line is not None
    conn = ServerConnection("mx.one.example")
    drive(conn, b"EHLO c.example\r\nAUTH PLAIN\r\n")
    assert codes(b"A" * longest + b"\r\nNOOP\r\n", conn) == [500, 250]
    initial = b"AUTH PLAIN " + b"A" * (longest - 13) + b"\r\n"
    assert codes(initial, conn) == [235]


# -- DATA ------------------------------------------------------------------------------------


def test_commands_pipelined_behind_the_dot_are_read() -> None:
    octets = REACH[State.RCPT] + b"DATA\r\nx\r\n.\r\nRSET\r\nQUIT\r\n"
    assert codes(octets)[-4:] == [354, 250, 250, 221]


def test_octets_leave_as_they_come() -> None:
    conn = ServerConnection("mx.one.example")
    drive(conn, REACH[State.RCPT] + b"DATA\r\n")
    for _ in range(50):
        seen = drive(conn, b"x" * 900 + b"\r\n")
        assert len(seen) == 1 and isinstance(seen[0][0], Chunk)
        assert len(conn._buffer) == 0


def test_smtputf8_holds_for_one_transaction() -> None:
    conn = ServerConnection("mx.one.example")
    path = "RCPT TO:<jösé@one.example>\r\n".encode()
    drive(conn, b"EHLO c.example\r\nMAIL FROM:<a@b.example> SMTPUTF8\r\n")
    assert codes(path, conn) == [250]
    assert codes(b"RSET\r\nMAIL FROM:<a@b.example>\r\n", conn) == [250, 250]
    assert codes(path, conn) == [553]
    assert Rset() in [event for event, _ in drive(conn, b"RSET\r\n")]


# -- anything --------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [b"EHLO x\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n",
     b".\r\n", b"\r\n.\r\n", b"RSET\r\n", b"AUTH PLAIN\r\n", b"*\r\n", b"STARTTLS\r\n", b"x" * 5000,
     b"\r\n", b"\r", b"\n", b"\0", b"NOOP\r\n", b"QUIT\r\n", b"\xff", b"MAIL FROM:<>\r\n", b" "]
)  # fmt: skip


@settings(max_examples=200)
@given(st.lists(PIECES, max_size=30), st.integers(1, 4000))
def test_whatever_comes_is_answered_and_nothing_grows(pieces: list[bytes], size: int) -> None:
    octets = b"".join(pieces)
    conn = ServerConnection("mx.one.example")
    for at in range(0, len(octets), size):
        for event, reply in drive(conn, octets[at : at + size]):
            assert (reply is None) == isinstance(event, Chunk)
        bound = max(limits.SMTP_COMMAND_OCTETS_MAX, limits.SMTP_AUTH_LINE_OCTETS_MAX)
        assert len(conn._buffer) - conn._at <= bound or conn.state in (State.CLOSED, State.TLS)
        if conn.state is State.TLS:
            return
