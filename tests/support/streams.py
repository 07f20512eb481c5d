"""Pairs of real streams over loopback sockets, and certificates for them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from functools import lru_cache
from pathlib import Path

from postroad.net.tls import ServerContext, opportunistic_context, self_signed, server_context
from postroad.net.transport import SocketStream

HOSTNAME = "mx.one.example"


def sockets() -> tuple[socket.socket, socket.socket]:
    """A connected TCP pair: the client's, the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
    return client, server


def streams() -> tuple[SocketStream, SocketStream]:
    """The same as Streams of the running loop."""
    client, server = sockets()
    return SocketStream(client), SocketStream(server)


def write_certificate(directory: Path, *names: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key, as files."""
    certificate, key = self_signed(names or (HOSTNAME, "127.0.0.1"))
    paths = directory / "certificate.pem", directory / "key.pem"
    for path, octets in zip(paths, (certificate, key), strict=True):
        path.write_bytes(octets)
    return paths


@lru_cache(maxsize=1)
def server_tls() -> ServerContext:
    with tempfile.TemporaryDirectory() as directory:
        return server_context(*write_certificate(Path(directory)))


@lru_cache(maxsize=1)
def client_tls() -> ssl.SSLContext:
    return opportunistic_context()


async def tls_streams() -> tuple[SocketStream, SocketStream]:
    """A pair with TLS up."""
    client, server = streams()
    await asyncio.gather(
        client.start_tls_client(client_tls(), HOSTNAME), server.start_tls_server(server_tls())
    )
    return client, server
