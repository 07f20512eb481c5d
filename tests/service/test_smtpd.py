"""Port 25 whole: what is accepted, refused, filed, kept and traced."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroad.database.contract import Operation
from postroad.delivery.success import SuccessReported
from postroad.directory.operations import AddAlias
from postroad.mail import limits
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.net.memory import MemoryStream, pipe
from postroad.policy.inbound import Judged
from postroad.protocol.smtp.data import DotEncoder
from postroad.service import smtp_session
from postroad.service.smtp_events import (
    MailAccepted,
    MessageRefused,
    RecipientRefused,
    SessionEnded,
    SessionFailed,
    SessionStarted,
)
from postroad.service.smtpd import SMTPService
from postroad.store.operations import SetQuota
from support.mail import plain
from support.sites import TestSite, make_site

ZONE = """
good.example     TXT "v=spf1 ip4:192.0.2.1 -all"
good.example     MX 10 mx.good.example
_dmarc.good.example TXT "v=DMARC1; p=reject"
strict.example   TXT "v=spf1 -all"
_dmarc.strict.example TXT "v=DMARC1; p=reject"
wary.example     TXT "v=spf1 -all"
_dmarc.wary.example TXT "v=DMARC1; p=quarantine"
broken.example   SERVFAIL
_dmarc.broken.example SERVFAIL
192.0.2.1        PTR mx.good.example
mx.good.example  A 192.0.2.1
"""
HELLO = b"EHLO client.example\r\n"
_BOTH = ("ann@one.example", "bob@one.example")


class Client:
    """Speaks to a service over a pipe."""

    def __init__(self, service: SMTPService, peer: str = "192.0.2.1") -> None:
        self.stream, self.server = pipe(client=(peer, 4000), server=("192.0.2.25", 25))
        self.task = asyncio.create_task(service.handle(self.server))

    async def say(self, octets: bytes) -> str:
        """Sends, and gives back the code, status and text of the last line of the reply."""
        if octets:
            await self.stream.write(octets)
        return await self.hear()

    async def hear(self) -> str:
        """One reply; replies are read one at a time, so pipelining goes through `replies`."""
        return (await self.replies(1))[0]

    async def replies(self, count: int) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            line = b""
            while not line.endswith(b"\r\n"):
                line += await read_octet(self.stream)
            if line[3:4] == b" ":
                found.append(line.decode().strip())
        return found

    async def begin(self) -> None:
        await self.hear()
        await self.say(HELLO)

    async def send(
        self,
        octets: bytes,
        *,
        sender: str = "a@good.example",
        to: tuple[str, ...] = ("bob@one.example",),
        parameters: str = "",
    ) -> str:
        """One message; the first refusal, or the reply to its end."""
        lines = [f"MAIL FROM:<{sender}>{parameters}", *(f"RCPT TO:<{one}>" for one in to), "DATA"]
        for line in lines:
            reply = await self.say(line.encode() + b"\r\n")
            if reply[0] not in "23":
                return reply
        encoder = DotEncoder()
        return await self.say(encoder.feed(octets) + encoder.finish())

    async def quit(self) -> None:
        await self.stream.write(b"QUIT\r\n")
        await self.task


_rest: dict[int, bytearray] = {}


async def read_octet(stream: MemoryStream) -> bytes:
    kept = _rest.setdefault(id(stream), bytearray())
    if not kept:
        octets = await stream.read(5.0)
        assert octets, "the server closed"
        kept += octets
    first = bytes(kept[:1])
    del kept[:1]
    return first


Scene = Callable[[TestSite, SMTPService], Awaitable[None]]


def play(tmp_path: Path, scene: Scene, **settings: Any) -> None:
    async def run() -> None:
        _rest.clear()
        async with make_site(tmp_path, zone=ZONE, **settings) as made:
            await scene(made, SMTPService(made.site))

    asyncio.run(run())


def header_of(message: bytes) -> str:
    return message.partition(b"\r\n\r\n")[0].decode().replace("\r\n\t", " ").replace("\r\n ", " ")


# -- acceptance ------------------------------------------------------------------------------


def test_a_message_is_kept_octet_by_octet_below_its_trace_fields(tmp_path: Path) -> None:
    octets = plain("x1", size=5000) + b"..dots\r\n.\r\n\xff\x80 eight bit\r\n"

    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        reply = await client.send(octets, sender="a@good.example")
        assert reply.startswith("250 2.0.0 Accepted as ")
        id = reply.rpartition(" ")[2]
        await client.quit()
        (message,) = made.mail("bob@one.example")
        assert message.endswith(b"\r\n" + octets)
        top = message[: -len(octets)]
        header = header_of(top + b"\r\n")
        assert header.startswith("Return-Path: <a@good.example>\r\nAuthentication-Results: ")
        assert "spf=pass" in header and "smtp.mailfrom=a@good.example" in header
        assert "Received: from client.example (mx.good.example [192.0.2.1])" in header
        assert f"by mx.one.example with ESMTP id {id} for <bob@one.example>;" in header
        (row,) = made.rows("bob@one.example")
        assert row.size == len(message)
        assert made.traced(MailAccepted)[0].message == id
        assert made.traced(SessionStarted)[0].peer == "192.0.2.1"
        assert made.traced(SessionEnded)[0].accepted == 1
        history = [record for _, record in made.site.queue.history(id)]
        assert any(b'"event":"MailAccepted"' in record for record in history)
        assert any(b'"event":"Judged"' in record for record in history)

    play(tmp_path, scene)


def test_several_recipients_aliases_and_forwards(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        to = ("ann@one.example", "bob@one.example", "both@one.example", "away@one.example")
        reply = await client.send(plain("x2"), to=to)
        await client.quit()
        assert len(made.mail("ann@one.example")) == len(made.mail("bob@one.example")) == 1
        assert b" for <" not in made.mail("ann@one.example")[0].partition(b"\r\n\r\n")[0]
        (queued,) = made.site.queue.messages()
        assert queued.message == reply.rpartition(" ")[2]
        assert queued.reverse_path == "a@good.example"
        assert [item.path for item in queued.recipients] == ["far@away.example"]
        assert queued.recipients[0].orcpt == "rfc822;away@one.example"
        assert not queued.head.startswith(b"Return-Path")
        assert queued.size == len(queued.head) + len(plain("x2"))

    aliases = {
        "both@one.example": ("ann@one.example", "bob@one.example"),
        "away@one.example": ("far@away.example",),
    }
    play(tmp_path, scene, aliases=aliases)


def test_a_large_message_goes_by_threads_and_stays_whole(tmp_path: Path) -> None:
    octets = plain("large", size=600_000)

    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        assert (await client.send(octets)).startswith("250 ")
        await client.quit()
        assert made.mail("bob@one.example")[0].endswith(octets)

    play(tmp_path, scene)


def test_the_null_reverse_path_and_postmaster_are_taken(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        assert (await client.send(plain("x"), sender="", to=("postmaster",))).startswith("250 ")
        await client.quit()
        mails = made.mail("ann@one.example") + made.mail("bob@one.example")
        assert len(mails) == 1 and mails[0].startswith(b"Return-Path: <>\r\n")
        assert "smtp.helo=client.example" in header_of(mails[0])

    play(tmp_path, scene)


# -- refusals --------------------------------------------------------------------------------


def test_what_grows_past_its_size_is_read_over_and_refused(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        assert (await client.send(plain("x", size=15_000))).startswith("552 5.3.4 ")
        assert (await client.send(plain("x", size=5_000))).startswith("250 ")
        await client.quit()
        assert len(made.mail("bob@one.example")) == 1
        (refused,) = made.traced(MessageRefused)
        assert refused.size > 10_000 and refused.reply.startswith("552 ")

    play(tmp_path, scene, message_octets_max=10_000)


def test_a_flood_past_the_limit_is_cut_off(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        for line in (b"MAIL FROM:<a@b.example>", b"RCPT TO:<bob@one.example>", b"DATA"):
            await client.say(line + b"\r\n")
        with pytest.raises(Exception, match="gone"):
            while True:
                await client.stream.write((b"x" * 70 + b"\r\n") * 900)
        assert (await client.hear()).startswith("421 ")
        await client.task
        assert made.traced(SessionEnded)[0].reason == "flooded"

    play(tmp_path, scene, message_octets_max=10_000)


def test_loops_are_seen(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        hop = b"Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0000\r\n"
        assert (await client.send(hop * 101 + plain("x"))).startswith("554 5.4.6 ")
        assert (await client.send(hop * 100 + plain("x"))).startswith("250 ")
        await client.quit()

    play(tmp_path, scene)


def test_a_full_mailbox_defers_its_own_mail_alone(tmp_path: Path) -> None:
    """452 at RCPT, and never later: who was let in there gets the message, full or not."""

    async def scene(made: TestSite, service: SMTPService) -> None:
        database = made.site.database
        ann, bob = made.accounts["ann@one.example"], made.accounts["bob@one.example"]
        await database.submit(AddAlias(address="all@one.example", targets=_BOTH))
        await database.submit(SetQuota(account=ann, messages_max=0))
        client = Client(service)
        await client.begin()
        await client.say(b"MAIL FROM:<a@good.example>\r\n")
        assert (await client.say(b"RCPT TO:<ann@one.example>\r\n")).startswith("452 4.2.2 ")
        assert (await client.say(b"RCPT TO:<all@one.example>\r\n")).startswith("250 ")
        assert (await client.say(b"RCPT TO:<bob@one.example>\r\n")).startswith("250 ")
        await database.submit(SetQuota(account=bob, octets_max=0))
        assert (await client.say(b"DATA\r\n")).startswith("354 ")
        assert (await client.say(plain("x") + b".\r\n")).startswith("250 ")
        await client.say(b"MAIL FROM:<a@good.example>\r\n")
        assert (await client.say(b"RCPT TO:<all@one.example>\r\n")).startswith("452 4.2.2 ")
        await client.quit()
        assert len(made.mail("ann@one.example")) == len(made.mail("bob@one.example")) == 1

    play(tmp_path, scene)


def test_recipients_past_the_maximum_wait(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        await client.say(b"MAIL FROM:<a@good.example>\r\n")
        assert (await client.say(b"RCPT TO:<ann@one.example>\r\n")).startswith("250 ")
        assert (await client.say(b"RCPT TO:<bob@one.example>\r\n")).startswith("452 4.5.3 ")
        assert (await client.say(b"DATA\r\n")).startswith("354 ")
        assert (await client.say(plain("x") + b".\r\n")).startswith("250 ")
        await client.quit()
        assert made.mail("bob@one.example") == []
        assert len(made.mail("ann@one.example")) == 1

    play(tmp_path, scene, recipients_max=1)


@pytest.mark.parametrize("line", [b"RCPT TO:<no%d@one.example>", b"RCPT TO:<a%d@far.example>"])
def test_whoever_guesses_addresses_is_sent_away(tmp_path: Path, line: bytes) -> None:
    """A hundred thousand guesses in one session were answered, and logged, one by one."""

    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        await client.say(b"MAIL FROM:<a@good.example>\r\n")
        most = limits.SMTP_REFUSED_PATHS_MAX
        for number in range(most):
            assert (await client.say(line % number + b"\r\n")).startswith("550 ")
        assert (await client.say(line % most + b"\r\n")).startswith("421 4.7.0 ")
        await client.task
        assert len(made.traced(RecipientRefused)) == most + 1

    play(tmp_path, scene)


def test_whoever_does_not_listen_to_452_is_sent_away(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        await client.say(b"MAIL FROM:<a@good.example>\r\n")
        said = [(await client.say(b"RCPT TO:<bob@one.example>\r\n"))[:3] for _ in range(7)]
        assert said == ["250"] * 2 + ["452"] * 4 + ["421"]
        await client.task

    play(tmp_path, scene, recipients_max=2)


def test_refused_recipients_are_traced(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        assert (await client.send(b"", to=("no@one.example",))).startswith("550 5.1.1 ")
        await client.say(b"RSET\r\n")
        assert (await client.send(b"", to=("x@far.example",))).startswith("550 5.7.1 ")
        await client.quit()
        assert [event.forward_path for event in made.traced(RecipientRefused)] == [
            "no@one.example",
            "x@far.example",
        ]

    play(tmp_path, scene)


# -- judgement -------------------------------------------------------------------------------


def letter(author: str, extra: str = "") -> bytes:
    return f"{extra}From: <{author}>\r\nSubject: x\r\n\r\nhello\r\n".encode()


def test_dmarc_refuses_files_as_junk_or_lets_through(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        refused = await client.send(letter("director@strict.example"), sender="x@strict.example")
        assert refused.startswith("550 5.7.1 ") and "strict.example" in refused
        for author in ("a@wary.example", "a@good.example", "a@broken.example", "a@none.example"):
            assert (await client.send(letter(author), sender=author)).startswith("250 "), author
        await client.quit()
        assert len(made.mail("bob@one.example", "Junk")) == 1
        inbox = [header_of(message) for message in made.mail("bob@one.example")]
        assert len(inbox) == 3
        assert "dmarc=pass" in inbox[0]
        assert "spf=temperror" in inbox[1] and "dmarc=temperror" in inbox[1]
        assert "dmarc=none" in inbox[2]
        actions = [event.action.value for event in made.traced(Judged)]
        assert actions == ["refuse", "junk", "accept", "accept", "accept"]

    play(tmp_path, scene)


def test_spf_fail_alone_refuses_nothing(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        reply = await client.send(letter("a@none.example"), sender="a@strict.example")
        assert reply.startswith("250 ")
        await client.quit()
        assert "spf=fail" in header_of(made.mail("bob@one.example")[0])

    play(tmp_path, scene)


def test_forged_results_of_ours_are_removed_and_others_kept(tmp_path: Path) -> None:
    ours = "Authentication-Results: mx.ONE.example;\r\n\tspf=pass\r\n"
    theirs = "Authentication-Results: mx.other.example; spf=pass\r\n"

    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        sent = letter("a@none.example", "X-First: 1\r\n" + ours + theirs + ours)
        assert (await client.send(sent)).startswith("250 ")
        await client.quit()
        (message,) = made.mail("bob@one.example")
        kept = letter("a@none.example", "X-First: 1\r\n" + theirs)
        assert message.endswith(b"\r\n" + kept)
        assert message.count(b"mx.one.example;") == 1
        (row,) = made.rows("bob@one.example")
        assert row.size == len(message)

    play(tmp_path, scene)


# -- failures of ours ------------------------------------------------------------------------


class FailingDatabase:
    """The real one, but `submit` raises."""

    def __init__(self, database: Any, error: Exception) -> None:
        self._database = database
        self.error: Exception | None = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def submit(self, *operations: Operation[Any]) -> list[Any]:
        if self.error is not None:
            raise self.error
        found: list[Any] = await self._database.submit(*operations)
        return found


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (Unavailable("disk"), "451 4.3.0"),
        (StateError(Fault.OVERQUOTA, "full"), "452 4.2.2"),
        (StateError(Fault.NONEXISTENT, "gone"), "451 4.2.1"),
        (RuntimeError("a bug"), "451 4.3.0"),
    ],
)
def test_what_cannot_be_stored_is_deferred_and_the_session_goes_on(
    tmp_path: Path, error: Exception, reply: str
) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        failing = FailingDatabase(made.site.database, error)
        made.site.database = failing
        client = Client(service)
        await client.begin()
        assert (await client.send(plain("x"))).startswith(reply)
        assert made.traced(SessionFailed)
        assert not made.traced(MailAccepted)
        assert made.mail("bob@one.example") == []
        failing.error = None
        assert (await client.send(plain("x"))).startswith("250 ")
        await client.quit()
        assert len(made.mail("bob@one.example")) == 1

    play(tmp_path, scene)


def test_bugs_without_end_end_the_session(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        made.site.database = FailingDatabase(made.site.database, RuntimeError("a bug"))
        client = Client(service)
        await client.begin()
        codes = [(await client.send(plain("x")))[:3] for _ in range(smtp_session.BUGS_MAX + 1)]
        assert codes == ["451"] * smtp_session.BUGS_MAX + ["421"]
        await client.task
        assert "a bug" in made.traced(SessionFailed)[0].error

    play(tmp_path, scene)


@pytest.mark.parametrize("error", [Unavailable("disk"), RuntimeError("a bug")])
def test_a_directory_that_fails_defers_the_recipient(tmp_path: Path, error: Exception) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        real = made.site.directory

        class Failing:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def resolve(self, address: Any) -> Any:
                raise error

        client = Client(service)
        await client.begin()
        await client.say(b"MAIL FROM:<a@good.example>\r\n")
        made.site.directory = Failing()
        assert (await client.say(b"RCPT TO:<bob@one.example>\r\n")).startswith("451 4.3.0 ")
        assert (await client.say(b"DATA\r\n")).startswith("554 ")
        made.site.directory = real
        assert (await client.say(b"RCPT TO:<bob@one.example>\r\n")).startswith("250 ")
        await client.quit()
        assert made.traced(SessionFailed)[0].doing == "Rcpt"

    play(tmp_path, scene)


class FullBlobs:
    """A disk that takes `octets` more."""

    def __init__(self, blobs: Any, octets: int) -> None:
        self._blobs = blobs
        self.left = octets
        self.discarded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)

    def draft(self) -> Any:
        if self.left < 0:
            raise Unavailable("disk full")
        draft = self._blobs.draft()
        blobs = self

        class Draft:
            def __getattr__(self, name: str) -> Any:
                return getattr(draft, name)

            def write(self, octets: bytes) -> None:
                if len(octets) > blobs.left:
                    raise Unavailable("disk full")
                draft.write(octets)

            def discard(self) -> None:
                blobs.discarded += 1
                draft.discard()

        return Draft()


def test_a_full_disk_defers(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        blobs = FullBlobs(made.site.store.blobs, 100)
        made.site.store.blobs = blobs
        client = Client(service)
        await client.begin()
        assert (await client.send(plain("x", size=2000))).startswith("452 4.3.1 ")
        assert blobs.discarded
        blobs.left = -1
        assert (await client.send(plain("x"))).startswith("452 4.3.1 ")
        await client.say(b"RSET\r\n")
        blobs.left = 1 << 20
        assert (await client.send(plain("x"))).startswith("250 ")
        await client.quit()

    play(tmp_path, scene)


def test_drafts_are_discarded_on_every_path(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        blobs = FullBlobs(made.site.store.blobs, 1 << 20)
        made.site.store.blobs = blobs
        client = Client(service)
        await client.begin()
        for line in (b"MAIL FROM:<a@b.example>", b"RCPT TO:<bob@one.example>", b"DATA"):
            await client.say(line + b"\r\n")
        await client.stream.write(b"half a mess")
        client.stream.abort()
        await client.task
        assert blobs.discarded == 1
        assert made.mail("bob@one.example") == []

    play(tmp_path, scene)


# -- waiting ---------------------------------------------------------------------------------


def test_a_silent_peer_is_told_and_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroad.mail.limits.SMTP_IDLE_TIMEOUT_S", 0.05)

    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        assert (await client.hear()).startswith("421 4.4.2 ")
        await client.task
        assert made.traced(SessionEnded)[0].reason == "timed out"

    play(tmp_path, scene)


def test_a_dripping_peer_does_not_hold_a_session(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        for octet in b"NO":
            await client.stream.write(bytes([octet]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            made.clock.advance(200)
        await client.stream.write(b"O")
        assert (await client.hear()).startswith("421 4.4.2 ")
        await client.task

    play(tmp_path, scene)


def test_a_slow_peer_that_speaks_in_time_is_served_for_hours(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        for _ in range(40):
            made.clock.advance(200)
            assert (await client.say(b"NOOP\r\n")).startswith("250 ")
        for line in (b"MAIL FROM:<a@b.example>", b"RCPT TO:<bob@one.example>", b"DATA"):
            made.clock.advance(200)
            await client.say(line + b"\r\n")
        for _ in range(10):
            made.clock.advance(200)
            await client.stream.write(b"X: y\r\n")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert (await client.say(b"\r\n.\r\n")).startswith("250 ")
        await client.quit()

    play(tmp_path, scene)


def test_draining_ends_idle_sessions_now_and_busy_ones_after_their_message(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        idle, busy = Client(service), Client(service)
        await idle.begin()
        await busy.begin()
        for line in (b"MAIL FROM:<a@good.example>", b"RCPT TO:<bob@one.example>", b"DATA"):
            await busy.say(line + b"\r\n")
        service.drain()
        assert (await idle.hear()).startswith("421 4.3.2 ")
        await idle.task
        assert (await busy.say(plain("x") + b".\r\n")).startswith("250 ")
        assert (await busy.hear()).startswith("421 4.3.2 ")
        await busy.task
        assert len(made.mail("bob@one.example")) == 1
        late = Client(service)
        assert (await late.hear()).startswith("220 ")
        assert (await late.hear()).startswith("421 4.3.2 ")
        await late.task

    play(tmp_path, scene)


# -- TLS -------------------------------------------------------------------------------------


def test_tls_forgets_the_session_and_is_named_in_received(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        assert (await client.say(b"STARTTLS\r\n")).startswith("220 ")
        await client.stream.start_tls_client(made.site.tls.server, None)
        assert (await client.say(b"MAIL FROM:<a@b.example>\r\n")).startswith("503 ")
        await client.stream.write(HELLO)
        (reply,) = await client.replies(1)
        assert reply == "250 HELP"
        assert (await client.say(b"STARTTLS\r\n")).startswith("503 ")
        assert (await client.send(plain("x"))).startswith("250 ")
        await client.quit()
        header = header_of(made.mail("bob@one.example")[0])
        assert "with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384) id" in header

    play(tmp_path, scene)


def test_octets_that_arrive_between_the_answer_and_the_handshake_spoil_it(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        await client.stream.write(b"STARTTLS\r\n")
        await client.hear()
        await client.stream.write(b"MAIL FROM:<evil@elsewhere.example>\r\n")
        await client.task
        assert made.traced(SessionEnded)[0].reason.startswith("tls: ")

    play(tmp_path, scene)


def test_without_a_certificate_starttls_is_not_offered(tmp_path: Path) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        made.site.tls.server = None
        client = Client(service)
        await client.begin()
        assert (await client.say(b"STARTTLS\r\n")).startswith("454 4.7.0 ")
        await client.quit()

    play(tmp_path, scene)


# -- packet borders --------------------------------------------------------------------------

WHOLE = (
    HELLO + b"MAIL FROM:<a@good.example>\r\nRCPT TO:<bob@one.example>\r\nRCPT TO:<x@y.example>\r\n"
    b"DATA\r\nSubject: x\r\n\r\n..a\r\n.\r\nNOOP\r\nMAIL FROM:<a@good.example>\r\n"
    b"RCPT TO:<bob@one.example>\r\nDATA\r\nbad\n.\nMAIL\r\n.\r\nbogus\r\nQUIT\r\n"
)


async def converse(made: TestSite, chunks: list[bytes]) -> list[str]:
    """All that a service says, ids left out."""
    client = Client(SMTPService(made.site))
    for chunk in chunks:
        await client.stream.write(chunk)
        for _ in range(3):
            await asyncio.sleep(0)
    await client.task
    said = b""
    while octets := await client.stream.read(5.0):
        said += octets
    return [line.partition(" as ")[0] for line in said.decode().splitlines()]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(places=st.lists(st.integers(0, len(WHOLE)), max_size=12).map(sorted))
def test_packet_borders_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, places: list[int]
) -> None:
    edges = [0, *places, len(WHOLE)]
    chunks = [WHOLE[a:b] for a, b in itertools.pairwise(edges) if b > a]

    async def scene(made: TestSite, service: SMTPService) -> None:
        assert await converse(made, chunks) == await converse(made, [WHOLE])
        one, two = made.mail("bob@one.example")
        assert one.endswith(b"Subject: x\r\n\r\n.a\r\n") and two.endswith(b"\r\n.a\r\n")

    play(tmp_path_factory.mktemp("borders"), scene)


# -- headers that grow -----------------------------------------------------------------------


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    endless = b"X-Field: and so on, and so on\r\n" * 40_000

    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        assert (await client.send(endless)).startswith("552 5.3.4 The header ")
        assert (await client.send(endless[:300_000] + b"\r\nbody\r\n")).startswith("250 ")
        await client.quit()

    play(tmp_path, scene)


def test_nothing_hides_behind_the_last_field_that_is_read(tmp_path: Path) -> None:
    """Forged results behind ten thousand fields were carried into the mailbox unseen."""
    forged = b"Authentication-Results: mx.one.example; dkim=pass\r\n"

    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        many = b"X: y\r\n" * limits.HEADER_FIELDS_MAX
        reply = await client.send(many + forged + b"\r\nbody\r\n")
        assert reply.startswith("550 5.6.0 ") and "10000 fields" in reply
        assert (await client.send(many[6:] + forged + b"\r\nbody\r\n")).startswith("250 ")
        await client.quit()
        (message,) = made.mail("bob@one.example")
        assert forged not in message

    play(tmp_path, scene)


@pytest.mark.parametrize("first", [b" ", b"\t", b" \r\n"])
def test_a_first_line_cannot_become_part_of_our_trace_field(tmp_path: Path, first: bytes) -> None:
    """It would be a fold of the Received field above it."""

    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        reply = await client.send(first + b"by mx.trusted.example; x\r\n\r\nbody\r\n")
        assert reply.startswith("550 5.6.0 ") and "white space" in reply
        await client.quit()

    play(tmp_path, scene)


# -- success reports -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "told"), [("a@good.example", True), ("a@strict.example", False), ("", False)]
)
def test_success_is_reported_to_a_sender_whose_word_can_be_believed(
    tmp_path: Path, sender: str, told: bool
) -> None:
    async def scene(made: TestSite, service: SMTPService) -> None:
        client = Client(service)
        await client.begin()
        await client.say(f"MAIL FROM:<{sender}> ENVID=q7 RET=FULL\r\n".encode())
        await client.say(b"RCPT TO:<bob@one.example> NOTIFY=SUCCESS ORCPT=rfc822;b@x.example\r\n")
        await client.say(b"RCPT TO:<both@one.example> NOTIFY=SUCCESS,FAILURE\r\n")
        await client.say(b"RCPT TO:<ann@one.example>\r\n")
        await client.say(b"DATA\r\n")
        message = plain("token-of-the-body")
        assert (await client.say(message + b".\r\n")).startswith("250 ")
        await client.quit()
        queued = list(made.site.queue.messages())
        assert len(queued) == told
        if not told:
            return
        assert (queued[0].reverse_path, queued[0].recipients[0].path) == ("", "a@good.example")
        assert queued[0].recipients[0].notify == ("NEVER",)
        report = made.site.store.blobs.read(queued[0].blob)
        assert b"Original-Envelope-Id: q7" in report
        assert report.count(b"Action: delivered") == 1
        assert report.count(b"Action: expanded") == 1
        assert b"Original-Recipient: rfc822; b@x.example" in report
        assert b"ann@one.example" not in report.partition(b"message/delivery-status")[2][:600]
        assert b"\r\ntoken token-of-the-body" not in report
        assert made.traced(SuccessReported)[0].report == queued[0].message

    aliases = {"both@one.example": ("ann@one.example", "bob@one.example")}
    play(tmp_path, scene, aliases=aliases)
