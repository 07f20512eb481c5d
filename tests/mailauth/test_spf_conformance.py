"""SPF against the openspf.org suite for RFC 7208: all of its tests, and some scenario files."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from postroad.dns.names import is_carriable
from postroad.dns.zone import Zone
from postroad.mail.address import Address
from postroad.mailauth.spf import SPFResult, check_spf

SUITE = Path(__file__).parent / "vectors" / "spf" / "rfc7208-tests.yml"
SHARED = os.environ.get("POSTROAD_SHARED")
CASES_OF_SUITE = 203


def zone_of(data: dict[str, list[Any]]) -> Zone:
    """The suite's zone data: SPF stands for TXT where the name has none; types that are not
    given time out under TIMEOUT."""
    zone = Zone()
    for name, entries in data.items():
        has_txt = any(isinstance(entry, dict) and "TXT" in entry for entry in entries)
        for entry in entries:
            if entry == "TIMEOUT":
                given = {kind for other in entries if other != "TIMEOUT" for kind in other}
                given -= {"TXT"} if {"TXT": "NONE"} in entries else set()
                for kind in {"TXT", "A", "AAAA", "MX", "PTR"} - given:
                    zone.add(name, "TIMEOUT", kind)
                continue
            ((kind, value),) = entry.items()
            if kind == "SPF":
                if has_txt:
                    continue
                kind = "TXT"
            if kind == "TXT":
                if value == "NONE":
                    continue
                parts = value if isinstance(value, list) else [value]
                value = "".join(parts).encode("utf-8")
            if value == "TIMEOUT":
                zone.add(name, "TIMEOUT", kind)
            else:
                zone.add(name, kind, tuple(value) if isinstance(value, list) else value)
    return zone


def cases() -> Iterator[Any]:
    with SUITE.open(encoding="utf-8") as file:
        for scenario in yaml.safe_load_all(file):
            for name, test in scenario["tests"].items():
                yield pytest.param(scenario, test, id=name)


def check(zone: Zone, test: dict[str, Any]) -> SPFResult:
    sender = str(test["mailfrom"])
    local, _, domain = sender.rpartition("@")
    return asyncio.run(
        check_spf(
            zone,
            address=test["host"],
            helo=str(test["helo"]),
            reverse_path=Address(local, domain) if sender else None,
            hostname="receiver.example.com",
        )
    )


def test_the_suite_is_whole() -> None:
    assert len(list(cases())) == CASES_OF_SUITE


@pytest.mark.parametrize(("scenario", "test"), list(cases()))
def test_suite(scenario: dict[str, Any], test: dict[str, Any]) -> None:
    found = check(zone_of(scenario["zonedata"]), test)
    allowed = test["result"] if isinstance(test["result"], list) else [test["result"]]
    assert found.result.value in allowed, found
    if "explanation" in test:
        expected = test["explanation"]
        if expected == "DEFAULT":
            assert found.explanation == ""
        else:
            assert found.explanation.lower() == expected.lower()


CORRECTED = {
    # `ip:` is no mechanism; a syntax error anywhere in a record counts (RFC 7208 §4.6)
    ("all-0", "test.org", "10.0.0.1"): "permerror",
    # ten look-ups that find nothing are eight too many (§4.6.4)
    ("basic-4", "ok.test.org", "172.168.0.1"): "permerror",
    # the HELO fails, which is not asked here; MAIL FROM passes
    ("basic-6", "mx.test.org", "172.168.0.1"): "pass",
    # exists asks for A records, also for clients on IPv6 (§5.7)
    ("exists-0", "ip6.test.org", "167.1.2.3"): "fail",
    ("macro-1", "mx.example.org", "2001:db8::cb01"): "fail",
    # IPv4 addresses are listed with ip4 only (§5)
    ("ip-1", "test.org", "10.1.2.3"): "fail",
}
"""Where a scenario expects what the RFC does not say."""


def scenarios() -> Iterator[Any]:
    """The scenario files: `type: name data` records, tests of domain, sender, ip."""
    for path in sorted(Path(SHARED or "/nonexistent").glob("conformance/spf/scenarios/*.yml")):
        if path.stem == "examples":  # of a form of its own, see test_the_appendix
            continue
        blocks = [
            block for block in re.split(r"(?m)^---\s*$", path.read_text()) if "tests:" in block
        ]
        for number, block in enumerate(blocks):
            yield pytest.param(f"{path.stem}-{number}", block, id=f"{path.stem}-{number}")


def scenario_zone(block: str) -> Zone:
    """`mx:` lists the addresses of one exchange; names with `_dns_error` fail."""
    zone = Zone("*._dns_error.org SERVFAIL")
    for name in set(re.findall(r"_dns_error[\w.]*", block)):
        zone.add(name, "SERVFAIL", "")
    for kind, name, value in re.findall(r"(?m)^  (a|aaaa|mx|ptr|spf|exp): (\S+) (.*?)\s*$", block):
        if "_dns_error" in name or not is_carriable(name):
            continue
        for number, item in enumerate(re.split(r",\s*", value) if kind in ROWS else [value]):
            if kind == "mx":
                exchange = f"mx{number}.{name}"
                zone.add(name, "MX", (10, exchange))
                zone.add(exchange, "AAAA" if ":" in item else "A", item)
            elif item:
                zone.add(name, "TXT" if kind in ("spf", "exp") else kind, item)
    return zone


ROWS = ("a", "aaaa", "mx", "ptr")


def check_scenario(zone: Zone, test: dict[str, Any]) -> SPFResult:
    """MAIL FROM of the sender, with the domain as HELO."""
    local, _, domain = str(test.get("sender") or "").rpartition("@")
    return asyncio.run(
        check_spf(
            zone,
            address=test["ip"],
            helo=test["domain"],
            reverse_path=Address(local, domain) if domain else None,
            hostname="receiver.example.com",
        )
    )


@pytest.mark.skipif(SHARED is None, reason="POSTROAD_SHARED is not set: no scenario files")
@pytest.mark.parametrize(("name", "block"), list(scenarios()))
def test_scenarios(name: str, block: str) -> None:
    zone = scenario_zone(block)
    tests = yaml.safe_load(block[block.index("tests:") :])["tests"]
    assert tests
    for test in tests:
        found = check_scenario(zone, test)
        word, _, explanation = test["expect"].partition(" ")
        word = CORRECTED.get((name, test["domain"], test["ip"]), word)
        assert found.result.value == word, (test, found)
        if explanation:
            assert found.explanation == explanation


@pytest.mark.skipif(SHARED is None, reason="POSTROAD_SHARED is not set: no scenario files")
def test_the_appendix() -> None:
    """RFC 7208 appendix A: one zone, and for each record the clients that pass or fail."""
    text = Path(SHARED or "", "conformance/spf/scenarios/examples.yml").read_text()
    tried = 0
    for block in re.split(r"(?m)^---\s*$", text):
        records, _, tests = block.partition("tests:")
        for case in tests.split("  - ")[1:]:
            zone = scenario_zone(re.sub(r"(?m)^ +", "  ", records + case))
            test = {"domain": "example.com", "sender": "user@example.com"}
            for key, value in re.findall(r"(?m)^ *(ip|domain|sender|expect): (\S+)", case):
                test[key] = value
                if "ip" in test and "expect" in test:
                    found = check_scenario(zone, test)
                    assert found.result.value == test.pop("expect"), (case, test, found)
                    test.pop("ip")
                    tried += 1
    assert tried > 30
