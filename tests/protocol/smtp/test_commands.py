"""Command lines: what is understood, and the exact reply where it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.mail.address import Address
from postroad.mail.envelope import Body, Recipient
from postroad.mail.errors import ProtocolError
from postroad.protocol.smtp.commands import Auth, Context, Helo, Mail, Noop, Rcpt, parse_command

PLAIN = Context("mx.one.example", extended=True, smtputf8=False)
UTF8 = Context("mx.one.example", extended=True, smtputf8=True)


def refusal(line: bytes, context: Context = PLAIN) -> str:
    """Code and status of the reply."""
    with pytest.raises(ProtocolError) as caught:
        parse_command(line, context)
    assert caught.value.reply is not None
    return f"{caught.value.reply.code} {caught.value.reply.status}"


def test_mail_with_every_parameter() -> None:
    line = "MAIL FROM:<jösé@b.example> SIZE=12 body=8bitmime SMTPUTF8 RET=full ENVID=a+20b AUTH=<>"
    assert parse_command(line.encode(), PLAIN) == Mail(
        reverse_path=Address("jösé", "b.example"),
        size=12,
        body=Body.EIGHT_BIT,
        smtputf8=True,
        ret="FULL",
        envid="a+20b",
        auth="<>",
    )


def test_rcpt_with_every_parameter() -> None:
    line = b"rcpt to:<c@d.example> notify=never ORCPT=rfc822;x+40y"
    assert parse_command(line, PLAIN) == Rcpt(
        Recipient(path=Address("c", "d.example"), notify=frozenset({"NEVER"}), orcpt="rfc822;x+40y")
    )


def test_verbs_in_any_case_and_a_space_behind_the_colon() -> None:
    assert parse_command(b"eHlO c.example", PLAIN) == Helo("c.example", True)
    assert parse_command(b"helo c.example ", PLAIN) == Helo("c.example", False)
    assert parse_command(b"NOOP whatever <> this", PLAIN) == Noop()
    found = parse_command(b"Mail From: <a@b.example>", PLAIN)
    assert isinstance(found, Mail) and found.reverse_path == Address("a", "b.example")
    assert parse_command(b"AUTH plain", PLAIN) == Auth("PLAIN", None)
    assert parse_command(b"AUTH plain =", PLAIN) == Auth("PLAIN", b"=")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", "500 5.5.1"),
        (b" EHLO x", "500 5.5.1"),
        (b"BDAT 10", "500 5.5.1"),
        (b"MAILFROM:<a@b.example>", "500 5.5.1"),
        (b"EHLO", "501 5.5.4"),
        (b"EHLO a b", "501 5.5.4"),
        (b"MAIL", "501 5.5.4"),
        (b"MAIL TO:<a@b.example>", "501 5.5.4"),
        (b"MAIL FROM:a@b.example", "501 5.1.7"),
        (b"MAIL FROM:<a b@c.example>", "501 5.1.7"),
        (b"MAIL FROM:<a@b.example>SIZE=1", "501 5.1.7"),
        (b"MAIL FROM:<a@b.example> SIZE=x", "501 5.5.4"),
        (b"MAIL FROM:<a@b.example> SIZE", "501 5.5.4"),
        (b"MAIL FROM:<a@b.example> SIZE=" + b"9" * 21, "501 5.5.4"),
        (b"MAIL FROM:<a@b.example> SIZE=1 SIZE=2", "501 5.5.4"),
        (b"MAIL FROM:<a@b.example> BODY=BINARYMIME", "501 5.5.4"),
        (b"MAIL FROM:<a@b.example> SMTPUTF8=yes", "501 5.5.4"),
        (b"MAIL FROM:<a@b.example> RET=ALL", "501 5.5.4"),
        (b"MAIL FROM:<a@b.example> ENVID=" + b"x" * 101, "501 5.5.4"),
        (b"MAIL FROM:<a@b.example> FOO=1", "555 5.5.4"),
        (b"MAIL FROM:<a@b.example> =", "501 5.5.4"),
        ("MAIL FROM:<jösé@b.example>".encode(), "553 5.6.7"),
        (b"MAIL FROM:<\xff@b.example>", "500 5.5.2"),
        (b"RCPT TO:<>", "501 5.1.3"),
        (b"RCPT TO:c@d.example", "501 5.1.3"),
        (b"RCPT FROM:<c@d.example>", "501 5.5.4"),
        (b"RCPT TO:<c@d.example> NOTIFY=NEVER,DELAY", "501 5.5.4"),
        (b"RCPT TO:<c@d.example> NOTIFY=", "501 5.5.4"),
        (b"RCPT TO:<c@d.example> NOTIFY=DELAY,DELAY", "501 5.5.4"),
        (b"RCPT TO:<c@d.example> ORCPT=x", "501 5.5.4"),
        (b"RCPT TO:<c@d.example> ORCPT=rfc822;" + b"x" * 500, "501 5.5.4"),
        (b"RCPT TO:<c@d.example> SIZE=1", "555 5.5.4"),
        ("RCPT TO:<jösé@d.example>".encode(), "553 5.6.7"),
        ("RCPT TO:<c@d.example> ORCPT=utf-8;jösé@x".encode(), "553 5.6.7"),
        (b"DATA now", "501 5.5.4"),
        (b"RSET now", "501 5.5.4"),
        (b"QUIT now", "501 5.5.4"),
        (b"STARTTLS now", "501 5.5.4"),
        (b"VRFY", "501 5.5.4"),
        (b"EXPN ", "501 5.5.4"),
        (b"AUTH", "501 5.5.4"),
        (b"AUTH PLAIN a b", "501 5.5.4"),
        (b"AUTH <x>", "501 5.5.4"),
        (b"GET / HTTP/1.0", "421 4.7.0"),
    ],
)
def test_the_fault_is_named(line: bytes, expected: str) -> None:
    assert refusal(line) == expected


def test_parameters_and_auth_need_ehlo() -> None:
    helo = Context("mx.one.example", extended=False, smtputf8=False)
    assert refusal(b"MAIL FROM:<a@b.example> SIZE=1", helo) == "555 5.5.4"
    assert refusal(b"RCPT TO:<a@b.example> NOTIFY=NEVER", helo) == "555 5.5.4"
    assert refusal(b"AUTH PLAIN", helo) == "503 5.5.1"


def test_non_ascii_paths_with_smtputf8() -> None:
    found = parse_command("RCPT TO:<jösé@bücher.example> ORCPT=utf-8;jösé@x".encode(), UTF8)
    assert isinstance(found, Rcpt)
    assert found.recipient.path == Address("jösé", "bücher.example")
    assert found.recipient.orcpt == "utf-8;jösé@x"


WORDS = st.sampled_from(
    [b"MAIL", b"RCPT", b"FROM:", b"TO:", b"<", b">", b"@", b"a", b".", b'"', b"\\", b" ", b"SIZE=",
     b"AUTH", b"EHLO", b"\x00", b"\xff", b"\r", b"\n", b"=", b"1", b"SMTPUTF8", "é".encode(), b"["]
)  # fmt: skip


@given(st.lists(WORDS, max_size=25).map(b"".join), st.sampled_from([PLAIN, UTF8]))
def test_any_line_is_a_command_or_has_its_reply(line: bytes, context: Context) -> None:
    try:
        parse_command(line, context)
    except ProtocolError as error:
        assert error.reply is not None and error.reply.code >= 400
        assert error.reply.render().isascii()
