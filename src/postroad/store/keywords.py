"""Keywords: compared without regard to case, kept in the case of their first use in the mailbox.

Source: RFC 3501 §2.3.2, RFC 9051 §2.3.2.
"""

from __future__ import annotations

from collections.abc import Iterable

from postroad.database.contract import Transaction
from postroad.mail.errors import Fault, StateError
from postroad.mail.flags import KEYWORD_OCTETS_MAX, KEYWORDS_PER_MESSAGE_MAX

KEYWORDS_PER_MAILBOX_MAX = 1000
"""Every SELECT lists them; clients use a dozen, tagging programs some hundred."""


def pack(keywords: Iterable[bytes]) -> bytes:
    return b" ".join(sorted(keywords))


def unpack(packed: bytes) -> tuple[bytes, ...]:
    return tuple(packed.split(b" ")) if packed else ()


def check_count(keywords: Iterable[bytes]) -> None:
    """Raises: StateError(LIMIT) for more than one message may carry."""
    if len(tuple(keywords)) > KEYWORDS_PER_MESSAGE_MAX:
        raise StateError(
            Fault.LIMIT, f"a message carries at most {KEYWORDS_PER_MESSAGE_MAX} keywords"
        )


def spell(
    tx: Transaction, account: int, mailbox: int, keywords: Iterable[bytes]
) -> frozenset[bytes]:
    """The keywords as this mailbox spells them; new ones are taken up.

    Raises: StateError (LIMIT, CANNOT).
    """
    spelt: dict[bytes, bytes] = {}
    for word in keywords:
        folded = word.lower()
        if folded in spelt:
            continue
        if not 0 < len(word) <= KEYWORD_OCTETS_MAX:
            raise StateError(Fault.LIMIT, f"a keyword has 1 to {KEYWORD_OCTETS_MAX} octets")
        if not word.isascii() or any(octet <= 32 or octet == 127 for octet in word):
            raise StateError(Fault.CANNOT, "a keyword is an atom")
        key = (account, mailbox, folded)
        known = tx.first(
            "SELECT word FROM keyword WHERE account = ? AND mailbox = ? AND folded = ?", key
        )
        if known is None:
            count = tx.first(
                "SELECT count(*) FROM keyword WHERE account = ? AND mailbox = ?", key[:2]
            )
            assert count is not None
            if count[0] >= KEYWORDS_PER_MAILBOX_MAX:
                raise StateError(
                    Fault.LIMIT, f"a mailbox knows at most {KEYWORDS_PER_MAILBOX_MAX} keywords"
                )
            tx.execute("INSERT INTO keyword VALUES (?, ?, ?, ?)", (*key, word))
            known = (word,)
        spelt[folded] = known[0]
    check_count(spelt)
    return frozenset(spelt.values())
