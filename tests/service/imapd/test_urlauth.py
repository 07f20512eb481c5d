"""URLs that carry authorization: who may use them, for how long, and what they give."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from postroad.directory.operations import RemoveAccount
from postroad.mail.errors import Unavailable
from postroad.service.imapd import IMAPService
from postroad.store.mailboxes import MailStore
from service.imapd.test_sessions import selected, with_site
from support.imap import Client
from support.sites import NOW, TestSite

ANN = b"imap://ann%40one.example@mx.one.example/"
BODY = b"Si vis pacem, para bellum.\r\n"
NESTED = (
    b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"caf=E9=\r\n!\r\n"
    b"--b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n"
    b"--b\r\nContent-Type: application/y\r\nContent-Transfer-Encoding: x-own\r\n\r\n??\r\n"
    b"--b--\r\n"
)


async def grant(client: Client, url: bytes) -> bytes:
    """The URL, authorized."""
    told, _ = await client.ok(b'GENURLAUTH "%b" INTERNAL' % url)
    match = re.fullmatch(rb'\* GENURLAUTH "(.*)"', told)
    assert match is not None, told
    assert match[1].startswith(url + b":internal:01")
    return match[1]


async def fetch(client: Client, url: bytes, items: bytes = b"") -> bytes:
    """What URLFETCH says of it."""
    asked = b'("%b" %b)' % (url, items) if items else b'"%b"' % url
    told, _ = await client.ok(b"URLFETCH " + asked)
    head = b'* URLFETCH "%b" ' % url
    assert told.startswith(head), told
    return told[len(head) :]


def literal(octets: bytes) -> bytes:
    return b"{%d}\r\n%b" % (len(octets), octets)


async def two(service: IMAPService, body: Any) -> None:
    """Ann's session and Bob's; her INBOX holds one message."""
    async with selected(service) as ann, Client(service) as bob:
        await bob.login("bob@one.example")
        await ann.append(b"a: b\r\n\r\n" + BODY)
        await body(ann, bob)


# -- who may ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "ann_may", "bob_may"),
    [
        (b"anonymous", True, True),
        (b"authuser", True, True),
        (b"user+bob%40one.example", False, True),
        (b"user+BOB%40One.Example", False, True),
        (b"user+ann%40one.example", True, False),
        (b"user+nobody", False, False),
        (b"submit+ann%40one.example", False, False),
    ],
)
def test_access_identifiers(tmp_path: Path, access: bytes, ann_may: bool, bob_may: bool) -> None:
    """RFC 4467 §3."""

    async def run(made: TestSite, service: IMAPService) -> None:
        async def body(ann: Client, bob: Client) -> None:
            url = await grant(ann, ANN + b"INBOX/;UID=1/;SECTION=TEXT;URLAUTH=" + access)
            for client, may in ((ann, ann_may), (bob, bob_may)):
                assert await fetch(client, url) == (literal(BODY) if may else b"NIL")

        await two(service, body)

    with_site(tmp_path, run)


def test_submission_servers_may_use_what_is_for_them(tmp_path: Path) -> None:
    async def run(made: TestSite, service: IMAPService) -> None:
        made.site.url_submitters = frozenset({"bob@one.example"})

        async def body(ann: Client, bob: Client) -> None:
            url = await grant(ann, ANN + b"INBOX/;UID=1/;SECTION=TEXT;URLAUTH=submit+ann")
            assert await fetch(ann, url) == b"NIL"
            assert await fetch(bob, url) == literal(BODY)

        await two(service, body)

    with_site(tmp_path, run)


def test_a_url_that_was_changed_means_nothing(tmp_path: Path) -> None:
    """RFC 4467 §6: octet for octet, but for the mechanism's and the token's case."""

    async def run(made: TestSite, service: IMAPService) -> None:
        async def body(ann: Client, bob: Client) -> None:
            await ann.append()
            url = await grant(ann, ANN + b"INBOX/;UID=1;URLAUTH=anonymous")
            rump, _, token = url.partition(b":internal:")
            assert (await fetch(bob, rump + b":INTERNAL:" + token.upper())).startswith(b"{")
            for wrong in (
                url.replace(b"UID=1", b"UID=2"), url.replace(b"INBOX", b"inbox"),
                url.replace(b"ann%40", b"bob%40"), url.replace(b"anonymous", b"ANONYMOUS"),
                url.replace(b"mx.one", b"MX.one"), url.replace(b"UID=1", b"UID=1/;SECTION=TEXT"),
                url[:-1] + (b"0" if url[-1:] != b"0" else b"1"), url[:-1], url + b"0",
                url.replace(b":internal:01", b":internal:02"),
                url.replace(b":internal:", b":external:"),
            ):  # fmt: skip
                assert await fetch(bob, wrong) == b"NIL", wrong

        await two(service, body)

    with_site(tmp_path, run)


def test_another_users_key_fits_nothing(tmp_path: Path) -> None:
    async def run(made: TestSite, service: IMAPService) -> None:
        async def body(ann: Client, bob: Client) -> None:
            await bob.append(b"a: b\r\n\r\nbob's\r\n")
            await grant(ann, ANN + b"INBOX/;UID=1;URLAUTH=anonymous")
            theirs = ANN.replace(b"ann", b"bob") + b"INBOX/;UID=1;URLAUTH=anonymous"
            token = (await grant(bob, theirs)).partition(b":internal:")[2]
            assert (
                await fetch(bob, ANN + b"INBOX/;UID=1;URLAUTH=anonymous:internal:" + token)
                == b"NIL"
            )
            answer = await ann.ask(b'GENURLAUTH "%b" INTERNAL' % theirs)
            assert answer[-1].startswith(b"BAD")

        await two(service, body)

    with_site(tmp_path, run)


def test_a_url_expires(tmp_path: Path) -> None:
    async def run(made: TestSite, service: IMAPService) -> None:
        async def body(ann: Client, bob: Client) -> None:
            moment = (NOW + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
            url = await grant(ann, ANN + b"INBOX/;UID=1;EXPIRE=%b;URLAUTH=authuser" % moment)
            made.clock.moment = NOW + timedelta(minutes=1)
            assert (await fetch(bob, url)).startswith(b"{")
            made.clock.moment = NOW + timedelta(minutes=1, seconds=1)
            assert await fetch(bob, url) == b"NIL"

        await two(service, body)

    with_site(tmp_path, run)


def test_resetkey_makes_urls_void(tmp_path: Path) -> None:
    """RFC 4467 §7: of one mailbox, or all."""

    async def run(made: TestSite, service: IMAPService) -> None:
        async def body(ann: Client, bob: Client) -> None:
            await ann.ok(b"CREATE other")
            await ann.append(mailbox=b"other")

            async def both() -> tuple[bytes, bytes]:
                return (
                    await grant(ann, ANN + b"INBOX/;UID=1;URLAUTH=anonymous"),
                    await grant(ann, ANN + b"other/;UID=1;URLAUTH=anonymous"),
                )

            one, other = await both()
            assert (one, other) == await both()
            await bob.ok(b"RESETKEY INBOX")
            assert await fetch(bob, one) != b"NIL"
            await ann.ok(b"RESETKEY INBOX")
            assert await fetch(bob, one) == b"NIL"
            assert await fetch(bob, other) != b"NIL"
            one, _ = await both()
            await ann.ok(b"RESETKEY")
            assert await fetch(bob, one) == await fetch(bob, other) == b"NIL"
            one, other = await both()
            assert await fetch(bob, one) != b"NIL" != await fetch(bob, other)

        await two(service, body)

    with_site(tmp_path, run)


def test_what_goes_takes_its_urls_along(tmp_path: Path) -> None:
    async def run(made: TestSite, service: IMAPService) -> None:
        async def body(ann: Client, bob: Client) -> None:
            await ann.ok(b"CREATE x")
            await ann.append(mailbox=b"x")
            box = await grant(ann, ANN + b"x/;UID=1;URLAUTH=anonymous")
            await ann.ok(b"DELETE x")
            assert await fetch(bob, box) == b"NIL"
            await ann.ok(b"CREATE x")
            await ann.append(mailbox=b"x")
            assert await fetch(bob, box) == b"NIL"

            message = await grant(ann, ANN + b"INBOX/;UID=1;URLAUTH=anonymous")
            await ann.ok(b"STORE 1 FLAGS (\\Deleted)")
            await ann.ok(b"EXPUNGE")
            assert await fetch(bob, message) == b"NIL"

        await two(service, body)
        ann = made.accounts["ann@one.example"]
        assert made.site.database.first("SELECT count(*) FROM url_key") == (1,)
        await made.site.database.submit(RemoveAccount(account=ann))
        assert made.site.directory.account_by_id(ann) is None
        assert made.site.database.first("SELECT count(*) FROM url_key") == (0,)

    with_site(tmp_path, run)


def test_shared_mailboxes_are_read_with_the_rights_there_are_now(tmp_path: Path) -> None:
    """RFC 4467 §7: with the access of the user in the URL. Each user has a key of his own."""

    async def run(made: TestSite, service: IMAPService) -> None:
        async def body(ann: Client, bob: Client) -> None:
            theirs = (
                b"imap://bob%40one.example@h/Users/ann%40one.example/INBOX/;UID=1;URLAUTH=anonymous"
            )
            answer = await bob.ask(b'GENURLAUTH "%b" INTERNAL' % theirs)
            assert answer[-1].startswith(b"BAD")
            await ann.ok(b"SETACL INBOX bob@one.example lr")
            url = await grant(bob, theirs)
            assert (await fetch(ann, url)).startswith(b"{")
            own = await grant(ann, ANN + b"INBOX/;UID=1;URLAUTH=anonymous")
            await ann.ok(b"RESETKEY INBOX")
            assert await fetch(ann, own) == b"NIL"
            assert (await fetch(ann, url)).startswith(b"{")
            await ann.ok(b"SETACL INBOX bob@one.example l")
            assert await fetch(ann, url) == b"NIL"

        await two(service, body)

    with_site(tmp_path, run)


# -- what they give ---------------------------------------------------------------------------


def test_sections_and_ranges(tmp_path: Path) -> None:
    """RFC 5092 §6, RFC 5550 §5.7.1; \\Seen is not set."""

    async def run(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as ann:
            await ann.append(NESTED)
            for part, octets in (
                (b"", NESTED),
                (b"/;SECTION=1", b"caf=E9=\r\n!"),
                (b"/;SECTION=HEADER.FIELDS%20(SUBJECT)", b"Subject: x\r\n\r\n"),
                (b"/;SECTION=2.MIME/;PARTIAL=0.12", b"Content-Type"),
                (b"/;PARTIAL=9.1", b"x"),
                (b"/;PARTIAL=%d" % (len(NESTED) - 3), NESTED[-3:]),
                (b"/;PARTIAL=99999.5", b""),
            ):
                url = await grant(ann, ANN + b"INBOX/;UID=1" + part + b";URLAUTH=anonymous")
                assert await fetch(ann, url) == literal(octets)
            missing = await grant(ann, ANN + b"INBOX/;UID=1/;SECTION=9;URLAUTH=anonymous")
            assert await fetch(ann, missing) == b'""'  # RFC 4467 §8
            assert b"\\Seen" not in (await ann.ok(b"FETCH 1 FLAGS"))[-2]

    with_site(tmp_path, run)


def test_items_of_the_extended_form(tmp_path: Path) -> None:
    """RFC 5524 §3: what was asked, each in parentheses; BINARY without the encoding."""

    async def run(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as ann:
            await ann.append(NESTED)

            async def of(part: bytes, items: bytes) -> bytes:
                url = await grant(
                    ann, ANN + b"INBOX/;UID=1/;SECTION=" + part + b";URLAUTH=anonymous"
                )
                return await fetch(ann, url, items)

            text = b'"text" "plain" NIL NIL NIL'
            assert await of(b"1", b"BODY") == b"(BODY {10}\r\ncaf=E9=\r\n!)"
            assert await of(b"1", b"BINARY") == b"(BINARY {5}\r\ncaf\xe9!)"
            assert await of(b"1", b"BINARY BODYPARTSTRUCTURE") == (
                b"(BODYPARTSTRUCTURE (" + text + b' "8BIT" 5 0 NIL NIL NIL NIL))'
                b" (BINARY {5}\r\ncaf\xe9!)"
            )
            assert await of(b"1", b"bodypartstructure body") == (
                b"(BODYPARTSTRUCTURE (" + text + b' "quoted-printable" 10 1 NIL NIL NIL NIL))'
                b" (BODY {10}\r\ncaf=E9=\r\n!)"
            )
            assert await of(b"1/;PARTIAL=1.3", b"BINARY") == b"(BINARY {3}\r\naf\xe9)"
            url = await grant(ann, ANN + b"INBOX/;UID=1/;SECTION=2;URLAUTH=anonymous")
            await ann.send(b'x URLFETCH ("%b" BINARY)\r\n' % url)
            told, _ = await ann.until(b"x")
            assert told == b'* URLFETCH "%b" (BINARY ~{3}\r\n\0\1\2)' % url
            assert await of(b"3", b"BINARY") == b"(BINARY NIL)"
            assert await of(b"9", b"BINARY") == b'(BINARY "")'
            assert await of(b"2.MIME", b"BINARY") == (
                b"(BINARY " + literal(b"Content-Type: application/x\r\n"
                b"Content-Transfer-Encoding: base64\r\n\r\n") + b")"
            )  # fmt: skip
            for wrong in (b"BODY BINARY", b"BODY BODY", b"FOO", b"BODY "):
                answer = await ann.ask(b'URLFETCH ("%b" %b)' % (url, wrong))
                assert answer[-1].startswith(b"BAD"), wrong
            [told, _] = await ann.ok(b'URLFETCH ("%b")' % url)
            assert told == b'* URLFETCH "%b" {4}\r\nAAEC' % url

    with_site(tmp_path, run)


def test_large_messages_flow_and_many_urls_fit_one_command(tmp_path: Path) -> None:
    async def run(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as ann:
            octets = b"a: b\r\n\r\n" + b"0123456789abcdef" * 50_000
            await ann.append(octets)
            await ann.append()
            big = await grant(ann, ANN + b"INBOX/;UID=1;URLAUTH=anonymous")
            small = await grant(ann, ANN + b"INBOX/;UID=2/;SECTION=TEXT;URLAUTH=anonymous")
            *told, _ = await ann.ok(b'URLFETCH "%b" "%b" "%b"' % (big, small, big))
            assert [line[-20:] for line in told] == [octets[-20:], told[1][-20:], octets[-20:]]
            assert told[1] == b'* URLFETCH "%b" {7}\r\nHello\r\n' % small
            assert await fetch(ann, big, b"BODYPARTSTRUCTURE")

    with_site(tmp_path, run, message_octets_max=1 << 20)


def test_a_failing_disk_is_told_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 4467 §7: NO is for what may work later."""

    async def run(made: TestSite, service: IMAPService) -> None:
        async with selected(service) as ann:
            await ann.append()
            url = await grant(ann, ANN + b"INBOX/;UID=1;URLAUTH=anonymous")

            def fail(*args: Any) -> bytes:
                raise Unavailable("the disk is gone")

            with monkeypatch.context() as patch:
                patch.setattr(MailStore, "octets_range", fail)
                for items in (b"", b" BODY", b" BINARY"):
                    [answer] = await ann.ask(b'URLFETCH ("%b"%b)' % (url, items))
                    assert answer.startswith(b"NO [UNAVAILABLE]")
            assert (await fetch(ann, url)).startswith(b"{")

    with_site(tmp_path, run)


def test_sessions_that_have_the_mailbox_selected_hear_of_a_new_key(tmp_path: Path) -> None:
    """RFC 4467 §7: those of the same user; with the next command, or at once when they idle."""

    async def run(made: TestSite, service: IMAPService) -> None:
        async def body(ann: Client, bob: Client) -> None:
            await ann.ok(b"SETACL INBOX bob@one.example lr")
            await bob.ok(b'SELECT "Users/ann@one.example/INBOX"')
            async with selected(service) as other, selected(service, b"Drafts") as elsewhere:
                await elsewhere.send(b"i IDLE\r\n")
                await other.send(b"i IDLE\r\n")
                assert (await other.response()).startswith(b"+")
                assert (await elsewhere.response()).startswith(b"+")
                told = await ann.ok(b"RESETKEY INBOX")
                mechanism = b"* OK [URLMECH INTERNAL]"
                assert [line.startswith(mechanism) for line in told] == [True, False]
                assert (await other.response()).startswith(mechanism)
                assert len(await ann.ok(b"NOOP")) == 1
                assert len(await bob.ok(b"NOOP")) == 1
                for client in (other, elsewhere):
                    await client.send(b"DONE\r\n")
                    assert (await client.until(b"i")) == [b"i OK Done"]

        await two(service, body)

    with_site(tmp_path, run)
