"""Debian's postfix as a peer, in both directions, through the lab's DNS.

postfix asks the system's resolver; it is started in a mount namespace of its own whose
/etc/resolv.conf names the lab's DNS (this needs root, as postfix's master itself does).
"""

from __future__ import annotations

import os
import smtplib
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.peers import Postfix
from postroad.lab.process import PostroadServer, free_offset
from support.mail import with_attachment
from support.programs import needs
from support.world import World, world

pytestmark = [
    pytest.mark.interop,
    needs("postfix", "postfix"),
    needs("unshare", "util-linux"),
    pytest.mark.skipif(os.geteuid() != 0, reason="postfix's master needs root"),
    pytest.mark.timeout(240),
]

OURS, THEIRS = "127.0.0.2", "127.0.0.3"


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def public_directory() -> Iterator[Path]:
    """A directory that postfix's own user may enter; pytest's are closed to others."""
    with tempfile.TemporaryDirectory(prefix="postroad-postfix-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def pair(public_directory: Path) -> Iterator[tuple[World, PostroadServer, Path]]:
    directory = public_directory
    offset = free_offset(OURS, THEIRS)
    port = offset + 25
    with world(directory / "ours", dns_address="127.0.0.53", dns_port=53) as made:
        made.dns.add("x.example", "MX", "10 mx.x.example")
        made.dns.add("mx.x.example", "A", OURS)
        made.dns.add("pf.example", "MX", "10 mx.pf.example")
        made.dns.add("mx.pf.example", "A", THEIRS)
        server = made.server("x.example", address=OURS, offset=offset, delivery_port=port)
        server.add_account("ann@x.example", "ann secret")
        server.start()
        mail = directory / "maildirs"
        mail.mkdir()
        os.chmod(mail, 0o777)
        peer = directory / "peer"
        resolv = directory / "resolv.conf"
        resolv.write_text("nameserver 127.0.0.53\n")
        (directory / "users").write_text("bob@pf.example bob/\n")
        postfix = Postfix(
            peer, port=port, domains=["pf.example"], address=THEIRS,
            extra=f"""\
smtp_tcp_port = {port}
smtp_tls_security_level = may
smtp_dns_support_level = enabled
smtp_host_lookup = dns
disable_dns_lookups = no
virtual_transport = virtual
virtual_mailbox_base = {mail}
virtual_mailbox_maps = texthash:{directory}/users
virtual_minimum_uid = 1
virtual_uid_maps = static:8
virtual_gid_maps = static:8
append_dot_mydomain = no
minimal_backoff_time = 5s
queue_run_delay = 5s
""",
        )  # fmt: skip
        script = f'mount --bind {resolv} /etc/resolv.conf && exec "$@"'
        postfix.start(wrap=["unshare", "-m", "sh", "-c", script, "sh"])
        try:
            yield made, server, mail
        finally:
            postfix.stop()
            assert server.stop() == 0, server.log_end()


def submit(server: PostroadServer, to: str, octets: bytes) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP_SSL(OURS, server.port("submissions"), context=context, timeout=30) as client:
        client.login("ann@x.example", "ann secret")
        client.sendmail("ann@x.example", [to], octets)


def inbox(server: PostroadServer) -> list[bytes]:
    import imaplib

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with imaplib.IMAP4_SSL(OURS, server.port("imaps"), ssl_context=context, timeout=30) as client:
        client.login("ann@x.example", "ann secret")
        client.select("INBOX", readonly=True)
        _, data = client.fetch("1:*", "(BODY.PEEK[])")
        return [item[1] for item in data if isinstance(item, tuple)]


def test_to_postfix(pair: tuple[World, PostroadServer, Path]) -> None:
    _, server, mail = pair
    octets = with_attachment("to-postfix")
    submit(server, "bob@pf.example", octets)
    until(lambda: list(mail.glob("bob/new/*")), "postfix delivers to bob's Maildir")
    got = next(mail.glob("bob/new/*")).read_bytes()
    assert got.endswith(octets.replace(b"\r\n", b"\n"))
    assert got.count(b"DKIM-Signature:") == 2


def test_from_postfix(pair: tuple[World, PostroadServer, Path]) -> None:
    _, server, _mail = pair
    port = server.port("smtp")
    octets = with_attachment("from-postfix")
    with smtplib.SMTP(THEIRS, port, timeout=30) as client:
        client.sendmail("bob@pf.example", ["ann@x.example"], octets)
    until(lambda: any(b"from-postfix" in mail for mail in inbox(server)), "ann's inbox has it")
    got = next(mail for mail in inbox(server) if b"from-postfix" in mail)
    assert got.endswith(octets)
    assert b"Authentication-Results: " in got


def test_unknown_user_at_postfix_comes_back_as_a_dsn(
    pair: tuple[World, PostroadServer, Path],
) -> None:
    _, server, _ = pair
    submit(server, "nobody@pf.example", with_attachment("bounce-ours"))
    until(lambda: any(b"multipart/report" in mail for mail in inbox(server)), "a DSN")
    report = next(mail for mail in inbox(server) if b"multipart/report" in mail)
    assert b"Action: failed" in report and b"nobody@pf.example" in report
    assert b"Status: 5.1.1" in report


def test_unknown_user_at_ours_is_bounced_by_postfix(
    pair: tuple[World, PostroadServer, Path],
) -> None:
    _, server, mail = pair
    port = server.port("smtp")
    with smtplib.SMTP(THEIRS, port, timeout=30) as client:
        client.sendmail(
            "bob@pf.example", ["nobody@x.example"], with_attachment("bounce-theirs")
        )  # fmt: skip

    def report() -> bytes:
        for file in mail.glob("bob/new/*"):
            octets = file.read_bytes()
            if b"Undelivered Mail" in octets:
                return octets
        return b""

    until(report, "postfix's bounce in bob's Maildir")
    assert b"550 5.1.1" in report()
