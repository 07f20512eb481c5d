"""OAUTHBEARER and XOAUTH2: a token from an issuer instead of a password.

Input: hostile octets. Only safe inside TLS; that is the caller's to see to. Whether the token is
good is asked elsewhere; a wrong one is answered by a challenge that says so, which the client
acknowledges before the exchange fails.
Source: RFC 7628 §3.1 (client response), §3.2.2 (server response to failed authentication);
XOAUTH2 as Google and Microsoft document it.
"""

from __future__ import annotations

import json
import re

from postroad.mail.secret import Secret
from postroad.protocol.sasl.mechanism import (
    NAME_OCTETS_MAX,
    Challenge,
    Fault,
    Step,
    TokenClaim,
)

TOKEN_OCTETS_MAX = 8192
"""Tokens of the large issuers have 1 to 3 KB."""

_GS2 = re.compile(rb"(?:n|y|p=[A-Za-z0-9.\-]+),(?:a=(?P<authzid>[^,\x00-\x1f]*))?,\Z")
_AUTH = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +(?P<token>[A-Za-z0-9\-._~+/]+=*)\Z")


class OAuthBearerServer:
    """`respond` gives TokenClaim; `refuse` the challenge for a token that is not good."""

    def __init__(self) -> None:
        self._asked = False
        self._refused = False

    def respond(self, data: bytes | None) -> Step:
        if self._refused:  # whatever the client says to it, the exchange is over
            return Fault("the token is not accepted")
        if data is None and not self._asked:
            self._asked = True
            return Challenge(b"")
        return self._parse(data or b"")

    def refuse(self, configuration: str) -> Challenge:
        """configuration: where the issuer describes itself (RFC 8414), for the client to ask."""
        self._refused = True
        told = {"status": "invalid_token", "schemes": "bearer"}
        if configuration:
            told["openid-configuration"] = configuration
        return Challenge(json.dumps(told).encode())

    def _parse(self, message: bytes) -> TokenClaim | Fault:
        """gs2-header, then `key=value` pairs, each ended by ^A, and a last ^A."""
        parts = message.split(b"\x01")
        header = _GS2.match(parts[0])
        if header is None or len(parts) < 3 or parts[-2:] != [b"", b""]:
            return Fault("OAUTHBEARER: malformed message")
        authzid = (header["authzid"] or b"").replace(b"=2C", b",").replace(b"=3D", b"=")
        return _claim(authzid, parts[1:-2])


class XOAuth2Server(OAuthBearerServer):
    def _parse(self, message: bytes) -> TokenClaim | Fault:
        """`user=...`, `auth=Bearer ...`, each ended by ^A, and a last ^A."""
        parts = message.split(b"\x01")
        if len(parts) < 3 or parts[-2:] != [b"", b""] or not parts[0].startswith(b"user="):
            return Fault("XOAUTH2: malformed message")
        return _claim(parts[0][len(b"user=") :], parts[1:-2])


def _claim(login: bytes, pairs: list[bytes]) -> TokenClaim | Fault:
    values = [pair[len(b"auth=") :] for pair in pairs if pair.startswith(b"auth=")]
    found = _AUTH.match(values[0]) if len(values) == 1 else None
    if found is None:
        return Fault("there is no bearer token in the message")
    if len(login) > NAME_OCTETS_MAX or len(found["token"]) > TOKEN_OCTETS_MAX:
        return Fault("the login or the token is too long")
    try:
        return TokenClaim(login.decode(), Secret(found["token"]))
    except UnicodeDecodeError:
        return Fault("the login is not UTF-8")
