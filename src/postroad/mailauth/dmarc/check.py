"""DMARC evaluation: find the policy, find what is aligned, say what the domain asks for.

Awaits only the Resolver. Says what the author's domain asks for, not what is done: that is
`policy.inbound`'s to judge. DNS that fails is `temperror`, never a fail.
Source: RFC 9989 §4.4, §4.10, §5.3.
Departs: a record of a top-level domain without `psd=` counts as one with `psd=y`. Some are older
than the tag, and by the letter they would align every domain below with every other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroad.dns.names import a_labels, is_within
from postroad.dns.resolver import Outcome, Resolver
from postroad.mail.errors import Unavailable
from postroad.mailauth.dkim import DKIMResult
from postroad.mailauth.dmarc.record import PSD, DMARCRecord, Policy, is_dmarc, parse_record
from postroad.mailauth.result import Result, printable
from postroad.mailauth.spf import SPFResult

QUERIES_MAX = 8
"""Of one tree walk (RFC 9989 §4.10)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DMARCResult:
    """domain: the author's, A-labels. policy: what the record asks for (before `t=y`), None when
    there is no record. disposition: what to do by it with this message.

    policy_domain: where the record was found. tag: p, sp or np, which gave the policy.
    aligned: the evidence for a pass, as `spf=...` and `dkim=...`. steps: for people.
    """

    result: Result
    domain: str
    policy: Policy | None = None
    disposition: Policy = Policy.NONE
    reason: str = ""
    policy_domain: str = ""
    tag: str = ""
    record: DMARCRecord | None = None
    aligned: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


async def check_dmarc(
    resolver: Resolver,
    author_domain: str | None,
    spf: SPFResult,
    dkim: Sequence[DKIMResult],
) -> DMARCResult:
    """The DMARC result of one message.

    author_domain: of the From: field, any spelling; None when there is not just one domain in
    it. spf: of MAIL FROM (of HELO when the reverse-path is null, RFC 7208 §2.4).
    """
    if author_domain is None:
        return DMARCResult(result=Result.NONE, domain="", reason="From: has not just one domain")
    try:
        author = a_labels(author_domain)
    except ValueError:
        return DMARCResult(
            result=Result.PERMERROR, domain="", reason="the domain in From: is no domain"
        )
    check = _Check(resolver, author)
    try:
        return await check.run(spf, dkim)
    except Unavailable as error:
        return DMARCResult(
            result=Result.TEMPERROR,
            domain=author,
            reason=printable(error.what),
            steps=tuple(check.steps),
        )


class _Check:
    """One evaluation, with the records it has seen."""

    def __init__(self, resolver: Resolver, author: str) -> None:
        self._resolver = resolver
        self._author = author
        self._records: dict[str, DMARCRecord | None] = {}
        self._organizations: dict[str, str] = {}
        self.steps: list[str] = []

    async def run(self, spf: SPFResult, dkim: Sequence[DKIMResult]) -> DMARCResult:
        """Raises: Unavailable."""
        found = await self._discover()
        if found is None:
            return self._result(Result.NONE, reason="no DMARC record")
        place, record = found
        if record.policy is None:
            return self._result(
                Result.PERMERROR,
                reason="the record gives no policy",
                policy_domain=place,
                record=record,
            )
        aligned, failed = await self._align(record, spf, dkim)
        if not aligned and failed:
            return self._result(Result.TEMPERROR, reason=failed, policy_domain=place, record=record)
        policy, tag = await self._policy(place, record, pass_known=bool(aligned))
        disposition = Policy.NONE
        reason = "aligned: " + ", ".join(aligned)
        if not aligned:
            disposition = policy.lowered if record.testing else policy
            reason = "nothing that passed is aligned"
            if record.testing:
                reason += "; the domain is testing its policy"
        return self._result(
            Result.PASS if aligned else Result.FAIL,
            policy=policy,
            disposition=disposition,
            reason=reason,
            policy_domain=place,
            tag=tag,
            record=record,
            aligned=aligned,
        )

    def _result(
        self,
        result: Result,
        *,
        reason: str,
        policy: Policy | None = None,
        disposition: Policy = Policy.NONE,
        policy_domain: str = "",
        tag: str = "",
        record: DMARCRecord | None = None,
        aligned: tuple[str, ...] = (),
    ) -> DMARCResult:
        return DMARCResult(
            result=result,
            domain=self._author,
            policy=policy,
            disposition=disposition,
            reason=reason,
            policy_domain=policy_domain,
            tag=tag,
            record=record,
            aligned=aligned,
            steps=tuple(self.steps),
        )

    # -- the policy -------------------------------------------------------------------------

    async def _discover(self) -> tuple[str, DMARCRecord] | None:
        """Where the policy is, and it: of the author's domain, else of its organizational
        domain, else of its public suffix.

        Source: RFC 9989 §4.10.1. Raises: Unavailable.
        """
        own = await self._record(self._author)
        if own is not None:
            return self._author, own
        walked = await self._walk(self._author)
        organization = _organization(self._author, walked)
        found = dict(walked)
        if organization in found:
            return organization, found[organization]
        return walked[-1] if walked else None

    async def _policy(
        self, place: str, record: DMARCRecord, *, pass_known: bool
    ) -> tuple[Policy, str]:
        """The policy for the author's domain and the tag it stands in.

        np is not looked into when the message passes: it would cost a query for nothing.
        Raises: Unavailable.
        """
        assert record.policy is not None
        if place == self._author:
            return record.policy, "p"
        if record.nonexistent is not None and not pass_known and not await self._exists():
            return record.nonexistent, "np"
        if record.subdomains is not None:
            return record.subdomains, "sp"
        return record.policy, "p"

    async def _exists(self) -> bool:
        """Source: RFC 9989 §3.2.13, RFC 8020 §2. Raises: Unavailable."""
        if (await self._resolver.a(self._author)).outcome is not Outcome.NXDOMAIN:
            return True
        self.steps.append(f"{self._author} does not exist")
        return False

    # -- the tree walk ----------------------------------------------------------------------

    async def _record(self, domain: str) -> DMARCRecord | None:
        """The one DMARC record of `domain`; None without, or with several.

        Raises: Unavailable.
        """
        if domain in self._records:
            return self._records[domain]
        answer = await self._resolver.txt(f"_dmarc.{domain}")
        found = [octets for octets in answer.records if is_dmarc(octets)]
        record = parse_record(found[0]) if len(found) == 1 else None
        if record is not None:
            self.steps.append(printable(f"_dmarc.{domain}: {record.text[:200]}"))
        elif found:
            self.steps.append(f"_dmarc.{domain}: {len(found)} records, none counts")
        self._records[domain] = record
        return record

    async def _walk(self, domain: str) -> list[tuple[str, DMARCRecord]]:
        """The records from `domain` up to the root or to a psd= that ends the walk.

        Source: RFC 9989 §4.10. Raises: Unavailable.
        """
        walked = []
        for target in _targets(domain):
            record = await self._record(target)
            if record is not None:
                walked.append((target, record))
                if record.psd is not PSD.UNSAID:
                    break
        return walked

    async def _organization_of(self, domain: str) -> str:
        """The organizational domain. Raises: Unavailable."""
        found = self._organizations.get(domain)
        if found is None:
            found = _organization(domain, await self._walk(domain))
            self._organizations[domain] = found
            self.steps.append(f"the organizational domain of {domain} is {found}")
        return found

    # -- alignment --------------------------------------------------------------------------

    async def _align(
        self, record: DMARCRecord, spf: SPFResult, dkim: Sequence[DKIMResult]
    ) -> tuple[tuple[str, ...], str]:
        """What passed and is aligned; and why an answer may be missing: an aligned identifier
        whose check failed temporarily, or DNS that failed here.

        Source: RFC 9989 §4.10.2, §5.3.6.
        """
        candidates = [("dkim", found.domain, found.result, record.strict_dkim) for found in dkim]
        candidates.append(("spf", spf.domain, spf.result, record.strict_spf))
        aligned: list[str] = []
        failed = ""
        for method, domain, result, strict in candidates:
            if result not in (Result.PASS, Result.TEMPERROR) or not domain:
                continue
            try:
                if not await self._is_aligned(domain, strict):
                    continue
            except Unavailable as error:
                failed = error.what
                continue
            if result is Result.TEMPERROR:
                failed = f"{method} of {domain} could not be checked"
            elif f"{method}={domain}" not in aligned:
                aligned.append(f"{method}={domain}")
        return tuple(aligned), failed

    async def _is_aligned(self, domain: str, strict: bool) -> bool:
        """An identifier outside the author's organizational domain costs no walk of its own.

        Raises: Unavailable.
        """
        if domain == self._author:
            return True
        if strict or domain.rpartition(".")[2] != self._author.rpartition(".")[2]:
            return False
        organization = await self._organization_of(self._author)
        if not is_within(domain, organization):
            return False
        return await self._organization_of(domain) == organization


def _targets(domain: str) -> list[str]:
    """The names that a tree walk asks for, `domain` first, at most QUERIES_MAX."""
    labels = domain.split(".")
    first = max(1, len(labels) - (QUERIES_MAX - 1))
    return [domain] + [".".join(labels[at:]) for at in range(first, len(labels))]


def _organization(domain: str, walked: Sequence[tuple[str, DMARCRecord]]) -> str:
    """The organizational domain by the records of a walk, longest name first.

    Source: RFC 9989 §4.10.2.
    """
    for place, record in walked:
        if record.psd is PSD.NO:
            return place
        is_suffix = record.psd is PSD.YES or "." not in place
        if is_suffix and place != domain:
            labels = domain.split(".")
            return ".".join(labels[-(place.count(".") + 2) :])
    return walked[-1][0] if walked else domain
