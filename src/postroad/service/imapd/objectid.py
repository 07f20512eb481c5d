"""Object identifiers: of mailboxes, messages and threads.

Each is worked out of what is there already: a mailbox's of its numbers, which are never given out
again; a message's of the address of its content, which copies share; a thread's of the Message-ID
that its members' References begin with.
Source: RFC 8474 §4, §5, §7 (objectid); RFC 5322 §3.6.4.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from postroad.store.values import Mailbox, MessageRow

_FIELD = re.compile(
    rb"^(references|in-reply-to|message-id)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)",
    re.IGNORECASE | re.MULTILINE,
)
_ID = re.compile(rb"<([^<>\s]+)>")


def mailbox_id(mailbox: Mailbox) -> bytes:
    """MAILBOXID: stays when the mailbox is renamed."""
    return b"F%x-%x" % (mailbox.account, mailbox.mailbox)


def email_id(row: MessageRow) -> bytes:
    """EMAILID: the same for copies."""
    return b"M%x" % (row.origin or row.heap)


def thread_id(row: MessageRow) -> bytes:
    """THREADID, of a row read with Want.HEADER; a message that names no id is alone."""
    assert row.header is not None, "the row was read with Want.HEADER"
    first = _thread_root(row.header)
    if first is None:
        return b"T" + email_id(row)
    return b"T" + blake2b(first, digest_size=12).hexdigest().encode()


def _thread_root(header: bytes) -> bytes | None:
    """The oldest message that is named: first of References, else In-Reply-To, else itself."""
    found: dict[bytes, bytes] = {}
    for match in _FIELD.finditer(header):
        name = match[1].lower()
        if name not in found and (named := _ID.search(match[2])) is not None:
            found[name] = named[1]
    for name in (b"references", b"in-reply-to", b"message-id"):
        if name in found:
            return found[name]
    return None
