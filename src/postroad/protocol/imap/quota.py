"""GETQUOTA, GETQUOTAROOT, SETQUOTA.

Source: RFC 9208 §4.1, §7.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import MODSEQ_MAX, Scanner

LIMITS_MAX = 20
"""Of one SETQUOTA; three resources have a meaning here."""


@dataclass(frozen=True, slots=True)
class GetQuota(Command):
    root: str


@dataclass(frozen=True, slots=True)
class GetQuotaRoot(Command):
    mailbox: str


@dataclass(frozen=True, slots=True)
class SetQuota(Command):
    """limits: by resource, in capitals; those that are not named have none."""

    root: str
    limits: tuple[tuple[bytes, int], ...]


def _root(scan: Scanner) -> str:
    try:
        return scan.astring("A quota root").decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("The quota root is not UTF-8") from error


def parse_getquota(tag: bytes, scan: Scanner, uid: bool) -> GetQuota:
    scan.space()
    root = _root(scan)
    scan.end()
    return GetQuota(tag, root)


def parse_getquotaroot(tag: bytes, scan: Scanner, uid: bool) -> GetQuotaRoot:
    scan.space()
    mailbox = scan.mailbox()
    scan.end()
    return GetQuotaRoot(tag, mailbox)


def parse_setquota(tag: bytes, scan: Scanner, uid: bool) -> SetQuota:
    scan.space()
    root = _root(scan)
    scan.space()
    scan.expect(b"(", "A list of limits")
    limits: dict[bytes, int] = {}
    while not scan.skip(b")"):
        if limits:
            scan.space()
        resource = scan.word("A resource")
        scan.space()
        limits[resource] = scan.number(MODSEQ_MAX)
        if len(limits) > LIMITS_MAX:
            raise ProtocolError("Too many limits")
    scan.end()
    return SetQuota(tag, root, tuple(limits.items()))
