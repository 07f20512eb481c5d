"""A lean IMAP client: it costs little beside what is measured, and checks every tagged answer."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable

_LITERAL_BATCH_OCTETS = 4 << 20


class Refused(Exception):
    """The server said NO or BAD."""


class Client:
    """One connection, logged in."""

    def __init__(self, port: int, user: str = "u0@x.example", password: str = "bench") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=600)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._tag = 0
        self.line()
        self.run(f"LOGIN {user} {password}".encode())

    def line(self) -> bytes:
        while b"\n" not in self._rest:
            self._rest += self._receive()
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _receive(self) -> bytes:
        octets = self.socket.recv(1 << 20)
        if not octets:
            raise ConnectionError("closed by the server")
        return octets

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def run(self, command: bytes, *, keep: bool = True) -> bytes:
        """Runs one command; returns all that was answered (the last megabyte, without `keep`).

        Raises: Refused.
        """
        tag = self.tag()
        self.send(tag + b" " + command + b"\r\n")
        return self.finish(tag, keep=keep)

    def tag(self) -> bytes:
        self._tag += 1
        return b"b%d" % self._tag

    def finish(self, tag: bytes, *, keep: bool = True) -> bytes:
        """Reads up to the tagged answer."""
        end = re.compile(rb"(?:^|\r\n)" + tag + rb" (OK|NO|BAD)[^\r\n]*\r\n\Z")
        pieces = [self._rest]
        tail = self._rest[-2000:]
        self._rest = b""
        while (found := end.search(tail)) is None:
            octets = self._receive()
            if keep:
                pieces.append(octets)
            tail = (tail + octets)[-2000:]
        if found[1] != b"OK":
            raise Refused(tail[found.start() :].strip().decode("utf-8", "replace"))
        return b"".join(pieces) if keep else tail

    def append(self, mailbox: bytes, messages: Iterable[bytes]) -> None:
        """One command each, one after the other, without waiting for continuations."""
        for message in messages:
            tag = self.tag()
            self.send(tag + b" APPEND %b {%d+}\r\n%b\r\n" % (mailbox, len(message), message))
            self.finish(tag)

    def multiappend(self, mailbox: bytes, messages: Iterable[bytes]) -> None:
        """One command for all."""
        tag = self.tag()
        pieces = [tag + b" APPEND " + mailbox]
        size = 0
        for message in messages:
            pieces.append(b" {%d+}\r\n%b" % (len(message), message))
            size += len(message)
            if size > _LITERAL_BATCH_OCTETS:
                self.send(b"".join(pieces))
                pieces, size = [], 0
        self.send(b"".join(pieces) + b"\r\n")
        self.finish(tag)

    def close(self) -> None:
        self.socket.close()
