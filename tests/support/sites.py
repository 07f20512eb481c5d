"""A whole Site on a temporary directory: the real database and store, DNS in memory."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from postroad.database.local import LocalDatabase
from postroad.directory.operations import AddAccount, AddAlias, AddDomain
from postroad.directory.passwords import Verifiers, hash_password
from postroad.directory.reading import MailDirectory
from postroad.dns.zone import Zone
from postroad.mail.ids import ACCOUNT_ID_BITS
from postroad.mail.secret import Secret
from postroad.mail.uidset import UIDSet
from postroad.mailauth.dkim import generate_key
from postroad.net.contract import Stream
from postroad.queue.reading import MailQueue
from postroad.service.site import Site, TLSContexts
from postroad.store.blobs import BlobStore
from postroad.store.mailboxes import MailStore
from postroad.store.values import MessageRow, Want
from postroad.trace import Event

PASSWORD = "correct horse"
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


class SteadyClock:
    """Stands still but for what `sleep` and `advance` add; chance counts up."""

    def __init__(self) -> None:
        self.moment = NOW
        self.seconds = 1000.0
        self.count = 0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def random_bits(self, bits: int) -> int:
        self.count += 1
        return self.count % (1 << bits)

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


class NoDialer:
    """Nobody is called from here."""

    async def dial(
        self, address: str, port: int, *, timeout_s: float = 30.0, source: str | None = None
    ) -> Stream:
        raise AssertionError(f"a test dialled {address}:{port}")


@lru_cache(maxsize=1)
def verifiers() -> Verifiers:
    return hash_password(Secret(PASSWORD), argon2_salt=b"a" * 16, scram_salt=b"s" * 16)


@lru_cache(maxsize=1)
def keys() -> tuple[tuple[str, str, bytes, str], ...]:
    return tuple(
        (f"s{number}", algorithm, *generate_key(algorithm))
        for number, algorithm in enumerate(("ed25519-sha256", "rsa-sha256"))
    )


ACCOUNT_FIRST = (1 << ACCOUNT_ID_BITS) - 1000
"""The first account's id; the others follow. As wide as real ones, which are random."""


class TestSite:
    """site: what services get. events: all that was traced. accounts: ids by address."""

    __test__ = False

    def __init__(self, site: Site, events: list[Event], zone: Zone, clock: SteadyClock) -> None:
        self.site = site
        self.events = events
        self.zone = zone
        self.clock = clock
        self.accounts: dict[str, int] = {}

    def traced(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def mail(self, address: str, mailbox: str = "INBOX") -> list[bytes]:
        """The octets of every message in a mailbox, oldest first."""
        return [self.site.store.octets(row) for row in self.rows(address, mailbox)]

    def rows(self, address: str, mailbox: str = "INBOX") -> list[MessageRow]:
        account = self.accounts[address]
        found = self.site.store.mailbox(account, mailbox)
        assert found is not None, mailbox
        everything = UIDSet(((1, 0xFFFFFFFF),))
        slices = self.site.store.messages(account, found.mailbox, everything, Want.OCTETS)
        return [row for rows in slices for row in rows]


@contextlib.asynccontextmanager
async def make_site(
    directory: Path,
    *,
    zone: str = "",
    accounts: tuple[str, ...] = ("ann@one.example", "bob@one.example"),
    aliases: dict[str, tuple[str, ...]] | None = None,
    signing: bool = False,
    **settings: Any,
) -> AsyncIterator[TestSite]:
    """mx.one.example with its accounts (their password is PASSWORD), for one running loop."""
    database = LocalDatabase.open(directory)
    blobs = BlobStore.open(directory)
    events: list[Event] = []
    clock = SteadyClock()
    names = Zone(zone)
    site = Site(
        hostname="mx.one.example",
        database=database,
        directory=MailDirectory(database, "mx.one.example"),
        store=MailStore(database, blobs),
        queue=MailQueue(database),
        resolver=names,
        dialer=NoDialer(),
        clock=clock,
        trace=events.append,
        tls=TLSContexts(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)),
        **settings,
    )
    made = TestSite(site, events, names, clock)
    try:
        now = int(NOW.timestamp())
        for name in sorted({address.partition("@")[2] for address in accounts}):
            await database.submit(AddDomain(name=name, keys=keys() if signing else (), now=now))
        for number, address in enumerate(accounts, ACCOUNT_FIRST):
            made.accounts[address] = number
            await database.submit(
                AddAccount(
                    account=number,
                    address=address,
                    argon2=verifiers().argon2,
                    scram_sha_256=verifiers().scram_sha_256,
                    scram_sha_1=verifiers().scram_sha_1,
                    now=now,
                )
            )
        for address, targets in (aliases or {}).items():
            await database.submit(AddAlias(address=address, targets=targets))
        yield made
    finally:
        blobs.close()
        await database.close()
