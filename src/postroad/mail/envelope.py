"""The envelope: who gets failures, who gets the message, and the SMTP parameters of each.

Source: RFC 5321 §2.3.1, RFC 3461 §4, RFC 6152 §2, RFC 6531 §3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from postroad.mail.address import Address


class Body(Enum):
    """BODY= of MAIL (RFC 6152 §2; RFC 3030 §3)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A forward-path with its DSN wishes.

    notify: any of SUCCESS, FAILURE, DELAY; or NEVER alone; empty when the client did not say.
    orcpt: `addr-type;xtext` as received, still encoded; None when absent.
    """

    path: Address
    notify: frozenset[str] = frozenset()
    orcpt: str | None = None

    @property
    def wants_failure(self) -> bool:
        """RFC 3461 §4.1: without NOTIFY, failures are reported."""
        return not self.notify or "FAILURE" in self.notify


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """reverse_path: None is the null reverse-path `<>`."""

    reverse_path: Address | None
    recipients: tuple[Recipient, ...] = ()
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
