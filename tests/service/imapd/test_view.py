"""The view: numbers are never wrong, whatever several sessions do at once (RFC 3501 §5.5)."""

from __future__ import annotations

import asyncio
import random
import re
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from postroad.mail.errors import ProtocolError
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.protocol.imap.sequence import SequenceSet
from postroad.service.imapd import IMAPService
from postroad.service.imapd.fetch import part_of, without
from postroad.service.imapd.resync import matched
from postroad.service.imapd.view import Manner, View, meet
from postroad.store.selected import UID_MAX, News
from postroad.store.values import Mailbox, MessageRow
from support.imap import Client
from support.sites import make_site

MAILBOX = Mailbox(
    account=1, mailbox=1, name="x", uidvalidity=1, uidnext=1, highestmodseq=1, messages=0,
    unseen=0, deleted=0, size=0, first_recent=1, special_use="", subscribed=True,
)  # fmt: skip


def make_view(uids: list[int]) -> View:
    mailbox = replace(MAILBOX, uidnext=max(uids, default=0) + 1, messages=len(uids))
    return View(mailbox, array("I", uids), read_only=False, first_recent=1, keywords=frozenset())


def row(uid: int, modseq: int) -> MessageRow:
    return MessageRow(uid, modseq, Flag(0), (), 0, 1, 1, 0)


PLAIN = Manner()


class Picture:
    """What a client believes that hears only the responses: UIDs by number, None if not asked."""

    def __init__(self, count: int) -> None:
        self.messages: list[int | None] = [None] * count

    def hear(self, response: bytes) -> None:
        for line in response.split(b"\r\n"):
            if found := re.match(rb"\* (\d+) EXPUNGE", line):
                del self.messages[int(found[1]) - 1]
            elif found := re.match(rb"\* (\d+) EXISTS", line):
                more = int(found[1]) - len(self.messages)
                assert more >= 0, "EXISTS may not take messages away"
                self.messages += [None] * more
            elif found := re.match(rb"\* (\d+) FETCH \(UID (\d+)", line):
                known = self.messages[int(found[1]) - 1]
                assert known in (None, int(found[2])), "a number changed its message"
                self.messages[int(found[1]) - 1] = int(found[2])


_steps = st.lists(
    st.tuples(st.sampled_from("aefs"), st.integers(0, 1 << 16), st.booleans()), max_size=40
)


@settings(max_examples=150)
@given(st.integers(0, 12), _steps, st.booleans())
def test_the_client_and_the_view_never_disagree(
    count: int, steps: list[tuple[str, int, bool]], numbers: bool
) -> None:
    """Random appends and expunges by others; news with and without EXPUNGE."""
    store = list(range(1, count + 1))
    uidnext, modseq = count + 1, 1
    view = make_view(store)
    picture = Picture(count)
    picture.messages = list(store)
    added: list[int] = []
    vanished: list[int] = []
    for kind, number, expunges in steps:
        if kind == "a":
            modseq += 1
            store.append(uidnext)
            added.append(uidnext)
            uidnext += 1
        elif kind == "e" and store:
            modseq += 1
            gone = store.pop(number % len(store))
            vanished.append(gone)
            if gone in added:
                added.remove(gone)
        elif kind == "s":
            news = News(
                vanished=UIDSet.of(set(vanished)), highestmodseq=modseq, uidnext=uidnext,
                messages=len(store), added=added if numbers else None,
            )  # fmt: skip
            before = list(view.uids)
            arrived = view.take(news)
            if arrived and not numbers:
                view._uids = array("I", before + added)  # as the store would give them
            if expunges:
                for response in view.expunges(PLAIN):
                    picture.hear(response)
            if arrived:
                picture.hear(view.arrivals(PLAIN))
            added, vanished = [], []
            assert len(picture.messages) == view.exists
            for believed, uid in zip(picture.messages, view.uids, strict=True):
                assert believed in (None, uid)
            if expunges:
                assert list(view.uids) == store
            else:
                assert set(store) <= set(view.uids)


_uids = st.lists(st.integers(1, 60), unique=True, max_size=25).map(sorted)
_pairs = st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), min_size=1, max_size=5)


@given(_uids, _pairs)
def test_sets_of_uids_mean_what_the_view_knows(
    uids: list[int], pairs: list[tuple[int, int]]
) -> None:
    view = make_view(uids)
    wanted = SequenceSet(tuple(pairs))
    meant = view.uids_of(wanted, uid=True)
    last = uids[-1] if uids else 0
    expected = [uid for uid in uids if uid in wanted.resolve(last)]
    assert [uid for uid in uids if uid in meant] == expected
    assert view.count(meant) == len(expected)
    assert all(uid <= last for uid in meant)
    numbers = view.numbers_of(meant)
    assert list(numbers) == [uids.index(uid) + 1 for uid in expected]


@given(_uids, _pairs)
def test_sets_of_numbers_mean_messages(uids: list[int], pairs: list[tuple[int, int]]) -> None:
    view = make_view(uids)
    wanted = SequenceSet(tuple(pairs))
    numbers = wanted.resolve(len(uids))
    if any(number > len(uids) for number in numbers):
        with pytest.raises(ProtocolError):
            view.uids_of(wanted, uid=False)
    meant = view.uids_of(wanted, uid=False, strict=False)
    assert [uid for uid in uids if uid in meant] == [
        uids[number - 1] for number in numbers if number <= len(uids)
    ]


@given(_uids, st.data())
def test_numbers_of_rows(uids: list[int], data: st.DataObject) -> None:
    view = make_view(uids)
    some = sorted(data.draw(st.sets(st.sampled_from(uids)))) if uids else []
    assert list(view.seqs([row(uid, 1) for uid in some])) == [uids.index(uid) + 1 for uid in some]


@given(_uids, _pairs, st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_places_of_a_set(
    uids: list[int], pairs: list[tuple[int, int]], one: int, two: int, last: bool
) -> None:
    """RFC 9394 §3.3."""
    view = make_view(uids)
    wanted = view.uids_of(SequenceSet(tuple(pairs)), uid=True)
    low, high = min(one, two), max(one, two)
    found = part_of(view, wanted, (-low, -high) if last else (low, high))
    there = [uid for uid in uids if uid in wanted]
    expected = there[::-1][low - 1 : high][::-1] if last else there[low - 1 : high]
    assert [uid for uid in uids if uid in found] == expected


_sets = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=6).map(
    UIDSet.of_ranges
)


@given(_sets, _sets)
def test_sets_meet_and_part(one: UIDSet, other: UIDSet) -> None:
    assert list(UIDSet(tuple(meet(one, other)))) == sorted(set(one) & set(other))
    assert list(without(one, other)) == sorted(set(one) - set(other))
    assert without(one, None) == one


@given(_uids, st.lists(st.tuples(st.integers(1, 30), st.integers(1, 70)), min_size=1, max_size=8))
def test_match_data_finds_the_highest_pair_that_fits(
    uids: list[int], pairs: list[tuple[int, int]]
) -> None:
    """RFC 7162 §3.2.5.2."""
    view = make_view(uids)
    numbers = sorted({number for number, _ in pairs})
    theirs = sorted({uid for _, uid in pairs})
    count = min(len(numbers), len(theirs))
    numbers, theirs = numbers[:count], theirs[:count]
    fits = [
        uid for number, uid in zip(numbers, theirs, strict=True)
        if number <= len(uids) and uids[number - 1] == uid
    ]  # fmt: skip
    given_numbers, given_uids = (
        SequenceSet.parse(str(UIDSet.of(some)).encode()) for some in (numbers, theirs)
    )
    assert matched(view, given_numbers, given_uids) == max(fits, default=0)


def test_match_data_of_a_hostile_client_ends_soon() -> None:
    view = make_view(list(range(2, 60_000)))
    everything = SequenceSet(((1, 0xFFFF_FFFF),))
    assert matched(view, everything, everything) == 0


def test_a_change_of_ones_own_is_no_news() -> None:
    view = make_view([1, 2])
    view.remember(5)
    view.take(News(vanished=UIDSet(), highestmodseq=7, uidnext=3, messages=2, added=[]))
    assert list(view.spans()) == [((1, UID_MAX), 5), ((5, UID_MAX), 8)]
    view.caught_up()
    assert not view.is_behind
    assert list(view.spans()) == []


def test_own_changes_side_by_side_leave_nothing_to_ask() -> None:
    view = make_view([1, 2])
    view.remember(2)
    view.remember(3)
    view.take(News(vanished=UIDSet(), highestmodseq=3, uidnext=3, messages=2, added=[]))
    assert list(view.spans()) == []


@pytest.mark.parametrize("counted", [1, 5])
def test_a_counter_that_is_off_hides_no_message(counted: int) -> None:
    """Only a damaged database has one; its mail is read, and new mail is told."""

    class Damaged:
        def uids(self, account: int, mailbox: int, last: int, modseq: int) -> array[int]:
            return array("I", [1, 2, 3])

    mailbox = replace(MAILBOX, uidnext=4, messages=counted)
    view = View(
        mailbox, None, read_only=False, first_recent=9, keywords=frozenset(),
        store=Damaged(), recent=0,  # type: ignore[arg-type]  # all that is asked of it here
    )  # fmt: skip
    assert list(view.uids) == [1, 2, 3]
    assert view.exists == 3
    news = News(vanished=UIDSet(), highestmodseq=9, uidnext=5, messages=counted + 1, added=[4])
    assert view.take(news) == 1
    assert list(view.uids) == [1, 2, 3, 4]


def test_what_waits_holds_the_modseq_down() -> None:
    """RFC 7162 §3.2: HIGHESTMODSEQ stays below a removal that was not told."""
    view = make_view([1, 2, 3])
    view.take(News(vanished=UIDSet(((2, 2),)), highestmodseq=9, uidnext=4, messages=2, added=[]))
    view.caught_up()
    assert view.settled == 1
    assert view.expunges(Manner(vanished=True)) == [b"* VANISHED 2\r\n"]
    assert view.settled == 9


@pytest.mark.parametrize("seed", range(3))
def test_three_sessions_over_one_mailbox(seed: int, tmp_path: Path) -> None:
    """Appends, expunges, moves and flags at random, pipelined; every number is checked by UID."""

    async def run() -> None:
        chance = random.Random(seed)
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with Client(service) as one, Client(service) as two, Client(service) as three:
                clients = (one, two, three)
                pictures = []
                for client in clients:
                    await client.login()
                    out = await client.ok(b"SELECT INBOX")
                    assert b"* 0 EXISTS" in out
                    pictures.append(Picture(0))
                for _ in range(150):
                    which = chance.randrange(3)
                    await _random_command(chance, clients[which], pictures[which])
                for client, picture in zip(clients, pictures, strict=True):
                    for response in await client.ok(b"NOOP"):
                        picture.hear(response)
                    for response in await client.ok(b"FETCH 1:* UID"):
                        picture.hear(response)
                mailbox = made.site.store.mailbox(made.accounts["ann@one.example"], "INBOX")
                assert mailbox is not None
                uids = made.site.store.uids(
                    mailbox.account, mailbox.mailbox, UID_MAX, mailbox.highestmodseq
                )
                assert uids is not None
                for picture in pictures:
                    assert picture.messages == list(uids)

    asyncio.run(run())


async def _random_command(chance: random.Random, client: Client, picture: Picture) -> None:
    kind = chance.choice(["append", "flag", "delete", "expunge", "move", "fetch", "uid", "noop"])
    count = len(picture.messages)
    number = chance.randint(1, count) if count else 0
    commands = {
        "append": b"APPEND INBOX {5+}\r\na: b\n",
        "flag": b"STORE %d %bFLAGS%b (\\Seen)"
        % (number, chance.choice([b"+", b"-", b""]), chance.choice([b"", b".SILENT"])),
        "delete": b"STORE %d +FLAGS (\\Deleted)" % number,
        "expunge": b"EXPUNGE",
        "move": b"MOVE %d Archive" % number,
        "fetch": b"FETCH 1:%d (UID FLAGS)" % number,
        "uid": b"UID FETCH 1:* (UID FLAGS)",
        "noop": b"NOOP",
    }
    if not number and kind in ("flag", "delete", "move", "fetch"):
        kind = "append"
    for response in await client.ask(commands[kind]):
        picture.hear(response)
        assert not response.startswith(b"BAD"), (commands[kind], response)
