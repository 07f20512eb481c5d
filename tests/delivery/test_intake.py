"""The one door: what a transaction becomes."""

from __future__ import annotations

import pytest

from postroad.delivery.intake import JUNK, Arrival, destinations, local_head, operations
from postroad.directory.values import (
    Account,
    Forward,
    LocalMailbox,
    NotHere,
    Resolution,
    Unknown,
)
from postroad.mail.address import Address, parse_address
from postroad.mail.envelope import Body, Envelope, Recipient
from postroad.mail.errors import Fault, StateError
from postroad.mail.ids import MessageId
from postroad.message.summary import summarize
from postroad.queue.operations import Enqueue, Remember
from postroad.store.operations import Append
from support.sites import NOW

OCTETS = b"Subject: x\r\n\r\nbody\r\n"


def mailbox(number: int, address: str) -> LocalMailbox:
    return LocalMailbox(
        Account(account=number, address=address, name="", created=0), parse_address(address)
    )


ANN, BOB = mailbox(1, "ann@one.example"), mailbox(2, "bob@one.example")


class FakeDirectory:
    """Answers `resolve` from a table, as the contract says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.table: dict[str, Resolution] = {
            "ann@one.example": (ANN,),
            "sales@one.example": (ANN,),
            "bob@one.example": (BOB,),
            "all@one.example": (ANN, BOB, Forward(Address("x", "far.example"))),
            "away@one.example": (Forward(Address("x", "Far.example")),),
            "gone@one.example": Unknown(),
        }

    def resolve(self, address: Address) -> Resolution:
        self.asked.append(str(address))
        return self.table.get(address.key, NotHere())


def recipient(path: str, *notify: str, orcpt: str | None = None) -> Recipient:
    return Recipient(path=parse_address(path), notify=frozenset(notify), orcpt=orcpt)


def arrival(*recipients: Recipient, **changes: object) -> Arrival:
    envelope = Envelope(
        reverse_path=Address("a", "b.example"),
        recipients=recipients,
        body=Body.EIGHT_BIT,
        smtputf8=True,
        ret="HDRS",
        envid="q",
    )
    head = b"Received: x\r\n"
    values: dict[str, object] = {
        "message": MessageId("m1"),
        "envelope": envelope,
        "head": head,
        "blob": "p1:0:1:20",
        "size": len(OCTETS),
        "summary": summarize(OCTETS, local_head(envelope, head)),
        "account": 7,
        "now": NOW,
        "records": ((1.5, b"{}"),),
    } | changes
    return Arrival(**values)  # type: ignore[arg-type]  # a table of its fields


def unit(*recipients: Recipient, **changes: object) -> list[object]:
    return list(operations(arrival(*recipients, **changes), FakeDirectory()))  # type: ignore[arg-type]  # resolve is all it asks


def test_a_local_recipient_gets_return_path_on_top() -> None:
    append, remember = unit(recipient("ann@one.example"))
    assert isinstance(append, Append) and isinstance(remember, Remember)
    assert (append.account, append.mailbox, append.special_use) == (1, 0, "")
    assert append.delivery_id == "m1"
    assert append.internal_date == int(NOW.timestamp())
    content = append.content
    assert content.head == b"Return-Path: <a@b.example>\r\nReceived: x\r\n"
    assert content.size == len(content.head) + len(OCTETS)
    assert content.header.startswith(content.head + b"Subject: x")
    assert remember.records == ((1.5, b"{}"),)


def test_junk_goes_to_junk() -> None:
    append = unit(recipient("ann@one.example"), junk=True)[0]
    assert isinstance(append, Append) and append.special_use == JUNK


def test_each_account_and_each_address_once() -> None:
    made = unit(
        recipient("ann@one.example"),
        recipient("sales@one.example"),
        recipient("all@one.example"),
        recipient("X@far.example"),
        recipient("x@FAR.example"),
    )
    assert [item.account for item in made if isinstance(item, Append)] == [1, 2]
    (enqueue,) = [item for item in made if isinstance(item, Enqueue)]
    assert [(item.path, item.domain) for item in enqueue.recipients] == [
        ("x@far.example", "far.example")
    ]


def test_what_goes_onward_carries_the_envelope_but_no_return_path() -> None:
    enqueue = unit(recipient("y@far.example", "DELAY", "SUCCESS", orcpt="rfc822;z"), summary=None)[
        0
    ]
    assert isinstance(enqueue, Enqueue)
    assert enqueue.head == b"Received: x\r\n"
    assert enqueue.size == len(enqueue.head) + len(OCTETS)
    assert enqueue.reverse_path == "a@b.example"
    assert (enqueue.body, enqueue.smtputf8, enqueue.ret, enqueue.envid) == (
        "8BITMIME", True, "HDRS", "q",
    )  # fmt: skip
    assert enqueue.account == 7
    assert enqueue.expires - enqueue.accepted == 5 * 86400
    (path,) = enqueue.recipients
    assert (path.notify, path.orcpt) == (("DELAY", "SUCCESS"), "rfc822;z")


def test_the_null_reverse_path() -> None:
    envelope = Envelope(reverse_path=None, recipients=(recipient("y@far.example"),))
    assert local_head(envelope, b"") == b"Return-Path: <>\r\n"
    enqueue = unit(envelope=envelope, summary=None)[0]
    assert isinstance(enqueue, Enqueue) and enqueue.reverse_path == ""


def test_dsn_wishes_behind_an_alias() -> None:
    single = destinations(
        Envelope(reverse_path=None, recipients=(recipient("away@one.example", "SUCCESS"),)),
        FakeDirectory(),  # type: ignore[arg-type]  # resolve is all it asks
        relay=False,
    )
    (path,) = single.onward
    assert path.notify == ("SUCCESS",)
    assert path.orcpt == "rfc822;away@one.example"
    assert (path.path, path.domain) == ("x@Far.example", "far.example")
    assert single.delivered == () and single.expanded == ()
    for wishes, expected in (
        (("SUCCESS",), ("NEVER",)),
        (("SUCCESS", "FAILURE"), ("FAILURE",)),
        ((), ()),
    ):
        wanted = recipient("all@one.example", *wishes)
        several = destinations(
            Envelope(reverse_path=None, recipients=(wanted,)),
            FakeDirectory(),  # type: ignore[arg-type]  # resolve is all it asks
            relay=False,
        )
        assert several.onward[0].notify == expected
        assert several.expanded == (wanted,) and several.delivered == ()


def test_what_rcpt_resolved_is_not_asked_again() -> None:
    directory = FakeDirectory()
    path = parse_address("ann@one.example")
    found = destinations(
        Envelope(reverse_path=None, recipients=(Recipient(path=path),)),
        directory,  # type: ignore[arg-type]  # resolve is all it asks
        relay=False,
        resolved={path: (BOB,)},
    )
    assert found.local == (BOB,) and directory.asked == []


def test_who_became_nobody_refuses_the_unit() -> None:
    with pytest.raises(StateError) as caught:
        unit(recipient("ann@one.example"), recipient("gone@one.example"))
    assert caught.value.fault is Fault.NONEXISTENT


def test_a_stranger_never_relays() -> None:
    with pytest.raises(AssertionError, match="relayed"):
        operations(arrival(recipient("y@far.example")), FakeDirectory(), relay=False)  # type: ignore[arg-type]  # resolve is all it asks


def test_a_local_recipient_needs_the_summary() -> None:
    with pytest.raises(AssertionError, match="summary"):
        unit(recipient("ann@one.example"), summary=None)
