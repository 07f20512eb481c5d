"""One folder on its way in: what its source asks, and messages that become operations.

What a message is known by, whether it fits, which flags changed over there; knows no connection and
no file. `importing` says where the folder goes and sends the units of work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroad.admin.transfer.places import Brought, Desk, Folder, Seen
from postroad.admin.transfer.report import FolderReport
from postroad.mail.errors import StateError
from postroad.mail.flags import KEYWORD_OCTETS_MAX, KEYWORDS_PER_MESSAGE_MAX
from postroad.message.binary import Unencodable, encode_nul_parts
from postroad.message.summary import summarize
from postroad.store import transfers
from postroad.store.contract import Draft
from postroad.store.operations import StoreFlags
from postroad.store.transfers import Import, Noted, NoteFolder, NoteTransfers
from postroad.store.values import Content, FlagMode, Mailbox, content_of

if TYPE_CHECKING:
    from postroad.admin.transfer.importing import Importer

BATCH_MESSAGES = 200
BATCH_OCTETS = 4 << 20
"""Of headers and structures in one unit of work: a sixteenth of a frame to the store process."""
_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+\Z")


@dataclass(slots=True)
class Waiting:
    """A message of the unit that is being filled."""

    operation: Import
    where: str


@dataclass(frozen=True, slots=True)
class _Change:
    """A message that came before, with other flags now, or known as another item."""

    known: transfers.Known
    seen: Seen
    item: bytes


class FolderWork(Desk):
    """One folder in hand."""

    def __init__(
        self, run: Importer, folder: Folder, mailbox: Mailbox | None, done: FolderReport
    ) -> None:
        self._run = run
        self._mailbox = mailbox
        self._done = done
        self._key = transfers.folder_key(folder.name)
        self._met: transfers.Known | None = None
        self._unit: list[Waiting] = []
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
        self._unit.append(Waiting(operation, item.where))
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
