"""POP3 commands: one line to one value.

Input: hostile octets, one line without its end. Knows no order; `server` does.
Source: RFC 1939 §3, §5-§7 (commands), RFC 2449 §5 (CAPA), RFC 2595 §4 (STLS), RFC 5034 §4 (AUTH),
RFC 6856 §2 (UTF8).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from postroad.mail.errors import ProtocolError
from postroad.mail.secret import Secret

NUMBER_DIGITS_MAX = 10
TOP_LINES_MAX = 1 << 31
_LINE = re.compile(rb"([A-Za-z0-9]{3,12})(?: (.*))?\Z", re.DOTALL)
_NUMBER = re.compile(rb"\d{1,%d}\Z" % NUMBER_DIGITS_MAX)


@dataclass(frozen=True, slots=True)
class User:
    name: str


@dataclass(frozen=True, slots=True)
class Pass:
    password: Secret


@dataclass(frozen=True, slots=True)
class Auth:
    """mechanism: "" asks which there are. initial: still base64 (or `=`); None when absent."""

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """A line of the SASL exchange, still base64; `*` cancels."""

    line: bytes


@dataclass(frozen=True, slots=True)
class List:
    """number: None for all."""

    number: int | None


@dataclass(frozen=True, slots=True)
class Uidl:
    """number: None for all."""

    number: int | None


@dataclass(frozen=True, slots=True)
class Retr:
    number: int


@dataclass(frozen=True, slots=True)
class Dele:
    number: int


@dataclass(frozen=True, slots=True)
class Top:
    """lines: of the body."""

    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Capa:
    pass


@dataclass(frozen=True, slots=True)
class Stls:
    pass


@dataclass(frozen=True, slots=True)
class Utf8:
    pass


@dataclass(frozen=True, slots=True)
class Stat:
    pass


@dataclass(frozen=True, slots=True)
class Noop:
    pass


@dataclass(frozen=True, slots=True)
class Rset:
    pass


@dataclass(frozen=True, slots=True)
class Quit:
    pass


Command: TypeAlias = (
    User
    | Pass
    | Auth
    | AuthResponse
    | List
    | Uidl
    | Retr
    | Dele
    | Top
    | Capa
    | Stls
    | Utf8
    | Stat
    | Noop
    | Rset
    | Quit
)

_BARE: dict[bytes, Command] = {
    b"CAPA": Capa(),
    b"STLS": Stls(),
    b"UTF8": Utf8(),
    b"STAT": Stat(),
    b"NOOP": Noop(),
    b"RSET": Rset(),
    b"QUIT": Quit(),
}


def parse_command(line: bytes) -> Command:
    """Raises: ProtocolError whose text may be shown to the peer."""
    found = _LINE.match(line.rstrip(b" ") if line[:5].upper() != b"PASS " else line)
    if found is None:
        raise ProtocolError("not a command")
    verb, argument = found[1].upper(), found[2]
    if verb in _BARE:
        if argument:
            raise ProtocolError(f"{verb.decode()} takes no argument")
        return _BARE[verb]
    match verb:
        case b"USER":
            return User(_text(argument, "USER"))
        case b"PASS":
            if not argument:
                raise ProtocolError("PASS needs a password")
            return Pass(Secret(argument))
        case b"AUTH":
            return _auth(argument)
        case b"LIST":
            return List(_number(argument) if argument else None)
        case b"UIDL":
            return Uidl(_number(argument) if argument else None)
        case b"RETR":
            return Retr(_number(argument))
        case b"DELE":
            return Dele(_number(argument))
        case b"TOP":
            number, _, lines = (argument or b"").partition(b" ")
            return Top(_number(number), min(_count(lines), TOP_LINES_MAX))
        case _:
            raise ProtocolError("unknown command")


def render_command(command: Command) -> bytes:
    """The line with CRLF, as a client sends it."""
    match command:
        case User(name):
            text = b"USER " + name.encode()
        case Pass(password):
            text = b"PASS " + password.reveal()
        case Auth(mechanism, initial):
            words = [b"AUTH", mechanism.encode(), initial or b""]
            text = b" ".join(word for word in words if word)
        case AuthResponse(line):
            text = line
        case Top(number, lines):
            text = b"TOP %d %d" % (number, lines)
        case List(number) | Uidl(number):
            verb = type(command).__name__.upper().encode()
            text = verb if number is None else b"%b %d" % (verb, number)
        case Retr(number) | Dele(number):
            text = b"%b %d" % (type(command).__name__.upper().encode(), number)
        case _:
            text = type(command).__name__.upper().encode()
    return text + b"\r\n"


def _text(argument: bytes | None, verb: str) -> str:
    if not argument or b"\0" in argument:
        raise ProtocolError(f"{verb} needs a name")
    try:
        return argument.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"{verb}: not UTF-8") from error


def _number(argument: bytes | None) -> int:
    """A message number, from 1."""
    if argument is None or not _NUMBER.match(argument) or not int(argument):
        raise ProtocolError("a message number is needed")
    return int(argument)


def _count(argument: bytes) -> int:
    if not _NUMBER.match(argument):
        raise ProtocolError("a number of lines is needed")
    return int(argument)


def _auth(argument: bytes | None) -> Auth:
    mechanism, _, initial = (argument or b"").partition(b" ")
    if not re.match(rb"[A-Za-z0-9_\-]{0,20}\Z", mechanism):  # RFC 4422 §3.1
        raise ProtocolError("malformed mechanism name")
    return Auth(mechanism.decode().upper(), initial or None)
