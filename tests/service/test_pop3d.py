"""The POP3 service on a real store: dialogs, the lock, STLS, deletions, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from postroad.directory.operations import RemoveAccount
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.mail.secret import Secret
from postroad.net.contract import Stream
from postroad.net.memory import MemoryStream, pipe
from postroad.protocol.sasl import PlainClient, ScramClient, decode_response, encode_challenge
from postroad.service.maildrop_lock import InUse, maildrop_lock
from postroad.service.pop3d import POP3Service, POP3SessionEnded
from postroad.store.operations import Append, Expunge
from support.dialog import assert_wrong_server_fails, run_dialog_async
from support.sites import PASSWORD, TestSite, make_site

DIALOGS = sorted((Path(__file__).parent / "dialogs" / "pop3").glob("rfc*.dialog"))
FIRST = b"Subject: first\r\n\r\none\r\n.two\r\nthree\r\n"
SECOND = b"Subject: second\r\n\r\n.a\r\nfinal\r\n"
LOGIN = f"C: USER ann@one.example\nS: +OK *\nC: PASS {PASSWORD}\nS: +OK *\n"


async def add(made: TestSite, octets: bytes, address: str = "ann@one.example") -> None:
    from postroad.message.summary import summarize
    from postroad.store.values import content_of

    draft = made.site.store.blobs.draft()
    draft.write(octets)
    content = content_of(summarize(octets), draft.commit(), b"")
    await made.site.database.submit(
        Append(
            account=made.accounts[address], mailbox=0, content=content, internal_date=1_800_000_000
        )
    )


@contextlib.asynccontextmanager
async def pop3(
    directory: Path, *messages: bytes, **settings: Any
) -> AsyncIterator[tuple[TestSite, POP3Service]]:
    settings.setdefault("plaintext_on_loopback", True)
    async with make_site(directory, run_dir=directory / "run", **settings) as made:
        for octets in messages or (FIRST, SECOND):
            await add(made, octets)
        yield made, POP3Service(made.site)


def local_pair(octets_max: int = 65536) -> tuple[MemoryStream, MemoryStream]:
    return pipe(client=("127.0.0.1", 40000), server=("127.0.0.1", 110), octets_max=octets_max)


async def talk(service: POP3Service, dialog: str) -> None:
    await run_dialog_async(dialog, service.handle, local_pair())


def test_there_are_dialogs() -> None:
    assert len(DIALOGS) >= 6


@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda path: path.stem)
def test_dialog(dialog: Path, tmp_path: Path) -> None:
    async def run() -> None:
        async with pop3(tmp_path) as (_, service):
            await run_dialog_async(dialog, service.handle, local_pair())

    asyncio.run(run())


@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda path: path.stem)
def test_a_wrong_server_fails(dialog: Path) -> None:
    assert_wrong_server_fails(dialog)


def test_a_session_ends_with_its_account(tmp_path: Path) -> None:
    async def run() -> None:
        async with pop3(tmp_path) as (made, service):
            client, server = local_pair()
            serving = asyncio.create_task(service.handle(server))

            async def say(line: str) -> bytes:
                await client.write([line.encode() + b"\r\n"], 10)
                return await client.read(10)

            await client.read(10)
            await say("USER ann@one.example")
            assert (await say(f"PASS {PASSWORD}")).startswith(b"+OK 2 messages")
            assert (await say("STAT")).startswith(b"+OK 2 ")
            await made.site.database.submit(RemoveAccount(account=made.accounts["ann@one.example"]))
            assert await say("STAT") == b"-ERR [SYS/PERM] the account is gone\r\n"
            assert await client.read(10) == b""
            await serving
            assert made.traced(POP3SessionEnded)[-1].how == "account removed"

    asyncio.run(run())


def test_deletions_happen_at_quit_and_only_then(tmp_path: Path) -> None:
    """RFC 1939 §6."""

    async def run() -> None:
        async with pop3(tmp_path) as (made, service):
            await talk(service, "S: +OK *\n" + LOGIN + "C: DELE 1\nS: +OK *\nC-end:\nS-end:\n")
            assert made.mail("ann@one.example") == [FIRST, SECOND]
            assert made.traced(POP3SessionEnded)[-1].how == "closed"
            await talk(
                service,
                "S: +OK *\n" + LOGIN + "C: DELE 1\nS: +OK *\nC: QUIT\nS: +OK goodbye\nS-end:\n",
            )
            assert made.mail("ann@one.example") == [SECOND]
            ended = made.traced(POP3SessionEnded)[-1]
            assert (ended.how, ended.deleted, ended.login) == ("quit", 1, "ann@one.example")

    asyncio.run(run())


@pytest.mark.parametrize(
    "error", [Unavailable("disk"), StateError(Fault.NONEXISTENT, "the account is gone")]
)
def test_a_failed_update_is_answered_err(tmp_path: Path, error: Exception) -> None:
    async def run() -> None:
        async with pop3(tmp_path) as (made, service):
            made.site.database = Refusing(made.site.database, error)  # type: ignore[assignment]
            await talk(
                service,
                "S: +OK *\n"
                + LOGIN
                + "C: DELE 1\nS: +OK *\nC: QUIT\nS: -ERR [SYS/TEMP] *not removed\nS-end:\n",
            )
            assert len(made.mail("ann@one.example")) == 2

    asyncio.run(run())


class Refusing:
    """A database whose every unit fails."""

    def __init__(self, database: object, error: Exception) -> None:
        self._database, self._error = database, error

    async def submit(self, *operations: object) -> list[object]:
        raise self._error

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)


def test_retr_changes_no_flag_and_gives_the_octets(tmp_path: Path) -> None:
    big = b"Subject: big\r\n\r\n" + b".dots\r\n..\r\nplain line\r\n" * 40_000

    async def run() -> None:
        async with pop3(tmp_path, FIRST, big) as (made, service):
            client, server = local_pair(octets_max=10_000)
            task = asyncio.create_task(service.handle(server))
            reader = Reader(client)
            await reader.line()
            await reader.ask(b"USER ann@one.example")
            await reader.ask(PASSWORD.encode(), verb=b"PASS ")
            assert await reader.ask(b"RETR 2") == b"+OK %d octets\r\n" % len(big)
            lines = []
            while (line := await reader.line()) != b".\r\n":
                lines.append(line[1:] if line.startswith(b".") else line)
            assert b"".join(lines) == big
            await reader.ask(b"QUIT")
            await task
            assert [row.flags for row in made.rows("ann@one.example")] == [0, 0]

    asyncio.run(run())


class Reader:
    """Lines of a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.octets = b""

    async def line(self) -> bytes:
        while b"\n" not in self.octets:
            octets = await self.stream.read(5)
            assert octets, "the server ended"
            self.octets += octets
        line, end, self.octets = self.octets.partition(b"\n")
        return line + end

    async def ask(self, octets: bytes, verb: bytes = b"") -> bytes:
        await self.stream.write(verb + octets + b"\r\n")
        return await self.line()


def test_one_session_has_the_maildrop(tmp_path: Path) -> None:
    """RFC 1939 §4; the loser may try again on the same connection once the other has left."""

    async def run() -> None:
        async with pop3(tmp_path) as (made, service):
            other = POP3Service(made.site, implicit_tls=True)  # another listener's
            client, server = local_pair()
            task = asyncio.create_task(service.handle(server))
            first = Reader(client)
            await first.line()
            await first.ask(b"USER ann@one.example")
            assert (await first.ask(b"PASS correct horse")).startswith(b"+OK")

            client, server = local_pair()
            asyncio.get_running_loop()
            second_task = asyncio.create_task(POP3Service(made.site).handle(server))
            second = Reader(client)
            await second.line()
            await second.ask(b"USER ann@one.example")
            assert (await second.ask(b"PASS correct horse")).startswith(b"-ERR [IN-USE]")
            await first.stream.close()
            await task
            await second.ask(b"USER ann@one.example")
            assert (await second.ask(b"PASS correct horse")).startswith(b"+OK 2 messages")
            await second.ask(b"QUIT")
            await second_task
            assert other is not None

    asyncio.run(run())


HOLD = """
import sys, time
from pathlib import Path
from postroad.service.maildrop_lock import maildrop_lock
with maildrop_lock(Path(sys.argv[1]), None, 42):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_holds_between_processes_and_vanishes_with_a_kill(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ}
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InUse), maildrop_lock(tmp_path, None, 42):
            pass
        with maildrop_lock(tmp_path, None, 43):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        with maildrop_lock(tmp_path, None, 42):
            pass
    finally:
        holder.kill()
        holder.wait(10)
        holder.stdout.close()


def test_the_lock_without_a_run_directory() -> None:
    owner = object()
    with maildrop_lock(None, owner, 1):
        with pytest.raises(InUse), maildrop_lock(None, owner, 1):
            pass
        with maildrop_lock(None, object(), 1), maildrop_lock(None, owner, 2):
            pass
    with maildrop_lock(None, owner, 1):
        pass


def test_strangers_must_start_tls_before_they_log_in(tmp_path: Path) -> None:
    """RFC 2595 §2.1, §4: not offered, and refused."""
    dialog = """
        S: +OK *
        C: CAPA
        S: +OK *
        S: ...
        S: STLS
        S: ...
        S: .
        C: USER ann@one.example
        S: -ERR login needs TLS: STLS first
        C: PASS correct horse
        S: -ERR USER comes first
        C: AUTH PLAIN AGFubkBvbmUuZXhhbXBsZQBjb3JyZWN0IGhvcnNl
        S: -ERR login needs TLS: STLS first
        C: QUIT
        S: +OK *
        S-end:
    """

    async def run() -> None:
        async with pop3(tmp_path) as (_, service):
            await run_dialog_async(dialog, service.handle, pipe(client=("192.0.2.7", 4000)))

    asyncio.run(run())


def test_stls_forgets_the_user_and_then_lets_log_in(tmp_path: Path) -> None:
    async def run() -> None:
        async with pop3(tmp_path) as (_, service):
            client, server = local_pair()
            task = asyncio.create_task(service.handle(server))
            reader = Reader(client)
            await reader.line()
            await reader.ask(b"USER ann@one.example")
            assert (await reader.ask(b"STLS")).startswith(b"+OK")
            await client.start_tls_client(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), None)
            assert await reader.ask(b"PASS correct horse") == b"-ERR USER comes first\r\n"
            assert (await reader.ask(b"STLS")).startswith(b"-ERR")
            await reader.ask(b"USER ann@one.example")
            assert (await reader.ask(b"PASS correct horse")).startswith(b"+OK 2")
            assert await reader.ask(b"CAPA") == b"+OK capabilities follow\r\n"
            while (line := await reader.line()) != b".\r\n":
                assert line not in (b"STLS\r\n", b"USER\r\n")
            await reader.ask(b"QUIT")
            await task

    asyncio.run(run())


def test_plaintext_behind_stls_is_refused(tmp_path: Path) -> None:
    """What came in front of the handshake must never be read as if it came inside."""
    dialog = """
        S: +OK *
        C: STLS
        C: USER ann@one.example
        S: -ERR [SYS/PERM] nothing may follow STLS before the handshake
        S-end:
    """

    async def run() -> None:
        async with pop3(tmp_path) as (made, service):
            await talk(service, dialog)
            client, server = local_pair()
            task = asyncio.create_task(service.handle(server))
            reader = Reader(client)
            await reader.line()
            assert (await reader.ask(b"STLS")).startswith(b"+OK")
            await client.write(b"USER ann@one.example\r\nPASS correct horse\r\n")
            await asyncio.wait_for(task, 5)
            assert server.closed
            assert made.traced(POP3SessionEnded)[-1].login == ""

    asyncio.run(run())


@pytest.mark.parametrize("binding", [None, b"certificate hash"])
def test_scram_and_plus(tmp_path: Path, binding: bytes | None) -> None:
    """RFC 5034 §4, RFC 5802: the server's proof comes as a last challenge."""

    async def run() -> None:
        async with pop3(tmp_path, scram_plus=True) as (_, service):
            client, server = local_pair()
            server.binding = binding
            task = asyncio.create_task(service.handle(server))
            reader = Reader(client)
            await reader.line()
            await reader.ask(b"STLS")
            await client.start_tls_client(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), None)
            scram = ScramClient(
                "ann@one.example", Secret(PASSWORD), nonce=b"abc", channel_binding=binding
            )
            line = await reader.ask(
                b"AUTH %b %b" % (scram.name.encode(), encode_challenge(scram.initial()))
            )
            while line.startswith(b"+ "):
                answer = scram.respond(decode_response(line[2:].strip()))
                line = await reader.ask(encode_challenge(answer))
            assert line.startswith(b"+OK 2 messages")
            assert scram.server_proven
            await reader.ask(b"QUIT")
            await task

    asyncio.run(run())


def test_too_many_failures_end_the_session(tmp_path: Path) -> None:
    plain = encode_challenge(PlainClient("ann@one.example", Secret("wrong")).initial()).decode()

    async def run() -> None:
        async with pop3(tmp_path) as (made, service):
            await talk(
                service,
                "S: +OK *\n"
                + f"C: AUTH PLAIN {plain}\nS: -ERR [AUTH] wrong *\n" * 4
                + f"C: AUTH PLAIN {plain}\nS: -ERR [AUTH] too many failures, goodbye\nS-end:\n",
            )
            assert len(made.clock.slept) == 5

    asyncio.run(run())


def test_a_message_that_imap_expunged_is_answered(tmp_path: Path) -> None:
    async def run() -> None:
        async with pop3(tmp_path) as (made, service):
            client, server = local_pair()
            task = asyncio.create_task(service.handle(server))
            reader = Reader(client)
            await reader.line()
            await reader.ask(b"USER ann@one.example")
            await reader.ask(b"PASS correct horse")
            inbox = made.site.store.mailbox(made.accounts["ann@one.example"], "INBOX")
            assert inbox is not None
            await made.site.database.submit(
                Expunge(
                    now=1_800_000_000,
                    account=inbox.account,
                    mailbox=inbox.mailbox,
                    uids=[(1, 1)],
                    only_deleted=False,
                )
            )
            assert (await reader.ask(b"RETR 1")).startswith(b"-ERR [SYS/PERM]")
            assert await reader.ask(b"STAT") == b"+OK 2 66\r\n"  # the snapshot stays
            await reader.ask(b"DELE 1")
            assert (await reader.ask(b"QUIT")).startswith(b"+OK")
            await task

    asyncio.run(run())


@pytest.mark.parametrize("when", ["greeted", "logged in"])
def test_drain_ends_idle_sessions_and_deletes_nothing(tmp_path: Path, when: str) -> None:
    async def run() -> None:
        async with pop3(tmp_path) as (made, service):
            client, server = local_pair()
            task = asyncio.create_task(service.handle(server))
            reader = Reader(client)
            await reader.line()
            if when == "logged in":
                await reader.ask(b"USER ann@one.example")
                await reader.ask(b"PASS correct horse")
                await reader.ask(b"DELE 1")
            await asyncio.sleep(0.01)
            service.drain()
            assert (await reader.line()).startswith(b"-ERR [SYS/TEMP] the server is stopping")
            await asyncio.wait_for(task, 5)
            assert made.traced(POP3SessionEnded)[-1].how == "drained"
            assert len(made.mail("ann@one.example")) == 2

    asyncio.run(run())


def test_an_unreadable_message_is_temporary_and_costs_one_command(tmp_path: Path) -> None:
    async def run() -> None:
        async with pop3(tmp_path) as (made, service):
            made.site.store.octets_range = broken  # type: ignore[method-assign]
            await talk(
                service,
                "S: +OK *\n" + LOGIN + "C: RETR 1\nS: -ERR [SYS/TEMP] *\nC: STAT\nS: +OK 2 66\n"
                "C: QUIT\nS: +OK *\nS-end:\n",
            )

    def broken(*_: object) -> bytes:
        raise Unavailable("checksum")

    asyncio.run(run())


def test_a_message_cut_short_ends_the_connection(tmp_path: Path) -> None:
    """Never a final dot behind half a message."""
    big = b"Subject: big\r\n\r\n" + b"line\r\n" * 100_000

    async def run() -> None:
        async with pop3(tmp_path, big) as (made, service):
            good: Callable[..., bytes] = made.site.store.octets_range

            def breaks(row: Any, start: int, stop: int) -> bytes:
                if start:
                    raise Unavailable("checksum")
                return good(row, start, stop)

            made.site.store.octets_range = breaks  # type: ignore[method-assign]
            client, server = local_pair(octets_max=1 << 20)
            task = asyncio.create_task(service.handle(server))
            reader = Reader(client)
            await reader.line()
            await reader.ask(b"USER ann@one.example")
            await reader.ask(b"PASS correct horse")
            assert (await reader.ask(b"RETR 1")).startswith(b"+OK")
            await task
            rest = b""
            while octets := await client.read(5):
                rest += octets
            assert b"\r\n.\r\n" not in rest

    asyncio.run(run())
