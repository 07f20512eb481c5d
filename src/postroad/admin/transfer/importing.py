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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from postroad.admin.transfer.places import (
    Brought,
    Desk,
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
from postroad.mail.flags import KEYWORD_OCTETS_MAX, KEYWORDS_PER_MESSAGE_MAX
from postroad.mail.uidset import UIDSet
from postroad.message.binary import Unencodable, encode_nul_parts
from postroad.message.summary import summarize
from postroad.store import names, transfers
from postroad.store.blobs import BlobStore
from postroad.store.contract import Draft
from postroad.store.mailboxes import MailStore
from postroad.store.operations import CreateMailbox, StoreFlags, Subscribe
from postroad.store.transfers import Import, Noted, NoteFolder, NoteTransfers
from postroad.store.values import Content, FlagMode, Mailbox, Want, content_of

BATCH_MESSAGES = 200
BATCH_OCTETS = 4 << 20
"""Of headers and structures in one unit of work: a sixteenth of a frame to the store process."""
UNITS_UNDER_WAY = 2
_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+\Z")
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


@dataclass(slots=True)
class _Waiting:
    """A message of the unit that is being filled."""

    operation: Import
    where: str


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
        work = _FolderWork(self, folder, mailbox, done)
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

    async def send(self, unit: list[_Waiting], done: FolderReport) -> None:
        """Begins a unit of work; waits while too many are under way."""
        self._units.append(asyncio.create_task(self._submit(unit, done)))
        while len(self._units) > UNITS_UNDER_WAY:
            await self._units.popleft()

    async def settle(self) -> None:
        while self._units:
            await self._units.popleft()

    async def _submit(self, unit: list[_Waiting], done: FolderReport) -> None:
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

    async def _alone(self, item: _Waiting, error: StateError, done: FolderReport) -> None:
        """A message that was refused: perhaps its keywords are too many for the mailbox."""
        operation = item.operation
        if operation.keywords and error.fault in (StateFault.LIMIT, StateFault.CANNOT):
            self.report.remark(item.where, f"its keywords were left out: {error.text}")
            bare = msgspec.structs.replace(operation, keywords=())
            await self._submit([_Waiting(bare, item.where)], done)
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


@dataclass(frozen=True, slots=True)
class _Change:
    """A message that came before, with other flags now, or known as another item."""

    known: transfers.Known
    seen: Seen
    item: bytes


class _FolderWork(Desk):
    """One folder in hand."""

    def __init__(
        self, run: Importer, folder: Folder, mailbox: Mailbox | None, done: FolderReport
    ) -> None:
        self._run = run
        self._mailbox = mailbox
        self._done = done
        self._key = transfers.folder_key(folder.name)
        self._met: transfers.Known | None = None
        self._unit: list[_Waiting] = []
        self._octets = 0
        self._changed: list[_Change] = []
        self._earlier: dict[bytes, list[transfers.Known]] = {}
        """What came under identities that are no more, by digest."""
        self._renamed = b""
        self._state: bytes | None = None
        self._forget: list[bytes] = []

    # -- Desk

    def known(self, identity: bytes) -> bool:
        run = self._run
        for digest in run.digests_of(identity):
            found = transfers.known_item(run.database, run.account, run.peer, self._key + digest)
            if found is not None and run.choice.again and self._is_gone(found):
                self._forget.append(found.item)
            elif found is not None:
                self._met = found
                return True
        self._met = None
        return False

    def _is_gone(self, known: transfers.Known) -> bool:
        run = self._run
        row = run.database.first(
            "SELECT 1 FROM message WHERE account = ? AND mailbox = ? AND uid = ?",
            (run.account, known.mailbox, known.uid),
        )
        return row is None

    def draft(self) -> Draft | None:
        return None if self._run.choice.dry else self._run.blobs.draft()

    def state(self) -> bytes:
        run = self._run
        return transfers.folder_state(run.database, run.account, run.peer, self._key)

    def note(self, state: bytes) -> None:
        self._state = state

    def begin_anew(self, identities: Iterator[bytes]) -> None:
        run = self._run
        current = set()
        for identity in identities:
            if self.known(identity) and self._met is not None:
                current.add(self._met.item)
        self._earlier = {}
        for page in transfers.known_items(run.database, run.account, run.peer, self._key):
            for item in page:
                if item.item not in current:
                    self._earlier.setdefault(item.digest, []).append(item)

    def recognise(self, identity: bytes, octets: memoryview) -> bool:
        run = self._run
        if not self._earlier:
            return False
        for digest in run.digests_of(octets):
            same = self._earlier.get(digest)
            if same:
                self._met = same.pop(0)
                self._renamed = self._key + run.digests_of(identity)[0]
                return True
        return False

    # -- messages

    def meet(self, item: Seen) -> None:
        """Flags that were changed over there since are changed here too."""
        if self._run.choice.again:
            return
        known, renamed = self._met, self._renamed
        self._renamed = b""
        assert known is not None
        flags = transfers.pack_flags(item.flags, _keywords(item.keywords))
        if known.flags != flags or renamed:
            self._changed.append(_Change(known, item, renamed or known.item))

    async def take(self, item: Brought) -> None:
        if item.draft is None:
            self._done.added += 1
            return
        try:
            operation = self._operation(item, item.draft)
        except _Unfit as error:
            self._run.report.fail(self._done, item.where, str(error))
            return
        finally:
            item.draft.discard()
        self._unit.append(_Waiting(operation, item.where))
        self._octets += _weight(operation.content)
        if len(self._unit) >= BATCH_MESSAGES or self._octets >= BATCH_OCTETS:
            await self._send()

    def _operation(self, item: Brought, draft: Draft) -> Import:
        """Raises: _Unfit, Unavailable."""
        run = self._run
        assert self._mailbox is not None
        if not draft.size:
            raise _Unfit("there is no message in it")
        if draft.size > run.choice.octets_max:
            raise _Unfit(
                f"it has {draft.size} octets, and [limits] message_octets is"
                f" {run.choice.octets_max}"
            )
        ready = draft
        if _has_nul(draft.view()):
            ready = self._encoded(draft, item.where)
        try:
            view = ready.view()
            digest = run.digests_of(view)[0]
            summary = summarize(view)
            blob = ready.commit(run.account)
        finally:
            ready.discard()
        keywords = _keywords(item.keywords)
        if len(keywords) < len(set(item.keywords)):
            run.report.remark(item.where, "keywords that no mailbox can have were left out")
        date = item.internal_date
        if date is None or not 0 <= date < 1 << 33:
            date = summary.sent or run.seconds()
        return Import(
            account=run.account,
            mailbox=self._mailbox.mailbox,
            content=content_of(summary, blob, b""),
            flags=item.flags,
            keywords=keywords,
            internal_date=date,
            now=run.seconds(),
            peer=run.peer,
            item=self._key + run.digests_of(item.identity)[0],
            digest=digest,
        )

    def _encoded(self, draft: Draft, where: str) -> Draft:
        """Without NUL, which IMAP cannot carry. Raises: _Unfit, Unavailable."""
        encoded = self._run.blobs.draft()
        try:
            for piece in encode_nul_parts(draft.view()):
                encoded.write(piece)
        except Unencodable as error:
            encoded.discard()
            raise _Unfit(f"it holds NUL: {error}") from error
        self._run.report.remark(where, "parts with NUL in them were encoded in base64")
        return encoded

    async def _send(self) -> None:
        unit, self._unit, self._octets = self._unit, [], 0
        forget, self._forget = self._forget, []
        run = self._run
        if forget and not run.choice.dry:
            await run.database.submit(
                NoteTransfers(account=run.account, peer=run.peer, notes=(), forget=tuple(forget))
            )
        if unit:
            await self._run.send(unit, self._done)

    async def finish(self) -> None:
        await self._send()
        await self._run.settle()
        run = self._run
        if run.choice.dry:
            self._done.changed += len(self._changed)
            return
        for change in self._changed:
            await self._change(change)
        if self._state is not None and not self._done.failed:
            await run.database.submit(
                NoteFolder(account=run.account, peer=run.peer, folder=self._key, state=self._state)
            )

    async def _change(self, change: _Change) -> None:
        run, known = self._run, change.known
        keywords = _keywords(change.seen.keywords)
        flags = transfers.pack_flags(change.seen.flags, keywords)
        noting = NoteTransfers(
            account=run.account,
            peer=run.peer,
            notes=(Noted(change.item, known.digest, known.mailbox, known.uid, flags),),
            forget=() if change.item == known.item else (known.item,),
        )
        if known.flags == flags:
            await run.database.submit(noting)
            return
        store = StoreFlags(
            account=run.account,
            mailbox=known.mailbox,
            uids=[(known.uid, known.uid)],
            mode=FlagMode.REPLACE,
            flags=change.seen.flags,
            keywords=keywords,
        )
        try:
            stored, _ = await run.database.submit(store, noting)
        except StateError:
            await run.database.submit(noting)  # its mailbox is gone, or cannot have the keyword
            return
        self._done.changed += len(stored.changed)


class _Unfit(Exception):
    """Why a message cannot be taken."""


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


def _keywords(keywords: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Those that a mailbox can have, each once in any case."""
    fit = {word.lower(): word for word in sorted(set(keywords), reverse=True)}
    found = [
        word
        for word in fit.values()
        if len(word) <= KEYWORD_OCTETS_MAX and _ATOM.match(word) is not None
    ]
    return tuple(sorted(found)[:KEYWORDS_PER_MESSAGE_MAX])


def _has_nul(view: memoryview) -> bool:
    step = 1 << 20
    return any(b"\0" in bytes(view[at : at + step]) for at in range(0, len(view), step))


def _weight(content: Content) -> int:
    return (
        len(content.header)
        + len(content.envelope)
        + len(content.body)
        + len(content.bodystructure)
        + len(content.structure)
        + 1000
    )


def _fault(mailbox: int, uid: int, reason: str) -> Fault:
    return Fault(f"mailbox {mailbox}, UID {uid}", reason)
