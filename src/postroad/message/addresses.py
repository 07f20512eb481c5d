"""Address lists of header fields: mailboxes and groups, however badly written.

Gives octets as they stand (encoded words are not decoded); never raises, takes linear time.
Source: RFC 5322 §3.4, §4.4 (obsolete routes, empty members), §3.2 (tokens).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

ADDRESSES_MAX = 10_000
"""Of one field; what follows is left out. A header of 1 MB holds some 50,000."""
TOKENS_MAX = 100_000
"""Of one field; past it lies no address anyone wrote."""

_ATEXT = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\xff"
_DOT_ATOM = rb"[" + _ATEXT + rb"]++(?:\.[" + _ATEXT + rb"]++)*+"
_SIMPLE = re.compile(
    rb'[ \t]*+(?:(?:"([^"\\\r\n]*+)"[ \t]*+|([' + _ATEXT + rb" .\t]*+))"
    rb"<(" + _DOT_ATOM + rb")@(" + _DOT_ATOM + rb")>"
    rb"|(" + _DOT_ATOM + rb")@(" + _DOT_ATOM + rb"))[ \t]*+(?:,|\Z)"
)
"""What nearly every mailbox in the world looks like, with its comma."""
_TOKEN = re.compile(
    rb'([ \t\r\n]++)|"((?:[^"\\]++|\\.)*+)(?:"|\\?\Z)|(\[(?:[^\]\\]++|\\.)*+(?:\]|\\?\Z))'
    rb"|([<>,;:@.])"
    rb'|(\()|([^ \t\r\n<>,;:@."(\[]++)|(.)',
    re.DOTALL,
)
_DOT = re.compile(rb" ?\. ?")
_PAREN = re.compile(rb"[()]|\\.", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)

_SPACE, _QUOTED, _LITERAL, _SPECIAL, _COMMENT, _WORD, _ODD = range(1, 8)
Token = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class MailboxAddress:
    """One mailbox. display: its name, unquoted, or None. domain: b"" when there was none.

    local: unquoted. route: the obsolete source route `@a,@b`, or None.
    """

    display: bytes | None
    local: bytes
    domain: bytes
    route: bytes | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """`name: members;`."""

    name: bytes
    members: tuple[MailboxAddress, ...]


def unquote(octets: bytes) -> bytes:
    """Content of a quoted string without its backslashes."""
    return _ESCAPE.sub(rb"\1", octets) if b"\\" in octets else octets


def comment_end(value: bytes, start: int) -> int:
    """The offset behind the comment whose `(` stands at `start`; the end when it never closes."""
    depth = 0
    for match in _PAREN.finditer(value, start):
        if match[0] == b"(":
            depth += 1
        elif match[0] == b")":
            depth -= 1
            if depth == 0:
                return match.end()
    return len(value)


def _tokens(value: bytes) -> Iterator[Token]:
    at = 0
    while at < len(value):
        match = _TOKEN.match(value, at)
        if match is None:  # unreachable: the last alternative takes any octet
            return
        kind = match.lastindex or _ODD
        if kind == _COMMENT:
            end = comment_end(value, at)
            inner = value[at + 1 : end - 1] if value[end - 1 : end] == b")" else value[at + 1 : end]
            yield _COMMENT, unquote(inner).strip()
            at = end
            continue
        text = match[kind]
        yield kind, unquote(text) if kind == _QUOTED else text
        at = match.end()


def _phrase(tokens: list[Token]) -> bytes | None:
    """Words joined as they stood, white space runs as one space."""
    out: list[bytes] = []
    for kind, text in tokens:
        if kind == _SPACE:
            if out and out[-1] != b" ":
                out.append(b" ")
        elif kind != _COMMENT:
            out.append(text)
    joined = b"".join(out).strip()
    return joined or None


def _squeeze(tokens: list[Token]) -> bytes:
    return b"".join(text for kind, text in tokens if kind not in (_SPACE, _COMMENT))


def _local(tokens: list[Token]) -> bytes:
    """A local part: spaces around dots are obsolete folding, others were meant."""
    return _DOT.sub(b".", _phrase(tokens) or b"")


def _at(tokens: list[Token]) -> int:
    """Index of the last @, or -1."""
    for index in range(len(tokens) - 1, -1, -1):
        if tokens[index] == (_SPECIAL, b"@"):
            return index
    return -1


def _comments(tokens: list[Token]) -> bytes | None:
    found = [text for kind, text in tokens if kind == _COMMENT and text]
    return found[-1] if found else None


def _in_angle(tokens: list[Token]) -> tuple[bytes | None, bytes, bytes]:
    """(route, local, domain) of what stands between < and >."""
    route: bytes | None = None
    first = next((token for token in tokens if token[0] not in (_SPACE, _COMMENT)), None)
    if first == (_SPECIAL, b"@") and (_SPECIAL, b":") in tokens:
        colon = tokens.index((_SPECIAL, b":"))
        route = _squeeze(tokens[:colon])
        tokens = tokens[colon + 1 :]
    at = _at(tokens)
    if at == -1:
        return route, _local(tokens), b""
    return route, _local(tokens[:at]), _squeeze(tokens[at + 1 :])


def _without_angle(tokens: list[Token]) -> MailboxAddress | None:
    at = _at(tokens)
    if at == -1:
        # no @: a bare local part when it is one word, else a name without an address
        local = _squeeze(tokens)
        return MailboxAddress(_comments(tokens), local, b"") if local else None
    domain_to = _domain_end(tokens, at)
    domain = _squeeze(tokens[at + 1 : domain_to])
    local_from = _local_start(tokens, at)
    local = _squeeze(tokens[local_from:at])
    display = _phrase(tokens[:local_from]) or _phrase(tokens[domain_to:]) or _comments(tokens)
    return MailboxAddress(display, local, domain)


def _local_start(tokens: list[Token], at: int) -> int:
    """Where the local part before the @ at index `at` begins: words joined by dots only."""
    index = at
    wants_word = True
    for position in range(at - 1, -1, -1):
        kind, text = tokens[position]
        if kind in (_SPACE, _COMMENT):
            continue
        if (kind, text) == (_SPECIAL, b"."):
            wants_word = True
        elif wants_word and kind != _SPECIAL:
            wants_word = tokens[position - 1][0] in (_ODD, _QUOTED, _WORD) if position else False
        else:
            break
        index = position
    return index


def _domain_end(tokens: list[Token], at: int) -> int:
    """Where the domain behind the @ at index `at` ends: words joined by dots only."""
    wants_word = True
    for position in range(at + 1, len(tokens)):
        kind, text = tokens[position]
        if (kind, text) == (_SPECIAL, b"."):
            wants_word = True
        elif kind not in (_SPACE, _COMMENT):
            if not wants_word:
                return position
            wants_word = False
    return len(tokens)


def _mailbox(before: list[Token], angle: list[Token] | None) -> MailboxAddress | None:
    if angle is None:
        return _without_angle(before)
    route, local, domain = _in_angle(angle)
    display = _phrase(before) or _comments(before)
    if not local and not domain and display is None:
        return None
    return MailboxAddress(display, local, domain, route)


class _Reader:
    """Collects tokens into addresses; one per field."""

    __slots__ = ("angle", "before", "count", "group", "in_angle", "members", "out")

    def __init__(self) -> None:
        self.out: list[MailboxAddress | Group] = []
        self.members: list[MailboxAddress] = []
        self.group: bytes | None = None
        self.before: list[Token] = []
        self.angle: list[Token] | None = None
        self.in_angle = False
        self.count = 0

    def end_address(self) -> None:
        found = _mailbox(self.before, self.angle)
        self.before, self.angle, self.in_angle = [], None, False
        if found is None:
            return
        self.count += 1
        if self.group is None:
            self.out.append(found)
        else:
            self.members.append(found)

    def end_group(self) -> None:
        if self.group is not None:
            self.out.append(Group(self.group, tuple(self.members)))
            self.group, self.members = None, []
            self.count += 1

    def token(self, token: Token) -> None:
        kind, text = token
        if self.in_angle and self.angle is not None:
            if token == (_SPECIAL, b">"):
                self.in_angle = False
            else:
                self.angle.append(token)
            return
        if kind == _SPECIAL and text in b"<,;:":
            self._special(text, token)
        elif self.angle is None or kind == _COMMENT:  # a name where there is no other
            self.before.append(token)

    def _special(self, text: bytes, token: Token) -> None:
        if text == b"<":
            if self.angle is not None:  # `<a@b> <c@d>`: a comma was forgotten
                self.end_address()
            self.angle, self.in_angle = [], True
        elif text == b":" and self.group is None and self.angle is None:
            if _at(self.before) == -1:
                self.group = _phrase(self.before) or b""
                self.before = []
            else:
                self.before.append(token)
        elif text == b":":
            self.before.append(token)
        else:
            self.end_address()
            if text == b";":
                self.end_group()


def parse_addresses(value: bytes) -> list[MailboxAddress | Group]:
    """The addresses of a From:, To:... value. Commas missing or doubled do no harm."""
    if b"\n" in value or b"\r" in value:
        value = value.replace(b"\r", b"").replace(b"\n", b"")
    out: list[MailboxAddress | Group] = []
    at = 0
    size = len(value)
    while at < size:
        match = _SIMPLE.match(value, at)
        if match is None:
            break
        quoted, phrase, local, domain, bare_local, bare_domain = match.groups()
        if bare_local is not None:
            out.append(MailboxAddress(None, bare_local, bare_domain))
        else:
            display = quoted if quoted is not None else b" ".join(phrase.split())
            out.append(MailboxAddress(display or None, local, domain))
        at = match.end()
        if len(out) >= ADDRESSES_MAX:
            return out
    if at < size:
        reader = _Reader()
        reader.count = len(out)
        for number, token in enumerate(_tokens(value[at:] if at else value)):
            reader.token(token)
            if reader.count >= ADDRESSES_MAX or number >= TOKENS_MAX:
                break
        else:
            reader.end_address()
        reader.end_group()
        out += reader.out
    return out


def count_ats(value: bytes) -> int:
    """How many @ stand outside of quoted strings, comments and literals."""
    found = 0
    for number, token in enumerate(_tokens(value)):
        if number >= TOKENS_MAX:
            break
        found += token == (_SPECIAL, b"@")
    return found


def mailboxes(addresses: list[MailboxAddress | Group]) -> list[MailboxAddress]:
    """All mailboxes, members of groups included."""
    out: list[MailboxAddress] = []
    for item in addresses:
        if isinstance(item, Group):
            out += item.members
        else:
            out.append(item)
    return out
