"""The lab's DNS, asked by dnspython."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from postroad.lab.dns import DNSServer
from postroad.lab.ports import free_port, is_free, loopback_addresses

ZONE = """
$ORIGIN one.example.
@       MX    10 mx
@       TXT   "v=spf1 mx " "-all"
mx      A     127.0.0.2
mx      A     127.0.0.3
mx      AAAA  ::1
www     CNAME mx
_25._tcp.mx TLSA 3 1 0 0102
broken  SERVFAIL
mute    TIMEOUT
no      REFUSED
$ORIGIN .
2.0.0.127.in-addr.arpa PTR mx.one.example
"""


def ask(
    server: DNSServer, name: str, kind: str, *, tcp: bool = False, edns: bool = True
) -> dns.message.Message:
    query = dns.message.make_query(name, kind, use_edns=edns, payload=1232)
    query.flags |= dns.flags.AD
    call = dns.query.tcp if tcp else dns.query.udp
    address, port = server.address
    return call(query, address, timeout=0.3 if name.startswith("mute") else 5, port=port)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(
    ("name", "kind", "texts"),
    [
        ("one.example", "MX", ["10 mx.one.example."]),
        ("one.example", "TXT", ['"v=spf1 mx -all"']),
        ("mx.one.example", "A", ["127.0.0.2", "127.0.0.3"]),
        ("MX.One.Example", "AAAA", ["::1"]),
        ("_25._tcp.mx.one.example", "TLSA", ["3 1 0 0102"]),
        ("2.0.0.127.in-addr.arpa", "PTR", ["mx.one.example."]),
    ],
)
def test_every_type_by_udp_and_tcp(name: str, kind: str, texts: list[str], tcp: bool) -> None:
    with DNSServer(ZONE) as server:
        answer = ask(server, name, kind, tcp=tcp).answer
        assert sorted(record.to_text() for rrset in answer for record in rrset) == texts
        assert server.tcp_queries == int(tcp)


def test_an_alias_is_shown_with_what_it_leads_to() -> None:
    with DNSServer(ZONE, ttl_s=60) as server:
        answer = ask(server, "www.one.example", "A").answer
        assert [(r.name.to_text(), r.rdtype.name) for r in answer] == [
            ("www.one.example.", "CNAME"),
            ("mx.one.example.", "A"),
        ]
        assert [record.address for record in answer[1]] == ["127.0.0.2", "127.0.0.3"]
        assert answer[0].ttl == 60
        assert server.asked() == [("A", "www.one.example")]


def test_what_is_not_there() -> None:
    with DNSServer(ZONE) as server:
        missing = ask(server, "x.one.example", "A")
        assert missing.rcode() == dns.rcode.NXDOMAIN
        assert missing.authority[0].rdtype == dns.rdatatype.SOA
        nodata = ask(server, "one.example", "A")
        assert nodata.rcode() == dns.rcode.NOERROR and not nodata.answer and nodata.authority
        assert ask(server, "one.example", "NAPTR").rcode() == dns.rcode.NOERROR


def test_failures_on_demand() -> None:
    with DNSServer(ZONE) as server:
        assert ask(server, "broken.one.example", "A").rcode() == dns.rcode.SERVFAIL
        assert ask(server, "no.one.example", "MX").rcode() == dns.rcode.REFUSED
        with pytest.raises(dns.exception.Timeout):
            ask(server, "mute.one.example", "A")


def test_changes_are_seen_at_once() -> None:
    with DNSServer() as server:
        assert ask(server, "two.example", "MX").rcode() == dns.rcode.NXDOMAIN
        server.add("two.example", "MX", "10 mx.two.example")
        server.load("$ORIGIN two.example.\n@ MX 20 mx2\n")
        records = ask(server, "two.example", "MX").answer[0]
        assert {record.preference for record in records} == {10, 20}
        server.remove("two.example")
        assert ask(server, "two.example", "MX").rcode() == dns.rcode.NXDOMAIN


def test_large_answers_are_truncated_by_udp() -> None:
    with DNSServer() as server:
        server.add("big.example", "TXT", b"x" * 2000)
        short = ask(server, "big.example", "TXT")
        assert short.flags & dns.flags.TC and not short.answer
        assert ask(server, "big.example", "TXT", edns=False).flags & dns.flags.TC
        whole = ask(server, "big.example", "TXT", tcp=True)
        assert b"".join(whole.answer[0][0].strings) == b"x" * 2000
        server.add("small.example", "A", "127.0.0.9")
        server.udp_octets_max = 0
        assert ask(server, "small.example", "A").flags & dns.flags.TC


def test_garbage_is_not_answered_and_harms_nobody() -> None:
    import socket

    with DNSServer(ZONE) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for octets in (b"", b"\0", b"\xff" * 11, bytes(12), b"\xff" * 600):
                sock.sendto(octets, server.address)
        with socket.create_connection(server.address) as sock:
            sock.sendall(b"\xff\xff\0")
        assert ask(server, "one.example", "MX").answer


def test_a_closed_server_leaves_its_port() -> None:
    server = DNSServer()
    address, port = server.address
    assert server.nameserver == f"{address}:{port}"
    server.close()
    server.close()
    assert is_free(address, port)
    with DNSServer(port=port) as again:
        assert again.address == (address, port)


def test_ports_free_on_several_addresses() -> None:
    import socket

    addresses = [address for address, _ in zip(loopback_addresses(), range(4), strict=False)]
    assert addresses[0] == "127.0.0.2" and len(set(addresses)) == 4
    port = free_port(addresses)
    with socket.create_server((addresses[2], port)):
        assert not is_free(addresses[2], port)
        assert is_free(addresses[1], port)
    numbers = list(zip(loopback_addresses(250), range(8), strict=False))
    assert "127.0.0.255" not in dict(numbers) and "127.0.1.0" not in dict(numbers)
