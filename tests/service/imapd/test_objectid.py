"""Object identifiers: what is one, stays one (RFC 8474)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from postroad.mail.flags import Flag
from postroad.service.imapd import IMAPService
from postroad.service.imapd.objectid import email_id, thread_id
from postroad.store.values import MessageRow
from support.imap import Client
from support.sites import make_site


def row(header: bytes, heap: int = 7, origin: int = 0) -> MessageRow:
    return MessageRow(1, 1, Flag(0), (), 0, 1, heap, 0, header=header, origin=origin)


@pytest.mark.parametrize(
    "header",
    [
        b"Message-ID: <a@x>\r\n\r\n",
        b"Message-ID: <b@x>\r\nIn-Reply-To: your mail <a@x> of today\r\n\r\n",
        b"References:\r\n <a@x>\r\n <b@x>\r\nMessage-ID: <c@x>\r\nIn-Reply-To: <b@x>\r\n\r\n",
        b"references: nothing <a@x> <zz\r\n\r\n",
        b"REFERENCES:<a@x>",
        b"References: \r\nMessage-ID: <a@x>\r\n\r\n",
    ],
)
def test_what_answers_the_same_message_is_one_thread(header: bytes) -> None:
    assert thread_id(row(header)) == thread_id(row(b"Message-ID: <a@x>\r\n\r\n", heap=9))


def test_threads_are_told_apart() -> None:
    ids = {thread_id(row(b"Message-ID: <%d@x>\r\n\r\n" % number)) for number in range(50)}
    assert len(ids) == 50
    assert thread_id(row(b"a: b\r\n\r\n", heap=1)) != thread_id(row(b"a: b\r\n\r\n", heap=2))
    hostile = b"Message-ID: " + b"<" * 100_000 + b"\r\n" + b"References: <\r\n" * 5000
    assert thread_id(row(hostile)) == b"TM7"


def test_an_id_is_an_objectid() -> None:
    for found in (email_id(row(b"")), thread_id(row(b"")), thread_id(row(b"Message-ID: <a@x>"))):
        assert re.fullmatch(rb"[A-Za-z0-9_-]{1,255}", found)
    assert email_id(row(b"", heap=9, origin=7)) == email_id(row(b"", heap=7))


def test_copies_into_another_account_are_the_same_message(tmp_path: Path) -> None:
    """RFC 8474 §5.1: also the copy of a copy, and back again."""

    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with Client(service) as ann, Client(service) as bob:
                await ann.login()
                await ann.append()
                await ann.append()
                await ann.ok(b"SETACL INBOX bob@one.example lri")
                await ann.ok(b"SELECT INBOX")
                [theirs, _] = await ann.ok(b"FETCH 2 (EMAILID THREADID)")
                await bob.login("bob@one.example")
                await bob.append()
                await bob.ok(b'SELECT "Users/ann@one.example/INBOX"')
                await bob.ok(b"COPY 2 INBOX")
                await bob.ok(b"SELECT INBOX")
                [mine, _] = await bob.ok(b"FETCH 2 (EMAILID THREADID)")
                await bob.ok(b'MOVE 2 "Users/ann@one.example/INBOX"')
                await ann.ok(b"NOOP")
                [back, _] = await ann.ok(b"FETCH 3 (EMAILID THREADID)")
                assert theirs == mine == back.replace(b"* 3", b"* 2")
                email = re.search(rb"EMAILID \((\w+)\)", back)
                assert email is not None
                found = await ann.ok(b"SEARCH EMAILID " + email[1])
                assert found[0] == b"* SEARCH 2 3"

    asyncio.run(run())
