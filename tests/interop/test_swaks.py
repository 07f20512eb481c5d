"""swaks: submission with each way in, delivery from outside, and every refusal it should meet."""

from __future__ import annotations

import imaplib
import ssl

import pytest

from postroad.lab.process import PostroadServer
from support.programs import needs, run

pytestmark = [pytest.mark.interop, needs("swaks", "swaks")]

NO_AUTH, RCPT_REFUSED, MAIL_REFUSED, AUTH_REFUSED = 28, 24, 23, 28
"""swaks' exit codes."""


def subjects(server: PostroadServer, user: str, password: str) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with imaplib.IMAP4_SSL("127.0.0.1", server.port("imaps"), ssl_context=context) as client:
        client.login(user, password)
        client.select("INBOX", readonly=True)
        _, data = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        return b"".join(item[1] for item in data if isinstance(item, tuple))


def swaks(server: PostroadServer, port: str, *arguments: str, expect: int = 0) -> bytes:
    at = f"127.0.0.1:{server.port(port)}"
    done = run(["swaks", "--server", at, "--helo", "client.example", *arguments], expect=expect)
    return done.stdout


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(("port", "tls"), [("submission", "-tls"), ("submissions", "-tlsc")])
def test_submission(server: PostroadServer, mechanism: str, port: str, tls: str) -> None:
    subject = f"swaks {mechanism} {port}"
    swaks(
        server, port, tls, "--auth", mechanism, "--auth-user", "ann@x.example",
        "--auth-password", "ann secret", "--from", "ann@x.example", "--to", "bob@x.example",
        "--header", f"Subject: {subject}",
    )  # fmt: skip
    assert subject.encode() in subjects(server, "bob@x.example", "bob secret")


def test_delivery_from_outside_with_starttls(server: PostroadServer) -> None:
    swaks(
        server, "smtp", "-tls", "--from", "someone@elsewhere.example", "--to", "bob@x.example",
        "--header", "Subject: from outside",
    )  # fmt: skip
    assert b"from outside" in subjects(server, "bob@x.example", "bob secret")


def test_relay_is_refused(server: PostroadServer) -> None:
    said = swaks(
        server, "smtp", "--from", "ann@x.example", "--to", "victim@far.example",
        expect=RCPT_REFUSED,
    )  # fmt: skip
    assert b"550 5.7.1" in said


def test_unknown_recipient_is_refused_at_rcpt(server: PostroadServer) -> None:
    said = swaks(server, "smtp", "--to", "nobody@x.example", expect=RCPT_REFUSED)
    assert b"550 5.1.1" in said


def test_submission_without_login_is_refused(server: PostroadServer) -> None:
    said = swaks(server, "submission", "-tls", "--to", "bob@x.example", expect=MAIL_REFUSED)
    assert b"530 5.7.0" in said


def test_another_sender_is_refused(server: PostroadServer) -> None:
    said = swaks(
        server, "submissions", "-tlsc", "--auth", "PLAIN", "--auth-user", "ann@x.example",
        "--auth-password", "ann secret", "--from", "bob@x.example", "--to", "bob@x.example",
        expect=MAIL_REFUSED,
    )  # fmt: skip
    assert b"550 5.7.1" in said


def test_wrong_password(server: PostroadServer) -> None:
    said = swaks(
        server, "submissions", "-tlsc", "--auth", "PLAIN", "--auth-user", "ann@x.example",
        "--auth-password", "wrong", "--from", "ann@x.example", "--to", "bob@x.example",
        expect=AUTH_REFUSED,
    )  # fmt: skip
    assert b"535 5.7.8" in said


def test_oversize_is_refused_by_size(server: PostroadServer) -> None:
    said = run(
        ["swaks", "--server", f"127.0.0.1:{server.port('smtp')}", "--to", "bob@x.example"]
        + ["--quit-after", "EHLO"]
    ).stdout
    assert b"SIZE " in said and b"PIPELINING" in said and b"SMTPUTF8" in said
