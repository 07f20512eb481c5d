"""What commands mean: fetch, search, list, store and the parameters of others."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.mail.errors import ProtocolError
from postroad.mail.flags import Flag
from postroad.protocol.imap import commands, lists, mailboxes, messages
from postroad.protocol.imap.fetch import Fetch, Section, Text
from postroad.protocol.imap.lists import NamePattern
from postroad.protocol.imap.sequence import SequenceSet
from postroad.protocol.imap.server import Bad, Event, ServerConnection, State


def parse(text: bytes, state: State = State.SELECTED) -> Event:
    core = ServerConnection()
    core.state = state
    core.receive_data(b"t " + text + b"\r\n")
    return core.next_event()


def bad(text: bytes, state: State = State.SELECTED) -> str:
    event = parse(text, state)
    assert isinstance(event, Bad), event
    return event.text


# -- FETCH ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "label", "path", "what", "fields", "partial", "peek"),
    [
        (b"BODY[]", b"BODY[]", (), Text.ALL, (), (-1, -1), False),
        (b"body.peek[text]<3.9>", b"BODY[TEXT]<3>", (), Text.TEXT, (), (3, 9), True),
        (b"BODY[1.2.MIME]", b"BODY[1.2.MIME]", (1, 2), Text.MIME, (), (-1, -1), False),
        (b"BODY[4]<0.1>", b"BODY[4]<0>", (4,), Text.ALL, (), (0, 1), False),
        (
            b'BODY.PEEK[HEADER.FIELDS (From "To")]',
            b'BODY[HEADER.FIELDS (From "To")]',
            (), Text.FIELDS, (b"from", b"to"), (-1, -1), True,
        ),
        (  # a client's literal in a response would shift all that follows
            b"BODY[HEADER.FIELDS ({4+}\r\nFrom {3+}\r\na b)]",
            b'BODY[HEADER.FIELDS (From "a b")]',
            (), Text.FIELDS, (b"from", b"a b"), (-1, -1), False,
        ),
        (
            b"BODY[3.HEADER.FIELDS.NOT (Received)]",
            b"BODY[3.HEADER.FIELDS.NOT (Received)]",
            (3,), Text.FIELDS_NOT, (b"received",), (-1, -1), False,
        ),
        (b"RFC822", b"RFC822", (), Text.ALL, (), (-1, -1), False),
        (b"RFC822.HEADER", b"RFC822.HEADER", (), Text.HEADER, (), (-1, -1), True),
        (b"RFC822.TEXT", b"RFC822.TEXT", (), Text.TEXT, (), (-1, -1), False),
    ],
)  # fmt: skip
def test_sections(text, label, path, what, fields, partial, peek) -> None:  # type: ignore[no-untyped-def]
    fetch = parse(b"FETCH 1 " + text)
    assert isinstance(fetch, Fetch), fetch
    assert fetch.sections == (Section(label, path, what, fields, *partial, peek),)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (b"FETCH 1 ALL", "FLAGS INTERNALDATE RFC822_SIZE ENVELOPE"),
        (b"FETCH 1 fast", "FLAGS INTERNALDATE RFC822_SIZE"),
        (b"FETCH 1 FULL", "FLAGS INTERNALDATE RFC822_SIZE ENVELOPE BODY"),
        (b"UID FETCH 1 FLAGS", "UID FLAGS"),
        (b"FETCH 1 (FLAGS FLAGS UID)", "UID FLAGS"),
        (b"FETCH 1 FLAGS (CHANGEDSINCE 5)", "FLAGS MODSEQ"),
        (b"FETCH 1 (BODY BODYSTRUCTURE)", "BODY BODYSTRUCTURE"),
    ],
)
def test_fetch_items(text: bytes, items: str) -> None:
    fetch = parse(text)
    assert isinstance(fetch, Fetch), fetch
    assert {item.name for item in fetch.items} == set(items.split())


@pytest.mark.parametrize(
    "text",
    [
        b"FETCH", b"FETCH 1", b"FETCH 1 ()", b"FETCH 1 BOGUS", b"FETCH 1 (ALL)", b"FETCH 0 FLAGS",
        b"FETCH 1 BODY[", b"FETCH 1 BODY[MIME]", b"FETCH 1 BODY[0]", b"FETCH 1 BODY[1.]",
        b"FETCH 1 BODY[]<1.0>", b"FETCH 1 BODY[]<1>", b"FETCH 1 BODY[HEADER.FIELDS ()]",
        b"FETCH 1 FLAGS (CHANGEDSINCE x)", b"FETCH 1 FLAGS (VANISHED)", b"FETCH 1  FLAGS",
        b"FETCH 1 (FLAGS", b"FETCH 1 (FLAGS  UID)", b"FETCH 1 BODY[1.BOGUS]",
    ],
)  # fmt: skip
def test_fetches_that_are_none(text: bytes) -> None:
    assert bad(text)


# -- LIST -------------------------------------------------------------------------------------


def _by_regex(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "%": "[^/]*"}
    return re.compile("".join(parts.get(c, re.escape(c)) for c in pattern), re.DOTALL)


@given(st.text("ab/*%", max_size=8), st.text("ab/", max_size=10))
def test_patterns_match_as_a_regular_expression_would(pattern: str, name: str) -> None:
    expected = _by_regex(pattern).fullmatch(name) is not None
    assert NamePattern("", pattern).matches(name) is expected


def test_inbox_matches_in_any_case() -> None:
    assert NamePattern("", "inbox").matches("INBOX")
    assert NamePattern("inb", "ox/%").matches("INBOX/x")
    assert NamePattern("", "inb%").matches("INBOX")
    assert not NamePattern("", "inbox/a").matches("INBOX/A")
    assert not NamePattern("", "inboxes").matches("INBOXES")


def test_a_hostile_pattern_is_cheap() -> None:
    assert not NamePattern("", "*a" * 250 + "b").matches("a" * 500)


def test_extended_list() -> None:
    event = parse(
        b'LIST (SUBSCRIBED RECURSIVEMATCH) "" (% "INBOX*")'
        b" RETURN (CHILDREN SPECIAL-USE STATUS (MESSAGES UNSEEN))"
    )
    assert event == lists.List(
        b"t", "", ("%", "INBOX*"),
        frozenset((b"SUBSCRIBED", b"RECURSIVEMATCH")), frozenset((b"CHILDREN", b"SPECIAL-USE")),
        (b"MESSAGES", b"UNSEEN"), True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        b"LIST", b'LIST ""', b'LIST (RECURSIVEMATCH) "" *', b'LIST (BOGUS) "" *', b'LIST "" () ',
        b'LIST "" * RETURN', b'LIST "" * RETURN (BOGUS)', b'LIST "" * RETURN (STATUS)',
        b'LIST "" &', b'LSUB "" ', b'LIST "" * RETURN (STATUS ())',
    ],
)  # fmt: skip
def test_lists_that_are_none(text: bytes) -> None:
    assert bad(text)


# -- others -----------------------------------------------------------------------------------


def test_store() -> None:
    event = parse(b"UID STORE 1:3 (UNCHANGEDSINCE 12121230956) -FLAGS.SILENT (\\Deleted x)")
    assert event == messages.Store(
        b"t", True, SequenceSet(((1, 3),)), messages.StoreMode.REMOVE, True, Flag.DELETED, (b"x",),
        12121230956,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        b"STORE 1 FLAGS", b"STORE 1 BOGUS (\\Seen)", b"STORE 1 FLAGS (\\Recent)", b"MOVE 1",
        b"STORE 1 (UNCHANGEDSINCE) FLAGS ()", b"COPY x y", b"CREATE", b"RENAME x", b"STATUS x ()",
        b"STATUS x (BOGUS)", b"SELECT x (BOGUS)", b"CREATE x (USE (\\Sent)", b"ENABLE", b"ID",
        b"ID (a b)", b'ID ("a")', b"UID NOOP", b"UID EXPUNGE", b"EXPUNGE 1", b"NOOP x", b"UID",
        b"DELETE &x", b"NOOP\tx",
    ],
)  # fmt: skip
def test_commands_that_are_none(text: bytes) -> None:
    assert bad(text)


def test_parameters() -> None:
    assert parse(b"SELECT x (CONDSTORE)") == mailboxes.Select(b"t", "x", False, True)
    assert parse(b"CREATE x (USE (\\Sent))") == mailboxes.Create(b"t", "x", (b"\\Sent",))
    assert parse(b"STATUS x (UNSEEN MESSAGES)") == mailboxes.Status(
        b"t", "x", (b"UNSEEN", b"MESSAGES")
    )
    assert parse(b"ID NIL") == commands.Id(b"t", ())
    assert parse(b'ID ("name" "x" "os" NIL)') == commands.Id(b"t", ((b"name", b"x"), (b"os", None)))
    assert parse(b"UID EXPUNGE 3:5") == commands.Expunge(b"t", SequenceSet(((3, 5),)))


@pytest.mark.parametrize(
    ("text", "initial"),
    [
        (b"AUTHENTICATE PLAIN", None),
        (b"AUTHENTICATE plain =", b""),
        (b"AUTHENTICATE PLAIN AGEAYg==", b"\0a\0b"),
    ],
)
def test_authenticate(text: bytes, initial: bytes | None) -> None:
    event = parse(text, State.NOT_AUTHENTICATED)
    assert event == commands.Authenticate(b"t", "PLAIN", initial)


@pytest.mark.parametrize("text", [b"AUTHENTICATE", b"AUTHENTICATE PLAIN %", b"AUTHENTICATE PLAIN "])
def test_authenticates_that_are_none(text: bytes) -> None:
    assert bad(text, State.NOT_AUTHENTICATED)


def test_a_sasl_response_has_a_bound() -> None:
    with pytest.raises(ProtocolError):
        commands.decode_base64(b"A" * 20000)
