"""Rights on a mailbox: the letters of access control lists.

Source: RFC 4314 §2.1 (letters), §2.1.1 (c and d, which older clients know), §3.1 (+ and -).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from postroad.mail.flags import Flag

ALL = "lrswipkxtea"
"""In the order in which they are told."""
ALL_RIGHTS = frozenset(ALL)
_VIRTUAL = {"c": frozenset("kx"), "d": frozenset("et")}
FLAG_RIGHTS = "stw"
"""Those that let flags be changed: all of them (RFC 4314 §4, STORE)."""
VISIBLE = frozenset("lrikxa")
"""Any of these tells that the mailbox exists (RFC 4314 §4, MYRIGHTS)."""


def parse_rights(text: str) -> frozenset[str]:
    """The rights meant. Raises: ValueError for a letter that is no right (RFC 4314 §3.1)."""
    rights: set[str] = set()
    for letter in text:
        if letter in ALL_RIGHTS:
            rights.add(letter)
        elif letter in _VIRTUAL:
            rights |= _VIRTUAL[letter]
        else:
            raise ValueError(f"there is no right {letter!r}; rights are {ALL}")
    return frozenset(rights)


def order_rights(rights: Iterable[str]) -> str:
    """As they are kept: each once, in order."""
    have = frozenset(rights)
    return "".join(letter for letter in ALL if letter in have)


_FLAGS = {
    "s": int(Flag.SEEN),
    "t": int(Flag.DELETED),
    "w": int(Flag.ANSWERED | Flag.FLAGGED | Flag.DRAFT),
}


def render_rights(rights: Iterable[str]) -> str:
    """As they are told: with `c` and `d` when a member of theirs is there (RFC 4314 §2.1.1)."""
    have = frozenset(rights)
    virtual = (letter for letter, members in _VIRTUAL.items() if have & members)
    return order_rights(have) + "".join(virtual)


def effective(grants: Iterable[tuple[bool, str]]) -> frozenset[str]:
    """What remains of (negative, rights): all that is granted less all that is taken away."""
    given: set[str] = set()
    taken: set[str] = set()
    for negative, rights in grants:
        (taken if negative else given).update(rights)
    return frozenset(given - taken)


def flags_allowed(rights: Collection[str]) -> int:
    """The bits of the system flags that may be changed (RFC 4314 §4); keywords need `w`."""
    return sum(bits for letter, bits in _FLAGS.items() if letter in rights)
