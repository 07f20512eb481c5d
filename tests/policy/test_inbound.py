"""Evidence and verdicts: the verdict is a pure function of its evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import authres
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.dns.zone import Zone
from postroad.mail.address import Address
from postroad.mailauth.dkim import DKIMResult
from postroad.mailauth.dmarc import DMARCResult, Policy
from postroad.mailauth.result import Result
from postroad.mailauth.spf import SPFResult
from postroad.message.authres import parse_authentication_results, render_authentication_results
from postroad.message.header import Header, parse_header
from postroad.policy.inbound import (
    AUTHOR_DOMAINS_MAX,
    AUTHOR_OCTETS_MAX,
    Action,
    Evidence,
    auth_results,
    author_domains,
    gather,
    judge,
    judged,
)
from support.sites import NOW

SPF = SPFResult(result=Result.FAIL, domain="a.example", identity="mailfrom", reason="-all")
DKIM = DKIMResult(
    result=Result.PASS,
    domain="a.example",
    selector="s",
    identity="@a.example",
    algorithm="rsa-sha256",
    signature="abcd1234",
)


def evidence(*dmarc: DMARCResult, overcrowded: bool = False) -> Evidence:
    return Evidence(
        spf=SPF, dkim=(DKIM,), dmarc=dmarc, authors=("a.example",), overcrowded=overcrowded
    )


def dmarc(result: Result, disposition: Policy = Policy.NONE) -> DMARCResult:
    return DMARCResult(
        result=result, domain="a.example", policy=disposition, disposition=disposition, reason="why"
    )


@pytest.mark.parametrize(
    ("found", "action", "reply"),
    [
        (dmarc(Result.PASS), Action.ACCEPT, None),
        (dmarc(Result.NONE), Action.ACCEPT, None),
        (dmarc(Result.TEMPERROR), Action.ACCEPT, None),
        (dmarc(Result.FAIL), Action.ACCEPT, None),
        (dmarc(Result.FAIL, Policy.QUARANTINE), Action.JUNK, None),
        (dmarc(Result.FAIL, Policy.REJECT), Action.REFUSE, "550 5.7.1"),
    ],
)
def test_verdicts(found: DMARCResult, action: Action, reply: str | None) -> None:
    verdict = judge(evidence(found))
    assert verdict.action is action
    assert verdict.reason
    assert (verdict.reply is None) == (reply is None)
    if reply is not None:
        assert str(verdict.reply).startswith(reply) and "a.example" in str(verdict.reply)


def test_too_many_author_domains_are_junk() -> None:
    assert judge(evidence(dmarc(Result.PASS), overcrowded=True)).action is Action.JUNK


@given(
    st.sampled_from(list(Result)),
    st.sampled_from(list(Policy)),
    st.text(max_size=30),
    st.booleans(),
)
def test_every_verdict_has_a_reason_and_a_reply_that_fits(
    result: Result, disposition: Policy, reason: str, crowded: bool
) -> None:
    found = DMARCResult(result=result, domain="é", disposition=disposition, reason=reason)
    verdict = judge(evidence(found, overcrowded=crowded))
    assert verdict.reason
    assert (verdict.reply is not None) == (verdict.action in (Action.REFUSE, Action.DEFER))
    if verdict.reply is not None:
        assert verdict.reply.render().endswith(b"\r\n")


def header(text: str) -> Header:
    return parse_header(text.encode() + b"\r\n\r\n")[0]


def test_author_domains() -> None:
    assert author_domains(header("From: A <a@One.Example>")) == ("one.example",)
    assert author_domains(header("Subject: x")) == ()
    assert author_domains(header("From: nobody")) == ()
    several = "From: a@one.example, b@two.example\r\nFrom: c@three.example, d@ONE.example"
    assert author_domains(header(several)) == ("one.example", "two.example", "three.example")
    assert author_domains(header("From: a@bücher.example")) == ("xn--bcher-kva.example",)


ZONE = Zone(
    """
one.example          TXT "v=spf1 -all"
_dmarc.one.example   TXT "v=DMARC1; p=quarantine"
_dmarc.two.example   TXT "v=DMARC1; p=reject"
_dmarc.down.example  SERVFAIL
"""
)


async def sender(result: SPFResult) -> SPFResult:
    return result


async def unbounded(work: Coroutine[Any, Any, None]) -> None:
    await work


async def impatient(work: Coroutine[Any, Any, None]) -> None:
    work.close()


def gathered(text: str, bounded: Any = unbounded) -> Evidence:
    octets = text.encode() + b"\r\n\r\nbody\r\n"
    parsed, _ = parse_header(octets)

    async def run() -> Evidence:
        waiting = asyncio.ensure_future(sender(SPF))
        found = await gather(ZONE, octets, parsed, spf=waiting, now=NOW, bounded=bounded)
        await waiting
        return found

    return asyncio.run(run())


def test_the_strictest_policy_of_all_authors_counts() -> None:
    found = gathered("From: a@one.example, b@two.example")
    assert [item.disposition for item in found.dmarc] == [Policy.REJECT, Policy.QUARANTINE]
    assert judge(found).action is Action.REFUSE
    assert judge(gathered("From: a@one.example")).action is Action.JUNK


def test_no_author_is_no_dmarc() -> None:
    found = gathered("Subject: x")
    assert found.authors == () and len(found.dmarc) == 1
    assert judge(found).action is Action.ACCEPT


def test_many_authors_are_bounded() -> None:
    names = ", ".join(f"x@d{number}.example" for number in range(50))
    found = gathered(f"From: {names}")
    assert found.overcrowded and len(found.dmarc) == AUTHOR_DOMAINS_MAX


def test_a_from_too_long_to_read_is_junk() -> None:
    """Comments within comments cost the loop half a second a megabyte."""
    octets = b"From: " + b"(" * AUTHOR_OCTETS_MAX + b" a@a.example\r\n\r\nx\r\n"
    found = gathered(octets.decode())
    assert found.overcrowded and judge(found).action is Action.JUNK


def test_dns_failures_accept_with_temperror() -> None:
    found = gathered("From: a@down.example")
    assert found.dmarc[0].result is Result.TEMPERROR
    assert judge(found).action is Action.ACCEPT


@pytest.mark.filterwarnings("ignore:coroutine 'verify_dkim' was never awaited")
def test_what_comes_too_late_is_temperror() -> None:
    found = gathered("From: a@one.example, b@two.example", impatient)
    assert found.spf.result is Result.TEMPERROR
    assert [item.result for item in found.dkim] == [Result.TEMPERROR]
    assert [item.result for item in found.dmarc] == [Result.TEMPERROR] * 2
    assert judge(found).action is Action.ACCEPT


def test_authentication_results_name_what_was_found() -> None:
    results = auth_results(
        evidence(dmarc(Result.FAIL, Policy.REJECT)),
        helo="c.example",
        reverse_path=Address("x", "a.example"),
    )
    field = render_authentication_results("mx.one.example", results)
    read = parse_authentication_results(field.partition(b":")[2])
    assert read is not None and read.authserv_id == "mx.one.example"
    found = {item.method: item for item in read.results}
    assert found["spf"].result == "fail"
    assert ("smtp", "mailfrom", "x@a.example") in found["spf"].properties
    assert found["dkim"].result == "pass"
    assert ("header", "d", "a.example") in found["dkim"].properties
    assert ("header", "b", "abcd1234") in found["dkim"].properties
    assert found["dmarc"].result == "fail"
    assert ("policy", "dmarc", "reject") in found["dmarc"].properties


def test_what_must_be_quoted_stands_last() -> None:
    """Readers exist that pass over whatever follows a quoted property; base64 is quoted."""
    found = replace(
        evidence(dmarc(Result.PASS)),
        dkim=(replace(DKIM, identity='"a b"@a.example', signature="ab/+=123"),),
    )
    results = auth_results(found, helo="c.example", reverse_path=Address("x", "a.example"))
    field = render_authentication_results("mx.one.example", results)
    read = authres.AuthenticationResultsHeader.parse(field.decode().replace("\r\n", ""))
    (dkim,) = [item for item in read.results if item.method == "dkim"]
    assert {"d", "s", "a"} <= {item.name for item in dkim.properties}
    names = [name for _, name, _ in results[1].properties]
    assert names[-1] == "b" and names.index("i") == len(names) - 2


def test_results_without_reverse_path_name_the_greeting() -> None:
    bare = Evidence(spf=SPF, dkim=(), dmarc=(dmarc(Result.NONE),), authors=())
    results = auth_results(bare, helo="c.example", reverse_path=None)
    assert results[0].properties == (("smtp", "helo", "c.example"),)
    assert [item.method for item in results] == ["spf", "dkim", "dmarc"]
    assert results[1].result == "none"


def test_the_event_says_what_decided() -> None:
    found = evidence(dmarc(Result.FAIL, Policy.REJECT))
    event = judged(found, judge(found), session="s", message="m")
    assert (event.session, event.message) == ("s", "m")
    assert event.action is Action.REFUSE
    assert event.spf == "fail a.example"
    assert event.dkim == ("pass a.example",)
    assert event.dmarc == "fail a.example"
