"""fetchmail empties a mailbox by POP3 and by IMAP and loses no octet."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest

from postroad.lab.process import PostroadServer
from support.mail import plain
from support.programs import needs, run

pytestmark = [pytest.mark.interop, needs("fetchmail", "fetchmail")]


@pytest.mark.parametrize(
    ("protocol", "port", "tls"),
    [
        ("pop3", "pop3s", "ssl"),
        ("pop3", "pop3", 'sslproto "tls1.2+"'),
        ("imap", "imaps", "ssl"),
        ("imap", "imap", 'sslproto "tls1.2+"'),
    ],
)
def test_fetchmail(
    server: PostroadServer, tmp_path: Path, protocol: str, port: str, tls: str
) -> None:
    user = f"fetch-{port}@x.example"
    server.add_account(user, "fetch secret")
    with smtplib.SMTP("127.0.0.1", server.port("smtp"), timeout=30) as client:
        for number in range(5):
            client.sendmail("out@elsewhere.example", [user], plain(f"fetch-{number}", to=user))
    mails = tmp_path / "mails"
    mails.mkdir()
    keep = tmp_path / "keep"
    keep.write_text(f"#!/bin/sh\nexec cat > {mails}/$$.eml\n")
    keep.chmod(0o755)
    rc = tmp_path / "rc"
    rc.write_text(
        f"poll 127.0.0.1 protocol {protocol} port {server.port(port)}\n"
        f'  user "{user}" password "fetch secret" {tls} no sslcertck\n'
        f"  no rewrite keep\n"
        f'  mda "{keep}"\n'
    )
    rc.chmod(0o600)
    home = {"FETCHMAILHOME": str(tmp_path), "HOME": str(tmp_path)}
    run(["fetchmail", "-f", rc, "--nodetach", "--nosyslog", "--all"], env=home)
    got = [file.read_bytes().replace(b"\r\n", b"\n") for file in mails.iterdir()]
    assert len(got) == 5
    for number in range(5):
        body = plain(f"fetch-{number}", to=user).replace(b"\r\n", b"\n")
        assert sum(octets.endswith(body[body.index(b"\n\n") :]) for octets in got) == 1

    rc.write_text(rc.read_text().replace(" keep\n", " no keep\n"))
    run(["fetchmail", "-f", rc, "--nodetach", "--nosyslog", "--all"], env=home)
    again = run(["fetchmail", "-f", rc, "--nodetach", "--nosyslog", "--all"], env=home, expect=1)
    assert b"No mail" in again.stdout  # exit 1: nothing left
