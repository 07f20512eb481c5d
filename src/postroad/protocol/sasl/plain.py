"""PLAIN: authorization identity, login and password in one message.

Input: hostile octets. Only safe inside TLS; that is the caller's to see to.
Source: RFC 4616 §2.
"""

from __future__ import annotations

from postroad.mail.secret import Secret
from postroad.protocol.sasl.mechanism import (
    NAME_OCTETS_MAX,
    PASSWORD_OCTETS_MAX,
    Challenge,
    Fault,
    PasswordClaim,
    Step,
)


class PlainServer:
    def __init__(self) -> None:
        self._asked = False

    def respond(self, data: bytes | None) -> Step:
        if data is None and not self._asked:
            self._asked = True
            return Challenge(b"")
        return parse_plain(data or b"")


class PlainClient:
    """One message, which may go as the initial response."""

    name = "PLAIN"

    def __init__(self, login: str, password: Secret, authzid: str = "") -> None:
        self._message = b"\0".join((authzid.encode(), login.encode(), password.reveal()))

    def initial(self) -> bytes:
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        return self._message


def parse_plain(message: bytes) -> PasswordClaim | Fault:
    """`[authzid] NUL authcid NUL passwd`, UTF-8."""
    parts = message.split(b"\0")
    if len(parts) != 3:
        return Fault("PLAIN: the message does not have three parts")
    authzid, login, password = parts
    if not login or not password:
        return Fault("PLAIN: login or password is empty")
    if max(len(authzid), len(login)) > NAME_OCTETS_MAX or len(password) > PASSWORD_OCTETS_MAX:
        return Fault("PLAIN: login or password is too long")
    try:
        password.decode()
        return PasswordClaim(login.decode(), authzid.decode(), Secret(password))
    except UnicodeDecodeError:
        return Fault("PLAIN: not UTF-8")
