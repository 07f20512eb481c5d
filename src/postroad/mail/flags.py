"""Message flags: the system flags as bits, keywords as words.

Source: RFC 3501 §2.3.2, RFC 9051 §2.3.2.
"""

from __future__ import annotations

from enum import IntFlag


class Flag(IntFlag):
    """The system flags a client may set. \\Recent is the session's, never stored here."""

    SEEN = 1
    ANSWERED = 2
    FLAGGED = 4
    DELETED = 8
    DRAFT = 16


FLAG_ATOMS: dict[Flag, bytes] = {
    Flag.ANSWERED: b"\\Answered",
    Flag.FLAGGED: b"\\Flagged",
    Flag.DELETED: b"\\Deleted",
    Flag.SEEN: b"\\Seen",
    Flag.DRAFT: b"\\Draft",
}
"""In the order clients are used to."""

FLAG_BY_ATOM: dict[bytes, Flag] = {atom.lower(): flag for flag, atom in FLAG_ATOMS.items()}
"""Keys are lower case: system flags compare without regard to case (RFC 3501 §9, flag)."""

KEYWORD_OCTETS_MAX = 100
KEYWORDS_PER_MESSAGE_MAX = 64
