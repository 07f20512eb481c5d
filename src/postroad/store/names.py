"""Mailbox names: levels between slashes, INBOX in any case.

Source: RFC 3501 §5.1 (INBOX), §6.3.3 (a closing delimiter on CREATE says nothing to keep).
"""

from __future__ import annotations

import re

from postroad.mail import limits
from postroad.mail.errors import Fault, StateError

SEPARATOR = "/"
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def canonical(name: str) -> str:
    """The name as it is kept: its first level is `INBOX` when it is that in any case."""
    first, slash, rest = name.partition(SEPARATOR)
    return f"INBOX{slash}{rest}" if first.upper() == "INBOX" else name


def check_name(name: str) -> str:
    """The canonical form of a name that a mailbox may have.

    Raises: StateError (CANNOT, LIMIT).
    """
    name = canonical(name.removesuffix(SEPARATOR))
    levels = name.split(SEPARATOR)
    if not all(levels):
        raise StateError(Fault.CANNOT, "a level of a mailbox name cannot be empty")
    if _CONTROLS.search(name):
        raise StateError(Fault.CANNOT, "a mailbox name cannot hold control characters")
    try:
        octets = len(name.encode())
    except UnicodeEncodeError as error:
        raise StateError(Fault.CANNOT, "a mailbox name is Unicode without surrogates") from error
    if octets > limits.MAILBOX_NAME_OCTETS_MAX:
        raise StateError(
            Fault.LIMIT, f"a mailbox name has at most {limits.MAILBOX_NAME_OCTETS_MAX} octets"
        )
    if len(levels) > limits.MAILBOX_DEPTH_MAX:
        raise StateError(
            Fault.LIMIT, f"a mailbox name has at most {limits.MAILBOX_DEPTH_MAX} levels"
        )
    return name


def parents(name: str) -> list[str]:
    """The names above it, from the top."""
    levels = name.split(SEPARATOR)
    return [SEPARATOR.join(levels[:count]) for count in range(1, len(levels))]
