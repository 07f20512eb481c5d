"""From one server's queue through the other server's port 25 into its mailboxes, all real but
the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.net.contract import Stream
from postroad.service.smtpd import SMTPService
from support.queue_world import World
from support.sites import make_site


class Door:
    """What a PeerDialer leads to: the other server's port 25."""

    def __init__(self, service: SMTPService) -> None:
        self.service = service
        self.connections = 0

    async def serve(self, stream: Stream) -> None:
        self.connections += 1
        await self.service.handle(stream)


async def road(directory: Path, messages: list[bytes], paths: tuple[str, ...]) -> list[bytes]:
    """What bob's mailbox holds once the queue is empty."""
    world = World(directory / "one", {})
    accounts = ("bob@two.example", "carol@two.example")
    async with make_site(directory / "two", accounts=accounts) as there:
        door = Door(SMTPService(there.site))
        world.dialer.peers["192.0.2.2"] = door  # type: ignore[assignment]  # it serves streams
        running = asyncio.create_task(world.runner.run())
        try:
            for octets in messages:
                await world.enqueue(*paths, octets=octets, reverse_path="alice@far.example")
            await world.empty()
        finally:
            await world.runner.drain(5)
            await running
            await world.database.close()
        assert world.named("FailedForGood") == [] or "nobody@two.example" in paths
        return there.mail("bob@two.example")


def body_of(octets: bytes) -> bytes:
    return octets[octets.index(b"Received: here\r\n") :]


def test_a_message_goes_from_queue_to_mailbox(tmp_path: Path) -> None:
    octets = "From: alice@far.example\r\nSubject: x\r\n\r\n.\r\n..\r\nGrüße\r\n".encode()
    paths = ("bob@two.example", "nobody@two.example")
    (got,) = asyncio.run(road(tmp_path, [octets], paths))
    assert got.startswith(b"Return-Path: <alice@far.example>\r\n")
    assert body_of(got) == b"Received: here\r\n" + octets


LINES = st.lists(
    st.one_of(
        st.sampled_from([b".", b"..", b"", b"QUIT", b"\xff\x80", b"=20"]),
        st.binary(max_size=30).map(
            lambda o: o.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
        ),
    ),
    max_size=8,
)


@given(st.lists(LINES, min_size=1, max_size=8))
@settings(max_examples=5, deadline=None)
def test_octets_are_kept_from_end_to_end(tmp_path_factory: Any, bodies: list[list[bytes]]) -> None:
    directory = tmp_path_factory.mktemp("road")
    messages = [
        b"From: a@far.example\r\nX: %d\r\n\r\n" % number
        + b"".join(line + b"\r\n" for line in lines)
        for number, lines in enumerate(bodies)
    ]
    got = asyncio.run(road(directory, messages, ("bob@two.example",)))
    assert sorted(map(body_of, got)) == sorted(b"Received: here\r\n" + m for m in messages)
