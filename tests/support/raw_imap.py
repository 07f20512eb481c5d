"""A plain blocking IMAP client over a real socket, and a reader of responses for comparison."""

from __future__ import annotations

import re
import socket
from types import TracebackType

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")
_TOKEN = re.compile(
    rb'"((?:[^"\\]|\\.)*)"|~?\{(\d+)\}\r\n|([()])|([^\s()"{\[]+(?:\[[^\]]*\])?(?:<\d+>)?|\[[^\]]*\])'
)

Value = bytes | None | list["Value"]


def values(octets: bytes) -> list[Value]:
    """Tokens nested by parentheses; strings as bytes whatever they were written as, NIL as None."""
    out: list[Value] = []
    stack: list[list[Value]] = [out]
    at = 0
    while at < len(octets):
        if octets[at : at + 1] in b" \r\n":
            at += 1
            continue
        match = _TOKEN.match(octets, at)
        assert match is not None, octets[at : at + 80]
        at = match.end()
        if match[1] is not None:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", match[1]))
        elif match[2] is not None:
            size = int(match[2])
            stack[-1].append(octets[at : at + size])
            at += size
        elif match[3] == b"(":
            inner: list[Value] = []
            stack[-1].append(inner)
            stack.append(inner)
        elif match[3] == b")":
            stack.pop()
        else:
            stack[-1].append(None if match[4].upper() == b"NIL" else match[4])
    assert len(stack) == 1, octets
    return out


class RawClient:
    """`ask` sends one command (literals non-synchronizing) and returns all its responses."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout_s: float = 20) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread = b""
        self.count = 0
        self.greeting = self.response()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        self.socket.close()

    def _more(self) -> None:
        octets = self.socket.recv(1 << 18)
        if not octets:
            raise EOFError(self.unread[-200:])
        self.unread += octets

    def response(self) -> bytes:
        """One response with its literals, without the last CRLF."""
        out = b""
        while True:
            while b"\r\n" not in self.unread:
                self._more()
            line, end, self.unread = self.unread.partition(b"\r\n")
            out += line + end
            literal = _LITERAL.search(out[-30:])
            if literal is None:
                return out[:-2]
            size = int(literal[1])
            pieces = [self.unread[:size]]
            left = size - len(pieces[0])
            self.unread = self.unread[size:]
            while left:
                octets = self.socket.recv(1 << 18)
                if not octets:
                    raise EOFError(out[-200:])
                pieces.append(octets[:left])
                self.unread = octets[left:]
                left -= len(pieces[-1])
            out += b"".join(pieces)

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def until(self, tag: bytes) -> list[bytes]:
        """Responses up to the tagged one, which is the last, without its tag."""
        out = []
        while True:
            out.append(self.response())
            if out[-1].startswith(tag + b" "):
                out[-1] = out[-1][len(tag) + 1 :]
                return out

    def ask(self, command: bytes) -> list[bytes]:
        self.count += 1
        tag = b"r%d" % self.count
        self.send(tag + b" " + command + b"\r\n")
        return self.until(tag)

    def ok(self, command: bytes) -> list[bytes]:
        out = self.ask(command)
        assert out[-1].startswith(b"OK"), (command[:200], out)
        return out

    def append(self, mailbox: bytes, message: bytes, before: bytes = b"") -> list[bytes]:
        head = b"APPEND %b %b{%d+}\r\n" % (mailbox, before and before + b" ", len(message))
        return self.ask(head + message)
