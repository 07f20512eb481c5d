"""Delivery over real sockets and real TLS, on loopback."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from postroad.delivery.content import Content
from postroad.delivery.outcome import Deferred, Delivered, Outcome
from postroad.delivery.remote import Courier, Parcel, Road
from postroad.dns.zone import Zone
from postroad.mail.address import Address
from postroad.mail.envelope import Recipient
from postroad.net.dialer import NetDialer
from postroad.net.listener import Listener, bind
from postroad.net.tls import opportunistic_context, self_signed, server_context
from postroad.trace import Event
from support.peer import Peer

BIG = b"Subject: big\r\n\r\n" + (b"." + b"x" * 70 + b"\r\n") * 40_000


def deliver(peer: Peer | None, octets: bytes) -> tuple[Outcome, list[Event]]:
    events: list[Event] = []

    async def main() -> Outcome:
        sock = bind("127.0.0.1", 0)
        listener = Listener(sock, (peer or Peer()).serve, name="peer")
        port = listener.address[1]
        if peer is None:
            sock.close()
        else:
            listener.start()
        road = Road(
            hostname="mx.one.example",
            resolver=Zone("two.example A 127.0.0.1"),
            dialer=NetDialer(),
            jitter=lambda: 0.5,
            monotonic=time.monotonic,
            port=port,
            tls=opportunistic_context(),
        )
        courier = Courier(road, "two.example")
        parcel = Parcel(
            message="m1",
            reverse_path=Address("ann", "one.example"),
            recipients={0: Recipient(path=Address("bob", "two.example"))},
            content=Content(b"", octets),
        )
        try:
            outcomes = await courier.deliver(parcel, events.append)
            await courier.close()
        finally:
            if peer is not None:
                listener.close()
                await listener.drain(2)
        return outcomes[0]

    return asyncio.run(main()), events


@pytest.fixture
def secure(tmp_path: Path) -> Peer:
    certificate, key = self_signed(["mx.two.example"])
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    return Peer(tls="ok", context=server_context(tmp_path / "cert.pem", tmp_path / "key.pem"))


@pytest.mark.parametrize("octets", [b"Subject: x\r\n\r\nhi\r\n", BIG])
def test_a_message_over_tls_with_a_certificate_nobody_checks(secure: Peer, octets: bytes) -> None:
    secure.extensions = ("PIPELINING", "8BITMIME")
    outcome, events = deliver(secure, octets)
    assert isinstance(outcome, Delivered) and outcome.peer.tls == "TLSv1.3"
    assert [taken.octets for taken in secure.taken] == [octets]
    assert secure.taken[0].tls and secure.connections == 1
    assert "TLSFellBack" not in [type(event).__name__ for event in events]


@pytest.mark.parametrize("tls", ["broken", "garbage", "injected"])
def test_a_handshake_that_fails_leaves_plaintext(tls: str) -> None:
    peer = Peer(tls=tls)
    outcome, events = deliver(peer, b"Subject: x\r\n\r\nhi\r\n")
    assert isinstance(outcome, Delivered) and outcome.peer.tls == ""
    assert not peer.taken[0].tls
    assert "TLSFellBack" in [type(event).__name__ for event in events]


def test_a_big_message_in_plaintext() -> None:
    peer = Peer(extensions=("SIZE",))
    outcome, _ = deliver(peer, BIG)
    assert isinstance(outcome, Delivered)
    assert peer.taken[0].octets == BIG


def test_a_port_where_nobody_listens() -> None:
    outcome, _ = deliver(None, b"\r\n")
    assert isinstance(outcome, Deferred) and str(outcome.reply.status) == "4.4.1"
