"""What happens around commands: news, IDLE, time-outs, STARTTLS, draining, faults of the house."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from postroad.database.contract import Notice
from postroad.directory.operations import RemoveAccount
from postroad.mail import limits
from postroad.mail.errors import Unavailable
from postroad.mail.flags import Flag
from postroad.net.contract import Disconnected
from postroad.net.memory import HELLO
from postroad.service.imapd import IMAPService, news, rights
from postroad.service.imapd.events import (
    IMAPCommandCrashed,
    IMAPCommandDeferred,
    IMAPSessionClosed,
)
from postroad.service.imapd.session import Session
from postroad.store.operations import DeleteMailbox, StoreFlags
from postroad.store.values import FlagMode
from support.imap import MESSAGE, Client
from support.sites import NOW, TestSite, make_site

Run = Callable[[TestSite, IMAPService], Coroutine[Any, Any, None]]


def with_site(path: Path, body: Run, **settings: Any) -> None:
    async def run() -> None:
        settings.setdefault("plaintext_on_loopback", True)
        async with make_site(path, **settings) as made:
            await asyncio.wait_for(body(made, IMAPService(made.site, False)), 30)
            crashes = made.traced(IMAPCommandCrashed)
            assert not crashes, crashes[0].error

    asyncio.run(run())


@asynccontextmanager
async def selected(service: IMAPService, mailbox: bytes = b"INBOX") -> AsyncIterator[Client]:
    async with Client(service) as client:
        await client.login()
        await client.ok(b"SELECT " + mailbox)
        yield client


# -- news -------------------------------------------------------------------------------------


def test_news_waits_for_its_moment(tmp_path: Path) -> None:
    """RFC 3501 §7.4.1: no EXPUNGE while FETCH, STORE or SEARCH run; UID forms and NOOP tell."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one, selected(service) as two:
            for _ in range(3):
                await one.append()
            await two.ok(b"NOOP")
            await one.ok(b"STORE 1 FLAGS.SILENT (\\Deleted)")
            await one.ok(b"EXPUNGE")
            assert await two.ok(b"FETCH 3 UID") == [
                b"* 3 FETCH (UID 3)", b"OK Fetched",
            ]  # fmt: skip
            assert (await two.ok(b"FETCH 1 UID"))[-1].startswith(b"OK [EXPUNGEISSUED]")
            assert b"* 1 EXPUNGE" not in await two.ok(b"SEARCH ALL")
            assert b"* 1 EXPUNGE" not in await two.ok(b"STORE 2 +FLAGS.SILENT (x)")
            assert await two.ok(b"UID SEARCH ALL") == [
                b"* SEARCH 2 3", b"* 1 EXPUNGE", b"OK Searched",
            ]  # fmt: skip
            assert b"* 1 FETCH (UID 2 FLAGS (x \\Recent))" in await one.ok(b"NOOP")

    with_site(tmp_path, body)


def test_pipelined_uid_commands_do_not_shift_numbers(tmp_path: Path) -> None:
    """RFC 3501 §5.5: what follows may already use numbers."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one, selected(service) as two:
            await one.append()
            await one.append(MESSAGE.replace(b"first", b"second"))
            await two.ok(b"NOOP")
            await one.ok(b"STORE 1 FLAGS (\\Deleted)")
            await one.ok(b"EXPUNGE")
            await two.send(b"x UID FETCH 2 UID\r\ny FETCH 2 UID\r\nz NOOP\r\n")
            assert await two.until(b"x") == [b"* 2 FETCH (UID 2)", b"x OK Fetched"]
            assert await two.until(b"y") == [b"* 2 FETCH (UID 2)", b"y OK Fetched"]
            assert await two.until(b"z") == [b"* 1 EXPUNGE", b"z OK Done"]

    with_site(tmp_path, body)


def test_silence_is_broken_when_another_changed_the_flags(tmp_path: Path) -> None:
    """A client told nothing would believe flags that are not there any more."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one, selected(service) as two:
            await one.append()
            await two.ok(b"NOOP")
            assert await two.ok(b"STORE 1 +FLAGS.SILENT (\\Seen)") == [b"OK Stored"]
            # one has heard nothing of \Seen when it adds \Flagged in silence
            assert await one.ok(b"STORE 1 +FLAGS.SILENT (\\Flagged)") == [
                b"* 1 FETCH (FLAGS (\\Flagged \\Seen \\Recent))", b"OK Stored",
            ]  # fmt: skip
            assert await one.ok(b"NOOP") == [b"OK Done"]

    with_site(tmp_path, body)


def test_new_keywords_are_announced(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one:
            await one.append()
            out = await one.ok(b"STORE 1 +FLAGS ($Junk)")
            assert out[0] == b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Junk)"
            assert len(await one.ok(b"STORE 1 +FLAGS ($junk)")) == 2

    with_site(tmp_path, body)


def test_recent_is_given_to_one_session(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with Client(service) as one:
            await one.login()
            await one.append()
            assert b"* 1 RECENT" in await one.ok(b"SELECT INBOX")
            await one.append()
            await one.ok(b"UNSELECT")
            assert b"* 0 RECENT" in await one.ok(b"SELECT INBOX")

    with_site(tmp_path, body)


def test_what_arrives_is_recent_where_it_is_told_first(tmp_path: Path) -> None:
    """RFC 3501 §2.3.2; a stress tool that finds \\Recent in two sessions calls it an error."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one, selected(service) as two:
            await one.append()
            assert (await two.ok(b"NOOP"))[:2] == [b"* 1 EXISTS", b"* 0 RECENT"]
            await two.append()
            assert (await one.ok(b"NOOP"))[:2] == [b"* 2 EXISTS", b"* 1 RECENT"]
            for session, recent in ((one, [1, 0]), (two, [0, 1])):
                for items in (b"FLAGS", b"FLAGS RFC822.SIZE"):
                    told = await session.ok(b"FETCH 1:* (%b)" % items)
                    assert [line.count(b"\\Recent") for line in told[:2]] == recent
            assert b"* SEARCH 1" in await one.ok(b"SEARCH RECENT")
            assert b"* SEARCH 2" in await two.ok(b"SEARCH RECENT")
            assert b'* STATUS "INBOX" (RECENT 0)' in await one.ok(b"STATUS INBOX (RECENT)")
            await one.ok(b"STORE 2 +FLAGS.SILENT (\\Deleted)")
            assert b"* 2 EXPUNGE" in await one.ok(b"EXPUNGE")
            assert b"* 2 EXPUNGE" in await two.ok(b"NOOP")
            await one.append()
            assert (await two.ok(b"NOOP"))[:2] == [b"* 2 EXISTS", b"* 0 RECENT"]
            async with selected(service) as three:
                assert b"* 0 RECENT" in await three.ok(b"EXAMINE INBOX")

    with_site(tmp_path, body)


def test_highestmodseq_stays_below_a_removal_that_waits(tmp_path: Path) -> None:
    """RFC 7162 §3.2: a client that is cut off here must be told of it when it comes back."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one, selected(service) as two:
            for _ in range(3):
                await one.append()
            await two.ok(b"ENABLE QRESYNC")
            await two.ok(b"NOOP")
            await one.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
            await two.ok(b"NOOP")
            await one.ok(b"EXPUNGE")
            out = await two.ok(b"STORE 2 +FLAGS (x)")
            [told] = [line for line in out if b"MODSEQ (" in line]
            [held] = [line for line in out if b"[HIGHESTMODSEQ" in line]
            assert b"MODSEQ (7)" in told
            assert b"[HIGHESTMODSEQ 5]" in held
            assert await two.ok(b"NOOP") == [b"* VANISHED 1", b"OK Done"]

    with_site(tmp_path, body)


def test_a_mod_sequence_brings_what_lies_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another's changes are committed, and the hint that tells of them is not here yet."""

    deaf = False
    notice = Session.notice

    def hear(session: Session, hint: Notice) -> None:
        if not deaf:
            notice(session, hint)

    monkeypatch.setattr(Session, "notice", hear)

    async def body(made: TestSite, service: IMAPService) -> None:
        nonlocal deaf
        async with selected(service) as one, selected(service) as two:
            for _ in range(2):
                await one.append()
            await two.ok(b"ENABLE CONDSTORE")
            await two.ok(b"NOOP")
            deaf = True
            await one.ok(b"STORE 1 +FLAGS.SILENT (x)")
            await one.ok(b"STORE 2 +FLAGS.SILENT (y)")
            for command in (b"FETCH 2 (MODSEQ)", b"FETCH 2 (MODSEQ RFC822.SIZE)"):
                session = next(s for s in service._sessions if s.condstore)
                assert session.view is not None
                out = await two.ok(command)
                assert b"MODSEQ (5)" in out[0]
                told = b" ".join(out)
                assert b"* 1 FETCH (UID 1 FLAGS (x) MODSEQ (4))" in told
                session.view.modseq, session.view.flags_at = 3, (3, 0xFFFF_FFFF)

    with_site(tmp_path, body)


def test_numbers_of_a_mailbox_that_is_gone(tmp_path: Path) -> None:
    """A view reads its UIDs when they are first needed, which may be too late."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service, b"Archive") as one:
            await one.append(mailbox=b"Archive")
            await one.ok(b"SELECT Archive")
            account = made.accounts["ann@one.example"]
            await made.site.database.submit(
                DeleteMailbox(account=account, name="Archive", now=int(NOW.timestamp()))
            )
            await one.send(b"a FETCH 1 FLAGS\r\n")
            assert await one.response() == b"* BYE The selected mailbox was deleted"

    with_site(tmp_path, body)


# -- IDLE -------------------------------------------------------------------------------------


def test_idle_pushes_at_once(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one, selected(service) as two:
            await two.send(b"i IDLE\r\n")
            assert await two.response() == b"+ idling"
            await one.append()
            assert await two.response() == b"* 1 EXISTS"
            assert await two.response() == b"* 1 RECENT"
            await one.ok(b"STORE 1 +FLAGS (\\Deleted)")
            assert await two.response() == b"* 1 FETCH (UID 1 FLAGS (\\Deleted \\Recent))"
            await one.ok(b"EXPUNGE")
            assert await two.response() == b"* 1 EXPUNGE"
            await two.send(b"DONE\r\n")
            assert await two.response() == b"i OK Done"

    with_site(tmp_path, body)


def test_a_waiting_session_has_one_task(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one:
            await one.send(b"i IDLE\r\n")
            await one.response()
            before = len(asyncio.all_tasks())
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == before
            session = next(iter(service._sessions))
            assert session._pusher is None

    with_site(tmp_path, body)


# -- the mailbox or the account goes ----------------------------------------------------------


def test_a_deleted_mailbox_ends_other_sessions(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service, b"Archive") as one, selected(service, b"Archive") as two:
            await two.send(b"i IDLE\r\n")
            await two.response()
            assert await one.ok(b"DELETE Archive") == [
                b"* OK [CLOSED] The mailbox that was selected is deleted", b"OK Deleted",
            ]  # fmt: skip
            assert await two.response() == b"* BYE The selected mailbox was deleted"
            with pytest.raises(EOFError):
                await two.octets()
            assert (await one.ask(b"FETCH 1 FLAGS"))[-1].startswith(b"BAD")

    with_site(tmp_path, body)


def test_a_deleted_mailbox_ends_a_session_with_its_next_command(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service, b"Archive") as one:
            account = made.accounts["ann@one.example"]
            await made.site.database.submit(
                DeleteMailbox(account=account, name="Archive", now=int(NOW.timestamp()))
            )
            await one.send(b"a NOOP\r\n")
            assert await one.response() == b"* BYE The selected mailbox was deleted"

    with_site(tmp_path, body)


def test_a_removed_account_ends_its_sessions(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one, Client(service) as other:
            await other.login("bob@one.example")
            account = made.accounts["ann@one.example"]
            await made.site.database.submit(RemoveAccount(account=account))
            assert (await one.response()).startswith(b"* BYE ")
            await other.ok(b"NOOP")

    with_site(tmp_path, body)


# -- ends -------------------------------------------------------------------------------------


def test_draining_ends_idle_sessions_at_once(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with Client(service) as one, selected(service) as two, selected(service) as three:
            await two.send(b"i IDLE\r\n")
            await two.response()
            await asyncio.sleep(0)
            service.drain()
            for client in (one, two, three):
                assert await client.response() == b"* BYE The server is stopping"
                with pytest.raises(EOFError):
                    await client.octets()
        assert [event.reason for event in made.traced(IMAPSessionClosed)] == ["drained"] * 3

    with_site(tmp_path, body)


def test_draining_lets_a_command_finish(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one:
            await one.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
            assert (await one.response()).startswith(b"+")
            service.drain()
            await one.send(MESSAGE + b"\r\n")
            out = await one.until(b"a")
            assert out[-1].startswith(b"a OK [APPENDUID")
            assert await one.response() == b"* BYE The server is stopping"
        assert made.mail("ann@one.example") == [MESSAGE]

    with_site(tmp_path, body)


def test_dribbling_buys_no_time(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with Client(service) as one:
            for _ in range(2):
                await one.send(b"x")
                await asyncio.sleep(0)
                made.clock.advance(limits.IMAP_PREAUTH_TIMEOUT_S / 2 + 1)
            await one.send(b"x")
            assert await one.response() == b"* BYE Idle for too long"
            with pytest.raises(EOFError):
                await one.octets()

    with_site(tmp_path, body)


def test_failed_logins_are_counted(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with Client(service) as one:
            for _ in range(limits.LOGIN_FAILURES_MAX - 1):
                out = await one.ask(b"LOGIN ann@one.example wrong")
                assert out == [b"NO [AUTHENTICATIONFAILED] User name or password is wrong"]
            await one.send(b"z LOGIN \xff wrong\r\n")
            assert (await one.response()).startswith((b"* BYE", b"z BAD"))

    import postroad.service.authenticate as authenticate

    delay, authenticate.FAILURE_DELAY_S = authenticate.FAILURE_DELAY_S, 0.0
    try:
        with_site(tmp_path, body)
    finally:
        authenticate.FAILURE_DELAY_S = delay


def test_a_client_that_vanishes_leaves_nothing(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        client = Client(service)
        await client.response()
        await client.send(b"a LOGIN {3}\r\n")
        await client.response()
        client.stream.abort()
        await asyncio.wait_for(client.task, 5)
        assert not service._sessions

    with_site(tmp_path, body)


# -- TLS --------------------------------------------------------------------------------------


def test_starttls_forgets_and_offers_anew(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        context = made.site.tls.server
        assert context is not None
        async with Client(service) as one:
            assert b"LOGINDISABLED" in one.greeting
            await one.ok(b"STARTTLS")
            await one.stream.start_tls_client(context, None)
            [capability, _] = await one.ok(b"CAPABILITY")
            assert b"LOGINDISABLED" not in capability
            assert b"STARTTLS" not in capability
            assert b"AUTH=PLAIN" in capability
            assert (await one.ask(b"STARTTLS"))[-1].startswith(b"BAD")
            await one.login()
            assert (await one.ask(b"STARTTLS"))[-1].startswith(b"BAD")

    with_site(tmp_path, body, plaintext_on_loopback=False)


def test_plaintext_in_the_segment_behind_starttls_is_never_read(tmp_path: Path) -> None:
    """The octets reach the handshake, which they spoil; no command comes of them."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with Client(service) as one:
            await one.ok(b"STARTTLS")
            await one.send(b"x CREATE stolen\r\n" + HELLO)
            with pytest.raises((EOFError, Disconnected)):
                await one.octets()

    with_site(tmp_path, body, plaintext_on_loopback=False)


def test_implicit_tls_begins_at_once(tmp_path: Path) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        context = made.site.tls.server
        assert context is not None
        client = Client(IMAPService(made.site, True))
        await client.stream.start_tls_client(context, None)
        assert b"AUTH=PLAIN" in await client.response()
        await client.stream.close()
        await client.task

    with_site(tmp_path, body, plaintext_on_loopback=False)


# -- faults of the house ----------------------------------------------------------------------


def test_what_cannot_be_read_is_unavailable(tmp_path: Path, monkeypatch: Any) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one:
            await one.append()

            def broken(row: object) -> bytes:
                raise Unavailable("the disk")

            monkeypatch.setattr(made.site.store, "octets", broken)
            assert (await one.ask(b"FETCH 1 BODY.PEEK[]"))[-1].startswith(b"NO [UNAVAILABLE]")
            assert (await one.ask(b"SEARCH BODY x"))[-1].startswith(b"NO [UNAVAILABLE]")
            assert len(await one.ok(b"FETCH 1 ENVELOPE")) == 2

    with_site(tmp_path, body)


@pytest.mark.parametrize("reading", ["news", "flag_news"])
def test_news_that_cannot_be_read_waits(tmp_path: Path, monkeypatch: Any, reading: str) -> None:
    """The command is done all the same; nothing that happened is passed over."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one, selected(service) as two:
            await one.append()
            await two.ok(b"NOOP")
            with monkeypatch.context() as patch:
                patch.setattr(made.site.store, reading, unreadable)
                await one.ask(b"STORE 1 +FLAGS (\\Flagged)")
                for _ in range(2):
                    assert await two.ok(b"NOOP") == [b"OK Done"]
                assert made.traced(IMAPCommandDeferred)[-1].command == "News"
            assert await two.ok(b"NOOP") == [
                b"* 1 FETCH (UID 1 FLAGS (\\Flagged))", b"OK Done",
            ]  # fmt: skip

    with_site(tmp_path, body)


@pytest.mark.parametrize("reading", ["news", "flag_news"])
def test_idle_goes_on_when_news_cannot_be_read(
    tmp_path: Path, monkeypatch: Any, reading: str
) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        monkeypatch.setattr(news, "RETRY_S", 0.02)
        async with selected(service) as one, selected(service) as two:
            await one.append()
            await two.ok(b"NOOP")
            await two.send(b"i IDLE\r\n")
            assert await two.response() == b"+ idling"
            with monkeypatch.context() as patch:
                patch.setattr(made.site.store, reading, unreadable)
                await one.ask(b"STORE 1 +FLAGS (\\Flagged)")
                while len(made.traced(IMAPCommandDeferred)) < 4:
                    await asyncio.sleep(0.01)
            assert await two.response() == b"* 1 FETCH (UID 1 FLAGS (\\Flagged))"
            await two.send(b"DONE\r\n")
            assert await two.response() == b"i OK Done"

    with_site(tmp_path, body)


def test_a_command_that_cannot_look_at_the_rights_is_deferred(
    tmp_path: Path, monkeypatch: Any
) -> None:
    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one:
            with monkeypatch.context() as patch:
                patch.setattr(rights, "still_readable", unreadable)
                assert (await one.ask(b"FETCH 1 FLAGS"))[-1].startswith(b"NO [UNAVAILABLE]")
            await one.ok(b"NOOP")

    with_site(tmp_path, body)


def unreadable(*_: object, **__: object) -> None:
    raise Unavailable("the disk")


def test_a_bug_of_ours_costs_one_no(tmp_path: Path, monkeypatch: Any) -> None:
    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with selected(service) as one:

                def broken(*_: object) -> None:
                    raise KeyError("surprise")

                monkeypatch.setattr(made.site.store, "mailbox", broken)
                assert (await one.ask(b"STATUS x (MESSAGES)"))[-1].startswith(b"NO [SERVERBUG]")
                await one.ok(b"NOOP")
            [crash] = made.traced(IMAPCommandCrashed)
            assert "surprise" in crash.error

    asyncio.run(run())


def test_a_literal_cut_short_ends_the_connection(tmp_path: Path, monkeypatch: Any) -> None:
    """Half a literal cannot be taken back: anything said now would be read as message."""

    async def body(made: TestSite, service: IMAPService) -> None:
        big = MESSAGE + b"x" * 70 * 8192
        async with selected(service) as one:
            await one.append(big)
            whole = made.site.store.octets_range

            def broken(row: Any, start: int, stop: int) -> bytes:
                if start:
                    raise Unavailable("the disk")
                return whole(row, start, stop)

            monkeypatch.setattr(made.site.store, "octets_range", broken)
            await one.send(b"a FETCH 1 BODY.PEEK[]\r\n")
            with pytest.raises(EOFError) as end:
                await one.response()
            assert b"NO" not in end.value.args[0][-100:]

    with_site(tmp_path, body)


def test_a_change_in_the_middle_of_a_silent_store_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another session commits between what STORE read and what it writes."""

    async def body(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as one:
            await one.append()
            await one.ok(b"NOOP")
            account = made.accounts["ann@one.example"]
            mailbox = made.site.store.mailbox(account, "INBOX")
            assert mailbox is not None
            submit = made.site.database.submit

            async def interrupted(*operations: Any) -> list[Any]:
                monkeypatch.undo()
                foreign = StoreFlags(
                    account=account,
                    mailbox=mailbox.mailbox,
                    uids=[(1, 1)],
                    mode=int(FlagMode.ADD),
                    flags=int(Flag.ANSWERED),
                )
                await submit(foreign)
                return await submit(*operations)

            monkeypatch.setattr(made.site.database, "submit", interrupted)
            assert await one.ok(b"STORE 1 +FLAGS.SILENT (\\Seen)") == [
                b"* 1 FETCH (FLAGS (\\Answered \\Seen \\Recent))",
                b"OK Stored",
            ]

    with_site(tmp_path, body)
