"""Export: an account's messages into a Maildir, mbox files or an IMAP account elsewhere.

Goes through the mailboxes by pages, beside whoever changes them; each kind of target (`Target`)
sees to it that a message goes there once, however often it is said. At the end what went in this
run is read back over there and compared by SHA-256.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from postroad.admin.transfer.access import Access
from postroad.admin.transfer.places import Progress
from postroad.admin.transfer.report import FolderReport, Report
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.mail.uidset import UIDSet
from postroad.store import names
from postroad.store.values import Mailbox, MessageRow, Want

ALL = UIDSet(((1, 0xFFFFFFFF),))
PAGE_ROWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """only: these mailboxes and what lies below them. into: a folder over there."""

    only: frozenset[str] = frozenset()
    into: str = ""
    dry: bool = False


class Outbox:
    """One mailbox on its way out, as a target sees it."""

    __slots__ = ("_access", "_progress", "dry", "mailbox", "name", "report", "total")

    def __init__(
        self,
        access: Access,
        mailbox: Mailbox,
        name: str,
        report: FolderReport,
        total: Report,
        progress: Progress,
        *,
        dry: bool,
    ) -> None:
        self._access = access
        self._progress = progress
        self.mailbox = mailbox
        self.name = name
        """Over there, with "/" between levels."""
        self.report = report
        self.total = total
        self.dry = dry

    @property
    def access(self) -> Access:
        return self._access

    def rows(self, uids: UIDSet = ALL, *, octets: bool = True) -> Iterator[MessageRow]:
        want = Want.OCTETS | Want.ENVELOPE if octets else Want.BASE
        count = 0
        mailbox = self.mailbox
        for rows in self._access.store.messages(
            mailbox.account, mailbox.mailbox, uids, want, PAGE_ROWS
        ):
            yield from rows
            count += len(rows)
            self._progress(self.name, count, mailbox.messages)

    def octets(self, row: MessageRow) -> bytes | None:
        """None when they cannot be read, which is noted."""
        try:
            return self._access.store.octets(row)
        except Unavailable as error:
            self.fail(row, error.what)
            return None

    def fail(self, row: MessageRow, reason: str) -> None:
        self.total.fail(self.report, self.where(row), reason)

    def where(self, row: MessageRow) -> str:
        return f"{self.mailbox.name}: UID {row.uid}"

    def went(self, octets: int) -> None:
        self.report.added += 1
        self.total.octets += octets


class Target(Protocol):
    name: str

    async def begin(self, mailboxes: list[tuple[str, Mailbox]]) -> None:
        """Names over there, with the mailboxes here. Raises: StateError, Unavailable, OSError."""
        ...

    async def put(self, outbox: Outbox) -> None:
        """Brings one mailbox. Raises: Unavailable, OSError."""
        ...

    async def close(self) -> None: ...


async def export(
    access: Access,
    target: Target,
    selection: Selection,
    progress: Progress = lambda folder, done, total: None,
) -> Report:
    """Raises: StateError(NONEXISTENT: a mailbox), Unavailable, OSError."""
    began = time.monotonic()
    report = Report(dry=selection.dry)
    chosen = _chosen(access, selection)
    pairs = [(_name(mailbox, selection), mailbox) for mailbox in chosen]
    if not selection.dry:
        await target.begin(pairs)
    for name, mailbox in pairs:
        done = FolderReport(name, mailbox.name)
        report.folders.append(done)
        await target.put(Outbox(access, mailbox, name, done, report, progress, dry=selection.dry))
    report.seconds = round(time.monotonic() - began, 3)
    return report


def _chosen(access: Access, selection: Selection) -> list[Mailbox]:
    everything = access.store.mailboxes(access.account)
    wanted = {names.canonical(name) for name in selection.only}
    for name in wanted - {mailbox.name for mailbox in everything}:
        raise StateError(Fault.NONEXISTENT, f"there is no mailbox {name}")
    return [
        mailbox
        for mailbox in everything
        if not wanted or mailbox.name in wanted or wanted.intersection(names.parents(mailbox.name))
    ]


def _name(mailbox: Mailbox, selection: Selection) -> str:
    if not selection.into:
        return mailbox.name
    return f"{selection.into}/{mailbox.name}"


def digest_of(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()[:16]
