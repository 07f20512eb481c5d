"""Command borders, literals, order (RFC 3501 §2.2, §3, §4.3; RFC 7888)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.mail import limits
from postroad.mail.errors import LocalProtocolError
from postroad.protocol.imap import commands, server
from postroad.protocol.imap.fetch import Fetch
from postroad.protocol.imap.server import (
    LEGAL,
    NEED_DATA,
    WITH_UID,
    AppendData,
    AppendEnd,
    Bad,
    Continue,
    Event,
    LiteralPart,
    ServerConnection,
    State,
)


def events(chunks: list[bytes], state: State = State.SELECTED) -> list[Event]:
    """Everything the core says; literals of APPENDs are accepted, their data joined."""
    core = ServerConnection()
    core.state = state
    out: list[Event] = []
    for chunk in chunks:
        core.receive_data(chunk)
        while (event := core.next_event()) is not NEED_DATA:
            if isinstance(event, AppendData) and out and isinstance(out[-1], AppendData):
                out[-1] = AppendData(out[-1].octets + event.octets)
            else:
                out.append(event)
            if isinstance(event, LiteralPart):
                core.accept_literal()
    return out


DIALOG = (
    b"a1 NOOP\r\n"
    b'a2 SELECT "in\\"box"\r\n'
    b"a3 RENAME {5+}\r\na {3} {3}\r\nnew\r\n"
    b"a4 APPEND {5+}\r\nINBOX (\\Seen) {12+}\r\nfirst\r\nline\r\r\n"
    b"a5 FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (From {2+}\r\nTo)])\r\n"
    b"a6 BOGUS {5+}\r\nx\r\ny\n tail\r\n"
    b"\r\n"
    b"a7 UID SEARCH HEADER {7+}\r\nsubject {1}\r\nx\r\n"
    b"a8 LOGIN a\nb\r\n"
    b"a9 CHECK\r\n"
)


@settings(max_examples=150)
@given(st.lists(st.integers(0, len(DIALOG)), max_size=12).map(sorted))
def test_packet_borders_change_nothing(cuts: list[int]) -> None:
    places = [0, *cuts, len(DIALOG)]
    chunks = [DIALOG[low:high] for low, high in itertools.pairwise(places)]
    assert events(chunks) == events([DIALOG])


def test_octet_by_octet_is_the_same() -> None:
    assert events([DIALOG[at : at + 1] for at in range(len(DIALOG))]) == events([DIALOG])


def test_the_dialog_means_what_it_says() -> None:
    found = events([DIALOG])
    kinds = [type(event).__name__ for event in found]
    assert kinds == [
        "Noop", "Select", "Continue", "Rename", "Append", "MessageBegins", "LiteralPart",
        "AppendData", "AppendEnd", "Fetch", "Bad", "Bad", "Continue", "Search", "Bad", "Bad",
        "Check",
    ]  # fmt: skip
    assert found[7:9] == [AppendData(b"first\r\nline\r"), AppendEnd()]


def test_one_bad_command_costs_one_bad() -> None:
    found = events([b"x FETCH\r\ny NOOP\r\n* z\r\nz NOOP\r\n"])
    assert [getattr(event, "tag", None) for event in found] == [b"x", b"y", b"*", b"z"]
    assert isinstance(found[0], Bad)
    assert isinstance(found[2], Bad)


# -- literals ---------------------------------------------------------------------------------


def test_a_synchronizing_literal_is_asked_for() -> None:
    core = ServerConnection()
    core.receive_data(b"a LOGIN {3}\r\n")
    assert core.next_event() == Continue()
    assert core.next_event() is NEED_DATA
    core.receive_data(b"ann {2}\r\n")
    assert core.next_event() == Continue()
    core.receive_data(b"pw\r\n")
    login = core.next_event()
    assert isinstance(login, commands.Login)
    assert (login.user, login.password.reveal()) == (b"ann", b"pw")


def test_a_synchronizing_literal_that_is_too_long_is_not_asked_for() -> None:
    [bad, noop] = events(
        [b"a SEARCH BODY {%d}\r\nb NOOP\r\n" % (limits.IMAP_LITERAL_OCTETS_MAX + 1)]
    )
    assert isinstance(bad, Bad)
    assert (bad.tag, bad.code, bad.no) == (b"a", b"TOOBIG", True)
    assert noop == commands.Noop(b"b")


def test_a_non_synchronizing_literal_that_is_too_long_is_dropped() -> None:
    size = limits.IMAP_LITERAL_OCTETS_MAX + 1
    literal = b"c LOGOUT\r\n" * (size // 10 + 1)
    core = ServerConnection()
    core.state = State.SELECTED
    core.receive_data(b"a SEARCH BODY {%d+}\r\n" % size)
    for at in range(0, size, 1000):
        assert core.next_event() is NEED_DATA
        core.receive_data(literal[at : min(at + 1000, size)])
    core.receive_data(b" TEXT {4+}\r\nabcd\r\nb NOOP\r\n")
    bad = core.next_event()
    assert isinstance(bad, Bad)
    assert bad.tag == b"a"
    assert core.next_event() == commands.Noop(b"b")


def test_the_sum_of_literals_is_bounded() -> None:
    piece = b"{60000+}\r\n" + b"x" * 60000
    [bad, noop] = events([b"a SEARCH BODY " + piece + b" BODY " + piece + b"\r\nb NOOP\r\n"])
    assert isinstance(bad, Bad)
    assert noop == commands.Noop(b"b")


def test_a_literal_of_absurd_length_ends_the_session() -> None:
    [bad] = events([b"a SEARCH BODY {99999999999+}\r\n"])
    assert isinstance(bad, Bad)
    assert bad.fatal


def test_before_login_literals_and_lines_are_small() -> None:
    [bad] = events([b"a LOGIN {5000}\r\n"], State.NOT_AUTHENTICATED)
    assert isinstance(bad, Bad)
    core = ServerConnection()
    core.receive_data(b"a LOGIN x " + b"y" * server.PREAUTH_LINE_OCTETS_MAX)
    assert core.next_event() is NEED_DATA
    core.receive_data(b"y" * 100 + b"\r\nb NOOP\r\n")
    first = core.next_event()
    assert isinstance(first, Bad)
    assert first.tag == b"a"
    assert core.next_event() == commands.Noop(b"b")


def test_a_line_that_is_too_long_costs_one_bad_and_no_memory() -> None:
    core = ServerConnection()
    core.state = State.SELECTED
    core.receive_data(b"a FETCH ")
    for _ in range(100):
        core.receive_data(b"1," * 5000)
        assert core.next_event() is NEED_DATA
        assert len(core._buffer) <= limits.IMAP_LINE_OCTETS_MAX + 20_000
    core.receive_data(b"1 FLAGS\r\nb NOOP\r\n")
    bad = core.next_event()
    assert isinstance(bad, Bad)
    assert (bad.tag, bad.code) == (b"a", b"TOOBIG")
    assert core.next_event() == commands.Noop(b"b")


def test_a_line_that_is_too_long_may_announce_a_literal() -> None:
    text = b"a FETCH " + b"1," * 40000 + b"{10+}\r\nb NOOP\r\n\r\n\r\nc NOOP\r\n"
    [bad, noop] = events([text])
    assert isinstance(bad, Bad)
    assert noop == commands.Noop(b"c")


def test_a_bare_line_feed_is_answered() -> None:
    [bad, noop] = events([b"a NOOP\nb NOOP\r\n"])
    assert bad == Bad(b"a", "Lines end in CRLF")
    assert noop == commands.Noop(b"b")


def test_a_literal_behind_a_bare_line_feed_is_not_believed() -> None:
    """Two that disagree on where a literal begins would read different commands."""
    [bad, *_] = events([b"a LOGIN {8+}\nb NOOP\r\n"])
    assert isinstance(bad, Bad)
    assert bad.fatal


def test_the_buffer_goes_when_it_is_empty() -> None:
    core = ServerConnection()
    core.state = State.SELECTED
    core.receive_data(b"a SEARCH BODY {60000+}\r\n" + b"x" * 60000 + b"\r\n")
    core.next_event()
    assert core.next_event() is NEED_DATA
    assert core._buffer.__alloc__() <= 1
    assert core.is_between_commands


# -- order ------------------------------------------------------------------------------------

EXAMPLES = {
    b"ID": b"ID NIL", b"LOGIN": b"LOGIN a b", b"AUTHENTICATE": b"AUTHENTICATE PLAIN",
    b"ENABLE": b"ENABLE CONDSTORE", b"SELECT": b"SELECT x", b"EXAMINE": b"EXAMINE x",
    b"CREATE": b"CREATE x", b"DELETE": b"DELETE x", b"RENAME": b"RENAME x y",
    b"SUBSCRIBE": b"SUBSCRIBE x", b"UNSUBSCRIBE": b"UNSUBSCRIBE x",
    b"STATUS": b"STATUS x (MESSAGES)", b"LIST": b'LIST "" *', b"LSUB": b'LSUB "" *',
    b"SEARCH": b"SEARCH ALL", b"FETCH": b"FETCH 1 FLAGS", b"STORE": b"STORE 1 FLAGS ()",
    b"COPY": b"COPY 1 x", b"MOVE": b"MOVE 1 x", b"COMPRESS": b"COMPRESS DEFLATE",
    b"NOTIFY": b"NOTIFY SET (selected NONE)", b"SETACL": b"SETACL x bob r",
    b"DELETEACL": b"DELETEACL x bob", b"GETACL": b"GETACL x",
    b"LISTRIGHTS": b"LISTRIGHTS x bob", b"MYRIGHTS": b"MYRIGHTS x",
    b"GETMETADATA": b"GETMETADATA x /private/comment",
    b"SETMETADATA": b"SETMETADATA x (/private/comment NIL)", b"GETQUOTA": b'GETQUOTA ""',
    b"GETQUOTAROOT": b"GETQUOTAROOT x", b"SETQUOTA": b'SETQUOTA "" (STORAGE 1)',
    b"GENURLAUTH": b'GENURLAUTH "imap://x/y/;uid=1;urlauth=anonymous" INTERNAL',
    b"URLFETCH": b'URLFETCH "imap://x/y"', b"ESEARCH": b"ESEARCH ALL",
    b"SORT": b"SORT (DATE) UTF-8 ALL", b"THREAD": b"THREAD REFERENCES UTF-8 ALL",
    b"CANCELUPDATE": b'CANCELUPDATE "a"',
}  # fmt: skip


def test_uid_goes_before_what_it_may() -> None:
    for verb in sorted(LEGAL):
        [event] = events([b"a UID " + EXAMPLES.get(verb, verb) + b"\r\n"])
        if verb not in WITH_UID:
            assert isinstance(event, Bad), verb
        elif verb != b"EXPUNGE":
            assert isinstance(event, commands.Command), event
            assert getattr(event, "uid", True), event


def test_after_uidonly_numbers_are_refused() -> None:
    """RFC 9586 §3: tagged BAD, with UIDREQUIRED."""
    for verb in sorted(WITH_UID & set(LEGAL)):
        core = ServerConnection()
        core.state = State.SELECTED
        core.enabled.add(b"UIDONLY")
        core.receive_data(b"a " + EXAMPLES.get(verb, verb) + b"\r\n")
        event = core.next_event()
        if verb == b"EXPUNGE":
            assert isinstance(event, commands.Expunge)
        else:
            assert isinstance(event, Bad)
            assert (event.code, event.no) == (b"UIDREQUIRED", False)


@pytest.mark.parametrize("state", [State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED])
@pytest.mark.parametrize("verb", sorted(LEGAL))
def test_every_state_and_command_is_answered(state: State, verb: bytes) -> None:
    [event] = events([b"a " + EXAMPLES.get(verb, verb) + b"\r\n"], state)
    if state in LEGAL[verb][0]:
        assert isinstance(event, commands.Command), event
    else:
        assert isinstance(event, Bad)
        assert state.value in event.text


def test_append_before_login_is_not_possible() -> None:
    found = events([b"a APPEND x {2+}\r\nab\r\nb NOOP\r\n"], State.NOT_AUTHENTICATED)
    assert [type(event) for event in found] == [Bad, commands.Noop]


# -- hostile octets ---------------------------------------------------------------------------

_hostile = st.lists(
    st.sampled_from(
        [b"a ", b"FETCH ", b"UID ", b"SEARCH ", b"(", b")", b'"', b"\\", b"{3}\r\n", b"{3+}\r\n",
         b"\r\n", b"\n", b"\r", b"BODY[", b"]", b"<0.1>", b"HEADER.FIELDS", b"1:*", b"*", b"NOT ",
         b"OR ", b" ", b"APPEND x ", b"LIST ", b"STORE ", b"+FLAGS ", b"\\Seen", b"\0", b"\xff",
         b"{", b"}", b"%", b"99999999999999999999", b"RETURN (", b"CHARSET ", b"ID ("]
    )
    | st.binary(max_size=6),
    max_size=40,
).map(b"".join)  # fmt: skip


@settings(max_examples=400)
@given(_hostile, st.sampled_from([State.NOT_AUTHENTICATED, State.SELECTED]))
def test_hostile_octets_are_always_answered(octets: bytes, state: State) -> None:
    """Whatever came, the next good command is understood once the line has ended."""
    found = events([octets], state)
    assert all(not isinstance(event, Exception) for event in found)
    lines = octets.count(b"\n")
    assert len([event for event in found if isinstance(event, Bad)]) <= lines


def test_deep_nesting_is_bounded() -> None:
    deep = b"(" * 60 + b"ALL" + b")" * 60
    [bad] = events([b"a SEARCH " + deep + b"\r\n"])
    assert isinstance(bad, Bad)
    [bad] = events([b"a SEARCH " + b"NOT " * 60 + b"ALL\r\n"])
    assert isinstance(bad, Bad)
    [good] = events([b"a SEARCH " + b"(" * 40 + b"ALL" + b")" * 40 + b"\r\n"])
    assert not isinstance(good, Bad)


def test_many_keys_are_bounded() -> None:
    [bad] = events([b"a SEARCH " + b"SEEN " * 5000 + b"ALL\r\n"])
    assert isinstance(bad, Bad)


def test_fetch_of_a_scattered_set_is_understood() -> None:
    numbers = b",".join(b"%d" % number for number in range(1, 16000, 2))
    [fetch] = events([b"a UID FETCH " + numbers + b" FLAGS\r\n"])
    assert isinstance(fetch, Fetch)
    assert len(fetch.messages.ranges) == 8000


# -- STARTTLS ---------------------------------------------------------------------------------


def test_what_is_pipelined_behind_starttls_is_seen() -> None:
    core = ServerConnection()
    core.receive_data(b"a STARTTLS\r\nb LOGIN x y\r\n")
    assert core.next_event() == commands.StartTLS(b"a")
    assert core.has_pending
    with pytest.raises(LocalProtocolError):
        core.forget()


def test_a_line_is_no_command() -> None:
    core = ServerConnection()
    core.receive_data(b"DONE\r\na NOOP\r\n")
    core.expect_line()
    assert core.next_event() == server.Line(b"DONE")
    assert core.next_event() == commands.Noop(b"a")


def test_a_line_that_is_too_long_is_none() -> None:
    core = ServerConnection()
    core.expect_line()
    core.receive_data(b"x" * (server.PREAUTH_LINE_OCTETS_MAX + 10))
    assert core.next_event() == server.Line(None)
    core.receive_data(b"xxx\r\na NOOP\r\n")
    assert core.next_event() == commands.Noop(b"a")


def test_many_literals_cost_little() -> None:
    """Each literal's end looks at the command's head only, not at all that came before."""
    import time

    text = b"a SEARCH" + b" BODY {1+}\r\nx" * 900
    began = time.process_time()
    [event] = events([text + b"\r\n"])
    assert not isinstance(event, Bad)
    assert time.process_time() - began < 1.0
