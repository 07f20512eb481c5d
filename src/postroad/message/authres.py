"""Authentication-Results: our verdicts written down, and those of others read.

Values come from hostile mail: whatever is no token or address is quoted, control characters
never pass. Reading is tolerant up to the first fault and never raises.
Source: RFC 8601 §2.2 (grammar), §5 (removing forged fields), RFC 2045 §5.1 (value).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from postroad.mail.address import domain_key
from postroad.message.addresses import comment_end
from postroad.message.header import unfold
from postroad.message.trace_fields import LINE_OCTETS_MAX

RESULTS_MAX = 200
"""Read of one field; ours have some five."""
CLAIM_OCTETS_MAX = 4096
"""Looked at for the name a field bears; comments in front of it may be endless."""
VALUE_OCTETS_MAX = 900
"""Of one value when writing, so that no line passes 998 octets."""

_KEYWORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?\Z")
_TOKEN = re.compile(r"[^\x00-\x20\x7f-\x9f()<>@,;:\\\"/\[\]?=\ud800-\udfff]+\Z")
_ADDRESS = re.compile(
    r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a0-\ud7ff\ue000-\U0010ffff]+"
    r"(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a0-\ud7ff\ue000-\U0010ffff]+)*)?"
    r"@[A-Za-z0-9\u00a0-\ud7ff\ue000-\U0010ffff_\-]+"
    r"(?:\.[A-Za-z0-9\u00a0-\ud7ff\ue000-\U0010ffff_\-]+)*\Z"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_READ_VALUE = re.compile(
    rb'"((?:[^"\\]++|\\.)*+)"|([^\x00-\x20\x7f();"]++)|("(?:[^"\\]++|\\.)*+)', re.DOTALL
)
_READ_KEYWORD = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9_\-]*[A-Za-z0-9_])?")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AuthResult:
    """One method's outcome. properties: (ptype, property, value), e.g. smtp, mailfrom, a@b.

    method and result, ptype and property are keywords (RFC 5321 §4.1.2).
    """

    method: str
    result: str
    reason: str | None = None
    properties: tuple[tuple[str, str, str], ...] = ()

    def __post_init__(self) -> None:
        words = [self.method, self.result]
        for ptype, name, _ in self.properties:
            words += (ptype, name)
        for word in words:
            if _KEYWORD.match(word) is None:
                raise ValueError(f"not a keyword of Authentication-Results: {word!r}")


@dataclass(frozen=True, slots=True)
class AuthenticationResults:
    """A whole field that was read. version: 1 unless the field says otherwise."""

    authserv_id: str
    results: tuple[AuthResult, ...]
    version: int = 1


def _value(text: str) -> str:
    """A token as it is, anything else quoted; control characters become spaces."""
    clean = _CONTROL.sub(" ", text)
    octets = clean.encode("utf-8")
    if len(octets) > VALUE_OCTETS_MAX:
        clean = octets[:VALUE_OCTETS_MAX].decode("utf-8", "ignore")
    if _TOKEN.match(clean):
        return clean
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pvalue(text: str) -> str:
    if len(text) <= VALUE_OCTETS_MAX // 4 and _ADDRESS.match(text):
        return text
    return _value(text)


def _resinfo(result: AuthResult) -> list[str]:
    words = [f"{result.method}={result.result}"]
    if result.reason is not None:
        words.append(f"reason={_value(result.reason)}")
    words += [f"{ptype}.{name}={_pvalue(value)}" for ptype, name, value in result.properties]
    return words


def render_authentication_results(authserv_id: str, results: Iterable[AuthResult]) -> bytes:
    """The field with CRLF, a result to a line; `none` when there are no results.

    Non-ASCII values come out as UTF-8 (RFC 8616 §3).
    """
    lines: list[str] = []
    line = f"Authentication-Results: {_value(authserv_id)}"
    rows = [_resinfo(result) for result in results] or [["none"]]
    for words in rows:
        lines.append(line + ";")
        line = ""
        for word in words:
            if line and len(line.encode()) + 2 + len(word.encode()) > LINE_OCTETS_MAX:
                lines.append(line)
                line = "\t " + word
            else:
                line = f"{line} {word}" if line else f"\t{word}"
    lines.append(line)
    return ("\r\n".join(lines) + "\r\n").encode("utf-8")


class _Reader:
    """A cursor over one value. Every `take` returns None when what it wants is not there."""

    __slots__ = ("at", "value")

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.at = 0

    def skip(self) -> None:
        """Over white space and comments."""
        value, at = self.value, self.at
        while at < len(value):
            octet = value[at]
            if octet in b" \t\r\n":
                at += 1
            elif octet == 40:
                at = comment_end(value, at)
            else:
                break
        self.at = at

    def take(self, octet: bytes) -> bool:
        self.skip()
        if self.value[self.at : self.at + 1] != octet:
            return False
        self.at += 1
        return True

    def keyword(self) -> str | None:
        self.skip()
        match = _READ_KEYWORD.match(self.value, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match[0].decode("ascii").lower()

    def text(self) -> str | None:
        """A value: token, address or quoted string."""
        self.skip()
        match = _READ_VALUE.match(self.value, self.at)
        if match is None or match[3] is not None:
            return None
        self.at = match.end()
        quoted = match[1]
        if quoted is None:
            return match[2].decode("utf-8", "replace")
        out = _ESCAPE.sub(r"\1", quoted.decode("utf-8", "replace"))
        if self.value[self.at : self.at + 1] == b"@":  # "local part"@domain
            rest = _READ_VALUE.match(self.value, self.at)
            if rest is not None and rest[2] is not None:
                self.at = rest.end()
                out = f'"{out}"' + rest[2].decode("utf-8", "replace")
        return out

    def to_semicolon(self) -> None:
        """Over what cannot be read, quoted strings and comments as wholes."""
        while self.at < len(self.value):
            self.skip()
            match = _READ_VALUE.match(self.value, self.at)
            if match is not None:
                self.at = match.end()
            elif self.value[self.at : self.at + 1] == b";":
                return
            else:
                self.at += 1


def _property(reader: _Reader) -> tuple[str, str, str] | None:
    ptype = reader.keyword()
    if ptype is None or not reader.take(b"."):
        return None
    name = reader.keyword()
    if name is None or not reader.take(b"="):
        return None
    value = reader.text()
    return None if value is None else (ptype, name, value)


def _result(reader: _Reader) -> AuthResult | None:
    method = reader.keyword()
    if method is None:
        return None
    if reader.take(b"/"):
        reader.keyword()
    if not reader.take(b"="):
        return None
    result = reader.keyword()
    if result is None:
        return None
    reason: str | None = None
    properties: list[tuple[str, str, str]] = []
    while len(properties) < RESULTS_MAX:
        reader.skip()
        begin = reader.at
        word = reader.keyword()
        if word == "reason" and reason is None and reader.take(b"="):
            reason = reader.text()
            continue
        reader.at = begin
        found = _property(reader)
        if found is None:
            break
        properties.append(found)
    try:
        return AuthResult(method, result, reason, tuple(properties))
    except ValueError:  # an underscore where a keyword has none
        return None


def parse_authentication_results(value: bytes) -> AuthenticationResults | None:
    """The field's value (after the colon) read; None when not even an authserv-id is there.

    A result that cannot be read is left out, the others stay.
    """
    reader = _Reader(unfold(value))
    authserv_id = reader.text()
    if authserv_id is None:
        return None
    version = 1
    reader.skip()
    word = reader.keyword()
    if word is not None and word.isdigit():
        version = int(word[:9])
    results: list[AuthResult] = []
    while len(results) < RESULTS_MAX:
        reader.to_semicolon()
        if not reader.take(b";"):
            break
        found = _result(reader)
        if found is not None:
            results.append(found)
    return AuthenticationResults(authserv_id, tuple(results), version)


def claims_to_be_from(field_value: bytes, authserv_id: str) -> bool:
    """Whether a field of another's making bears our name and must go (RFC 8601 §5).

    Compared as domains, U-labels as A-labels; any doubt counts as a claim.
    """
    value = unfold(field_value)
    reader = _Reader(value[:CLAIM_OCTETS_MAX])
    claimed = reader.text()
    if len(value) > CLAIM_OCTETS_MAX and (claimed is None or reader.at == CLAIM_OCTETS_MAX):
        return True
    if claimed is None:
        return authserv_id.lower().encode() in field_value.lower()
    try:
        return domain_key(claimed) == domain_key(authserv_id)
    except ValueError:
        return claimed.strip().rstrip(".").lower() == authserv_id.rstrip(".").lower()
