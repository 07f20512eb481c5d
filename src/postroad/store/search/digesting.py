"""What SORT and THREAD compare, computed from a message's header.

Input: hostile octets; never raises.
Source: RFC 5256 §2.1 (base subject), §2.2 (sent date), §3 (keys, References), RFC 5957 §3.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from postroad.message.addresses import Group, parse_addresses
from postroad.message.header import unfold
from postroad.message.message_ids import first_message_id, message_ids
from postroad.message.subject import base_subject
from postroad.message.words import decode_charset, decode_words
from postroad.store.search.text import collate

_WANTED = re.compile(
    rb"^(from|to|cc|subject|message-id|references|in-reply-to)[ \t]*+:"
    rb"([^\n]*+(?:\n[ \t][^\n]*+)*+)",
    re.IGNORECASE | re.MULTILINE,
)
_FIRST_OCTETS = 4096
"""Of an address list: enough for its first address."""
KEY_CHARACTERS_MAX = 256
"""Of what a sort key is made of: subjects and names that differ only behind it sort as equal."""
REFERENCES_OCTETS_MAX = 65_536
"""Of a References: field that is looked at: some thousand ids."""


class Keys(NamedTuple):
    """The columns of one message, in the order in which blocks keep them."""

    sent: int
    """0: no date that can be read."""
    subject: bytes
    is_reply: bool
    author: bytes
    to: bytes
    cc: bytes
    display_from: bytes
    display_to: bytes
    message_id: bytes
    references: tuple[bytes, ...]


def keys_of(header: bytes, sent: int) -> Keys:
    """The keys of a message. header: its whole section; sent: the date as the heap keeps it."""
    found: dict[bytes, bytes] = {}
    for name, value in _WANTED.findall(header):
        found.setdefault(name.lower(), value)
    subject, is_reply = base_subject(decode_words(unfold(found.get(b"subject", b""))))
    author, display_from = _first_address(found.get(b"from"))
    to, display_to = _first_address(found.get(b"to"))
    cc, _ = _first_address(found.get(b"cc"))
    return Keys(
        sent,
        _key(subject),
        is_reply,
        author,
        to,
        cc,
        display_from,
        display_to,
        first_message_id(unfold(found.get(b"message-id", b""))),
        _references(found),
    )


def _references(found: dict[bytes, bytes]) -> tuple[bytes, ...]:
    """Of References:, or the first of In-Reply-To: when that holds no legal one."""
    value = found.get(b"references")
    ids = message_ids(unfold(value[-REFERENCES_OCTETS_MAX:])) if value else ()
    if not ids and b"in-reply-to" in found:
        first = first_message_id(unfold(found[b"in-reply-to"]))
        ids = (first,) if first else ()
    return ids


def _first_address(value: bytes | None) -> tuple[bytes, bytes]:
    """(addr-mailbox, the text to be displayed) of the first address, as sort keys."""
    if not value:
        return b"", b""
    value = unfold(value[:_FIRST_OCTETS])
    addresses = parse_addresses(value)
    if not addresses:
        return b"", b""
    first = addresses[0]
    if isinstance(first, Group):
        name = _key(decode_words(first.name))
        return name, name
    mailbox = decode_charset(first.local, None)
    shown = decode_words(first.display).strip() if first.display else ""
    if not shown:
        shown = f"{mailbox}@{decode_charset(first.domain, None)}" if first.domain else mailbox
    return _key(mailbox), _key(shown)


def _key(text: str) -> bytes:
    return collate(text[:KEY_CHARACTERS_MAX])
