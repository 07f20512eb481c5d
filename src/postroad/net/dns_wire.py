"""DNS messages as a stub resolver needs them: one question out, one response in.

Reads the records mail asks for (A, AAAA, CNAME, MX, PTR, TXT, TLSA, SOA) and skips the others.
Knows no socket and no cache. Input: hostile octets, bounded by their own length; compression
pointers may only point backwards, so that every name ends.
Source: RFC 1035 §4.1 (messages), §4.1.4 (compression), RFC 6891 §6.1 (OPT), RFC 6840 §5.7 (AD).
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from postroad.dns.resolver import MX

UDP_OCTETS_MAX = 1232
"""What we say we take by UDP: not fragmented on any link."""
RECORDS_MAX = 4096
"""Of one response; 64 KiB could hold 5,000 of the smallest."""
NAME_WIRE_OCTETS_MAX = 255

Data: TypeAlias = "str | bytes | MX | tuple[int, int, int, bytes]"

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_TAIL = struct.Struct("!HH")
_OPT = b"\0" + struct.pack("!HHIH", 41, UDP_OCTETS_MAX, 0, 0)
_QUERY_FLAGS = 0x0120  # RD, AD: "tell me whether you have validated"
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_*/+")


class Malformed(Exception):
    """Not a DNS response, or not one to this question."""


class RecordType(IntEnum):
    """The types we ask for or follow."""

    A = 1
    CNAME = 5
    SOA = 6
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28
    OPT = 41
    TLSA = 52


class Code(IntEnum):
    """Response codes that mean something to us; every other one is a failure."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


@dataclass(frozen=True, slots=True)
class Record:
    """owner: lower case, without the trailing dot."""

    owner: str
    type: int
    ttl_s: int
    data: Data


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """answers: of the types above; negative_ttl_s: of the SOA, None without one (RFC 2308 §5)."""

    code: int
    truncated: bool
    authenticated: bool
    answers: tuple[Record, ...] = ()
    negative_ttl_s: int | None = None


def build_query(query_id: int, name: str, kind: RecordType, *, edns: bool = True) -> bytes:
    """name: a key of `dns.names` (ASCII, carriable)."""
    labels = b"".join(bytes((len(label),)) + label for label in name.encode("ascii").split(b"."))
    head = _HEADER.pack(query_id, _QUERY_FLAGS, 1, 0, 0, 1 if edns else 0)
    return head + labels + b"\0" + _TAIL.pack(kind, 1) + (_OPT if edns else b"")


def question_of(query: bytes) -> bytes:
    """The question section of a query of ours."""
    return query[12 : query.index(b"\0", 12) + 5]


def parse_response(octets: bytes, query: bytes) -> Response:
    """The response to `query`. Raises: Malformed."""
    try:
        return _parse(octets, query)
    except (struct.error, IndexError, ValueError) as error:
        raise Malformed(f"not a DNS response: {error}") from error


def _parse(octets: bytes, query: bytes) -> Response:
    _, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(octets)
    if octets[:2] != query[:2] or not flags & 0x8000 or flags & 0x7800:
        raise Malformed("a response to something else")
    code = flags & 15
    question = question_of(query)
    if questions == 1:
        if octets[12 : 12 + len(question)].lower() != question:
            raise Malformed("a response to another question")
        at = 12 + len(question)
    elif questions == 0 and code in (Code.FORMERR, Code.NOTIMP, Code.SERVFAIL, Code.REFUSED):
        at = 12  # some servers give up before they have read the question
    else:
        raise Malformed("a response without the question")
    if flags & 0x0200:
        return Response(code=code, truncated=True, authenticated=False)
    if answers + authorities + additionals > RECORDS_MAX:
        raise Malformed("too many records")
    found, at = _records(octets, at, answers)
    negative_ttl_s: int | None = None
    if not found or code != Code.NOERROR or found[-1].type == RecordType.CNAME:
        negative_ttl_s, code = _epilogue(octets, at, authorities, additionals, code)
    return Response(
        code=code,
        truncated=False,
        authenticated=bool(flags & 0x0020),
        answers=tuple(found),
        negative_ttl_s=negative_ttl_s,
    )


def _records(octets: bytes, at: int, count: int) -> tuple[list[Record], int]:
    found: list[Record] = []
    for _ in range(count):
        owner, at = parse_name(octets, at)
        kind, klass, ttl, length = _RECORD.unpack_from(octets, at)
        at += 10
        end = at + length
        if end > len(octets):
            raise Malformed("a record goes past the end")
        if klass == 1:
            data = _data(octets, at, end, kind)
            if data is not None:
                # RFC 2181 §8: a TTL with the top bit set is zero
                found.append(Record(owner.lower(), kind, 0 if ttl >> 31 else ttl, data))
        at = end
    return found, at


def _epilogue(
    octets: bytes, at: int, authorities: int, additionals: int, code: int
) -> tuple[int | None, int]:
    """The negative TTL from the SOA, and the code with OPT's upper bits."""
    negative: int | None = None
    for number in range(authorities + additionals):
        _, at = parse_name(octets, at)
        kind, _, ttl, length = _RECORD.unpack_from(octets, at)
        at += 10
        end = at + length
        if end > len(octets):
            raise Malformed("a record goes past the end")
        if kind == RecordType.SOA and number < authorities and length >= 20:
            minimum = int.from_bytes(octets[end - 4 : end], "big")
            negative = 0 if ttl >> 31 else min(ttl, minimum)
        elif kind == RecordType.OPT:
            code |= (ttl >> 24) << 4
        at = end
    return negative, code


def _data(octets: bytes, at: int, end: int, kind: int) -> Data | None:
    """None: a type we have no use for."""
    match kind:
        case RecordType.A:
            if end - at != 4:
                raise Malformed("an A record of another length")
            return f"{octets[at]}.{octets[at + 1]}.{octets[at + 2]}.{octets[at + 3]}"
        case RecordType.AAAA:
            return str(ipaddress.IPv6Address(octets[at:end]))
        case RecordType.MX:
            exchange, stop = parse_name(octets, at + 2)
            _demand(stop == end)
            return MX(int.from_bytes(octets[at : at + 2], "big"), exchange)
        case RecordType.CNAME | RecordType.PTR:
            target, stop = parse_name(octets, at)
            _demand(stop == end)
            return target
        case RecordType.TXT:
            return _strings(octets, at, end)
        case RecordType.TLSA:
            _demand(end - at > 3)
            return octets[at], octets[at + 1], octets[at + 2], octets[at + 3 : end]
        case _:
            return None


def _demand(holds: bool) -> None:
    if not holds:
        raise Malformed("a record's data does not fit its length")


def _strings(octets: bytes, at: int, end: int) -> bytes:
    parts = []
    while at < end:
        stop = at + 1 + octets[at]
        _demand(stop <= end)
        parts.append(octets[at + 1 : stop])
        at = stop
    return b"".join(parts)


def parse_name(octets: bytes, at: int) -> tuple[str, int]:
    """The name at `at` (case kept, no trailing dot, root "") and where what follows it begins.

    Octets outside letters, digits and a few signs are written `\\DDD` (RFC 1035 §5.1).
    """
    labels: list[str] = []
    size = 0
    after = -1
    floor = at
    while True:
        length = octets[at]
        if length >= 0xC0:
            if after < 0:
                after = at + 2
            at = (length & 0x3F) << 8 | octets[at + 1]
            if at >= floor:
                raise Malformed("a compression pointer that does not point backwards")
            floor = at
            continue
        if length > 63:
            raise Malformed("a label of unknown kind")
        at += 1
        if not length:
            break
        size += length + 1
        label = octets[at : at + length]
        if len(label) < length or size >= NAME_WIRE_OCTETS_MAX:
            raise Malformed("a name that is too long")
        if _PLAIN.issuperset(label):
            labels.append(label.decode("ascii"))
        else:
            labels.append("".join(chr(o) if o in _PLAIN else f"\\{o:03d}" for o in label))
        at += length
    return ".".join(labels), at if after < 0 else after
