"""Python's imaplib and IMAPClient against the service on a loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

from imapclient import IMAPClient

from postroad.net.listener import Listener, bind
from postroad.service.imapd import IMAPService
from postroad.service.site import TLSContexts
from support.imap import MESSAGE
from support.sites import PASSWORD, make_site
from support.streams import client_tls, server_tls


@contextlib.asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[int]:
    async with make_site(directory, plaintext_on_loopback=True) as made:
        made.site.tls = TLSContexts(server_tls())
        service = IMAPService(made.site, False)
        listener = Listener(bind("127.0.0.1", 0), service.handle, name="imap")
        listener.start()
        try:
            yield listener.address[1]
        finally:
            listener.close()
            service.drain()
            await listener.drain(5)


def run(directory: Path, talk: Callable[[int], None]) -> None:
    async def main() -> None:
        async with serving(directory) as port:
            await asyncio.wait_for(asyncio.to_thread(talk, port), 30)

    asyncio.run(main())


def test_imaplib(tmp_path: Path) -> None:
    def talk(port: int) -> None:
        with imaplib.IMAP4("127.0.0.1", port, timeout=10) as client:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            assert client.starttls(context)[0] == "OK"
            assert client.authenticate(
                "PLAIN", lambda _: b"\0ann@one.example\0" + PASSWORD.encode()
            )[0] == "OK"  # fmt: skip
            assert client.create('"Entw&APw-rfe"')[0] == "OK"
            date = imaplib.Time2Internaldate(datetime(2026, 2, 1, tzinfo=UTC))
            assert client.append("INBOX", "(\\Flagged)", date, MESSAGE)[0] == "OK"
            assert client.select("INBOX") == ("OK", [b"1"])
            status, [(head, octets), _] = client.fetch("1", "(RFC822 UID)")
            assert (status, octets) == ("OK", MESSAGE)
            assert b"UID 1" in head
            assert client.search(None, "FLAGGED", "SUBJECT", "first") == ("OK", [b"1"])
            assert client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")[0] == "OK"
            assert client.copy("1", "Archive")[0] == "OK"
            assert client.expunge() == ("OK", [b"1"])
            assert client.status("Archive", "(MESSAGES)")[1] == [b'"Archive" (MESSAGES 1)']
            assert client.close()[0] == "OK"

    run(tmp_path, talk)


def test_imapclient(tmp_path: Path) -> None:
    def talk(port: int) -> None:
        with IMAPClient("127.0.0.1", port=port, ssl=False, timeout=10) as client:
            client.starttls(client_tls())
            client.login("ann@one.example", PASSWORD)
            for word in (b"IDLE", b"UIDPLUS", b"MOVE", b"CONDSTORE", b"SPECIAL-USE"):
                assert client.has_capability(word)
            client.create_folder("Entwürfe/Größe")
            names = {name: flags for flags, _, name in client.list_folders()}
            assert "Entwürfe/Größe" in names
            assert client.find_special_folder(b"\\Sent") == "Sent"
            client.select_folder("INBOX")
            client.append("INBOX", MESSAGE, flags=(b"\\Seen", b"$Work"))
            client.append("INBOX", MESSAGE)
            assert client.search(["UNSEEN"]) == [2]
            assert client.search(["SUBJECT", "first", "KEYWORD", "$Work"]) == [1]
            found = client.fetch([1, 2], ["ENVELOPE", "FLAGS", "BODYSTRUCTURE", "BODY.PEEK[]"])
            assert found[1][b"BODY[]"] == MESSAGE
            assert found[1][b"ENVELOPE"].subject == b"first"
            assert b"$Work" in found[1][b"FLAGS"]
            assert found[2][b"BODYSTRUCTURE"][:2] == (b"text", b"plain")
            assert client.add_flags([2], [b"\\Answered"])[2][:1]
            client.move([2], "Archive")
            assert client.folder_status("Archive", ["MESSAGES", "UIDNEXT"]) == {
                b"MESSAGES": 1, b"UIDNEXT": 2,
            }  # fmt: skip
            client.idle()
            with IMAPClient("127.0.0.1", port=port, ssl=False, timeout=10) as other:
                other.login("ann@one.example", PASSWORD)
                other.append("INBOX", MESSAGE)
            assert (2, b"EXISTS") in client.idle_check(timeout=5)
            client.idle_done()
            client.delete_messages([1, 3])
            client.expunge()
            assert client.search() == []
            assert client.namespace().personal == (("", "/"),)
            assert b"Postroad" in client.id_({"name": "test"})[0]

    run(tmp_path, talk)


def test_imapclient_appends_many(tmp_path: Path) -> None:
    def talk(port: int) -> None:
        with IMAPClient("127.0.0.1", port=port, ssl=False, timeout=10) as client:
            client.login("ann@one.example", PASSWORD)
            moment = datetime(2020, 2, 29, 12, tzinfo=UTC)
            client.multiappend(
                "INBOX",
                [
                    MESSAGE,
                    {"msg": MESSAGE * 20_000, "flags": (b"\\Seen", b"$Work"), "date": moment},
                ],
            )
            client.select_folder("INBOX")
            found = client.fetch([1, 2], ["BODY.PEEK[]", "FLAGS", "INTERNALDATE"])
            assert found[1][b"BODY[]"] == MESSAGE
            assert found[2][b"BODY[]"] == MESSAGE * 20_000
            assert {b"\\Seen", b"$Work"} <= set(found[2][b"FLAGS"])
            assert found[2][b"INTERNALDATE"].timestamp() == moment.timestamp()

    run(tmp_path, talk)
