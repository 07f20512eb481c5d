"""Three people with two sessions each do whatever they like to each other's mailboxes, at once.

No command breaks, what is kept stays whole, and what STATUS counts is what FETCH shows.
"""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

import pytest

from postroad.service.imapd import IMAPService
from postroad.store.verify import verify
from support.imap import Client
from support.sites import make_site

PEOPLE = ("ann@one.example", "bob@one.example", "carl@one.example")
MAILBOXES = ("INBOX", "work", "work/a", "work/b", "Sent")
COMMANDS = 60
_UNSEEN = re.compile(rb"MESSAGES (\d+) UNSEEN (\d+)")
TEMPLATES = (
    "SELECT {a}", "SELECT {a}", "SELECT {a}", "SELECT {a}", "EXAMINE {a}", "UNSELECT", "CLOSE",
    "NOOP", "CREATE {a}", "CREATE {a}", "DELETE {a}", "RENAME {a} {b}", "SUBSCRIBE {a}",
    'SETACL {a} {who} "{sign}{rights}"', "SETACL {a} {who} lrswitekx", "SETACL {a} {who} lrsi",
    "DELETEACL {a} {who}", "GETACL {a}", "MYRIGHTS {a}", "LISTRIGHTS {a} {who}",
    "APPEND {a} ({flags}) {{5+}}\r\na: b\n", "APPEND {a} {{5+}}\r\na: b\n",
    "STORE {set} +FLAGS ({flags})", "UID STORE {set} -FLAGS ({flags})",
    "STORE {set} FLAGS.SILENT ({flags})", "UID COPY {set} {a}", "MOVE {set} {a}", "EXPUNGE",
    "FETCH {set} (FLAGS BODY[TEXT])", "UID SEARCH UNSEEN",
    "STATUS {a} (MESSAGES UNSEEN DELETED DELETED-STORAGE MAILBOXID HIGHESTMODSEQ RECENT)",
    'LIST "" * RETURN (MYRIGHTS STATUS (UNSEEN) METADATA (/shared/comment) SUBSCRIBED)',
    'LIST (SUBSCRIBED RECURSIVEMATCH) "" %', 'LSUB "" *', "GETQUOTAROOT {a}", "ENABLE METADATA",
    'SETMETADATA {a} (/shared/comment "x" /private/comment NIL /private/x "y")',
    "GETMETADATA (DEPTH infinity) {a} (/shared /private)",
    'SETMETADATA {a} (/private/specialuse "\\\\Sent")',
)  # fmt: skip


class Person:
    def __init__(self, service: IMAPService, address: str, seed: int) -> None:
        self.service = service
        self.address = address
        self.chance = random.Random(seed)

    def name(self) -> str:
        owner, mailbox = self.chance.choice(PEOPLE), self.chance.choice(MAILBOXES)
        return mailbox if owner == self.address else f"Users/{owner}/{mailbox}"

    def command(self) -> bytes:
        chance = self.chance
        flags = chance.sample(["\\Seen", "\\Seen", "\\Deleted", "\\Flagged", "kw"], 2)
        return chance.choice(TEMPLATES).format(
            a=self.name(),
            b=self.name(),
            who=chance.choice([*PEOPLE, "anyone", "-bob@one.example"]),
            sign=chance.choice(["", "+", "-"]),
            rights="".join(chance.sample("lrswipkxtea", chance.randint(0, 11))),
            flags=" ".join(flags),
            set=chance.choice(["1", "1:*", "2:3", "*"]),
        ).encode()  # fmt: skip

    async def live(self) -> None:
        client: Client | None = None
        for _ in range(COMMANDS):
            if client is None:
                client = await self.arrive()
            command = self.command()
            try:
                out = await client.ask(command)
            except EOFError:  # * BYE: the mailbox was deleted, or is not shared any more
                await self.leave(client)
                client = None
                continue
            assert b"SERVERBUG" not in out[-1], command
        if client is not None:
            await self.leave(client)

    async def arrive(self) -> Client:
        client = Client(self.service, octets_max=1 << 20)
        await client.__aenter__()
        await client.login(self.address)
        return client

    async def leave(self, client: Client) -> None:
        await client.stream.close()
        await asyncio.wait([client.task])

    async def compare(self) -> int:
        """UNSEEN by counter and by flags, of every mailbox there is to read."""
        client = await self.arrive()
        compared = 0
        for owner in PEOPLE:
            for mailbox in MAILBOXES:
                name = mailbox if owner == self.address else f"Users/{owner}/{mailbox}"
                out = await client.ask(b"STATUS %b (MESSAGES UNSEEN)" % name.encode())
                counted = _UNSEEN.search(out[0])
                if counted is None:
                    continue
                await client.ok(b"EXAMINE " + name.encode())
                rows = [line for line in await client.ok(b"FETCH 1:* (FLAGS)") if b"FETCH" in line]
                unseen = [line for line in rows if b"\\Seen" not in line]
                assert (int(counted[1]), int(counted[2])) == (len(rows), len(unseen)), name
                compared += 1
        await self.leave(client)
        return compared


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_they_do(seed: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True, accounts=PEOPLE) as made:
            service = IMAPService(made.site, False)
            people = [
                Person(service, address, 10 * seed + number)
                for number, address in enumerate(PEOPLE * 2)
            ]
            await asyncio.gather(*(person.live() for person in people))
            compared = [await person.compare() for person in people[:3]]
            assert min(compared) >= 2, "INBOX and Sent at least"
            crashed = [event for event in made.events if "Crashed" in type(event).__name__]
            assert crashed == []
        assert list(verify(tmp_path)) == []

    asyncio.run(main())
