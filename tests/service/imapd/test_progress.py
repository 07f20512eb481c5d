"""INPROGRESS: long commands say how far they are (RFC 9585 §4, §5)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroad.protocol.imap.commands import Namespace
from postroad.service.imapd import IMAPService, service
from postroad.service.imapd.session import Answer, Session
from support.imap import Client
from support.sites import make_site


def test_progress_is_told_every_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> list[bytes]:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:

            async def slow(session_: Session, command: object) -> Answer:
                """Ten steps of two seconds each, at last more than it expected."""
                for done in range(10):
                    made.clock.advance(2.0)
                    await session_.progress(done, 10 if done < 7 else done)
                return Answer("Done")

            handlers = {**service.HANDLERS, Namespace: slow}
            monkeypatch.setattr(service, "HANDLERS", handlers)
            async with Client(IMAPService(made.site, False)) as client:
                await client.login()
                await client.send(b"a-1 NAMESPACE\r\n")
                return await client.until(b"a-1")

    out = asyncio.run(run())
    assert out == [
        b'* OK [INPROGRESS ("a-1" 2 10)] Still at it',
        b'* OK [INPROGRESS ("a-1" 5 10)] Still at it',
        b'* OK [INPROGRESS ("a-1" 8 NIL)] Still at it',
        b"a-1 OK Done",
    ]
