"""The records a domain needs in DNS, and how they are written into a zone file.

Pure: decides from what it is told, and asks nothing. Names are A-labels without the trailing
dot; values are as people paste them into a form, and `render_zone` quotes and dots them.

The choices, and why:
- SPF ends in `~all`: `-all` makes receivers refuse forwarded mail before they see its DKIM
  signature (RFC 7208 §8.4 leaves it to policy, RFC 9989 §7.1 warns). DMARC says what to do.
- The host name has an SPF record of its own: bounces have no sender but it (RFC 7208 §2.3).
- DMARC starts at `p=none` with reports to the postmaster (RFC 9989 §5.1.4, §5.1.5): nobody knows
  on the first day which other systems send for the domain. The comment says when to raise it.
Source: RFC 1035 §5.1, RFC 6376 §3.6.1, RFC 8463 §4, RFC 2142 §5 (postmaster).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from postroad.dns.names import a_labels, is_within, reverse_name

TTL_S = 3600
STRING_OCTETS_MAX = 255
"""Of one character-string of a TXT record (RFC 1035 §3.3.14)."""
MX_PREFERENCE = 10
UNKNOWN_ADDRESS = "<the server's public address>"
"""Value of the A record when we are told of no address; a comment in the zone file."""


@dataclass(frozen=True, slots=True)
class Record:
    """value: the record's data; of TXT the text, unquoted and in one piece. why: for people."""

    name: str
    type: str
    value: str
    why: str


def wanted_records(
    domain: str,
    hostname: str,
    addresses: Iterable[str],
    dkim: Iterable[tuple[str, str, str]],
) -> list[Record]:
    """What `domain` publishes when its mail lives on `hostname`.

    addresses: of the host, public ones wanted; none gives UNKNOWN_ADDRESS.
    dkim: (selector, algorithm, `p=`) of each key.
    Records of the host itself are only given when it is within the domain: they belong to the
    zone it is in.
    Raises: ValueError for names or addresses that are none.
    """
    name, host = a_labels(domain), a_labels(hostname)
    records = [
        Record(name, "MX", f"{MX_PREFERENCE} {host}", f"Mail for {name} comes to this server"),
        Record(name, "TXT", "v=spf1 mx ~all", f"SPF: this server sends for {name}"),
    ]
    for selector, algorithm, public in dkim:
        kind = algorithm.partition("-")[0]
        records.append(
            Record(
                f"{a_labels(selector)}._domainkey.{name}",
                "TXT",
                f"v=DKIM1; k={kind}; p={public}",
                f"DKIM: the public key of our {kind} signatures",
            )
        )
    records.append(
        Record(
            f"_dmarc.{name}",
            "TXT",
            f"v=DMARC1; p=none; rua=mailto:postmaster@{name}",
            "DMARC: reports come to the postmaster; once they show no senders but yours, "
            "go on to p=quarantine, then p=reject",
        )
    )
    if is_within(host, name):
        records += _host_records(host, addresses, has_spf=host == name)
    return records


def _host_records(host: str, addresses: Iterable[str], *, has_spf: bool) -> list[Record]:
    parsed = [ipaddress.ip_address(address) for address in addresses]
    records = [
        Record(
            host,
            "A" if address.version == 4 else "AAAA",
            str(address),
            "The server's address" + ("" if address.is_global else " (not a public one)"),
        )
        for address in parsed
    ]
    if not records:
        records.append(
            Record(
                host, "A", UNKNOWN_ADDRESS, "Fill in the server's addresses, AAAA too if it has one"
            )
        )
    if not has_spf:
        records.append(
            Record(host, "TXT", "v=spf1 a -all", "SPF of the server's name, which bounces carry")
        )
    records += [
        Record(
            reverse_name(str(address)),
            "PTR",
            host,
            "Set where you rent the address: many receivers refuse servers without it",
        )
        for address in parsed
        if address.is_global
    ]
    return records


def render_zone(records: Sequence[Record]) -> str:
    """The records as zone-file lines, the reason above each.

    PTR records are comments: they belong to the zone of whoever owns the address. So is an
    address that is yet to be filled in.
    """
    lines = []
    for record in records:
        line = f"{record.name}. {TTL_S} IN {record.type} {_data(record)}"
        is_comment = record.type == "PTR" or record.value == UNKNOWN_ADDRESS
        lines += [f"; {record.why}", f"; {line}" if is_comment else line]
    return "".join(f"{line}\n" for line in lines)


def _data(record: Record) -> str:
    match record.type:
        case "TXT":
            return render_txt(record.value.encode())
        case "MX" | "PTR":
            return f"{record.value}."
        case _:
            return record.value


def render_txt(octets: bytes) -> str:
    """The data of a TXT record: strings of at most 255 octets, quoted and escaped.

    Source: RFC 1035 §3.3.14, §5.1.
    """
    return " ".join(f'"{_escape(part)}"' for part in split_txt(octets))


def split_txt(octets: bytes) -> list[bytes]:
    """The character-strings of a TXT record; one empty string for no octets."""
    return [
        octets[at : at + STRING_OCTETS_MAX]
        for at in range(0, max(1, len(octets)), STRING_OCTETS_MAX)
    ]


def _escape(octets: bytes) -> str:
    return "".join(
        f"\\{chr(octet)}"
        if octet in b'"\\'
        else chr(octet)
        if 0x20 <= octet < 0x7F
        else f"\\{octet:03d}"
        for octet in octets
    )
