"""The commands of SMTP as values, and how a line becomes one.

A command that cannot be understood is a ProtocolError with the exact reply. Order is not checked
here, nor is what a command asks for allowed or possible.
Input: one line without CRLF, hostile, of bounded length.
Source: RFC 5321 §4.1.1, RFC 1870 §6, RFC 6152 §2, RFC 6531 §3.4, RFC 3461 §4, RFC 4954 §4,
RFC 3207 §4.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from postroad.mail.address import Address
from postroad.mail.envelope import Body, Recipient
from postroad.mail.errors import ProtocolError
from postroad.mail.reply import Reply
from postroad.protocol.smtp import replies
from postroad.protocol.smtp.syntax import (
    check_orcpt,
    is_helo_name,
    parse_forward_path,
    parse_parameters,
    parse_reverse_path,
    parse_xtext,
)

_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})
_NEVER = frozenset({"NEVER"})
_SIZE = re.compile(r"[0-9]{1,20}\Z")  # RFC 1870 §6
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}\Z")  # RFC 4422 §3.1
_BODIES = {"7BIT": Body.SEVEN_BIT, "8BITMIME": Body.EIGHT_BIT}
ENVID_OCTETS_MAX = 100  # RFC 3461 §5.4
ORCPT_OCTETS_MAX = 500  # RFC 3461 §5.4


@dataclass(frozen=True, slots=True)
class Helo:
    """extended: it was EHLO."""

    name: str
    extended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """size: as declared, None when it was not. auth: AUTH= decoded, for the trace only."""

    reverse_path: Address | None
    size: int | None = None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    auth: str | None = None


@dataclass(frozen=True, slots=True)
class Rcpt:
    recipient: Recipient


@dataclass(frozen=True, slots=True)
class Data:
    pass


@dataclass(frozen=True, slots=True)
class Rset:
    pass


@dataclass(frozen=True, slots=True)
class Noop:
    pass


@dataclass(frozen=True, slots=True)
class Vrfy:
    text: str


@dataclass(frozen=True, slots=True)
class Expn:
    text: str


@dataclass(frozen=True, slots=True)
class Help:
    text: str


@dataclass(frozen=True, slots=True)
class Quit:
    pass


@dataclass(frozen=True, slots=True)
class StartTLS:
    pass


@dataclass(frozen=True, slots=True)
class Auth:
    """initial: the initial response, still base64 (`=` is empty); None when there is none."""

    mechanism: str
    initial: bytes | None


Command: TypeAlias = (
    Helo | Mail | Rcpt | Data | Rset | Noop | Vrfy | Expn | Help | Quit | StartTLS | Auth
)


@dataclass(frozen=True, slots=True)
class Context:
    """What the session so far says about how lines are read.

    hostname: completes `<Postmaster>`. extended: EHLO was said, so parameters may be used.
    smtputf8: the transaction asked for it.
    """

    hostname: str
    extended: bool
    smtputf8: bool


def _fail(code: int, status: str, text: str) -> NoReturn:
    printable = text.encode("ascii", "replace").decode("ascii")
    clean = "".join(octet if octet.isprintable() else "?" for octet in printable)
    raise ProtocolError(text, Reply.of(code, status, clean))


def _refuse(reply: Reply) -> NoReturn:
    raise ProtocolError(reply.text, reply)


def _after_keyword(argument: str, keyword: str) -> str:
    """What stands behind `FROM:` or `TO:`.

    Departs: RFC 5321 §4.1.1.2 has no space behind the colon; senders that put one are let through.
    """
    if argument[: len(keyword)].upper() != keyword:
        _fail(501, "5.5.4", f"{keyword}<address> is missing")
    return argument[len(keyword) :].lstrip(" ")


def _parameters(rest: str, context: Context, command: str) -> dict[str, str | None]:
    if not rest:
        return {}
    if not context.extended:
        _fail(555, "5.5.4", f"{command} takes parameters after EHLO only")
    try:
        return parse_parameters(rest)
    except ValueError as error:
        _fail(501, "5.5.4", str(error))


def _mail(argument: str, context: Context) -> Mail:
    text = _after_keyword(argument, "FROM:")
    try:
        path, rest = parse_reverse_path(text)
    except ValueError as error:
        _fail(501, "5.1.7", str(error))
    found: dict[str, object] = {}
    for key, value in _parameters(rest, context, "MAIL").items():
        match key, value:
            case "SIZE", str() if _SIZE.match(value):
                found["size"] = int(value)
            case "BODY", str() if value.upper() in _BODIES:
                found["body"] = _BODIES[value.upper()]
            case "SMTPUTF8", None:
                found["smtputf8"] = True
            case "RET", str() if value.upper() in ("FULL", "HDRS"):
                found["ret"] = value.upper()
            case "ENVID", str() if _is_xtext(value, ENVID_OCTETS_MAX):
                found["envid"] = value
            case "AUTH", str() if _is_xtext(value, 500):
                found["auth"] = parse_xtext(value).decode("utf-8", "replace")
            case (("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID" | "AUTH"), _):
                _fail(501, "5.5.4", f"The value of {key} is malformed")
            case _:
                _fail(555, "5.5.4", f"The parameter {key[:40]} is not offered")
    if path is not None and not path.is_ascii and "smtputf8" not in found:
        _refuse(replies.NEEDS_SMTPUTF8)
    return Mail(reverse_path=path, **found)  # type: ignore[arg-type]  # each value was matched


def _is_xtext(value: str, octets_max: int) -> bool:
    if len(value) > octets_max:
        return False
    try:
        parse_xtext(value)
    except ValueError:
        return False
    return True


def _rcpt(argument: str, context: Context) -> Rcpt:
    text = _after_keyword(argument, "TO:")
    try:
        path, rest = parse_forward_path(text, context.hostname)
    except ValueError as error:
        _fail(501, "5.1.3", str(error))
    notify: frozenset[str] = frozenset()
    orcpt: str | None = None
    for key, value in _parameters(rest, context, "RCPT").items():
        if key == "NOTIFY":
            notify = _parse_notify(value)
        elif key == "ORCPT":
            orcpt = _parse_orcpt(value, context)
        else:
            _fail(555, "5.5.4", f"The parameter {key[:40]} is not offered")
    if not path.is_ascii and not context.smtputf8:
        _refuse(replies.NEEDS_SMTPUTF8)
    return Rcpt(Recipient(path=path, notify=notify, orcpt=orcpt))


def _parse_notify(value: str | None) -> frozenset[str]:
    """Source: RFC 3461 §4.1 (NEVER stands alone)."""
    words = (value or "").upper().split(",")
    wishes = frozenset(words)
    if len(wishes) != len(words) or not (wishes <= _NOTIFY or wishes == _NEVER):
        _fail(501, "5.5.4", "NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY")
    return wishes


def _parse_orcpt(value: str | None, context: Context) -> str:
    if value is None or len(value.encode()) > ORCPT_OCTETS_MAX:
        _fail(501, "5.5.4", "The value of ORCPT is malformed")
    if not value.isascii() and not context.smtputf8:
        _refuse(replies.NEEDS_SMTPUTF8)
    try:
        check_orcpt(value)
    except ValueError as error:
        _fail(501, "5.5.4", str(error))
    return value


def _helo(argument: str, context: Context) -> Helo:
    name = argument.strip(" ")
    if not is_helo_name(name):
        _refuse(replies.BAD_HELO)
    return Helo(name, False)


def _ehlo(argument: str, context: Context) -> Helo:
    return Helo(_helo(argument, context).name, True)


def _auth(argument: str, context: Context) -> Auth:
    if not context.extended:
        _refuse(replies.HELO_FIRST)
    mechanism, space, initial = argument.strip(" ").partition(" ")
    if _MECHANISM.match(mechanism) is None or not initial.isascii() or " " in initial:
        _fail(501, "5.5.4", "AUTH takes a mechanism and at most one initial response")
    return Auth(mechanism.upper(), initial.encode("ascii") if space else None)


def _bare(command: Command) -> Callable[[str, Context], Command]:
    """A command without argument."""

    def parse(argument: str, context: Context) -> Command:
        if argument.strip(" "):
            _refuse(replies.NO_ARGUMENT)
        return command

    return parse


def _with_text(make: Callable[[str], Command]) -> Callable[[str, Context], Command]:
    def parse(argument: str, context: Context) -> Command:
        if not argument.strip(" "):
            _refuse(replies.ARGUMENT_WANTED)
        return make(argument.strip(" "))

    return parse


def _noop(argument: str, context: Context) -> Noop:
    return Noop()  # RFC 5321 §4.1.1.9: a string may follow and says nothing


def _help(argument: str, context: Context) -> Help:
    return Help(argument.strip(" "))


_PARSERS: dict[bytes, Callable[[str, Context], Command]] = {
    b"HELO": _helo,
    b"EHLO": _ehlo,
    b"MAIL": _mail,
    b"RCPT": _rcpt,
    b"DATA": _bare(Data()),
    b"RSET": _bare(Rset()),
    b"NOOP": _noop,
    b"VRFY": _with_text(Vrfy),
    b"EXPN": _with_text(Expn),
    b"HELP": _help,
    b"QUIT": _bare(Quit()),
    b"STARTTLS": _bare(StartTLS()),
    b"AUTH": _auth,
}

_OF_HTTP = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE"})
"""A browser that was led here: whatever follows was written by a stranger's page."""


def parse_command(line: bytes, context: Context) -> Command:
    """One command from its line.

    Raises: ProtocolError with the reply.
    """
    if b"\r" in line or b"\n" in line or b"\0" in line:  # RFC 5321 §2.3.8
        _refuse(replies.BAD_LINE)
    verb, _, rest = line.partition(b" ")
    parser = _PARSERS.get(verb) or _PARSERS.get(verb.upper())
    if parser is None:
        _refuse(replies.NOT_HTTP if verb in _OF_HTTP else replies.UNRECOGNIZED)
    try:
        argument = rest.decode("utf-8")
    except UnicodeDecodeError:
        _refuse(replies.NOT_UTF8)
    return parser(argument, context)
