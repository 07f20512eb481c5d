"""DNSServer: the whole DNS on one loopback port, by UDP and TCP.

Answers from a `dns.zone.Zone` that may change at any time, as a recursive nameserver in front of
the whole internet would: CNAMEs followed and shown, NXDOMAIN with an SOA, AD when told so.
Misbehaves on demand: SERVFAIL, REFUSED, silence, truncation, delays, forged datagrams.

Messages are made and read by dnspython, so that our own resolver meets a second opinion.
Source: RFC 1035 §4.2 (UDP, TCP), RFC 2308 §3 (SOA in negative answers), RFC 6891 (size).
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset

from postroad.dns.resolver import MX, Outcome
from postroad.dns.zone import Value, Zone
from postroad.lab.background import Background
from postroad.lab.ports import bound_pair
from postroad.mail.errors import Unavailable

Forge = Callable[[bytes, bytes], Sequence[bytes]]
"""Of a query and its true response: the datagrams that are sent instead, in order."""

CNAMES_MAX = 8
ASKED_MAX = 10_000
TCP_IDLE_S = 10.0


class DNSServer:
    """Serves from construction to `close()`; every method may be called from any thread.

    ttl_s: of every record; 0 by default, so that changes are seen at once.
    udp_octets_max: larger responses are truncated; 0 truncates all of them.
    delay_s: before every response. forge: see `Forge`; UDP only.
    """

    def __init__(
        self,
        zone: str | Zone = "",
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        ttl_s: int = 0,
        background: Background | None = None,
    ) -> None:
        self.zone = zone if isinstance(zone, Zone) else Zone(zone, ttl_s=ttl_s)
        self.udp_octets_max = 4096
        self.delay_s = 0.0
        self.forge: Forge | None = None
        self.tcp_queries = 0
        self._lock = threading.Lock()
        self._asked: deque[tuple[str, str]] = deque(maxlen=ASKED_MAX)
        self._own_background = background is None
        self._background = background or Background()
        self._udp, self._tcp = bound_pair(address, port)
        self.address: tuple[str, int] = self._udp.getsockname()[:2]
        self._clients: set[asyncio.Task[None]] = set()
        self._closed = False
        self._background.call(self._start)

    @property
    def nameserver(self) -> str:
        """`127.0.0.1:5353`, as `[dns] nameservers` wants it."""
        return f"{self.address[0]}:{self.address[1]}"

    def add(self, name: str, kind: str, value: Value = "") -> None:
        """`add("two.example", "MX", "10 mx.two.example")`; kinds as in `dns.zone`."""
        with self._lock:
            self.zone.add(name, kind, value)

    def remove(self, name: str, kind: str | None = None) -> None:
        with self._lock:
            self.zone.remove(name, kind)

    def load(self, text: str) -> None:
        """Adds the records of a zone-file fragment."""
        with self._lock:
            self.zone.load(text)

    def asked(self, kind: str | None = None) -> list[tuple[str, str]]:
        """The questions so far as (type, name), of one type if given."""
        with self._lock:
            return [pair for pair in self._asked if kind in (None, pair[0])]

    def close(self) -> None:
        """Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._background.run(self._stop())
        if self._own_background:
            self._background.close()

    def __enter__(self) -> DNSServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- serving ------------------------------------------------------------------------------

    def _start(self) -> None:
        loop = self._background.loop
        loop.add_reader(self._udp.fileno(), self._on_datagrams)
        loop.add_reader(self._tcp.fileno(), self._on_connections)

    async def _stop(self) -> None:
        loop = self._background.loop
        for sock in (self._udp, self._tcp):
            loop.remove_reader(sock.fileno())
            sock.close()
        for task in self._clients:
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients)

    def _on_datagrams(self) -> None:
        while True:
            try:
                query, client = self._udp.recvfrom(65535)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error of an earlier answer
            response = self.respond(query, self.udp_octets_max)
            if response is None:
                continue
            out = self.forge(query, response) if self.forge is not None else [response]
            for octets in out:
                self._background.loop.call_later(self.delay_s, self._send, octets, client)

    def _send(self, octets: bytes, client: tuple[str, int]) -> None:
        try:
            self._udp.sendto(octets, client)
        except OSError:
            pass  # the client left; datagrams get lost

    def _on_connections(self) -> None:
        try:
            sock, _ = self._tcp.accept()
        except OSError:
            return
        sock.setblocking(False)
        task = self._background.loop.create_task(self._serve_tcp(sock))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve_tcp(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with sock:
            try:
                while True:
                    async with asyncio.timeout(TCP_IDLE_S):
                        length = int.from_bytes(await _exactly(sock, 2), "big")
                        query = await _exactly(sock, length)
                    self.tcp_queries += 1
                    response = self.respond(query, None)
                    await asyncio.sleep(self.delay_s)
                    if response is not None:
                        await loop.sock_sendall(sock, len(response).to_bytes(2, "big") + response)
            except (OSError, EOFError, TimeoutError):
                return

    # -- answering ----------------------------------------------------------------------------

    def respond(self, octets: bytes, octets_max: int | None) -> bytes | None:
        """The response's octets; None is silence. octets_max: None by TCP."""
        try:
            query = dns.message.from_wire(octets)
            question = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return None
        response = dns.message.make_response(query, recursion_available=True)
        with self._lock:
            code = self._fill(response, question)
        if code is None:
            return None
        response.set_rcode(code)
        if self.zone.authenticated and query.flags & dns.flags.AD:
            response.flags |= dns.flags.AD
        wire = response.to_wire(max_size=65535)
        if octets_max is None:
            return wire
        if len(wire) <= min(octets_max, max(query.payload, 512)):
            return wire
        truncated = dns.message.make_response(query, recursion_available=True)
        truncated.flags |= dns.flags.TC
        return truncated.to_wire()

    def _fill(
        self, response: dns.message.Message, question: dns.rrset.RRset
    ) -> dns.rcode.Rcode | None:
        """Puts the answer in; None is silence."""
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        self._asked.append((kind, name.lower()))
        try:
            for _ in range(CNAMES_MAX + 1):
                alias = self.zone.lookup(name, "CNAME") if kind != "CNAME" else None
                if alias is None or not alias:
                    break
                target = str(alias.records[0])
                self._add(response.answer, name, "CNAME", alias.records)
                name = target
            found = self.zone.lookup(name, kind)
        except Unavailable as error:
            if "timed out" in error.what:
                return None
            response.answer.clear()
            return dns.rcode.REFUSED if "refused" in error.what else dns.rcode.SERVFAIL
        if found:
            self._add(response.answer, name, kind, found.records)
            return dns.rcode.NOERROR
        apex = name.rpartition(".")[2] or "."
        soa = f"ns.{apex}. hostmaster.{apex}. 1 7200 3600 1209600 {self.zone.ttl_s}"
        response.authority.append(
            dns.rrset.from_text(dns.name.from_text(apex), self.zone.ttl_s, "IN", "SOA", soa)
        )
        return dns.rcode.NXDOMAIN if found.outcome is Outcome.NXDOMAIN else dns.rcode.NOERROR

    def _add(
        self, section: list[dns.rrset.RRset], name: str, kind: str, records: Sequence[object]
    ) -> None:
        """One set for each record: dnspython shuffles within a set, and a lab is repeatable."""
        owner = dns.name.from_text(name)
        for record in records:
            rrset = dns.rrset.RRset(owner, dns.rdataclass.IN, dns.rdatatype.from_text(kind))
            rrset.add(_rdata(kind, record), self.zone.ttl_s)
            section.append(rrset)


def _rdata(kind: str, record: object) -> dns.rdata.Rdata:
    match kind, record:
        case "TXT", bytes():
            strings = [record[at : at + 255] for at in range(0, len(record), 255)] or [b""]
            return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)
        case "MX", MX(preference, exchange):
            text = f"{preference} {exchange}."
        case "TLSA", (int(usage), int(selector), int(matching), bytes() as data):
            # as octets: dnspython refuses to make the wrong records that a test may want
            octets = bytes((usage, selector, matching)) + data
            return dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.TLSA, octets)
        case (("CNAME" | "PTR" | "NS"), str()):
            text = f"{record}."
        case _:
            text = str(record)
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text)


async def _exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    octets = b""
    while len(octets) < count:
        more = await loop.sock_recv(sock, count - len(octets))
        if not more:
            raise EOFError
        octets += more
    return octets
