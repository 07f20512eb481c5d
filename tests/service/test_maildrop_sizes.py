"""LIST tells exactly what RETR sends (RFC 1939 §5), also for what an IMAP client appended."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from postroad.mail.errors import Unavailable
from postroad.net.memory import pipe
from postroad.service import maildrop_sizes
from postroad.service.pop3d import POP3Service
from postroad.store.operations import Append, Expunge
from postroad.store.values import content_of
from support.sites import PASSWORD, TestSite, make_site

MESSAGES = [
    b"Subject: whole\r\n\r\n.one\r\n",
    b"Subject: cut\r\n\r\nno end",
    b"Subject: header only",
    b"Subject: a bare LF\r\n\r\nend\n",
    b"Subject: a bare CR\r\n\r\nend\r",
    b"x",
    b"\n",
    b"Subject: dot\r\n\r\n.",
]


async def add(made: TestSite, octets: bytes, head: bytes = b"") -> None:
    from postroad.message.summary import summarize

    draft = made.site.store.blobs.draft()
    draft.write(octets)
    content = content_of(summarize(octets, head), draft.commit(), head)
    account = made.accounts["ann@one.example"]
    await made.site.database.submit(
        Append(account=account, mailbox=0, content=content, internal_date=1_800_000_000)
    )


async def session(made: TestSite, *commands: str) -> bytes:
    """Everything the server says to these commands after login."""
    client, server = pipe(client=("127.0.0.1", 40000), server=("127.0.0.1", 110))
    serving = asyncio.create_task(POP3Service(made.site).handle(server))
    lines = ["USER ann@one.example", f"PASS {PASSWORD}", *commands, "QUIT"]
    await client.write([line.encode() + b"\r\n" for line in lines], 10)
    said = b""
    while octets := await client.read(10):
        said += octets
    await serving
    await client.close()
    return said


async def check_sizes(made: TestSite, count: int) -> bytes:
    """Every size in LIST, STAT and RETR's first line is what arrives."""
    said = await session(made, "STAT", "LIST", *(f"RETR {n}" for n in range(1, count + 1)))
    listed = [int(size) for size in re.findall(rb"(?m)^\d+ (\d+)\r$", said)]
    assert len(listed) == count
    assert b"+OK %d %d\r\n" % (count, sum(listed)) in said
    rest = said[said.index(b"\r\n.\r\n") + 5 :]
    for size in listed:
        first, _, rest = rest.partition(b"\r\n")
        assert first == b"+OK %d octets" % size
        body, _, rest = rest.partition(b"\r\n.\r\n")
        assert len(re.sub(rb"(?m)^\.\.", b".", body)) + 2 == size
    return said


@pytest.mark.parametrize("with_files", [True, False], ids=["lock files", "one process"])
def test_list_is_what_retr_sends(tmp_path: Path, with_files: bool) -> None:
    async def run() -> None:
        async with make_site(
            tmp_path, plaintext_on_loopback=True, run_dir=tmp_path / "run" if with_files else None
        ) as made:
            for octets in MESSAGES:
                await add(made, octets)
            first = await check_sizes(made, len(MESSAGES))
            assert await check_sizes(made, len(MESSAGES)) == first
            await add(made, b"Subject: later\r\n\r\nno end either")
            await check_sizes(made, len(MESSAGES) + 1)

    asyncio.run(run())


def test_a_message_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    examine = maildrop_sizes._examine

    def counting(site: object, rows: list) -> tuple[list[int], bool]:  # type: ignore[type-arg]
        looked.extend(row.uid for row in rows)
        return examine(site, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(maildrop_sizes, "_examine", counting)

    async def run() -> None:
        async with make_site(
            tmp_path, plaintext_on_loopback=True, run_dir=tmp_path / "run"
        ) as made:
            await add(made, MESSAGES[1])
            await add(made, MESSAGES[0], b"Return-Path: <a@b.example>\r\n")
            await check_sizes(made, 2)
            await check_sizes(made, 2)
            assert looked == [1], "and what came by SMTP never"
            (note,) = (tmp_path / "run" / "pop3").iterdir()
            for torn in (b"", note.read_bytes()[:-3], b"[1,2]", b"\0" * 30, b'[1,99999,[[1,"a"]]]'):
                note.write_bytes(torn)
                await check_sizes(made, 2)
            assert looked == [1] * 6
            account = made.accounts["ann@one.example"]
            inbox = made.site.store.mailbox(account, "INBOX")
            assert inbox is not None
            await made.site.database.submit(
                Expunge(
                    now=1_800_000_000,
                    account=account,
                    mailbox=inbox.mailbox,
                    uids=[(1, 1)],
                    only_deleted=False,
                )
            )
            await check_sizes(made, 1)

    asyncio.run(run())


def test_what_cannot_be_read_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with make_site(
            tmp_path, plaintext_on_loopback=True, run_dir=tmp_path / "run"
        ) as made:
            await add(made, MESSAGES[1])
            with monkeypatch.context() as patch:

                def broken(*_: object) -> bytes:
                    raise Unavailable("disk")

                patch.setattr(type(made.site.store), "octets_range", broken)
                said = await session(made, "STAT", "RETR 1")
            assert b"+OK 1 %d\r\n" % len(MESSAGES[1]) in said and b"SYS/TEMP" in said
            await check_sizes(made, 1)

    asyncio.run(run())
