"""IMAPClient and the standard library's clients, from two devices at once."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import ssl
import threading
from pathlib import Path

import pytest
from imapclient import SEEN, IMAPClient  # type: ignore[import-untyped]

from postroad.lab.process import PostroadServer
from support.mail import plain, with_attachment

pytestmark = pytest.mark.interop


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(certificate))
    made.check_hostname = False
    return made


def client(server: PostroadServer, context: ssl.SSLContext, user: str) -> IMAPClient:
    made = IMAPClient("127.0.0.1", server.port("imaps"), ssl=True, ssl_context=context, timeout=30)
    made.login(user, "two devices")
    return made


def test_two_devices(server: PostroadServer, context: ssl.SSLContext) -> None:
    user = "devices@x.example"
    server.add_account(user, "two devices")
    with client(server, context, user) as phone, client(server, context, user) as laptop:
        phone.select_folder("INBOX")
        laptop.select_folder("INBOX")
        laptop.idle()
        with smtplib.SMTP("127.0.0.1", server.port("smtp"), timeout=30) as sender:
            sender.sendmail("out@elsewhere.example", [user], plain("devices", to=user))
        woken = laptop.idle_check(timeout=10)
        assert (1, b"EXISTS") in woken
        laptop.idle_done()

        assert phone.search(["SUBJECT", "devices"]) == [1]
        phone.add_flags([1], [SEEN, b"$Important"])
        laptop.noop()
        flags = laptop.get_flags([1])[1]
        assert SEEN in flags and b"$Important" in flags

        laptop.idle()
        phone.delete_messages([1])
        phone.expunge()
        gone = laptop.idle_check(timeout=10)
        while not any(item[1] == b"EXPUNGE" for item in gone):
            more = laptop.idle_check(timeout=10)
            assert more, "the other device's expunge was never told"
            gone += more
        laptop.idle_done()


def test_folders_and_parts(server: PostroadServer, context: ssl.SSLContext) -> None:
    user = "folders@x.example"
    server.add_account(user, "two devices")
    octets = with_attachment("folders")
    with client(server, context, user) as one:
        assert {b"IDLE", b"MOVE", b"UIDPLUS", b"CONDSTORE", b"SPECIAL-USE"} <= set(
            one.capabilities()
        )
        one.create_folder("Büro/Größe")
        one.append("Büro/Größe", octets, flags=[SEEN])
        chosen = one.select_folder("Büro/Größe")
        assert chosen[b"EXISTS"] == 1 and b"HIGHESTMODSEQ" in chosen
        fetched = one.fetch([1], ["BODY[]", "ENVELOPE", "BODYSTRUCTURE", "RFC822.SIZE"])[1]
        assert fetched[b"BODY[]"] == octets
        assert fetched[b"RFC822.SIZE"] == len(octets)
        assert fetched[b"ENVELOPE"].from_[0].mailbox == b"ann"
        assert fetched[b"BODYSTRUCTURE"].is_multipart
        one.move([1], "Archive")
        one.select_folder("Archive")
        assert one.fetch([1], ["FLAGS"])[1][b"FLAGS"] == (SEEN,) or SEEN in one.get_flags([1])[1]
        one.rename_folder("Büro/Größe", "Büro/Maß")
        names = {name for _, _, name in one.list_folders()}
        assert "Büro/Maß" in names and "Büro/Größe" not in names
        status = one.folder_status("Archive", ["MESSAGES", "UIDNEXT", "HIGHESTMODSEQ"])
        assert status[b"MESSAGES"] == 1 and status[b"UIDNEXT"] == 2


def test_imaplib_starttls_and_poplib_stls(server: PostroadServer, context: ssl.SSLContext) -> None:
    user = "stdlib@x.example"
    server.add_account(user, "two devices")
    with smtplib.SMTP("127.0.0.1", server.port("submission"), timeout=30) as sender:
        sender.starttls(context=context)
        sender.login(user, "two devices")
        octets = with_attachment("stdlib").replace(b"ann@x.example", user.encode())
        sender.sendmail(user, [user], octets)
    with imaplib.IMAP4("127.0.0.1", server.port("imap"), timeout=30) as imap:
        assert "LOGINDISABLED" in imap.capabilities
        imap.starttls(context)
        imap.login(user, "two devices")
        imap.select("INBOX")
        _, data = imap.fetch("1", "(BODY.PEEK[])")
        assert isinstance(data[0], tuple) and data[0][1].endswith(octets)
    pop = poplib.POP3("127.0.0.1", server.port("pop3"), timeout=30)
    pop.stls(context)
    pop.user(user)
    pop.pass_("two devices")
    assert b"\r\n".join(pop.retr(1)[1]) + b"\r\n" == data[0][1]
    second = poplib.POP3_SSL("127.0.0.1", server.port("pop3s"), context=context, timeout=30)
    second.user(user)
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        second.pass_("two devices")
    second.close()
    pop.dele(1)
    pop.close()  # without QUIT nothing is deleted
    again = poplib.POP3_SSL("127.0.0.1", server.port("pop3s"), context=context, timeout=30)
    again.user(user)
    again.pass_("two devices")
    assert again.stat()[0] == 1
    again.dele(1)
    again.quit()
    with imaplib.IMAP4_SSL("127.0.0.1", server.port("imaps"), ssl_context=context) as imap:
        imap.login(user, "two devices")
        assert imap.select("INBOX")[1] == [b"0"]


def test_twenty_sessions_at_once(server: PostroadServer, context: ssl.SSLContext) -> None:
    user = "many@x.example"
    server.add_account(user, "two devices")
    failures: list[BaseException] = []

    def append_some(number: int) -> None:
        try:
            with client(server, context, user) as one:
                for item in range(5):
                    one.append("INBOX", plain(f"many-{number}-{item}", to=user))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=append_some, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    with client(server, context, user) as one:
        assert one.select_folder("INBOX")[b"EXISTS"] == 100
        uids = one.search("ALL")
        assert uids == sorted(set(uids)) and len(uids) == 100
