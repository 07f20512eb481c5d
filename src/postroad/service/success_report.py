"""Success reports on their way into the unit of work of the message they are about."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from postroad.database.contract import Operation
from postroad.delivery import success
from postroad.delivery.intake import Destinations
from postroad.delivery.success import SuccessReported
from postroad.mail.envelope import Envelope
from postroad.mail.ids import MessageId, message_id
from postroad.service.site import Site
from postroad.service.smtp_events import remembered


async def success_report(
    site: Site,
    envelope: Envelope,
    going: Destinations,
    header: bytes,
    *,
    session: str,
    message: MessageId,
    now: datetime,
) -> tuple[list[Operation[Any]], SuccessReported | None]:
    """Operations to be submitted with the message's own, and the event when they are durable.

    header: the message's. Raises: Unavailable when the report cannot be kept.
    """
    recipients = success.reported(envelope, going)
    if not recipients or not success.can_reach_sender(envelope, site.directory):
        return [], None
    report = message_id(now, site.clock.random_bits(35))
    octets = success.render_report(
        envelope, recipients, header, hostname=site.hostname, report=report, now=now
    )
    draft = site.store.blobs.draft()
    try:
        draft.write(octets)
        blob = draft.commit()
    finally:
        draft.discard()
    event = SuccessReported(
        session=session,
        message=message,
        report=report,
        to=str(envelope.reverse_path),
        recipients=tuple(item.final for item in recipients),
    )
    unit = success.entrance(
        envelope,
        octets,
        blob,
        site.directory,
        report=report,
        now=now,
        records=remembered(now.timestamp(), event),
        lifetime_s=site.bounce_lifetime_s,
    )
    return unit, event
