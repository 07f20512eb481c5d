"""A lean SMTP driver: one thread, epoll, prebuilt octets, many sessions.

It costs some 60 us a message, so that it is never what is measured. Each session sends one
message after the other and waits for each reply, as mail servers without PIPELINING do.
"""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Result:
    seconds: float
    accepted: int
    refused: int
    latencies_ms: list[float] = field(default_factory=list)


class _Session:
    __slots__ = ("began", "buffer", "number", "socket", "step")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.step = 0
        self.number = -1
        self.began = 0.0


def message(octets: int, number: int) -> bytes:
    """A text message of about `octets`, different in its Message-ID, dots never leading."""
    head = (
        "From: Bench <bench@elsewhere.example>\r\nTo: <someone@x.example>\r\n"
        f"Subject: bench message {number}\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n"
        f"Message-ID: <{number}.{octets}@elsewhere.example>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n\r\n"
    ).encode()
    line = b"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod.\r\n"
    return head + line * max(1, (octets - len(head)) // len(line))


def send(
    address: tuple[str, int],
    *,
    messages: int,
    sessions: int,
    octets: int,
    recipients: list[str],
    sender: str = "bench@elsewhere.example",
) -> Result:
    """Sends `messages` over `sessions` connections, recipients in turn."""
    body = message(octets, 0) + b".\r\n"
    mail = f"MAIL FROM:<{sender}>\r\n".encode()
    rcpt = [f"RCPT TO:<{recipient}>\r\n".encode() for recipient in recipients]
    selector = selectors.DefaultSelector()
    opened = [_Session(address) for _ in range(min(sessions, messages))]
    for session in opened:
        selector.register(session.socket, selectors.EVENT_READ, session)
    given = accepted = refused = 0
    latencies = []
    live = len(opened)
    began = time.perf_counter()
    while live:
        for key, _ in selector.select(60):
            session: _Session = key.data
            got = session.socket.recv(65536)
            if not got:
                raise ConnectionError(f"closed by the server at step {session.step}")
            session.buffer += got
            end = session.buffer.rfind(b"\r\n")
            if end < 0 or end + 2 != len(session.buffer):
                continue
            last = session.buffer[session.buffer.rfind(b"\n", 0, end) + 1 :]
            if last[3:4] == b"-":
                continue
            code = last[:1]
            session.buffer = b""
            if session.step == 0:
                session.socket.sendall(b"EHLO bench.example\r\n")
                session.step = 1
                continue
            if session.step == 5:
                if code == b"2":
                    accepted += 1
                else:
                    refused += 1
                latencies.append((time.perf_counter() - session.began) * 1000)
                session.step = 1
            elif code not in b"23":
                raise ConnectionError(f"step {session.step}: {last!r}")
            if session.step == 1:
                if given == messages:
                    session.socket.sendall(b"QUIT\r\n")
                    selector.unregister(session.socket)
                    session.socket.close()
                    live -= 1
                    continue
                session.number = given
                given += 1
                session.began = time.perf_counter()
                session.socket.sendall(mail)
                session.step = 2
            elif session.step == 2:
                session.socket.sendall(rcpt[session.number % len(rcpt)])
                session.step = 3
            elif session.step == 3:
                session.socket.sendall(b"DATA\r\n")
                session.step = 4
            else:
                session.socket.setblocking(True)
                session.socket.sendall(body)
                session.step = 5
    return Result(time.perf_counter() - began, accepted, refused, latencies)
