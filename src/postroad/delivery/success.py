"""Success reports: what a sender who asked NOTIFY=SUCCESS is told when mail ends here.

The report enters in the same unit of work as the message it is about. Successes elsewhere are the
queue's to report (`delivery.bounce`). Pure; whether a sender's word can be believed is the
caller's to say.
Source: RFC 3461 §4.1, §5.2.2 (delivered), §5.2.7.3 (expanded), §6.1 (null reverse-path).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from postroad.database.contract import Operation
from postroad.delivery.intake import Arrival, Destinations, destinations, local_head, operations_for
from postroad.directory.contract import Directory
from postroad.directory.values import Unknown
from postroad.mail.envelope import Body, Envelope, Recipient
from postroad.mail.ids import MessageId
from postroad.message.dsn import DSNRecipient, render_dsn
from postroad.message.summary import summarize
from postroad.store.values import BlobRef
from postroad.trace import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessReported(Event):
    """The sender is told. report: the report's own message id."""

    report: str
    to: str
    recipients: tuple[str, ...]


def reported(envelope: Envelope, going: Destinations) -> list[DSNRecipient]:
    """The recipients whose success is to be reported; empty when there is nobody to tell."""
    if envelope.reverse_path is None:
        return []
    return [
        DSNRecipient(
            final=str(recipient.path), original=recipient.orcpt, action=action, status="2.0.0"
        )
        for action, recipients in (("delivered", going.delivered), ("expanded", going.expanded))
        for recipient in recipients
        if "SUCCESS" in recipient.notify
    ]


def render_report(
    envelope: Envelope,
    recipients: list[DSNRecipient],
    header: bytes,
    *,
    hostname: str,
    report: MessageId,
    now: datetime,
) -> bytes:
    """The whole report. header: of the message it is about."""
    assert envelope.reverse_path is not None, "nobody to tell"
    return render_dsn(
        hostname=hostname,
        reverse_path_of_original=envelope.reverse_path,
        message_id=f"<{report}@{hostname}>",
        now=now,
        arrival=now,
        envid=envelope.envid,
        recipients=recipients,
        original_header=header,
        original=None,  # RFC 3461 §6.2 (f): only failures return content
        smtputf8=envelope.smtputf8,
        boundary=f"=_{report}",
    )


def can_reach_sender(envelope: Envelope, directory: Directory) -> bool:
    """Whether the sender's address is anybody's: elsewhere, or ours."""
    if envelope.reverse_path is None:
        return False
    return not isinstance(directory.resolve(envelope.reverse_path), Unknown)


def entrance(
    envelope: Envelope,
    octets: bytes,
    blob: BlobRef,
    directory: Directory,
    *,
    report: MessageId,
    now: datetime,
    records: tuple[tuple[float, bytes], ...],
    lifetime_s: int,
) -> list[Operation[Any]]:
    """The operations by which the report (octets, already in `blob`) reaches the sender."""
    assert envelope.reverse_path is not None, "nobody to tell"
    way = Envelope(
        reverse_path=None,
        recipients=(Recipient(path=envelope.reverse_path, notify=frozenset({"NEVER"})),),
        body=Body.SEVEN_BIT if octets.isascii() else Body.EIGHT_BIT,
        smtputf8=envelope.smtputf8,
    )
    going = destinations(way, directory, relay=True)
    arrival = Arrival(
        message=report,
        envelope=way,
        head=b"",
        blob=blob,
        size=len(octets),
        summary=summarize(octets, local_head(way, b"")) if going.local else None,
        account=0,
        now=now,
        records=records,
    )
    return operations_for(arrival, going, lifetime_s=lifetime_s)
