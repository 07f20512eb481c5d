"""check_host(): the evaluation of SPF records for one client.

Awaits only the Resolver. Trusts nobody: records and names are hostile, so their faults are
results. DNS that fails is `temperror`; work is bounded by the limits of RFC 7208 §4.6.4.
Source: RFC 7208 §2.3, §2.4 (identities), §4, §5, §6, RFC 8616 §4.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, TypeVar

from postroad.dns.names import a_labels, is_within
from postroad.dns.resolver import Answer, Resolver
from postroad.mail.address import Address
from postroad.mail.errors import Unavailable
from postroad.mail.limits import SPF_LOOKUPS_MAX, SPF_VOID_LOOKUPS_MAX
from postroad.mailauth.result import Result, printable
from postroad.mailauth.spf.macro import (
    MacroString,
    as_name,
    expand,
    letters,
    parse_macro_string,
)
from postroad.mailauth.spf.record import (
    LOOKUPS,
    Directive,
    Mechanism,
    SPFRecord,
    is_spf,
    parse_record,
)

ADDRESSES_OF_TERM_MAX = 10
"""Names of one `mx` or `ptr` that are looked up (RFC 7208 §4.6.4)."""
EXPLANATION_CHARACTERS_MAX = 400
"""It goes into a reply line of 512 octets."""
EXPLANATION_RECORD_OCTETS_MAX = 4096

_NAME = re.compile(r"[a-z0-9_.\-]+\Z")

T = TypeVar("T")
Identity = Literal["mailfrom", "helo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SPFResult:
    """domain: A-labels, the identity that was checked; "" when there was none to check.

    reason: the term that matched, or what was wrong. explanation: the domain's own words for a
    fail, ASCII, "" without. steps: what was looked at, in order, for people.
    """

    result: Result
    domain: str
    identity: Identity
    reason: str = ""
    explanation: str = ""
    steps: tuple[str, ...] = ()


async def check_spf(
    resolver: Resolver,
    *,
    address: str,
    helo: str,
    reverse_path: Address | None,
    hostname: str,
    now: datetime | None = None,
) -> SPFResult:
    """The SPF result of MAIL FROM, or of HELO when the reverse-path is null.

    address: of the client, text; IPv4-mapped counts as IPv4. helo: as the client said it.
    hostname: ours, for explanations. now: likewise; one that asks for the time is left out
    without it.
    """
    identity: Identity = "helo" if reverse_path is None else "mailfrom"
    named = helo if reverse_path is None else reverse_path.domain
    local = "postmaster" if reverse_path is None else reverse_path.local or "postmaster"
    try:
        client = _client(address)
    except ValueError:
        return SPFResult(
            result=Result.NONE, domain="", identity=identity, reason="the client has no IP address"
        )
    try:
        domain = _sender_domain(named)
    except ValueError as error:
        return SPFResult(result=Result.NONE, domain="", identity=identity, reason=str(error))
    check = _Check(resolver, client, local, domain, helo, hostname, now)
    try:
        result, reason = await check.host(domain)
    except _Stop as stop:
        result, reason = stop.result, str(stop)
    explanation = ""
    if result is Result.FAIL and check.explanation is not None:
        explanation = await check.explain(*check.explanation)
    return SPFResult(
        result=result,
        domain=domain,
        identity=identity,
        reason=printable(reason),
        explanation=explanation,
        steps=tuple(check.steps),
    )


def _client(address: str) -> IPv4Address | IPv6Address:
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        return IPv6Address(int(ip))  # a scope is gone
    return ip


def _sender_domain(name: str) -> str:
    """Raises: ValueError for what RFC 7208 §4.3 answers with "none"."""
    if name.startswith("["):
        raise ValueError("an address literal has no SPF record")
    domain = a_labels(name)
    if "." not in domain or _NAME.match(domain) is None:
        raise ValueError(f"{domain!r} is no host's or mail domain's name")
    return domain


class _Stop(Exception):
    """Ends the whole evaluation: temperror or permerror."""

    def __init__(self, result: Result, reason: str) -> None:
        super().__init__(reason)
        self.result = result


class _Check:
    """One evaluation: its arguments and what it has used up."""

    def __init__(
        self,
        resolver: Resolver,
        client: IPv4Address | IPv6Address,
        local: str,
        domain: str,
        helo: str,
        hostname: str,
        now: datetime | None,
    ) -> None:
        self._resolver = resolver
        self._client = client
        self._number = int(client)
        self._local = local
        self._domain = domain
        self._helo = helo
        self._hostname = hostname
        self._now = now
        self._lookups = 0
        self._voids = 0
        self._validated: list[str] | None = None
        self.steps: list[str] = []
        self.explanation: tuple[MacroString, str] | None = None

    # -- records ----------------------------------------------------------------------------

    async def host(self, domain: str) -> tuple[Result, str]:
        """check_host() for `domain`: a result and the term that gave it.

        Raises: _Stop for errors. Source: RFC 7208 §4.3-§4.7, §6.1.
        """
        redirected = False
        while True:
            record = await self._record(domain)
            if record is None:
                if redirected:
                    raise _Stop(Result.PERMERROR, f"{domain} has no SPF record to redirect to")
                return Result.NONE, f"{domain} has no SPF record"
            for directive in record.directives:
                if await self._matches(directive, domain):
                    self._step(f"{domain}: {directive.text} matches")
                    explanation = record.explanation
                    self.explanation = None if explanation is None else (explanation, domain)
                    return directive.result, f"{domain}: {directive.text}"
            if record.redirect is None or _has_all(record):
                self.explanation = None
                return Result.NEUTRAL, f"{domain}: nothing matches"
            self._count("redirect")
            target = await self._name(record.redirect, domain)
            self._step(f"{domain}: redirect={target or '?'}")
            if not target:
                raise _Stop(Result.PERMERROR, f"{domain}: redirect= names no domain")
            domain = target
            redirected = True

    async def _record(self, domain: str) -> SPFRecord | None:
        answer = await self._ask(self._resolver.txt(domain))
        records = [octets for octets in answer.records if is_spf(octets)]
        if not records:
            return None
        if len(records) > 1:
            raise _Stop(Result.PERMERROR, f"{domain} has {len(records)} SPF records")
        shown = records[0][:200].decode("ascii", "replace")
        self._step(f"{domain}: {shown}")
        record = parse_record(records[0])
        if isinstance(record, str):
            raise _Stop(Result.PERMERROR, f"{domain}: {record}")
        return record

    # -- mechanisms -------------------------------------------------------------------------

    async def _matches(self, directive: Directive, domain: str) -> bool:
        mechanism = directive.mechanism
        if mechanism in LOOKUPS:
            self._count(directive.text)
        match mechanism:
            case Mechanism.ALL:
                return True
            case Mechanism.IP4:
                return self._client.version == 4 and self._is_in(directive.network, directive)
            case Mechanism.IP6:
                return self._client.version == 6 and self._is_in(directive.network, directive)
            case _:
                pass
        target = domain
        if directive.target is not None:
            expanded = await self._name(directive.target, domain)
            if expanded is None:  # RFC 8616 §4
                return False
            target = expanded
        match mechanism:
            case Mechanism.INCLUDE:
                return await self._include(target)
            case Mechanism.A:
                return self._any_in(await self._addresses(target, void=True), directive)
            case Mechanism.MX:
                return await self._mx(target, directive)
            case Mechanism.PTR:
                return any(is_within(name, target) for name in await self._names_of_client())
            case _:
                answer = await self._ask(self._resolver.a(target))
                self._void(answer, target)
                return bool(answer)

    async def _include(self, target: str) -> bool:
        """Source: RFC 7208 §5.2."""
        self._step(f"include:{target}")
        result, _ = await self.host(target)  # its exp= is overwritten by whatever ends this record
        if result is Result.NONE:
            raise _Stop(Result.PERMERROR, f"{target} has no SPF record to include")
        return result is Result.PASS

    async def _mx(self, target: str, directive: Directive) -> bool:
        """Source: RFC 7208 §5.4, §4.6.4."""
        answer = await self._ask(self._resolver.mx(target))
        self._void(answer, target)
        for number, record in enumerate(answer.records):
            if number == ADDRESSES_OF_TERM_MAX:
                raise _Stop(Result.PERMERROR, f"{target} has more than {number} MX records")
            if record.exchange:
                found = await self._addresses(record.exchange, void=False)
                if self._any_in(found, directive):
                    return True
        return False

    async def _addresses(self, name: str, *, void: bool) -> tuple[str, ...]:
        ask = self._resolver.a if self._client.version == 4 else self._resolver.aaaa
        answer = await self._ask(ask(name))
        if void:
            self._void(answer, name)
        return answer.records

    async def _names_of_client(self) -> list[str]:
        """The validated names of the client, keys. Source: RFC 7208 §5.5."""
        if self._validated is not None:
            return self._validated
        self._validated = []
        try:
            answer = await self._resolver.ptr(str(self._client))
        except Unavailable:
            return self._validated
        for name in answer.records[:ADDRESSES_OF_TERM_MAX]:
            ask = self._resolver.a if self._client.version == 4 else self._resolver.aaaa
            try:
                addresses = (await ask(name)).records
            except Unavailable:
                continue
            if self._number in _numbers(addresses, self._client.version):
                self._validated.append(name.removesuffix(".").lower())
        return self._validated

    def _is_in(self, network: int, directive: Directive) -> bool:
        bits = directive.bits4 if self._client.version == 4 else directive.bits6
        return (self._number ^ network) >> (self._client.max_prefixlen - bits) == 0

    def _any_in(self, addresses: Iterable[str], directive: Directive) -> bool:
        numbers = _numbers(addresses, self._client.version)
        return any(self._is_in(number, directive) for number in numbers)

    # -- bounds -----------------------------------------------------------------------------

    async def _ask(self, question: Awaitable[Answer[T]]) -> Answer[T]:
        try:
            return await question
        except Unavailable as error:
            raise _Stop(Result.TEMPERROR, error.what) from error

    def _count(self, term: str) -> None:
        self._lookups += 1
        if self._lookups > SPF_LOOKUPS_MAX:
            raise _Stop(Result.PERMERROR, f"more than {SPF_LOOKUPS_MAX} look-ups, at {term}")

    def _void(self, answer: Answer[T], name: str) -> None:
        """Source: RFC 7208 §4.6.4: terms whose own look-up finds nothing."""
        if not answer.records:
            self._voids += 1
            if self._voids > SPF_VOID_LOOKUPS_MAX:
                raise _Stop(
                    Result.PERMERROR,
                    f"more than {SPF_VOID_LOOKUPS_MAX} look-ups found nothing, at {name}",
                )

    def _step(self, text: str) -> None:
        self.steps.append(printable(text))

    # -- macros -----------------------------------------------------------------------------

    async def _name(self, parts: MacroString, domain: str) -> str | None:
        """The name that a domain-spec stands for; None when a local part cannot be in one."""
        used = letters(parts)
        if not self._local.isascii() and used & {"s", "l"}:
            return None
        return as_name(expand(parts, await self._values(used, domain)))

    async def _values(self, used: set[str], domain: str) -> dict[str, str]:
        """Source: RFC 7208 §7.2."""
        client = self._client
        values = {
            "s": f"{self._local}@{self._domain}",
            "l": self._local,
            "o": self._domain,
            "d": domain,
            "i": str(client) if client.version == 4 else ".".join(f"{self._number:032x}"),
            "v": "in-addr" if client.version == 4 else "ip6",
            "h": self._helo,
            "c": str(client),
            "r": self._hostname or "unknown",
        }
        if "p" in used:
            values["p"] = _preferred(await self._names_of_client(), domain)
        if self._now is not None:
            values["t"] = str(int(self._now.timestamp()))
        return values

    async def explain(self, parts: MacroString, domain: str) -> str:
        """The domain's explanation, "" when there is none to be had. Source: RFC 7208 §6.2."""
        try:
            name = await self._name(parts, domain)
            answer = await self._resolver.txt(name or "")
            if len(answer.records) != 1:
                return ""
            text = answer.records[0][:EXPLANATION_RECORD_OCTETS_MAX].decode("ascii")
            explanation = parse_macro_string(text, explain=True)
            used = letters(explanation)
            if "t" in used and self._now is None:
                return ""
            said = expand(explanation, await self._values(used, domain))
        except (Unavailable, ValueError):
            return ""
        if not (said.isascii() and said.isprintable()):
            return ""
        return said[:EXPLANATION_CHARACTERS_MAX]


def _has_all(record: SPFRecord) -> bool:
    return any(directive.mechanism is Mechanism.ALL for directive in record.directives)


def _numbers(addresses: Iterable[str], version: int) -> list[int]:
    kind = IPv4Address if version == 4 else IPv6Address
    return [int(kind(address)) for address in addresses]


def _preferred(names: list[str], domain: str) -> str:
    """The %{p} of the validated names. Source: RFC 7208 §7.3."""
    if domain in names:
        return domain
    for name in names:
        if is_within(name, domain):
            return name
    return names[0] if names else "unknown"
