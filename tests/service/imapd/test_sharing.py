"""Several people and one mailbox: rights, names, each one's \\Seen, news across accounts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from postroad.directory.operations import AddAccount, RemoveAccount
from postroad.service.imapd import IMAPService
from postroad.store.operations import SetQuota
from postroad.store.sharing import SetAdministrator, SetPublic
from support.imap import Client
from support.sites import NOW, TestSite, make_site, verifiers

ANN, BOB, CARL = "ann@one.example", "bob@one.example", "carl@one.example"
WORK = b"Users/ann@one.example/work"


class People:
    """made: the site. ann, bob, carl: logged in."""

    def __init__(self, made: TestSite, clients: list[Client]) -> None:
        self.made = made
        self.ann, self.bob, self.carl = clients


@contextlib.asynccontextmanager
async def people(directory: Path) -> AsyncIterator[People]:
    async with contextlib.AsyncExitStack() as stack:
        made = await stack.enter_async_context(
            make_site(directory, plaintext_on_loopback=True, accounts=(ANN, BOB, CARL))
        )
        service = IMAPService(made.site, False)
        clients = []
        for who in (ANN, BOB, CARL):
            client = await stack.enter_async_context(Client(service))
            await client.login(who)
            clients.append(client)
        yield People(made, clients)
        crashed = [event for event in made.events if "Crashed" in type(event).__name__]
        assert crashed == []


def run(directory: Path, scenario: Callable[[People], Awaitable[None]]) -> None:
    async def main() -> None:
        async with people(directory) as all_of_them:
            await scenario(all_of_them)

    asyncio.run(main())


async def share(world: People, rights: bytes, who: bytes = b"bob@one.example") -> None:
    await world.ann.ask(b"CREATE work")
    await world.ann.ok(b"SETACL work %b %b" % (who, rights or b'""'))


def flags_told(responses: list[bytes]) -> list[bytes]:
    return [line for line in responses if b" FETCH " in line]


# -- names --------------------------------------------------------------------------------------


def test_what_is_shared_is_listed_and_the_rest_is_not(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        assert await world.bob.ok(b'LIST "" Users*') == [b"OK Done"]
        await share(world, b"lr")
        await world.ann.ok(b"CREATE secret")
        assert await world.bob.ok(b'LIST "" Users*') == [
            b'* LIST (\\Noselect \\HasChildren) "/" "Users"',
            b'* LIST (\\Noselect \\HasChildren) "/" "Users/ann@one.example"',
            b'* LIST (\\HasNoChildren) "/" "Users/ann@one.example/work"',
            b"OK Done",
        ]
        assert (await world.bob.ok(b'LIST "" %'))[-2] == (
            b'* LIST (\\Noselect \\HasChildren) "/" "Users"'
        )
        assert await world.carl.ok(b'LIST "" Users*') == [b"OK Done"]
        # a mailbox below one that may not be listed: the one above is a mere level (§4, LIST)
        await world.ann.ok(b"CREATE work/deep")
        await world.ann.ok(b"SETACL work bob@one.example -l")
        assert (await world.bob.ok(b'LIST "" Users/*/work*'))[:-1] == [
            b'* LIST (\\Noselect \\HasChildren) "/" "Users/ann@one.example/work"',
            b'* LIST (\\HasNoChildren) "/" "Users/ann@one.example/work/deep"',
        ]
        out = await world.bob.ok(b'LIST "" (Users/*) RETURN (MYRIGHTS STATUS (MESSAGES))')
        assert out[:-1] == [
            b'* LIST (\\NonExistent \\HasChildren) "/" "Users/ann@one.example"',
            b'* LIST (\\NonExistent \\HasChildren) "/" "Users/ann@one.example/work"',
            b'* LIST (\\HasNoChildren) "/" "Users/ann@one.example/work/deep"',
            b'* MYRIGHTS "Users/ann@one.example/work/deep" lr',
            b'* STATUS "Users/ann@one.example/work/deep" (MESSAGES 0)',
        ]

    run(tmp_path, scenario)


def test_uses_of_others_are_not_mine(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await world.ann.ok(b"SETACL Sent bob@one.example lr")
        out = await world.bob.ok(b'LIST (SPECIAL-USE) "" *')
        assert not any(b"Users" in line for line in out)
        out = await world.bob.ok(b'LIST "" Users/*/Sent')
        assert out[0] == b'* LIST (\\HasNoChildren) "/" "Users/ann@one.example/Sent"'
        name = b"Users/ann@one.example/Sent"
        out = await world.bob.ok(b"GETMETADATA %b /private/specialuse" % name)
        assert out[0].endswith(b"(/private/specialuse NIL)")
        out = await world.bob.ask(b'SETMETADATA %b (/private/specialuse "\\\\Sent")' % name)
        assert out[-1].startswith(b"NO [USEATTR]")
        out = await world.bob.ask(b"CREATE %b/x (USE (\\Archive))" % name)
        assert out[-1].startswith(b"NO [NOPERM]")

    run(tmp_path, scenario)


def test_an_address_with_special_letters_is_one_level(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await world.made.site.database.submit(
            AddAccount(
                account=77, address="a/b%c=d@one.example", argon2=verifiers().argon2,
                scram_sha_256=verifiers().scram_sha_256, now=int(NOW.timestamp()),
            )
        )  # fmt: skip
        odd = Client(IMAPService(world.made.site, False))
        async with odd:
            await odd.ok(b'LOGIN "a/b%c=d@one.example" "correct horse"')
            await odd.ok(b"SETACL INBOX bob@one.example lr")
        [listed, _] = await world.bob.ok(b'LIST "" Users/*/INBOX')
        name = b"Users/a=2Fb=25c=3Dd@one.example/INBOX"
        assert listed.endswith(b'"%b"' % name)
        assert (await world.bob.ok(b"EXAMINE " + name))[-1].startswith(b"OK [READ-ONLY]")
        out = await world.bob.ask(b"EXAMINE Users/a=2fb=25c=3Dd@one.example/INBOX")
        assert out[-1].startswith(b"NO [NONEXISTENT]"), "a mailbox has one name"

    run(tmp_path, scenario)


def test_ones_own_mailbox_goes_before(tmp_path: Path) -> None:
    """Somebody has had folders of these names before there were namespaces."""

    async def scenario(world: People) -> None:
        from postroad.store.operations import CreateMailbox

        bob = world.made.accounts[BOB]
        for name in ("Users", "Users/ann@one.example/work"):
            await world.made.site.database.submit(CreateMailbox(account=bob, name=name, now=1))
        await share(world, b"lr")
        out = await world.bob.ok(b"MYRIGHTS " + WORK)
        assert out[0].endswith(b" lrswipkxteacd")
        out = await world.bob.ok(b'LIST "" Users/*/work')
        assert len(out) == 2
        await world.bob.ok(b"CREATE Users/more")

    run(tmp_path, scenario)


def test_subscriptions_to_shared_names_survive(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await share(world, b"lr")
        await world.bob.ok(b"SUBSCRIBE " + WORK)
        assert (await world.bob.ok(b'LSUB "" Users/*'))[0] == b'* LSUB () "/" "%b"' % WORK
        await world.ann.ok(b"DELETEACL work bob@one.example")
        assert (await world.bob.ok(b'LSUB "" Users/*'))[0] == b'* LSUB () "/" "%b"' % WORK
        out = await world.bob.ok(b'LIST (SUBSCRIBED) "" Users/*')
        assert out[0] == b'* LIST (\\NonExistent \\HasNoChildren \\Subscribed) "/" "%b"' % WORK
        await world.bob.ok(b"UNSUBSCRIBE " + WORK)
        assert await world.bob.ok(b'LSUB "" Users/*') == [b"OK Done"]

    run(tmp_path, scenario)


# -- rights -------------------------------------------------------------------------------------

COMMANDS = {
    b"r": (b"SELECT %b", b"STATUS %b (MESSAGES)"),
    b"a": (b"GETACL %b", b"SETACL %b carl@one.example lr", b"DELETEACL %b carl@one.example",
           b"LISTRIGHTS %b carl@one.example"),
    b"k": (b"CREATE %b/x", b"RENAME %b/y %b/z"),
    b"x": (b"DELETE %b", b"RENAME %b new"),
    b"i": (b"APPEND %b {5+}\r\na: b\n", b"COPY 1 %b", b"UID MOVE 1 %b"),
    b"w": (b'SETMETADATA %b (/shared/comment "x")',),
}  # fmt: skip


@pytest.mark.parametrize("right", COMMANDS)
def test_who_may_not_list_cannot_tell_a_mailbox_from_none(right: bytes, tmp_path: Path) -> None:
    """RFC 4314 §6: word for word the same answer."""

    async def scenario(world: People) -> None:
        await share(world, b"")
        for _ in range(2):
            await world.bob.append()
        if right == b"i":
            await world.bob.ok(b"SELECT INBOX")
        for given in (b'""', b"p", b"r" if right == b"i" else b"i"):
            await world.ann.ok(b"SETACL work bob@one.example %b" % given)
            for command in COMMANDS[right]:
                count = command.count(b"%b")
                there = await world.bob.ask(command % ((WORK,) * count))
                nowhere = await world.bob.ask(command % ((WORK + b"-not",) * count))
                nobody = b"Users/nobody@one.example/work"
                nobodys = await world.bob.ask(command % ((nobody,) * count))
                assert there == nowhere == nobodys, command
                assert there[-1].startswith(b"NO ["), there

    run(tmp_path, scenario)


@pytest.mark.parametrize("right", COMMANDS)
def test_each_command_takes_its_right(right: bytes, tmp_path: Path) -> None:
    """RFC 4314 §4: with all rights but one, and with that one."""

    async def scenario(world: People) -> None:
        everything = b"lrswipkxtea"
        await world.bob.append()
        for command in COMMANDS[right]:
            if right == b"i":
                await world.bob.ok(b"SELECT INBOX")
            await share(world, everything.replace(right, b""))
            await world.ann.ask(b"CREATE work/y")
            count = command.count(b"%b")
            refused = await world.bob.ask(command % ((WORK,) * count))
            assert refused[-1].startswith(b"NO [NOPERM]"), refused
            await world.ann.ok(b"SETACL work bob@one.example +" + right)
            await world.ann.ask(b"SETACL work/y bob@one.example +x")
            command = command.replace(b" new", b" %b-new" % b"Users/ann@one.example/work/y")
            allowed = await world.bob.ask(command % ((WORK,) * count))
            if b"RENAME %b " in command and b"-new" in command:
                continue  # below itself it cannot go; the rights were looked at first
            assert allowed[-1].startswith(b"OK"), allowed
            await world.bob.ask(b"UNSELECT")

    run(tmp_path, scenario)


def test_myrights_and_create_in_anothers_mailbox(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await share(world, b"lrk")
        assert (await world.bob.ok(b"MYRIGHTS " + WORK))[0] == b'* MYRIGHTS "%b" lrkc' % WORK
        assert (await world.bob.ok(b"CREATE %b/new/er" % WORK))[-1].startswith(b"OK [MAILBOXID")
        out = await world.ann.ok(b"GETACL work/new/er")
        assert out[0].endswith(b"bob@one.example lrkc")
        out = await world.bob.ask(b"RENAME INBOX %b/mine" % WORK)
        assert out[-1].startswith(b"NO [CANNOT]"), "a mailbox keeps its owner"
        out = await world.bob.ask(b"CREATE Users/ann@one.example/top")
        assert out[-1].startswith(b"NO [NOPERM]")

    run(tmp_path, scenario)


def test_negative_rights_and_anyone(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await share(world, b"lrsw", b"anyone")
        await world.ann.ok(b"SETACL work -bob@one.example w")
        assert (await world.bob.ok(b"MYRIGHTS " + WORK))[0].endswith(b" lrs")
        assert (await world.carl.ok(b"MYRIGHTS " + WORK))[0].endswith(b" lrsw")

    run(tmp_path, scenario)


def test_rights_that_are_taken_away_while_selected(tmp_path: Path) -> None:
    """RFC 4314 §5.1.1."""

    async def scenario(world: People) -> None:
        await share(world, b"lrste")
        await world.ann.append(mailbox=b"work")
        await world.bob.ok(b"SELECT " + WORK)
        await world.bob.ok(b"STORE 1 +FLAGS (\\Deleted)")
        await world.ann.ok(b"SETACL work bob@one.example -et")
        out = await world.bob.ask(b"EXPUNGE")
        assert b"* OK [PERMANENTFLAGS (\\Seen)] Flags that are kept now" in out
        assert out[-1].startswith(b"NO [NOPERM]")
        # while it idles, and without a word of its own
        await world.bob.send(b"i IDLE\r\n")
        assert await world.bob.response() == b"+ idling"
        await world.ann.ok(b"SETACL work bob@one.example +w")
        assert (await world.bob.response()).startswith(b"* FLAGS ")
        assert b"\\Answered" in await world.bob.response()
        await world.ann.ok(b"DELETEACL work bob@one.example")
        assert (await world.bob.response()).startswith(b"* BYE ")

    run(tmp_path, scenario)


def test_an_owner_who_is_removed_ends_what_was_open(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await share(world, b"lrs")
        await world.bob.ok(b"SELECT " + WORK)
        await world.bob.send(b"i IDLE\r\n")
        assert await world.bob.response() == b"+ idling"
        await world.carl.ok(b"SELECT INBOX")
        await world.made.site.database.submit(RemoveAccount(account=world.made.accounts[ANN]))
        assert (await world.bob.response()).startswith(b"* BYE ")
        assert (await world.carl.ok(b"NOOP")) == [b"OK Done"]

    run(tmp_path, scenario)


# -- each one's \Seen ----------------------------------------------------------------------------


def test_each_reader_has_his_own_seen(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await share(world, b"lrsw")
        await world.ann.ok(b"SETACL work carl@one.example lrs")
        for _ in range(3):
            await world.ann.append(mailbox=b"work")
        await world.ann.ok(b"SELECT work")
        await world.bob.ok(b"SELECT " + WORK)
        await world.carl.ok(b"SELECT " + WORK)
        await world.bob.ok(b"STORE 1:2 +FLAGS (\\Seen)")
        await world.carl.ok(b"FETCH 3 BODY[]")
        everyone = []
        for who in (world.ann, world.bob, world.carl):
            await who.ok(b"NOOP")
            out = await who.ok(b"FETCH 1:3 (FLAGS)")
            everyone.append([b"\\Seen" in line for line in flags_told(out)])
        assert everyone == [[False] * 3, [True, True, False], [False, False, True]]
        told = []
        for who, name in ((world.ann, b"work"), (world.bob, WORK), (world.carl, WORK)):
            out = await who.ok(b"STATUS %b (UNSEEN MESSAGES)" % name)
            told.append(out[0].rpartition(b"(")[2])
        assert told == [b"UNSEEN 3 MESSAGES 3)", b"UNSEEN 1 MESSAGES 3)", b"UNSEEN 2 MESSAGES 3)"]
        found = await world.bob.ok(b"SEARCH UNSEEN")
        assert found[0] == b"* SEARCH 3"
        await world.ann.ok(b"STORE 3 +FLAGS (\\Deleted)")
        await world.ann.ok(b"EXPUNGE")
        out = await world.carl.ok(b"STATUS %b (UNSEEN)" % WORK)
        assert out[0].endswith(b"(UNSEEN 2)"), "what he had seen is gone"

    run(tmp_path, scenario)


def test_idle_hears_of_anothers_mailbox(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await share(world, b"lrsw")
        await world.bob.ok(b"SELECT " + WORK)
        await world.bob.send(b"i IDLE\r\n")
        assert await world.bob.response() == b"+ idling"
        await world.ann.append(mailbox=b"work")
        assert await world.bob.response() == b"* 1 EXISTS"
        assert await world.bob.response() == b"* 1 RECENT"
        await world.ann.append(mailbox=b"INBOX")
        await world.ann.ok(b"SELECT work")
        await world.ann.ok(b"STORE 1 +FLAGS (\\Flagged)")
        assert b"\\Flagged" in await world.bob.response()
        await world.bob.send(b"DONE\r\n")
        assert (await world.bob.until(b"i"))[-1].startswith(b"i OK")

    run(tmp_path, scenario)


# -- messages into and out of another's mailbox -------------------------------------------------


def flag_words(line: bytes) -> set[bytes]:
    return set(line.partition(b"FLAGS (")[2].partition(b")")[0].split()) - {b"\\Recent"}


async def flags_in(client: Client, mailbox: bytes) -> list[set[bytes]]:
    await client.ok(b"EXAMINE " + mailbox)
    out = await client.ok(b"FETCH 1:* (FLAGS)")
    await client.ok(b"UNSELECT")
    return [flag_words(line) for line in flags_told(out)]


@pytest.mark.parametrize("verb", [b"COPY", b"MOVE"])
def test_flags_that_may_not_be_set_are_lost_on_the_way(verb: bytes, tmp_path: Path) -> None:
    """The example of RFC 4314 §4 (COPY)."""

    async def scenario(world: People) -> None:
        for rights, kept in (
            (b"lrwis", [{b"\\Draft"}, {b"\\Answered"}, {b"$Forwarded", b"\\Seen"}]),
            (b"lrsti", [{b"\\Deleted"}, set(), {b"\\Seen"}]),
        ):
            await share(world, rights)
            for flags in (b"(\\Draft \\Deleted)", b"(\\Answered)", b"($Forwarded \\Seen)"):
                await world.bob.append(flags=flags)
            await world.bob.ok(b"SELECT INBOX")
            await world.bob.ok(b"%b 1:3 %b" % (verb, WORK))
            await world.bob.ok(b"UNSELECT")
            assert await flags_in(world.bob, WORK) == kept
            owners = await flags_in(world.ann, b"work")
            assert owners == [flags - {b"\\Seen"} for flags in kept], "she has not seen them"
            await world.ann.ok(b"DELETE work")
            await world.bob.ok(b"SELECT INBOX")
            await world.bob.ok(b"STORE 1:* FLAGS (\\Deleted)") if verb == b"COPY" else None
            await world.bob.ok(b"CLOSE")

    run(tmp_path, scenario)


def test_append_takes_i_and_keeps_what_may_be_set(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await share(world, b"lri")
        await world.bob.append(mailbox=WORK, flags=b"(\\Seen \\Flagged $x)")
        await world.ann.ok(b"SETACL work bob@one.example +sw")
        await world.bob.append(mailbox=WORK, flags=b"(\\Seen \\Flagged \\Deleted $x)")
        both = [set(), {b"\\Seen", b"\\Flagged", b"$x"}]
        assert await flags_in(world.bob, WORK) == both
        assert await flags_in(world.ann, b"work") == [set(), {b"\\Flagged", b"$x"}]
        await world.ann.ok(b"SETACL work bob@one.example -i")
        out = await world.bob.ask(b"APPEND %b {5+}\r\na: b\n" % WORK)
        assert out[-1].startswith(b"NO [NOPERM]")
        out = await world.ann.ok(b"GETQUOTAROOT work")
        assert b"ann@one.example" in out[0], "mail counts where it is"

    run(tmp_path, scenario)


def test_copies_to_ones_own_have_ones_own_seen(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await share(world, b"lrs")
        for _ in range(2):
            await world.ann.append(mailbox=b"work", flags=b"(\\Seen)")
        await world.bob.ok(b"SELECT " + WORK)
        await world.bob.ok(b"STORE 2 +FLAGS (\\Seen)")
        await world.bob.ok(b"COPY 1:2 INBOX")
        out = await world.bob.ask(b"MOVE 1:2 INBOX")
        assert out[-1].startswith(b"NO [NOPERM]"), "a move takes what is there away"
        assert await flags_in(world.bob, b"INBOX") == [set(), {b"\\Seen"}]

    run(tmp_path, scenario)


def test_store_changes_what_it_may_and_says_so(tmp_path: Path) -> None:
    """RFC 4314 §4: NO only when nothing at all may be changed."""

    async def scenario(world: People) -> None:
        await share(world, b"lrs")
        await world.ann.append(mailbox=b"work")
        out = await world.bob.ok(b"SELECT " + WORK)
        assert any(b"PERMANENTFLAGS (\\Seen)" in line for line in out)
        out = await world.bob.ok(b"STORE 1 +FLAGS (\\Seen \\Deleted \\Flagged)")
        assert flag_words(out[0]) == {b"\\Seen"}
        out = await world.bob.ask(b"STORE 1 +FLAGS (\\Deleted)")
        assert out[-1].startswith(b"NO [NOPERM]")
        assert (await world.bob.ask(b"EXPUNGE"))[-1].startswith(b"NO [NOPERM]")
        await world.ann.ok(b"SELECT work")
        await world.ann.ok(b"STORE 1 +FLAGS (\\Deleted)")
        assert (await world.bob.ok(b"CLOSE"))[-1].startswith(b"OK"), "without e nothing goes"
        assert (await world.ann.ok(b"STATUS work (MESSAGES)"))[0].endswith(b"(MESSAGES 1)")

    run(tmp_path, scenario)


def test_fetch_marks_as_seen_only_who_may(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await share(world, b"lr")
        await world.ann.append(mailbox=b"work")
        await world.bob.ok(b"SELECT " + WORK)
        out = await world.bob.ok(b"FETCH 1 BODY[TEXT]")
        assert not any(b"\\Seen" in line for line in out)
        assert await flags_in(world.bob, WORK) == [set()]
        assert await flags_in(world.ann, b"work") == [set()]

    run(tmp_path, scenario)


def test_select_says_what_can_be_done(tmp_path: Path) -> None:
    """RFC 4314 §5.2: \\Seen is no shared flag here."""

    async def scenario(world: People) -> None:
        for rights, code in (
            (b"lr", b"READ-ONLY"), (b"lrs", b"READ-ONLY"), (b"lrk", b"READ-ONLY"),
            (b"lri", b"READ-WRITE"), (b"lre", b"READ-WRITE"), (b"lrw", b"READ-WRITE"),
            (b"lrt", b"READ-WRITE"),
        ):  # fmt: skip
            await share(world, rights)
            out = await world.bob.ok(b"SELECT " + WORK)
            assert out[-1].startswith(b"OK [%b]" % code), rights
            await world.bob.ok(b"UNSELECT")

    run(tmp_path, scenario)


# -- public accounts, annotations, quotas -------------------------------------------------------


def test_public_mailboxes(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        ann = world.made.accounts[ANN]
        await world.made.site.database.submit(SetPublic(account=ann, label="Team", rights="lrs"))
        out = await world.bob.ok(b'LIST "" Shared/%')
        assert out[0] == b'* LIST (\\Noselect \\HasChildren) "/" "Shared/Team"'
        assert b'* LIST (\\HasNoChildren) "/" "Shared/Team/INBOX"' in await world.bob.ok(
            b'LIST "" Shared/*'
        )
        assert await world.bob.ok(b'LIST "" Users*') == [b"OK Done"]
        assert (await world.bob.ask(b"EXAMINE Users/ann@one.example/INBOX"))[-1].startswith(
            b"NO [NONEXISTENT]"
        )
        await world.bob.ok(b"SELECT Shared/Team/INBOX")
        assert (await world.ann.ok(b'LIST "" Shared*')) == [b"OK Done"], "her own have their names"
        out = await world.bob.ask(b"CREATE Shared/Team/new")
        assert out[-1].startswith(b"NO [NOPERM]")

    run(tmp_path, scenario)


def test_private_annotations_are_each_readers_own(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        await share(world, b"lr")
        await world.ann.ok(b'SETMETADATA work (/private/comment "hers" /shared/comment "all")')
        await world.bob.ok(b'SETMETADATA %b (/private/comment "his")' % WORK)
        out = await world.bob.ok(b"GETMETADATA %b (/private/comment /shared/comment)" % WORK)
        assert out[0] == b'* METADATA "%b" (/private/comment "his" /shared/comment "all")' % WORK
        out = await world.ann.ok(b"GETMETADATA work (/private/comment)")
        assert out[0].endswith(b'(/private/comment "hers")')
        out = await world.bob.ask(b'SETMETADATA %b (/shared/comment "no")' % WORK)
        assert out[-1].startswith(b"NO [NOPERM]")
        # RFC 5464 §3.3: `l` and one of rswip
        await world.ann.ok(b"SETACL work bob@one.example l")
        out = await world.bob.ask(b"GETMETADATA %b /shared/comment" % WORK)
        assert out[-1].startswith(b"NO [NOPERM]")
        await world.ann.ok(b"SETACL work bob@one.example r")
        out = await world.bob.ask(b"GETMETADATA %b /shared/comment" % WORK)
        assert out[-1].startswith(b"NO [NONEXISTENT]")

    run(tmp_path, scenario)


def test_changes_by_others_are_told(tmp_path: Path) -> None:
    """RFC 5464 §4.4.2: entry names only, to who enabled it, and not one's own changes."""

    async def scenario(world: People) -> None:
        second = Client(IMAPService(world.made.site, False))
        async with second:
            await second.login(ANN)
            await second.ok(b"ENABLE METADATA")
            await world.ann.ok(b'SETMETADATA INBOX (/shared/comment "x" /private/comment "y")')
            out = await second.ok(b"NOOP")
            told = {word for line in out for word in line.split() if word.startswith(b"/")}
            assert told == {b"/shared/comment", b"/private/comment"}
            assert all(line.startswith(b'* METADATA "INBOX" ') for line in out[:-1])
            await second.ok(b'SETMETADATA INBOX (/shared/comment "z")')
            assert await second.ok(b"NOOP") == [b"OK Done"]
            assert await world.ann.ok(b"NOOP") == [b"OK Done"]
            await world.bob.ok(b'SETMETADATA INBOX (/shared/comment "b")')
            assert await second.ok(b"NOOP") == [b"OK Done"]

    run(tmp_path, scenario)


def test_annotations_are_bounded(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        long = b"x" * 32_769
        out = await world.ann.ask(b"SETMETADATA INBOX (/shared/x {%d+}\r\n%b)" % (len(long), long))
        assert out[-1].startswith(b"NO [METADATA MAXSIZE 32768]")
        await world.ann.ok(b"SETMETADATA INBOX (/shared/x {32768+}\r\n%b)" % long[:32768])
        for number in range(99):
            await world.ann.ok(b'SETMETADATA INBOX (/shared/n%d "x")' % number)
        out = await world.ann.ask(b'SETMETADATA INBOX (/shared/more "x" /shared/n1 "y")')
        assert out[-1].startswith(b"NO [METADATA TOOMANY]")
        out = await world.ann.ok(b"GETMETADATA INBOX /shared/n1")
        assert out[0].endswith(b'(/shared/n1 "x")')
        out = await world.ann.ask(
            b"SETMETADATA INBOX (" + b" ".join(b'/shared/m%d "x"' % n for n in range(101)) + b")"
        )
        assert out[-1].startswith(b"BAD")

    run(tmp_path, scenario)


def test_quotas_are_told_and_set_by_administrators(tmp_path: Path) -> None:
    async def scenario(world: People) -> None:
        database, accounts = world.made.site.database, world.made.accounts
        await database.submit(
            SetQuota(account=accounts[ANN], octets_max=2048, messages_max=5, mailboxes_max=8)
        )
        await world.ann.append()
        out = await world.ann.ok(b"GETQUOTAROOT INBOX")
        assert out[:2] == [
            b'* QUOTAROOT "INBOX" ann@one.example',
            b"* QUOTA ann@one.example (STORAGE 1 2 MESSAGE 1 5 MAILBOX 6 8)",
        ]
        assert (await world.bob.ask(b"GETQUOTA ann@one.example"))[-1].startswith(b"NO")
        await share(world, b"lr")
        assert (await world.bob.ok(b"GETQUOTA ann@one.example"))[0].startswith(b"* QUOTA ann@")
        out = await world.bob.ok(b"GETQUOTAROOT " + WORK)
        assert out[0] == b'* QUOTAROOT "%b" ann@one.example' % WORK
        await world.ann.ok(b"SETACL work bob@one.example l")
        assert (await world.bob.ask(b"GETQUOTAROOT " + WORK))[-1].startswith(b"NO [NOPERM]")
        assert (await world.bob.ask(b"SETQUOTA bob@one.example (STORAGE 1)"))[-1].startswith(
            b"NO [NOPERM]"
        )
        await database.submit(SetAdministrator(account=accounts[CARL], administrator=True))
        out = await world.carl.ok(b"SETQUOTA ann@one.example (STORAGE 510 MAILBOX 7)")
        assert out[0] == b"* QUOTA ann@one.example (STORAGE 1 510 MAILBOX 7 7)"
        assert (await world.ann.ask(b"CREATE one-more"))[-1].startswith(b"NO [OVERQUOTA]")
        out = await world.carl.ok(b"SETQUOTA ann@one.example ()")
        assert out[0] == b"* QUOTA ann@one.example ()"
        for wrong in (b"SETQUOTA ann@one.example (BOGUS 1)", b"SETQUOTA no@one.example ()"):
            assert (await world.carl.ask(wrong))[-1].startswith(b"NO")

    run(tmp_path, scenario)
