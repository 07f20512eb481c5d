"""The measurements. Each takes a `Ground` and returns rows: what, unit, ours, theirs."""

from __future__ import annotations

import imaplib
import re
import shutil
import smtplib
import socket
import ssl
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench import driver, peers, processes
from postroad.lab.dns import DNSServer
from postroad.lab.process import PostroadServer, free_offset

MAILBOXES = 100
PASSWORD = "bench"


@dataclass(slots=True)
class Row:
    """One line of the table: runs of ours and of the peer, in the same unit."""

    what: str
    unit: str
    better: str
    """"higher" or "lower"."""
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def ratio(self) -> float | None:
        if not self.ours or not self.theirs:
            return None
        mine, other = statistics.median(self.ours), statistics.median(self.theirs)
        if mine == 0 or other == 0:
            return None
        return mine / other if self.better == "higher" else other / mine


class Ground:
    """A directory, a DNS of its own, and the two sides started afresh when asked."""

    def __init__(self, directory: Path, workers: int) -> None:
        self.directory, self.workers = directory, workers
        self.number = 0
        self.dns = DNSServer(ttl_s=300)
        self.has_peers = peers.installed()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            + ["-nodes", "-keyout", str(directory / "key.pem"), "-subj", "/CN=bench"]
            + ["-out", str(directory / "cert.pem"), "-days", "30"],
            check=True,
            capture_output=True,
        )

    def fresh(self, name: str) -> Path:
        self.number += 1
        path = self.directory / f"{name}-{self.number}"
        path.mkdir()
        return path

    def postroad(
        self, *, delivery_port: int | None = None, users: int = MAILBOXES
    ) -> PostroadServer:
        directory = self.fresh("postroad")
        server = PostroadServer(directory / "d", offset=free_offset("127.0.0.1"))
        server.init(
            "x.example",
            workers=self.workers,
            plaintext_on_loopback=True,
            nameservers=[self.dns.nameserver],
            delivery_port=delivery_port,
            options=[("log", "level", '"warning"')],
        )
        server.add_accounts([f"u{n}@x.example" for n in range(users)], PASSWORD)
        return server

    def dovecot(self) -> peers.Dovecot:
        offset = free_offset("127.0.0.1")
        return peers.Dovecot(
            self.fresh("dovecot") / "d", imap=offset + 143, imaps=offset + 993, pop3=offset + 110,
            certificate=self.directory / "cert.pem", key=self.directory / "key.pem",
        )  # fmt: skip

    def postfix(self, lmtp: Path | None, relayhost: str = "") -> peers.Postfix:
        return peers.Postfix(
            self.fresh("postfix") / "d", port=free_offset("127.0.0.1") + 25,
            domains=["x.example"], lmtp=lmtp, relayhost=relayhost,
        )  # fmt: skip


Say = Callable[[str], None]
RECIPIENTS = [f"u{number}@x.example" for number in range(MAILBOXES)]


def accept(ground: Ground, say: Say, *, messages: int, runs: int) -> list[Row]:
    """Durable accept-and-deliver to 100 mailboxes: time until the last one is in its mailbox."""
    rows = []
    for octets in (4096, 40_960):
        for sessions in (1, 10, 50):
            what = f"accept and deliver, {octets // 1024} KB, {sessions} sessions"
            speed = Row(what, "messages/s", "higher")
            cpu = Row(f"{what}: CPU", "s per 1,000", "lower")
            rows += [speed, cpu]
            for _ in range(runs):
                say(f"{what}: postroad")
                _accept_ours(ground, messages, sessions, octets, speed, cpu)
                if ground.has_peers:
                    say(f"{what}: postfix + dovecot")
                    _accept_theirs(ground, messages, sessions, octets, speed, cpu)
    return rows


def _accept_ours(
    ground: Ground, messages: int, sessions: int, octets: int, speed: Row, cpu: Row
) -> None:
    server = ground.postroad()
    server.start()
    assert server.process is not None
    pid = server.process.pid
    try:
        before = processes.cpu_seconds(processes.tree(pid))
        result = driver.send(
            ("127.0.0.1", server.port("smtp")), messages=messages, sessions=sessions,
            octets=octets, recipients=RECIPIENTS,
        )  # fmt: skip
        after = processes.cpu_seconds(processes.tree(pid))
        assert result.accepted == messages, result
        speed.ours.append(messages / result.seconds)
        cpu.ours.append((after - before) * 1000 / messages)
    finally:
        server.stop()
        shutil.rmtree(server.directory.parent)


def _accept_theirs(
    ground: Ground, messages: int, sessions: int, octets: int, speed: Row, cpu: Row
) -> None:
    dovecot = ground.dovecot()
    dovecot.start()
    postfix = ground.postfix(dovecot.lmtp)
    postfix.start()
    try:
        before = processes.cpu_seconds(processes.tree(dovecot.pid, postfix.pid))
        began = time.perf_counter()
        result = driver.send(
            ("127.0.0.1", postfix.port), messages=messages, sessions=sessions, octets=octets,
            recipients=RECIPIENTS,
        )  # fmt: skip
        assert result.accepted == messages, result
        while postfix.queued() and time.perf_counter() - began < 300:
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        after = processes.cpu_seconds(processes.tree(dovecot.pid, postfix.pid))
        delivered = sum(1 for _ in dovecot.mail.glob("*/new/*"))
        assert delivered == messages, (delivered, messages)
        speed.theirs.append(messages / seconds)
        cpu.theirs.append((after - before) * 1000 / messages)
    finally:
        postfix.stop()
        dovecot.stop()
        shutil.rmtree(postfix.directory.parent)
        shutil.rmtree(dovecot.directory.parent)


class Sink:
    """postfix's smtp-sink where installed: takes everything, keeps nothing, counts."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.port = free_offset(address) + 25
        self.process = subprocess.Popen(
            ["/usr/sbin/smtp-sink", "-c", "-u", "nobody", f"{address}:{self.port}", "1000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        peers.wait_port(address, self.port)
        self.count = 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        """With -c it prints the running number of messages, separated by CR."""
        assert self.process.stdout is not None
        rest = b""
        while octets := self.process.stdout.read(65536):
            rest = (rest + octets)[-4096:]
            for number in re.findall(rb"(\d+)\r", rest):
                self.count = max(self.count, int(number))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def outbound(ground: Ground, say: Say, *, messages: int, runs: int) -> list[Row]:
    """Messages accepted for a far domain and delivered to a sink: time until the sink has all."""
    if not ground.has_peers:
        say("outbound: smtp-sink is not installed; left out")
        return []
    speed = Row("out through the queue to a sink, 4 KB", "messages/s", "higher")
    cpu = Row("out through the queue: CPU", "s per 1,000", "lower")
    for _ in range(runs):
        say("outbound: postroad")
        sink = Sink("127.0.0.9")
        ground.dns.add("far.example", "MX", "10 mx.far.example")
        ground.dns.add("mx.far.example", "A", sink.address)
        server = ground.postroad(delivery_port=sink.port, users=1)
        server.run("alias", "add", "out@x.example", "sink@far.example")
        server.start()
        assert server.process is not None
        pid = server.process.pid
        try:
            _outbound(
                ("127.0.0.1", server.port("smtp")), "out@x.example", sink, messages,
                lambda pid=pid: processes.tree(pid), speed.ours, cpu.ours,
            )  # fmt: skip
        finally:
            server.stop()
            sink.stop()
            shutil.rmtree(server.directory.parent)
        say("outbound: postfix")
        sink = Sink("127.0.0.9")
        postfix = ground.postfix(None, relayhost=f"[{sink.address}]:{sink.port}")
        postfix.start()
        try:
            master = postfix.pid
            _outbound(
                ("127.0.0.1", postfix.port), "sink@far.example", sink, messages,
                lambda pid=master: processes.tree(pid), speed.theirs, cpu.theirs,
            )  # fmt: skip
        finally:
            postfix.stop()
            sink.stop()
            shutil.rmtree(postfix.directory.parent)
    return [speed, cpu]


def _outbound(
    address: tuple[str, int],
    recipient: str,
    sink: Sink,
    messages: int,
    pids: Callable[[], list[int]],
    speeds: list[float],
    cpus: list[float],
) -> None:
    before = processes.cpu_seconds(pids())
    began = time.perf_counter()
    result = driver.send(
        address, messages=messages, sessions=10, octets=4096, recipients=[recipient]
    )
    assert result.accepted == messages
    while sink.count < messages:
        if time.perf_counter() - began > 300:
            raise TimeoutError(f"the sink has {sink.count} of {messages}")
        time.sleep(0.01)
    speeds.append(messages / (time.perf_counter() - began))
    cpus.append((processes.cpu_seconds(pids()) - before) * 1000 / messages)


def imap(ground: Ground, say: Say, *, messages: int, runs: int) -> list[Row]:
    """FETCH of all envelopes and of all flags of a large mailbox; first time and warm."""
    cold = Row(f"FETCH 1:{messages} ENVELOPE, first time", "ms", "lower")
    warm = Row(f"FETCH 1:{messages} ENVELOPE, warm", "ms", "lower")
    flags = Row(f"FETCH 1:{messages} (UID FLAGS)", "ms", "lower")
    say("imap: filling postroad's mailbox")
    server = ground.postroad(users=1)
    server.start()
    driver.send(
        ("127.0.0.1", server.port("smtp")), messages=messages, sessions=20, octets=3000,
        recipients=["u0@x.example"],
    )  # fmt: skip
    try:
        server.stop()
        server.start()
        _fetches(
            server.port("imap"), "u0@x.example", messages, runs, cold.ours, warm.ours, flags.ours
        )
    finally:
        server.stop()
        shutil.rmtree(server.directory.parent)
    if ground.has_peers:
        say("imap: filling dovecot's mailbox")
        dovecot = ground.dovecot()
        box = dovecot.mail / "u0"
        for name in ("cur", "new", "tmp"):
            (box / name).mkdir(parents=True)
        for number in range(messages):
            (box / "cur" / f"{1_700_000_000 + number}.{number}.host:2,S").write_bytes(
                b"Received: by bench\n" + driver.message(3000, number).replace(b"\r\n", b"\n")
            )
        shutil.chown(dovecot.mail, "mail", "mail")
        for path in dovecot.mail.rglob("*"):
            shutil.chown(path, "mail", "mail")
        dovecot.start()
        try:
            _fetches(dovecot.imap, "u0", messages, runs, cold.theirs, warm.theirs, flags.theirs)
        finally:
            dovecot.stop()
            shutil.rmtree(dovecot.directory.parent)
    return [cold, warm, flags]


class RawIMAP:
    """A client that reads a whole answer and parses nothing."""

    def __init__(self, port: int, user: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.socket.recv(4096)
        self.command(f"LOGIN {user} {PASSWORD}")

    def command(self, text: str) -> bytes:
        self.socket.sendall(f"t {text}\r\n".encode())
        pieces = [b""]
        while True:
            pieces.append(self.socket.recv(1 << 20))
            if not pieces[-1]:
                raise ConnectionError("closed")
            if pieces[-1].endswith(b"\r\n"):
                tail = (pieces[-2][-500:] + pieces[-1])[-600:]
                last = tail[:-2].rpartition(b"\r\n")[2]
                if last.startswith(b"t "):
                    if not last.startswith(b"t OK"):
                        raise ConnectionError(last.decode())
                    return b"".join(pieces)

    def timed(self, text: str, expected: int) -> float:
        began = time.perf_counter()
        answer = self.command(text)
        milliseconds = (time.perf_counter() - began) * 1000
        assert answer.count(b" FETCH (") == expected, answer.count(b" FETCH (")
        return milliseconds


def _fetches(
    port: int, user: str, messages: int, runs: int,
    cold: list[float], warm: list[float], flags: list[float],
) -> None:  # fmt: skip
    client = RawIMAP(port, user)
    client.command("SELECT INBOX")
    cold.append(client.timed("FETCH 1:* (ENVELOPE)", messages))
    for _ in range(max(3, runs)):
        warm.append(client.timed("FETCH 1:* (ENVELOPE)", messages))
        flags.append(client.timed("FETCH 1:* (UID FLAGS)", messages))
    client.socket.close()


def idle(ground: Ground, say: Say, *, connections: int) -> list[Row]:
    """Memory per idle connection, logged in and in IDLE (PSS of all server processes)."""
    rows = [
        Row(f"idle IMAP connection of {connections}", "KB", "lower"),
        Row(f"idle IMAP connection of {connections}, TLS", "KB", "lower"),
    ]
    for row, port, tls in ((rows[0], "imap", False), (rows[1], "imaps", True)):
        say(f"idle: postroad, {'TLS' if tls else 'plain'}")
        server = ground.postroad(users=1)
        server.start()
        assert server.process is not None
        pid = server.process.pid
        try:
            row.ours.append(
                _idle(server.port(port), "u0@x.example", connections, tls,
                      lambda pid=pid: processes.tree(pid))
            )  # fmt: skip
        finally:
            server.stop()
            shutil.rmtree(server.directory.parent)
        if ground.has_peers:
            say(f"idle: dovecot, {'TLS' if tls else 'plain'}")
            dovecot = ground.dovecot()
            dovecot.start()
            try:
                row.theirs.append(
                    _idle(dovecot.imaps if tls else dovecot.imap, "u0", connections, tls,
                          lambda dovecot=dovecot: processes.tree(dovecot.pid))
                )  # fmt: skip
            finally:
                dovecot.stop()
                shutil.rmtree(dovecot.directory.parent)
    return rows


def _idle(
    port: int, user: str, connections: int, tls: bool, pids: Callable[[], list[int]]
) -> float:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def one() -> imaplib.IMAP4:
        client: imaplib.IMAP4 = (
            imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=context)
            if tls
            else imaplib.IMAP4("127.0.0.1", port)
        )
        client.login(user, PASSWORD)
        client.select("INBOX")
        client.send(b"x IDLE\r\n")
        assert client.readline().startswith(b"+")
        return client

    opened = [one() for _ in range(10)]
    time.sleep(1)
    before = processes.pss_octets(pids())
    opened += [one() for _ in range(connections)]
    time.sleep(2)
    after = processes.pss_octets(pids())
    for client in opened:
        client.sock.close()
    return (after - before) / connections / 1024


def startup(ground: Ground, say: Say, *, runs: int) -> list[Row]:
    """From the command to the first port that answers."""
    row = Row("start to ready", "ms", "lower")
    server = ground.postroad(users=1)
    for _ in range(max(3, runs)):
        say("startup: postroad")
        row.ours.append(server.start() * 1000)
        with smtplib.SMTP("127.0.0.1", server.port("smtp"), timeout=10) as client:
            client.noop()
        server.stop()
    shutil.rmtree(server.directory.parent)
    if ground.has_peers:
        for _ in range(max(3, runs)):
            say("startup: postfix + dovecot")
            dovecot = ground.dovecot()
            seconds = dovecot.start()
            postfix = ground.postfix(dovecot.lmtp)
            row.theirs.append((seconds + postfix.start()) * 1000)
            postfix.stop()
            dovecot.stop()
    return [row]
