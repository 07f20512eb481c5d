"""A client that sends one message by SMTP, with the envelope the caller wants.

It is Python's smtplib, so that our servers meet a client that is not ours.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

from postroad.mail.reply import Reply
from postroad.mail.secret import Secret

TIMEOUT_S = 30.0


class Security(Enum):
    """How TLS comes up, if it does."""

    NONE = "plaintext"
    STARTTLS = "STARTTLS"
    IMPLICIT = "implicit TLS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How a message fared.

    reply: to the final dot; or the one that ended the transaction before.
    refused: forward-paths that were not accepted, with their replies.
    """

    reply: Reply
    refused: Mapping[str, Reply] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        return self.reply.code == 250


def _reply(code: int, text: bytes | str) -> Reply:
    lines = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return Reply.parse(code if 200 <= code <= 599 else 554, tuple(lines.split("\n")))


def send(
    address: str,
    port: int,
    octets: bytes,
    *,
    reverse_path: str,
    forward_paths: Sequence[str],
    mail_options: Sequence[str] = (),
    rcpt_options: Sequence[str] = (),
    helo: str = "client.example",
    security: Security = Security.NONE,
    login: tuple[str, Secret | str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Sent:
    """Sends `octets` as they are (with dots stuffed, CRLF at the end added where it is missing).

    reverse_path: "" is the null reverse-path. login: any certificate is taken; this is a lab.

    Raises: OSError and smtplib.SMTPException when there is no transaction to speak of
    (connection, greeting, TLS or login failed).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client: smtplib.SMTP
    if security is Security.IMPLICIT:
        client = smtplib.SMTP_SSL(
            address, port, local_hostname=helo, timeout=timeout_s, context=context
        )
    else:
        client = smtplib.SMTP(address, port, local_hostname=helo, timeout=timeout_s)
    with client:
        if security is Security.STARTTLS:
            client.starttls(context=context)
        client.ehlo_or_helo_if_needed()
        if login is not None:
            password = login[1]
            text = password.reveal().decode() if isinstance(password, Secret) else password
            client.login(login[0], text)
        return _transact(client, octets, reverse_path, forward_paths, mail_options, rcpt_options)


def _transact(
    client: smtplib.SMTP,
    octets: bytes,
    reverse_path: str,
    forward_paths: Sequence[str],
    mail_options: Sequence[str],
    rcpt_options: Sequence[str],
) -> Sent:
    if not all(path.isascii() for path in (reverse_path, *forward_paths)):
        client.command_encoding = "utf-8"
    reply = _reply(*client.mail(reverse_path, list(mail_options)))
    if not reply.is_positive:
        return Sent(reply=reply)
    refused: dict[str, Reply] = {}
    for path in forward_paths:
        reply = _reply(*client.rcpt(path, list(rcpt_options)))
        if not reply.is_positive:
            refused[path] = reply
    if len(refused) == len(forward_paths):
        client.rset()
        return Sent(reply=reply, refused=refused)
    try:
        code, text = client.data(octets)
    except smtplib.SMTPDataError as error:
        code, text = error.smtp_code, cast(bytes, error.smtp_error)
    return Sent(reply=_reply(code, text), refused=refused)


async def send_async(
    address: str,
    port: int,
    octets: bytes,
    *,
    reverse_path: str,
    forward_paths: Sequence[str],
    mail_options: Sequence[str] = (),
    rcpt_options: Sequence[str] = (),
    helo: str = "client.example",
    security: Security = Security.NONE,
    login: tuple[str, Secret | str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Sent:
    """`send` in a thread."""
    return await asyncio.to_thread(
        send,
        address,
        port,
        octets,
        reverse_path=reverse_path,
        forward_paths=forward_paths,
        mail_options=mail_options,
        rcpt_options=rcpt_options,
        helo=helo,
        security=security,
        login=login,
        timeout_s=timeout_s,
    )
