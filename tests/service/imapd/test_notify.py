"""NOTIFY (RFC 5465): one session acts, another hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from postroad.service.imapd import IMAPService, session, watch
from support.imap import MESSAGE, Client
from support.sites import make_site

Scene = Callable[[Client, Client], Awaitable[None]]


@asynccontextmanager
async def two(
    tmp_path: Path, other: str = "ann@one.example"
) -> AsyncIterator[tuple[Client, Client]]:
    """Who hears, and who acts."""
    async with make_site(tmp_path, plaintext_on_loopback=True) as made:
        service = IMAPService(made.site, False)
        async with Client(service) as hears, Client(service) as acts:
            await hears.login()
            await acts.login(other)
            yield hears, acts
        assert [event for event in made.events if "Crashed" in type(event).__name__] == []


def play(tmp_path: Path, scene: Scene) -> None:
    async def run() -> None:
        async with two(tmp_path) as (hears, acts):
            await scene(hears, acts)

    asyncio.run(run())


async def silent(client: Client) -> None:
    """Nothing was said unasked: the answer to a command that tells no news comes first."""
    out = await client.ask(b"ID NIL")
    assert out[0].startswith(b"* ID"), out
    assert len(out) == 2, out


def test_new_messages_elsewhere(tmp_path: Path) -> None:
    """§5.2, §5.3: STATUS, between commands; §5: not of what the client did itself."""

    async def scene(hears: Client, acts: Client) -> None:
        await acts.ok(b"CREATE Lists/a")
        await acts.ok(b"CREATE b")
        await hears.ok(b"NOTIFY SET (subtree Lists (MessageNew MessageExpunge)) (mailboxes b NONE)")
        await acts.append(mailbox=b"b")
        await acts.append(mailbox=b"Lists/a")
        status = await hears.response()
        assert status.startswith(b'* STATUS "Lists/a" (UIDVALIDITY ')
        assert status.endswith(b"MESSAGES 1 UIDNEXT 2)")
        await hears.append(mailbox=b"Lists/a")
        await silent(hears)
        await acts.ok(b"SELECT Lists/a")
        await acts.ok(b"STORE 1 +FLAGS (\\Seen)")
        await silent(hears)
        await acts.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        await acts.ok(b"EXPUNGE")
        assert b"MESSAGES 1 UIDNEXT 3" in await hears.response()
        await hears.ok(b"NOTIFY NONE")
        await acts.append(mailbox=b"Lists/a")
        await silent(hears)

    play(tmp_path, scene)


def test_status_at_once_and_highestmodseq(tmp_path: Path) -> None:
    """§3.1: STATUS before OK, not of the selected mailbox; §5.1, §5.2: HIGHESTMODSEQ."""

    async def scene(hears: Client, acts: Client) -> None:
        await acts.ok(b"CREATE b")
        await hears.ok(b"SELECT INBOX")
        watched = b"mailboxes (INBOX b)"
        out = await hears.ok(b"NOTIFY SET STATUS (%b (MessageNew MessageExpunge))" % watched)
        assert len(out) == 2
        assert out[0].startswith(b'* STATUS "b" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ')
        assert b"HIGHESTMODSEQ" not in out[0]
        out = await hears.ok(
            b"NOTIFY SET STATUS (%b (MessageNew MessageExpunge FlagChange))" % watched
        )
        assert b" HIGHESTMODSEQ " in out[0]
        await acts.append(mailbox=b"b")
        told = await hears.response()
        assert told.endswith(b"MESSAGES 1 UIDNEXT 2 UNSEEN 1)")
        await hears.ok(b"ENABLE CONDSTORE")
        await acts.ok(b"SELECT b")
        await acts.ok(b"STORE 1 +FLAGS (\\Flagged)")
        told = await hears.response()
        assert told.startswith(b'* STATUS "b" (UIDVALIDITY ')
        assert b" HIGHESTMODSEQ " in told
        assert b"MESSAGES" not in told
        await acts.ok(b"STORE 1 +FLAGS (\\Seen)")
        told = await hears.response()
        assert b" UNSEEN 0 HIGHESTMODSEQ " in told

    play(tmp_path, scene)


def test_flags_elsewhere_without_condstore(tmp_path: Path) -> None:
    """§5.1: told when UNSEEN changes, else not."""

    async def scene(hears: Client, acts: Client) -> None:
        await acts.ok(b"CREATE b")
        await acts.append(mailbox=b"b")
        await hears.ok(b"NOTIFY SET (mailboxes b (MessageNew MessageExpunge FlagChange))")
        await acts.ok(b"SELECT b")
        await acts.ok(b"STORE 1 +FLAGS (\\Flagged)")
        await silent(hears)
        await acts.ok(b"STORE 1 +FLAGS (\\Seen)")
        assert b" UNSEEN 0)" in await hears.response()

    play(tmp_path, scene)


def test_the_selected_mailbox_at_once(tmp_path: Path) -> None:
    """§6.1.1, §5.1-5.3: EXISTS, FETCH of what was asked for, FLAGS, EXPUNGE; no command needed."""

    async def scene(hears: Client, acts: Client) -> None:
        await hears.ok(b"SELECT INBOX")
        await acts.ok(b"SELECT INBOX")
        await hears.ok(
            b"NOTIFY SET (selected (MessageNew (FLAGS BODY[HEADER.FIELDS (Subject)])"
            b" MessageExpunge FlagChange))"
        )
        await acts.append()
        assert await hears.response() == b"* 1 EXISTS"
        assert await hears.response() == b"* 1 RECENT"
        told = await hears.response()
        assert told.startswith(b"* 1 FETCH (UID 1 FLAGS (")
        assert told.endswith(b"BODY[HEADER.FIELDS (Subject)] {18}\r\nSubject: first\r\n\r\n)")
        await acts.ok(b"NOOP")
        await acts.ok(b"STORE 1 +FLAGS (\\Flagged)")
        told = await hears.response()
        assert told.startswith(b"* 1 FETCH (UID 1 FLAGS (\\Flagged")
        assert b"\\Seen" not in told  # fetching to tell of it has not made it so
        # what the client adds itself is not fetched for it (§5.2)
        await hears.append(MESSAGE)
        await silent(hears)
        await acts.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert b"\\Deleted" in await hears.response()
        await acts.ok(b"EXPUNGE")
        assert await hears.response() == b"* 1 EXPUNGE"

    play(tmp_path, scene)


def test_expunges_with_commands_that_use_numbers(tmp_path: Path) -> None:
    """§5.3: SELECTED tells them even with FETCH; §6.1.2: SELECTED-DELAYED only where allowed."""

    async def scene(hears: Client, acts: Client) -> None:
        for _ in range(3):
            await acts.append()
        await hears.ok(b"SELECT INBOX")
        await acts.ok(b"SELECT INBOX")
        await hears.ok(b"NOTIFY SET (selected-delayed (MessageNew MessageExpunge FlagChange))")
        await acts.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert b"\\Deleted" in await hears.response()
        await acts.ok(b"EXPUNGE")
        await acts.append()
        assert await hears.response() == b"* 4 EXISTS"
        assert (await hears.response()).endswith(b" RECENT")
        out = await hears.ok(b"FETCH 2 UID")
        assert out[0] == b"* 2 FETCH (UID 2)"
        assert b"* 1 EXPUNGE" not in out
        out = await hears.ok(b"NOOP")
        assert b"* 1 EXPUNGE" in out
        await acts.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert b"\\Deleted" in await hears.response()
        await acts.ok(b"EXPUNGE")
        await hears.send(b"i IDLE\r\n")
        assert await hears.response() == b"+ idling"
        assert await hears.response() == b"* 1 EXPUNGE"
        await hears.send(b"DONE\r\n")
        await hears.until(b"i")

    play(tmp_path, scene)


def test_a_snapshot(tmp_path: Path) -> None:
    """§3.1, §5: NONE, or no SELECTED: nothing is told of the selected mailbox, in IDLE neither."""

    async def scene(hears: Client, acts: Client) -> None:
        await acts.append()
        await hears.ok(b"SELECT INBOX")
        await hears.ok(b"NOTIFY NONE")
        await acts.append()
        assert len(await hears.ok(b"NOOP")) == 1
        await hears.send(b"i IDLE\r\n")
        assert await hears.response() == b"+ idling"
        await acts.append()
        await hears.send(b"DONE\r\n")
        assert len(await hears.until(b"i")) == 1
        out = await hears.ask(b"FETCH 2 UID")
        assert out[-1].startswith(b"BAD")
        # a successful SET implies NOOP (§3.1)
        out = await hears.ok(b"NOTIFY SET (selected (MessageNew MessageExpunge))")
        assert b"* 3 EXISTS" in out
        # without FlagChange no flags are told (§5)
        await acts.ok(b"SELECT INBOX")
        await acts.ok(b"STORE 1 +FLAGS (\\Flagged)")
        assert len(await hears.ok(b"NOOP")) == 1
        # what the client removes itself it is told
        await hears.ok(b"NOTIFY NONE")
        await hears.ok(b"STORE 1 +FLAGS (\\Deleted)")
        assert b"* 1 EXPUNGE" in await hears.ok(b"EXPUNGE")

    play(tmp_path, scene)


def test_idle_tells_what_notify_asked_for(tmp_path: Path) -> None:
    """§4."""

    async def scene(hears: Client, acts: Client) -> None:
        await acts.ok(b"CREATE b")
        await hears.ok(b"SELECT INBOX")
        await hears.ok(
            b"NOTIFY SET (selected (MessageNew MessageExpunge)) (mailboxes b (MessageNew"
            b" MessageExpunge))"
        )
        await hears.send(b"i IDLE\r\n")
        assert await hears.response() == b"+ idling"
        await acts.append(mailbox=b"b")
        assert (await hears.response()).startswith(b'* STATUS "b" ')
        await acts.append()
        assert await hears.response() == b"* 1 EXISTS"
        await hears.response()
        await hears.send(b"DONE\r\n")
        assert len(await hears.until(b"i")) == 1

    play(tmp_path, scene)


def test_names_and_subscriptions(tmp_path: Path) -> None:
    """§5.4, §5.5; the event that the client causes is not told (§5)."""

    async def scene(hears: Client, acts: Client) -> None:
        await hears.ok(b"NOTIFY SET (personal (MailboxName SubscriptionChange))")
        await acts.ok(b"CREATE a")
        assert await hears.response() == b'* LIST (\\HasNoChildren) "/" "a"'
        await acts.ok(b"CREATE a/b")
        told = {await hears.response(), await hears.response()}
        assert told == {
            b'* LIST (\\HasNoChildren) "/" "a/b"', b'* LIST (\\HasChildren) "/" "a"'
        }  # fmt: skip
        await acts.ok(b"SUBSCRIBE a/b")
        assert await hears.response() == b'* LIST (\\HasNoChildren \\Subscribed) "/" "a/b"'
        await acts.ok(b"RENAME a c")
        assert await hears.response() == b'* LIST (\\HasChildren) "/" "c" ("OLDNAME" ("a"))'
        await acts.ok(b"UNSUBSCRIBE a/b")
        line = await hears.response()
        assert line == b'* LIST (\\NonExistent \\HasNoChildren) "/" "a/b"'
        await acts.ok(b"DELETE c/b")
        told = {await hears.response(), await hears.response()}
        assert told == {
            b'* LIST (\\NonExistent \\HasNoChildren) "/" "c/b"',
            b'* LIST (\\HasNoChildren) "/" "c"',
        }
        await hears.ok(b"CREATE own/deep/er")
        await hears.ok(b"SUBSCRIBE own")
        await hears.ok(b"RENAME own owned")
        await hears.ok(b"DELETE c")
        await silent(hears)

    play(tmp_path, scene)


def test_subscribed_is_evaluated_anew(tmp_path: Path) -> None:
    """§6.4."""

    async def scene(hears: Client, acts: Client) -> None:
        await acts.ok(b"CREATE a")
        await hears.ok(b"NOTIFY SET (subscribed (MessageNew MessageExpunge))")
        await acts.append(mailbox=b"a")
        await silent(hears)
        await acts.ok(b"SUBSCRIBE a")
        await acts.append(mailbox=b"a")
        assert b'* STATUS "a" ' in await hears.response()
        await acts.ok(b"UNSUBSCRIBE a")
        await acts.append(mailbox=b"a")
        await silent(hears)

    play(tmp_path, scene)


def test_metadata(tmp_path: Path) -> None:
    """§5.6, §5.7; ENABLE METADATA is not needed."""

    async def scene(hears: Client, acts: Client) -> None:
        await hears.ok(b"NOTIFY SET (personal (MailboxMetadataChange ServerMetadataChange))")
        await acts.ok(b'SETMETADATA INBOX (/private/comment "x" /shared/comment "y")')
        told = await hears.response()
        assert told.startswith(b'* METADATA "INBOX" ')
        assert set(told.split()[3:]) == {b"/private/comment", b"/shared/comment"}
        await acts.ok(b'SETMETADATA "" (/private/comment "x")')
        assert await hears.response() == b'* METADATA "" /private/comment'
        await hears.ok(b'SETMETADATA INBOX (/private/comment "z")')
        await silent(hears)

    play(tmp_path, scene)


def test_shared_mailboxes(tmp_path: Path) -> None:
    """§5.4: `l` granted is a mailbox that came; §5.9: and one that is lost is not watched."""

    async def run() -> None:
        async with two(tmp_path, "bob@one.example") as (hears, acts):
            await acts.ok(b"CREATE club")
            name = b"Users/bob@one.example/club"
            await hears.ok(b"NOTIFY SET (subtree Users (MailboxName MessageNew MessageExpunge))")
            await acts.ok(b"SETACL club ann@one.example lr")
            told = [await hears.response()]
            assert any(name in line and b"NonExistent" not in line for line in told), told
            await acts.append(mailbox=b"club")
            told = [await hears.response()]
            while b"STATUS" not in told[-1]:
                told.append(await hears.response())
            assert told[-1].startswith(b'* STATUS "%b" ' % name)
            assert b"MESSAGES 1" in told[-1]
            await acts.ok(b"DELETEACL club ann@one.example")
            assert b"\\NonExistent" in await hears.response()
            await acts.append(mailbox=b"club")
            out = await hears.ask(b"ID NIL")
            assert not any(b"STATUS" in line for line in out), out

    asyncio.run(run())


def test_a_mailbox_that_may_not_be_read(tmp_path: Path) -> None:
    """§3.1: \\NoAccess; what does not exist, or may not be listed, is passed over."""

    async def run() -> None:
        async with two(tmp_path, "bob@one.example") as (hears, acts):
            await acts.ok(b"CREATE club")
            await acts.ok(b"SETACL club ann@one.example l")
            name = b"Users/bob@one.example/club"
            out = await hears.ok(
                b"NOTIFY SET STATUS (mailboxes (%b nowhere Users/bob@one.example/INBOX)"
                b" (MessageNew MessageExpunge))" % name
            )
            assert out[:-1] == [b'* LIST (\\NoAccess) "/" "%b"' % name]

    asyncio.run(run())


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """§3.1, §5.8."""

    async def scene(hears: Client, acts: Client) -> None:
        monkeypatch.setattr(watch, "WATCHED_MAX", 12)
        await hears.ok(b"NOTIFY SET (mailboxes INBOX (MessageNew MessageExpunge))")
        for number in range(7):
            await acts.ok(b"CREATE a/%d" % number)
        await hears.ok(b"NOTIFY SET (subtree a (MessageNew MessageExpunge))")
        for number in range(7, 16):
            await acts.ok(b"CREATE a/%d" % number)
        assert (await hears.response()).startswith(b"* OK [NOTIFICATIONOVERFLOW] ")
        await acts.append(mailbox=b"a/1")
        await silent(hears)
        out = await hears.ask(b"NOTIFY SET (subtree a (MessageNew MessageExpunge))")
        assert out[-1].startswith(b"NO [NOTIFICATIONOVERFLOW] ")

    play(tmp_path, scene)


def test_a_client_that_does_not_read_is_told_once(tmp_path: Path) -> None:
    """What happens while it does not read is told as one (§9)."""

    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with (
                Client(service, octets_max=200) as hears,
                Client(service) as acts,
            ):
                await hears.login()
                await acts.login()
                await acts.ok(b"CREATE b")
                await hears.ok(b"NOTIFY SET (mailboxes b (MessageNew MessageExpunge))")
                for _ in range(50):
                    await acts.append(mailbox=b"b")
                told = [await hears.response()]
                while b"MESSAGES 50 " not in told[-1]:
                    told.append(await hears.response())
                assert len(told) < 30
                await silent(hears)

    asyncio.run(run())


def test_unauthenticate_ends_it(tmp_path: Path) -> None:
    """RFC 8437 §4.1."""

    async def scene(hears: Client, acts: Client) -> None:
        await hears.ok(b"NOTIFY SET (personal (MessageNew MessageExpunge))")
        await hears.ok(b"UNAUTHENTICATE")
        await acts.append()
        await silent(hears)

    play(tmp_path, scene)


def test_a_server_that_stops_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with Client(service) as hears:
                await hears.login()
                await hears.ok(b"NOTIFY SET (personal (MessageNew MessageExpunge))")
                await asyncio.sleep(0)
                service.drain()
                assert (await hears.response()).startswith(b"* BYE ")

    asyncio.run(run())


def test_a_client_that_takes_nothing_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was being told breaks off: no BYE can follow it."""
    monkeypatch.setattr(session, "FAREWELL_TIMEOUT_S", 0.05)

    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            async with Client(service) as acts:
                hears = Client(service, octets_max=90)
                await hears.response()
                await hears.login()
                await hears.ok(b"SELECT INBOX")
                await hears.ok(b"NOTIFY SET (selected (MessageNew (BODY[]) MessageExpunge))")
                await acts.login()
                await acts.append(MESSAGE * 100)
                await acts.ok(b"NOOP")
                service.drain()
                done, _ = await asyncio.wait([hears.task], timeout=5)
                assert done
                hears.task.result()

    asyncio.run(run())
