"""LOGIN: name and password in two messages. Never standardised, and still what many clients speak.

Input: hostile octets. Only safe inside TLS; that is the caller's to see to.
Source: draft-murchison-sasl-login-00 §2 (the prompts clients expect: `Username:`, `Password:`).
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


class LoginServer:
    def __init__(self) -> None:
        self._asked = False
        self._login: str | None = None

    def respond(self, data: bytes | None) -> Step:
        if data is None and not self._asked:
            self._asked = True
            return Challenge(b"Username:")
        octets = data or b""
        try:
            text = octets.decode()
        except UnicodeDecodeError:
            return Fault("LOGIN: not UTF-8")
        if self._login is None:
            self._asked = True
            if not text or len(octets) > NAME_OCTETS_MAX or "\0" in text:
                return Fault("LOGIN: the name is empty or malformed")
            self._login = text
            return Challenge(b"Password:")
        if not text or len(octets) > PASSWORD_OCTETS_MAX or "\0" in text:
            return Fault("LOGIN: the password is empty or malformed")
        return PasswordClaim(self._login, "", Secret(octets))


class LoginClient:
    """Answers the first prompt with the name, the second with the password."""

    name = "LOGIN"

    def __init__(self, login: str, password: Secret) -> None:
        self._answers = [login.encode(), password.reveal()]

    def initial(self) -> None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        """Raises: ValueError when the server asks a third time."""
        if not self._answers:
            raise ValueError("LOGIN: the server asked for more than a name and a password")
        return self._answers.pop(0)
