"""DKIM keys: ours to sign with, and the records that others publish.

Private keys come from our own directory and are trusted; key records are hostile octets.
Source: RFC 6376 §3.6.1 (key records), RFC 8301 §3 (sizes), RFC 8463 §4 (Ed25519 keys).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from postroad.mailauth.tags import items, parse_tags, without_space

RSA_SHA256 = "rsa-sha256"
ED25519_SHA256 = "ed25519-sha256"

RSA_BITS_MIN = 1024
"""RFC 8301 §3.2: shorter keys MUST NOT be considered valid."""
RSA_BITS_MAX = 8192
"""RFC 8301 §3.2 asks for 4096; past this a key only costs time."""
RSA_EXPONENT_BITS_MAX = 64
"""A long exponent makes verifying as slow as signing."""
RSA_BITS_OURS = 2048
RECORD_OCTETS_MAX = 8192
"""Of a key record: four times what an RSA key of 8192 bits takes."""
PRIVATE_KEYS_CACHED_MAX = 4096
PUBLIC_KEYS_CACHED_MAX = 1024

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey: TypeAlias = rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_DIGEST = Prehashed(SHA256())
_PADDING = padding.PKCS1v15()


@dataclass(frozen=True, slots=True, kw_only=True)
class DKIMSigner:
    """A private key ready to sign for `domain` (A-labels). Made by `load_key`."""

    domain: str
    selector: str
    algorithm: str
    key: PrivateKey = field(repr=False)

    def sign(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest. RFC 8463 §3: Ed25519 signs the digest's octets."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(digest, _PADDING, _DIGEST)
        return self.key.sign(digest)


@lru_cache(maxsize=PRIVATE_KEYS_CACHED_MAX)
def load_key(pem: bytes, *, domain: str, selector: str, algorithm: str) -> DKIMSigner:
    """A signer from a PKCS#8 (or PKCS#1) PEM; cached, as loading costs more than signing.

    Raises: ValueError when the PEM is no key of `algorithm`, or one shorter than 1024 bits.
    """
    # The primality checks that are skipped take 36 ms each time. The key is our own: generated
    # here or imported by an operator, never taken from a message.
    try:
        key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    except (TypeError, UnsupportedAlgorithm) as error:  # encrypted; of a kind unknown to us
        raise ValueError(f"the key {selector}._domainkey.{domain} does not load") from error
    match key, algorithm:
        case rsa.RSAPrivateKey(), "rsa-sha256":
            if key.key_size < RSA_BITS_MIN:
                raise ValueError(f"an RSA key of {key.key_size} bits is too short to sign with")
            return DKIMSigner(domain=domain, selector=selector, algorithm=algorithm, key=key)
        case ed25519.Ed25519PrivateKey(), "ed25519-sha256":
            return DKIMSigner(domain=domain, selector=selector, algorithm=algorithm, key=key)
    raise ValueError(f"the key {selector}._domainkey.{domain} is no key for {algorithm!r}")


def generate_key(algorithm: str) -> tuple[bytes, str]:
    """A new key pair: PKCS#8 PEM octets, and the record's `p=`.

    Source: RFC 6376 §3.6.1 (RSA: SubjectPublicKeyInfo), RFC 8463 §4 (Ed25519: the bare key).
    """
    key: PrivateKey
    if algorithm == RSA_SHA256:
        key = rsa.generate_private_key(65537, RSA_BITS_OURS)
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    elif algorithm == ED25519_SHA256:
        key = ed25519.Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    else:
        raise ValueError(f"DKIM has no algorithm {algorithm!r}")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, base64.b64encode(public).decode("ascii")


class KeyRevoked(ValueError):
    """The record's `p=` is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """hashes: names allowed, empty when the record does not say. strict: `t=s`; testing: `t=y`."""

    algorithm: str
    public: bytes
    hashes: tuple[bytes, ...]
    for_mail: bool
    strict: bool
    testing: bool


def parse_key_record(octets: bytes) -> KeyRecord:
    """The key record in a TXT record.

    Raises: KeyRevoked; ValueError that names the fault.
    Source: RFC 6376 §3.6.1, §6.1.2.
    Departs: v=DKIM1 may stand anywhere, as it does in published records; words are read in any
    case. g=, which RFC 6376 §3.6.1 no longer has, has no effect.
    """
    if len(octets) > RECORD_OCTETS_MAX:
        raise ValueError("the key record is too long")
    tags = parse_tags(octets)
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        raise ValueError("the key record is not of version DKIM1")
    if b"p" not in tags:
        raise ValueError("the key record holds no key")
    public = without_space(tags[b"p"])
    if not public:
        raise KeyRevoked("the key is revoked")
    flags = items(tags.get(b"t", b"").lower())
    services = items(tags.get(b"s", b"*").lower())
    return KeyRecord(
        algorithm=tags.get(b"k", b"rsa").lower().decode("ascii", "replace"),
        public=public,
        hashes=tuple(items(tags[b"h"].lower())) if tags.get(b"h") else (),
        for_mail=b"*" in services or b"email" in services,
        strict=b"s" in flags,
        testing=b"y" in flags,
    )


@lru_cache(maxsize=PUBLIC_KEYS_CACHED_MAX)
def load_public_key(algorithm: str, public: bytes) -> PublicKey:
    """The key of a record's `k=` and `p=` (without white space).

    Raises: ValueError that names the fault.
    """
    try:
        octets = base64.b64decode(public, validate=True)
    except binascii.Error as error:
        raise ValueError("the key is not base64") from error
    if algorithm == "ed25519":
        if len(octets) != 32:
            raise ValueError("the Ed25519 key is not of 32 octets")
        return ed25519.Ed25519PublicKey.from_public_bytes(octets)
    if algorithm != "rsa":
        raise ValueError("the key is of an unknown kind")
    try:
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("the key does not decode") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("the key is no RSA key")
    if key.key_size > RSA_BITS_MAX:
        raise ValueError(f"the key has {key.key_size} bits, more than {RSA_BITS_MAX}")
    if key.public_numbers().e.bit_length() > RSA_EXPONENT_BITS_MAX:
        raise ValueError("the key's exponent is too long")
    return key


def key_bits(key: PublicKey) -> int:
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else 256


def is_signed_by(key: PublicKey, signature: bytes, digest: bytes) -> bool:
    """Whether `signature` over the SHA-256 `digest` was made with the key's private half."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, _PADDING, _DIGEST)
        else:
            key.verify(signature, digest)
    except (InvalidSignature, ValueError):
        return False
    return True
