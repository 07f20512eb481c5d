"""offlineimap, neomutt with its header cache, alpine and aerc: each reads, flags and files mail."""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from postroad.lab.process import PostroadServer
from support.programs import needs, run
from support.raw_imap import RawClient
from support.terminal import Terminal
from support.world import World

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

PASSWORD = "secret7"
TEXT = (
    b"From: Bob <bob@x.example>\r\nTo: ann@more.example\r\nSubject: letter %d\r\n"
    b"Date: Mon, 23 Nov 2026 10:%02d:00 +0200\r\nMessage-ID: <%d@x.example>\r\n\r\nbody %d\r\n"
)


@pytest.fixture(scope="module")
def server(shared_world: World) -> Iterator[PostroadServer]:
    made = shared_world.server(
        "more.example", address="127.0.0.1", workers=2, plaintext_on_loopback=True
    )
    for user in ("offline", "neo", "alp", "aerc"):
        made.add_account(f"{user}@more.example", PASSWORD)
    made.start()
    yield made
    assert made.stop() == 0, made.log_end()


def filled(server: PostroadServer, user: str, count: int) -> RawClient:
    client = RawClient(server.port("imap"))
    client.ok(f"LOGIN {user}@more.example {PASSWORD}".encode())
    for number in range(1, count + 1):
        client.append(b"INBOX", TEXT % (number, number % 60, number, number))
    client.ok(b"SELECT INBOX")
    return client


def eventually(check: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@needs("offlineimap", "offlineimap3")
def test_offlineimap_both_ways(server: PostroadServer, tmp_path: Path) -> None:
    other = filled(server, "offline", 30)
    other.ok(b"STORE 3 +FLAGS (\\Flagged \\Seen)")
    rc = tmp_path / "rc"
    pem = (server.directory / "tls" / "cert.pem").read_text()
    fingerprint = hashlib.sha512(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    rc.write_text(f"""\
[general]
accounts = a
metadata = {tmp_path}/meta
maxsyncaccounts = 1
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {tmp_path}/mail
[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = {server.port("imaps")}
remoteuser = offline@more.example
remotepass = {PASSWORD}
cert_fingerprint = {fingerprint}
ssl = yes
auth_mechanisms = LOGIN, PLAIN
usecompression = yes
maxconnections = 2
""")
    home = {"HOME": str(tmp_path)}
    run(["offlineimap", "-o", "-c", rc, "-u", "quiet"], env=home, timeout_s=90)
    inbox = tmp_path / "mail" / "INBOX"
    files = [*inbox.glob("cur/*"), *inbox.glob("new/*")]
    assert len(files) == 30
    [flagged] = [file for file in files if file.name.rpartition(",")[2] == "FS"]
    assert b"Subject: letter 3" in flagged.read_bytes()
    victim = next(file for file in files if b"Subject: letter 9\n" in file.read_bytes())
    victim.rename(inbox / "cur" / (victim.name.partition(":")[0] + ":2,RS"))
    (inbox / "new" / "1700000000.x.y").write_bytes((TEXT % (99, 1, 99, 99)).replace(b"\r\n", b"\n"))
    other.ok(b"STORE 12 +FLAGS (\\Deleted)")
    other.ok(b"EXPUNGE")
    run(["offlineimap", "-o", "-c", rc, "-u", "quiet"], env=home, timeout_s=90)
    assert len([*inbox.glob("cur/*"), *inbox.glob("new/*")]) == 30
    other.ok(b"NOOP")
    [found, _] = other.ok(b'SEARCH ANSWERED SEEN SUBJECT "letter 9"')
    assert found == b"* SEARCH 9"
    [found, _] = other.ok(b'SEARCH SUBJECT "letter 99"')
    assert found == b"* SEARCH 30"
    other.close()


@needs("neomutt", "neomutt")
def test_neomutt_with_header_cache(server: PostroadServer, tmp_path: Path) -> None:
    other = filled(server, "neo", 40)
    rc = tmp_path / "rc"
    cache = tmp_path / "cache"
    cache.mkdir()
    rc.write_text(
        f'set imap_user="neo@more.example" imap_pass="{PASSWORD}"\n'
        f'set folder="imap://127.0.0.1:{server.port("imap")}/" spoolfile="+INBOX"\n'
        f'set header_cache="{cache}/" message_cachedir="{cache}/bodies" sort=date\n'
        "set ssl_starttls=no ssl_force_tls=no wait_key=no quit=yes move=no delete=yes\n"
        "set imap_condstore=yes imap_qresync=yes imap_rfc5161=yes mail_check=1\n"
        'color status default default\nset status_format="%m messages"\n'
    )
    home = {"HOME": str(tmp_path)}
    for rounds in range(2):  # the second time from the cache, by QRESYNC
        with Terminal(["neomutt", "-n", "-F", rc], home) as screen:
            screen.see(f"{40 - rounds} messages")
            if rounds == 0:
                screen.type("5\n")
                screen.see("letter 5")
                screen.type("F")
                screen.type("7\nd")
                screen.type("q")
                eventually(lambda: gone(other, b"letter 7"), "letter 7 is expunged")
            else:
                screen.type("6\n\n")
                screen.see("body 6")
                screen.type("qq")
    assert any(cache.rglob("*"))
    other.ok(b"NOOP")
    [found, _] = other.ok(b'SEARCH FLAGGED SUBJECT "letter 5"')
    assert found == b"* SEARCH 5"
    other.close()


def gone(other: RawClient, subject: bytes) -> bool:
    other.ok(b"NOOP")
    return other.ok(b'SEARCH SUBJECT "%b"' % subject)[0] == b"* SEARCH"


@needs("alpine", "alpine")
def test_alpine_reads_flags_and_saves(server: PostroadServer, tmp_path: Path) -> None:
    other = filled(server, "alp", 12)
    other.ok(b"CREATE kept")
    rc = tmp_path / "pinerc"
    server_name = f"{{127.0.0.1:{server.port('imap')}/user=alp@more.example/notls}}"
    rc.write_text(
        f"inbox-path={server_name}INBOX\npersonal-name=Alp\nuser-domain=more.example\n"
        f"folder-collections=Mail {server_name}[]\nsmtp-server=127.0.0.1\n"
        "feature-list=enable-flag-cmd,expunge-without-confirm,save-will-not-delete,"
        "quit-without-confirm,enable-msg-view-urls,expose-hidden-config\n"
        "last-time-prune-questions=126.12\nlast-version-used=9.99\n"
    )
    keys = ["alpine", "-p", rc, "-i", "-n", "1"]
    with Terminal(keys, {"HOME": str(tmp_path), "USER": "alp"}) as screen:
        screen.see("PASSWORD")
        screen.type(f"{PASSWORD}\r")
        screen.see("Preserve password")
        screen.type("n")
        screen.see("letter 1")
        screen.type("\r")
        screen.see("body 1")
        eventually(lambda: has(other, b"UID 1 SEEN"), "letter 1 is read")
        screen.type("i")
        screen.see("letter 2")
        screen.type("*")
        screen.see("[Ff]lag")
        screen.type("\r")
        eventually(lambda: has(other, b"FLAGGED"), "a message is flagged")
        screen.type("s")
        screen.see("SAVE")
        screen.type("kept\r")
        eventually(lambda: b"MESSAGES 1" in other.ok(b"STATUS kept (MESSAGES)")[0], "a saved copy")
        screen.type("q")
    other.close()


def has(other: RawClient, key: bytes) -> bool:
    other.ok(b"NOOP")
    return other.ok(b"SEARCH " + key)[0] != b"* SEARCH"


@needs("aerc", "aerc")
def test_aerc_reads_flags_and_moves(server: PostroadServer, tmp_path: Path) -> None:
    other = filled(server, "aerc", 15)
    folder = tmp_path / ".config" / "aerc"
    folder.mkdir(parents=True)
    accounts = folder / "accounts.conf"
    accounts.write_text(
        f"[more]\nsource = imap+insecure://aerc%40more.example:{PASSWORD}@127.0.0.1:"
        f"{server.port('imap')}\ndefault = INBOX\nfrom = Aerc <aerc@more.example>\n"
        "cache-headers = true\ncheck-mail = 1s\n"
    )
    accounts.chmod(0o600)
    with Terminal(["aerc"], {"HOME": str(tmp_path)}) as screen:
        screen.see("letter 15")
        time.sleep(1)
        screen.type(":flag -x Flagged\r")
        eventually(lambda: has(other, b"FLAGGED"), "a message is flagged")
        screen.type(":move Archive\r")
        eventually(
            lambda: b"MESSAGES 1" in other.ok(b"STATUS Archive (MESSAGES)")[0], "one is moved"
        )
        other.append(b"INBOX", TEXT % (77, 7, 77, 77))
        screen.see("letter 77")
        screen.type(":search letter 4\r")
        screen.type(":quit\r")
    other.close()
