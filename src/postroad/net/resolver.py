"""NetResolver: a stub resolver that asks recursive nameservers, by UDP and where needed TCP.

Each question has its own socket (so a random port), a random id, and one answer for all who ask
it at the same time; answers are kept for their TTL in a bounded cache. What does not answer the
question is ignored until the deadline. Failures are not kept: the nameserver behind does that.

Trusts AD only from a nameserver on loopback; anything between us and another one could set it.
Source: RFC 1035 §7, RFC 5452 §9 (spoofing), RFC 2308 §5 (negative answers), RFC 6891 §6.2.2
(without EDNS where it is not known), RFC 7766 §5 (TCP), RFC 6840 §5.7 (AD).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from asyncio import Future
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from postroad.dns.names import a_labels, is_carriable, reverse_name
from postroad.dns.resolver import MX, Answer, Outcome, Resolver
from postroad.mail.errors import Unavailable
from postroad.net.addresses import is_loopback
from postroad.net.clock import SystemClock
from postroad.net.contract import Clock, TimedOut
from postroad.net.dns_wire import (
    Code,
    Malformed,
    RecordType,
    Response,
    build_query,
    parse_response,
)
from postroad.net.waiting import wait_until, wake

T = TypeVar("T")

TIMEOUT_S_DEFAULT = 3.0
ATTEMPTS_DEFAULT = 3
CNAMES_MAX = 8
NAMESERVERS_MAX = 8
QUERIES_AT_ONCE_MAX = 512
"""Each holds a descriptor; the others wait their turn."""
DATAGRAMS_PER_QUERY_MAX = 64
"""Wrong ones; somebody who sends more is trying ids."""
CACHE_ENTRIES_MAX = 50_000
CACHE_OCTETS_MAX = 32 << 20
ENTRY_OCTETS = 400
"""What an entry costs beside its records, roughly."""
TTL_S_MAX = 86400
NEGATIVE_TTL_S_MAX = 3600
"""RFC 2308 §5 suggests one to three hours."""
EDNS_RETRY_S = 900
"""A nameserver that did not know EDNS is asked without it for this long (RFC 6891 §6.2.2)."""
RESOLV_CONF = Path("/etc/resolv.conf")

SOALESS_TTL_S = 5
"""Of a "no" without an SOA, which gives no time of its own (RFC 2308 §5 forbids keeping it where
caches ask each other in a ring; nobody asks us). Else each message asks again."""
FAILURE_TTL_S_MIN, FAILURE_TTL_S_MAX = 1.0, 30.0
"""A failure is the answer for as long as it took to come about, within these (RFC 9520 §3.2: 1 s
at least, 5 minutes at most): a dead nameserver must not cost every message the whole timeout."""

_LOST: Answer[Any] = Answer(Outcome.NXDOMAIN)


class _Failed(Exception):
    """This nameserver cannot say; the next may."""


class _LeaderLeft(Exception):
    """Who asked for us was cancelled."""


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Answer[Any] | Unavailable
    expires: float
    octets: int


def system_nameservers(path: Path = RESOLV_CONF) -> list[tuple[str, int]]:
    """The nameservers of resolv.conf; the machine's own when it names none."""
    found = []
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        match line.split():
            case ["nameserver", address, *_]:
                try:
                    ipaddress.ip_address(address)
                except ValueError:
                    continue
                found.append((address, 53))
    return found[:NAMESERVERS_MAX] or [("127.0.0.1", 53)]


class NetResolver:
    """The Resolver of real networks. Belongs to one event loop.

    nameservers: (address, port), asked in this order; None reads resolv.conf.
    timeout_s: of one try. attempts: rounds over all nameservers.
    """

    def __init__(
        self,
        nameservers: Sequence[tuple[str, int]] | None = None,
        *,
        timeout_s: float = TIMEOUT_S_DEFAULT,
        attempts: int = ATTEMPTS_DEFAULT,
        clock: Clock | None = None,
        cache_entries_max: int = CACHE_ENTRIES_MAX,
        cache_octets_max: int = CACHE_OCTETS_MAX,
    ) -> None:
        self.nameservers = tuple(nameservers if nameservers else system_nameservers())
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._clock: Clock = clock or SystemClock()
        self._cache: OrderedDict[tuple[RecordType, str], _Kept] = OrderedDict()
        self._cache_octets = 0
        self._cache_entries_max = cache_entries_max
        self._cache_octets_max = cache_octets_max
        self._asking: dict[tuple[RecordType, str], Future[Answer[Any]]] = {}
        self._trusted = frozenset(s for s in self.nameservers if is_loopback(s[0]))
        self._turns = asyncio.Semaphore(QUERIES_AT_ONCE_MAX)
        self._without_edns: dict[tuple[str, int], float] = {}
        self._first = 0

    # -- the port -----------------------------------------------------------------------------

    async def txt(self, name: str) -> Answer[bytes]:
        return await self._lookup(name, RecordType.TXT)

    async def mx(self, name: str) -> Answer[MX]:
        return await self._lookup(name, RecordType.MX)

    async def a(self, name: str) -> Answer[str]:
        return await self._lookup(name, RecordType.A)

    async def aaaa(self, name: str) -> Answer[str]:
        return await self._lookup(name, RecordType.AAAA)

    async def ptr(self, address: str) -> Answer[str]:
        return await self._lookup(reverse_name(address), RecordType.PTR)

    async def tlsa(self, name: str) -> Answer[tuple[int, int, int, bytes]]:
        return await self._lookup(name, RecordType.TLSA)

    def forget(self) -> None:
        """Empties the cache."""
        self._cache.clear()
        self._cache_octets = 0

    # -- one question for all who ask it --------------------------------------------------------

    async def _lookup(self, name: str, kind: RecordType) -> Answer[Any]:
        try:
            key = kind, a_labels(name)
        except ValueError:
            return _LOST
        kept = self._cache.get(key)
        if kept is not None:
            if self._clock.monotonic() < kept.expires:
                self._cache.move_to_end(key)
                if isinstance(kept.answer, Unavailable):
                    raise Unavailable(kept.answer.what)
                return kept.answer
            self._drop(key)
        seat = self._asking.get(key)
        if seat is None:
            return await self._lead(key)
        try:
            return await asyncio.shield(seat)
        except _LeaderLeft:
            return await self._lookup(name, kind)  # somebody of those who wait asks again

    async def _lead(self, key: tuple[RecordType, str]) -> Answer[Any]:
        """Asks for all who have the same question until it is answered."""
        seat: Future[Answer[Any]] = asyncio.get_running_loop().create_future()
        self._asking[key] = seat
        began = self._clock.monotonic()
        try:
            answer = await self._resolve(key)
        except BaseException as error:
            if isinstance(error, Unavailable):
                took = self._clock.monotonic() - began
                kept_s = min(max(took, FAILURE_TTL_S_MIN), FAILURE_TTL_S_MAX)
                self._keep(key, error, 0, kept_s)
            seat.set_exception(error if isinstance(error, Unavailable) else _LeaderLeft())
            seat.exception()  # seen, even when nobody else waits
            raise
        finally:
            del self._asking[key]
        seat.set_result(answer)
        return answer

    def _drop(self, key: tuple[RecordType, str]) -> None:
        self._cache_octets -= self._cache.pop(key).octets

    def _keep(
        self,
        key: tuple[RecordType, str],
        answer: Answer[Any] | Unavailable,
        octets: int,
        ttl_s: float,
    ) -> None:
        if ttl_s <= 0:
            return
        if key in self._cache:
            self._drop(key)
        size = ENTRY_OCTETS + len(key[1]) + octets
        self._cache[key] = _Kept(answer, self._clock.monotonic() + ttl_s, size)
        self._cache_octets += size
        while (
            len(self._cache) > self._cache_entries_max
            or self._cache_octets > self._cache_octets_max
        ):
            self._drop(next(iter(self._cache)))

    async def _resolve(self, key: tuple[RecordType, str]) -> Answer[Any]:
        """Asks, follows CNAMEs the nameserver has not followed, keeps the answer."""
        kind, name = key
        ttl_s = TTL_S_MAX
        authenticated = True
        octets = 0
        seen: set[str] = set()
        for _ in range(CNAMES_MAX + 1):
            response, size, trusted = await self._ask(name, kind)
            octets += size
            authenticated = authenticated and trusted and response.authenticated
            records, target, ttl_s = self._follow(response, name, kind, ttl_s, seen)
            if records:
                answer = Answer(Outcome.FOUND, records, ttl_s, authenticated)
                self._keep(key, answer, octets, min(ttl_s, TTL_S_MAX))
                return answer
            nxdomain = response.code == Code.NXDOMAIN
            if target == name or nxdomain or response.negative_ttl_s is not None:
                outcome = Outcome.NXDOMAIN if nxdomain else Outcome.NODATA
                said = response.negative_ttl_s
                ttl_s = min(ttl_s, SOALESS_TTL_S if said is None else said, NEGATIVE_TTL_S_MAX)
                answer = Answer(outcome, (), ttl_s, authenticated)
                self._keep(key, answer, octets, ttl_s)
                return answer
            if not is_carriable(target):
                return Answer(Outcome.NXDOMAIN, (), 0, False)
            name = target
        raise Unavailable(f"dns {kind.name.lower()} {key[1]}: too many CNAMEs")

    def _follow(
        self, response: Response, name: str, kind: RecordType, ttl_s: int, seen: set[str]
    ) -> tuple[tuple[Any, ...], str, int]:
        """The records at the end of the response's CNAMEs, that end, and the least TTL."""
        while True:
            at_name = [record for record in response.answers if record.owner == name]
            found = [record for record in at_name if record.type == kind]
            if found and response.code == Code.NOERROR:
                ttl_s = min(ttl_s, *(record.ttl_s for record in found))
                return tuple(record.data for record in found), name, ttl_s
            alias = next((record for record in at_name if record.type == RecordType.CNAME), None)
            if alias is None:
                return (), name, ttl_s
            seen.add(name)
            ttl_s = min(ttl_s, alias.ttl_s)
            name = str(alias.data).lower()
            if name in seen or len(seen) > CNAMES_MAX:
                raise Unavailable(f"dns {kind.name.lower()} {name}: too many CNAMEs")

    # -- nameservers --------------------------------------------------------------------------

    async def _ask(self, name: str, kind: RecordType) -> tuple[Response, int, bool]:
        """A usable response of the first nameserver that gives one, its size, and whether its AD
        can be trusted. Raises: Unavailable."""
        failing: dict[tuple[str, int], str] = {}
        reason = "timed out"
        async with self._turns:
            count = len(self.nameservers)
            for attempt in range(self._attempts * count):
                number = (self._first + attempt) % count
                server = self.nameservers[number]
                if server in failing:
                    continue
                try:
                    response, size = await self._ask_one(server, name, kind)
                except TimedOut:
                    reason = "timed out"
                    self._first = (number + 1) % count
                    continue
                except (_Failed, OSError) as error:
                    reason = failing[server] = str(error)
                    continue
                return response, size, server in self._trusted
        raise Unavailable(f"dns {kind.name.lower()} {name}: {reason}")

    async def _ask_one(
        self, server: tuple[str, int], name: str, kind: RecordType
    ) -> tuple[Response, int]:
        """Raises: TimedOut, OSError, _Failed."""
        edns = self._without_edns.get(server, 0.0) <= self._clock.monotonic()
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        while True:
            query = build_query(self._clock.random_bits(16), name, kind, edns=edns)
            response, size = await self._by_udp(server, query, deadline)
            if response.truncated:
                response, size = await self._by_tcp(server, query, deadline)
            if response.code in (Code.NOERROR, Code.NXDOMAIN):
                return response, size
            if edns and response.code in (Code.FORMERR, Code.NOTIMP, Code.BADVERS):
                edns = False  # RFC 6891 §6.2.2, §7
                self._without_edns[server] = self._clock.monotonic() + EDNS_RETRY_S
                continue
            raise _Failed(_code_name(response.code))

    async def _by_udp(
        self, server: tuple[str, int], query: bytes, deadline: float
    ) -> tuple[Response, int]:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(server)  # datagrams of others never reach us
            sock.send(query)
            for _ in range(DATAGRAMS_PER_QUERY_MAX):
                seat: Future[None] = loop.create_future()
                loop.add_reader(sock.fileno(), wake, seat)
                try:
                    await wait_until(loop, seat, deadline)
                finally:
                    loop.remove_reader(sock.fileno())
                try:
                    octets = sock.recv(65535)
                    return parse_response(octets, query), len(octets)
                except (BlockingIOError, Malformed):
                    continue
        raise _Failed("somebody sends wrong answers")

    async def _by_tcp(
        self, server: tuple[str, int], query: bytes, deadline: float
    ) -> tuple[Response, int]:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            try:
                async with asyncio.timeout_at(deadline):
                    await loop.sock_connect(sock, server)
                    await loop.sock_sendall(sock, len(query).to_bytes(2, "big") + query)
                    length = int.from_bytes(await _exactly(sock, 2), "big")
                    octets = await _exactly(sock, length)
            except TimeoutError as error:
                raise TimedOut("dns by tcp") from error
        try:
            response = parse_response(octets, query)
        except Malformed as error:
            raise _Failed(str(error)) from error
        if response.truncated:
            raise _Failed("truncated by TCP as well")
        return response, length


async def _exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    octets = b""
    while len(octets) < count:
        more = await loop.sock_recv(sock, count - len(octets))
        if not more:
            raise _Failed("the nameserver closed the connection")
        octets += more
    return octets


def _code_name(code: int) -> str:
    try:
        return Code(code).name
    except ValueError:
        return f"response code {code}"


if TYPE_CHECKING:
    _resolver: Resolver = NetResolver()
