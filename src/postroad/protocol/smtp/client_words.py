"""The words of the SMTP client: what it is asked to do, what it tells, what a peer offers.

Knows no socket and no session; `protocol.smtp.client` gives them their order.
Source: RFC 5321 §4.1.1.1 (EHLO), §4.5.3.2 (timeouts), RFC 1870 §4, RFC 3461 §4, RFC 6152 §2,
RFC 6531 §3.4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from postroad.mail.address import Address
from postroad.mail.envelope import Recipient
from postroad.mail.errors import LocalProtocolError
from postroad.mail.reply import Reply
from postroad.protocol.smtp.syntax import render_parameters, render_path

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")
_VALUE = re.compile(r"[^\x00-\x20=\x7f]+\Z")


class Stage(Enum):
    """Which of our words a reply answers; the value is what people call it."""

    GREETING = "the greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BLOCK = "the message itself"
    """354 came; the end of data has not been sent yet."""
    CONTENT = "the end of data"
    NOTHING = "the empty end of data"
    """A lone dot, sent because DATA was taken although no recipient was (RFC 2920 §3.1)."""
    QUIT = "QUIT"


PATIENCE_S: Mapping[Stage, float] = {
    Stage.GREETING: 300.0,  # RFC 5321 §4.5.3.2.1
    Stage.EHLO: 300.0,
    Stage.HELO: 300.0,
    Stage.STARTTLS: 120.0,
    Stage.RSET: 60.0,
    Stage.MAIL: 300.0,  # §4.5.3.2.2
    Stage.RCPT: 300.0,  # §4.5.3.2.3
    Stage.DATA: 120.0,  # §4.5.3.2.4
    Stage.BLOCK: 180.0,  # §4.5.3.2.5
    Stage.CONTENT: 600.0,  # §4.5.3.2.6
    Stage.NOTHING: 60.0,
    Stage.QUIT: 5.0,
}
"""How long to wait for the reply (BLOCK: for a block of data to go out), in seconds."""


@dataclass(frozen=True, slots=True)
class Extensions:
    """What the peer's EHLO offered. keywords: upper case, each with its parameters' text."""

    keywords: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, reply: Reply) -> Extensions:
        """From the lines behind the first; what is no keyword is passed over.

        Source: RFC 5321 §4.1.1.1 (ehlo-line).
        """
        found = {}
        for line in reply.lines[1:]:
            word, _, rest = line.strip().partition(" ")
            if _KEYWORD.match(word):
                found[word.upper()] = rest.strip()
        return cls(found)

    def __contains__(self, keyword: object) -> bool:
        return keyword in self.keywords

    @property
    def size_max(self) -> int | None:
        """The largest message the peer says it takes; None when it does not say (RFC 1870 §4)."""
        text = self.keywords.get("SIZE", "")
        if not (text.isascii() and text.isdigit()) or len(text) > 20:
            return None
        return int(text) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One message for some recipients of one peer.

    size: octets of the message as sent, before dots are doubled.
    eight_bit: the message holds octets above 127. smtputf8: an address or the header needs it;
    the caller has made sure that the peer offers both where they are true.
    """

    reverse_path: Address | None
    recipients: tuple[Recipient, ...]
    size: int
    eight_bit: bool = False
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None

    def __post_init__(self) -> None:
        if not self.recipients:
            raise ValueError("a transaction has at least one recipient")


@dataclass(frozen=True, slots=True)
class Answer:
    """How one recipient's transaction ended: the reply, and what it replied to."""

    stage: Stage
    reply: Reply

    @property
    def is_delivered(self) -> bool:
        return self.stage is Stage.CONTENT and self.reply.is_positive


@dataclass(frozen=True, slots=True)
class Greeted:
    """The peer's 220; EHLO is on its way."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Hailed:
    """EHLO or HELO was taken: transactions may begin."""

    extensions: Extensions


@dataclass(frozen=True, slots=True)
class Refused:
    """No session (greeting, EHLO and HELO) or no TLS (STARTTLS; the session goes on)."""

    stage: Stage
    reply: Reply


@dataclass(frozen=True, slots=True)
class TLSReady:
    """220 to STARTTLS: shake hands, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class ContentWanted:
    """354, and at least one recipient was taken: the message goes out now."""


@dataclass(frozen=True, slots=True)
class Done:
    """The transaction is over. answers: one for each recipient, in order."""

    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection has ended. reply: the 421 that announced it, or None.

    stage: what was not answered any more; recipients without an answer are undecided.
    """

    stage: Stage
    reply: Reply | None


class NeedData(Enum):
    """Nothing to tell until more octets arrive."""

    NEED_DATA = "need data"


NEED_DATA = NeedData.NEED_DATA

ClientEvent: TypeAlias = Greeted | Hailed | Refused | TLSReady | ContentWanted | Done | Lost


def _path(address: Address | None, smtputf8: bool) -> str:
    if address is None or smtputf8 or address.is_ascii:
        return render_path(address)
    return render_path(Address(address.local, address.domain_key))


def _line(text: str) -> bytes:
    """A command line. Raises: LocalProtocolError when it would be two, or is not ours to send."""
    if "\r" in text or "\n" in text or "\0" in text:
        raise LocalProtocolError(f"a command holds a line end: {text!r}")
    return text.encode() + b"\r\n"


def render_mail(transaction: Transaction, offered: Extensions) -> bytes:
    """MAIL with the parameters that the peer offered to take.

    Source: RFC 1870 §5, RFC 6152 §2, RFC 6531 §3.4, RFC 3461 §5.2.1 (RET and ENVID as received).
    """
    parameters: list[tuple[str, str | None]] = []
    if "SIZE" in offered:
        parameters.append(("SIZE", str(transaction.size)))
    if "8BITMIME" in offered and transaction.eight_bit:
        parameters.append(("BODY", "8BITMIME"))
    if "SMTPUTF8" in offered and transaction.smtputf8:
        parameters.append(("SMTPUTF8", None))
    if "DSN" in offered:
        if transaction.ret in ("FULL", "HDRS"):
            parameters.append(("RET", transaction.ret))
        if transaction.envid is not None and _VALUE.match(transaction.envid):
            parameters.append(("ENVID", transaction.envid))
    path = _path(transaction.reverse_path, transaction.smtputf8)
    return _line(f"MAIL FROM:{path}{render_parameters(parameters)}")


def render_rcpt(recipient: Recipient, offered: Extensions, smtputf8: bool) -> bytes:
    """RCPT with NOTIFY and ORCPT as they were received. Source: RFC 3461 §5.2.1."""
    parameters: list[tuple[str, str | None]] = []
    if "DSN" in offered:
        if recipient.notify:
            parameters.append(("NOTIFY", ",".join(sorted(recipient.notify))))
        orcpt = recipient.orcpt
        if orcpt is not None and _VALUE.match(orcpt) and (smtputf8 or orcpt.isascii()):
            parameters.append(("ORCPT", orcpt))
    return _line(f"RCPT TO:{_path(recipient.path, smtputf8)}{render_parameters(parameters)}")
