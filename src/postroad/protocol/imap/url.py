"""IMAP URLs that mean a message, or a part of one.

Input: octets a client wrote. Only what means a message is read: URLs of servers, mailboxes and
searches are refused. Nothing is looked up here.
Source: RFC 5092 §6, §7, §11; RFC 4467 §3, §6, §9; RFC 5550 §5.7.1 (PARTIAL); RFC 3339 §5.6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.names import decode_mailbox
from postroad.protocol.imap.scanner import Scanner

URL_OCTETS_MAX = 8192
"""A mailbox name in percent-escapes has at most 1,600; a list of header fields some hundred."""
FIELDS_MAX = 100
NUMBER_MAX = 0xFFFF_FFFF

_PLAIN = re.compile(rb"[\x21-\x7e]*\Z")
_ESCAPE = re.compile(rb"%(?:([0-9A-Fa-f]{2})|)")
_AUTHORITY = re.compile(
    rb"//(?:([^@;/?#]*)(?:;AUTH=[^@;/?#]+)?@)?((?:[^@;:/?#\[\]]|%[0-9A-Fa-f]{2})+|\[[0-9A-Fa-f:.]+\])"
    rb"(?::\d{1,5})?(?=/)",
    re.IGNORECASE,
)
_PATH = re.compile(
    rb"(?:/([^;?#]+?)(?:;UIDVALIDITY=(\d{1,10}))?/)?;UID=(\d{1,10})"
    rb"(?:/;SECTION=([^;?#]+?))?(?:/;PARTIAL=(\d{1,10})(?:\.(\d{1,10}))?)?"
    rb"(?:/?;EXPIRE=([0-9:.+\-TZtz]{20,40}))?\Z",
    re.IGNORECASE,
)
_URLAUTH = re.compile(rb";URLAUTH=([^;:/?#]+)(?::([A-Za-z0-9.-]+):([0-9A-Fa-f]{32,}))?\Z", re.I)
_DATE_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:(\d\d)(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)\Z", re.IGNORECASE
)
_DOTS = re.compile(rb"(?:^|/)\.\.?(?:/|\Z)")
_SECTION = re.compile(
    rb"(?:(\d{1,9}(?:\.\d{1,9})*)(?:\.(?=[A-Z])|\Z))?"
    rb"(?:(HEADER\.FIELDS(?:\.NOT)?) |(HEADER|TEXT|MIME)\Z)?",
    re.IGNORECASE,
)


class Who(Enum):
    """Which sessions may use a URL (RFC 4467 §3)."""

    ANONYMOUS = "anonymous"
    AUTHUSER = "authuser"
    USER = "user+"
    SUBMIT = "submit+"


@dataclass(frozen=True, slots=True)
class Access:
    """user: of USER and SUBMIT; else empty."""

    who: Who
    user: str


@dataclass(frozen=True, slots=True)
class Verifier:
    """mechanism: in capitals. token: as written."""

    mechanism: str
    token: bytes


@dataclass(frozen=True, slots=True)
class Section:
    """what: as `message.section.locate` takes it, HEADER.FIELDS and .NOT being HEADER.

    fields: in lower case; None unless some were asked for. exclude: all but these.
    """

    path: tuple[int, ...] = ()
    what: str = ""
    fields: tuple[bytes, ...] | None = None
    exclude: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageURL:
    """absolute: it names a server; user: whose names of mailboxes, "" for nobody's.

    mailbox: None for the one that is selected. uidvalidity: 0 for any. start, length: of the
    octets meant, -1 for all (there are) from there on. expires: unix seconds.
    rump: what the verifier is computed from, octet for octet.
    """

    absolute: bool
    user: str
    mailbox: str | None
    uidvalidity: int
    uid: int
    section: Section
    start: int
    length: int
    expires: float | None
    access: Access | None
    verifier: Verifier | None
    rump: bytes


def parse_url(url: bytes) -> MessageURL:
    """Raises: ProtocolError, with what is wrong."""
    if len(url) > URL_OCTETS_MAX or _PLAIN.match(url) is None:
        raise ProtocolError("A URL is of printable characters, and not that long")
    rest, rump = url, url
    access = verifier = None
    if (match := _URLAUTH.search(url)) is not None:
        access = _access(match[1])
        rest = url[: match.start()]
        rump = url[: match.end(1)]
        if match[2] is not None:
            verifier = Verifier(match[2].decode().upper(), match[3])
    absolute, user = False, ""
    if rest[:5].lower() == b"imap:" or rest[:2] == b"//":
        rest = rest[5:] if rest[:2] != b"//" else rest
        authority = _AUTHORITY.match(rest)
        if authority is None:
            raise ProtocolError("The server in the URL is malformed")
        absolute, user = True, _text(authority[1] or b"")
        rest = rest[authority.end() :]
    return _parse_path(rest, absolute, user, access, verifier, rump)


def _parse_path(
    rest: bytes,
    absolute: bool,
    user: str,
    access: Access | None,
    verifier: Verifier | None,
    rump: bytes,
) -> MessageURL:
    path = _PATH.match(rest)
    if path is None or (absolute and path[1] is None):
        raise ProtocolError("The URL means no message")
    uid, length = int(path[3]), int(path[6] or -1)
    start = int(path[5] or -1)
    if not 0 < uid <= NUMBER_MAX or start > NUMBER_MAX or not -1 <= length <= NUMBER_MAX:
        raise ProtocolError("A number in the URL is out of range")
    if not length:
        raise ProtocolError("A partial range holds at least one octet")
    return MessageURL(
        absolute=absolute,
        user=user,
        mailbox=None if path[1] is None else _mailbox(path[1]),
        uidvalidity=int(path[2] or 0),
        uid=uid,
        section=Section() if path[4] is None else parse_section(_decode(path[4])),
        start=start,
        length=length,
        expires=None if path[7] is None else _moment(path[7]),
        access=access,
        verifier=verifier,
        rump=rump,
    )


def _decode(octets: bytes) -> bytes:
    def octet(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            raise ProtocolError("A percent sign in the URL escapes nothing")
        return bytes((int(match[1], 16),))

    return _ESCAPE.sub(octet, octets)


def _text(octets: bytes) -> str:
    try:
        return _decode(octets).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("Names in URLs are UTF-8") from error


def _mailbox(octets: bytes) -> str:
    """RFC 5092 §7: dots would be steps in the path; names that have them escape them."""
    if _DOTS.search(octets) is not None:
        raise ProtocolError("The URL is a path with dots")
    try:
        return decode_mailbox(_decode(octets), utf8=True)
    except ValueError as error:
        raise ProtocolError(f"Mailbox name: {error}") from error


def _access(octets: bytes) -> Access:
    word, plus, user = octets.partition(b"+")
    name = word.lower().decode() + plus.decode()
    try:
        who = Who(name)
    except ValueError as error:
        raise ProtocolError("The access identifier is not known") from error
    if bool(user) is not bool(plus):
        raise ProtocolError("The access identifier lacks its user")
    return Access(who, _text(user))


def _moment(octets: bytes) -> float:
    text = octets.decode("ascii").upper()
    match = _DATE_TIME.match(text)
    if match is None:
        raise ProtocolError("EXPIRE takes a moment as in 2026-02-01T10:00:00Z")
    if match[1] == "60":  # a leap second
        text = text[:17] + "59" + text[19:]
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise ProtocolError("There is no such moment") from error


def parse_section(octets: bytes) -> Section:
    """What stands between the brackets of BODY[]. Raises: ProtocolError."""
    match = _SECTION.match(octets)
    if match is None or (match[2] is None and match.end() != len(octets)):
        raise ProtocolError("The section is malformed")
    path = tuple(int(number) for number in match[1].split(b".")) if match[1] else ()
    if 0 in path:
        raise ProtocolError("Part numbers begin with 1")
    if match[2] is not None:
        names = _names(Scanner(octets + b"\r\n", match.end()))
        return Section(path, "HEADER", names, match[2].upper().endswith(b".NOT"))
    what = (match[3] or b"").upper().decode()
    if what == "MIME" and not path:
        raise ProtocolError("MIME needs a part number")
    return Section(path, what)


def _names(scan: Scanner) -> tuple[bytes, ...]:
    scan.expect(b"(", "A list of header fields")
    names = [scan.astring("A header field name").lower()]
    while scan.skip(b" ") and len(names) < FIELDS_MAX:
        names.append(scan.astring("A header field name").lower())
    scan.expect(b")", "A closing parenthesis")
    scan.end()
    return tuple(names)
