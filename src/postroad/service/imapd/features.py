"""What a client has enabled, as the questions that commands ask.

Source: RFC 5161 §3.1; RFC 7162 §3.1, §3.2.3; RFC 9051 §5.1, §6.3.1; RFC 9586 §3; RFC 9755 §3.
"""

from __future__ import annotations

from postroad.protocol.imap import render
from postroad.service.imapd.view import Manner


class Features:
    """enabled: what ENABLE switched on, in capitals; CONDSTORE also by commands that imply it."""

    __slots__ = ("enabled",)

    def __init__(self, enabled: set[bytes]) -> None:
        self.enabled = enabled

    @property
    def condstore(self) -> bool:
        """Mod-sequences are told (RFC 7162 §3.1)."""
        return b"CONDSTORE" in self.enabled

    @property
    def manner(self) -> Manner:
        return Manner.of(self.enabled)

    @property
    def qresync(self) -> bool:
        """VANISHED is told instead of EXPUNGE (RFC 7162 §3.2.3)."""
        return b"QRESYNC" in self.enabled

    @property
    def rev2(self) -> bool:
        """RFC 9051 holds where it differs from RFC 3501."""
        return b"IMAP4REV2" in self.enabled

    @property
    def utf8(self) -> bool:
        """Strings and mailbox names are UTF-8 (RFC 9051 §5.1, RFC 9755 §3)."""
        return self.rev2 or b"UTF8=ACCEPT" in self.enabled

    @property
    def uid_only(self) -> bool:
        """No sequence numbers either way (RFC 9586)."""
        return b"UIDONLY" in self.enabled

    def mailbox_name(self, name: str) -> bytes:
        """A mailbox name for a response."""
        return render.mailbox(name, utf8=self.utf8)
