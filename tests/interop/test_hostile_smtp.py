"""A running server among strangers who mean harm: nothing is smuggled, grows or leaks."""

from __future__ import annotations

import imaplib
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest

from postroad.lab.process import PostroadServer
from support.world import world

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

CONNECTIONS = 200
PASSWORD = "bob secret"
ENDS = (
    b"\n.\n", b"\r.\r", b"\r\n.\n", b"\n.\r\n", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r\n\0.\r\n",
    b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\n\n.\n\n",
)  # fmt: skip
INNER = (
    b"MAIL FROM:<evil@evil.example>\r\nRCPT TO:<bob@x.example>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nx\r\n.\r\n"
)


class Raw:
    """A connection that says whatever octets it is given."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.unread = b""

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def reply(self) -> bytes:
        while True:
            line, end, rest = self.unread.partition(b"\r\n")
            if end:
                self.unread = rest
                if line[3:4] != b"-":
                    return line
                continue
            octets = self.socket.recv(65536)
            assert octets, f"the server closed after {self.unread!r}"
            self.unread += octets

    def say(self, line: bytes) -> bytes:
        self.send(line + b"\r\n")
        return self.reply()

    def begin_data(self) -> None:
        self.reply()
        for line in (
            b"EHLO c.example",
            b"MAIL FROM:<a@b.example>",
            b"RCPT TO:<bob@x.example>",
            b"DATA",
        ):
            assert self.say(line)[:1] in b"23"

    def close(self) -> None:
        self.socket.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostroadServer]:
    with world(tmp_path_factory.mktemp("hostile")) as made:
        running = made.server("x.example", address="127.0.0.1", plaintext_on_loopback=True)
        running.add_account("bob@x.example", PASSWORD)
        running.start()
        yield running
        assert running.stop() == 0, running.log_end()


def used(server: PostroadServer) -> tuple[int, int]:
    """Megabytes and file descriptors of the process and its children."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    all_of_it = [process, *process.children(recursive=True)]
    octets = sum(item.memory_info().rss for item in all_of_it)
    return octets >> 20, sum(item.num_fds() for item in all_of_it)


def drafts(server: PostroadServer) -> list[str]:
    return os.listdir(server.directory / "data" / "tmp")


def inbox(server: PostroadServer) -> list[bytes]:
    with imaplib.IMAP4("127.0.0.1", server.port("imap")) as client:
        client.login("bob@x.example", PASSWORD)
        _, (count,) = client.select("INBOX")
        found = []
        for number in range(1, int(count or b"0") + 1):
            _, data = client.fetch(str(number), "(BODY.PEEK[])")
            assert isinstance(data[0], tuple)
            found.append(data[0][1])
        return found


def wait_until_gone(server: PostroadServer, descriptors: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not drafts(server) and used(server)[1] <= descriptors:
            return
        time.sleep(0.05)
    raise AssertionError(f"left behind: {drafts(server)}, {used(server)[1]} descriptors")


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_no_second_message_is_smuggled(server: PostroadServer, end: bytes) -> None:
    """Whole, cut within the false end, and with the false end across a slice of 64 KB."""
    before = len(inbox(server))
    bodies: list[tuple[bytes, int | None]] = [(b"Subject: o\r\n\r\nx" + end + INNER, None)]
    bodies += [(bodies[0][0], bodies[0][0].index(end) + cut) for cut in range(1, len(end))]
    for offset in (-3, -1, 0):
        padding = (b"p" * 62 + b"\r\n") * 1024
        bodies.append((padding[: 65536 + offset - 66] + b"\r\n" + b"q" * 64 + end + INNER, None))
    for body, cut in bodies:
        with closing(Raw(server.port("smtp"))) as peer:
            peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.begin_data()
            peer.send(body[:cut])
            if cut is not None:
                time.sleep(0.01)
                peer.send(body[cut:])
            assert peer.reply().startswith(b"550 5.6."), (end, cut)
            assert peer.say(b"NOOP").startswith(b"250 ")
    assert len(inbox(server)) == before


def test_a_crowd_of_hostile_connections_is_borne_and_leaves_nothing(
    server: PostroadServer,
) -> None:
    octets_before, descriptors_before = used(server)
    peers = []
    for number in range(CONNECTIONS):
        kind = number % 4
        peer = Raw(server.port("submissions" if kind == 3 else "smtp"))
        peers.append(peer)
        if kind == 3:
            peer.send(b"\x16\x03\x01")  # the beginning of a handshake
            continue
        peer.begin_data()
        if kind == 1:
            peer.send((b"x" * 70 + b"\r\n") * 10_000)
        elif kind == 2:
            peer.send(b"y" * 200_000)  # a line without end
    for _ in range(3):
        for peer in peers:
            peer.send(b"\0")
    octets_during, _ = used(server)
    assert octets_during - octets_before < 64
    with closing(Raw(server.port("smtp"))) as honest:
        began = time.monotonic()
        honest.begin_data()
        honest.send(b"Subject: hi\r\n\r\nx\r\n.\r\n")
        assert honest.reply().startswith(b"250 ")
        assert time.monotonic() - began < 5
    for peer in peers:
        peer.close()
    wait_until_gone(server, descriptors_before + 3)


def test_commands_without_end_are_cut_off(server: PostroadServer) -> None:
    """A flood in one write: the answers end with 421, and the connection with them."""
    floods = [
        (b"NOOP\r\n", b""),
        (b"AUTH PLAIN\r\n*\r\n", b""),
        (b"MAIL FROM:<a@b.example>\r\nRSET\r\n", b""),
        (b"RCPT TO:<nobody@x.example>\r\n", b"MAIL FROM:<a@b.example>\r\n"),
        (b"RCPT TO:<bob@x.example>\r\n", b"MAIL FROM:<a@b.example>\r\n"),
        (b"\xff\0\r\n", b""),
    ]
    for line, first in floods:
        with closing(Raw(server.port("smtp"))) as peer:
            heard = b""
            try:
                peer.send(b"EHLO c.example\r\n" + first + line * 5000)
                while octets := peer.socket.recv(65536):
                    heard = (heard + octets)[-200:]
            except (ConnectionResetError, BrokenPipeError):
                continue  # it closed while octets were still on their way
            assert b"\r\n421 4.7.0 " in heard, line


def test_random_octets_end_nothing_but_their_own_session(server: PostroadServer) -> None:
    chance = random.Random(5321)
    words = [b"EHLO a", b"MAIL FROM:<", b"RCPT TO:<bob@x.example>", b"DATA", b"\r\n", b".", b"\0"]
    for _ in range(60):
        with closing(Raw(server.port(chance.choice(["smtp", "submission"])))) as peer:
            try:
                for _ in range(30):
                    peer.send(chance.choice([*words, chance.randbytes(chance.randrange(1, 3000))]))
            except (ConnectionResetError, BrokenPipeError):
                pass
    with closing(Raw(server.port("smtp"))) as honest:
        honest.begin_data()
    log = server.log.read_bytes()
    assert b"Traceback" not in log
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", log), "a peer's octets are in the log"
