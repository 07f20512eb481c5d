"""Scripted peers, met by Python's smtplib."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from postroad.lab.background import Background
from postroad.lab.client import Security, Sent, send
from postroad.lab.peers import Behaviour, PeerServer, TLSBehaviour

MESSAGE = b"Subject: x\r\n\r\nHello\r\n.dot\r\n..two\r\n\r\n"


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture
def peer(background: Background) -> Iterator[PeerServer]:
    with PeerServer(background=background) as made:
        yield made


def deliver(peer: PeerServer, *to: str, **options: object) -> Sent:
    address, port = peer.address
    return send(
        address,
        port,
        MESSAGE,
        reverse_path="alice@one.example",
        forward_paths=to or ("bob@two.example",),
        timeout_s=5,
        **options,  # type: ignore[arg-type]
    )


def test_a_message_is_kept_octet_by_octet_with_its_envelope(peer: PeerServer) -> None:
    sent = deliver(peer, "bob@two.example", "eve@two.example", mail_options=["SIZE=50"])
    assert sent.accepted and not sent.refused
    (got,) = peer.wait_for(1, 1)
    assert got.octets == MESSAGE
    assert got.reverse_path == b"alice@one.example"
    assert got.forward_paths == (b"bob@two.example", b"eve@two.example")
    assert got.parameters[0] == b"SIZE=50"
    assert got.helo == b"client.example" and got.tls is None and got.accepted
    assert peer.commands()[-1].upper() == b"QUIT"


@pytest.mark.parametrize(
    "octets", [b"", b".\r\n", b"\r\n.\r\n", b"..\r\n.x\r\n", b"a\r\n\n.\n\r\n"]
)
def test_odd_messages_arrive_as_they_are(peer: PeerServer, octets: bytes) -> None:
    with smtplib.SMTP(*peer.address, timeout=5) as client:
        client.ehlo()
        client.mail("a@one.example")
        client.rcpt("b@two.example")
        client.docmd("DATA")
        stuffed = b"".join(
            b"." + line if line.startswith(b".") else line
            for line in octets.replace(b"\r\n", b"\r\n\0").split(b"\0")
        )
        client.send(stuffed + b".\r\n")
        assert client.getreply()[0] == 250
    assert peer.received[-1].octets == octets


def test_starttls_and_null_reverse_path(peer: PeerServer) -> None:
    address, port = peer.address
    sent = send(
        address,
        port,
        b"x\r\n",
        reverse_path="",
        forward_paths=["bob@two.example"],
        security=Security.STARTTLS,
    )
    assert sent.accepted
    (got,) = peer.accepted
    assert got.tls is not None and got.tls.version == "TLSv1.3" and got.reverse_path == b""


def test_replies_at_any_stage(peer: PeerServer) -> None:
    for stage, code in (("MAIL", 451), ("RCPT", 550), ("DATA", 451), ("DOT", 554)):
        peer.behave(Behaviour(replies={stage: f"{code} {code // 100}.0.0 as told"}))
        sent = deliver(peer)
        assert not sent.accepted
        assert sent.reply.code == code and str(sent.reply.status) == f"{code // 100}.0.0", stage
    assert [message.accepted for message in peer.received] == [False]
    peer.behave(Behaviour(replies={"CONNECT": "554 5.7.1 go away"}))
    with pytest.raises(smtplib.SMTPConnectError):
        deliver(peer)
    peer.behave(Behaviour(replies={"EHLO": "502 5.5.1 no", "HELO": "250 hello"}))
    assert deliver(peer).accepted
    peer.behave(Behaviour(replies={"RCPT eve@two.example": "550 5.1.1 no such user"}))
    sent = deliver(peer, "bob@two.example", "eve@two.example")
    assert sent.accepted and set(sent.refused) == {"eve@two.example"}


def test_a_sequence_of_replies_and_greylisting(peer: PeerServer) -> None:
    peer.behave(Behaviour(replies={"MAIL": ["421 4.3.2 a", "451 4.3.2 b", None]}))
    assert [deliver(peer).reply.code for _ in range(4)] == [421, 451, 250, 250]
    peer.behave(Behaviour(greylist=True))
    assert [deliver(peer, "new@two.example").reply.code for _ in range(3)] == [451, 250, 250]


def test_multi_line_replies(peer: PeerServer) -> None:
    peer.behave(Behaviour(replies={"RCPT": "550 5.1.1 one\n550 5.1.1 two"}))
    assert deliver(peer).reply.lines == ("one", "two")


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
def test_connections_are_cut_where_told(peer: PeerServer, stage: str) -> None:
    peer.behave(Behaviour(drop_at={stage, "HELO"}))
    with pytest.raises((smtplib.SMTPException, OSError)):
        deliver(peer)
    assert len(peer.received) == (1 if stage == "DOT" else 0)
    assert not peer.accepted


def test_a_cut_in_the_middle_of_data(peer: PeerServer) -> None:
    peer.behave(Behaviour(drop_after_octets=10))
    with pytest.raises((smtplib.SMTPException, OSError)):
        deliver(peer)
    assert not peer.received


def test_slow_silent_and_trickling_peers(peer: PeerServer) -> None:
    peer.behave(Behaviour(delay_s={"MAIL": 0.2}, trickle=True))
    began = time.monotonic()
    assert deliver(peer).accepted
    assert time.monotonic() - began >= 0.2
    peer.behave(Behaviour(silent_at={"RCPT"}))
    with pytest.raises((smtplib.SMTPException, OSError)), smtplib.SMTP(*peer.address) as client:
        client.ehlo()
        client.mail("a@one.example")
        assert client.sock is not None
        client.sock.settimeout(0.1)
        client.rcpt("b@two.example")


def _starttls(peer: PeerServer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP(*peer.address, timeout=5) as client:
        assert client.sock is not None
        client.ehlo()
        client.sock.settimeout(0.3)
        client.starttls(context=context)
        client.sock.settimeout(5)
        client.ehlo()


@pytest.mark.parametrize(
    "kind", [TLSBehaviour.GARBAGE, TLSBehaviour.CLOSES, TLSBehaviour.SILENT], ids=lambda k: k.name
)
def test_broken_tls(peer: PeerServer, kind: TLSBehaviour) -> None:
    peer.behave(Behaviour(tls=kind))
    with pytest.raises((OSError, smtplib.SMTPException)):
        _starttls(peer)


def test_tls_that_works_or_is_not_there(peer: PeerServer) -> None:
    _starttls(peer)
    peer.behave(Behaviour(tls=TLSBehaviour.NONE))
    with pytest.raises(smtplib.SMTPNotSupportedError):
        _starttls(peer)


def test_a_reply_stuffed_in_before_tls(peer: PeerServer) -> None:
    peer.behave(Behaviour(tls=TLSBehaviour.STUFFED))
    with socket.create_connection(peer.address, timeout=5) as sock:
        sock.recv(1000)
        sock.sendall(b"EHLO x\r\n")
        heard = b""
        while b"250 STARTTLS" not in heard:
            heard += sock.recv(1000)
        sock.sendall(b"STARTTLS\r\n")
        heard = b""
        while heard.count(b"\r\n") < 2:
            heard += sock.recv(1000)
        assert heard.startswith(b"220 ") and b"\r\n250 2.1.0 stuffed" in heard


def test_pipelined_commands_are_answered_in_order(peer: PeerServer) -> None:
    with socket.create_connection(peer.address, timeout=5) as sock:
        sock.sendall(
            b"EHLO x\r\nMAIL FROM:<a@b.example> SIZE=1\r\nRCPT TO:<c@d.example>\r\n"
            b"DATA\r\nhi\r\n.\r\nQUIT\r\n"
        )
        heard = b""
        while octets := sock.recv(4096):
            heard += octets
    codes = [line[:3] for line in heard.split(b"\r\n") if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
    assert peer.received[-1].octets == b"hi\r\n"


def test_waiting_for_mail_tells_what_happened(peer: PeerServer) -> None:
    with pytest.raises(TimeoutError, match="0 of 1"):
        peer.wait_for(1, 0.05)
    thread = threading.Timer(0.05, deliver, [peer])
    thread.start()
    assert len(peer.wait_for(1, 5, of=lambda message: message.octets == MESSAGE)) == 1
    thread.join()
