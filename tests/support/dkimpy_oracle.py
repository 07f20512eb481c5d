"""dkimpy as a second opinion on DKIM.

It wants PyNaCl for Ed25519; a stand-in over `cryptography` serves, since what is compared is what
gets hashed, not the curve.
"""

from __future__ import annotations

import base64
import logging
import sys
import types
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class _VerifyKey:
    def __init__(self, key: bytes, encoder: object) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))

    def verify(self, digest: bytes, signature: bytes) -> bytes:
        self._key.verify(signature, digest)
        return digest


class _SigningKey:
    def __init__(self, key: bytes, encoder: object) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(key))

    def sign(self, digest: bytes) -> types.SimpleNamespace:
        return types.SimpleNamespace(signature=self._key.sign(digest))


def _module(name: str, **names: object) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(names)
    return module


if "nacl" not in sys.modules:
    parts = {
        "signing": _module("nacl.signing", VerifyKey=_VerifyKey, SigningKey=_SigningKey),
        "encoding": _module("nacl.encoding", Base64Encoder=object()),
        "exceptions": _module(
            "nacl.exceptions", ValueError=ValueError, BadSignatureError=InvalidSignature
        ),
    }
    sys.modules["nacl"] = _module("nacl", **parts)
    for part, module in parts.items():
        sys.modules[f"nacl.{part}"] = module

import dkim  # noqa: E402

_LOGGER = logging.getLogger("dkimpy")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False


def verifies(
    octets: bytes, lookup: Callable[[str], bytes | None], number: int = 0, bits_min: int = 1024
) -> bool:
    """Whether signature `number` of the message passes. lookup: the TXT record of a name."""

    def ask(name: bytes, timeout: int = 5) -> bytes | None:
        return lookup(name.decode().rstrip(".").lower())

    try:
        verifier = dkim.DKIM(octets, logger=_LOGGER, minkey=bits_min)
        return bool(verifier.verify(number, dnsfunc=ask))
    except Exception:  # it raises for what it will not verify
        return False


def sign(
    octets: bytes,
    *,
    selector: str,
    domain: str,
    key: bytes,
    algorithm: str,
    header: str,
    body: str,
    length: bool = False,
) -> bytes:
    """The message with dkimpy's signature on top. key: PEM for RSA, base64 seed for Ed25519."""
    field = dkim.DKIM(octets, logger=_LOGGER).sign(
        selector.encode(),
        domain.encode(),
        key,
        signature_algorithm=algorithm.encode(),
        canonicalize=(header.encode(), body.encode()),
        length=length,
    )
    return bytes(field) + octets
