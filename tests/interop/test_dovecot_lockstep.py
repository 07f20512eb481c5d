"""Random commands of two clients to Debian's dovecot and to Postroad, in lockstep: after each one
both clients of each server ask for news, and what they then know must be the same.

Both clients look at the same mailboxes, hence what one does is the other's news. A client's picture
is made of untagged responses alone, and now and then held against what the server says of all.
Left out, because the standards leave it open: \\Recent, words, whether a STORE that changes nothing
is answered by FETCH, what dovecot does in a mailbox that is open read-only, and sets that overlap
in COPY and MOVE, where dovecot's session may end without a word.
POSTROAD_LOCKSTEP_SECONDS: how long (20); POSTROAD_LOCKSTEP_SEED: which chances (by the clock).
"""

from __future__ import annotations

import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.peers import Dovecot
from postroad.lab.process import free_offset
from support.programs import needs
from support.raw_imap import RawClient, Value, values
from support.world import world

SECONDS = float(os.environ.get("POSTROAD_LOCKSTEP_SECONDS", "20"))
pytestmark = [
    pytest.mark.interop,
    needs("dovecot", "dovecot-imapd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="dovecot's master needs root"),
    pytest.mark.timeout(SECONDS + 100),
]

BOXES = (b"One", b"Two")
FLAGS = (b"\\Seen", b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Draft", b"$Work", b"later")
MESSAGES_MAX = 30
ITEMS = (
    b"RFC822.SIZE", b"INTERNALDATE", b"ENVELOPE", b"BODY.PEEK[]", b"BODY.PEEK[HEADER]", b"FLAGS",
    b"BODY.PEEK[TEXT]<3.9>", b"BODY.PEEK[1]", b"BODY.PEEK[HEADER.FIELDS (Subject To)]", b"UID",
    b"BODY.PEEK[HEADER.FIELDS.NOT (Subject)]<0.20>", b"BODY[TEXT]", b"RFC822.TEXT", b"RFC822",
)  # fmt: skip
KEYS = (
    b"ALL", b"SEEN", b"UNSEEN", b"FLAGGED", b"DELETED", b"UNDELETED", b"ANSWERED", b"UNDRAFT",
    b"KEYWORD $Work", b"UNKEYWORD later", b"LARGER 150", b"SMALLER 120", b"SINCE 3-Jan-2024",
    b"BEFORE 5-Jan-2024", b"ON 4-Jan-2024", b"SENTSINCE 10-Feb-2024", b"SUBJECT topic",
    b'SUBJECT "ic 3"', b"FROM s4", b"TO ann", b"BODY line", b"TEXT sender", b"HEADER X-Odd yes",
)  # fmt: skip


def mail(number: int) -> tuple[bytes, bytes]:
    """Date and octets of one of twenty messages."""
    date = b'"%2d-Jan-2024 12:00:00 +0000"' % (1 + number % 7)
    head = (
        b"From: Sender <s%d@x.example>\r\nTo: ann@x.example\r\nSubject: topic %d\r\n"
        b"Date: Mon, %d Feb 2024 10:00:00 +0000\r\n" % (number, number % 5, 1 + number)
    )
    odd = b"X-Odd: yes\r\n" if number % 3 else b""
    return date, head + odd + b"\r\n" + b"line %d\r\n" % number * (1 + number)


@dataclass(slots=True)
class Picture:
    """What one client knows of its mailbox."""

    client: RawClient
    uids: list[int] = field(default_factory=list)
    flags: dict[int, frozenset[bytes]] = field(default_factory=dict)
    exists: int = 0

    def ask(self, command: bytes) -> list[bytes]:
        answer = self.client.ask(command)
        for line in answer[:-1]:
            self._take(line, during=command)
        return answer

    def _take(self, line: bytes, during: bytes) -> None:
        found = re.match(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH )", line)
        if found is None:
            return
        number = int(found[1])
        if found[2] == b"EXISTS":
            assert number >= self.exists, (during, line, self.exists)
            self.exists = number
        elif found[2] == b"EXPUNGE":
            assert not during.startswith((b"FETCH", b"STORE", b"SEARCH")), (during, line)
            assert 1 <= number <= self.exists, (during, line, self.exists)
            self.exists -= 1
            if number <= len(self.uids):
                self.flags.pop(self.uids.pop(number - 1), None)
        else:
            assert 1 <= number <= self.exists, (during, line, self.exists)
            [items] = values(line[found.end() :])
            assert isinstance(items, list)
            told = dict(zip(map(_name, items[::2]), items[1::2], strict=True))
            if b"FLAGS" in told and number <= len(self.uids):
                self.flags[self.uids[number - 1]] = _flags(told[b"FLAGS"])

    def open(self, command: bytes) -> list[bytes]:
        self.uids, self.flags, self.exists = [], {}, 0
        answer = self.ask(command)
        if answer[-1].startswith(b"OK"):
            self.look()
        return answer

    def look(self) -> None:
        """Learns of messages that were announced, and holds what was told against what is."""
        for line in self.client.ok(b"UID FETCH 1:* (FLAGS)")[:-1]:
            found = re.match(rb"\* (\d+) FETCH ", line)
            if found is None:
                self._take(line, during=b"UID FETCH")
                continue
            [items] = values(line[found.end() :])
            assert isinstance(items, list)
            told = dict(zip(map(_name, items[::2]), items[1::2], strict=True))
            at, raw = int(found[1]) - 1, told[b"UID"]
            assert isinstance(raw, bytes)
            uid, flags = int(raw), _flags(told[b"FLAGS"])
            if at < len(self.uids):
                assert self.uids[at] == uid, (line, self.uids)
                assert self.flags.setdefault(uid, flags) == flags, (line, self.flags[uid])
            else:
                assert at == len(self.uids), (line, self.uids)
                self.uids.append(uid)
                self.flags[uid] = flags
        assert self.exists == len(self.uids)


def _name(value: Value) -> bytes:
    assert isinstance(value, bytes)
    return value.upper()


def _flags(value: Value) -> frozenset[bytes]:
    assert isinstance(value, list)
    return frozenset(_name(flag) for flag in value) - {b"\\RECENT"}


class Side:
    """One server: two clients, and which mailbox each has open."""

    def __init__(self, port: int, login: bytes) -> None:
        self.clients = [Picture(RawClient(port)) for _ in range(2)]
        for picture in self.clients:
            picture.client.ok(b"LOGIN " + login)

    def close(self) -> None:
        for picture in self.clients:
            picture.client.close()


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Side, Side]]:
    """dovecot's own user must be able to enter the directory: pytest's are closed to others."""
    with tempfile.TemporaryDirectory(prefix="postroad-lockstep-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with world(directory / "ours") as made:
            server = made.server("x.example", address="127.0.0.1", plaintext_on_loopback=True)
            server.add_account("ann@x.example", "bench")
            server.start()
            offset = free_offset("127.0.0.1")
            tls = server.directory / "tls"
            dovecot = Dovecot(
                directory / "dovecot", imap=offset + 143, imaps=offset + 993, pop3=offset + 110,
                certificate=tls / "cert.pem", key=tls / "key.pem",
            )  # fmt: skip
            with dovecot.config.open("a") as config:
                config.write(
                    f"mail_location = sdbox:{dovecot.mail}/%n\n"
                    "namespace inbox {\n  inbox = yes\n  separator = /\n}\n"
                )
            dovecot.start()
            try:
                ours = Side(server.port("imap"), b"ann@x.example bench")
                theirs = Side(dovecot.imap, b"ann bench")
                yield ours, theirs
                ours.close()
                theirs.close()
            finally:
                dovecot.stop()


class Lockstep:
    def __init__(self, ours: Side, theirs: Side, chance: random.Random) -> None:
        self.sides = ours, theirs
        self.chance = chance
        self.selected: list[bytes] = [b"", b""]
        self.read_only = [False, False]
        self.log: list[bytes] = []
        self.counts: dict[bytes, int] = {}

    # -- doing ----------------------------------------------------------------------------------

    def both(self, who: int, command: bytes, *, opens: bool = False) -> list[list[bytes]]:
        """The same command to both servers, compared as far as `_plain` goes."""
        self.log.append(b"%d: %b" % (who, command.partition(b"\r\n")[0]))
        verb = b" ".join(command.split(b" ")[: 2 if command.startswith(b"UID") else 1])
        self.counts[verb] = self.counts.get(verb, 0) + 1
        answers = []
        for side in self.sides:
            picture = side.clients[who]
            try:
                answers.append(picture.open(command) if opens else picture.ask(command))
            except (AssertionError, EOFError) as error:
                which = "ours" if side is self.sides[0] else "theirs"
                raise AssertionError(self._story(f"{which}: {error!r}")) from error
        ours, theirs = (self._plain(command, answer) for answer in answers)
        assert ours == theirs, self._story(f"ours   {answers[0]}\ntheirs {answers[1]}")
        return answers

    def _plain(self, command: bytes, answer: list[bytes]) -> object:
        tagged = re.match(
            rb"OK(?: \[(?:(?:COPYUID|APPENDUID) \d+ ([^\]]*)|(MODIFIED [^\]]*)|(READ-\w+))\])?",
            answer[-1],
        )
        status = tagged.groups() if tagged else answer[-1].split(b" ")[0]
        told = sorted(
            repr(_item(line)) for line in answer[:-1] if line.startswith((b"* SEARCH", b"* STATUS"))
        )
        fetched = []
        if b"FETCH" in command:
            fetched = sorted(repr(_item(line)) for line in answer[:-1] if b" FETCH " in line[:20])
        moved = [re.sub(rb"COPYUID \d+", b"", line[:60]).split(b"]")[0] for line in answer[:-1]
                 if line.startswith(b"* OK [COPYUID")]  # fmt: skip
        return status, told, fetched, moved

    def settle(self) -> None:
        """Everybody hears the news; what each then knows is compared."""
        for who in range(2):
            if not self.selected[who]:
                continue
            for side in self.sides:
                side.clients[who].ask(b"NOOP")
                side.clients[who].look()
            ours, theirs = (side.clients[who] for side in self.sides)
            known = (ours.uids, ours.flags), (theirs.uids, theirs.flags)
            assert known[0] == known[1], self._story(f"ours   {known[0]}\ntheirs {known[1]}")

    def _story(self, what: str) -> str:
        return b"\n".join(self.log[-30:]).decode("latin-1") + "\n" + what

    # -- choosing -------------------------------------------------------------------------------

    def numbers(self, who: int, *, uid: bool) -> bytes:
        """A set that names messages that exist; of UIDs also others."""
        chance, known = self.chance, self.sides[0].clients[who]
        top = (known.uids[-1] + 3 if known.uids else 5) if uid else known.exists
        if not top:
            return b"1:*" if uid else b""
        pieces = []
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            low, high = chance.randint(1, top), chance.randint(1, top)
            pieces.append(
                chance.choice([b"%d" % low, b"%d:%d" % (low, high), b"%d:*" % low, b"*", b"1:*"])
            )
        return b",".join(pieces)

    def flags(self) -> bytes:
        count = self.chance.choice([0, 1, 1, 2, 3])
        return b"(%b)" % b" ".join(self.chance.sample(FLAGS, count))

    def addressed(self, who: int, command: bytes) -> bytes:
        """`command` with %b for a set, by number or by UID; b"" where nothing can be named."""
        uid = self.chance.random() < 0.5
        found = self.numbers(who, uid=uid)
        return (b"UID " if uid else b"") + command.replace(b"%b", found) if found else b""

    def step(self) -> None:
        chance = self.chance
        who = chance.randrange(2)
        if not self.selected[who]:
            self.select(who)
        kinds: list[tuple[int, Callable[[int], None]]] = [
            (6, self.append), (8, self.store), (4, self.fetch), (4, self.search), (3, self.copy),
            (2, self.move), (2, self.expunge), (1, self.leave), (1, self.status),
        ]  # fmt: skip
        [kind] = chance.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])
        kind(who)
        if chance.random() < 0.7:
            self.settle()

    def select(self, who: int) -> None:
        box = self.chance.choice(BOXES)
        self.read_only[who] = self.chance.random() < 0.1
        self.both(who, (b"EXAMINE " if self.read_only[who] else b"SELECT ") + box, opens=True)
        self.selected[who] = box

    def append(self, who: int) -> None:
        number = self.chance.randrange(20)
        date, octets = mail(number)
        if self.sides[0].clients[who].exists >= MESSAGES_MAX:
            return self.expunge(who)
        box = self.chance.choice(BOXES)
        self.both(who, b"APPEND %b %b %b {%d+}\r\n%b"
                  % (box, self.flags(), date, len(octets), octets))  # fmt: skip
        return None

    def store(self, who: int) -> None:
        if self.read_only[who]:
            return
        mode = self.chance.choice([b"", b"+", b"-"]) + self.chance.choice(
            [b"FLAGS ", b"FLAGS.SILENT "]
        )
        command = self.addressed(who, b"STORE %b " + mode + self.flags())
        if command:
            self.settle()  # whose STORE of an expunged message says what is open
            self.both(who, command)
            if b".SILENT" in command:
                self._again(who)

    def _again(self, who: int) -> None:
        """.SILENT leaves the client to work out the flags: it asks instead."""
        for side in self.sides:
            side.clients[who].flags.clear()
            side.clients[who].look()

    def fetch(self, who: int) -> None:
        items = self.chance.sample(ITEMS, self.chance.randint(1, 4))
        command = self.addressed(who, b"FETCH %b (" + b" ".join(items) + b")")
        if command:
            self.settle()
            self.both(who, command)

    def search(self, who: int) -> None:
        chance = self.chance
        keys = chance.sample(KEYS, chance.randint(1, 3))
        if all(key.startswith(b"UN") for key in (keys[0], keys[-1])):
            keys[-1] = b"ALL"  # dovecot makes OR UNSEEN UNDRAFT into neither, not into not both
        key = chance.choice([
            b" ".join(keys), b"NOT " + keys[0], b"OR %b %b" % (keys[0], keys[-1]),
            b"(%b) %b" % (keys[-1], keys[0]), b"UID %b" % self.numbers(who, uid=True),
        ])  # fmt: skip
        self.settle()
        self.both(who, chance.choice([b"SEARCH ", b"UID SEARCH "]) + key)

    def copy(self, who: int) -> None:
        command = self.addressed(who, b"COPY %b " + self.chance.choice(BOXES))
        if command and b"," not in command and self._is_small():
            self.settle()
            self.both(who, command)

    def move(self, who: int) -> None:
        command = self.addressed(who, b"MOVE %b " + self.chance.choice(BOXES))
        if command and b"," not in command and not self.read_only[who]:
            self.settle()
            self.both(who, command)

    def _is_small(self) -> bool:
        return all(picture.exists < MESSAGES_MAX for picture in self.sides[0].clients)

    def expunge(self, who: int) -> None:
        if self.read_only[who]:
            return
        uids = self.numbers(who, uid=True)
        self.settle()  # dovecot expunges only what the client knows
        self.both(who, self.chance.choice([b"EXPUNGE", b"UID EXPUNGE " + uids]))

    def leave(self, who: int) -> None:
        command = self.chance.choice([b"CLOSE", b"UNSELECT", b"SELECT nowhere"])
        if command == b"CLOSE" and self.read_only[who]:
            command = b"UNSELECT"
        self.both(who, command)
        self.selected[who] = b""

    def status(self, who: int) -> None:
        box = self.chance.choice(BOXES)
        self.settle()  # dovecot tells of the selected mailbox what the client knows already
        self.both(who, b"STATUS %b (MESSAGES UIDNEXT UNSEEN)" % box)


def _item(line: bytes) -> object:
    """A response as what it means."""
    found = re.match(rb"\* (\d+) FETCH ", line)
    if found is None:
        kind, *rest = values(line[2:])
        return (kind, *sorted(rest, key=repr)) if kind == b"SEARCH" else (kind, rest)
    [items] = values(line[found.end() :])
    assert isinstance(items, list)
    out: dict[bytes, object] = {}
    for name, value in zip(map(_name, items[::2]), items[1::2], strict=True):
        out[name] = sorted(_flags(value)) if name == b"FLAGS" else value
    return int(found[1]), sorted(out.items())


def test_in_lockstep(sides: tuple[Side, Side]) -> None:
    seed = int(os.environ.get("POSTROAD_LOCKSTEP_SEED", str(int(time.time()))))
    print(f"seed {seed}")
    run = Lockstep(*sides, random.Random(seed))
    for box in BOXES:
        run.both(0, b"CREATE " + box)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        run.step()
    run.settle()
    assert sum(run.counts.values()) > SECONDS * 5, run.counts
