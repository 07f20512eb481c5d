"""DMARC: discovery by tree walk, alignment, policy, and what each fault comes to."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.dns.zone import Zone
from postroad.mailauth.dkim import DKIMResult
from postroad.mailauth.dmarc import DMARCResult, Policy, check_dmarc
from postroad.mailauth.dmarc.record import PSD, is_dmarc, parse_record
from postroad.mailauth.result import Result
from postroad.mailauth.spf import SPFResult


def spf(result: Result = Result.NONE, domain: str = "") -> SPFResult:
    return SPFResult(result=result, domain=domain, identity="mailfrom")


def dkim(result: Result, domain: str) -> DKIMResult:
    return DKIMResult(
        result=result, domain=domain, selector="s", identity=f"@{domain}", algorithm="rsa-sha256"
    )


def check(
    zone: Zone | str,
    author: str | None,
    *,
    spf_pass: str | None = None,
    dkim_pass: tuple[str, ...] = (),
    others: tuple[DKIMResult, ...] = (),
    spf_result: SPFResult | None = None,
) -> DMARCResult:
    zone = Zone(zone) if isinstance(zone, str) else zone
    checked = spf_result or (spf(Result.PASS, spf_pass) if spf_pass else spf())
    signatures = [dkim(Result.PASS, domain) for domain in dkim_pass] + list(others)
    return asyncio.run(check_dmarc(zone, author, checked, signatures))


EXAMPLE = '_dmarc.one.example TXT "v=DMARC1; p=reject; sp=quarantine; np=reject; adkim=r"'


def test_an_aligned_signature_passes() -> None:
    found = check(EXAMPLE, "one.example", dkim_pass=("other.example", "one.example"))
    assert (found.result, found.disposition) == (Result.PASS, Policy.NONE)
    assert (found.policy, found.tag, found.policy_domain) == (Policy.REJECT, "p", "one.example")
    assert found.aligned == ("dkim=one.example",)


def test_spf_alone_is_enough() -> None:
    assert check(EXAMPLE, "ONE.example", spf_pass="one.example").aligned == ("spf=one.example",)


def test_nothing_aligned_fails_with_the_policy() -> None:
    found = check(EXAMPLE, "one.example", spf_pass="two.example", dkim_pass=("two.example",))
    assert (found.result, found.disposition) == (Result.FAIL, Policy.REJECT)
    assert found.disposition == "reject"


def test_a_failed_check_is_not_aligned() -> None:
    found = check(EXAMPLE, "one.example", others=(dkim(Result.FAIL, "one.example"),))
    assert found.result is Result.FAIL


def test_no_record_is_none() -> None:
    found = check("", "one.example", spf_pass="one.example")
    assert (found.result, found.policy, found.disposition) == (Result.NONE, None, Policy.NONE)


@pytest.mark.parametrize("author", [None])
def test_no_single_author_is_none(author: str | None) -> None:
    assert check(EXAMPLE, author, spf_pass="one.example").result is Result.NONE


def test_a_malformed_author_is_permerror() -> None:
    assert check(EXAMPLE, "one..example").result is Result.PERMERROR


def test_an_idn_author_is_looked_up_by_its_a_label() -> None:
    zone = '_dmarc.xn--bcher-kva.example TXT "v=DMARC1;p=reject"'
    found = check(zone, "BÜCHER.example", dkim_pass=("xn--bcher-kva.example",))
    assert (found.result, found.domain) == (Result.PASS, "xn--bcher-kva.example")


# -- policy -------------------------------------------------------------------------------------


def test_a_subdomain_takes_sp_when_it_exists_and_np_when_not() -> None:
    zone = EXAMPLE + "\nnews.one.example A 192.0.2.1"
    there = check(zone, "news.one.example")
    assert (there.disposition, there.tag) == (Policy.QUARANTINE, "sp")
    absent = check(zone, "gone.one.example")
    assert (absent.disposition, absent.tag) == (Policy.REJECT, "np")
    assert absent.policy_domain == "one.example"


def test_an_empty_non_terminal_exists() -> None:
    zone = EXAMPLE + "\na.mid.one.example A 192.0.2.1"
    assert check(zone, "mid.one.example").tag == "sp"


def test_without_sp_the_p_counts_below() -> None:
    found = check('_dmarc.one.example TXT "v=DMARC1; p=quarantine"', "a.b.one.example")
    assert (found.disposition, found.tag) == (Policy.QUARANTINE, "p")


@pytest.mark.parametrize(
    ("policy", "disposition"), [("reject", "quarantine"), ("quarantine", "none"), ("none", "none")]
)
def test_testing_lowers_one_level(policy: str, disposition: str) -> None:
    found = check(f'_dmarc.one.example TXT "v=DMARC1; p={policy}; t=y"', "one.example")
    assert (found.result, found.policy, found.disposition) == (Result.FAIL, policy, disposition)


def test_pct_has_no_effect() -> None:
    found = check('_dmarc.one.example TXT "v=DMARC1; p=reject; pct=0; ri=3600"', "one.example")
    assert found.disposition is Policy.REJECT


def test_a_record_without_policy() -> None:
    assert check('_dmarc.o.example TXT "v=DMARC1; sp=none"', "o.example").result is Result.PERMERROR
    asks = '_dmarc.o.example TXT "v=DMARC1; p=rejekt; rua=mailto:a@o.example"'
    found = check(asks, "o.example")
    assert (found.result, found.policy) == (Result.FAIL, Policy.NONE)


def test_several_records_count_for_none() -> None:
    zone = EXAMPLE + '\n_dmarc.one.example TXT "v=DMARC1; p=none"\n_dmarc.one.example TXT other'
    assert check(zone, "one.example").result is Result.NONE
    zone = EXAMPLE + '\n_dmarc.one.example TXT other\n_dmarc.one.example TXT "V=dmarc1"'
    assert check(zone, "one.example").result is Result.FAIL


# -- the walk -----------------------------------------------------------------------------------


def test_a_long_name_takes_eight_queries() -> None:
    zone = Zone('_dmarc.g.h.i.j.mail.example.com TXT "v=DMARC1;p=reject"')
    found = check(zone, "a.b.c.d.e.f.g.h.i.j.mail.example.com")
    assert found.policy_domain == "g.h.i.j.mail.example.com"
    assert [name for kind, name in zone.asked if kind == "TXT"] == [
        "_dmarc.a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "_dmarc.g.h.i.j.mail.example.com",
        "_dmarc.h.i.j.mail.example.com",
        "_dmarc.i.j.mail.example.com",
        "_dmarc.j.mail.example.com",
        "_dmarc.mail.example.com",
        "_dmarc.example.com",
        "_dmarc.com",
    ]


def test_the_usual_case_takes_one_query() -> None:
    zone = Zone(EXAMPLE)
    check(zone, "one.example", dkim_pass=("one.example",), spf_pass="bounces.mailer.test")
    assert list(zone.asked) == [("TXT", "_dmarc.one.example")]


def test_identifiers_of_others_cost_no_walk() -> None:
    zone = Zone(EXAMPLE)
    check(zone, "one.example", dkim_pass=tuple(f"a.b.c.d{at}.example" for at in range(10)))
    assert list(zone.asked) == [("TXT", "_dmarc.one.example"), ("TXT", "_dmarc.example")]


def test_the_highest_record_is_the_organization() -> None:
    zone = """
    _dmarc.mail.example.com TXT "v=DMARC1;p=none"
    _dmarc.example.com TXT "v=DMARC1;p=reject"
    """.replace("    ", "")
    found = check(zone, "a.mail.example.com", dkim_pass=("b.example.com",))
    assert (found.result, found.policy_domain) == (Result.PASS, "example.com")


def test_psd_n_ends_the_walk() -> None:
    zone = """
_dmarc.mail.example.com TXT "v=DMARC1;p=none;psd=n"
_dmarc.example.com TXT "v=DMARC1;p=reject"
"""
    found = check(zone, "a.mail.example.com", dkim_pass=("b.example.com",))
    assert (found.result, found.policy_domain) == (Result.FAIL, "mail.example.com")
    assert check(zone, "a.mail.example.com", spf_pass="x.mail.example.com").result is Result.PASS
    assert check(zone, "b.example.com", spf_pass="x.mail.example.com").result is Result.FAIL


def test_psd_y_puts_the_organization_one_label_below() -> None:
    zone = '_dmarc.suffix.example TXT "v=DMARC1;p=none;sp=quarantine;psd=y"'
    found = check(zone, "a.one.suffix.example", dkim_pass=("b.one.suffix.example",))
    assert (found.result, found.policy_domain) == (Result.PASS, "suffix.example")
    found = check(zone, "a.one.suffix.example", dkim_pass=("two.suffix.example",))
    assert (found.result, found.disposition, found.tag) == (Result.FAIL, Policy.QUARANTINE, "sp")
    own = check(zone, "suffix.example", dkim_pass=("suffix.example",))
    assert (own.result, own.policy) == (Result.PASS, Policy.NONE)


def test_psd_y_prefers_the_organization_s_own_record() -> None:
    zone = """
_dmarc.suffix.example TXT "v=DMARC1;p=none;psd=y"
_dmarc.one.suffix.example TXT "v=DMARC1;p=reject"
"""
    assert check(zone, "a.one.suffix.example").policy_domain == "one.suffix.example"


def test_a_top_level_domain_is_nobody_s_organization() -> None:
    zone = '_dmarc.bank TXT "v=DMARC1;p=reject"'
    found = check(zone, "one.bank", dkim_pass=("two.bank",))
    assert (found.result, found.policy_domain) == (Result.FAIL, "bank")
    assert check(zone, "one.bank", dkim_pass=("mail.one.bank",)).result is Result.PASS


def test_strict_alignment_compares_names() -> None:
    zone = '_dmarc.one.example TXT "v=DMARC1;p=reject;adkim=s;aspf=r"'
    assert check(zone, "one.example", dkim_pass=("a.one.example",)).result is Result.FAIL
    assert check(zone, "one.example", spf_pass="a.one.example").result is Result.PASS
    assert check(zone, "one.example", dkim_pass=("one.example",)).result is Result.PASS


@pytest.mark.parametrize(
    ("domain", "result"),
    [("foo.example.com", "pass"), ("news.example.com", "pass"), ("foo.example.net", "fail")],
)
def test_the_alignment_examples(domain: str, result: str) -> None:
    """RFC 9989 §4.4, table 1."""
    zone = '_dmarc.example.com TXT "v=DMARC1;p=reject"'
    assert check(zone, "news.example.com", dkim_pass=(domain,)).result == result


# -- failing DNS --------------------------------------------------------------------------------


def test_dns_that_fails_is_temperror_and_never_a_fail() -> None:
    found = check("_dmarc.one.example TIMEOUT", "one.example", spf_pass="one.example")
    assert (found.result, found.disposition) == (Result.TEMPERROR, Policy.NONE)
    assert "timed out" in found.reason


def test_an_aligned_check_that_could_not_be_made_is_temperror() -> None:
    waits = (dkim(Result.TEMPERROR, "one.example"),)
    assert check(EXAMPLE, "one.example", others=waits).result is Result.TEMPERROR
    assert check(EXAMPLE, "one.example", others=waits, spf_pass="one.example").result is Result.PASS
    foreign = (dkim(Result.TEMPERROR, "two.test"),)
    assert check(EXAMPLE, "one.example", others=foreign).result is Result.FAIL
    slow = spf(Result.TEMPERROR, "one.example")
    assert check(EXAMPLE, "one.example", spf_result=slow).result is Result.TEMPERROR


def test_a_walk_that_fails_spoils_only_what_needs_it() -> None:
    zone = EXAMPLE + "\n_dmarc.sub.one.example SERVFAIL"
    found = check(zone, "one.example", dkim_pass=("sub.one.example", "one.example"))
    assert found.result is Result.PASS
    assert check(zone, "one.example", dkim_pass=("sub.one.example",)).result is Result.TEMPERROR


# -- records ------------------------------------------------------------------------------------


def test_a_record_is_read_as_far_as_it_can_be() -> None:
    record = parse_record(
        b"v=DMARC1 ; P=Reject; rubbish; p=none; psd=Q; adkim=S; rua=mailto:a@b.example!10m,"
        b"https://c.example/x , nonsense; fo=1:d; t=Y;"
    )
    assert (record.policy, record.psd, record.testing) == (Policy.REJECT, PSD.UNSAID, True)
    assert (record.strict_dkim, record.strict_spf) == (True, False)
    assert record.rua == ("mailto:a@b.example", "https://c.example/x")


@pytest.mark.parametrize(
    ("octets", "is_one"),
    [
        (b"v=DMARC1", True),
        (b"v = DMARC1 ;p=none", True),
        (b"v=DMARC1;", True),
        (b"v=dmarc1;p=none", False),
        (b"v=DMARC12;p=none", False),
        (b"p=none;v=DMARC1", False),
        (b"", False),
    ],
)
def test_the_version_stands_first(octets: bytes, is_one: bool) -> None:
    assert is_dmarc(octets) is is_one


RECORD = st.lists(
    st.sampled_from(
        [b"v=DMARC1", b"p=reject", b"p=", b"sp=none", b"np=\xff", b"psd=y", b"psd=n", b"t=y"]
        + [b"adkim=s", b"aspf=s", b"rua=mailto:x@y.example", b"=", b"p", b"\x00"]
    ),
    max_size=8,
).map(b";".join)
NAMES = ["example", "one.example", "a.one.example", "b.a.one.example", "two.example"]


@given(
    st.dictionaries(st.sampled_from(NAMES), st.one_of(RECORD, st.binary(max_size=60)), max_size=5),
    st.one_of(st.sampled_from(NAMES), st.text(max_size=30)),
    st.lists(st.sampled_from(NAMES), max_size=4),
    st.sampled_from([None, *NAMES]),
)
def test_nothing_raises_and_only_aligned_passes_pass(
    records: dict[str, bytes], author: str, signed: list[str], sent: str | None
) -> None:
    zone = Zone({f"_dmarc.{name}": {"TXT": record} for name, record in records.items()})
    found = check(zone, author, dkim_pass=tuple(signed), spf_pass=sent)
    if found.result is Result.PASS:
        identifiers = {*signed, sent}
        assert all(item.partition("=")[2] in identifiers for item in found.aligned)
        assert found.disposition is Policy.NONE
    assert len(zone.asked) <= 8 * 6 + 1
