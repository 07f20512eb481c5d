"""The small parts of the SMTP services: fields taken out, DKIM on a thread, real sockets."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from pathlib import Path

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.dns.zone import Zone
from postroad.mail.errors import Unavailable
from postroad.mailauth.dkim import load_key, sign, verify_dkim
from postroad.message.header import parse_header
from postroad.net.listener import Listener, bind
from postroad.service.rewriting import without_fields
from postroad.service.site import TLSContexts
from postroad.service.smtp_events import SessionFailed
from postroad.service.smtpd import SMTPService
from postroad.service.submission import SubmissionService
from postroad.service.threaded_dkim import verify_on_thread
from support.mail import plain
from support.sites import NOW, PASSWORD, TestSite, keys, make_site


class MemoryDraft:
    def __init__(self, bound: int = 1 << 30) -> None:
        self.octets = bytearray()
        self.bound = bound
        self.is_discarded = False

    def write(self, octets: bytes | memoryview) -> None:
        self.octets += octets
        if len(self.octets) > self.bound:
            raise Unavailable("full")

    @property
    def size(self) -> int:
        return len(self.octets)

    def view(self) -> memoryview:
        return memoryview(self.octets)

    def commit(self) -> str:
        raise AssertionError("nobody commits here")

    def discard(self) -> None:
        self.is_discarded = True


class MemoryBlobs:
    def __init__(self, bound: int = 1 << 30) -> None:
        self.made: list[MemoryDraft] = []
        self.bound = bound

    def draft(self) -> MemoryDraft:
        self.made.append(MemoryDraft(self.bound))
        return self.made[-1]

    def read(self, blob: str) -> bytes:
        raise AssertionError("nobody reads here")

    def read_range(self, blob: str, start: int, stop: int) -> bytes:
        raise AssertionError("nobody reads here")


FIELDS = st.sampled_from(
    [
        b"Bcc: a@b\r\n",
        b"bcc : c\r\n d\r\n",
        b"To: x\r\n",
        b"X-Bcc: y\r\n",
        b"no field\r\n",
        b"BCC:\r\n",
    ]
)


@settings(max_examples=60)
@given(st.lists(FIELDS, max_size=8), st.sampled_from([b"\r\nbody Bcc: z\r\n", b"\r\n", b""]))
def test_fields_are_taken_out_and_nothing_else(fields: list[bytes], body: bytes) -> None:
    octets = b"".join(fields) + body
    header, _ = parse_header(octets)
    blobs = MemoryBlobs()
    draft = without_fields(blobs, memoryview(octets), header, lambda field: field.key == b"bcc")
    kept = [field for field in fields if not field.lower().startswith(b"bcc")]
    if len(kept) == len(fields):
        assert draft is None and not blobs.made
    else:
        assert draft is not None and bytes(draft.view()) == b"".join(kept) + body


def test_a_full_disk_leaves_no_draft_behind() -> None:
    octets = b"Bcc: x\r\n\r\n" + b"y" * 100
    blobs = MemoryBlobs(bound=10)
    with pytest.raises(Unavailable):
        without_fields(blobs, memoryview(octets), parse_header(octets)[0], lambda field: True)
    assert blobs.made[0].is_discarded


def test_dkim_on_a_thread_finds_the_same() -> None:
    octets = plain("x", size=300_000)
    selector, algorithm, pem, public = keys()[0]
    signer = load_key(pem, domain="one.example", selector=selector, algorithm=algorithm)
    signed = sign(b"", octets, [signer], NOW) + octets
    zone = Zone()
    zone.add(f"{selector}._domainkey.one.example", "TXT", f"v=DKIM1; k=ed25519; p={public}")

    async def run() -> None:
        there = await verify_on_thread(zone, memoryview(signed), NOW)
        assert there == await verify_dkim(zone, signed, NOW)
        assert [str(result.result) for result in there] == ["pass"]

    asyncio.run(run())


def test_over_real_sockets_and_real_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.one.example", "127.0.0.1").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    large = plain("large", size=700_000)
    note = b"From: ann@one.example\r\nSubject: hi\r\n\r\n.hello\r\n"

    def send(ports: list[int]) -> None:
        with smtplib.SMTP("127.0.0.1", ports[0]) as client:
            client.starttls(context=trusting)
            client.sendmail("x@elsewhere.example", ["bob@one.example"], large)
        with smtplib.SMTP("127.0.0.1", ports[1]) as client:
            client.starttls(context=trusting)
            client.login("ann@one.example", PASSWORD)
            client.sendmail("ann@one.example", ["bob@one.example"], note)
        with smtplib.SMTP_SSL("127.0.0.1", ports[2], context=trusting) as client:
            client.login("ann@one.example", PASSWORD)
            client.sendmail("ann@one.example", ["bob@one.example"], note)

    async def serve(made: TestSite) -> None:
        made.site.tls = TLSContexts(server)
        services = (
            SMTPService(made.site),
            SubmissionService(made.site, False),
            SubmissionService(made.site, True),
        )
        listeners = [
            Listener(bind("127.0.0.1", 0), service.handle, name="test", trace=made.events.append)
            for service in services
        ]
        for listener in listeners:
            listener.start()
        try:
            await asyncio.to_thread(send, [listener.address[1] for listener in listeners])
        finally:
            for listener in listeners:
                await listener.drain(1.0)

    async def run() -> None:
        async with make_site(tmp_path, signing=True) as made:
            await serve(made)
            first, second, third = made.mail("bob@one.example")
            assert first.endswith(b"\r\n" + large)
            assert b"with ESMTPS" in first and b"(TLSv1.3 " in first
            assert second.endswith(b"\r\n" + note) and third.endswith(b"\r\n" + note)
            assert not made.traced(SessionFailed)

    asyncio.run(run())
