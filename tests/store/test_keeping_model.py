"""Any sequence of copies, moves, removals and restorals over two accounts, against a plain model:
use, limits, what can be brought back, and whose octets are where."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from postroad.database.contract import Operation
from postroad.database.local import LocalDatabase
from postroad.directory.operations import AddAccount
from postroad.mail.errors import Fault, StateError
from postroad.mail.uidset import UIDSet
from postroad.store.blobs import BlobStore
from postroad.store.mailboxes import MailStore
from postroad.store.operations import (
    Append,
    Copy,
    CreateMailbox,
    DeleteMailbox,
    Expunge,
    Move,
    SetQuota,
)
from postroad.store.removed import forget_removed
from postroad.store.undelete import removed_messages, steps
from postroad.store.values import Want
from postroad.store.verify import verify
from support.state import BOB, NOW, add_bob, content_for

ANN = 78
ACCOUNTS = (BOB, ANN)
NAMES = ("INBOX", "Drafts", "x")
FIRST_MAILBOXES = 6
ALL = UIDSet(((1, 1 << 32),))
PLACE = st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(NAMES))
UIDS = st.tuples(st.integers(1, 9), st.integers(1, 9))
Place = tuple[int, str]


class Keeping(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.data_dir = Path(tempfile.mkdtemp(prefix="postroad-keeping-"))
        self.blobs = BlobStore.open(self.data_dir)
        self.now = NOW
        self.count = 0
        self.boxes: dict[Place, dict[int, bytes]] = {}
        self.removed: dict[int, list[tuple[str, int, int, bytes]]] = {BOB: [], ANN: []}
        """(name, UID, removed_at, octets) by account"""
        self.limits: dict[int, tuple[int | None, int | None]] = {
            BOB: (None, None),
            ANN: (None, None),
        }
        self.runner.run(self._open())
        for account in ACCOUNTS:
            for name in NAMES[:2]:
                self.boxes[account, name] = {}

    async def _open(self) -> None:
        self.database = LocalDatabase.open(self.data_dir)
        self.store = MailStore(self.database, self.blobs)
        await add_bob(self.database)
        await self.database.submit(
            AddAccount(
                account=ANN, address="ann@two.example", argon2="a", scram_sha_256="s", now=NOW
            )
        )

    # -- helpers ------------------------------------------------------------------------------

    def submit(self, *operations: Operation[Any]) -> list[Any]:
        return self.runner.run(self.database.submit(*operations))

    def number(self, place: Place) -> int:
        found = self.store.mailbox(*place)
        assert found is not None
        return found.mailbox

    def use(self, account: int) -> tuple[int, int]:
        kept = [
            octets
            for (owner, _), box in self.boxes.items()
            if owner == account
            for octets in box.values()
        ]
        return sum(map(len, kept)), len(kept)

    def fits(self, account: int, octets: list[bytes]) -> bool:
        used = self.use(account)
        more = (sum(map(len, octets)), len(octets))
        return all(
            limit is None or had + new <= limit
            for limit, had, new in zip(self.limits[account], used, more, strict=True)
        )

    def attempt(self, operation: Operation[Any], expected: bool) -> Any:
        """The result, or None when it was refused for want of room, as expected."""
        try:
            (done,) = self.submit(operation)
        except StateError as error:
            assert error.fault is Fault.OVERQUOTA and not expected, error
            return None
        assert expected, f"{operation} should have been refused"
        return done

    # -- rules --------------------------------------------------------------------------------

    @rule(place=PLACE, size=st.integers(1, 50), enforce=st.booleans())
    def append(self, place: Place, size: int, enforce: bool) -> None:
        if place not in self.boxes:
            return
        self.count += 1
        octets = (b"%d " % self.count * 50)[:size]
        operation = Append(
            account=place[0],
            mailbox=self.number(place),
            content=content_for(self.blobs.append(octets), b"", len(octets)),
            internal_date=NOW,
            enforce_quota=enforce,
        )
        done = self.attempt(operation, not enforce or self.fits(place[0], [octets]))
        if done is not None:
            self.boxes[place][done.uid] = octets

    @rule(source=PLACE, to=PLACE, uids=UIDS, move=st.booleans())
    def transfer(self, source: Place, to: Place, uids: tuple[int, int], move: bool) -> None:
        if source not in self.boxes or to not in self.boxes:
            return
        chosen = [uid for uid in sorted(self.boxes[source]) if min(uids) <= uid <= max(uids)]
        octets = [self.boxes[source][uid] for uid in chosen]
        same = source[0] == to[0]
        operation = (Move if move else Copy)(
            account=source[0],
            mailbox=self.number(source),
            uids=[uids],
            to=self.number(to),
            to_account=0 if same else to[0],
            now=self.now,
        )
        room = not octets or (move and same) or self.fits(to[0], octets)
        done = self.attempt(operation, room)
        if done is None:
            return
        assert list(UIDSet.of_ranges(done.source)) == chosen
        new = list(UIDSet.of_ranges(done.target))
        if move:
            for uid in chosen:
                del self.boxes[source][uid]
        self.boxes[to].update(zip(new, octets, strict=True))

    @rule(place=PLACE, uids=UIDS)
    def expunge(self, place: Place, uids: tuple[int, int]) -> None:
        if place not in self.boxes:
            return
        self.now += 1
        (done,) = self.submit(
            Expunge(
                account=place[0],
                mailbox=self.number(place),
                uids=[uids],
                only_deleted=False,
                now=self.now,
            )
        )
        for uid in UIDSet.of_ranges(done.uids):
            octets = self.boxes[place].pop(uid)
            self.removed[place[0]].append((place[1], uid, self.now, octets))

    @rule(account=st.sampled_from(ACCOUNTS))
    def create_or_delete(self, account: int) -> None:
        self.now += 1
        place = (account, "x")
        if place not in self.boxes:
            self.submit(CreateMailbox(account=account, name="x", now=self.now))
            self.boxes[place] = {}
            return
        self.submit(DeleteMailbox(account=account, name="x", now=self.now))
        for uid, octets in self.boxes.pop(place).items():
            self.removed[account].append(("x", uid, self.now, octets))

    @precondition(lambda self: any(self.removed.values()))
    @rule(data=st.data(), into=st.sampled_from(["", "INBOX", "x"]))
    def undelete(self, data: st.DataObject, into: str) -> None:
        account = data.draw(st.sampled_from([a for a in ACCOUNTS if self.removed[a]]))
        there = list(removed_messages(self.database, account))
        chosen = data.draw(st.lists(st.sampled_from(there), min_size=1, unique=True))
        for unit in steps(chosen, into, account, self.now):
            names = {item.name for item in chosen if item.mailbox == unit.mailbox}
            octets = [
                self._taken(account, item.name, item.uid, item.removed_at, item.size)
                for item in sorted(chosen, key=lambda item: item.uid)
                if item.mailbox == unit.mailbox
            ]
            (done,) = self.submit(unit)
            assert {done.name} == ({into} if into else names)
            assert done.created == ((account, done.name) not in self.boxes)
            box = self.boxes.setdefault((account, done.name), {})
            box.update(zip(UIDSet.of_ranges(done.uids), octets, strict=True))

    def _taken(self, account: int, name: str, uid: int, removed_at: int, size: int) -> bytes:
        for place, (known, number, at, octets) in enumerate(self.removed[account]):
            if (known, number, at, len(octets)) == (name, uid, removed_at, size):
                del self.removed[account][place]
                return octets
        raise AssertionError(f"{name} {uid} was not removed")

    @rule(ago=st.integers(0, 5))
    def forget(self, ago: int) -> None:
        before = self.now - ago
        gone = self.runner.run(forget_removed(self.database, before))
        left = {
            account: [item for item in items if item[2] >= before]
            for account, items in self.removed.items()
        }
        assert gone == sum(map(len, self.removed.values())) - sum(map(len, left.values()))
        self.removed = left

    @rule(
        account=st.sampled_from(ACCOUNTS),
        octets=st.none() | st.integers(0, 200),
        messages=st.none() | st.integers(0, 8),
    )
    def limit(self, account: int, octets: int | None, messages: int | None) -> None:
        self.submit(SetQuota(account=account, octets_max=octets, messages_max=messages))
        self.limits[account] = (octets, messages)

    # -- what always holds --------------------------------------------------------------------

    @invariant()
    def use_is_exact(self) -> None:
        for account in ACCOUNTS:
            quota = self.store.quota(account)
            assert quota is not None
            assert (quota.octets, quota.messages) == self.use(account)
            mine = sum(owner == account for owner, _ in self.boxes)
            assert quota.mailboxes == mine + FIRST_MAILBOXES - 2
            gone = self.removed[account]
            assert quota.removed_messages == len(gone)
            assert quota.removed_octets == sum(len(item[3]) for item in gone)
            listed = removed_messages(self.database, account)
            assert sorted((item.name, item.uid, item.removed_at) for item in listed) == sorted(
                item[:3] for item in gone
            )

    @invariant()
    def octets_are_where_they_should_be(self) -> None:
        for place, box in self.boxes.items():
            rows = self.store.messages(place[0], self.number(place), ALL, Want.OCTETS)
            found = {row.uid: self.store.octets(row) for page in rows for row in page}
            assert found == box

    def teardown(self) -> None:
        self.runner.run(self.database.close())
        self.runner.close()
        self.blobs.close()
        try:
            assert list(verify(self.data_dir)) == []
        finally:
            shutil.rmtree(self.data_dir)


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
