"""The one door by which a message enters: from a transaction to one unit of operations.

SMTP, submission and the server's own reports come in here. Local recipients get an `Append` (with
Return-Path on top), all others are one `Enqueue`, and the message's history begins with a
`Remember`. What the unit holds is durable and visible together, or not at all.

Decides nothing about the message; whom to trust to relay is the caller's to say. Touches no disk:
the blob was committed, the operations are submitted, by the caller.
Source: RFC 5321 §3.9.1 (aliases keep the reverse-path), §4.4 (Return-Path at final delivery),
RFC 3461 §5.2.7 (what becomes of DSN parameters behind an alias).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from postroad.database.contract import Operation
from postroad.directory.contract import Directory
from postroad.directory.values import Forward, LocalMailbox, NotHere, Resolution, Unknown
from postroad.mail.address import Address
from postroad.mail.envelope import Envelope, Recipient
from postroad.mail.errors import Fault, StateError
from postroad.mail.ids import MessageId
from postroad.message.summary import Summary
from postroad.message.trace_fields import render_return_path
from postroad.protocol.smtp.syntax import render_xtext
from postroad.queue.operations import Enqueue, QueuedPath, Remember
from postroad.store.operations import Append
from postroad.store.values import BlobRef, content_of, unix

JUNK = "\\Junk"
LIFETIME_S_DEFAULT = 5 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A message whose octets are a blob already, and where its envelope says it goes.

    head: fields on top of the blob's octets, without Return-Path.
    summary: of `local_head(envelope, head)` + the blob's octets; None is legal when no recipient
    is local (`is_local_for` tells).
    size: octets of the blob alone.
    account: the sender's, 0 for strangers and for the server itself.
    records: the beginning of its history (see `Remember`).
    junk: local copies go to the Junk mailbox.
    """

    message: MessageId
    envelope: Envelope
    head: bytes
    blob: BlobRef
    size: int
    summary: Summary | None
    account: int
    now: datetime
    records: tuple[tuple[float, bytes], ...] = ()
    junk: bool = False


@dataclass(frozen=True, slots=True)
class Destinations:
    """local: one for each account, whoever led there. onward: one for each address elsewhere.

    delivered: the recipients whose one target is an account here. expanded: those behind whom
    stand several targets. Success reports tell these two apart.
    """

    local: tuple[LocalMailbox, ...]
    onward: tuple[QueuedPath, ...]
    delivered: tuple[Recipient, ...]
    expanded: tuple[Recipient, ...]

    @property
    def keeper(self) -> int:
        """The account with whose key the octets may be sealed at once, if it is encrypted; 0 when
        they must lie in the clear, for other servers."""
        return self.local[0].account.account if self.local and not self.onward else 0


def local_head(envelope: Envelope, head: bytes) -> bytes:
    """What stands on top of the octets in a mailbox: Return-Path, then `head`."""
    path = envelope.reverse_path
    return render_return_path("" if path is None else str(path)) + head


def destinations(
    envelope: Envelope,
    directory: Directory,
    *,
    relay: bool,
    resolved: Mapping[Address, Resolution] | None = None,
) -> Destinations:
    """Where each recipient's copy goes; resolved: what the directory said at RCPT, by path.

    relay: whether the sender may reach addresses that are not ours. A recipient that this forbids
    should have been refused at RCPT, so meeting one here is a bug.
    Raises: StateError(NONEXISTENT) when an address of ours has become nobody's.
    """
    going = _Going()
    for recipient in envelope.recipients:
        resolution = None if resolved is None else resolved.get(recipient.path)
        if resolution is None:
            resolution = directory.resolve(recipient.path)
        match resolution:
            case Unknown():
                raise StateError(Fault.NONEXISTENT, f"{recipient.path} is nobody here")
            case NotHere():
                assert relay, f"{recipient.path} would be relayed"
                going.send(recipient.path, recipient.notify, recipient.orcpt)
            case tuple():
                going.expand(recipient, resolution)
            case _:
                assert_never(resolution)
    return Destinations(
        tuple(going.local.values()),
        tuple(going.onward.values()),
        tuple(going.delivered),
        tuple(going.expanded),
    )


class _Going:
    """Destinations on their way to being known: each account and each address once."""

    def __init__(self) -> None:
        self.local: dict[int, LocalMailbox] = {}
        self.onward: dict[str, QueuedPath] = {}
        self.delivered: list[Recipient] = []
        self.expanded: list[Recipient] = []

    def send(self, path: Address, notify: frozenset[str], orcpt: str | None) -> None:
        self.onward.setdefault(
            path.key,
            QueuedPath(
                path=str(path), domain=path.domain_key, notify=tuple(sorted(notify)), orcpt=orcpt
            ),
        )

    def expand(self, recipient: Recipient, targets: tuple[LocalMailbox | Forward, ...]) -> None:
        """RFC 3461 §5.2.7.2 (one target: all wishes go along), §5.2.7.3 (several: method c)."""
        notify = recipient.notify
        if len(targets) > 1:
            self.expanded.append(recipient)
            if "SUCCESS" in notify:
                notify = (notify - {"SUCCESS"}) or frozenset({"NEVER"})
        for target in targets:
            match target:
                case LocalMailbox():
                    self.local.setdefault(target.account.account, target)
                    if len(targets) == 1:
                        self.delivered.append(recipient)
                case Forward(address):
                    self.send(address, notify, _original(recipient))
                case _:
                    assert_never(target)


def _original(recipient: Recipient) -> str | None:
    """The sender's address for the recipient, kept where an alias changes it."""
    if recipient.orcpt is None and recipient.path.is_ascii:
        return "rfc822;" + render_xtext(str(recipient.path).encode("ascii"))
    return recipient.orcpt


def operations(
    arrival: Arrival,
    directory: Directory,
    *,
    relay: bool = True,
    lifetime_s: int = LIFETIME_S_DEFAULT,
    resolved: Mapping[Address, Resolution] | None = None,
) -> list[Operation[Any]]:
    """The unit of work that takes the message in, whole. See `destinations` for what it raises."""
    going = destinations(arrival.envelope, directory, relay=relay, resolved=resolved)
    return operations_for(arrival, going, lifetime_s=lifetime_s)


def operations_for(
    arrival: Arrival, going: Destinations, *, lifetime_s: int = LIFETIME_S_DEFAULT
) -> list[Operation[Any]]:
    """The same for destinations already known."""
    now = unix(arrival.now)
    unit: list[Operation[Any]] = []
    if going.local:
        assert arrival.summary is not None, "a local recipient needs the summary"
        content = content_of(
            arrival.summary, arrival.blob, local_head(arrival.envelope, arrival.head)
        )
        special_use = JUNK if arrival.junk else ""
        unit += [
            Append(
                account=target.account.account,
                mailbox=0,
                content=content,
                internal_date=now,
                special_use=special_use,
                delivery_id=arrival.message,
            )
            for target in going.local
        ]
    if going.onward:
        unit.append(_enqueue(arrival, going.onward, now, lifetime_s))
    if arrival.records:
        unit.append(Remember(message=arrival.message, records=arrival.records))
    return unit


def _enqueue(
    arrival: Arrival, onward: tuple[QueuedPath, ...], now: int, lifetime_s: int
) -> Enqueue:
    envelope = arrival.envelope
    path = envelope.reverse_path
    return Enqueue(
        message=arrival.message,
        blob=arrival.blob,
        head=arrival.head,
        size=arrival.size + len(arrival.head),
        reverse_path="" if path is None else str(path),
        recipients=onward,
        body=envelope.body.value,
        smtputf8=envelope.smtputf8,
        ret=envelope.ret,
        envid=envelope.envid,
        account=arrival.account,
        accepted=now,
        expires=now + lifetime_s,
    )
