"""What is computed once of a message, when it arrives: all that lists, searches and FETCH need.

Source: RFC 3501 §7.4.2, RFC 8970 §4 (preview), RFC 5256 §2.2 (sent date).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from postroad.message.dates import parse_date
from postroad.message.envelope import render_body, render_envelope
from postroad.message.header import Octets, header_end
from postroad.message.part import Part, scan_below
from postroad.message.structure import node, pack
from postroad.message.text import preview

_PREVIEW_OCTETS = 65536
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The fields of `store.values.Content` that the message alone decides.

    Describes head + octets as one message: `header` and all offsets of `structure` count from
    the first octet of `head`.
    """

    size: int
    envelope: bytes
    body: bytes
    bodystructure: bytes
    header: bytes
    structure: bytes
    preview: str
    sent: int


def _readable(part: Part) -> Part | None:
    """The first text leaf that a reader would be shown: plain before HTML, no attachment."""
    html: Part | None = None
    waiting = [part]
    while waiting:
        item = waiting.pop()
        if item.is_multipart:
            waiting.extend(reversed(item.children))
            continue
        if item.type != b"text" or (item.disposition and item.disposition[0] == b"attachment"):
            continue
        if item.subtype == b"html":
            html = html or item
        elif item.subtype in (b"plain", b"enriched") and item.size:
            return item
    return html


def summarize(octets: Octets, head: bytes = b"") -> Summary:
    """The summary of head + octets. `head`: whole fields that were put on top, or b"".

    The body is never copied. Never raises, whatever the octets.
    """
    body = header_end(octets)
    header = head + bytes(octets[:body])
    root = scan_below(octets, header, body)
    plain, extended = render_body(root)
    shift = len(head)
    packed = node(root, shift)
    text = _readable(root)
    shown = ""
    if text is not None:
        stop = min(text.stop, text.body + _PREVIEW_OCTETS)
        begin = bytes(octets[text.body : stop])
        shown = preview(begin, text.encoding, text.charset, text.subtype)
    date = root.fields.get(b"date")
    moment = parse_date(date) if date else None
    return Summary(
        size=shift + len(octets),
        envelope=render_envelope(root.fields),
        body=plain,
        bodystructure=extended,
        header=header,
        structure=pack(packed),
        preview=shown,
        sent=0 if moment is None else int((moment - _EPOCH).total_seconds()),
    )
