"""What a server mechanism says after each message of the client.

Source: RFC 4422 §3 (the exchange), §3.4.1 (authorization identity).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from postroad.mail.secret import Secret

NAME_OCTETS_MAX = 512
"""Of an authentication or authorization identity: an address has at most 320."""
PASSWORD_OCTETS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send these octets and feed the answer."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class PasswordClaim:
    """The client says who it is and gives the password: the end, if it is right.

    authzid: who it wants to act as; "" is the login itself.
    """

    login: str
    authzid: str
    password: Secret


@dataclass(frozen=True, slots=True)
class TokenClaim:
    """The client shows a token of an issuer. login: as whom; "" is whoever the token names."""

    login: str
    token: Secret


@dataclass(frozen=True, slots=True)
class IdentityClaim:
    """The connection says who the client is. authzid: as whom; "" is that identity itself."""

    authzid: str


@dataclass(frozen=True, slots=True)
class VerifierWanted:
    """SCRAM named its user: call `provide` with the verifier (a made-up one for a stranger)."""

    login: str
    authzid: str


@dataclass(frozen=True, slots=True)
class Proven:
    """SCRAM's proof holds. octets: the server's own proof, which the client must still see."""

    login: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """The exchange is over and failed: malformed, or a wrong proof. reason is for the trace."""

    reason: str


Step: TypeAlias = (
    Challenge | PasswordClaim | TokenClaim | IdentityClaim | VerifierWanted | Proven | Fault
)


class ServerMechanism(Protocol):
    def respond(self, data: bytes | None) -> Step:
        """data: None when the client began without an initial response."""
        ...
