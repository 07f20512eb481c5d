"""Any sequence of changes, against a plain model: UIDs, modseqs, flags, counters, changes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from postroad.database.contract import Operation
from postroad.database.local import LocalDatabase
from postroad.mail.errors import StateError
from postroad.mail.flags import Flag
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
    RenameMailbox,
    StoreFlags,
)
from postroad.store.values import FlagMode, Want
from postroad.store.verify import verify
from support.state import BOB, INBOX, NOW, add_bob, content_for

ALL = UIDSet(((1, 1 << 32),))
NAMES = ("x", "y", "x/z")
WORDS = (b"$A", b"b", b"C")
FLAGS = st.integers(0, 31)
KEYWORDS = st.frozensets(st.sampled_from(WORDS), max_size=2)
RANGES = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=3)


@dataclass
class Message:
    octets: bytes
    flags: int
    keywords: frozenset[bytes]
    modseq: int


@dataclass
class Box:
    mailbox: int
    uidvalidity: int
    messages: dict[int, Message] = field(default_factory=dict)
    uidnext: int = 1
    gone: dict[int, int] = field(default_factory=dict)
    """UID to the modseq of its end."""

    def among(self, ranges: list[tuple[int, int]]) -> list[int]:
        asked = UIDSet.of_ranges(ranges)
        return sorted(uid for uid in self.messages if uid in asked)

    def take(self, messages: list[Message], modseq: int) -> list[int]:
        uids = list(range(self.uidnext, self.uidnext + len(messages)))
        self.uidnext += len(messages)
        for uid, item in zip(uids, messages, strict=True):
            self.messages[uid] = Message(item.octets, item.flags, item.keywords, modseq)
        return uids

    def drop(self, uids: list[int], modseq: int) -> None:
        for uid in uids:
            del self.messages[uid]
            self.gone[uid] = modseq


class Mail(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.data_dir = Path(tempfile.mkdtemp(prefix="postroad-model-"))
        self.blobs = BlobStore.open(self.data_dir)
        self.boxes: dict[str, Box] = {}
        self.validities: set[int] = set()
        self.modseq = 1
        self.count = 0
        self._open()
        self.runner.run(add_bob(self.database))

    def _open(self) -> None:
        async def open_() -> LocalDatabase:
            return LocalDatabase.open(self.data_dir)

        self.database = self.runner.run(open_())
        self.store = MailStore(self.database, self.blobs)

    def submit(self, operation: Operation) -> object:
        return self.runner.run(self.database.submit(operation))[0]

    def changed(self, modseq: int) -> None:
        assert modseq > self.modseq
        self.modseq = modseq

    @initialize()
    def inbox(self) -> None:
        found = self.store.mailbox_by_id(BOB, INBOX)
        assert found is not None
        self.boxes["INBOX"] = Box(INBOX, found.uidvalidity)
        self.validities.update(box.uidvalidity for box in self.store.mailboxes(BOB))

    @rule(data=st.data(), flags=FLAGS, keywords=KEYWORDS)
    def append(self, data: st.DataObject, flags: int, keywords: frozenset[bytes]) -> None:
        box = self.boxes[data.draw(st.sampled_from(sorted(self.boxes)))]
        self.count += 1
        octets = b"message %d" % self.count
        content = content_for(self.blobs.append(octets), b"", len(octets))
        done = self.submit(
            Append(
                account=BOB,
                mailbox=box.mailbox,
                content=content,
                flags=flags,
                keywords=tuple(keywords),
                internal_date=NOW,
            )
        )
        self.changed(done.modseq)
        assert done.uid == box.uidnext and done.uidvalidity == box.uidvalidity
        box.take([Message(octets, flags, keywords, 0)], done.modseq)

    @rule(
        data=st.data(),
        ranges=RANGES,
        mode=st.sampled_from([FlagMode.ADD, FlagMode.REMOVE, FlagMode.REPLACE]),
        flags=FLAGS,
        keywords=KEYWORDS,
        since=st.none() | st.integers(0, 30),
    )
    def store_flags(
        self,
        data: st.DataObject,
        ranges: list[tuple[int, int]],
        mode: FlagMode,
        flags: int,
        keywords: frozenset[bytes],
        since: int | None,
    ) -> None:
        box = self.boxes[data.draw(st.sampled_from(sorted(self.boxes)))]
        done = self.submit(
            StoreFlags(
                account=BOB,
                mailbox=box.mailbox,
                uids=ranges,
                mode=mode,
                flags=flags,
                keywords=tuple(keywords),
                unchangedsince=-1 if since is None else since,
            )
        )
        expected: dict[int, tuple[int, frozenset[bytes]]] = {}
        modified = []
        for uid in box.among(ranges):
            item = box.messages[uid]
            if since is not None and item.modseq > since:
                modified.append(uid)
                continue
            new = {
                FlagMode.ADD: (item.flags | flags, item.keywords | keywords),
                FlagMode.REMOVE: (item.flags & ~flags, item.keywords - keywords),
                FlagMode.REPLACE: (flags, keywords),
            }[mode]
            if new != (item.flags, item.keywords):
                expected[uid] = new
        assert list(UIDSet.of_ranges(done.modified)) == modified
        assert {item.uid: (item.flags, frozenset(item.keywords)) for item in done.changed} == (
            expected
        )
        if expected:
            self.changed(done.modseq)
        assert done.modseq == self.modseq
        for uid, (new_flags, new_keywords) in expected.items():
            box.messages[uid] = Message(
                box.messages[uid].octets, new_flags, new_keywords, done.modseq
            )

    @rule(data=st.data(), ranges=RANGES, move=st.booleans())
    def copy_or_move(self, data: st.DataObject, ranges: list[tuple[int, int]], move: bool) -> None:
        names = st.sampled_from(sorted(self.boxes))
        box, to = self.boxes[data.draw(names)], self.boxes[data.draw(names)]
        kind = Move if move else Copy
        done = self.submit(kind(account=BOB, mailbox=box.mailbox, uids=ranges, to=to.mailbox))
        uids = box.among(ranges)
        assert list(UIDSet.of_ranges(done.source)) == uids
        assert done.uidvalidity == to.uidvalidity
        if uids:
            self.changed(done.modseq)
            taken = to.take([box.messages[uid] for uid in uids], done.modseq)
            assert list(UIDSet.of_ranges(done.target)) == taken
            if move:
                box.drop(uids, done.modseq)

    @rule(data=st.data(), ranges=st.none() | RANGES, only_deleted=st.booleans())
    def expunge(
        self, data: st.DataObject, ranges: list[tuple[int, int]] | None, only_deleted: bool
    ) -> None:
        box = self.boxes[data.draw(st.sampled_from(sorted(self.boxes)))]
        done = self.submit(
            Expunge(
                now=NOW, account=BOB, mailbox=box.mailbox, uids=ranges, only_deleted=only_deleted
            )
        )
        uids = [
            uid
            for uid in (sorted(box.messages) if ranges is None else box.among(ranges))
            if not only_deleted or box.messages[uid].flags & Flag.DELETED
        ]
        assert list(UIDSet.of_ranges(done.uids)) == uids
        if uids:
            self.changed(done.modseq)
        box.drop(uids, done.modseq)

    @rule(name=st.sampled_from(NAMES))
    def create(self, name: str) -> None:
        if name in self.boxes:
            return
        try:
            self.submit(CreateMailbox(account=BOB, name=name, now=NOW))
        except StateError as error:
            raise AssertionError(error) from error
        for box in self.store.mailboxes(BOB):
            if box.name in NAMES and box.name not in self.boxes:
                assert box.uidvalidity > max(self.validities)
                assert box.highestmodseq > self.modseq
                self.boxes[box.name] = Box(box.mailbox, box.uidvalidity)
        self.validities.update(box.uidvalidity for box in self.boxes.values())
        self.modseq = max(box.highestmodseq for box in self.store.mailboxes(BOB))

    @precondition(lambda self: len(self.boxes) > 1)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(set(self.boxes) - {"INBOX"})))
        self.submit(DeleteMailbox(account=BOB, name=name, now=NOW))
        del self.boxes[name]
        self.modseq += 1

    @precondition(lambda self: "y" in self.boxes and "x" not in self.boxes)
    @rule()
    def rename(self) -> None:
        self.submit(RenameMailbox(account=BOB, name="y", to="x", now=NOW))
        self.boxes["x"] = self.boxes.pop("y")
        self.modseq += 1

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.database.close())
        self._open()

    @invariant()
    def everything_agrees(self) -> None:
        for name, box in self.boxes.items():
            found = self.store.mailbox(BOB, name)
            assert found is not None
            kept = box.messages.values()
            assert (found.mailbox, found.uidvalidity, found.uidnext) == (
                box.mailbox,
                box.uidvalidity,
                box.uidnext,
            )
            assert (found.messages, found.unseen, found.deleted, found.size) == (
                len(kept),
                sum(not item.flags & Flag.SEEN for item in kept),
                sum(bool(item.flags & Flag.DELETED) for item in kept),
                sum(len(item.octets) for item in kept),
            )
            rows = {
                row.uid: Message(
                    self.store.octets(row), int(row.flags), frozenset(row.keywords), row.modseq
                )
                for rows in self.store.messages(BOB, box.mailbox, ALL, Want.OCTETS, 3)
                for row in rows
            }
            assert rows == box.messages
            for since in (0, self.modseq // 2, self.modseq - 1, self.modseq):
                changes = self.store.changes(BOB, box.mailbox, since)
                assert changes is not None and changes.highestmodseq <= self.modseq
                assert [row.uid for row in changes.changed] == sorted(
                    uid for uid, item in box.messages.items() if item.modseq > since
                )
                assert list(changes.vanished) == sorted(
                    uid for uid, modseq in box.gone.items() if modseq > since
                )

    def teardown(self) -> None:
        self.runner.run(self.database.close())
        self.runner.close()
        self.blobs.close()
        try:
            assert list(verify(self.data_dir)) == []
        finally:
            shutil.rmtree(self.data_dir)


TestMail = Mail.TestCase
TestMail.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
