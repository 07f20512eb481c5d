"""Import: messages from a place elsewhere become messages of an account, each once.

Messages are read one after the other; some hundred go in one unit of work, and two units are under
way while the next one is filled. Each carries the note that it went (`store.transfers`), so a run
that was killed is gone on with by the next. What cannot be taken is listed, and the others go on.
At the end all that was added is read back and compared with what was read over there.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from postroad.admin.transfer.folder_work import FolderWork, Waiting
from postroad.admin.transfer.places import (
    Brought,
    Folder,
    Lost,
    Progress,
    Seen,
    Source,
    Still,
)
from postroad.admin.transfer.report import Fault, FolderReport, Report
from postroad.database.contract import Database
from postroad.mail import limits
from postroad.mail.errors import Fault as StateFault
from postroad.mail.errors import StateError
from postroad.mail.uidset import UIDSet
from postroad.store import names, transfers
from postroad.store.blobs import BlobStore
from postroad.store.mailboxes import MailStore
from postroad.store.operations import CreateMailbox, Subscribe
from postroad.store.values import Mailbox, Want

UNITS_UNDER_WAY = 2
_BAD = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """into: a mailbox below which everything comes. mapped: names over there to names here.
    only: these folders alone. octets_max: of a message. again: what came before and is gone by now
    comes again; flags of what is there stay."""

    into: str = ""
    mapped: dict[str, str] = field(default_factory=dict)
    only: frozenset[str] = frozenset()
    octets_max: int = limits.MESSAGE_OCTETS_MAX_DEFAULT
    dry: bool = False
    again: bool = False


class Importer:
    """One run. database: the gate, so that encrypted accounts get their mail sealed."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        account: int,
        choice: Choice,
        *,
        now: Callable[[], float] = time.time,
        progress: Progress = lambda folder, done, total: None,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._store = MailStore(database, blobs, blobs.keys)
        self._account = account
        self._choice = choice
        self._now = now
        self._progress = progress
        self._peer = 0
        self._cipher = None if blobs.keys is None else blobs.keys.cipher(account)
        self._units: deque[asyncio.Task[None]] = deque()
        self._first: dict[int, int] = {}
        """Mailbox to the first UID that this run gave."""
        self.report = Report(dry=choice.dry)

    async def run(self, source: Source) -> Report:
        """Raises: Unavailable, StateError, OSError; what was brought until then is here."""
        began = time.monotonic()
        self._peer = transfers.peer_number(source.name)
        try:
            for folder in await source.folders():
                if not self._choice.only or folder.name in self._choice.only:
                    await self._folder(source, folder)
            if not self._choice.dry:
                await self._verify()
        finally:
            for task in self._units:
                task.cancel()
            await asyncio.gather(*self._units, return_exceptions=True)
        self.report.seconds = round(time.monotonic() - began, 3)
        return self.report

    # -- folders ------------------------------------------------------------------------------

    async def _folder(self, source: Source, folder: Folder) -> None:
        mailbox = await self._target(folder)
        name = mailbox.name if mailbox else self._wanted(folder)
        done = FolderReport(folder.name, name)
        self.report.folders.append(done)
        work = FolderWork(self, folder, mailbox, done)
        count = 0
        async for item in source.messages(folder, work):
            match item:
                case Lost(where, reason):
                    self.report.fail(done, where, reason)
                case Still():
                    done.known += 1
                case Seen():
                    done.known += 1
                    work.meet(item)
                case Brought():
                    await work.take(item)
            count += 1
            if count % 50 == 0:
                self._progress(folder.name, count, folder.count)
                await asyncio.sleep(0)
        await work.finish()
        self._progress(folder.name, count, count)

    def _wanted(self, folder: Folder) -> str:
        choice = self._choice
        name = choice.mapped.get(folder.name, folder.name)
        if choice.into:
            name = choice.into if names.canonical(name) == "INBOX" else f"{choice.into}/{name}"
        return _possible(name)

    async def _target(self, folder: Folder) -> Mailbox | None:
        """Where the folder's messages go; None when only counting and it is not there."""
        account, store = self._account, self._store
        special_use = "" if self._choice.into else folder.special_use
        if special_use and folder.name not in self._choice.mapped:
            for mailbox in store.mailboxes(account):
                if mailbox.special_use == special_use:
                    return mailbox
        name = self._wanted(folder)
        found = store.mailbox(account, name)
        if found is None and not self._choice.dry:
            create = CreateMailbox(
                account=account,
                name=name,
                special_use=special_use,
                now=int(self._now()),
                enforce_quota=False,
            )
            await self._database.submit(create)
            found = store.mailbox(account, name)
        if folder.subscribed and not self._choice.dry:
            await self._database.submit(Subscribe(account=account, name=name, subscribed=True))
        return found

    # -- units --------------------------------------------------------------------------------

    async def send(self, unit: list[Waiting], done: FolderReport) -> None:
        """Begins a unit of work; waits while too many are under way."""
        self._units.append(asyncio.create_task(self._submit(unit, done)))
        while len(self._units) > UNITS_UNDER_WAY:
            await self._units.popleft()

    async def settle(self) -> None:
        while self._units:
            await self._units.popleft()

    async def _submit(self, unit: list[Waiting], done: FolderReport) -> None:
        try:
            results = await self._database.submit(*(item.operation for item in unit))
        except StateError as error:
            if len(unit) > 1:
                for item in unit:  # only the culprit stays behind
                    await self._submit([item], done)
                return
            await self._alone(unit[0], error, done)
            return
        for item, result in zip(unit, results, strict=True):
            if result.added:
                done.added += 1
                self.report.octets += item.operation.content.size
                first = self._first.setdefault(result.mailbox, result.uid)
                self._first[result.mailbox] = min(first, result.uid)
            else:
                done.known += 1

    async def _alone(self, item: Waiting, error: StateError, done: FolderReport) -> None:
        """A message that was refused: perhaps its keywords are too many for the mailbox."""
        operation = item.operation
        if operation.keywords and error.fault in (StateFault.LIMIT, StateFault.CANNOT):
            self.report.remark(item.where, f"its keywords were left out: {error.text}")
            bare = msgspec.structs.replace(operation, keywords=())
            await self._submit([Waiting(bare, item.where)], done)
            return
        self.report.fail(done, item.where, error.text)

    # -- looking again ------------------------------------------------------------------------

    async def _verify(self) -> None:
        """Reads back what this run added."""
        checked = 0
        total = self.report.added
        for page in transfers.known_items(self._database, self._account, self._peer):
            mine = [item for item in page if item.uid >= self._first.get(item.mailbox, 1 << 33)]
            for mailbox in {item.mailbox for item in mine}:
                wanted = {item.uid: item for item in mine if item.mailbox == mailbox}
                self._compare(mailbox, wanted)
                checked += len(wanted)
                self._progress("verifying", min(checked, total), total)
                await asyncio.sleep(0)

    def _compare(self, mailbox: int, wanted: dict[int, transfers.Known]) -> None:
        uids = UIDSet.of(wanted)
        for rows in self._store.messages(self._account, mailbox, uids, Want.OCTETS):
            for row in rows:
                known = wanted.pop(row.uid)
                octets = self._store.octets(row)
                if known.digest in self.digests_of(octets):
                    self.report.verified += 1
                else:
                    self.report.differ.append(_fault(mailbox, row.uid, "its octets differ"))
        for uid in wanted:
            gone = self._database.first(
                "SELECT 1 FROM expunged WHERE account = ? AND mailbox = ?"
                " AND low <= ? AND high >= ?",
                (self._account, mailbox, uid, uid),
            )
            if gone is None and self._store.mailbox_by_id(self._account, mailbox) is not None:
                self.report.differ.append(_fault(mailbox, uid, "it is not there"))

    # -- what folders ask ---------------------------------------------------------------------

    @property
    def peer(self) -> int:
        return self._peer

    @property
    def account(self) -> int:
        return self._account

    @property
    def database(self) -> Database:
        return self._database

    @property
    def blobs(self) -> BlobStore:
        return self._blobs

    @property
    def choice(self) -> Choice:
        return self._choice

    def seconds(self) -> int:
        return int(self._now())

    def digests_of(self, octets: bytes | memoryview) -> list[bytes]:
        """What the octets are known by: now, and as long as the account was not encrypted."""
        plain = hashlib.sha256(octets).digest()
        found = [plain] if self._cipher is None else [self._cipher.tag(plain), plain]
        return [digest[: transfers.KEY_OCTETS] for digest in found]


def _possible(name: str) -> str:
    """The nearest name that a mailbox here may have."""
    levels = [level for level in _BAD.sub("_", name).split("/") if level]
    levels = levels[: limits.MAILBOX_DEPTH_MAX] or ["Imported"]
    name = names.canonical("/".join(levels))
    octets = name.encode()
    if len(octets) > limits.MAILBOX_NAME_OCTETS_MAX:
        short = hashlib.sha256(octets).hexdigest()[:8]
        kept = octets[: limits.MAILBOX_NAME_OCTETS_MAX - 9].decode("utf-8", "ignore")
        name = f"{kept.rstrip('/')}~{short}"
    return name


def _fault(mailbox: int, uid: int, reason: str) -> Fault:
    return Fault(f"mailbox {mailbox}, UID {uid}", reason)
