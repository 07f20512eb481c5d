"""A database with all that lies on it, in either form, for tests of the state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from postroad.database.local import LocalDatabase
from postroad.database.remote import RemoteDatabase
from postroad.directory.operations import AddAccount, AddDomain
from postroad.directory.reading import MailDirectory
from postroad.queue.reading import MailQueue
from postroad.service.stored import StoreServer
from postroad.store.blobs import BlobStore
from postroad.store.mailboxes import MailStore
from postroad.store.operations import Append
from postroad.store.values import Appended, Content
from postroad.store.verify import verify

FORMS = ("local", "remote")
"""In this process, and through a store process's socket (served on the same loop)."""
NOW = 1_800_000_000
BOB = 77
INBOX = 1


@dataclass(slots=True)
class State:
    data_dir: Path
    database: LocalDatabase | RemoteDatabase
    local: LocalDatabase
    blobs: BlobStore
    store: MailStore
    directory: MailDirectory
    queue: MailQueue

    def content(self, octets: bytes = b"Subject: x\r\n\r\nhello\r\n", head: bytes = b"") -> Content:
        """The octets, put where blobs live, with a content that says little of them."""
        draft = self.blobs.draft()
        draft.write(octets)
        return content_for(draft.commit(), head, len(head) + len(octets))

    async def append(self, octets: bytes = b"x", mailbox: int = INBOX, **more: object) -> Appended:
        operation = Append(
            account=BOB,
            mailbox=mailbox,
            content=self.content(octets),
            internal_date=NOW,
            **more,  # type: ignore[arg-type]  # fields of Append
        )
        (done,) = await self.database.submit(operation)
        assert isinstance(done, Appended)
        return done


def content_for(blob: str, head: bytes, size: int) -> Content:
    return Content(
        blob=blob,
        head=head,
        size=size,
        envelope=b"(envelope)",
        body=b"(body)",
        bodystructure=b"(bodystructure)",
        header=head + b"Subject: x\r\n\r\n",
        structure=b"structure",
        preview="hello",
        sent=NOW - 5,
    )


async def add_bob(database: LocalDatabase | RemoteDatabase) -> None:
    await database.submit(AddDomain(name="two.example", keys=(), now=NOW))
    await database.submit(
        AddAccount(account=BOB, address="bob@two.example", argon2="a", scram_sha_256="s", now=NOW)
    )


@asynccontextmanager
async def opened(form: str, data_dir: Path, *, bob: bool = True) -> AsyncIterator[State]:
    """Everything, with bob@two.example in it; closed and verified at the end."""
    local = LocalDatabase.open(data_dir)
    blobs = BlobStore.open(data_dir)
    server = StoreServer(local)
    database: LocalDatabase | RemoteDatabase = local
    if form == "remote":
        await server.start()
        database = await RemoteDatabase.connect(data_dir)
    directory = MailDirectory(database, hostname="mx.two.example")
    state = State(
        data_dir, database, local, blobs, MailStore(database, blobs), directory, MailQueue(database)
    )
    try:
        if bob and directory.account("bob@two.example") is None:
            await add_bob(database)
        yield state
    finally:
        await database.close()
        await server.close()
        await local.close()
        blobs.close()
    assert list(verify(data_dir)) == []
