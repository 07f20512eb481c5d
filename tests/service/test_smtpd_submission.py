"""Submission whole: who may send, as whom, and what becomes of the message."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from postroad.dns.zone import Zone
from postroad.mail import limits
from postroad.mailauth.dkim import verify_dkim
from postroad.net.memory import MemoryStream, pipe
from postroad.protocol.smtp.data import DotEncoder
from postroad.service.authenticate import LoginFailed, LoginSucceeded
from postroad.service.smtp_events import MailAccepted, SenderRefused
from postroad.service.submission import HandshakeFailed, Signed, SubmissionService
from support.sites import NOW, PASSWORD, TestSite, keys, make_site

HELLO = b"EHLO laptop.example\r\n"
MINIMAL = b"From: Ann <ann@one.example>\r\nTo: x@far.example\r\nSubject: hi\r\n\r\nhello\r\n"


def plain_login(login: str = "ann@one.example", password: str = PASSWORD) -> bytes:
    return base64.b64encode(f"\0{login}\0{password}".encode())


class Client:
    def __init__(self, service: SubmissionService, peer: str = "192.0.2.1") -> None:
        self.stream: MemoryStream
        self.stream, self.server = pipe(client=(peer, 4000), server=("192.0.2.25", 587))
        self.task = asyncio.create_task(service.handle(self.server))
        self.unread = b""

    async def hear(self) -> list[str]:
        """The lines of one reply."""
        lines: list[str] = []
        while True:
            while b"\r\n" not in self.unread:
                octets = await self.stream.read(5.0)
                assert octets, f"the server closed after {lines}"
                self.unread += octets
            line, _, self.unread = self.unread.partition(b"\r\n")
            lines.append(line.decode())
            if line[3:4] == b" ":
                return lines

    async def say(self, octets: bytes) -> str:
        await self.stream.write(octets)
        return (await self.hear())[-1]

    async def begin(self, *, tls: bool = True, login: bool = True) -> list[str]:
        """Up to EHLO inside TLS, or logged in; the lines of the last EHLO."""
        await self.hear()
        await self.stream.write(HELLO)
        lines = await self.hear()
        if tls:
            await self.say(b"STARTTLS\r\n")
            await self.stream.start_tls_client(None, None)  # type: ignore[arg-type]  # is played
            await self.stream.write(HELLO)
            lines = await self.hear()
        if login:
            assert (await self.say(b"AUTH PLAIN " + plain_login() + b"\r\n"))[:3] == "235"
        return lines

    async def send(
        self,
        octets: bytes,
        *,
        sender: str = "ann@one.example",
        to: tuple[str, ...] = ("x@far.example",),
    ) -> str:
        lines = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in to), "DATA"]
        for line in lines:
            reply = await self.say(line.encode() + b"\r\n")
            if reply[0] not in "23":
                return reply
        encoder = DotEncoder()
        return await self.say(encoder.feed(octets) + encoder.finish())

    async def quit(self) -> None:
        await self.stream.write(b"QUIT\r\n")
        await self.task


Scene = Callable[[TestSite, SubmissionService], Awaitable[None]]


def play(tmp_path: Path, scene: Scene, implicit_tls: bool = False, **settings: Any) -> None:
    async def run() -> None:
        async with make_site(tmp_path, signing=True, **settings) as made:
            await scene(made, SubmissionService(made.site, implicit_tls))

    asyncio.run(run())


# -- who may send ----------------------------------------------------------------------------


def test_tls_before_login_and_login_before_mail(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        offered = await client.begin(tls=False, login=False)
        assert not any("AUTH" in line for line in offered)
        assert any(line.endswith("STARTTLS") for line in offered)
        assert (await client.say(b"AUTH PLAIN " + plain_login() + b"\r\n"))[:10] == "538 5.7.11"
        assert (await client.say(b"MAIL FROM:<ann@one.example>\r\n"))[:9] == "530 5.7.0"
        await client.say(b"STARTTLS\r\n")
        await client.stream.start_tls_client(None, None)  # type: ignore[arg-type]  # is played
        await client.stream.write(HELLO)
        offered = await client.hear()
        assert any("AUTH SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN" in line for line in offered)
        assert not any("STARTTLS" in line for line in offered)
        assert (await client.say(b"MAIL FROM:<ann@one.example>\r\n"))[:9] == "530 5.7.0"
        assert (await client.say(b"AUTH PLAIN " + plain_login() + b"\r\n"))[:9] == "235 2.7.0"
        assert (await client.say(b"MAIL FROM:<ann@one.example>\r\n"))[:3] == "250"
        await client.quit()
        assert made.traced(LoginSucceeded)[0].login == "ann@one.example"

    play(tmp_path, scene)


@pytest.mark.parametrize(("peer", "allowed"), [("127.0.0.1", True), ("192.0.2.1", False)])
def test_plaintext_login_on_loopback_where_configured(
    tmp_path: Path, peer: str, allowed: bool
) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service, peer)
        offered = await client.begin(tls=False, login=False)
        assert any("AUTH" in line for line in offered) is allowed
        reply = await client.say(b"AUTH PLAIN " + plain_login() + b"\r\n")
        assert reply[:3] == ("235" if allowed else "538")
        await client.quit()

    play(tmp_path, scene, plaintext_on_loopback=True)


def test_login_by_challenges_cancelling_and_nonsense(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin(login=False)
        assert (await client.say(b"AUTH NOSUCH\r\n"))[:9] == "504 5.5.4"
        assert (await client.say(b"AUTH PLAIN ???\r\n"))[:9] == "501 5.5.2"
        assert (await client.say(b"AUTH LOGIN\r\n"))[:4] == "334 "
        assert (await client.say(b"*\r\n"))[:9] == "501 5.7.0"
        assert (await client.say(b"AUTH PLAIN\r\n")) == "334 "
        assert (await client.say(b"not base64\r\n"))[:9] == "501 5.5.2"
        assert (await client.say(b"AUTH LOGIN\r\n")) == "334 VXNlcm5hbWU6"
        name = base64.b64encode(b"ann@one.example")
        assert (await client.say(name + b"\r\n")) == "334 UGFzc3dvcmQ6"
        assert (await client.say(base64.b64encode(PASSWORD.encode()) + b"\r\n"))[:3] == "235"
        assert (await client.say(b"AUTH PLAIN\r\n"))[:9] == "503 5.5.1"
        await client.quit()

    play(tmp_path, scene)


def test_wrong_passwords_end_the_session(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin(login=False)
        wrong = b"AUTH PLAIN " + plain_login(password="wrong") + b"\r\n"
        replies = [(await client.say(wrong))[:3] for _ in range(5)]
        assert replies == ["535"] * 4 + ["421"]
        await client.task
        assert len(made.traced(LoginFailed)) == 5

    play(tmp_path, scene)


def test_starttls_forgets_the_login(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service, "127.0.0.1")
        await client.begin(tls=False)
        await client.say(b"STARTTLS\r\n")
        await client.stream.start_tls_client(None, None)  # type: ignore[arg-type]  # is played
        await client.stream.write(HELLO)
        await client.hear()
        assert (await client.say(b"MAIL FROM:<ann@one.example>\r\n"))[:9] == "530 5.7.0"
        await client.quit()

    play(tmp_path, scene, plaintext_on_loopback=True)


def test_implicit_tls(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.stream.start_tls_client(None, None)  # type: ignore[arg-type]  # is played
        offered = await client.begin(tls=False)
        assert not any("STARTTLS" in line for line in offered)
        assert (await client.send(MINIMAL))[:3] == "250"
        await client.quit()
        plaintext = Client(service)
        await plaintext.stream.write(b"EHLO x\r\n")
        await plaintext.task
        assert len(made.traced(HandshakeFailed)) == 1

    play(tmp_path, scene, implicit_tls=True)


# -- as whom ---------------------------------------------------------------------------------


def test_nobody_writes_in_anothers_name(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin()
        refused = await client.send(MINIMAL, sender="bob@one.example")
        assert refused == "550 5.7.1 ann@one.example may not send as bob@one.example"
        assert made.traced(SenderRefused)[0].reverse_path == "bob@one.example"
        for forged in (
            MINIMAL.replace(b"ann@one", b"bob@one"),
            MINIMAL.replace(
                b"<ann@one.example>", b"<ann@one.example>, <director@far.example>"
            ).replace(b"To:", b"Sender: ann@one.example\r\nTo:"),
            b"Sender: bob@one.example\r\n" + MINIMAL,
        ):
            assert (await client.send(forged))[:9] == "550 5.7.1", forged
        assert (await client.send(MINIMAL, sender="sales@one.example"))[:3] == "250"
        alias = MINIMAL.replace(b"ann@", b"sales@")
        assert (await client.send(alias))[:3] == "250"
        assert (await client.send(MINIMAL, sender=""))[:3] == "250"
        await client.quit()
        assert len(list(made.site.queue.messages())) == 3

    play(tmp_path, scene, aliases={"sales@one.example": ("ann@one.example",)})


@pytest.mark.parametrize(
    ("octets", "names"),
    [
        (b"Subject: x\r\n\r\nno author\r\n", "From"),
        (b"From: ann@one.example\r\n" + MINIMAL, "2 From"),
        (b"this is no header\r\n" + MINIMAL, "no field"),
        (b"From: nobody\r\n\r\n", "From"),
    ],
)
def test_malformed_messages_are_refused_by_name(tmp_path: Path, octets: bytes, names: str) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin()
        reply = await client.send(octets)
        assert reply.startswith("550 5.6.0 The message is malformed: ") and names in reply
        assert (await client.send(MINIMAL))[:3] == "250"
        await client.quit()

    play(tmp_path, scene)


def test_recipients(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin()
        assert (await client.send(MINIMAL, to=("nobody@one.example",)))[:9] == "550 5.1.1"
        await client.quit()

    play(tmp_path, scene)


# -- what becomes of it ----------------------------------------------------------------------


def test_completed_signed_and_delivered_in_one_unit(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin()
        reply = await client.send(MINIMAL, to=("bob@one.example", "x@far.example", "y@far.example"))
        id = reply.rpartition(" ")[2]
        await client.quit()
        (message,) = made.mail("bob@one.example")
        (queued,) = made.site.queue.messages()
        assert message.endswith(b"\r\n" + MINIMAL)
        assert message.startswith(b"Return-Path: <ann@one.example>\r\nReceived: ")
        assert message == b"Return-Path: <ann@one.example>\r\n" + queued.head + MINIMAL
        assert b"with ESMTPSA" in queued.head and b" for <" not in queued.head
        assert b"\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n" in queued.head
        assert b"\r\nMessage-ID: <" + id.encode() + b"@mx.one.example>\r\n" in queued.head
        assert [item.path for item in queued.recipients] == ["x@far.example", "y@far.example"]
        assert queued.account == made.accounts["ann@one.example"]
        records = Zone()
        for selector, algorithm, _, public in keys():
            kind = algorithm.partition("-")[0]
            records.add(
                f"{selector}._domainkey.one.example", "TXT", f"v=DKIM1; k={kind}; p={public}"
            )
        results = await verify_dkim(records, queued.head + MINIMAL, NOW)
        assert [(str(result.result), result.domain) for result in results] == [
            ("pass", "one.example"),
            ("pass", "one.example"),
        ]
        accepted = made.traced(MailAccepted)[0]
        assert accepted.login == "ann@one.example"
        assert accepted.delivered == ("bob@one.example",)
        assert made.traced(Signed)[0].keys == ("one.example/s0", "one.example/s1")
        events = [record for _, record in made.site.queue.history(id)]
        assert any(b"MailAccepted" in record for record in events)
        assert any(b"Signed" in record for record in events)

    play(tmp_path, scene)


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    complete = (
        b"Date: Mon, 2 Nov 2026 10:00:00 +0000\r\nMessage-ID: <own@laptop.example>\r\n" + MINIMAL
    )

    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin()
        await client.send(complete)
        await client.quit()
        (queued,) = made.site.queue.messages()
        assert b"\r\nDate:" not in queued.head and b"\r\nMessage-ID:" not in queued.head
        assert made.site.store.blobs.read(queued.blob) == complete

    play(tmp_path, scene)


def test_bcc_does_not_travel(tmp_path: Path) -> None:
    secret = MINIMAL.replace(
        b"Subject", b"Bcc: <secret@far.example>,\r\n <more@far.example>\r\nSubject"
    )

    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin()
        to = ("x@far.example", "secret@far.example", "bob@one.example")
        assert (await client.send(secret, to=to))[:3] == "250"
        await client.quit()
        (queued,) = made.site.queue.messages()
        assert made.site.store.blobs.read(queued.blob) == MINIMAL
        assert queued.size == len(queued.head) + len(MINIMAL)
        assert made.mail("bob@one.example")[0].endswith(b"\r\n" + MINIMAL)
        assert b"secret" not in made.mail("bob@one.example")[0]

    play(tmp_path, scene)


def test_nobody_writes_results_in_our_name(tmp_path: Path) -> None:
    forged = b"Authentication-Results: mx.one.example; dkim=pass\r\n"
    other = b"Authentication-Results: elsewhere.example; dkim=pass\r\n"

    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin()
        sent = forged + other + MINIMAL
        assert (await client.send(sent, to=("bob@one.example",)))[:3] == "250"
        await client.quit()
        (message,) = made.mail("bob@one.example")
        assert message.endswith(b"\r\n" + other + MINIMAL) and forged not in message

    play(tmp_path, scene)


def test_nothing_hides_behind_the_last_field_that_is_read(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin()
        many = b"X: y\r\n" * limits.HEADER_FIELDS_MAX
        reply = await client.send(b"From: ann@one.example\r\n" + many + b"Bcc: x@y\r\n\r\n")
        assert reply.startswith("550 5.6.0 ") and "10000 fields" in reply
        await client.quit()

    play(tmp_path, scene)


def test_success_is_reported_to_the_account(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin()
        await client.say(b"MAIL FROM:<ann@one.example>\r\n")
        await client.say(b"RCPT TO:<bob@one.example> NOTIFY=SUCCESS\r\n")
        await client.say(b"DATA\r\n")
        assert (await client.say(MINIMAL + b".\r\n"))[:3] == "250"
        await client.quit()
        (report,) = made.mail("ann@one.example")
        assert report.startswith(b"Return-Path: <>\r\n")
        assert b"Action: delivered" in report and b"Subject: hi" in report
        assert len(made.mail("bob@one.example")) == 1

    play(tmp_path, scene)


def test_dsn_wishes_and_body_go_along(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SubmissionService) -> None:
        client = Client(service)
        await client.begin()
        mail = "MAIL FROM:<ann@one.example> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=q1\r\n"
        assert (await client.say(mail.encode()))[:3] == "250"
        rcpt = "RCPT TO:<zoë@far.example> NOTIFY=SUCCESS,FAILURE ORCPT=utf-8;zoë@far.example\r\n"
        assert (await client.say(rcpt.encode()))[:3] == "250"
        assert (await client.say(b"DATA\r\n"))[:3] == "354"
        assert (await client.say(MINIMAL + b".\r\n"))[:3] == "250"
        await client.quit()
        (queued,) = made.site.queue.messages()
        assert (queued.body, queued.smtputf8, queued.ret, queued.envid) == (
            "8BITMIME", True, "HDRS", "q1",
        )  # fmt: skip
        (recipient,) = queued.recipients
        assert recipient.notify == ("FAILURE", "SUCCESS")
        assert recipient.orcpt == "utf-8;zoë@far.example"
        assert b"with UTF8SMTPSA" in queued.head

    play(tmp_path, scene)
