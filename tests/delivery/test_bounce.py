from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from postroad.delivery.bounce import (
    ORIGINAL_OCTETS_MAX,
    Action,
    Reported,
    action_for,
    entrance,
    render_report,
    returns_whole,
)
from postroad.delivery.outcome import Deferred, Delivered, Failed, Outcome, Peer
from postroad.directory.values import Account, Forward, LocalMailbox, NotHere, Unknown
from postroad.mail.errors import StateError
from postroad.mail.ids import MessageId
from postroad.mail.reply import Reply
from postroad.queue.contract import QueuedMessage, QueuedRecipient
from postroad.queue.operations import Enqueue, Remember
from postroad.queue.schedule import DELAY_NOTICE_AFTER_S
from postroad.store.operations import Append

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ACCEPTED = int(NOW.timestamp()) - 100
PLAIN = Peer(host="mx.two.example", address="192.0.2.2")
KNOWS_DSN = Peer(host="mx.two.example", address="192.0.2.2", dsn=True)
FAILED = Failed(Reply.of(550, "5.1.1", "no such user"), PLAIN)
DEFERRED = Deferred(Reply.of(450, "4.2.0", "later"), PLAIN)
OK = Reply.of(250, "2.0.0", "taken")
ORIGINAL = b"From: a@one.example\r\nSubject: hi\r\nMessage-ID: <1@one.example>\r\n\r\nbody text\r\n"


def recipient(**more: Any) -> QueuedRecipient:
    given: dict[str, Any] = {
        "recipient": 0, "path": "bob@two.example", "domain": "two.example", "notify": (),
        "orcpt": None, "tries": 1, "next_attempt": 0, "last_attempt": 0, "last_reply": "",
        "last_remote": "", "attempting": True,
    }  # fmt: skip
    return QueuedRecipient(**{**given, **more})


def message(**more: Any) -> QueuedMessage:
    given: dict[str, Any] = {
        "message": "m1", "blob": "p1:0:1:1", "head": b"", "size": len(ORIGINAL),
        "reverse_path": "alice@one.example", "body": "7BIT", "smtputf8": False, "ret": None,
        "envid": None, "account": 7, "accepted": ACCEPTED, "expires": ACCEPTED + 86400,
        "recipients": (recipient(),),
    }  # fmt: skip
    return QueuedMessage(**{**given, **more})


NEVER, SUCCESS, FAILURE, DELAY = ("NEVER",), ("SUCCESS",), ("FAILURE",), ("DELAY",)
LATE = ACCEPTED + DELAY_NOTICE_AFTER_S + 1


@pytest.mark.parametrize(
    ("outcome", "notify", "now", "expected"),
    [
        (FAILED, (), LATE, Action.FAILED),
        (FAILED, FAILURE, LATE, Action.FAILED),
        (FAILED, NEVER, LATE, None),
        (FAILED, SUCCESS, LATE, None),
        (FAILED, DELAY, LATE, None),
        (DEFERRED, (), LATE, Action.DELAYED),
        (DEFERRED, DELAY, LATE, Action.DELAYED),
        (DEFERRED, FAILURE, LATE, None),
        (DEFERRED, NEVER, LATE, None),
        (DEFERRED, (), ACCEPTED + 60, None),
        (Delivered(OK, PLAIN), SUCCESS, LATE, Action.RELAYED),
        (Delivered(OK, KNOWS_DSN), SUCCESS, LATE, None),
        (Delivered(OK, PLAIN), (), LATE, None),
        (Delivered(OK, PLAIN), NEVER, LATE, None),
    ],
)
def test_who_is_told_what(
    outcome: Outcome, notify: tuple[str, ...], now: int, expected: Action | None
) -> None:
    item = recipient(notify=notify)
    assert action_for(message(), item, outcome, now) is expected
    assert action_for(message(reverse_path=""), item, outcome, now) is None


@pytest.mark.parametrize(
    ("action", "ret", "size", "whole"),
    [
        (Action.FAILED, None, 10, True),
        (Action.FAILED, None, ORIGINAL_OCTETS_MAX + 1, False),
        (Action.FAILED, "FULL", ORIGINAL_OCTETS_MAX + 1, True),
        (Action.FAILED, "HDRS", 10, False),
        (Action.DELAYED, "FULL", 10, False),
        (Action.RELAYED, "FULL", 10, False),
    ],
)
def test_how_much_comes_back(action: Action, ret: str | None, size: int, whole: bool) -> None:
    reported = [Reported(recipient(), FAILED, action)]
    assert returns_whole(message(ret=ret, size=size), reported) is whole


def render(*reported: Reported, **more: Any) -> tuple[bytes, str]:
    octets = render_report(
        message(**more),
        reported,
        ORIGINAL,
        hostname="mx.one.example",
        report=MessageId("r1"),
        boundary="=_b",
        now=NOW,
    )
    parsed = email.message_from_bytes(octets, policy=email.policy.default)
    assert parsed.get_content_type() == "multipart/report"
    (status,) = [p for p in parsed.walk() if p.get_content_type() == "message/delivery-status"]
    return octets, status.as_string()


def test_a_report_of_several() -> None:
    octets, status = render(
        Reported(recipient(orcpt="rfc822;b+2B@x"), FAILED, Action.FAILED),
        Reported(recipient(path="c@two.example"), DEFERRED, Action.DELAYED),
        envid="a+2Bb",
        ret="HDRS",
    )
    assert "Original-Envelope-Id: a+b" in status
    assert "Original-Recipient: rfc822; b+@x" in status
    assert "Remote-MTA: dns; mx.two.example" in status
    assert status.index("Action: failed") < status.index("Action: delayed")
    assert status.count("Will-Retry-Until:") == 1
    assert b"Message-ID: <r1@mx.one.example>" in octets
    assert b"Subject: hi" in octets and b"body text" not in octets


def test_our_own_words_are_not_put_into_a_servers_mouth() -> None:
    outcome = Failed(Reply.of(556, "5.1.10", "The domain two.example accepts no mail (null MX)"))
    octets, status = render(Reported(recipient(), outcome, Action.FAILED))
    assert "Status: 5.1.10" in status
    assert "Remote-MTA" not in status
    assert "Diagnostic-Code: x-postroad; 556 5.1.10" in status
    assert b"null MX" in octets and b"We found:" in octets
    assert b"said:" not in octets and b"smtp;" not in octets


def test_our_words_about_a_peer_are_ours_although_it_is_named() -> None:
    outcome = Failed(Reply.of(552, "5.3.4", "The message has 9 octets, the peer takes 8"), PLAIN)
    assert "Diagnostic-Code: smtp;" in render(Reported(recipient(), outcome, Action.FAILED))[1]
    octets, status = render(Reported(recipient(), replace(outcome, ours=True), Action.FAILED))
    assert "Remote-MTA: dns; mx.two.example" in status
    assert "Diagnostic-Code: x-postroad;" in status and b"said:" not in octets


@pytest.mark.parametrize("peer", [PLAIN, None])
def test_expiry_says_for_how_long_it_was_tried(peer: Peer | None) -> None:
    text = Reply.of(554, "5.4.7", "Given up: not delivered in time")
    outcome = Failed(text, peer, last=Reply.of(451, "4.4.1", "Dialling took too long"))
    five_days_ago = int(NOW.timestamp()) - 5 * 86400
    octets, status = render(Reported(recipient(), outcome, Action.FAILED), accepted=five_days_ago)
    assert "Status: 5.4.7" in status and "451 4.4.1 Dialling took too long" in status
    assert b"could not be delivered for 5 days" in octets
    assert (b"mx.two.example said:" in octets) is (peer is not None)


def test_a_peers_word_of_expiry_is_not_told_as_ours() -> None:
    outcome = Failed(Reply.of(554, "5.4.7", "expired here"), PLAIN)
    octets, _ = render(Reported(recipient(), outcome, Action.FAILED))
    assert b"0 days" not in octets and b"gave up" in octets


def test_a_status_that_does_not_fit_the_action_is_replaced() -> None:
    outcome = Failed(Reply(550, None, ("no",)), PLAIN)
    assert "Status: 5.0.0" in render(Reported(recipient(), outcome, Action.FAILED))[1]
    delivered = Delivered(Reply(250, None, ("ok",)), PLAIN)
    assert "Status: 2.0.0" in render(Reported(recipient(), delivered, Action.RELAYED))[1]


def test_subject_and_detail_stay_when_only_the_class_does_not_fit() -> None:
    outcome = Failed(Reply.of(452, "4.2.2", "full"), PLAIN)
    assert "Status: 5.2.2" in render(Reported(recipient(), outcome, Action.FAILED))[1]
    later = Deferred(Reply.of(550, "5.7.1", "no"), PLAIN)
    assert "Status: 4.7.1" in render(Reported(recipient(), later, Action.DELAYED))[1]


class Directory:
    def __init__(self, resolution: Any) -> None:
        self.resolution = resolution

    def resolve(self, address: Any) -> Any:
        return self.resolution


def enter(resolution: Any, octets: bytes = ORIGINAL) -> list[Any]:
    return entrance(
        message(),
        octets,
        "p1:0:1:1",
        Directory(resolution),  # type: ignore[arg-type]  # only resolve is asked
        report=MessageId("r1"),
        now=NOW,
        records=((1.0, b"{}"),),
        lifetime_s=86400,
    )


def test_a_local_sender_gets_it_at_once() -> None:
    account = Account(account=7, address="alice@one.example", name="", created=0)
    append, remember = enter((LocalMailbox(account, None),))  # type: ignore[arg-type]
    assert isinstance(append, Append) and append.account == 7 and append.delivery_id == "r1"
    assert append.content.head == b"Return-Path: <>\r\n"
    assert append.content.size == len(ORIGINAL) + len(append.content.head)
    assert isinstance(remember, Remember) and remember.message == "r1"


@pytest.mark.parametrize("octets", [ORIGINAL, ORIGINAL + b"\xc3\xa4\r\n"])
def test_a_remote_sender_gets_it_by_the_queue(octets: bytes) -> None:
    enqueue, _ = enter(NotHere(), octets)
    assert isinstance(enqueue, Enqueue)
    assert enqueue.reverse_path == "" and enqueue.account == 0
    assert enqueue.recipients[0].notify == ("NEVER",)
    assert enqueue.expires == int(NOW.timestamp()) + 86400
    assert enqueue.body == ("7BIT" if octets.isascii() else "8BITMIME")


def test_a_forwarded_sender_and_one_who_is_gone() -> None:
    from postroad.mail.address import Address

    enqueue, _ = enter((Forward(Address("alice", "far.example")),))
    assert enqueue.recipients[0].path == "alice@far.example"
    with pytest.raises(StateError):
        enter(Unknown())
