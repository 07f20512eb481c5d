"""NOTIFY (RFC 5465 §3.1, §5, §6, §8)."""

from __future__ import annotations

import pytest

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.fetch import Item
from postroad.protocol.imap.notify import Group, Notify, UnknownEvent, Wanted, Whose, parse_notify
from postroad.protocol.imap.scanner import Scanner

NEW = {Wanted.MESSAGE_NEW, Wanted.MESSAGE_EXPUNGE}


def parse(text: bytes) -> Notify:
    return parse_notify(b"a", Scanner(b" " + text + b"\r\n"), False)


def test_none() -> None:
    assert parse(b"NONE") == Notify(b"a", (), False)


def test_groups() -> None:
    found = parse(
        b"set Status (selected-delayed (MessageNew (uid body.peek[header.fields (from)])"
        b' MESSAGEEXPUNGE flagchange)) (mailboxes (a {1+}\r\nb "inbox") (MailboxName'
        b" SubscriptionChange)) (subtree Lists NONE) (personal (MailboxMetadataChange))"
        b" (subscribed (MessageNew MessageExpunge)) (inboxes (ServerMetadataChange))"
    )
    assert found.status
    first, second, *rest = found.groups
    assert first.whose is Whose.SELECTED_DELAYED
    assert first.events == NEW | {Wanted.FLAG_CHANGE}
    assert first.new is not None
    assert first.new[0] == (Item.UID,)
    assert first.new[1][0].fields == (b"from",)
    assert second == Group(
        Whose.MAILBOXES,
        ("a", "b", "INBOX"),
        frozenset((Wanted.MAILBOX_NAME, Wanted.SUBSCRIPTION_CHANGE)),
    )
    assert [group.whose for group in rest] == [
        Whose.SUBTREE, Whose.PERSONAL, Whose.SUBSCRIBED, Whose.INBOXES,
    ]  # fmt: skip
    assert rest[0].events == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        b"", b"NONE x", b"SET", b"SET ()", b"SET STATUS", b"ALL", b"SET (everybody (MessageNew))",
        # MessageNew and MessageExpunge go together; FlagChange needs both (RFC 5465 §5)
        b"SET (personal (MessageNew))", b"SET (personal (MessageExpunge))",
        b"SET (personal (FlagChange))", b"SET (personal (FlagChange MessageNew))",
        # only events of messages (§6.1)
        b"SET (selected (MailboxName))",
        b"SET (selected-delayed (MessageNew MessageExpunge SubscriptionChange))",
        # one of the two (§6.1)
        b"SET (selected NONE) (selected-delayed NONE)",
        # attributes only of the selected mailbox (§8)
        b"SET (personal (MessageNew (UID) MessageExpunge))",
        b"SET (selected (MessageNew (NOTHING) MessageExpunge))",
        b"SET (mailboxes (MessageNew MessageExpunge))", b"SET (mailboxes x)",
        b"SET (selected MessageNew)", b"SET (selected ())", b"SET (selected NONE",
        b"SET" + b" (personal NONE)" * 101,
    ],
)  # fmt: skip
def test_what_is_bad(text: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(text)
    assert not isinstance(caught.value, UnknownEvent)


@pytest.mark.parametrize(
    "text",
    [
        b"SET (selected (MessageNew MessageExpunge AnnotationChange))",
        b"SET (personal (AnnotationChange))", b"SET (personal (X-Tomorrow MailboxName))",
    ],
)  # fmt: skip
def test_events_that_are_not_known_are_no_fault(text: bytes) -> None:
    """NO, and the known ones are listed (RFC 5465 §3.1)."""
    with pytest.raises(UnknownEvent) as caught:
        parse(text)
    assert caught.value.no
    assert caught.value.code == (
        b"BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange"
        b" MailboxMetadataChange ServerMetadataChange)"
    )
