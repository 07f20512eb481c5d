"""SEARCH, SORT and contexts against plain models, over generated messages and random keys."""

from __future__ import annotations

import asyncio
import base64
import quopri
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from email.header import Header
from pathlib import Path

import pytest

from postroad.service.imapd import IMAPService
from postroad.store.mailboxes import MailStore
from support.imap import Client
from support.sites import NOW, TestSite, make_site

WORDS = ["alpha", "Beta", "GAMMA", "délta", "Ещё", "straße", "x-1", "one two", "re: z"]
FLAGS = [b"\\Seen", b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Draft", b"$Junk", b"Work"]
COUNT = 60


@dataclass
class Mail:
    """What the model knows of a message. uid: from 1 on. size: of its octets."""

    uid: int
    author: str
    subject: str
    body: str
    name: str
    arrived: datetime
    sent: datetime | None
    flags: set[bytes]
    octets: bytes = b""
    file: str = ""
    header: str = field(default="")

    def render(self, chance: random.Random) -> None:
        head = [
            f"From: {self.author}",
            f"Subject: {Header(self.subject, 'utf-8').encode()}",
            f"X-Note: {self.name}",
        ]
        if self.sent is not None:
            head.append("Date: " + self.sent.strftime("%a, %d %b %Y %H:%M:%S %z"))
        encoding, body = "8bit", self.body.encode()
        if chance.random() < 0.7:
            encoding, body = chance.choice(
                [
                    ("base64", base64.encodebytes(body)),
                    ("quoted-printable", quopri.encodestring(body)),
                ]
            )
        part = f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {encoding}\n\n"
        if self.file:
            head += ["MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=b"]
            rest = f"\n--b\n{part}".encode() + body + b"\n--b\n"
            rest += (
                b"Content-Type: application/x; name*=utf-8''"
                + self.file.encode()
                + b"\n\nq\n--b--\n"
            )
        else:
            rest = part.encode() + body
        octets = "\n".join(head).encode() + b"\n" + rest
        self.octets = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        self.header = f"from: {self.author}\nsubject: {self.subject}\nx-note: {self.name}"


def fold(text: str) -> str:
    return text.casefold()


def phrase(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(0, 4)))


def generate(chance: random.Random) -> list[Mail]:
    mails = []
    for uid in range(1, COUNT + 1):
        arrived = datetime(2026, 11, 10, tzinfo=UTC) + timedelta(hours=chance.randint(0, 300))
        sent = None
        if chance.random() < 0.8:
            zone = timezone(timedelta(hours=chance.choice([-9, 0, 3, 12])))
            sent = (arrived + timedelta(hours=chance.randint(-30, 30))).astimezone(zone)
        mail = Mail(
            uid=uid,
            author=f"{chance.choice(['ann', 'bob', 'Eve'])}@{chance.choice('xyz')}.example",
            subject=phrase(chance),
            body=phrase(chance),
            name=chance.choice(["red", "green", ""]),
            arrived=arrived,
            sent=sent,
            flags={flag for flag in FLAGS if chance.random() < 0.3},
            file=chance.choice(["", "", "b%C3%A4r.bin"]),
        )
        mail.render(chance)
        mails.append(mail)
    return mails


Test = Callable[[Mail], bool]


def leaf(chance: random.Random) -> tuple[str, Test]:
    word = chance.choice([*WORDS, "a", "ET", "ss", "bär", "z.example", "nowhere"])
    day = datetime(2026, 11, 9, tzinfo=UTC) + timedelta(days=chance.randint(0, 15))
    shown = day.strftime("%d-%b-%Y")
    low = chance.randint(1, COUNT + 5)
    high = chance.randint(1, COUNT + 5)
    size = chance.randint(100, 500)
    flag = chance.choice(FLAGS)
    name = flag.decode().lstrip("\\")
    wanted = fold(word)
    span = range(min(low, high), max(low, high) + 1)
    seconds = chance.randint(1, 14 * 86400)
    plain: list[tuple[str, Test]] = [
        ("ALL", lambda mail: True),
        (f"{low}:{high}", lambda mail: mail.uid in span),
        (f"UID {low}:{high}", lambda mail: mail.uid in span),
        (f"LARGER {size}", lambda mail: len(mail.octets) > size),
        (f"SMALLER {size}", lambda mail: len(mail.octets) < size),
        (f"SINCE {shown}", lambda mail: mail.arrived.date() >= day.date()),
        (f"BEFORE {shown}", lambda mail: mail.arrived.date() < day.date()),
        (f"ON {shown}", lambda mail: mail.arrived.date() == day.date()),
        (
            f"SENTSINCE {shown}",
            lambda mail: mail.sent is not None and mail.sent.date() >= day.date(),
        ),
        (
            f"SENTBEFORE {shown}",
            lambda mail: mail.sent is not None and mail.sent.date() < day.date(),
        ),
        (f"SENTON {shown}", lambda mail: mail.sent is not None and mail.sent.date() == day.date()),
        (f"YOUNGER {seconds}", lambda mail: mail.arrived >= NOW - timedelta(seconds=seconds)),
        (f"OLDER {seconds}", lambda mail: mail.arrived <= NOW - timedelta(seconds=seconds)),
        (f'FROM "{word}"', lambda mail: wanted in fold(mail.author)),
        (f'SUBJECT "{word}"', lambda mail: wanted in fold(mail.subject)),
        (f'HEADER X-Note "{word}"', lambda mail: wanted in fold(mail.name)),
        ('HEADER X-Note ""', lambda mail: True),
        (f'BODY "{word}"', lambda mail: wanted in fold(mail.body) or _in_parts(mail, wanted)),
        (
            f'TEXT "{word}"',
            lambda mail: (
                wanted in fold(mail.header)
                or wanted in fold(mail.body)
                or _in_parts(mail, wanted)
                or _in_rest(mail, wanted)
            ),
        ),
    ]
    flagged: list[tuple[str, Test]]
    if flag.startswith(b"\\"):
        flagged = [
            (name.upper(), lambda mail: flag in mail.flags),
            ("UN" + name.upper(), lambda mail: flag not in mail.flags),
        ]
    else:
        flagged = [
            (f"KEYWORD {name.lower()}", lambda mail: flag in mail.flags),
            (f"UNKEYWORD {name.upper()}", lambda mail: flag not in mail.flags),
        ]
    return chance.choice(chance.choice([plain, flagged]))


def _in_parts(mail: Mail, wanted: str) -> bool:
    """The headers of parts and the names of files, of messages that have an attachment."""
    if not mail.file:
        return False
    lines = [line for line in mail.octets.decode().split("\r\n") if line.startswith("Content-")]
    return any(wanted in fold(text) for text in [*lines[1:], "bär.bin"])


def _in_rest(mail: Mail, wanted: str) -> bool:
    """The header fields that the model does not take apart."""
    head = mail.octets.partition(b"\r\n\r\n")[0].decode()
    rest = [line for line in head.split("\r\n") if re.match("Date|Content|MIME", line)]
    return any(wanted in fold(line) for line in rest)


def tree(chance: random.Random, depth: int) -> tuple[str, Test]:
    kind = chance.random()
    if depth == 0 or kind < 0.3:
        return leaf(chance)
    if kind < 0.45:
        text, test = tree(chance, depth - 1)
        return f"NOT {text}", lambda mail: not test(mail)
    one, other = tree(chance, depth - 1), tree(chance, depth - 1)
    if kind < 0.7:
        return f"OR {one[0]} {other[0]}", lambda mail: one[1](mail) or other[1](mail)
    return f"({one[0]} {other[0]})", lambda mail: one[1](mail) and other[1](mail)


async def index(made: TestSite, steps: int) -> None:
    """Builds the search index, or some of it."""
    store = made.site.store
    assert isinstance(store, MailStore)
    builder = await asyncio.to_thread(store.index.builder, made.accounts["ann@one.example"])
    for _ in range(steps):
        operation = await asyncio.to_thread(builder.step)
        if operation is None:
            break
        await made.site.database.submit(operation)


@asynccontextmanager
async def filled(directory: Path, mails: list[Mail], indexed: int = 0) -> AsyncIterator[Client]:
    """indexed: how many of the messages the index knows."""
    async with make_site(directory, plaintext_on_loopback=True) as made:
        async with Client(IMAPService(made.site, False)) as client:
            await client.login()
            for number, mail in enumerate(mails):
                if number == indexed:
                    await index(made, 100)
                when = mail.arrived.strftime("%d-%b-%Y %H:%M:%S +0000").encode()
                await client.ok(
                    b'APPEND INBOX (%b) "%b" {%d+}\r\n%b'
                    % (b" ".join(sorted(mail.flags)), when, len(mail.octets), mail.octets)
                )
            if indexed == len(mails):
                await index(made, 100)
            await client.ok(b"SELECT INBOX")
            yield client


@pytest.mark.parametrize(("seed", "indexed"), [(1, 0), (2, COUNT // 2), (3, COUNT)])
def test_search_is_what_the_model_says(tmp_path: Path, seed: int, indexed: int) -> None:
    """Whether the index knows nothing, half of it or all."""
    chance = random.Random(seed)
    mails = generate(chance)

    async def run() -> None:
        async with filled(tmp_path, mails, indexed) as client:
            for _ in range(250):
                text, test = tree(chance, 4)
                [line, _] = await client.ok(b"SEARCH CHARSET UTF-8 " + text.encode())
                found = [int(word) for word in line.split()[2:]]
                assert found == [mail.uid for mail in mails if test(mail)], text

    asyncio.run(run())


class Picture:
    """What a client makes of the results of one context."""

    def __init__(self, line: bytes) -> None:
        found = re.search(rb" ALL (\S+)", line)
        self.uids = expand(found[1]) if found is not None else []

    def hear(self, line: bytes) -> None:
        for word, pairs in re.findall(rb"(ADDTO|REMOVEFROM) \(([^)]*)\)", line):
            words = pairs.split()
            for position, text in zip(words[::2], words[1::2], strict=True):
                at, uids = int(position), expand(text)
                if word == b"REMOVEFROM":
                    if at:
                        assert self.uids[at - 1 : at - 1 + len(uids)] == uids, line
                        del self.uids[at - 1 : at - 1 + len(uids)]
                    else:
                        assert set(uids) <= set(self.uids), line
                        self.uids = [uid for uid in self.uids if uid not in uids]
                elif at:
                    self.uids[at - 1 : at - 1] = uids
                else:
                    assert not set(uids) & set(self.uids), line
                    self.uids = sorted([*self.uids, *uids])


def expand(text: bytes) -> list[int]:
    out: list[int] = []
    for item in text.split(b","):
        low, _, high = item.partition(b":")
        out += range(int(low), int(high or low) + 1)
    return out


CONTEXTS = [
    b"UID SEARCH RETURN (UPDATE ALL) %b",
    b"UID SORT RETURN (UPDATE ALL) (SUBJECT) UTF-8 %b",
    b"UID SORT RETURN (UPDATE ALL) (REVERSE FROM SIZE) UTF-8 %b",
    b"UID SORT RETURN (UPDATE ALL) (REVERSE DATE) UTF-8 %b",
]
KEYS = [b"UNDELETED", b"OR FLAGGED FROM ann", b"NOT SUBJECT alpha", b"ALL"]


@pytest.mark.parametrize("seed", [3, 4])
def test_what_contexts_tell_adds_up(tmp_path: Path, seed: int) -> None:
    """After any changes by two sessions, each result kept by its news is that of a new search."""
    chance = random.Random(seed)
    mails = generate(chance)[:25]

    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with Client(service) as client, Client(service) as other:
                for one in (client, other):
                    await one.login()
                for mail in mails[:15]:
                    await client.append(mail.octets)
                for one in (client, other):
                    await one.ok(b"SELECT INBOX")
                kept: dict[bytes, tuple[bytes, Picture]] = {}
                for key in KEYS[: 2 + seed % 2]:
                    for command in CONTEXTS[: 4 - seed % 2]:
                        out = await client.ok(command % key)
                        kept[b"t%d" % client.count] = command % key, Picture(out[0])
                for step in range(40):
                    actor = chance.choice([client, other])
                    answers = await actor.ask(change(chance, mails, step))
                    if actor is other:
                        answers = await client.ask(chance.choice([b"NOOP", b"STORE 1 +FLAGS (x)"]))
                    answers += await client.ask(b"NOOP")
                    for line in answers:
                        tag = re.match(rb'\* ESEARCH \(TAG "(\w+)"\)', line)
                        if tag is not None:
                            kept[tag[1]][1].hear(line)
                    for command, picture in kept.values():
                        again = await client.ok(command.replace(b"UPDATE ", b""))
                        assert Picture(again[0]).uids == picture.uids, command

    asyncio.run(run())


def change(chance: random.Random, mails: list[Mail], step: int) -> bytes:
    number = chance.randint(1, 12)
    match chance.randint(0, 5):
        case 0:
            mail = mails[15 + step % 10]
            return b"APPEND INBOX (\\Flagged) {%d+}\r\n%b" % (len(mail.octets), mail.octets)
        case 1 if step % 3 == 0:
            return b"EXPUNGE"
        case 2:
            return b"COPY %d INBOX" % number
        case 3:
            return b"STORE %d:%d FLAGS (\\Flagged)" % (number, number)
        case 4:
            return b"STORE %d +FLAGS (\\Deleted)" % number
        case _:
            return b"STORE %d -FLAGS.SILENT (\\Deleted \\Flagged)" % number
