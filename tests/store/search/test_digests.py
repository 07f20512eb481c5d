"""What SORT and THREAD are given: the same from blocks as from the messages."""

from __future__ import annotations

import asyncio
from pathlib import Path

from postroad.mail.uidset import UIDSet
from postroad.message.message_ids import IDS_MAX, message_ids
from postroad.store.operations import CreateMailbox, Move
from postroad.store.search.contract import Digest, Facet
from postroad.store.search.digesting import keys_of
from postroad.store.search.operations import DropIndex
from support.mails import ALL, build, plain_mail, put
from support.state import BOB, INBOX, NOW, State, opened

EVERYTHING = ~Facet.NONE


def digests(state: State, facets: Facet, uids: UIDSet = ALL, mailbox: int = INBOX) -> list[Digest]:
    return [
        digest for group in state.store.sort_digests(BOB, mailbox, uids, facets) for digest in group
    ]


def test_blocks_say_what_messages_say(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await put(state, *(plain_mail(number) for number in range(100)), b"\r\nno header\r\n")
            read = digests(state, EVERYTHING)
            assert [digest.uid for digest in read] == list(range(1, 102))
            assert read[7].subject.startswith(b"ABOUT THE ") and read[7].message_id
            assert read[-1].sent == read[-1].arrival == NOW and not read[-1].subject
            await build(state)
            assert digests(state, EVERYTHING) == read
            some = UIDSet(((3, 5), (90, 200)))
            assert digests(state, EVERYTHING, some) == [d for d in read if d.uid in some]
            await put(state, plain_mail(500))  # not in a block yet
            assert len(digests(state, EVERYTHING)) == 102
            assert digests(state, EVERYTHING)[-1].message_id == b"500@example.org"
            await state.database.submit(DropIndex(account=BOB))
            assert digests(state, EVERYTHING)[:-1] == read

    asyncio.run(main())


def test_only_what_is_asked_for_is_set(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await put(state, *(plain_mail(number) for number in range(3)))
            for _ in range(2):
                bare = digests(state, Facet.NONE)[0]
                assert bare == Digest(1, NOW, bare.size, bare.heap) and bare.size > 500
                subject = digests(state, Facet.SUBJECT)[0]
                assert subject.subject and not subject.author and not subject.message_id
                assert not subject.sent
                await build(state)

    asyncio.run(main())


def test_messages_far_apart_in_the_blocks(tmp_path: Path) -> None:
    """A mailbox whose messages were moved there in another order."""

    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await put(state, *(plain_mail(number) for number in range(200)))
            await build(state)
            await state.database.submit(CreateMailbox(account=BOB, name="Other", now=NOW))
            other = state.store.mailbox(BOB, "Other")
            assert other is not None
            for uid in (150, 3, 90, 91, 1):
                await state.database.submit(
                    Move(account=BOB, mailbox=INBOX, uids=[(uid, uid)], to=other.mailbox, now=NOW)
                )
            found = digests(state, Facet.THREAD, mailbox=other.mailbox)
            assert [digest.message_id for digest in found] == [
                b"%d@example.org" % (uid - 1) for uid in (150, 3, 90, 91, 1)
            ]

    asyncio.run(main())


def test_sort_keys() -> None:
    """Source: RFC 5256 §3 (addr-mailbox of the first address), RFC 5957 §3 (what is shown)."""
    keys = keys_of(
        b'From: "Ann, B." <Ann.B@Example.org>, other@x\r\nTo: =?utf-8?q?J=C3=B6rg?= <j@x>\r\n'
        b"Cc: team: a@x, b@x;\r\nSubject: Re: [list] Fwd: Hello\r\n\r\nFrom: body@x",
        0,
    )
    assert keys.author == b"ANN.B" and keys.display_from == b"ANN, B."
    assert keys.to == b"J" and keys.display_to == "JO\u0308RG".encode()
    assert keys.cc == b"TEAM"
    assert keys.subject == b"HELLO" and keys.is_reply
    shown = keys_of(b"From: <plain@x.example>\r\nTo: \r\n\r\n", 0)
    assert shown.display_from == b"PLAIN@X.EXAMPLE"
    assert (shown.to, shown.display_to) == (b"", b"")


def test_message_ids_are_normalized() -> None:
    """Source: RFC 5256 §3: quoted and unquoted forms are the same Message ID."""
    assert message_ids(b'<"a b"@x> <"c"@x> <c@x>') == (b"a b@x", b"c@x", b"c@x")
    assert message_ids(b"<no at> <> a@x < d@x > <e@x>junk<f>") == (b"d@x", b"e@x")
    assert message_ids(b"<a@x\r\n\t> <b c@x>") == (b"a@x",)


def test_long_chains_keep_their_ends() -> None:
    chain = b" ".join(b"<%d@x>" % number for number in range(1000))
    found = message_ids(chain)
    assert len(found) == IDS_MAX and found[0] == b"0@x" and found[-1] == b"999@x"


def test_references_or_else_the_reply() -> None:
    """Source: RFC 5256 §3: In-Reply-To's first id where References has no legal one."""
    both = b"References: <a@x> <b@x>\r\nIn-Reply-To: <c@x>\r\n\r\n"
    assert keys_of(both, 0).references == (b"a@x", b"b@x")
    assert keys_of(b"References: none\r\nIn-Reply-To: <c@x> <d@x>\r\n\r\n", 0).references == (
        b"c@x",
    )
    assert keys_of(b"In-Reply-To: your mail of Monday\r\n\r\n", 0).references == ()
