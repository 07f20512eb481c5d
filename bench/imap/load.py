"""Many sessions at once: mixed work, and idling."""

from __future__ import annotations

import random
import selectors
import socket
import ssl
import statistics
import time
from pathlib import Path

from bench import driver, processes
from bench.imap import mail
from bench.imap.client import Client
from bench.imap.rows import Figure, Say, Table
from bench.imap.sides import Side
from bench.sections import PASSWORD

_SMALL = next(mail.messages(1))


class _Worker:
    """One session of the mixed load: sends a command when the last was answered."""

    __slots__ = ("began", "buffer", "dice", "exists", "kind", "socket", "tag")

    def __init__(self, side: Side, number: int) -> None:
        client = Client(side.imap, user=f"u{number + 2}@x.example", password=PASSWORD)
        client.multiappend(b"INBOX", mail.messages(50))
        client.run(b"SELECT INBOX")
        self.socket = client.socket
        self.dice = random.Random(number)
        self.exists = 50
        self.tag = 0
        self.buffer = b""
        self.kind = ""
        self.began = 0.0

    def start(self) -> None:
        dice = self.dice
        at = dice.randint(1, 50)
        kind, command = dice.choices(
            (
                ("NOOP", b"NOOP"),
                ("FETCH flags", b"FETCH 1:* (UID FLAGS)"),
                ("FETCH envelopes", b"FETCH 1:20 (UID ENVELOPE BODYSTRUCTURE)"),
                ("FETCH a body", b"FETCH %d BODY.PEEK[]" % at),
                ("SEARCH", b"SEARCH UNSEEN"),
                ("STATUS", b"STATUS Sent (MESSAGES UNSEEN UIDNEXT)"),
                ("STORE", b"STORE %d +FLAGS (\\Seen)" % at),
                ("STORE back", b"STORE %d -FLAGS (\\Seen)" % at),
                ("APPEND", b"APPEND Sent {%d+}\r\n%b" % (len(_SMALL), _SMALL)),
            ),
            (20, 15, 10, 25, 8, 8, 5, 5, 4),
        )[0]
        self.tag += 1
        self.kind = kind
        self.buffer = b""
        self.began = time.perf_counter()
        self.socket.setblocking(True)
        self.socket.sendall(b"w%d %b\r\n" % (self.tag, command))
        self.socket.setblocking(False)

    def is_answered(self) -> bool:
        try:
            octets = self.socket.recv(1 << 18)
        except BlockingIOError:
            return False
        if not octets:
            raise ConnectionError("closed by the server")
        self.buffer = (self.buffer + octets)[-4000:]
        line = self.buffer[self.buffer.rfind(b"\n", 0, len(self.buffer) - 1) + 1 :]
        if not (line.endswith(b"\r\n") and line.startswith(b"w%d " % self.tag)):
            return False
        if not line.startswith(b"w%d OK" % self.tag):
            raise ConnectionError(f"{self.kind}: {line!r}")
        return True


def mixed(table: Table, side: Side, say: Say, sessions: int, seconds: float) -> None:
    say(f"{side.name}: {sessions} sessions of mixed work for {seconds:.0f} s")
    workers = []
    for number in range(sessions):
        client = Client(side.imap, user=f"u{number + 2}@x.example", password=PASSWORD)
        if side.name != "postroad":  # there an account begins with it
            client.run(b"CREATE Sent")
        client.close()
        workers.append(_Worker(side, number))
    selector = selectors.DefaultSelector()
    for worker in workers:
        selector.register(worker.socket, selectors.EVENT_READ, worker)
    before = processes.cpu_seconds(side.pids())
    began = time.perf_counter()
    waits: list[float] = []
    for worker in workers:
        worker.start()
    running = len(workers)
    while running:
        for key, _ in selector.select(60):
            worker = key.data
            if not worker.is_answered():
                continue
            now = time.perf_counter()
            waits.append((now - worker.began) * 1000)
            if now - began < seconds:
                worker.start()
            else:
                selector.unregister(worker.socket)
                running -= 1
    took = time.perf_counter() - began
    cpu = processes.cpu_seconds(side.pids()) - before
    waits.sort()
    what = f"{sessions} sessions of mixed work"
    _note(table, f"{what}: ms per 1,000 commands", side, took * 1e6 / len(waits), cpu)
    _note(table, f"{what}: wait, median", side, statistics.median(waits), 0)
    _note(table, f"{what}: wait, 99th of 100", side, waits[len(waits) * 99 // 100], 0)
    for worker in workers:
        worker.socket.close()


def _note(table: Table, row: str, side: Side, value: float, cpu: float) -> None:
    figure = table.setdefault(row, {}).setdefault(side.name, Figure())
    figure.milliseconds.append(value)
    figure.cpu.append(cpu)


def idle(table: Table, side: Side, say: Say, connections: int, *, tls: bool) -> None:
    """Memory of each idling session, and the delay from a delivery's 250 to its EXISTS."""
    what = f"{connections:,} idle sessions{' with TLS' if tls else ''}"
    say(f"{side.name}: {what}")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opened: list[socket.socket] = []

    def open_one() -> None:
        connection = socket.create_connection(
            ("127.0.0.1", side.imaps if tls else side.imap), timeout=60
        )
        if tls:
            connection = context.wrap_socket(connection)
        reader = connection.makefile("rb")
        reader.readline()
        user = f"u{len(opened) % 200}@x.example"
        connection.sendall(f"a LOGIN {user} {PASSWORD}\r\nb SELECT INBOX\r\nc IDLE\r\n".encode())
        while not reader.readline().startswith(b"+"):
            continue
        reader.detach()
        opened.append(connection)

    for _ in range(20):
        open_one()
    time.sleep(1)
    before = processes.anonymous_octets(side.pids())
    for _ in range(connections):
        open_one()
    time.sleep(2)
    after = processes.anonymous_octets(side.pids())
    _note(table, f"{what}: KB each", side, (after - before) / connections / 1024, 0)
    if connections <= 1000:
        _delay(table, side, f"{what}: delivery to EXISTS, median", opened[3])
    for connection in opened:
        connection.close()


def _delay(table: Table, side: Side, row: str, connection: socket.socket) -> None:
    """The fourth session idles on u3's INBOX."""
    reader = connection.makefile("rb")
    delays = []
    for number in range(20):
        answered = _deliver(side, "u3@x.example", number)
        while b"EXISTS" not in reader.readline():
            continue
        delays.append(max((time.perf_counter() - answered) * 1000, 0.0))
        time.sleep(0.05)
    _note(table, row, side, statistics.median(delays), 0)


def _deliver(side: Side, recipient: str, number: int) -> float:
    """One message in; returns when its final dot was answered."""
    if isinstance(side.deliver, Path):
        connection: socket.socket = socket.socket(socket.AF_UNIX)
        connection.connect(str(side.deliver))
        hello = b"LHLO bench.example\r\n"
    else:
        connection = socket.create_connection(side.deliver)
        hello = b"EHLO bench.example\r\n"
    with connection, connection.makefile("rb") as reader:
        reader.readline()
        for command in (
            hello,
            b"MAIL FROM:<bench@elsewhere.example>\r\n",
            f"RCPT TO:<{recipient}>\r\n".encode(),
            b"DATA\r\n",
            driver.message(2000, number) + b".\r\n",
        ):
            connection.sendall(command)
            while reader.readline()[3:4] == b"-":
                continue
        return time.perf_counter()
