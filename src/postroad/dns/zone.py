"""DNS in memory: a Resolver that answers from a table, for tests, demos and the lab.

Behaves as a resolver in front of the whole DNS would: CNAMEs followed, wildcards, empty
non-terminals that are NODATA and not NXDOMAIN, and names that fail on purpose. Text form:

    $ORIGIN one.example.
    @            MX    10 mx
    mx           A     192.0.2.1
    @            TXT   "v=spf1 mx " "-all"
    slow         TIMEOUT            ; every type
    broken       SERVFAIL TXT MX    ; these types only

Without $ORIGIN every name is absolute, dot or no dot. Input: our own, so faults raise.
Source: RFC 1034 §3.6, §4.3.2, §4.3.3 (wildcards), RFC 1035 §5.1, RFC 8020 §2.
"""

from __future__ import annotations

import ipaddress
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

from postroad.dns.names import a_labels, is_carriable, parents, reverse_name
from postroad.dns.resolver import MX, Answer, Outcome
from postroad.mail.errors import Unavailable

T = TypeVar("T")
Value: TypeAlias = "str | bytes | MX | tuple[int, str] | tuple[int, int, int, bytes]"
Records: TypeAlias = "Mapping[str, Mapping[str, Value | Iterable[Value]]]"

TYPES = frozenset({"A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TLSA", "TXT", "CAA"})
FAILURES = {"SERVFAIL": "SERVFAIL", "TIMEOUT": "timed out", "REFUSED": "refused"}
CNAMES_MAX = 8
"""Links of one chain; more, or a ring, is SERVFAIL as resolvers have it."""
ASKED_MAX = 10_000

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([()])|(;.*)|([^\s"();]+)')
_ESCAPE = re.compile(r"\\(\d{3}|.)")


@dataclass(frozen=True, slots=True)
class _Quoted:
    text: str


class Zone:
    """Implements `dns.resolver.Resolver`. Built from text, or from
    `{"one.example": {"MX": [(10, "mx.one.example")], "TXT": "v=spf1 mx -all"}}`;
    `SERVFAIL`/`TIMEOUT` take a type, several, or "" for all.

    asked: the questions put so far as (type, key), newest last, bounded.
    """

    def __init__(
        self, records: str | Records = "", *, ttl_s: int = 3600, authenticated: bool = False
    ) -> None:
        self.ttl_s = ttl_s
        self.authenticated = authenticated
        self.asked: deque[tuple[str, str]] = deque(maxlen=ASKED_MAX)
        self._records: dict[tuple[str, str], list[object]] = {}
        self._failing: dict[str, dict[str, str]] = {}
        self._existing: set[str] | None = None
        if isinstance(records, str):
            self.load(records)
        else:
            for name, types in records.items():
                for kind, values in types.items():
                    for value in _several(values):
                        self.add(name, kind, value)

    # -- building ---------------------------------------------------------------------------

    def load(self, text: str) -> None:
        """Adds the records of zone-file-like text. Raises: ValueError with the line."""
        origin = owner = ""
        for number, tokens in _entries(text):
            try:
                match tokens:
                    case ["$ORIGIN", str(name)]:
                        origin = name.rstrip(".")
                    case ["$TTL", str()]:
                        pass
                    case [str(name), *rest]:
                        owner = _absolute(name, origin) if name else owner
                        self._load_entry(owner, origin, rest)
                    case _:
                        raise ValueError("a line begins with a name")
            except ValueError as error:
                raise ValueError(f"zone line {number}: {error}") from error

    def _load_entry(self, owner: str, origin: str, tokens: list[str | _Quoted]) -> None:
        texts = [token.text if isinstance(token, _Quoted) else token for token in tokens]
        while texts and (texts[0].isdigit() or texts[0].upper() == "IN"):
            del texts[0]
        if not texts:
            raise ValueError(f"no type for {owner!r}")
        kind = texts.pop(0).upper()
        if kind in FAILURES:
            for item in texts or [""]:
                self.add(owner, kind, item)
        elif kind == "TXT":
            self.add(owner, kind, b"".join(_unescape(text) for text in texts))
        elif kind == "MX":
            preference, exchange = texts
            self.add(owner, kind, MX(int(preference), _absolute(exchange, origin)))
        elif kind in ("CNAME", "PTR", "NS"):
            (target,) = texts
            self.add(owner, kind, _absolute(target, origin))
        else:
            self.add(owner, kind, " ".join(texts))

    def add(self, name: str, kind: str, value: Value) -> None:
        """One record more; a PTR may be owned by an IP address. Raises: ValueError."""
        kind = kind.upper()
        key = _owner(name)
        if kind in FAILURES:
            self._failing.setdefault(key, {})[str(value).upper()] = kind
        elif kind in TYPES:
            self._records.setdefault((key, kind), []).append(_normal(kind, value))
        else:
            raise ValueError(f"unknown record type {kind!r}")
        self._existing = None

    def remove(self, name: str, kind: str | None = None) -> None:
        """Takes away the records and failures of a name, or of one type of it."""
        key = _owner(name)
        wanted = None if kind is None else kind.upper()
        for found in [at for at in self._records if at[0] == key and wanted in (None, at[1])]:
            del self._records[found]
        if wanted is None or wanted in FAILURES:
            self._failing.pop(key, None)
        self._existing = None

    def records(self) -> Iterator[tuple[str, str, object]]:
        """Every record as (key, type, value), for those who serve or print the zone."""
        for (key, kind), values in self._records.items():
            for value in values:
                yield key, kind, value

    # -- asking -----------------------------------------------------------------------------

    def lookup(self, name: str, kind: str) -> Answer[Any]:
        """The answer to one question, CNAMEs followed.

        Raises: Unavailable for names that were told to fail, and for CNAME rings.
        """
        try:
            key = a_labels(name)
        except ValueError:
            return self._answer(Outcome.NXDOMAIN)
        self.asked.append((kind, key))
        for _ in range(CNAMES_MAX + 1):
            source = self._source(key)
            self._fail_if_told(source, kind, name)
            if source is None:
                return self._answer(Outcome.NXDOMAIN)
            found = self._records.get((source, kind))
            if found:
                return self._answer(Outcome.FOUND, tuple(found))
            alias = self._records.get((source, "CNAME"))
            if not alias:
                return self._answer(Outcome.NODATA)
            key = str(alias[0])
        raise Unavailable(f"dns {kind.lower()} {name}: too many CNAMEs")

    def _answer(self, outcome: Outcome, records: tuple[object, ...] = ()) -> Answer[Any]:
        return Answer(outcome, records, self.ttl_s, self.authenticated)

    def _fail_if_told(self, source: str | None, kind: str, name: str) -> None:
        told = self._failing.get(source or "", {})
        failure = told.get(kind) or told.get("")
        if failure is not None:
            raise Unavailable(f"dns {kind.lower()} {name}: {FAILURES[failure]}")

    def _source(self, key: str) -> str | None:
        """The owner that answers for `key`: itself, or the wildcard below its closest encloser."""
        if self._existing is None:
            owners = {owner for owner, _ in self._records} | set(self._failing)
            self._existing = {name for owner in owners for name in parents(owner)}
        if key in self._existing:
            return key
        for encloser in parents(key)[1:]:
            if encloser in self._existing:
                wildcard = "*." + encloser
                return wildcard if wildcard in self._existing else None
        return "*" if "*" in self._existing else None

    async def txt(self, name: str) -> Answer[bytes]:
        return self.lookup(name, "TXT")

    async def mx(self, name: str) -> Answer[MX]:
        return self.lookup(name, "MX")

    async def a(self, name: str) -> Answer[str]:
        return self.lookup(name, "A")

    async def aaaa(self, name: str) -> Answer[str]:
        return self.lookup(name, "AAAA")

    async def ptr(self, address: str) -> Answer[str]:
        return self.lookup(reverse_name(address), "PTR")

    async def tlsa(self, name: str) -> Answer[tuple[int, int, int, bytes]]:
        return self.lookup(name, "TLSA")


def _several(values: Value | Iterable[Value]) -> Iterable[Value]:
    if isinstance(values, str | bytes | MX) or (
        isinstance(values, tuple) and values and isinstance(values[0], int)
    ):
        return [cast(Value, values)]
    return cast("Iterable[Value]", values)


def _owner(name: str) -> str:
    try:
        return reverse_name(name)
    except ValueError:
        return a_labels(name)


def _absolute(name: str, origin: str) -> str:
    if name == "@":
        return origin
    if name.endswith(".") or not origin:
        return name.removesuffix(".")
    return f"{name}.{origin}"


def _target(name: str) -> str:
    """A name as record data, case kept; the root is "". Hostile targets may be uncarriable."""
    name = name.removesuffix(".")
    return name if name.isascii() else a_labels(name)


def _normal(kind: str, value: Value) -> object:
    """The value in the form that the Resolver port promises."""
    match kind, value:
        case "TXT", str():
            return value.encode("utf-8", "surrogateescape")
        case "A", str():
            return str(ipaddress.IPv4Address(value))
        case "AAAA", str():
            return str(ipaddress.IPv6Address(value))
        case "MX", MX(preference, exchange):
            return MX(preference, _target(exchange))
        case "MX", (int(preference), str(exchange)):
            return MX(preference, _target(exchange))
        case "MX", str():
            preference_text, exchange = value.split()
            return MX(int(preference_text), _target(exchange))
        case "CNAME", str():
            return a_labels(value) if is_carriable(_target(value)) else value
        case (("PTR" | "NS"), str()):
            return _target(value)
        case "TLSA", str():
            usage, selector, matching, *data = value.split()
            return int(usage), int(selector), int(matching), bytes.fromhex("".join(data))
        case ("TLSA", tuple()) | ("TXT", bytes()) | (("SOA" | "SRV" | "CAA"), str()):
            return value
    raise ValueError(f"{value!r} is no data of type {kind}")


def _unescape(text: str) -> bytes:
    def octet(match: re.Match[str]) -> str:
        found = match[1]
        return chr(int(found)) if len(found) == 3 and int(found) < 256 else found

    if "\\" not in text:
        return text.encode()
    return b"".join(
        character.encode("latin-1") if ord(character) < 256 else character.encode()
        for character in _ESCAPE.sub(octet, text)
    )


def _entries(text: str) -> Iterator[tuple[int, list[str | _Quoted]]]:
    """(line number, tokens) of each entry; the first token is "" where the owner is repeated."""
    tokens: list[str | _Quoted] = []
    depth = began = 0
    for number, line in enumerate(text.splitlines(), 1):
        if depth == 0:
            tokens, began = [""] if line[:1].isspace() else [], number
        for match in _TOKEN.finditer(line):
            quoted, bracket, comment, word = match.groups()
            if comment is not None:
                break
            if bracket is not None:
                depth += 1 if bracket == "(" else -1
            elif word is not None:
                tokens.append(word)
            else:
                tokens.append(_Quoted(quoted))
        if depth == 0 and tokens not in ([], [""]):
            yield began, tokens
    if depth != 0:
        raise ValueError(f"zone line {began}: unbalanced parentheses")
