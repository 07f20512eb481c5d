"""Ports for a simulated internet: the same one on several loopback addresses.

MX hosts of different domains must answer on one port, so each has an address of its own in
127.0.0.0/8, all of which Linux answers for.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator, Sequence

TRIES = 200
PORTS = range(20_000, 32_000)
"""Below the range Linux takes for outgoing connections."""


class NoPort(Exception):
    """No port is free on all the addresses."""


def loopback_addresses(first: int = 2) -> Iterator[str]:
    """127.0.0.2, 127.0.0.3, ... 127.0.255.254."""
    for number in range(first, 1 << 16):
        if 0 < number & 255 < 255:
            yield f"127.0.{number >> 8}.{number & 255}"


def is_free(address: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            if kind == socket.SOCK_STREAM:
                probe.listen(1)  # with SO_REUSEADDR only this finds another listener
        except OSError:
            return False
    return True


def free_port(addresses: Sequence[str] = ("127.0.0.1",)) -> int:
    """A TCP port free on all `addresses`. Raises: NoPort."""
    for _ in range(TRIES):
        port = PORTS[secrets.randbelow(len(PORTS))]
        if all(is_free(address, port) for address in addresses):
            return port
    raise NoPort(f"no port is free on all of {', '.join(addresses)}")


def bound_pair(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a listening TCP socket on the same port, non-blocking. port: 0 takes a free one.

    Raises: OSError (port given and taken), NoPort.
    """
    for _ in range(TRIES):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            udp.bind((address, port or PORTS[secrets.randbelow(len(PORTS))]))
            tcp.bind((address, udp.getsockname()[1]))
            tcp.listen(64)
        except OSError:
            udp.close()
            tcp.close()
            if port:
                raise
            continue
        udp.setblocking(False)
        tcp.setblocking(False)
        return udp, tcp
    raise NoPort(f"no port is free for DNS on {address}")
