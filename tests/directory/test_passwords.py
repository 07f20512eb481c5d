"""Passwords: what is kept of one, and that nothing else opens it."""

from __future__ import annotations

import pytest

from postroad.directory.passwords import (
    DECOY_ARGON2,
    decoy_scram,
    hash_password,
    verify_password,
)
from postroad.mail.secret import Secret
from postroad.protocol.sasl import ScramVerifier, derive_verifier


def test_both_verifiers_fit_the_password_and_no_other() -> None:
    made = hash_password(Secret("pass wörd"), argon2_salt=b"a" * 16, scram_salt=b"b" * 16)
    assert "m=19456,t=2,p=1" in made.argon2 and made.argon2.startswith("$argon2id$")
    assert verify_password(Secret(made.argon2), Secret("pass wörd"))
    assert verify_password(Secret(made.argon2), Secret("pass\u00a0wo\u0308rd"))  # RFC 4013 §2
    assert not verify_password(Secret(made.argon2), Secret("pass word"))
    scram = ScramVerifier.parse(made.scram_sha_256)
    assert scram.iterations >= 4096
    assert scram == derive_verifier(Secret("pass wörd"), b"b" * 16, scram.iterations)


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        (b"", "empty"),
        (b"\xff", "UTF-8"),
        (b"a\x07b", "cannot be used"),
        (b"x" * 1025, "longer"),
        ("\u00ad".encode(), "empty"),
    ],
)
def test_passwords_that_are_refused(password: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        hash_password(Secret(password), argon2_salt=b"a" * 16, scram_salt=b"b" * 16)


def test_decoys_and_broken_verifiers_open_for_nobody() -> None:
    for password in (b"", b"\0", b"secret", b"\xff"):
        assert not verify_password(DECOY_ARGON2, Secret(password))
    assert not verify_password(Secret(""), Secret("x"))
    assert not verify_password(Secret("$argon2id$v=19$m=1,t=0,p=0$$"), Secret("x"))
    real = hash_password(Secret("x"), argon2_salt=b"a" * 16, scram_salt=b"b" * 16)
    shape = ScramVerifier.parse(real.scram_sha_256)
    decoy = decoy_scram(b"c" * 32)
    assert (decoy.iterations, len(decoy.salt)) == (shape.iterations, len(shape.salt))
