"""Mail from strangers: what is known about a message, and what follows from it.

`gather` asks SPF, DKIM and DMARC; `judge` is pure, so every verdict can be had again from its
evidence. Awaits only what it was handed: the resolver, the SPF check that began at MAIL, and the
deadline. Trusts DNS as far as the resolver does.
Source: RFC 7208 §2.6, RFC 6376 §6, RFC 9989 (DMARC), RFC 8601 §2.7 (the words).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol, TypeAlias

from postroad.dns.resolver import Resolver
from postroad.mail.address import Address, domain_key, is_domain
from postroad.mail.reply import Reply
from postroad.mailauth.dkim import DKIMResult, verify_dkim
from postroad.mailauth.dmarc import DMARCResult, Policy, check_dmarc
from postroad.mailauth.result import Result
from postroad.mailauth.spf import SPFResult
from postroad.message.addresses import mailboxes
from postroad.message.authres import AuthResult
from postroad.message.header import Header, parse_addresses
from postroad.trace import Event

AUTHOR_DOMAINS_MAX = 4
"""Of one message; real mail has one. Each is judged, the strictest policy counts."""


AUTHOR_OCTETS_MAX = 32 << 10
"""Of From: looked at; grammar that nests costs half a second a megabyte."""


Bounded: TypeAlias = Callable[[Coroutine[Any, Any, None]], Awaitable[None]]
"""Waits for the work, but not for ever: then it is cancelled."""


class Verify(Protocol):
    """`verify_dkim`, here or on a thread."""

    async def __call__(
        self, resolver: Resolver, octets: bytes | memoryview, now: datetime
    ) -> list[DKIMResult]: ...


class Action(Enum):
    ACCEPT = "accept"
    JUNK = "junk"
    DEFER = "defer"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """dmarc: one result for each author domain, the strictest first; at least one.

    overcrowded: From: names more domains than were looked at.
    """

    spf: SPFResult
    dkim: tuple[DKIMResult, ...]
    dmarc: tuple[DMARCResult, ...]
    authors: tuple[str, ...]
    overcrowded: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """reply: for DEFER and REFUSE. reason: for people, in the trace."""

    action: Action
    reason: str
    reply: Reply | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Event):
    """A message from outside was judged."""

    action: Action
    reason: str
    spf: str
    dkim: tuple[str, ...]
    dmarc: str
    authors: tuple[str, ...]


_LATE = "DNS took too long"
_DKIM_LATE = [
    DKIMResult(
        result=Result.TEMPERROR, domain="", selector="", identity="", algorithm="", reason=_LATE
    )
]
_SPF_LATE = SPFResult(result=Result.TEMPERROR, domain="", identity="mailfrom", reason=_LATE)
_STRICTNESS = {Policy.NONE: 0, Policy.QUARANTINE: 1, Policy.REJECT: 2}


def _dmarc_late(author: str | None) -> DMARCResult:
    return DMARCResult(result=Result.TEMPERROR, domain=author or "", reason=_LATE)


def author_domains(header: Header) -> tuple[str, ...]:
    """The domains of From:, as keys, each once; of all From: fields where there are several.

    At most of the first AUTHOR_OCTETS_MAX octets.
    """
    found: dict[str, None] = {}
    left = AUTHOR_OCTETS_MAX
    for field in header.all(b"from"):
        value = field.value[:left]
        left -= len(value)
        for mailbox in mailboxes(parse_addresses(value)):
            name = mailbox.domain.decode("utf-8", "replace")
            if is_domain(name):
                found.setdefault(domain_key(name))
    return tuple(found)


class _Findings:
    """Evidence on its way: what is not there when time is up counts as a failure of DNS."""

    def __init__(self, authors: tuple[str, ...]) -> None:
        self.authors = authors
        self.spf = _SPF_LATE
        self.dkim = _DKIM_LATE
        self.dmarc: list[DMARCResult] = []

    async def collect(
        self, resolver: Resolver, dkim: Awaitable[list[DKIMResult]], spf: Awaitable[SPFResult]
    ) -> None:
        self.dkim = await dkim
        self.spf = await spf
        looked_at: Sequence[str | None] = self.authors or (None,)
        for author in looked_at:
            self.dmarc.append(await check_dmarc(resolver, author, self.spf, self.dkim))

    def complete(self, overcrowded: bool) -> Evidence:
        looked_at: Sequence[str | None] = self.authors or (None,)
        late = [_dmarc_late(author) for author in looked_at[len(self.dmarc) :]]
        dmarc = sorted(self.dmarc + late, key=lambda result: -_STRICTNESS[result.disposition])
        return Evidence(
            spf=self.spf,
            dkim=tuple(self.dkim),
            dmarc=tuple(dmarc),
            authors=self.authors,
            overcrowded=overcrowded,
        )


async def gather(
    resolver: Resolver,
    octets: bytes | memoryview,
    header: Header,
    *,
    spf: Awaitable[SPFResult],
    now: datetime,
    bounded: Bounded,
    verify: Verify = verify_dkim,
) -> Evidence:
    """All evidence of one message.

    spf: a check under way. verify: `verify_dkim`, or the same on a thread for what is large.
    """
    authors = author_domains(header)
    unread = sum(len(field.value) for field in header.all(b"from")) > AUTHOR_OCTETS_MAX
    findings = _Findings(authors[:AUTHOR_DOMAINS_MAX])
    await bounded(findings.collect(resolver, verify(resolver, octets, now), spf))
    return findings.complete(unread or len(authors) > AUTHOR_DOMAINS_MAX)


def judge(evidence: Evidence) -> Verdict:
    """What becomes of the message. Pure.

    SPF alone refuses nothing: forwarders break it, and DMARC says what the author's domain wants
    (RFC 7208 §8.4 leaves it to the receiver). A DNS failure does not defer: the mail of a domain
    whose DNS is broken would come back for days to meet the same, and RFC 9989 leaves the choice;
    the temperror stands in Authentication-Results for whoever filters later.
    """
    strictest = evidence.dmarc[0]
    domain = strictest.domain
    if strictest.disposition is Policy.REJECT:
        text = f"The DMARC policy of {domain} has us refuse this message: {strictest.reason}"
        return Verdict(
            Action.REFUSE, f"dmarc fail, p=reject of {domain}", Reply.of(550, "5.7.1", _plain(text))
        )
    if strictest.disposition is Policy.QUARANTINE:
        return Verdict(Action.JUNK, f"dmarc fail, p=quarantine of {domain}")
    if evidence.overcrowded:
        return Verdict(Action.JUNK, f"From: names more than {AUTHOR_DOMAINS_MAX} domains")
    return Verdict(Action.ACCEPT, f"dmarc {strictest.result}")


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def auth_results(
    evidence: Evidence, *, helo: str, reverse_path: Address | None
) -> list[AuthResult]:
    """The evidence in the words of Authentication-Results.

    Source: RFC 8601 §2.7.1 (DKIM), §2.7.2 (SPF); RFC 9989 (DMARC).
    """
    spf = evidence.spf
    if spf.identity == "helo" or reverse_path is None:
        spf_property = ("smtp", "helo", helo)
    else:
        spf_property = ("smtp", "mailfrom", str(reverse_path))
    found = [AuthResult("spf", spf.result, spf.reason or None, (spf_property,))]
    found += [_dkim_result(result) for result in evidence.dkim]
    if not evidence.dkim:
        found.append(AuthResult("dkim", Result.NONE, None, ()))
    for result in evidence.dmarc:
        properties = [("header", "from", result.domain)] if result.domain else []
        if result.policy:
            properties.append(("policy", "dmarc", str(result.policy)))
        found.append(AuthResult("dmarc", result.result, None, tuple(properties)))
    return found


def _dkim_result(result: DKIMResult) -> AuthResult:
    """What may have to be quoted (a strange identity, base64) stands last: readers exist that pass
    over whatever follows a quoted property."""
    properties = [
        ("header", name, value)
        for name, value in (
            ("d", result.domain),
            ("s", result.selector),
            ("a", result.algorithm),
            ("i", result.identity),
            ("b", result.signature),
        )
        if value
    ]
    return AuthResult("dkim", result.result, result.reason or None, tuple(properties))


def judged(evidence: Evidence, verdict: Verdict, *, session: str, message: str) -> Judged:
    """The event of a verdict."""
    return Judged(
        session=session,
        message=message,
        action=verdict.action,
        reason=verdict.reason,
        spf=f"{evidence.spf.result} {evidence.spf.domain}".strip(),
        dkim=tuple(f"{result.result} {result.domain}" for result in evidence.dkim),
        dmarc=f"{evidence.dmarc[0].result} {evidence.dmarc[0].domain or ''}".strip(),
        authors=evidence.authors,
    )
