"""SCRAM with SHA-256 and SHA-1, with and without channel binding: proof of a password that never
travels.

Knows no directory and no dice: nonces, salts, verifiers and channel binding data are handed in.
Input: hostile octets. Channel binding is tls-server-end-point only: tls-unique is undefined in
TLS 1.3.
Source: RFC 5802 §3, §5, §7 (SHA-1), RFC 7677 §3 (SHA-256), RFC 5929 §4. Errors of the
server are not sent as `e=` (RFC 5802 §7 lets it simply fail), the carrying protocol says that login
failed.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64encode
from dataclasses import dataclass, field
from enum import Enum

from postroad.mail.secret import Secret
from postroad.protocol.sasl.mechanism import (
    NAME_OCTETS_MAX,
    Challenge,
    Fault,
    Proven,
    Step,
    VerifierWanted,
)
from postroad.protocol.sasl.prep import saslprep

ITERATIONS_MIN = 4096  # RFC 7677 §4
ITERATIONS_MAX = 2_000_000
"""What our client computes for a server: about a second."""
CHANNEL_BINDING_TYPE = b"tls-server-end-point"

DIGEST_OCTETS = {"sha256": 32, "sha1": 20}
"""Of the hash functions in use, by hashlib's name. SHA-1 is for old clients (RFC 5802 §4)."""
_PRINTABLE = rb"[\x21-\x2b\x2d-\x7e]+"  # RFC 5802 §7: printable, no comma
_CLIENT_FIRST = re.compile(
    rb"(?P<gs2>(?P<flag>n|y|p=(?P<cb>[A-Za-z0-9.\-]+)),(?:a=(?P<authzid>[^,\0]+))?,)"
    rb"(?P<bare>n=(?P<name>[^,\0]+),r=(?P<nonce>" + _PRINTABLE + rb")(?:,[A-Za-z]=[^,\0]+)*)\Z"
)
_CLIENT_FINAL = re.compile(
    rb"(?P<without>c=(?P<binding>[A-Za-z0-9/+=]+),r=(?P<nonce>"
    + _PRINTABLE
    + rb")(?:,[A-Za-z]=[^,\0]+)*?),p=(?P<proof>[A-Za-z0-9/+=]+)\Z"
)
_SERVER_FIRST = re.compile(
    rb"r=(?P<nonce>" + _PRINTABLE + rb"),s=(?P<salt>[A-Za-z0-9/+=]+),i=(?P<count>[1-9]\d{0,8})"
    rb"(?:,[A-Za-z]=[^,\0]+)*\Z"
)


@dataclass(frozen=True, slots=True)
class ScramVerifier:
    """What the server keeps instead of the password."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def render(self) -> str:
        """`iterations:salt:StoredKey:ServerKey`, the last three in base64."""
        parts = (b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key))
        return ":".join((str(self.iterations), *parts))

    @classmethod
    def parse(cls, text: str, digest: str = "sha256") -> ScramVerifier:
        """Raises: ValueError."""
        count, salt, stored, server = text.split(":")
        verifier = cls(int(count), _unbase64(salt), _unbase64(stored), _unbase64(server))
        lengths = {len(verifier.stored_key), len(verifier.server_key)}
        if verifier.iterations < 1 or not verifier.salt or lengths != {DIGEST_OCTETS[digest]}:
            raise ValueError(f"not a SCRAM verifier of {digest}")
        return verifier


def derive_verifier(
    password: Secret, salt: bytes, iterations: int, digest: str = "sha256"
) -> ScramVerifier:
    """Costs `iterations` HMACs. Raises: ValueError for a password SASLprep refuses."""
    salted = _salted(password, salt, iterations, digest)
    return ScramVerifier(
        iterations,
        salt,
        hashlib.new(digest, hmac.digest(salted, b"Client Key", digest)).digest(),
        hmac.digest(salted, b"Server Key", digest),
    )


class _State(Enum):
    FIRST = "first"
    VERIFIER = "verifier"
    FINAL = "final"
    OVER = "over"


class ScramServer:
    """One exchange. `respond(client-first)` gives VerifierWanted; `provide(verifier)` gives the
    challenge; `respond(client-final)` gives Proven or Fault.

    nonce: ours, printable, without comma, unguessable.
    channel_binding: tls-server-end-point data; required for PLUS.
    digest: the hash function, as in DIGEST_OCTETS.
    plus: the mechanism is the one with -PLUS. plus_offered: the client was offered it, so one
    that believes we cannot (`y`) met someone in the middle (RFC 5802 §6).
    """

    def __init__(
        self,
        *,
        nonce: bytes,
        digest: str = "sha256",
        plus: bool = False,
        plus_offered: bool = False,
        channel_binding: bytes | None = None,
    ) -> None:
        if plus and channel_binding is None:
            raise ValueError("SCRAM with PLUS needs channel binding data")
        self._digest = digest
        self._nonce = nonce
        self._plus = plus
        self._plus_offered = plus_offered
        self._channel_binding = channel_binding or b""
        self._state = _State.FIRST
        self._asked = False
        self._login = ""
        self._gs2 = b""
        self._first_bare = b""
        self._full_nonce = b""
        self._server_first = b""
        self._verifier: ScramVerifier | None = None

    def respond(self, data: bytes | None) -> Step:
        match self._state:
            case _State.FIRST if data is None and not self._asked:
                self._asked = True
                return Challenge(b"")
            case _State.FIRST:
                step = self._first(data or b"")
            case _State.FINAL:
                step = self._final(data or b"")
            case _:
                step = Fault("SCRAM: a message out of order")
        if isinstance(step, Fault | Proven):
            self._state = _State.OVER
        return step

    def provide(self, verifier: ScramVerifier) -> Challenge:
        """The verifier of the login that `VerifierWanted` named."""
        assert self._state is _State.VERIFIER, "provide() follows VerifierWanted"
        self._verifier = verifier
        self._state = _State.FINAL
        self._server_first = b"r=%b,s=%b,i=%d" % (
            self._full_nonce,
            b64encode(verifier.salt),
            verifier.iterations,
        )
        return Challenge(self._server_first)

    def _first(self, message: bytes) -> Step:
        found = _CLIENT_FIRST.match(message)
        if found is None:
            return Fault("SCRAM: malformed first message")
        if fault := self._binding_fault(found["flag"], found["cb"]):
            return Fault(f"SCRAM: {fault}")
        try:
            login = _saslname(found["name"])
            authzid = _saslname(found["authzid"] or b"")
        except ValueError:
            return Fault("SCRAM: malformed name")
        self._login = login
        self._gs2 = found["gs2"]
        self._first_bare = found["bare"]
        self._full_nonce = found["nonce"] + self._nonce
        self._state = _State.VERIFIER
        return VerifierWanted(login, authzid)

    def _binding_fault(self, flag: bytes, kind: bytes | None) -> str | None:
        if self._plus:
            if kind is None:
                return "PLUS without channel binding"
            if kind != CHANNEL_BINDING_TYPE:
                return "unsupported channel binding type"
            return None
        if kind is not None:
            return "channel binding without PLUS"
        if flag == b"y" and self._plus_offered:
            return "the client did not see the offer of channel binding"
        return None

    def _final(self, message: bytes) -> Step:
        verifier = self._verifier
        assert verifier is not None
        found = _CLIENT_FINAL.match(message)
        if found is None:
            return Fault("SCRAM: malformed final message")
        if not hmac.compare_digest(found["nonce"], self._full_nonce):
            return Fault("SCRAM: the nonce differs")
        try:
            binding = _unbase64(found["binding"])
            proof = _unbase64(found["proof"])
        except ValueError:
            return Fault("SCRAM: malformed base64")
        expected = self._gs2 + (self._channel_binding if self._plus else b"")
        if not hmac.compare_digest(binding, expected):
            return Fault("SCRAM: the channel binding differs")
        digest = self._digest
        if len(proof) != DIGEST_OCTETS[digest]:
            return Fault("SCRAM: the proof has a wrong length")
        auth = b",".join((self._first_bare, self._server_first, found["without"]))
        client_key = _xor(proof, hmac.digest(verifier.stored_key, auth, digest))
        if not hmac.compare_digest(hashlib.new(digest, client_key).digest(), verifier.stored_key):
            return Fault("SCRAM: the proof is wrong")
        signature = hmac.digest(verifier.server_key, auth, digest)
        return Proven(self._login, b"v=" + b64encode(signature))


class ScramClient:
    """One exchange of a client: `initial`, then `respond` to each challenge.

    `server_proven` is true once the server has shown that it knows the password too; a success
    without that is not one.
    """

    def __init__(
        self,
        login: str,
        password: Secret,
        *,
        nonce: bytes,
        channel_binding: bytes | None = None,
        digest: str = "sha256",
    ) -> None:
        """channel_binding: makes it the mechanism with -PLUS. digest: as in DIGEST_OCTETS."""
        self.name = {"sha256": "SCRAM-SHA-256", "sha1": "SCRAM-SHA-1"}[digest]
        if channel_binding is not None:
            self.name += "-PLUS"
        self._digest = digest
        self.server_proven = False
        self._password = password
        self._nonce = nonce
        self._gs2 = b"n,," if channel_binding is None else b"p=" + CHANNEL_BINDING_TYPE + b",,"
        self._binding = self._gs2 + (channel_binding or b"")
        name = saslprep(login).encode().replace(b"=", b"=3D").replace(b",", b"=2C")
        self._first_bare = b"n=" + name + b",r=" + nonce
        self._server_final: bytes | None = None

    def initial(self) -> bytes:
        return self._gs2 + self._first_bare

    def respond(self, challenge: bytes) -> bytes:
        """Raises: ValueError when the server breaks the protocol or does not know the password."""
        if self._server_final is None:
            if not challenge:  # the server did not take an initial response
                return self.initial()
            return self._final(challenge)
        if self.server_proven or not hmac.compare_digest(challenge, self._server_final):
            raise ValueError("SCRAM: the server did not prove that it knows the password")
        self.server_proven = True
        return b""

    def _final(self, server_first: bytes) -> bytes:
        found = _SERVER_FIRST.match(server_first)
        if found is None:
            raise ValueError("SCRAM: malformed challenge")
        nonce, count = found["nonce"], int(found["count"])
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ValueError("SCRAM: the server changed our nonce")
        if not ITERATIONS_MIN <= count <= ITERATIONS_MAX:
            raise ValueError(f"SCRAM: the server asks for {count} iterations")
        digest = self._digest
        salted = _salted(self._password, _unbase64(found["salt"]), count, digest)
        client_key = hmac.digest(salted, b"Client Key", digest)
        without = b"c=" + b64encode(self._binding) + b",r=" + nonce
        auth = b",".join((self._first_bare, server_first, without))
        stored_key = hashlib.new(digest, client_key).digest()
        server_key = hmac.digest(salted, b"Server Key", digest)
        self._server_final = b"v=" + b64encode(hmac.digest(server_key, auth, digest))
        proof = _xor(client_key, hmac.digest(stored_key, auth, digest))
        return without + b",p=" + b64encode(proof)


def _salted(password: Secret, salt: bytes, iterations: int, digest: str) -> bytes:
    prepared = saslprep(password.reveal().decode()).encode()
    return hashlib.pbkdf2_hmac(digest, prepared, salt, iterations)


def _xor(left: bytes, right: bytes) -> bytes:
    number = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return number.to_bytes(len(left), "big")


def _unbase64(text: bytes | str) -> bytes:
    """Raises: ValueError (binascii.Error is one)."""
    return binascii.a2b_base64(text, strict_mode=True)


def _saslname(octets: bytes) -> str:
    """`=2C` and `=3D` decoded. Raises: ValueError for another `=` or broken UTF-8."""
    if len(octets) > NAME_OCTETS_MAX or re.search(rb"=(?!2C|3D)", octets):
        raise ValueError("malformed saslname")
    return octets.replace(b"=2C", b",").replace(b"=3D", b"=").decode()
