"""Passwords become verifiers: argon2id for those that are sent, SCRAM keys for those that are not.

Pure: salts come from the caller. Everything here takes tens of milliseconds of CPU; call it on a
thread. A password is prepared by SASLprep first, so that the same password typed elsewhere matches.
Source: RFC 9106 §4 (argon2id), RFC 5802 §2.2 and RFC 7677 §4 (SCRAM), RFC 4013 (SASLprep).
"""

from __future__ import annotations

from dataclasses import dataclass

from postroad.mail.secret import Secret
from postroad.protocol.sasl.mechanism import PASSWORD_OCTETS_MAX
from postroad.protocol.sasl.prep import saslprep
from postroad.protocol.sasl.scram import DIGEST_OCTETS, ScramVerifier, derive_verifier

ARGON2_TIME_COST = 2
ARGON2_MEMORY_KIB = 19 * 1024
"""t=2, m=19 MiB, p=1: 20 ms, and a server with 100 logins at once does not run out of memory."""
ARGON2_DIGEST_OCTETS = 32
SALT_OCTETS = 16
SCRAM_ITERATIONS = 20_000
"""Five times the floor of RFC 7677 §4; the client computes them too, telephones included."""

DECOY_ARGON2 = Secret(
    f"$argon2id$v=19$m={ARGON2_MEMORY_KIB},t={ARGON2_TIME_COST},p=1"
    "$c3RyYW5nZXJzLXNhbHQAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)
"""Nobody's: what a stranger's password is checked against, so that it takes as long."""


@dataclass(frozen=True, slots=True)
class Verifiers:
    """argon2: the PHC string. scram_...: `iterations:salt:StoredKey:ServerKey`."""

    argon2: str
    scram_sha_256: str
    scram_sha_1: str


def prepare(password: Secret) -> Secret:
    """The password as it is hashed.

    Raises: ValueError, in words for the person who chose it.
    """
    octets = password.reveal()
    if not octets:
        raise ValueError("the password is empty")
    if len(octets) > PASSWORD_OCTETS_MAX:
        raise ValueError(f"the password is longer than {PASSWORD_OCTETS_MAX} octets")
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        raise ValueError("the password is not UTF-8") from error
    try:
        prepared = saslprep(text)
    except ValueError as error:
        raise ValueError(f"the password cannot be used: {error}") from error
    if not prepared:
        raise ValueError("the password is empty")
    return Secret(prepared)


def hash_password(password: Secret, *, argon2_salt: bytes, scram_salt: bytes) -> Verifiers:
    """All verifiers. The salts are SALT_OCTETS of chance each, never the same twice; both SCRAM
    verifiers may share one, since no output of one hash function helps with the other.

    Raises: ValueError, in words for the person who chose the password.
    """
    from argon2.low_level import Type, hash_secret

    prepared = prepare(password)
    phc = hash_secret(
        prepared.reveal(),
        argon2_salt,
        time_cost=ARGON2_TIME_COST,
        memory_cost=ARGON2_MEMORY_KIB,
        parallelism=1,
        hash_len=ARGON2_DIGEST_OCTETS,
        type=Type.ID,
    )
    scram = [
        derive_verifier(prepared, scram_salt, SCRAM_ITERATIONS, digest).render()
        for digest in ("sha256", "sha1")
    ]
    return Verifiers(phc.decode("ascii"), *scram)


def derive_scram_sha_1(password: Secret, salt: bytes) -> str:
    """The verifier of SCRAM-SHA-1 alone, for an account that has none yet.

    Raises: ValueError.
    """
    return derive_verifier(prepare(password), salt, SCRAM_ITERATIONS, "sha1").render()


def verify_password(argon2: Secret, password: Secret) -> bool:
    """Whether the password is the one the PHC string was made of. A broken string verifies nothing.

    A password that SASLprep refuses was never set; it is still hashed, to take as long.
    """
    from argon2.exceptions import Argon2Error, InvalidHash
    from argon2.low_level import Type, verify_secret

    try:
        octets = prepare(password).reveal()
    except ValueError:
        octets = b""
    try:
        return verify_secret(argon2.reveal(), octets, Type.ID) and bool(octets)
    except (Argon2Error, InvalidHash):
        return False


def decoy_scram(salt: bytes, digest: str = "sha256") -> ScramVerifier:
    """A verifier nobody's password fits, of the shape every account has."""
    nothing = bytes(DIGEST_OCTETS[digest])
    return ScramVerifier(SCRAM_ITERATIONS, salt[:SALT_OCTETS], nothing, nothing)
