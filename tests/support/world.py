"""Real servers of ours with a DNS of the lab, for tests that drive them from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postroad.lab.dns import DNSServer
from postroad.lab.process import PostroadServer, free_offset


class World:
    """A directory, a DNS, and the servers made so far."""

    def __init__(self, directory: Path, dns: DNSServer) -> None:
        self.directory, self.dns = directory, dns
        self.servers: list[PostroadServer] = []

    def server(
        self,
        domain: str,
        *,
        address: str,
        offset: int | None = None,
        workers: int = 0,
        delivery_port: int | None = None,
        plaintext_on_loopback: bool = False,
        options: tuple[tuple[str, str, str], ...] = (),
    ) -> PostroadServer:
        """A server that is made but not started; it is stopped at the end in any case."""
        made = PostroadServer(
            self.directory / domain, address=address, offset=offset or free_offset(address)
        )
        made.init(
            domain,
            workers=workers,
            plaintext_on_loopback=plaintext_on_loopback,
            nameservers=[self.dns.nameserver],
            delivery_port=delivery_port,
            options=options,
        )
        self.servers.append(made)
        return made


@contextmanager
def world(directory: Path, *, dns_address: str = "127.0.0.1", dns_port: int = 0) -> Iterator[World]:
    directory.mkdir(parents=True, exist_ok=True)
    with DNSServer(address=dns_address, port=dns_port) as dns:
        made = World(directory, dns)
        try:
            yield made
        finally:
            for server in made.servers:
                server.stop()
