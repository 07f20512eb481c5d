"""An IMAP account elsewhere as a place that mail comes from.

A message is known by its folder, UIDVALIDITY and UID. Where the server has CONDSTORE, a folder in
which nothing changed since the last run costs one SELECT, else flags of what changed are asked for;
without it the flags of all. When UIDVALIDITY has changed, what is there is compared by its octets
with what came before, so nothing comes twice. A broken connection is made anew, and the folder is
gone on with.
Source: RFC 3501 §6.3.1, §6.4.5, §6.4.8, RFC 7162 §3.1, RFC 4731 §3.1 (ESEARCH), RFC 3516 §4.3.
"""

from __future__ import annotations

import asyncio
import json
import re
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise

from postroad.admin.transfer import remote_folders
from postroad.admin.transfer.places import Brought, Desk, Folder, Item, Lost, Seen
from postroad.admin.transfer.remote import Account, Broken, Refused, Remote
from postroad.mail.errors import Unavailable
from postroad.mail.flags import FLAG_BY_ATOM, Flag
from postroad.mail.uidset import UIDSet
from postroad.message.dates import parse_date
from postroad.net.contract import Dialer
from postroad.protocol.imap.client import (
    Condition,
    Data,
    Literal,
    LiteralBegins,
    LiteralData,
    Value,
)
from postroad.store.contract import Draft

FLAGS_AT_ONCE = 1000
BODIES_AT_ONCE = 50
TRIES = 8
"""In a row without a message between them."""
PAUSE_S = 1.0
_DATE = re.compile(rb" ?(\d{1,2})-(\w{3})-(\d{4}) (\d\d:\d\d:\d\d) ([+-]\d{4})")


@dataclass(frozen=True, slots=True)
class _Selected:
    uidvalidity: int
    uidnext: int
    highestmodseq: int
    exists: int


@dataclass(frozen=True, slots=True)
class _Before:
    """What was noted when the folder was last gone through."""

    uidvalidity: int = 0
    uidnext: int = 0
    highestmodseq: int = 0


class RemoteSource:
    """virtual: also folders that only show what is in others."""

    def __init__(self, account: Account, dialer: Dialer, *, virtual: bool = False) -> None:
        self.name = account.name
        self._remote = Remote(account, dialer)
        self._virtual = virtual
        self._tries = 0

    async def folders(self) -> list[Folder]:
        while True:
            try:
                await self._remote.connect()
                found = await remote_folders.folders(self._remote, virtual=self._virtual)
                self._tries = 0
                return found
            except Broken as error:
                await self._pause(error)
            except Refused as error:
                raise Unavailable(f"the server does not list its folders: {error}") from error

    async def close(self) -> None:
        await self._remote.log_out()

    async def _pause(self, error: Broken) -> None:
        """Before another try. Raises: Unavailable after the last one."""
        self._tries += 1
        if self._tries >= TRIES:
            raise Unavailable(f"{self._remote.account.host}: {error}") from error
        await asyncio.sleep(PAUSE_S * (1 << (self._tries - 1)))

    async def messages(self, folder: Folder, desk: Desk) -> AsyncIterator[Item]:
        """After a break it begins again, and what came is known by then or was told already."""
        told: set[bytes] = set()
        again = False
        while True:
            try:
                if again:
                    await self._remote.connect()
                async for item in self._walk(folder, desk):
                    if isinstance(item, Seen | Brought):
                        if item.identity in told:
                            if isinstance(item, Brought) and item.draft is not None:
                                item.draft.discard()
                            continue
                        told.add(item.identity)
                        self._tries = 0
                    yield item
                return
            except Broken as error:
                await self._pause(error)
                again = True
            except Refused as error:
                yield Lost(folder.name, f"the server says: {error}")
                return

    async def _walk(self, folder: Folder, desk: Desk) -> AsyncIterator[Item]:
        """Raises: Broken, Refused."""
        assert isinstance(folder.place, bytes)
        selected = await self._select(folder.place)
        if not selected.exists:
            return
        before = _before(desk.state())
        same = before.uidvalidity == selected.uidvalidity
        condstore = b"CONDSTORE" in self._remote.capabilities and selected.highestmodseq > 0
        if same and condstore and before.highestmodseq == selected.highestmodseq:
            uids = array("L")
        elif same and condstore and before.highestmodseq:
            changed = b"UID %d:*" % max(before.uidnext, 1)
            uids = await self._search(changed, at_least=before.uidnext)
            async for seen in self._flags(
                b"1:%d" % max(before.uidnext - 1, 1), selected, desk, before.highestmodseq
            ):
                yield seen
        else:
            uids = await self._search(b"ALL")
        if before.uidvalidity and not same:
            desk.begin_anew(_identity(selected, uid) for uid in uids)
        for start in range(0, len(uids), FLAGS_AT_ONCE):
            part = uids[start : start + FLAGS_AT_ONCE]
            new = [uid for uid in part if not desk.known(_identity(selected, uid))]
            old = sorted(set(part) - set(new))
            if old:
                async for seen in self._flags(str(UIDSet.of(old)).encode(), selected, desk, 0):
                    yield seen
            for at in range(0, len(new), BODIES_AT_ONCE):
                wanted = new[at : at + BODIES_AT_ONCE]
                async for item in self._bodies(wanted, selected, folder, desk):
                    yield item
        desk.note(
            json.dumps([selected.uidvalidity, selected.uidnext, selected.highestmodseq]).encode()
        )

    async def _select(self, place: bytes) -> _Selected:
        quoted = b'"' + place.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        condstore = b" (CONDSTORE)" if b"CONDSTORE" in self._remote.capabilities else b""
        values = {b"UIDVALIDITY": 0, b"UIDNEXT": 0, b"HIGHESTMODSEQ": 0}
        exists = 0
        async for event in self._remote.stream(b"EXAMINE " + quoted + condstore):
            if isinstance(event, Condition) and event.code in values:
                values[event.code] = int(event.arguments) if event.arguments.isdigit() else 0
            elif isinstance(event, Data) and event.name == b"EXISTS":
                exists = event.number
        return _Selected(
            values[b"UIDVALIDITY"], values[b"UIDNEXT"], values[b"HIGHESTMODSEQ"], exists
        )

    async def _search(self, key: bytes, *, at_least: int = 0) -> array[int]:
        """UIDs, ascending."""
        command = b"UID SEARCH "
        if b"ESEARCH" in self._remote.capabilities:
            command += b"RETURN (ALL) "
        found: array[int] = array("L")
        for data in await self._remote.gather(command + key):
            if data.name == b"SEARCH":
                found.extend(int(v) for v in data.values if isinstance(v, bytes) and v.isdigit())
            elif data.name == b"ESEARCH":
                values = data.values
                for word, value in pairwise(values):
                    if word == b"ALL" and isinstance(value, bytes):
                        found.extend(UIDSet.parse(value.decode("ascii")))
        return array("L", sorted(uid for uid in found if uid >= at_least))

    async def _flags(
        self, uids: bytes, selected: _Selected, desk: Desk, since: int
    ) -> AsyncIterator[Item]:
        """Flags of what went before; of what changed only, where `since` says since when."""
        command = b"UID FETCH " + uids + b" (UID FLAGS)"
        if since:
            command += b" (CHANGEDSINCE %d)" % since
        async for event in self._remote.stream(command):
            if isinstance(event, Data) and event.name == b"FETCH":
                items = _items(event)
                uid = _number(items.get(b"UID"))
                identity = _identity(selected, uid)
                if uid and b"FLAGS" in items and desk.known(identity):
                    flags, keywords = _parse_flags(items[b"FLAGS"])
                    yield Seen(identity=identity, flags=flags, keywords=keywords)

    async def _bodies(
        self, uids: list[int], selected: _Selected, folder: Folder, desk: Desk
    ) -> AsyncIterator[Item]:
        """Whole messages."""
        draft = desk.draft()
        if draft is None:
            for uid in uids:
                yield _counted(_identity(selected, uid), f"{folder.name}: UID {uid}")
            return
        left = set(uids)
        command = b"UID FETCH " + str(UIDSet.of(uids)).encode()
        try:
            async for event in self._remote.stream(
                command + b" (UID FLAGS INTERNALDATE BODY.PEEK[])"
            ):
                match event:
                    case LiteralBegins():
                        draft = draft or desk.draft()
                    case LiteralData(octets):
                        assert draft is not None
                        draft.write(octets)
                    case Data(name=b"FETCH"):
                        items = _items(event)
                        uid = _number(items.get(b"UID"))
                        if uid not in left or b"BODY[]" not in items:
                            continue  # flags that somebody changed just now
                        left.discard(uid)
                        filled, draft = draft or desk.draft(), None
                        assert filled is not None
                        where = f"{folder.name}: UID {uid}"
                        yield _item(items, _identity(selected, uid), where, filled, desk)
        finally:
            if draft is not None:
                draft.discard()
        # What was expunged meanwhile is no loss; what is still there and does not come is one.
        if left:
            there = await self._search(b"UID " + str(UIDSet.of(left)).encode())
            for uid in sorted(left.intersection(there)):
                yield Lost(f"{folder.name}: UID {uid}", "the server does not give it")


def _counted(identity: bytes, where: str) -> Brought:
    return Brought(
        identity=identity, flags=0, keywords=(), internal_date=None, where=where, draft=None
    )


def _item(items: dict[bytes, Value], identity: bytes, where: str, draft: Draft, desk: Desk) -> Item:
    """The message; a small literal is put into the draft."""
    body = items[b"BODY[]"]
    if isinstance(body, bytes):
        draft.write(body)
    elif not isinstance(body, Literal):
        draft.discard()
        return Lost(where, "the server gives no octets of it")
    flags, keywords = _parse_flags(items.get(b"FLAGS"))
    if desk.recognise(identity, draft.view()):
        draft.discard()
        return Seen(identity=identity, flags=flags, keywords=keywords)
    return Brought(
        identity=identity,
        flags=flags,
        keywords=keywords,
        internal_date=_date(items.get(b"INTERNALDATE")),
        where=where,
        draft=draft,
    )


def _identity(selected: _Selected, uid: int) -> bytes:
    return b"%d/%d" % (selected.uidvalidity, uid)


def _before(state: bytes) -> _Before:
    try:
        return _Before(*map(int, json.loads(state))) if state else _Before()
    except (ValueError, TypeError):
        return _Before()


def _items(data: Data) -> dict[bytes, Value]:
    if len(data.values) != 1 or not isinstance(data.values[0], list):
        return {}
    values = data.values[0]
    pairs = zip(values[::2], values[1::2], strict=False)
    return {name.upper(): value for name, value in pairs if isinstance(name, bytes)}


def _number(value: Value) -> int:
    return int(value) if isinstance(value, bytes) and value.isdigit() else 0


def _parse_flags(value: Value) -> tuple[int, tuple[bytes, ...]]:
    flags, words = Flag(0), []
    for word in value if isinstance(value, list) else ():
        if not isinstance(word, bytes):
            continue
        if word.startswith(b"\\"):
            flags |= FLAG_BY_ATOM.get(word.lower(), Flag(0))
        else:
            words.append(word)
    return int(flags), tuple(sorted(words))


def _date(value: Value) -> int | None:
    found = _DATE.match(value) if isinstance(value, bytes) else None
    if found is None:
        return None
    moment = parse_date(b" ".join(found.groups()))
    return None if moment is None else int(moment.timestamp())
