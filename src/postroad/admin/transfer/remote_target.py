"""An IMAP account elsewhere as a place that mail goes to.

What went is noted by its UID here, in the database, some messages at a time. A run that was killed
leaves messages over there that are not noted: the next one looks at those beyond the last UID that
it knows, asks for the octets of such as have the size of a message that is still to go, and takes
the same ones for gone. So nothing goes twice, and what was there before is not doubled either.
Source: RFC 3501 §6.3.3, §6.3.11, RFC 4315 §3 (APPENDUID), RFC 6154 §3 (CREATE-SPECIAL-USE),
RFC 7888 §4, RFC 4466 §2.2.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from postroad.admin.transfer import remote_folders
from postroad.admin.transfer.exporting import Outbox, digest_of
from postroad.admin.transfer.remote import Account, Broken, Refused, Remote
from postroad.admin.transfer.remote_folders import Namespace
from postroad.admin.transfer.report import Fault
from postroad.mail.errors import Unavailable
from postroad.mail.flags import FLAG_ATOMS
from postroad.mail.uidset import UIDSet
from postroad.net.contract import Dialer
from postroad.protocol.imap.client import (
    Condition,
    Continuation,
    Data,
    LiteralBegins,
    LiteralData,
    literal_begin,
    render_mailbox,
)
from postroad.store import transfers
from postroad.store.transfers import Noted, NoteFolder, NoteTransfers
from postroad.store.values import Mailbox, MessageRow

NOTED_AT_ONCE = 20
TRIES = 8
PAUSE_S = 1.0
PIECE_OCTETS = 64 << 10
FETCHED_AT_ONCE = 200


@dataclass(slots=True)
class _There:
    """A folder over there while mail goes into it. next: UIDs below were looked at."""

    place: bytes
    uidvalidity: int
    next: int
    notes: list[Noted] = field(default_factory=list)
    gone: dict[int, bytes] = field(default_factory=dict)
    """UID over there to digest, of what went in this run."""


class RemoteTarget:
    def __init__(self, account: Account, dialer: Dialer) -> None:
        self.name = account.name
        self._peer = transfers.peer_number(f"to {account.name}")
        self._remote = Remote(account, dialer)
        self._space = Namespace(b"", b"/")
        self._uses: dict[str, bytes] = {}
        self._tries = 0

    async def begin(self, mailboxes: list[tuple[str, Mailbox]]) -> None:
        while True:
            try:
                await self._connect()
                return
            except Broken as error:
                await self._pause(error)
            except Refused as error:
                raise Unavailable(f"the server does not list its folders: {error}") from error

    async def _connect(self) -> None:
        await self._remote.connect()
        self._space = await remote_folders.personal(self._remote)
        found = await remote_folders.folders(self._remote, virtual=False)
        self._uses = {
            folder.special_use: folder.place
            for folder in found
            if folder.special_use and isinstance(folder.place, bytes)
        }

    async def _pause(self, error: Broken) -> None:
        self._tries += 1
        if self._tries >= TRIES:
            raise Unavailable(f"{self._remote.account.host}: {error}") from error
        await asyncio.sleep(PAUSE_S * (1 << (self._tries - 1)))

    async def close(self) -> None:
        await self._remote.log_out()

    async def put(self, outbox: Outbox) -> None:
        if outbox.dry:
            for row in outbox.rows(octets=False):
                if self._known(outbox, row) is None:
                    outbox.report.added += 1
                else:
                    outbox.report.known += 1
            return
        again = False
        while True:
            try:
                if again:
                    await self._connect()
                await self._put(outbox, count_known=not again)
                return
            except Broken as error:
                await self._pause(error)
                again = True
            except Refused as error:
                outbox.total.fail(outbox.report, outbox.name, f"the server says: {error}")
                return

    async def _put(self, outbox: Outbox, *, count_known: bool) -> None:
        """Raises: Broken, Refused (of the folder itself)."""
        if not outbox.mailbox.messages and outbox.name == "INBOX":
            return
        there = await self._open(outbox)
        await self._reconcile(outbox, there)
        try:
            await self._go(outbox, there, count_known=count_known)
        finally:
            await self._note(outbox, there)
        await self._verify(outbox, there)

    async def _go(self, outbox: Outbox, there: _There, *, count_known: bool) -> None:
        changed: list[tuple[transfers.Known, MessageRow]] = []
        for row in outbox.rows():
            known = self._known(outbox, row)
            if known is not None:
                outbox.report.known += count_known
                if _flags(known) != _packed(row):
                    changed.append((known, row))
                continue
            octets = outbox.octets(row)
            if octets is None:
                continue
            await self._append(outbox, there, row, octets)
            if len(there.notes) >= NOTED_AT_ONCE:
                await self._note(outbox, there)
        for known, row in changed:
            await self._change(outbox, there, known, row)

    # -- the folder ---------------------------------------------------------------------------

    async def _open(self, outbox: Outbox) -> _There:
        use = outbox.mailbox.special_use
        name = remote_folders.place_of(outbox.name, self._space)
        (place,) = render_mailbox(name, self._remote.capabilities)
        if use and use in self._uses and outbox.name == outbox.mailbox.name:
            place = _quoted(self._uses[use])
        try:
            uidvalidity = await self._select(place)
        except Refused:
            await self._create(place, use)
            uidvalidity = await self._select(place)
        access = outbox.access
        state = transfers.folder_state(
            access.database, access.account, self._peer, _key(outbox.mailbox)
        )
        before = json.loads(state) if state else [0, 1]
        if before[0] == uidvalidity:
            return _There(place, uidvalidity, int(before[1]))
        if before[0]:
            await self._forget(outbox)
        return _There(place, uidvalidity, 1)

    async def _select(self, place: bytes) -> int:
        """UIDVALIDITY."""
        found = 0
        async for event in self._remote.stream(b"SELECT " + place):
            if isinstance(event, Condition) and event.code == b"UIDVALIDITY":
                found = int(event.arguments) if event.arguments.isdigit() else 0
        return found

    async def _create(self, place: bytes, use: str) -> None:
        if use and b"CREATE-SPECIAL-USE" in self._remote.capabilities:
            try:
                await self._remote.command(b"CREATE %b (USE (%b))" % (place, use.encode()))
                return
            except Refused:
                pass  # RFC 6154 §3: it may not want this use, or two of it
        await self._remote.command(b"CREATE " + place)
        await self._remote.command(b"SUBSCRIBE " + place)

    async def _forget(self, outbox: Outbox) -> None:
        """The folder was made anew: what is in it is found out by its octets."""
        access = outbox.access
        for page in transfers.known_items(
            access.database, access.account, self._peer, _key(outbox.mailbox)
        ):
            gone = tuple(item.item for item in page)
            await access.database.submit(
                NoteTransfers(account=access.account, peer=self._peer, notes=(), forget=gone)
            )

    # -- what is there already ----------------------------------------------------------------

    def _known(self, outbox: Outbox, row: MessageRow) -> transfers.Known | None:
        access = outbox.access
        return transfers.known_item(
            access.database, access.account, self._peer, _item(outbox.mailbox, row)
        )

    async def _reconcile(self, outbox: Outbox, there: _There) -> None:
        """Finds messages over there that are the same as some that are still to go."""
        sizes = await self._sizes(there)
        if not sizes:
            return
        pending: dict[int, list[MessageRow]] = {}
        wanted = set(sizes.values())
        for row in outbox.rows(octets=False):
            if row.size in wanted and self._known(outbox, row) is None:
                pending.setdefault(row.size, []).append(row)
        alike = [uid for uid, size in sizes.items() if size in pending]
        digests = await self._digests(alike) if alike else {}
        left: dict[bytes, list[int]] = {}
        for uid, digest in sorted(digests.items(), reverse=True):
            left.setdefault(digest, []).append(uid)
        for rows in pending.values():
            for bare in rows:
                for row in outbox.rows(UIDSet(((bare.uid, bare.uid),))):
                    octets = outbox.octets(row)
                    uids = left.get(digest_of(octets)) if octets is not None else None
                    if uids:
                        there.notes.append(self._noted(outbox, there, row, uids.pop()))
        there.next = max(there.next, max(sizes) + 1)
        await self._note(outbox, there)

    async def _sizes(self, there: _There) -> dict[int, int]:
        """UID to size of what was not looked at."""
        found = {}
        command = b"UID FETCH %d:* (UID RFC822.SIZE)" % there.next
        async for event in self._remote.stream(command):
            if isinstance(event, Data) and event.name == b"FETCH":
                items = _items(event)
                uid, size = items.get(b"UID", 0), items.get(b"RFC822.SIZE", 0)
                if uid >= there.next:
                    found[uid] = size
        return found

    async def _digests(self, uids: list[int]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for at in range(0, len(uids), FETCHED_AT_ONCE):
            wanted = str(UIDSet.of(uids[at : at + FETCHED_AT_ONCE])).encode()
            digest = hashlib.sha256()
            async for event in self._remote.stream(b"UID FETCH %b (UID BODY.PEEK[])" % wanted):
                match event:
                    case LiteralBegins():
                        digest = hashlib.sha256()
                    case LiteralData(octets):
                        digest.update(octets)
                    case Data(name=b"FETCH"):
                        values = event.values[0] if event.values else None
                        if isinstance(values, list) and b"BODY[]" in values:
                            body = values[values.index(b"BODY[]") + 1]
                            if isinstance(body, bytes):
                                digest = hashlib.sha256(body)
                            found[_items(event).get(b"UID", 0)] = digest.digest()[:16]
                            digest = hashlib.sha256()
        return found

    # -- messages -----------------------------------------------------------------------------

    async def _append(self, outbox: Outbox, there: _There, row: MessageRow, octets: bytes) -> None:
        """Raises: Broken."""
        nul = b"\0" in octets
        if nul and b"BINARY" not in self._remote.capabilities:
            outbox.fail(row, "it holds NUL, and the server has no BINARY")
            return
        begin = b"APPEND %b (%b) %b " % (there.place, b" ".join(_words(row)), _date(row))
        literal = literal_begin(len(octets), self._remote.capabilities, binary=nul)
        tag = await self._remote.begin(begin + literal)
        waits = b"+}" not in literal
        while True:
            if not waits:
                for at in range(0, len(octets), PIECE_OCTETS):
                    await self._remote.write(octets[at : at + PIECE_OCTETS])
                await self._remote.write(b"\r\n")
            event = await self._remote.next()
            while not (isinstance(event, Continuation) and waits) and not (
                isinstance(event, Condition) and event.tag == tag
            ):
                event = await self._remote.next()
            if isinstance(event, Continuation):
                waits = False
                continue
            assert isinstance(event, Condition)
            break
        if event.state != b"OK":
            outbox.fail(row, f"the server says: {event.text}")
            return
        self._tries = 0
        uid = _appended(event, there)
        there.notes.append(self._noted(outbox, there, row, uid))
        if uid:
            there.gone[uid] = digest_of(octets)
            there.next = max(there.next, uid + 1)
        outbox.went(len(octets))

    def _noted(self, outbox: Outbox, there: _There, row: MessageRow, uid: int) -> Noted:
        flags = _packed(row) + b"\n%d" % uid
        mailbox = outbox.mailbox
        return Noted(_item(mailbox, row), b"", mailbox.mailbox, row.uid, flags)

    async def _note(self, outbox: Outbox, there: _There) -> None:
        notes, there.notes = there.notes, []
        access = outbox.access
        state = json.dumps([there.uidvalidity, there.next]).encode()
        await access.database.submit(
            NoteTransfers(account=access.account, peer=self._peer, notes=tuple(notes)),
            NoteFolder(
                account=access.account, peer=self._peer, folder=_key(outbox.mailbox), state=state
            ),
        )

    async def _change(
        self, outbox: Outbox, there: _There, known: transfers.Known, row: MessageRow
    ) -> None:
        """Flags that were changed here since are changed over there."""
        uid = int(known.flags.rpartition(b"\n")[2])
        if uid:
            flags = b" ".join(_words(row))
            try:
                await self._remote.command(b"UID STORE %d FLAGS.SILENT (%b)" % (uid, flags))
            except Refused as error:
                outbox.total.remark(outbox.where(row), f"its flags stay: {error}")
            outbox.report.changed += 1
        there.notes.append(self._noted(outbox, there, row, uid))
        await self._note(outbox, there)

    async def _verify(self, outbox: Outbox, there: _There) -> None:
        found = await self._digests(sorted(there.gone)) if there.gone else {}
        missing = Counter(there.gone.values()) - Counter(found.values())
        outbox.total.verified += len(there.gone) - sum(missing.values())
        for uid, digest in there.gone.items():
            if uid in found and found[uid] != digest:
                outbox.total.differ.append(Fault(f"{outbox.name}: UID {uid}", "its octets differ"))


def _key(mailbox: Mailbox) -> bytes:
    return transfers.folder_key(f"{mailbox.mailbox}/{mailbox.uidvalidity}")


def _item(mailbox: Mailbox, row: MessageRow) -> bytes:
    return _key(mailbox) + b"%010d" % row.uid


def _packed(row: MessageRow) -> bytes:
    return transfers.pack_flags(int(row.flags), row.keywords)


def _flags(known: transfers.Known) -> bytes:
    return known.flags.rpartition(b"\n")[0]


def _words(row: MessageRow) -> list[bytes]:
    return [*(atom for flag, atom in FLAG_ATOMS.items() if row.flags & flag), *row.keywords]


def _date(row: MessageRow) -> bytes:
    moment = datetime.fromtimestamp(max(row.internal_date, 0), UTC)
    return moment.strftime('"%d-%b-%Y %H:%M:%S +0000"').encode("ascii")


def _appended(event: Condition, there: _There) -> int:
    """The UID over there; 0 when the server does not tell."""
    words = event.arguments.split()
    if event.code != b"APPENDUID" or len(words) != 2 or not words[1].isdigit():
        return 0
    return int(words[1]) if words[0] == b"%d" % there.uidvalidity else 0


def _items(data: Data) -> dict[bytes, int]:
    """The numbers of a FETCH response."""
    values = data.values[0] if data.values else None
    if not isinstance(values, list):
        return {}
    pairs = zip(values[::2], values[1::2], strict=False)
    return {
        name.upper(): int(value)
        for name, value in pairs
        if isinstance(name, bytes) and isinstance(value, bytes) and value.isdigit()
    }


def _quoted(octets: bytes) -> bytes:
    return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
