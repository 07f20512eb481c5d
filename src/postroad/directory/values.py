"""The directory's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from postroad.mail.address import Address
from postroad.mail.secret import Secret


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """name: the key domain (A-labels, lower case)."""

    name: str
    tenant: str
    created: int


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """address: its login name and primary address, as `Address.key`."""

    account: int
    address: str
    name: str
    created: int


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """address: `Address.key`; targets: addresses, here or elsewhere."""

    address: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Verifiers of one account; never the password.

    argon2: the PHC string. scram_...: `iterations:salt:StoredKey:ServerKey`, base64 parts.
    scram_sha_1: empty for a password that was set before it was kept; the next login by password
    adds it.
    """

    account: int
    argon2: Secret
    scram_sha_256: Secret
    scram_sha_1: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A DKIM key of ours. pem: PKCS#8. algorithm: "rsa-sha256" or "ed25519-sha256"."""

    domain: str
    selector: str
    algorithm: str
    pem: Secret
    public: str
    """The record's `p=`: base64."""
    created: int


@dataclass(frozen=True, slots=True)
class LocalMailbox:
    """The address is (or leads to) an account here."""

    account: Account
    address: Address


@dataclass(frozen=True, slots=True)
class Forward:
    """An alias leads out of this server."""

    target: Address


@dataclass(frozen=True, slots=True)
class Unknown:
    """The domain is ours, the local part is nobody."""


@dataclass(frozen=True, slots=True)
class NotHere:
    """The domain is not ours."""


Resolution: TypeAlias = tuple[LocalMailbox | Forward, ...] | Unknown | NotHere
