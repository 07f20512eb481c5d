"""The types of the numbers that must not be mixed, and the ids we make.

Source: RFC 3501 §2.3.1 (UID, sequence number), RFC 7162 §3.1 (mod-sequence).
"""

from __future__ import annotations

from datetime import datetime
from typing import NewType

UID = NewType("UID", int)
SeqNum = NewType("SeqNum", int)
ModSeq = NewType("ModSeq", int)
AccountId = NewType("AccountId", int)
MailboxId = NewType("MailboxId", int)
MessageId = NewType("MessageId", str)
"""Our id of one accepted message (the one in the 250 reply); not its Message-ID: header."""

ACCOUNT_ID_BITS = 40
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def _base32(number: int, digits: int) -> str:
    out = []
    for _ in range(digits):
        out.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(out))


def message_id(now: datetime, random_bits: int) -> MessageId:
    """An id of 16 characters that sorts by time: 45 bits of milliseconds, 35 of chance."""
    millis = int(now.timestamp() * 1000)
    return MessageId(_base32(millis, 9) + _base32(random_bits, 7))
