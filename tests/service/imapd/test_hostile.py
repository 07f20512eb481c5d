"""Hostile and senseless commands: every line is answered, no session crashes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from postroad.mail import limits
from postroad.protocol.imap.server import LEGAL, WITH_UID
from postroad.service.imapd import IMAPService
from postroad.service.imapd.events import IMAPCommandCrashed
from support.imap import Client
from support.sites import make_site

SETS = [b"1", b"1:*", b"*", b"4294967295", b"5:2", b"*:1,3", b"0", b"x"]
NAMES = [
    b"INBOX",
    b"inbox/x",
    b"Sent",
    b'""',
    b'"a b"',
    b"&",
    b"&AOk-",
    b"a//b",
    b"/",
    b"%",
    b"x" * 600,
    b'"a\\"b"',
    b"INBOX/",
    b"a/b/c/d",
]
FLAGS = [
    b"()",
    b"(\\Seen)",
    b"\\Deleted",
    b"(a b c)",
    b"(\\Recent)",
    b"($x",
    b"(" + b"k" * 90 + b")",
]
ITEMS = [
    b"FLAGS",
    b"ALL",
    b"(UID MODSEQ)",
    b"BODY[]",
    b"BODY[1.1.1.TEXT]",
    b"BODY.PEEK[9.MIME]<5.5>",
    b"(ENVELOPE BODYSTRUCTURE BODY RFC822.SIZE)",
    b"RFC822",
    b"BODY[HEADER.FIELDS (a b)]<0.1>",
    b"FLAGS (CHANGEDSINCE 1)",
    b"BOGUS",
    b"BODY[1.HEADER.FIELDS.NOT (x)]",
]
KEYS = [
    b"ALL",
    b"SEEN",
    b"1:*",
    b"UID *",
    b"NOT 1",
    b"OR SEEN 5",
    b"FROM x",
    b"TEXT y",
    b"BODY z",
    b"SINCE 1-Jan-0001",
    b"BEFORE 31-Dec-9999",
    b"SENTON 29-Feb-2023",
    b"LARGER 4294967295",
    b"OLDER 0",
    b"MODSEQ 1",
    b"KEYWORD a",
    b'HEADER "a b" x',
    b"((ALL))",
    b"SENTBEFORE 1-Jan-1970",
    b"YOUNGER 4294967295",
    b'SUBJECT ""',
]
WORDS = [b"a ", b"\r\n", b"{5}\r\n", b"{9+}\r\n", b"APPEND ", b"INBOX ", b"(", b'"']
WORDS += [b"~{3+}\r\n", b"CATENATE (", b"TEXT ", b"URL ;UID=1", b"UTF8 (", b"REPLACE 1 ", b")"]


APART = frozenset((b"LOGOUT", b"IDLE", b"AUTHENTICATE", b"COMPRESS"))
"""After these a client goes on in another way; dialogs of their own try them."""
ENABLABLE = [b"CONDSTORE", b"QRESYNC", b"IMAP4rev2", b"UTF8=ACCEPT", b"x"]
EVENTS = [
    b"NONE",
    b"(MessageNew MessageExpunge)",
    b"(MessageNew (UID BODY.PEEK[]) MessageExpunge FlagChange)",
    b"(MailboxName SubscriptionChange)",
    b"(MessageNew)",
    b"(AnnotationChange)",
    b"(MailboxMetadataChange ServerMetadataChange)",
]


def _other(chance: random.Random, verb: bytes) -> bytes | None:
    """Commands of extensions."""
    pick = chance.choice
    name = pick(NAMES)
    match verb:
        case b"ENABLE":
            return b"ENABLE " + pick(ENABLABLE)
        case b"NOTIFY":
            whose = pick([b"selected", b"selected-delayed", b"personal", b"subscribed",
                          b"subtree " + name, b"mailboxes (" + name + b" Sent)"])  # fmt: skip
            return pick([b"NOTIFY NONE", b"NOTIFY SET (%b %b)" % (whose, pick(EVENTS)),
                         b"NOTIFY SET STATUS (%b %b)" % (whose, pick(EVENTS))])  # fmt: skip
        case b"SORT":
            return b"SORT (%b) UTF-8 %b" % (pick([b"DATE", b"REVERSE SUBJECT", b"x"]), pick(KEYS))
        case b"THREAD":
            return b"THREAD %b UTF-8 %b" % (pick([b"REFERENCES", b"ORDEREDSUBJECT"]), pick(KEYS))
        case b"ESEARCH":
            where = pick([b"", b"IN (personal) ", b"IN (mailboxes " + name + b") "])
            return b"ESEARCH " + where + pick(KEYS)
        case b"GETMETADATA" | b"SETMETADATA":
            rest = pick([b"/private/comment", b'(/private/comment "x")', b"(/shared/x NIL)"])
            return b"%b %b %b" % (verb, name, rest)
        case b"SETACL" | b"DELETEACL" | b"LISTRIGHTS":
            rights = b" " + pick([b"lr", b"+w", b"-l", b"xyz"]) if verb == b"SETACL" else b""
            return b"%b %b %b%b" % (verb, name, pick([b"anyone", b"bob@one.example"]), rights)
        case b"GETACL" | b"MYRIGHTS" | b"GETQUOTAROOT":
            return verb + b" " + name
        case b"GETQUOTA" | b"SETQUOTA":
            return verb + b' "" ' + pick([b"", b"(STORAGE 1)"])
        case _:
            return None


def _command(chance: random.Random) -> bytes:
    pick = chance.choice
    verb = pick(
        [word for word in sorted(LEGAL) if word not in APART] + [b"FETCH", b"SEARCH", b"STORE"] * 4
    )
    line = _other(chance, verb) or b""
    match verb:
        case _ if line:
            pass
        case b"FETCH":
            line = b"FETCH %b %b" % (pick(SETS), pick(ITEMS))
        case b"SEARCH":
            returns = pick([b"", b"RETURN () ", b"RETURN (MIN MAX) ", b"CHARSET UTF-8 "])
            line = b"SEARCH " + returns + b" ".join(chance.choices(KEYS, k=chance.randint(1, 4)))
        case b"STORE":
            mode = pick([b"FLAGS", b"+FLAGS", b"-FLAGS.SILENT", b"(UNCHANGEDSINCE 5) FLAGS"])
            line = b"STORE %b %b %b" % (pick(SETS), mode, pick(FLAGS))
        case b"COPY" | b"MOVE":
            line = b"%b %b %b" % (verb, pick(SETS), pick(NAMES))
        case b"STATUS":
            line = b"STATUS %b (MESSAGES RECENT HIGHESTMODSEQ)" % pick(NAMES)
        case b"LIST" | b"LSUB":
            line = b"%b %b %b" % (verb, pick(NAMES), pick([*NAMES, b"*", b"a%*", b"%/%"]))
        case b"RENAME":
            line = b"RENAME %b %b" % (pick(NAMES), pick(NAMES))
        case b"EXPUNGE":
            line = pick([b"EXPUNGE", b"UID EXPUNGE 1:*"])
        case b"ID":
            line = pick([b"ID NIL", b'ID ("a" "b")', b'ID ("a" NIL'])
        case b"LOGIN":
            line = b"LOGIN x y"
        case b"CREATE" | b"DELETE" | b"SELECT" | b"EXAMINE" | b"SUBSCRIBE" | b"UNSUBSCRIBE":
            line = verb + b" " + pick(NAMES)
        case _:
            line = verb
    if verb in WITH_UID and verb != b"EXPUNGE" and chance.random() < 0.5:
        line = b"UID " + line
    return line


@pytest.mark.parametrize("seed", range(4))
def test_random_commands_are_all_answered(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IMAP_BAD_COMMANDS_MAX", 1 << 30)

    async def run() -> None:
        chance = random.Random(seed)
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            async with Client(IMAPService(made.site, False)) as client:
                await client.login()
                for _ in range(5):
                    await client.append()
                await client.ok(b"SELECT INBOX")
                answers = {b"OK": 0, b"NO": 0, b"BAD": 0}
                for _ in range(250):
                    line = _command(chance)
                    out = await client.ask(line)
                    answers[out[-1].split(b" ", 1)[0]] += 1
                    if line == b"UNAUTHENTICATE":
                        await client.login()
                    if chance.random() < 0.1:
                        await client.ask(b"SELECT INBOX")
                        await client.append()
                assert all(answers.values()), answers
            crashes = made.traced(IMAPCommandCrashed)
            assert not crashes, crashes[0].error

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(3))
def test_random_octets_never_crash_a_session(seed: int, tmp_path: Path) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            service = IMAPService(made.site, False)
            for _ in range(15):
                async with Client(service) as client:
                    if chance.random() < 0.5:
                        await client.login()
                    octets = b"".join(
                        chance.choice(WORDS) if chance.random() < 0.6 else chance.randbytes(3)
                        for _ in range(chance.randint(1, 60))
                    )
                    await client.send(octets)
                    client.stream.end()
                    while await client.stream.read(5):
                        continue
            assert not made.traced(IMAPCommandCrashed)

    asyncio.run(run())


INJECTED = b"x\r\n* BYE gotcha"


@pytest.mark.parametrize(
    "command",
    [
        b"CREATE %b", b"DELETE %b", b"SELECT %b", b"EXAMINE %b", b"SUBSCRIBE %b", b"UNSUBSCRIBE %b",
        b"RENAME INBOX %b", b"RENAME %b y", b"STATUS %b (MESSAGES)", b"LIST %b \"*\"",
        b"LIST \"\" %b", b"LIST \"\" (%b) RETURN (STATUS (MESSAGES))", b"LSUB %b \"*\"",
        b"LSUB \"\" %b", b"COPY 1 %b", b"MOVE 1 %b", b"APPEND %b {5+}\r\na: b\n",
        b"ID (\"name\" %b)",
        b"SEARCH SUBJECT %b", b"SEARCH CHARSET %b ALL", b"FETCH 1 BODY.PEEK[HEADER.FIELDS (%b)]",
        b"STORE 1 +FLAGS (%b)", b"ENABLE %b", b"LOGIN %b x",
    ],
)  # fmt: skip
def test_nothing_a_literal_holds_becomes_a_response(command: bytes, tmp_path: Path) -> None:
    """But within a literal of ours, whose length is told, where a field's name has to be echoed."""
    literal = b"{%d+}\r\n%b" % (len(INJECTED), INJECTED)
    encoded = b"&AA0ACg-* BYE gotcha"

    async def run() -> None:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            async with Client(IMAPService(made.site, False)) as client:
                await client.login()
                await client.append()
                await client.ok(b"SELECT INBOX")
                for argument in (literal, b'"' + encoded + b'"'):
                    for asked in (command % argument, b'LIST "" "*"', b'LSUB "" "*"'):
                        for line in await client.ask(asked):
                            assert not line.startswith(b"* BYE"), line
                await client.ok(b"NOOP")
            assert not made.traced(IMAPCommandCrashed)

    asyncio.run(run())
