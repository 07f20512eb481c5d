"""What a submitted message lacks or has wrong: missing fields made, faults named.

Source: RFC 6409 §8 (what a submission server adds), §6.3, RFC 5322 §3.6 (which fields, how many).
"""

from __future__ import annotations

import re
from datetime import datetime

from postroad.message.addresses import MailboxAddress, count_ats, mailboxes, parse_addresses
from postroad.message.dates import render_date
from postroad.message.header import Header

__all__ = [
    "author",
    "check_submission",
    "completions",
    "is_complete",
    "message_id_field",
    "new_message_id",
    "render_date",
]

_ONCE = (
    b"Date", b"From", b"Sender", b"Reply-To", b"To", b"Cc", b"Bcc", b"Message-ID",
    b"In-Reply-To", b"References", b"Subject", b"MIME-Version", b"Content-Type",
    b"Content-Transfer-Encoding",
)  # fmt: skip
"""RFC 5322 §3.6, RFC 2045 §4, §5, §6: more than one makes readers disagree."""
_UNSAFE_ID = re.compile(rb"[^A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-@]")
_DOMAIN = re.compile(rb"[A-Za-z0-9_\x80-\xff](?:[A-Za-z0-9_.\-\x80-\xff]*[A-Za-z0-9\x80-\xff])?\Z")
_LITERAL = re.compile(rb"\[[0-9A-Za-z.:\-]+\]\Z")
_SHOWN_OCTETS = 60


def new_message_id(unique: str, hostname: str) -> bytes:
    """`<unique@hostname>`."""
    return b"<%b@%b>" % (
        _UNSAFE_ID.sub(b"", unique.encode("ascii", "ignore")),
        _UNSAFE_ID.sub(b"", hostname.encode("ascii", "ignore")) or b"localhost",
    )


def message_id_field(message_id: bytes, hostname: str) -> bytes:
    """`Message-ID: <...>` with CRLF from an id with or without brackets and domain."""
    local, at, domain = _UNSAFE_ID.sub(b"", message_id).rpartition(b"@")
    if not (at and local and domain):
        name = (local + domain).replace(b"@", b"").decode("ascii")
        return b"Message-ID: " + new_message_id(name, hostname) + b"\r\n"
    return b"Message-ID: <" + local.replace(b"@", b"") + b"@" + domain + b">\r\n"


def completions(header: Header, *, now: datetime, message_id: bytes | None, hostname: str) -> bytes:
    """Date: and Message-ID: fields with CRLF, as far as the header has none.

    message_id: with or without angle brackets and domain; None: add no Message-ID:.
    Source: RFC 6409 §8.1, §8.3.
    """
    out = b""
    if header.first(b"date") is None:
        out += b"Date: " + render_date(now) + b"\r\n"
    if message_id is not None and header.first(b"message-id") is None:
        out += message_id_field(message_id, hostname)
    return out


def author(header: Header) -> MailboxAddress | None:
    """The mailbox of From: when there is exactly one field with exactly one mailbox."""
    fields = header.all(b"from")
    if len(fields) != 1:
        return None
    found = mailboxes(parse_addresses(fields[0].value))
    return found[0] if len(found) == 1 and is_complete(found[0]) else None


def is_complete(mailbox: MailboxAddress) -> bool:
    """Whether it has a local part and a domain that could be one."""
    return bool(mailbox.local) and bool(
        _DOMAIN.match(mailbox.domain) or _LITERAL.match(mailbox.domain)
    )


def _shown(octets: bytes) -> str:
    text = octets[:_SHOWN_OCTETS].decode("ascii", "replace")
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _line_fault(header: Header) -> str | None:
    if header.is_truncated:
        return f"the header has more than {len(header)} fields"
    for item in header:
        if not item.is_legal:
            return f"a line of the header is no field: {_shown(item.raw.strip())!r}"
    return None


def check_submission(header: Header) -> str | None:
    """The fault of a malformed message in one ASCII line for people, or None.

    Source: RFC 5322 §3.6, §3.6.2; RFC 6409 §6.3 (refuse what is malformed).
    """
    fault = _line_fault(header)
    if fault is not None:
        return fault
    for name in _ONCE:
        count = len(header.all(name))
        if count > 1:
            return f"there are {count} {name.decode()} fields where one is allowed"
    field = header.first(b"from")
    if field is None:
        return "there is no From field"
    authors = mailboxes(parse_addresses(field.value))
    if not authors:
        return "the From field names no address"
    for name in (b"From", b"Sender"):
        given = header.first(name)
        if given is None:
            continue
        found = mailboxes(parse_addresses(given.value))
        # More @ than addresses: readers would disagree on who wrote it.
        if not all(map(is_complete, found)) or count_ats(given.value) != len(found):
            return f"the {name.decode()} field is malformed: {_shown(given.value)!r}"
        if name == b"Sender" and len(found) != 1:
            return "the Sender field must name exactly one address"
    if len(authors) > 1 and header.first(b"sender") is None:
        return "From names several addresses, but there is no Sender field"
    return None
