"""A site with a real database, scripted peers in memory, and a queue to run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from postroad.database.local import LocalDatabase
from postroad.directory.operations import AddAccount, AddDomain
from postroad.directory.reading import MailDirectory
from postroad.dns.zone import Zone
from postroad.mail.uidset import UIDSet
from postroad.queue.operations import (
    Enqueue,
    QueuedPath,
)
from postroad.queue.reading import MailQueue
from postroad.service.queue_runner import QueueRunner
from postroad.service.site import Site, TLSContexts
from postroad.store.blobs import BlobStore
from postroad.store.mailboxes import MailStore
from postroad.store.values import Want
from postroad.trace import Event
from support.peer import Peer, PeerDialer

ZONE = """
two.example     MX 10 mx.two.example
mx.two.example  A 192.0.2.2
dead.example    MX 10 mx.dead.example
mx.dead.example A 192.0.2.66
null.example    MX 0 .
"""
MESSAGE = (
    b"From: alice@one.example\r\nTo: bob@two.example\r\nMessage-ID: <1@one.example>\r\n"
    b"Subject: hello\r\n\r\nHello Bob.\r\n"
)


class StoppedClock:
    """Real waiting, made short; the wall clock moves only when told, and by what is slept."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
        self.counter = 0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    async def sleep(self, seconds: float) -> None:
        """Only `advance` makes it go by; what waits for a notice is woken by that."""
        target = self.moment + timedelta(seconds=seconds)
        while self.moment < target:
            await asyncio.sleep(0.002)

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    def random_bits(self, bits: int) -> int:
        self.counter += 1
        return (self.counter * 0x9E3779B97F4A7C15) % (1 << bits)

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


class World:
    """A site with a real database, peers in memory, and a clock that stands still."""

    def __init__(self, directory: Path, peers: dict[str, Peer], **bounds: Any) -> None:
        self.database = LocalDatabase.open(directory)
        self.blobs = BlobStore.open(directory)
        self.clock = StoppedClock()
        self.events: list[Event] = []
        self.dialer = PeerDialer(peers)
        self.queue = MailQueue(self.database)
        self.store = MailStore(self.database, self.blobs)
        self.site = Site(
            hostname="mx.one.example",
            database=self.database,
            directory=MailDirectory(self.database, "mx.one.example"),
            store=self.store,
            queue=self.queue,
            resolver=Zone(ZONE),
            dialer=self.dialer,
            clock=self.clock,
            trace=self.events.append,
            tls=TLSContexts(None),
        )
        self.runner = QueueRunner(self.site, **{"connection_idle_s": 0.05, **bounds})
        self.number = 0

    async def enqueue(self, *paths: str, **more: Any) -> str:
        self.number += 1
        message = more.pop("message", f"m{self.number:04d}")
        octets = more.pop("octets", MESSAGE)
        notify = more.pop("notify", ())
        orcpt = more.pop("orcpt", None)
        draft = self.blobs.draft()
        draft.write(octets)
        now = int(self.clock.now().timestamp())
        await self.database.submit(
            Enqueue(
                message=message,
                blob=draft.commit(),
                head=b"Received: here\r\n",
                size=len(octets) + 16,
                reverse_path=more.pop("reverse_path", "alice@one.example"),
                recipients=tuple(
                    QueuedPath(path=path, domain=path.partition("@")[2], notify=notify, orcpt=orcpt)
                    for path in paths
                ),
                accepted=now,
                expires=now + more.pop("lifetime", 5 * 86400),
                **more,
            )
        )
        return message

    async def add_alice(self) -> None:
        await self.database.submit(
            AddDomain(name="one.example", keys=(), now=0),
            AddAccount(
                account=7,
                address="alice@one.example",
                argon2="x",
                scram_sha_256="x",
                now=0,
            ),
        )

    def inbox(self) -> list[bytes]:
        mailbox = self.store.mailbox(7, "INBOX")
        assert mailbox is not None
        uids = UIDSet.of_ranges([(1, 1000)])
        rows = self.store.messages(7, mailbox.mailbox, uids, Want.OCTETS)
        return [self.store.octets(row) for page in rows for row in page]

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if type(event).__name__ == name]

    def history(self, message: str) -> list[dict[str, Any]]:
        return [msgspec.json.decode(octets) for _, octets in self.queue.history(message)]

    async def until(self, condition: Callable[[], bool], what: str = "it") -> None:
        for _ in range(2500):
            if condition():
                return
            await asyncio.sleep(0.002)
        raise AssertionError(f"{what} did not happen; events: {self.events[-10:]}")

    async def settled(self) -> None:
        """Nothing is due now, and no attempt waits for its outcome to be written."""

        def is_settled() -> bool:
            now = self.clock.now().timestamp()
            rows = [item for row in self.queue.messages() for item in row.recipients]
            return all(not item.attempting and item.next_attempt > now for item in rows)

        await self.until(is_settled, "a settled queue")

    async def empty(self) -> None:
        await self.until(lambda: not list(self.queue.due()), "an empty queue")
