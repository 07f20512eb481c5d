"""Small real messages for tests, all with CRLF."""

from __future__ import annotations

import hashlib
from email.message import EmailMessage
from email.policy import SMTP


def plain(token: str, *, size: int = 0, to: str = "bob@x.example") -> bytes:
    """A text message with a token to find it by, padded to about `size` octets."""
    head = (
        "From: Ann Example <ann@elsewhere.example>\r\n"
        f"To: <{to}>\r\n"
        f"Subject: test {token}\r\n"
        "Date: Mon, 02 Nov 2026 10:00:00 +0000\r\n"
        f"Message-ID: <{token}@elsewhere.example>\r\n"
        "\r\n"
        f"token {token}\r\n"
    ).encode()
    line = b"The quick brown fox jumps over the lazy dog, once more. 0123456789\r\n"
    missing = max(0, size - len(head))
    return head + line * (missing // len(line))


def with_attachment(token: str) -> bytes:
    """multipart/mixed with an alternative inside and a binary attachment."""
    message = EmailMessage(policy=SMTP)
    message["From"] = "Ann Example <ann@x.example>"
    message["To"] = "Bob <bob@x.example>"
    message["Subject"] = f"grüße {token}"
    message["Message-ID"] = f"<{token}@x.example>"
    message["Date"] = "Mon, 02 Nov 2026 10:00:00 +0000"
    message.set_content(f"plain {token}\n")
    message.add_alternative(f"<p>html <b>{token}</b></p>\n", subtype="html")
    octets = hashlib.sha512(token.encode()).digest() * 64
    message.add_attachment(
        octets, maintype="application", subtype="octet-stream", filename="data.bin"
    )
    return message.as_bytes()
