"""The server as a process: mail by every protocol, signals, dead workers, taken ports."""

from __future__ import annotations

import atexit
import contextlib
import functools
import imaplib
import os
import poplib
import pwd
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from postroad.lab.process import PostroadServer, ServerFailed, free_offset
from postroad.net.tls import self_signed
from support.mail import plain

PASSWORD = "serve secret"


@functools.cache
def _template() -> Path:
    """A server that was made once; every test starts from a copy."""
    directory = Path(tempfile.mkdtemp(prefix="postroad-serve-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    server = PostroadServer(directory / "mail", offset=11_000)
    server.init(
        "x.example",
        nameservers=["127.0.0.1:9"],  # nobody: SPF and DKIM of these mails are temperror at once
        plaintext_on_loopback=True,
    )
    server.add_account("ann@x.example", PASSWORD)
    return server.directory


@contextlib.contextmanager
def made(tmp_path: Path, workers: int) -> Iterator[PostroadServer]:
    server = PostroadServer(tmp_path / "mail", offset=free_offset("127.0.0.1"))
    shutil.copytree(_template(), server.directory)
    server.configure(
        [
            ("server", "workers", str(workers)),
            ("listen", "port_offset", str(server.offset)),
        ]
    )
    try:
        yield server
    finally:
        server.stop()


def send(server: PostroadServer, token: str, to: str = "ann@x.example") -> None:
    """By the submission port, which asks no DNS."""
    with smtplib.SMTP("127.0.0.1", server.port("submission"), timeout=20) as client:
        client.login("ann@x.example", PASSWORD)
        client.sendmail("ann@x.example", [to], plain(token).replace(b"elsewhere", b"x"))


def pop3(
    server: PostroadServer, login: str = "ann@x.example", password: str = PASSWORD
) -> poplib.POP3:
    client = poplib.POP3("127.0.0.1", server.port("pop3"), timeout=20)
    client.user(login)
    client.pass_(password)
    return client


def until(condition: object, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def fingerprint(server: PostroadServer) -> bytes:
    return ssl.get_server_certificate(("127.0.0.1", server.port("imaps"))).encode()


@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "workers"])
def test_a_day_of_a_server(tmp_path: Path, workers: int) -> None:
    with made(tmp_path, workers) as server:
        server.start()
        assert server.process is not None
        send(server, "first")
        with imaplib.IMAP4("127.0.0.1", server.port("imap"), timeout=20) as imap:
            imap.login("ann@x.example", PASSWORD)
            assert imap.select("INBOX")[1] == [b"1"]
        client = pop3(server)
        for _ in range(6):  # the lock holds whichever worker is asked
            with pytest.raises(poplib.error_proto, match="IN-USE"):
                pop3(server)
        assert b"token first" in b"\n".join(client.retr(1)[1])
        client.quit()

        # commands take effect at once, in every worker
        server.run("account", "add", "bob@x.example", "--password-stdin", stdin="bob secret\n")
        for _ in range(4):
            pop3(server, "bob@x.example", "bob secret").quit()
        server.run("account", "password", "bob@x.example", "--password-stdin", stdin="new secret\n")
        for _ in range(2):
            with pytest.raises(poplib.error_proto, match="AUTH"):
                pop3(server, "bob@x.example", "bob secret")
        open_session = pop3(server, "bob@x.example", "new secret")
        server.run("account", "remove", "bob@x.example", "--yes")
        with pytest.raises(poplib.error_proto, match="the account is gone"):
            open_session.stat()
        open_session.close()

        # SIGHUP: a new certificate, and what cannot be used changes nothing
        before = fingerprint(server)
        certificate, key = self_signed(["mx.x.example"])
        (server.directory / "tls" / "cert.pem").write_bytes(certificate)
        (server.directory / "tls" / "key.pem").write_bytes(key)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: all(fingerprint(server) == certificate for _ in range(6)))
        assert before != certificate
        (server.directory / "tls" / "cert.pem").write_text("nonsense")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "ReloadFailed" in server.log_end())
        assert fingerprint(server) == certificate
        (server.directory / "tls" / "cert.pem").write_bytes(certificate)

        # SIGTERM: idle sessions hear of it, deletions do not happen, exit 0
        idle = pop3(server)
        idle.dele(1)
        assert server.stop() == 0
        with pytest.raises(poplib.error_proto, match="stopping"):
            idle.noop()
        idle.close()
        assert "ServerStopped" in server.log_end()
        server.run("verify")
        server.start()
        again = pop3(server)
        assert again.stat()[0] == 1
        again.quit()


def test_a_dead_worker_is_replaced_and_its_connections_wait(tmp_path: Path) -> None:
    with made(tmp_path, 1) as server:
        server.start()
        assert server.process is not None
        send(server, "one")
        workers = psutil.Process(server.process.pid).children()
        assert len(workers) == 2, "a worker, and the queue's process"
        for worker in workers:
            worker.kill()
        client = pop3(server)  # connects to the socket the parent holds, and waits there
        assert client.stat()[0] == 1
        client.quit()
        send(server, "two")
        pid = server.process.pid
        until(lambda: len(psutil.Process(pid).children()) == 2)
        assert server.log_end().count("WorkerLost") == 2
        assert server.stop() == 0, server.log_end()


@pytest.mark.parametrize(
    "delay_s",
    [0.15, pytest.param(0.05, marks=pytest.mark.slow), pytest.param(0.4, marks=pytest.mark.slow)],
)
def test_a_stop_while_a_worker_is_being_replaced(tmp_path: Path, delay_s: float) -> None:
    """The order to end is in the pipe before the new worker has read its first one."""
    with made(tmp_path, 1) as server:
        server.start()
        assert server.process is not None
        for worker in psutil.Process(server.process.pid).children():
            worker.kill()
        time.sleep(delay_s)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 6


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    with made(tmp_path, 2) as server:
        server.start()
        assert server.process is not None
        workers = psutil.Process(server.process.pid).children()
        assert len(workers) == 3
        server.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive
        server.process.wait(10)
        server.kill()
        server.start()  # nobody holds lock or ports
        send(server, "after")


def in_data(server: PostroadServer) -> socket.socket:
    """A sender that has been told to go ahead."""
    peer = socket.create_connection(("127.0.0.1", server.port("smtp")), timeout=20)
    peer.recv(100)
    peer.sendall(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<ann@x.example>\r\nDATA\r\n")
    while b"354" not in peer.recv(1000):
        pass
    return peer


def test_what_is_being_received_at_sigterm_is_finished(tmp_path: Path) -> None:
    with made(tmp_path, 2) as server:
        server.start()
        assert server.process is not None
        senders = [in_data(server) for _ in range(4)]
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "ServerStopping" in server.log_end())
        for number, peer in enumerate(senders):
            peer.sendall(b"Subject: %d\r\n\r\nlate\r\n.\r\n" % number)
        for peer in senders:
            said = b""
            while octets := peer.recv(1000):
                said += octets
            peer.close()
            assert said.startswith(b"250 2.0.0 ") and b"\r\n421 4.3.2" in said, said
        assert server.process.wait(20) == 0
        server.stop()
        server.start()
        client = pop3(server)
        assert client.stat()[0] == len(senders)
        client.quit()


def test_a_second_sigterm_stops_at_once(tmp_path: Path) -> None:
    with made(tmp_path, 0) as server:
        server.start()
        assert server.process is not None
        with in_data(server) as peer:
            peer.sendall(b"Subject: half\r\n")  # a session that is busy, and does not end
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
            server.process.wait(10)
            assert time.monotonic() - began < 4


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with made(tmp_path, 0) as server:
        with socket.create_server(("127.0.0.1", server.port("imap"))):
            with pytest.raises(ServerFailed) as caught:
                server.start()
        assert f"imap: port {server.port('imap')} on 127.0.0.1 is in use" in str(caught.value)
        server.start()
        twin = subprocess.run(
            [sys.executable, "-m", "postroad", "serve", "-c", str(server.config)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert twin.returncode == 5 and "is in use" in twin.stderr
        assert twin.stdout == ""


def test_ready_is_one_line_and_systemd_is_told(tmp_path: Path) -> None:
    with made(tmp_path, 1) as server:
        place = str(tmp_path / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(place)
            told.settimeout(20)
            process = subprocess.Popen(
                [sys.executable, "-m", "postroad", "serve", "-c", str(server.config)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "NOTIFY_SOCKET": place},
            )
            try:
                assert told.recv(1000).startswith(b"READY=1\n")
                process.send_signal(signal.SIGHUP)
                assert told.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
                assert told.recv(1000) == b"READY=1"
                process.send_signal(signal.SIGTERM)
                assert told.recv(1000) == b"STOPPING=1"
                out, _ = process.communicate(timeout=20)
            finally:
                process.kill()
                process.wait(10)
        assert process.returncode == 0
        assert out.count(b"\n") == 1 and out.startswith(
            b"postroad ready: mx.x.example on 127.0.0.1"
        )


DROP = """
import os, sys
from pathlib import Path
from postroad.app.config import load
from postroad.app.sockets import CannotStart, drop_privileges
try:
    drop_privileges(load(Path(sys.argv[1])))
except CannotStart as error:
    print(error)
else:
    print(os.getresuid(), os.getresgid(), os.getgroups())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give privileges up")
def test_root_becomes_another_user_or_does_not_start(tmp_path: Path) -> None:
    with made(tmp_path, 0) as server:

        def drop(user: str) -> str:
            server.configure([("server", "user", f'"{user}"')])
            done = subprocess.run(
                [sys.executable, "-c", DROP, str(server.config)],
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        nobody = pwd.getpwnam("nobody")
        assert "does not belong to nobody: chown -R nobody" in drop("nobody")
        os.chown(server.directory / "data", nobody.pw_uid, nobody.pw_gid)
        users, groups = (nobody.pw_uid,) * 3, (nobody.pw_gid,) * 3
        assert drop("nobody").startswith(f"{users} {groups} [{nobody.pw_gid}")
        assert "[server] user or group" in drop("no-such-user")
        assert drop("root").startswith("(0, 0, 0)")
        server.configure([("server", "user", '""')])
        with pytest.raises(ServerFailed, match=r"started as root, and \[server\] user is not set"):
            server.start()
