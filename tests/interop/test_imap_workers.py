"""Real sessions on several workers: what each is told adds up to what is there.

A client's picture is kept from untagged responses alone, as a mail program keeps it; after every
command it must fit the numbers used, and in the end be the mailbox.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from postroad.lab.process import PostroadServer
from support.raw_imap import RawClient
from support.world import World

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SECONDS = 15
SESSIONS = 6
MESSAGE = b"From: a@x.example\r\nSubject: s\r\n\r\nbody\r\n"


@pytest.fixture(scope="module")
def port(shared_world: World) -> Iterator[int]:
    server: PostroadServer = shared_world.server(
        "workers.example", address="127.0.0.1", workers=2, plaintext_on_loopback=True
    )
    server.add_account("ann@workers.example", "many hands")
    server.start()
    yield server.port("imap")
    assert server.stop() == 0, server.log_end()


class Picture:
    """What a client believes, from the responses it was sent."""

    def __init__(self, port: int, mailbox: bytes) -> None:
        self.client = RawClient(port)
        self.client.ok(b'LOGIN ann@workers.example "many hands"')
        self.client.ok(b"ENABLE CONDSTORE")
        self.uids: list[int] = []
        self.flags: dict[int, frozenset[bytes]] = {}
        self.modseqs: dict[int, int] = {}
        self.gone: set[int] = set()
        self.client.ok(b"SELECT " + mailbox)
        self.learn()

    def learn(self) -> None:
        """All there is, by UID: after it, news alone keeps the picture."""
        self.take(self.client.ok(b"UID FETCH 1:* (FLAGS)"))

    def take(self, responses: list[bytes]) -> bytes:
        for line in responses[:-1]:
            if exists := re.fullmatch(rb"\* (\d+) EXISTS", line):
                self.exists(int(exists[1]))
            elif expunged := re.fullmatch(rb"\* (\d+) EXPUNGE", line):
                uid = self.uids.pop(int(expunged[1]) - 1)
                assert uid not in self.gone, f"UID {uid} is expunged for the second time"
                if uid:
                    self.gone.add(uid)
                    self.flags.pop(uid, None)
            elif fetched := re.fullmatch(rb"\* (\d+) FETCH \((.*)\)", line):
                self.fetched(int(fetched[1]), fetched[2])
        return responses[-1]

    def exists(self, count: int) -> None:
        assert count >= len(self.uids), f"{count} EXISTS, but {len(self.uids)} were there"
        self.uids += [0] * (count - len(self.uids))

    def fetched(self, number: int, items: bytes) -> None:
        assert 1 <= number <= len(self.uids), f"FETCH of {number} of {len(self.uids)}"
        known = self.uids[number - 1]
        told = re.search(rb"UID (\d+)", items)
        uid = int(told[1]) if told else known
        assert known in (0, uid), f"number {number} was UID {known} and is {uid}"
        assert uid not in self.gone, f"UID {uid} has come back"
        if uid:
            self.uids[number - 1] = uid
            named = [one for one in self.uids if one]
            assert named == sorted(set(named)), f"UIDs are out of order: {named}"
        modseq = re.search(rb"MODSEQ \((\d+)\)", items)
        if modseq is not None and uid:
            assert int(modseq[1]) >= self.modseqs.get(uid, 0), f"MODSEQ of {uid} falls"
            self.modseqs[uid] = int(modseq[1])
        flags = re.search(rb"FLAGS \(([^)]*)\)", items)
        if flags is not None and uid:
            self.flags[uid] = frozenset(flags[1].split()) - {b"\\Recent"}

    def ask(self, command: bytes) -> bytes:
        return self.take(self.client.ask(command))


def act(chance: random.Random, picture: Picture, other: bytes) -> None:
    """One command at random; each must be answered OK, or NO for what others took away."""
    count = len(picture.uids)
    number = chance.randint(1, count) if count else 0
    flag = chance.choice([b"\\Seen", b"\\Flagged", b"\\Deleted", b"$k"])
    sign = chance.choice([b"+", b"-", b""])
    silent = chance.choice([b"", b".SILENT"])
    roll = chance.random()
    if roll < 0.25 or not number:
        answer = picture.take(picture.client.append(b"Shared", MESSAGE, b"(%b)" % flag))
    elif roll < 0.5:
        answer = picture.ask(b"STORE %d %bFLAGS%b (%b)" % (number, sign, silent, flag))
        uid = picture.uids[number - 1] if number <= len(picture.uids) else 0
        if silent and uid:
            picture.flags.pop(uid, None)  # what it is now, nobody need say
    elif roll < 0.6:
        answer = picture.ask(b"EXPUNGE")
    elif roll < 0.68:
        answer = picture.ask(b"MOVE %d %b" % (number, other))
    elif roll < 0.74:
        answer = picture.ask(b"COPY %d Shared" % number)
    elif roll < 0.9:
        answer = picture.ask(b"FETCH %d:* (UID FLAGS)" % number)
    else:
        answer = picture.ask(chance.choice([b"NOOP", b"CHECK", b"UID SEARCH ALL"]))
    assert answer.startswith((b"OK", b"NO")), answer


@pytest.mark.parametrize("seed", [1])
def test_random_sessions_agree(port: int, seed: int) -> None:
    with ExitStack() as closing:
        with RawClient(port) as first:
            first.ok(b'LOGIN ann@workers.example "many hands"')
            first.ok(b"CREATE Shared")
            first.ok(b"CREATE Other")
        pictures = []
        for _ in range(SESSIONS):
            picture = Picture(port, b"Shared")
            closing.callback(picture.client.close)
            pictures.append(picture)
        end = time.monotonic() + SECONDS

        def use(number: int) -> int:
            own, commands = random.Random(seed * 100 + number), 0
            while time.monotonic() < end:
                act(own, pictures[number], b"Other")
                commands += 1
            return commands

        with ThreadPoolExecutor(SESSIONS) as threads:
            assert sum(threads.map(use, range(SESSIONS))) > 500
        highest = 0
        for picture in pictures:
            picture.ask(b"NOOP")
            before = {uid: picture.flags.get(uid) for uid in picture.uids if uid}
            picture.learn()
            for uid, flags in before.items():
                assert flags in (None, picture.flags[uid]), f"UID {uid}: {flags} was believed"
            highest = max(highest, *picture.uids, 0)
        truth = pictures[0]
        for picture in pictures[1:]:
            assert picture.uids == truth.uids
            assert {uid: picture.flags[uid] for uid in truth.uids} == {
                uid: truth.flags[uid] for uid in truth.uids
            }
        [status, _] = truth.client.ok(b"STATUS Shared (MESSAGES UIDNEXT)")
        found = re.search(rb"MESSAGES (\d+) UIDNEXT (\d+)", status)
        assert found is not None and int(found[1]) == len(truth.uids) and int(found[2]) > highest


def test_idle_wakes_whichever_worker_the_change_came_by(port: int) -> None:
    """Ten watchers and four writers: some pairs are on different workers, whoever is where."""
    with ExitStack() as closing:
        writers = [closing.enter_context(RawClient(port)) for _ in range(4)]
        for writer in writers:
            writer.ok(b'LOGIN ann@workers.example "many hands"')
        writers[0].ok(b"CREATE Watched")
        writers[0].ask(b"CREATE Away")
        watchers = [closing.enter_context(RawClient(port)) for _ in range(10)]
        for watcher in watchers:
            watcher.ok(b'LOGIN ann@workers.example "many hands"')
            watcher.ok(b"SELECT Watched")
            watcher.send(b"i IDLE\r\n")
            assert watcher.response().startswith(b"+")

        def told(pattern: bytes) -> None:
            for watcher in watchers:
                while re.match(pattern, line := watcher.response()) is None:
                    assert re.match(rb"\* \d+ RECENT|\* FLAGS", line), line

        for writer in writers:
            assert writer.append(b"Watched", MESSAGE)[-1].startswith(b"OK")
            told(rb"\* 1 EXISTS")
            writer.ok(b"SELECT Watched")
            writer.ok(b"STORE 1 +FLAGS (\\Flagged)")
            told(rb"\* 1 FETCH \(.*\\Flagged")
            writer.ok(b"MOVE 1 Away")
            told(rb"\* 1 EXPUNGE")
            assert writer.append(b"Watched", MESSAGE)[-1].startswith(b"OK")
            told(rb"\* 1 EXISTS")
            writer.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
            told(rb"\* 1 FETCH \(.*\\Deleted")
            writer.ok(b"EXPUNGE")
            told(rb"\* 1 EXPUNGE")
            writer.ok(b"UNSELECT")
        for watcher in watchers:
            watcher.send(b"DONE\r\n")
            assert watcher.response().startswith(b"i OK")


def test_a_message_is_recent_in_one_session_whichever_worker_has_it(port: int) -> None:
    with ExitStack() as closing:
        sessions = [closing.enter_context(RawClient(port)) for _ in range(8)]
        for number, session in enumerate(sessions):
            session.ok(b'LOGIN ann@workers.example "many hands"')
            if not number:
                session.ok(b"CREATE Recently")
            session.ok(b"SELECT Recently")
        with RawClient(port) as writer:
            writer.ok(b'LOGIN ann@workers.example "many hands"')
            for count in range(1, 21):
                assert writer.append(b"Recently", MESSAGE)[-1].startswith(b"OK")
                told = [session.ok(b"NOOP") for session in sessions]
                assert all(b"* %d EXISTS" % count in lines for lines in told)
                flags = [session.ok(b"FETCH %d (FLAGS)" % count)[0] for session in sessions]
                assert sum(b"\\Recent" in line for line in flags) == 1, flags
