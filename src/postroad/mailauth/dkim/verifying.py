"""Verifying the DKIM signatures of a message.

Trusts nobody: octets and key records are hostile, so bad ones are results and never exceptions.
DNS that fails is `temperror`. Signatures that are beyond `limit` are not looked at.
Source: RFC 6376 §6.1, RFC 8301 §3, RFC 8463 §3, RFC 8601 §2.7.1 (the words).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from postroad.dns.resolver import Resolver
from postroad.mail.errors import Unavailable
from postroad.mail.limits import DKIM_SIGNATURES_VERIFIED_MAX
from postroad.mailauth.canonical import BodyHash, Canon, hash_body
from postroad.mailauth.dkim.keys import (
    RSA_BITS_MIN,
    KeyRecord,
    KeyRevoked,
    is_signed_by,
    key_bits,
    load_public_key,
    parse_key_record,
)
from postroad.mailauth.dkim.signature import (
    HeaderHasher,
    Signature,
    Unusable,
    parse_signature,
    peek,
)
from postroad.mailauth.fields import raw_fields, split_header
from postroad.mailauth.result import Result, printable

KEY_RECORDS_MAX = 4
"""Of one selector; RFC 6376 §3.6.2.2 leaves several undefined, we try this many."""

_KIND = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DKIMResult:
    """One signature's result. domain, selector: A-labels; "" where the field did not say.

    reason: short and for people. unsigned_octets: canonical body past `l=`, which anybody can
    have added. testing: the key's `t=y`. signature: the start of b=, which tells them apart.
    """

    result: Result
    domain: str
    selector: str
    identity: str
    algorithm: str
    reason: str = ""
    testing: bool = False
    key_bits: int = 0
    unsigned_octets: int = 0
    signature: str = ""


async def verify_dkim(
    resolver: Resolver,
    octets: bytes | memoryview,
    now: datetime,
    limit: int = DKIM_SIGNATURES_VERIFIED_MAX,
) -> list[DKIMResult]:
    """One result for each DKIM-Signature, top to bottom, at most `limit`; empty when unsigned."""
    header, body_at = split_header(octets)
    fields = raw_fields(header)
    own = [at for at, field in enumerate(fields) if field.key == b"dkim-signature"][:limit]
    if not own:
        return []
    parsed = [_parse(fields[at].raw, now) for at in own]
    usable = [item for item in parsed if isinstance(item, Signature)]
    bodies = _hash_bodies(memoryview(octets)[body_at:], usable)
    hasher = HeaderHasher(fields)
    records: dict[str, list[bytes] | DKIMFault] = {}
    results = []
    for at, item in zip(own, parsed, strict=True):
        if isinstance(item, Signature):
            try:
                body = bodies[item.body_canon, item.limit]
                results.append(await _verify(resolver, item, at, body, hasher, records))
            except DKIMFault as fault:
                results.append(_result(item, fault.result, str(fault)))
        else:
            results.append(item)
    return results


class DKIMFault(Exception):
    """Ends the check of one signature, with its result."""

    def __init__(self, result: Result, reason: str) -> None:
        super().__init__(reason)
        self.result = result


def _result(signature: Signature, result: Result, reason: str) -> DKIMResult:
    return DKIMResult(
        result=result,
        domain=signature.domain,
        selector=signature.selector,
        identity=signature.identity,
        algorithm=signature.algorithm,
        reason=reason,
        signature=_start_of_b(signature),
    )


def _start_of_b(signature: Signature) -> str:
    return b64encode(signature.signature[:6]).decode("ascii")


def _parse(raw: bytes, now: datetime) -> Signature | DKIMResult:
    """The signature, or its result when it can be given without hashes and keys."""
    try:
        signature = parse_signature(raw)
    except Unusable as fault:
        said = peek(raw)
        return DKIMResult(
            result=Result.NEUTRAL,
            domain=said.get("d", ""),
            selector=said.get("s", ""),
            identity=said.get("i", ""),
            algorithm=said.get("a", ""),
            reason=str(fault),
        )
    if signature.algorithm == "rsa-sha1":
        return _result(signature, Result.POLICY, "rsa-sha1 is not acceptable")
    if signature.algorithm not in _KIND:
        return _result(signature, Result.PERMERROR, "the algorithm is unknown")
    if signature.expiry is not None and signature.expiry <= now.timestamp():
        return _result(signature, Result.FAIL, "the signature has expired")
    return signature


def _hash_bodies(
    body: memoryview, signatures: Sequence[Signature]
) -> dict[tuple[Canon, int | None], BodyHash]:
    """Every hash that is asked for, in one pass for each canonical form."""
    wanted: dict[Canon, set[int | None]] = {}
    for signature in signatures:
        wanted.setdefault(signature.body_canon, set()).add(signature.limit)
    return {
        (canon, limit): found
        for canon, limits in wanted.items()
        for limit, found in hash_body(body, canon, limits).items()
    }


async def _verify(
    resolver: Resolver,
    signature: Signature,
    own: int,
    body: BodyHash,
    hasher: HeaderHasher,
    records: dict[str, list[bytes] | DKIMFault],
) -> DKIMResult:
    """Body first: a message that was changed needs no look-up.

    Raises: DKIMFault.
    """
    if hasher.count(b"from") == 0:
        raise DKIMFault(Result.PERMERROR, "the message has no From:")
    if signature.limit is not None and signature.limit > body.length:
        raise DKIMFault(Result.FAIL, "the body is shorter than was signed")
    if body.digest != signature.body_digest:
        raise DKIMFault(Result.FAIL, "the body was changed")
    name = f"{signature.selector}._domainkey.{signature.domain}"
    found = records.get(name)
    if found is None:
        found = records[name] = await _key_records(resolver, name)
    if isinstance(found, DKIMFault):
        raise found
    digest = hasher.digest(signature, own)
    fault = DKIMFault(Result.PERMERROR, "there is no key")
    for octets in found:
        try:
            result = _check(signature, octets, digest)
        except DKIMFault as error:
            fault = error
        else:
            if signature.limit is None or signature.limit == body.length:
                return result
            unsigned = body.length - signature.limit
            return replace(
                result,
                unsigned_octets=unsigned,
                reason=f"{unsigned} octets of the body are unsigned",
            )
    raise fault


async def _key_records(resolver: Resolver, name: str) -> list[bytes] | DKIMFault:
    try:
        answer = await resolver.txt(name)
    except Unavailable as error:
        return DKIMFault(Result.TEMPERROR, printable(error.what))
    if not answer:
        return DKIMFault(Result.PERMERROR, f"there is no key at {name}")
    return list(answer.records[:KEY_RECORDS_MAX])


def _check(signature: Signature, octets: bytes, digest: bytes) -> DKIMResult:
    """The result by one key record.

    Raises: DKIMFault.
    """
    try:
        record = parse_key_record(octets)
        _agree(signature, record)
        key = load_public_key(record.algorithm, record.public)
    except KeyRevoked as error:
        raise DKIMFault(Result.PERMERROR, str(error)) from error
    except ValueError as error:
        raise DKIMFault(Result.PERMERROR, str(error)) from error
    bits = key_bits(key)
    if record.algorithm == "rsa" and bits < RSA_BITS_MIN:
        raise DKIMFault(Result.POLICY, f"the key has {bits} bits, fewer than {RSA_BITS_MIN}")
    if not is_signed_by(key, signature.signature, digest):
        raise DKIMFault(Result.FAIL, "the signature does not match")
    result = _result(signature, Result.PASS, "the key is being tested" if record.testing else "")
    return replace(result, testing=record.testing, key_bits=bits)


def _agree(signature: Signature, record: KeyRecord) -> None:
    """Raises: ValueError when the key is not for this signature (RFC 6376 §6.1.2, 5-9)."""
    if record.algorithm != _KIND[signature.algorithm]:
        raise ValueError("the key is of another kind than the signature")
    if record.hashes and b"sha256" not in record.hashes:
        raise ValueError("the key does not allow sha256")
    if not record.for_mail:
        raise ValueError("the key is not for mail")
    if record.strict and signature.identity_domain != signature.domain:
        raise ValueError("the key does not sign for subdomains")
