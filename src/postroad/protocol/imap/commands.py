"""The base of typed commands, and the commands that have next to no arguments.

Source: RFC 3501 §6.1, §6.2, §6.4.1-3; RFC 2177 (IDLE), RFC 2342 (NAMESPACE), RFC 2971 (ID),
RFC 3691 (UNSELECT), RFC 4959 (SASL-IR), RFC 4978 §5 (COMPRESS), RFC 5161 (ENABLE), RFC 5255 §3.5
(LANGUAGE), RFC 8437 §6 (UNAUTHENTICATE).
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field

from postroad.mail import limits
from postroad.mail.errors import ProtocolError
from postroad.mail.secret import Secret
from postroad.protocol.imap.scanner import Scanner
from postroad.protocol.imap.sequence import SequenceSet

LANGUAGES_MAX = 50
"""People speak fewer."""
ID_FIELDS_MAX = 30
"""RFC 2971 §3.3: at most 30 field-value pairs."""


@dataclass(frozen=True, slots=True)
class Command:
    tag: bytes


@dataclass(frozen=True, slots=True)
class Capability(Command):
    pass


@dataclass(frozen=True, slots=True)
class Noop(Command):
    pass


@dataclass(frozen=True, slots=True)
class Check(Command):
    pass


@dataclass(frozen=True, slots=True)
class Logout(Command):
    pass


@dataclass(frozen=True, slots=True)
class StartTLS(Command):
    pass


@dataclass(frozen=True, slots=True)
class Namespace(Command):
    pass


@dataclass(frozen=True, slots=True)
class Idle(Command):
    pass


@dataclass(frozen=True, slots=True)
class Close(Command):
    pass


@dataclass(frozen=True, slots=True)
class Unselect(Command):
    pass


@dataclass(frozen=True, slots=True)
class Unauthenticate(Command):
    pass


@dataclass(frozen=True, slots=True)
class Language(Command):
    """ranges: language ranges (RFC 4647), the one most wanted first; none: list them."""

    ranges: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Compress(Command):
    """By DEFLATE, the only way there is."""


@dataclass(frozen=True, slots=True)
class Login(Command):
    user: bytes
    password: Secret


@dataclass(frozen=True, slots=True)
class Authenticate(Command):
    """initial: the decoded initial response; None when there was none."""

    mechanism: str
    initial: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Id(Command):
    fields: tuple[tuple[bytes, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Enable(Command):
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Expunge(Command):
    """uids: of UID EXPUNGE (RFC 4315 §2.1); None for EXPUNGE."""

    uids: SequenceSet | None


def parse_login(tag: bytes, scan: Scanner, uid: bool) -> Login:
    scan.space()
    user = scan.astring("A user name")
    scan.space()
    password = scan.astring("A password")
    scan.end()
    return Login(tag, user, Secret(password))


def decode_base64(octets: bytes) -> bytes:
    """A SASL response. Raises: ProtocolError."""
    if len(octets) > limits.SASL_MESSAGE_OCTETS_MAX * 4 // 3 + 4:
        raise ProtocolError("The SASL response is too long")
    try:
        return binascii.a2b_base64(octets, strict_mode=True) if octets else b""
    except binascii.Error as error:
        raise ProtocolError("The SASL response is not base64") from error


def parse_authenticate(tag: bytes, scan: Scanner, uid: bool) -> Authenticate:
    """`=` alone is an empty initial response (RFC 4959 §3)."""
    scan.space()
    mechanism = scan.word("A SASL mechanism").decode("ascii")
    initial: bytes | None = None
    if scan.skip(b" "):
        rest = scan.text[scan.at : -2]
        initial = b"" if rest == b"=" else decode_base64(rest)
        if not rest:
            raise ProtocolError("An initial response expected")
    else:
        scan.end()
    return Authenticate(tag, mechanism, initial)


def parse_id(tag: bytes, scan: Scanner, uid: bool) -> Id:
    scan.space()
    fields: list[tuple[bytes, bytes | None]] = []
    if scan.skip(b"("):
        while not scan.skip(b")"):
            if fields:
                scan.space()
            name = scan.string()
            if name is None:
                raise ProtocolError("A string expected")
            scan.space()
            fields.append((name, scan.nstring()))
            if len(fields) > ID_FIELDS_MAX:
                raise ProtocolError("Too many fields")
    elif scan.word("NIL or a list") != b"NIL":
        raise ProtocolError("NIL or a list expected")
    scan.end()
    return Id(tag, tuple(fields))


def parse_enable(tag: bytes, scan: Scanner, uid: bool) -> Enable:
    scan.space()
    names = [scan.word("A capability")]
    while not scan.at_end:
        scan.space()
        names.append(scan.word("A capability"))
    scan.end()
    return Enable(tag, tuple(names))


def parse_language(tag: bytes, scan: Scanner, uid: bool) -> Language:
    ranges = []
    while not scan.at_end and scan.skip(b" "):
        if scan.at_end:  # a trailing space
            break
        ranges.append(scan.astring("A language"))
        if len(ranges) > LANGUAGES_MAX:
            raise ProtocolError("Too many languages")
    scan.end()
    return Language(tag, tuple(ranges))


def parse_compress(tag: bytes, scan: Scanner, uid: bool) -> Compress:
    scan.space()
    if scan.word("DEFLATE") != b"DEFLATE":
        raise ProtocolError("DEFLATE is the only compression there is")
    scan.end()
    return Compress(tag)


def parse_expunge(tag: bytes, scan: Scanner, uid: bool) -> Expunge:
    uids = None
    if uid:
        scan.space()
        uids = scan.sequence_set()
    scan.end()
    return Expunge(tag, uids)
