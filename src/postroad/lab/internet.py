"""Lab: a small internet on loopback, with its own DNS and a mail host for each domain.

    with Lab() as lab:                                        # or `async with`
        two = lab.domain("two.example", Behaviour(greylist=True))
        lab.dns.add("broken.example", "SERVFAIL")
        ...                                                   # a server that asks lab.nameserver
        two.peer.wait_for(1)                                  # and dials MX hosts on lab.port

Every host has a loopback address of its own; all MX hosts listen on `lab.port`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from types import TracebackType

from postroad.lab.background import Background
from postroad.lab.dns import DNSServer
from postroad.lab.peers import Behaviour, PeerServer
from postroad.lab.ports import free_port, loopback_addresses
from postroad.net.resolver import NetResolver


@dataclass(frozen=True, slots=True)
class Host:
    """A mail host: its domain, name, loopback address; the peer that listens there, if any."""

    domain: str
    hostname: str
    address: str
    port: int
    server: PeerServer | None

    @property
    def peer(self) -> PeerServer:
        """The scripted peer. Raises: LookupError where the host is left to somebody else."""
        if self.server is None:
            raise LookupError(f"{self.hostname} has no scripted peer")
        return self.server


class Lab:
    """Runs from `with` or `async with` to its end; its methods may be called from any thread.

    port: where MX hosts listen; None finds one that is free on the first addresses.
    """

    def __init__(self, *, port: int | None = None, first_host: int = 2, dns_port: int = 0) -> None:
        self._first_host = first_host
        self._port = port
        self._dns_port = dns_port
        self._stack = ExitStack()
        self._addresses: Iterator[str] = iter(())
        self._dns: DNSServer | None = None
        self._background: Background | None = None
        self.hosts: dict[str, Host] = {}

    @property
    def dns(self) -> DNSServer:
        assert self._dns is not None, "the lab runs only inside `with`"
        return self._dns

    @property
    def nameserver(self) -> str:
        """For `[dns] nameservers`."""
        return self.dns.nameserver

    @property
    def port(self) -> int:
        """For `[delivery] port`."""
        assert self._port is not None, "the lab runs only inside `with`"
        return self._port

    def resolver(self) -> NetResolver:
        """A resolver of the running loop that asks this lab's DNS."""
        return NetResolver([self.dns.address], timeout_s=1.0, attempts=2)

    def address(self) -> str:
        """A loopback address nobody of this lab has."""
        return next(self._addresses)

    def domain(
        self,
        name: str,
        behaviour: Behaviour | None = None,
        *,
        served: bool = True,
        preference: int = 10,
        hostname: str | None = None,
        address: str | None = None,
        publish: bool | None = None,
    ) -> Host:
        """A domain with one mail host; called again for the same domain it adds another host.

        served: a scripted peer listens there; False leaves the address to a server of yours.
        publish: MX, A, PTR, and SPF for the domain's hosts are put into DNS; None: if served,
        since a server of yours says itself what it wants published (`dns.load`).
        """
        assert self._background is not None, "the lab runs only inside `with`"
        count = sum(host.domain == name for host in self.hosts.values())
        hostname = hostname or (f"mx{count + 1}.{name}" if count else f"mx.{name}")
        place = address or self.address()
        server: PeerServer | None = None
        if served:
            server = PeerServer(
                behaviour,
                address=place,
                port=self.port,
                hostname=hostname,
                background=self._background,
            )
            self._stack.callback(server.close)
        host = Host(name, hostname, place, self.port, server)
        self.hosts[hostname] = host
        if served if publish is None else publish:
            self.dns.add(name, "MX", f"{preference} {hostname}")
            self.dns.add(hostname, "A", place)
            self.dns.add(place, "PTR", hostname)
            if not count:
                self.dns.add(name, "TXT", "v=spf1 mx -all")
        return host

    def start(self) -> None:
        self._background = Background()
        self._stack.callback(self._background.close)
        self._addresses = loopback_addresses(self._first_host)
        if self._port is None:
            self._port = free_port(list(islice(loopback_addresses(self._first_host), 16)))
        self._dns = DNSServer(port=self._dns_port, background=self._background)
        self._stack.callback(self._dns.close)

    def close(self) -> None:
        """Stops everything the lab has started."""
        self._stack.close()
        self._dns = None

    def __enter__(self) -> Lab:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Lab:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)
