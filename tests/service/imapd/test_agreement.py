"""Several sessions of every manner on one mailbox: what each client believes is always right.

A client believes what it hears: numbers, UIDs, flags, mod-sequences. However the commands of
several of them mix, no number ever means another message, no UID comes again, no mod-sequence
falls, no flag comes back; and a client that resynchronizes knows all that it missed.
Source: RFC 3501 §5.5, §7.4.1; RFC 7162 §3.2; RFC 9051 §5.5; RFC 9586.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from postroad.mail.flags import FLAG_ATOMS
from postroad.mail.uidset import UIDSet
from postroad.service.imapd import IMAPService, news, reading, resync, view
from postroad.service.imapd import fetch as fetching
from postroad.service.imapd.events import IMAPCommandCrashed
from postroad.store import selected, slices
from support.imap import Client
from support.sites import TestSite, make_site

_FETCH = re.compile(rb"\* (\d+) (UID)?FETCH \((.*)\)\Z", re.DOTALL)
_FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")
_UID = re.compile(rb"\bUID (\d+)")
_MODSEQ = re.compile(rb"MODSEQ \((\d+)\)")
_HIGHEST = re.compile(rb"\[HIGHESTMODSEQ (\d+)\]")
_VANISHED = re.compile(rb"\* VANISHED (\(EARLIER\) )?(\S+)\Z")

MANNERS = (
    b"", b"CONDSTORE", b"QRESYNC", b"UIDONLY", b"QRESYNC UIDONLY", b"IMAP4rev2",
    b"SELECTED", b"SELECTED QRESYNC", b"SELECTED UIDONLY", b"DELAYED", b"DELAYED CONDSTORE",
)  # fmt: skip
"""What a client enables; SELECTED and DELAYED: and asks NOTIFY to tell it at once (RFC 5465)."""
FLAG_NAMES = ("\\Seen", "\\Flagged", "\\Deleted", "work", "$x")


class Ear:
    """One client, and what it believes."""

    def __init__(self, client: Client, manner: bytes) -> None:
        self.client = client
        self.manner = manner
        self.uids: list[int | None] = []
        self.flags: dict[int, frozenset[str]] = {}
        self.modseqs: dict[int, int] = {}
        self.gone: set[int] = set()
        self.highest = 0
        self.safe = 0
        """The mod-sequence that it may come back with: as of when it knew every message."""
        self.uidvalidity = 0

    @property
    def uid_only(self) -> bool:
        return b"UIDONLY" in self.manner

    @property
    def qresync(self) -> bool:
        return b"QRESYNC" in self.manner

    @property
    def is_told_at_once(self) -> bool:
        return b"SELECTED" in self.manner or b"DELAYED" in self.manner

    @property
    def uses_numbers(self) -> bool:
        """Not where the meaning of a number may change at any time (RFC 5465 §5.3)."""
        return not self.uid_only and b"SELECTED" not in self.manner

    @property
    def known(self) -> list[int]:
        return [uid for uid in self.uids if uid is not None]

    async def ask(self, command: bytes) -> list[bytes]:
        return await self.client.ask(command)

    async def listen(self) -> None:
        """Hears what was told unasked since its last command."""
        if self.is_told_at_once:
            self.hear(await self.ask(b"ID NIL"))

    def hear(self, responses: list[bytes]) -> None:
        """What one command answered. The client keeps the mod-sequence as RFC 7162 §5 says: the
        code that came, else the highest it heard."""
        code = 0
        heard = self.highest
        for response in responses:
            if found := _HIGHEST.search(response):
                code = int(found[1])
            if found := re.match(rb"\* (\d+) EXPUNGE", response):
                assert not self.qresync and not self.uid_only
                self.remove(int(found[1]) - 1)
            elif found := re.match(rb"\* (\d+) EXISTS", response):
                assert int(found[1]) >= len(self.uids), "EXISTS takes nothing away"
                self.uids += [None] * (int(found[1]) - len(self.uids))
            elif found := _VANISHED.match(response):
                assert found[1] is None, "EARLIER belongs to a resynchronization"
                for uid in UIDSet.parse(found[2].decode()):
                    self.vanish(uid)
            elif found := _FETCH.match(response):
                heard = max(heard, self.fetched(int(found[1]), bool(found[2]), found[3]))
            assert not response.startswith(b"* BYE"), response
        if code:
            assert code >= self.highest, "HIGHESTMODSEQ has fallen"
        self.highest = code or heard
        if None not in self.uids:
            self.safe = self.highest

    def remove(self, at: int) -> None:
        assert 0 <= at < len(self.uids), "there is no such message"
        uid = self.uids.pop(at)
        if uid is not None:
            self.gone.add(uid)

    def vanish(self, uid: int) -> None:
        assert uid not in self.gone, "it was gone already"
        if uid in self.uids:
            self.uids.remove(uid)
        else:
            assert None in self.uids, "it was not announced"
            first = self.uids.index(None)
            self.uids[first:] = [None] * (len(self.uids) - first - 1)
        self.gone.add(uid)

    def fetched(self, number: int, by_uid: bool, items: bytes) -> int:
        assert by_uid == self.uid_only
        named = _UID.search(items)
        uid: int | None
        if by_uid:
            uid = number
            if uid not in self.uids:
                assert None in self.uids, "it was not announced"
                self.uids.remove(None)
                self.uids = [*sorted([*self.known, uid]), *[None] * self.uids.count(None)]
        else:
            assert 1 <= number <= len(self.uids), "there is no such number"
            believed = self.uids[number - 1]
            uid = int(named[1]) if named else believed
            assert believed in (None, uid), "a number changed its message"
            self.uids[number - 1] = uid
        assert self.known == sorted(set(self.known)), "UIDs ascend"
        if uid is None:
            return 0
        assert uid not in self.gone, "a UID came back"
        if found := _FLAGS.search(items):
            self.flags[uid] = _told(found[1])
        if found := _MODSEQ.search(items):
            modseq = int(found[1])
            assert modseq >= self.modseqs.get(uid, 0), "a mod-sequence fell"
            self.modseqs[uid] = modseq
            return modseq
        return 0

    def deduce(self, uids: list[int], mode: str, flags: frozenset[str]) -> None:
        """What a silent STORE that was told nothing means."""
        for uid in uids:
            if mode == "":
                self.flags[uid] = flags
            elif uid in self.flags:
                before = self.flags[uid]
                self.flags[uid] = before | flags if mode == "+" else before - flags


def _told(octets: bytes) -> frozenset[str]:
    return frozenset(octets.decode().split()) - {"\\Recent"}


class Agreement(RuleBasedStateMachine):
    """Rules run on a loop of the machine's own."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.directory = tempfile.TemporaryDirectory()
        self.ears: list[Ear] = []

    def run(self, body: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(body, 30))

    @initialize(
        manners=st.lists(st.sampled_from(MANNERS), min_size=2, max_size=4),
        messages=st.integers(0, 6),
    )
    def begin(self, manners: list[bytes], messages: int) -> None:
        async def body() -> None:
            self.made: TestSite = await self.stack.enter_async_context(
                make_site(Path(self.directory.name), plaintext_on_loopback=True)
            )
            self.service = IMAPService(self.made.site, False)
            for manner in manners:
                ear = Ear(await self.connect(manner), manner)
                self.ears.append(ear)
                if ear is self.ears[0]:
                    for _ in range(messages):
                        await ear.client.append()
                await self.select(ear)

        self.run(body())

    async def connect(self, manner: bytes) -> Client:
        client = await self.stack.enter_async_context(Client(self.service))
        await client.login()
        words = manner.split()
        told = [word for word in words if word in (b"SELECTED", b"DELAYED")]
        if enabled := [word for word in words if word not in told]:
            await client.ok(b"ENABLE " + b" ".join(enabled))
        if told:
            whose = b"selected-delayed" if b"DELAYED" in told else b"selected"
            events = b"(MessageNew (FLAGS) MessageExpunge FlagChange)"
            await client.ok(b"NOTIFY SET (%b %b)" % (whose, events))
        return client

    async def select(self, ear: Ear) -> None:
        out = await ear.client.ok(b"SELECT INBOX")
        ear.uids, ear.flags, ear.modseqs, ear.gone = [], {}, {}, set()
        ear.hear(out)
        for response in out:
            if found := re.search(rb"UIDVALIDITY (\d+)", response):
                ear.uidvalidity = int(found[1])
        ear.hear(await ear.ask(self.everything(ear)))

    def everything(self, ear: Ear) -> bytes:
        return b"UID FETCH 1:* (UID FLAGS)" if ear.uid_only else b"FETCH 1:* (UID FLAGS)"

    def truth(self) -> dict[int, frozenset[str]]:
        account = self.made.accounts["ann@one.example"]
        store = self.made.site.store
        return {
            row.uid: frozenset(
                [atom.decode() for flag, atom in FLAG_ATOMS.items() if row.flags & flag]
                + [word.decode() for word in row.keywords]
            )
            for rows in store.messages(account, 1, UIDSet(((1, 1 << 31),)))
            for row in rows
        }

    def teardown(self) -> None:
        async def close() -> None:
            if self.ears:
                for ear in self.ears:
                    await self.settled(ear)
                crashes = self.made.traced(IMAPCommandCrashed)
                assert not crashes, crashes[0].error
            await self.stack.aclose()

        try:
            self.run(close())
        finally:
            self.loop.close()
            self.directory.cleanup()

    async def settled(self, ear: Ear) -> None:
        """After NOOP a client knows how many there are, and every flag that it knows is right."""
        ear.hear(await ear.client.ok(b"NOOP"))
        truth = self.truth()
        assert len(ear.uids) == len(truth)
        assert set(ear.known) <= set(truth)
        for uid in ear.known:
            if uid in ear.flags:
                assert ear.flags[uid] == truth[uid], (ear.manner, uid)
        ear.hear(await ear.ask(self.everything(ear)))
        assert ear.known == sorted(truth)
        assert {uid: ear.flags[uid] for uid in ear.known} == truth

    # -- what clients do ----------------------------------------------------------------------

    ears_ = st.integers(0, 3)
    picks = st.lists(st.integers(0, 20), min_size=1, max_size=4)

    def ear(self, index: int) -> Ear:
        ear = self.ears[index % len(self.ears)]
        self.run(ear.listen())
        return ear

    def named(self, ear: Ear, picks: list[int], by_uid: bool) -> tuple[bytes, bytes, list[int]]:
        """(command prefix, set, the UIDs it means); empty when the client knows too little."""
        if by_uid or not ear.uses_numbers:
            uids = sorted({ear.known[pick % len(ear.known)] for pick in picks} if ear.known else ())
            return b"UID ", b",".join(b"%d" % uid for uid in uids), uids
        places = sorted({pick % len(ear.uids) for pick in picks} if ear.uids else ())
        if any(ear.uids[place] is None for place in places):
            places = []
        numbers = b",".join(b"%d" % (place + 1) for place in places)
        return b"", numbers, [uid for place in places if (uid := ear.uids[place]) is not None]

    @rule(index=ears_)
    def append(self, index: int) -> None:
        ear = self.ear(index)
        ear.hear(self.run(ear.ask(b"APPEND INBOX {5+}\r\na: b\n")))

    @rule(index=ears_, count=st.integers(2, 5))
    def append_many(self, index: int, count: int) -> None:
        ear = self.ear(index)
        for _ in range(count):
            ear.hear(self.run(ear.ask(b"APPEND INBOX (\\Flagged) {5+}\r\na: b\n")))

    async def do_store(
        self, ear: Ear, picks: list[int], by_uid: bool, mode: str, silent: bool, names: list[str]
    ) -> None:
        prefix, which, uids = self.named(ear, picks, by_uid)
        if not which:
            return
        flags = frozenset(names)
        silent = silent and not ear.is_told_at_once  # else news could come before the answer
        command = b"%bSTORE %b %bFLAGS%b (%b)" % (
            prefix, which, mode.encode(), b".SILENT" if silent else b"", " ".join(names).encode(),
        )  # fmt: skip
        out = await ear.ask(command)
        assert out[-1].startswith(b"OK"), (command, out)
        if silent:
            ear.deduce(uids, mode, flags)
        ear.hear(out)

    store_args = st.tuples(
        picks, st.booleans(), st.sampled_from(("+", "-", "")), st.booleans(),
        st.lists(st.sampled_from(FLAG_NAMES), unique=True, max_size=2),
    )  # fmt: skip

    @rule(index=ears_, args=store_args)
    def store(self, index: int, args: Any) -> None:
        ear = self.ear(index)
        before = self.truth()
        _, which, uids = self.named(ear, args[0], args[1])
        self.run(self.do_store(ear, *args))
        if which:
            _, _, mode, _, names = args
            flags = frozenset(names)
            for uid in uids:
                if uid in before:
                    had = before[uid]
                    before[uid] = {"+": had | flags, "-": had - flags, "": flags}[mode]
        assert self.truth() == before

    @rule(index=ears_, picks=picks, by_uid=st.booleans(), move=st.booleans())
    def copy(self, index: int, picks: list[int], by_uid: bool, move: bool) -> None:
        ear = self.ear(index)
        prefix, which, uids = self.named(ear, picks, by_uid)
        if not which:
            return
        before = self.truth()
        verb = b"MOVE" if move else b"COPY"
        ear.hear(self.run(ear.ask(b"%b%b %b Archive" % (prefix, verb, which))))
        left = {uid: flags for uid, flags in before.items() if not move or uid not in uids}
        assert self.truth() == left

    @rule(index=ears_)
    def expunge(self, index: int) -> None:
        ear = self.ear(index)
        before = self.truth()
        out = self.run(ear.client.ok(b"EXPUNGE"))
        ear.hear(out)
        left = {uid: flags for uid, flags in before.items() if "\\Deleted" not in flags}
        assert self.truth() == left
        if ear.qresync:
            assert (b"[HIGHESTMODSEQ" in out[-1]) == (left != before)

    @rule(index=ears_, picks=picks)
    def copy_here(self, index: int, picks: list[int]) -> None:
        ear = self.ear(index)
        prefix, which, _ = self.named(ear, picks, True)
        if which:
            ear.hear(self.run(ear.ask(b"%bCOPY %b INBOX" % (prefix, which))))

    @rule(index=ears_, picks=picks, by_uid=st.booleans(), modseq=st.booleans())
    def fetch(self, index: int, picks: list[int], by_uid: bool, modseq: bool) -> None:
        ear = self.ear(index)
        prefix, which, _ = self.named(ear, picks, by_uid)
        if which:
            items = b"(UID FLAGS MODSEQ)" if modseq and ear.qresync else b"(UID FLAGS)"
            ear.hear(self.run(ear.ask(b"%bFETCH %b %b" % (prefix, which, items))))

    @rule(index=ears_, picks=picks)
    def see(self, index: int, picks: list[int]) -> None:
        ear = self.ear(index)
        prefix, which, _ = self.named(ear, picks, False)
        if which:
            ear.hear(self.run(ear.ask(b"%bFETCH %b BODY[TEXT]" % (prefix, which))))

    @rule(first=ears_, second=ears_, one=store_args, two=store_args)
    def at_once(self, first: int, second: int, one: Any, two: Any) -> None:
        a, b = self.ear(first), self.ear(second)
        if a is b:
            return

        async def body() -> None:
            await asyncio.gather(self.do_store(a, *one), self.do_store(b, *two))

        self.run(body())

    @rule(index=ears_)
    def noop(self, index: int) -> None:
        ear = self.ear(index)
        ear.hear(self.run(ear.client.ok(b"NOOP")))

    @rule(index=ears_)
    def check(self, index: int) -> None:
        self.run(self.settled(self.ear(index)))

    @precondition(lambda self: any(ear.qresync for ear in self.ears))
    @rule(index=ears_, whole=st.booleans(), broken=st.booleans(), matches=st.booleans())
    def resynchronize(self, index: int, whole: bool, broken: bool, matches: bool) -> None:
        able = [ear for ear in self.ears if ear.qresync]
        ear = able[index % len(able)]
        self.run(self.do_resync(ear, whole, broken, matches))

    async def do_resync(self, ear: Ear, whole: bool, broken: bool, matches: bool) -> None:
        """The client leaves, or is cut off, and comes back with what it remembers."""
        if broken:
            ear.client = await self.connect(ear.manner)
        else:
            await ear.client.ok(b"UNSELECT")
        known = ear.known
        given = b"(%d %d" % (ear.uidvalidity, ear.safe)
        if whole and known:
            given += b" %b" % str(UIDSet.of(known)).encode()
        if matches and known and not ear.uid_only and None not in ear.uids:
            given += b" (%d %d)" % (len(known), known[-1])
        out = await ear.client.ok(b"SELECT INBOX (QRESYNC " + given + b"))")
        truth = self.truth()
        uids = set(known)
        after = Ear(ear.client, ear.manner)
        after.modseqs = dict(ear.modseqs)
        for response in out:
            if found := _VANISHED.match(response):
                assert found[1], "nothing vanishes within a SELECT"
                uids -= set(UIDSet.parse(found[2].decode()))
            else:
                after.hear([response])
        flags = {uid: ear.flags[uid] for uid in uids if uid in ear.flags} | after.flags
        assert uids <= set(truth), "the client was not told that a message is gone"
        assert len(after.uids) == len(truth)
        if not whole:
            assert uids | set(after.known) == set(truth), "a new message was not told"
        for uid, believed in flags.items():
            assert believed == truth[uid], "a change of flags was not told"
        after.flags, after.uidvalidity = flags, ear.uidvalidity
        after.gone = ear.gone
        self.ears[self.ears.index(ear)] = after
        after.hear(await after.ask(self.everything(after)))
        assert after.known == sorted(truth)


@pytest.fixture(autouse=True)
def small_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that comes by pages or on threads from some size on does so at once."""
    if request.node.name == "test_small_pages":
        for module, name, value in (
            (view, "NUMBERS_AT_ONCE", 0), (news, "NUMBERS_AT_ONCE", 0), (news, "FLAG_PAGE", 1),
            (fetching, "CHANGED_SET", 0), (reading, "PLAIN_SLICE", 2), (resync, "PAGE", 1),
            (selected, "ADDED_MAX", 1), (selected, "LARGE", 1), (selected, "CHANGED_PAGE", 1),
            (slices, "SLICE", 1),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, value)


_SETTINGS = settings(
    phases=(Phase.generate,),  # a step takes milliseconds: shrinking would take minutes
    database=None,
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def test_as_it_is() -> None:
    _run()


def test_small_pages() -> None:
    _run()


def _run() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Agreement, settings=_SETTINGS)  # type: ignore[no-untyped-call]
