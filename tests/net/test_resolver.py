"""NetResolver against the lab's DNS: every outcome, forged answers, cache, coalescing."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import pytest

from postroad.dns.resolver import MX, Answer, Outcome
from postroad.lab.background import Background
from postroad.lab.dns import DNSServer
from postroad.mail.errors import Unavailable
from postroad.net.resolver import CACHE_ENTRIES_MAX, NetResolver, system_nameservers

ZONE = """
$ORIGIN one.example.
@        MX    10 mx
@        MX    20 backup.one.example.
@        TXT   "v=spf1 mx " "-all"
@        TXT   "second \\255"
mx       A     127.0.0.2
mx       A     127.0.0.3
mx       AAAA  2001:db8:0:0:1:0:0:1
www      CNAME mx
deep     CNAME www
dangling CNAME nowhere
half     CNAME mx
null     MX    0 .
_25._tcp.mx TLSA 3 1 1 0102030405060708091011121314151617181920212223242526272829303132
broken   SERVFAIL
mute     TIMEOUT
no       REFUSED
xn--bcher-kva A 127.0.0.7
*.wild   TXT   "wild"
$ORIGIN .
2.0.0.127.in-addr.arpa PTR mx.one.example
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR six.one.example
"""


class FakeClock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.ids = iter(range(1, 60000))

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def random_bits(self, bits: int) -> int:
        return next(self.ids) % (1 << bits)

    def uniform(self, low: float, high: float) -> float:
        return low


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture
def server(background: Background) -> Iterator[DNSServer]:
    with DNSServer(ZONE, ttl_s=300, background=background) as made:
        yield made


def asking(
    server: DNSServer | list[tuple[str, int]],
    test: Callable[[NetResolver, FakeClock], Awaitable[None]],
    **options: float,
) -> None:
    async def main() -> None:
        clock = FakeClock()
        nameservers = [server.address] if isinstance(server, DNSServer) else server
        resolver = NetResolver(
            nameservers,
            timeout_s=options.get("timeout_s", 0.3),
            attempts=int(options.get("attempts", 2)),
            clock=clock,
            cache_entries_max=int(options.get("cache_entries_max", CACHE_ENTRIES_MAX)),
            cache_octets_max=int(options.get("cache_octets_max", 1 << 20)),
        )
        await test(resolver, clock)
        assert not resolver._asking
        assert len(asyncio.all_tasks()) == 1, "a question was left behind"

    asyncio.run(main())


def test_every_type(server: DNSServer) -> None:
    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        mx = await resolver.mx("ONE.example.")
        assert mx.records == (MX(10, "mx.one.example"), MX(20, "backup.one.example"))
        assert mx.outcome is Outcome.FOUND and mx.ttl_s == 300 and not mx.authenticated
        assert (await resolver.mx("null.one.example")).records == (MX(0, ""),)
        assert (await resolver.txt("one.example")).records == (b"v=spf1 mx -all", b"second \xff")
        assert (await resolver.a("mx.one.example")).records == ("127.0.0.2", "127.0.0.3")
        assert (await resolver.aaaa("mx.one.example")).records == ("2001:db8::1:0:0:1",)
        tlsa = await resolver.tlsa("_25._tcp.mx.one.example")
        assert tlsa.records[0][:3] == (3, 1, 1) and len(tlsa.records[0][3]) == 32
        assert (await resolver.ptr("127.0.0.2")).records == ("mx.one.example",)
        assert (await resolver.ptr("::ffff:127.0.0.2")).records == ("mx.one.example",)
        assert (await resolver.ptr("2001:db8::1")).records == ("six.one.example",)
        assert (await resolver.a("bücher.one.example")).records == ("127.0.0.7",)
        assert (await resolver.txt("a.wild.one.example")).records == (b"wild",)

    asking(server, test)


def test_what_is_not_there(server: DNSServer) -> None:
    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        assert (await resolver.a("x.one.example")).outcome is Outcome.NXDOMAIN
        nodata = await resolver.mx("mx.one.example")
        assert nodata == Answer(Outcome.NODATA, (), 300)
        assert not nodata
        assert (await resolver.a("dangling.one.example")).outcome is Outcome.NXDOMAIN
        asked = len(server.asked())
        for name in ("x" * 64 + ".example", "", ".", "a..b", "a." * 127 + "toolong"):
            assert (await resolver.a(name)).outcome is Outcome.NXDOMAIN
        assert len(server.asked()) == asked, "a name that DNS cannot carry was asked for"

    asking(server, test)


@pytest.mark.parametrize(
    ("name", "word"), [("broken", "SERVFAIL"), ("no", "REFUSED"), ("mute", "timed out")]
)
def test_failures_are_unavailable_for_a_moment(server: DNSServer, name: str, word: str) -> None:
    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        with pytest.raises(Unavailable, match=f"dns mx {name}.one.example: {word}"):
            await resolver.mx(f"{name}.one.example")
        asked = len(server.asked())
        with pytest.raises(Unavailable, match=f"dns mx {name}.one.example: {word}"):
            await resolver.mx(f"{name}.one.example")
        assert len(server.asked()) == asked, "a dead nameserver is not asked for every message"
        server.remove(f"{name}.one.example")
        server.add(f"{name}.one.example", "MX", "5 mx.one.example")
        clock.seconds += 31
        assert await resolver.mx(f"{name}.one.example")

    asking(server, test, timeout_s=0.05)


def test_a_nameserver_that_is_not_there(server: DNSServer) -> None:
    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        with pytest.raises(Unavailable, match="refused"):
            await resolver.a("mx.one.example")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    asking([("127.0.0.1", port)], test)


def test_the_next_nameserver_is_asked(server: DNSServer, background: Background) -> None:
    failing = "one.example SERVFAIL\nmx.one.example TIMEOUT\n"
    with DNSServer(failing, background=background) as first:

        async def test(resolver: NetResolver, clock: FakeClock) -> None:
            assert await resolver.mx("one.example")
            assert await resolver.a("mx.one.example")
            before = len(first.asked())
            assert await resolver.aaaa("mx.one.example")
            assert len(first.asked()) == before, "the silent nameserver is asked first again"

        asking([first.address, server.address], test, timeout_s=0.05)


# -- aliases ------------------------------------------------------------------------------------


def test_aliases_are_followed(server: DNSServer) -> None:
    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        assert (await resolver.a("deep.one.example")).records == ("127.0.0.2", "127.0.0.3")
        assert len(server.asked()) == 1

    asking(server, test)


def test_an_alias_the_nameserver_does_not_follow(server: DNSServer) -> None:
    def only_the_alias(query: bytes, response: bytes) -> list[bytes]:
        message = dns.message.from_wire(response)
        aliases = [rrset for rrset in message.answer if rrset.rdtype == dns.rdatatype.CNAME]
        message.answer = aliases[:1] or message.answer
        return [message.to_wire()]

    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        server.forge = only_the_alias
        assert await resolver.a("deep.one.example")
        names = [name for _, name in server.asked("A")]
        assert names == ["deep.one.example", "www.one.example", "mx.one.example"]

    asking(server, test)


def test_a_no_without_soa_is_kept_for_a_moment(server: DNSServer) -> None:
    """Else a resolver that leaves the SOA out is asked the same for every message."""

    def without_soa(query: bytes, response: bytes) -> list[bytes]:
        answer = dns.message.from_wire(response)
        answer.authority.clear()
        return [answer.to_wire()]

    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        server.forge = without_soa
        for _ in range(3):
            assert not await resolver.a("nobody.one.example")
        assert len(server.asked()) == 1
        clock.seconds += 6
        assert not await resolver.a("nobody.one.example")
        assert len(server.asked()) == 2

    asking(server, test)


@pytest.mark.parametrize("length", [1, 2, 30])
def test_alias_rings_and_endless_chains_end(server: DNSServer, length: int) -> None:
    def forge(query: bytes, response: bytes) -> list[bytes]:
        message = dns.message.from_wire(query)
        answer = dns.message.make_response(message)
        name = message.question[0].name.to_text().lower()
        number = int(name[1 : name.index(".")])
        target = f"n{(number + 1) % length}.ring.example."
        answer.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target))
        return [answer.to_wire()]

    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        server.forge = forge
        with pytest.raises(Unavailable, match="CNAME"):
            await resolver.a("n0.ring.example")
        assert len(server.asked()) <= 10

    asking(server, test)


# -- TCP and EDNS -------------------------------------------------------------------------------


def test_truncated_answers_are_fetched_by_tcp(server: DNSServer) -> None:
    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        server.add("big.example", "TXT", b"x" * 3000)
        assert (await resolver.txt("big.example")).records == (b"x" * 3000,)
        assert server.tcp_queries == 1
        server.udp_octets_max = 0
        assert (await resolver.a("mx.one.example")).records == ("127.0.0.2", "127.0.0.3")
        assert server.tcp_queries == 2
        server.add("slow.example", "TIMEOUT")
        server.forge = lambda query, response: [query[:2] + b"\x82\x00" + query[4:]]

    asking(server, test)


def test_a_nameserver_without_edns_is_asked_without(server: DNSServer) -> None:
    def forge(query: bytes, response: bytes) -> list[bytes]:
        if query[11]:  # ARCOUNT
            return [query[:2] + b"\x80\x01" + bytes(8)]
        return [response]

    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        server.forge = forge
        assert await resolver.a("mx.one.example")
        asked = len(server.asked())
        assert await resolver.aaaa("mx.one.example")
        assert len(server.asked()) == asked + 1, "it was tried with EDNS again"
        clock.seconds += 1000
        assert await resolver.aaaa("mx.one.example")
        assert len(server.asked()) == asked + 3, "it was never tried with EDNS again"

    asking(server, test)


# -- trust --------------------------------------------------------------------------------------


def _wrong_id(query: bytes, response: bytes) -> bytes:
    return bytes([response[0] ^ 1]) + response[1:]


def _other_question(query: bytes, response: bytes) -> bytes:
    return response.replace(b"\x03one", b"\x03two")


FORGERIES = {
    "wrong id": _wrong_id,
    "other question": _other_question,
    "a query": lambda query, response: query,
    "cut": lambda query, response: response[:-30],
    "empty": lambda query, response: b"",
    "garbage": lambda query, response: b"\xff" * 80,
    "pointer loop": lambda query, response: (
        response[:6] + b"\0\x01\0\0\0\0" + query[12:-11] + b"\xc0" + bytes([len(query) - 11])
    ),
    "many records": lambda query, response: response[:6] + b"\xff\xff\xff\xff\xff\xff" + query[12:],
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_what_does_not_answer_the_question_is_waited_out(server: DNSServer, kind: str) -> None:
    forgery = FORGERIES[kind]

    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        server.forge = lambda query, response: [forgery(query, response), response]
        assert (await resolver.a("mx.one.example")).records == ("127.0.0.2", "127.0.0.3")
        server.forge = lambda query, response: [forgery(query, response)]
        with pytest.raises(Unavailable):
            await resolver.aaaa("mx.one.example")

    asking(server, test, timeout_s=0.05, attempts=1)


def test_answers_from_elsewhere_never_arrive(server: DNSServer) -> None:
    """Somebody who knows id and question, but is not the nameserver."""
    sent = threading.Event()

    def forge(query: bytes, response: bytes) -> list[bytes]:
        message = dns.message.from_wire(query)
        answer = dns.message.make_response(message)
        answer.answer.append(
            dns.rrset.from_text(message.question[0].name, 60, "IN", "A", "6.6.6.6")
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.66", 0))
            for port in ports:
                stranger.sendto(answer.to_wire(), ("127.0.0.1", port))
        sent.set()
        return [response]

    ports: list[int] = []
    original = socket.socket.connect

    def connect(sock: socket.socket, address: tuple[str, int]) -> None:
        original(sock, address)
        ports.append(sock.getsockname()[1])

    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        server.forge = forge
        assert (await resolver.a("mx.one.example")).records == ("127.0.0.2", "127.0.0.3")
        assert sent.is_set() and ports

    socket.socket.connect = connect  # type: ignore[method-assign, assignment]
    try:
        asking(server, test)
    finally:
        socket.socket.connect = original  # type: ignore[method-assign]


def test_ids_and_ports_differ_from_question_to_question(server: DNSServer) -> None:
    ids: list[bytes] = []

    def forge(query: bytes, response: bytes) -> list[bytes]:
        ids.append(query[:2])
        return [response]

    async def main() -> None:
        resolver = NetResolver([server.address])
        for number in range(30):
            await resolver.a(f"n{number}.one.example")

    server.forge = forge
    asyncio.run(main())
    assert len(set(ids)) > 25


def test_ad_is_trusted_from_loopback_only(server: DNSServer) -> None:
    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        server.zone.authenticated = True
        assert (await resolver.a("mx.one.example")).authenticated
        assert (await resolver.mx("mx.one.example")).authenticated
        resolver._trusted = frozenset()
        assert not (await resolver.aaaa("mx.one.example")).authenticated

    asking(server, test)


# -- cache --------------------------------------------------------------------------------------


def test_answers_are_kept_for_their_ttl(server: DNSServer) -> None:
    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        for _ in range(3):
            assert await resolver.a("mx.one.example")
            assert not await resolver.a("x.one.example")
        assert len(server.asked()) == 2
        clock.seconds += 299
        await resolver.a("mx.one.example")
        await resolver.a("x.one.example")
        assert len(server.asked()) == 2
        clock.seconds += 2
        await resolver.a("mx.one.example")
        await resolver.a("x.one.example")
        assert len(server.asked()) == 4
        resolver.forget()
        await resolver.a("mx.one.example")
        assert len(server.asked()) == 5

    asking(server, test)


def test_a_ttl_of_zero_is_not_kept(background: Background) -> None:
    with DNSServer("a.example A 127.0.0.1", background=background) as server:

        async def test(resolver: NetResolver, clock: FakeClock) -> None:
            await resolver.a("a.example")
            server.remove("a.example")
            assert not await resolver.a("a.example")
            server.add("a.example", "A", "127.0.0.1")
            assert await resolver.a("a.example")

        asking(server, test)


def test_the_cache_is_bounded_and_forgets_the_least_used(server: DNSServer) -> None:
    async def entries(resolver: NetResolver, clock: FakeClock) -> None:
        await resolver.a("mx.one.example")
        for number in range(20):
            await resolver.a(f"n{number}.one.example")
            await resolver.a("mx.one.example")  # always the newest
        assert len(resolver._cache) == 4
        assert len(server.asked()) == 21

    asking(server, entries, cache_entries_max=4)

    async def octets(resolver: NetResolver, clock: FakeClock) -> None:
        for number in range(20):
            server.add(f"t{number}.example", "TXT", b"x" * 4000)
            assert await resolver.txt(f"t{number}.example")
        assert 0 < resolver._cache_octets <= 20_000
        assert len(resolver._cache) == 4

    asking(server, octets, cache_octets_max=20_000)


def test_the_same_question_is_asked_once(server: DNSServer) -> None:
    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        server.delay_s = 0.05
        asking = [asyncio.ensure_future(resolver.a("MX.one.example")) for _ in range(20)]
        await asyncio.sleep(0.01)
        asking[0].cancel()  # who asked first leaves, the others still want to know
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert all(isinstance(answer, Answer) and answer for answer in answers[1:])
        assert len(server.asked()) == 2, "one more for the one who left"
        server.add("mute.example", "TIMEOUT")
        answers = await asyncio.gather(
            *(resolver.a("mute.example") for _ in range(5)), return_exceptions=True
        )
        assert all(isinstance(answer, Unavailable) for answer in answers)
        assert len(server.asked()) == 4, "one try and one more, for all of them"

    asking(server, test)


def test_many_questions_at_once(server: DNSServer) -> None:
    async def test(resolver: NetResolver, clock: FakeClock) -> None:
        answers = await asyncio.gather(
            *(resolver.txt(f"n{number}.wild.one.example") for number in range(300))
        )
        assert all(answer.records == (b"wild",) for answer in answers)

    asking(server, test, timeout_s=5)


# -- configuration ------------------------------------------------------------------------------


def test_resolv_conf(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# nameserver 192.0.2.9\nnameserver 192.0.2.1\nnameserver  2001:db8::1 \n"
        "search x\nnameserver nonsense\n"
    )
    assert system_nameservers(path) == [("192.0.2.1", 53), ("2001:db8::1", 53)]
    path.write_text("search x\n")
    assert system_nameservers(path) == [("127.0.0.1", 53)]
    assert system_nameservers(tmp_path / "none") == [("127.0.0.1", 53)]
