from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence

import pytest

from postroad.delivery.content import SLICE_OCTETS, Content
from postroad.delivery.outcome import Deferred, Delivered, Failed, Outcome
from postroad.delivery.remote import Courier, Parcel, Road
from postroad.dns.zone import Zone
from postroad.mail.address import Address, parse_address
from postroad.mail.envelope import Recipient
from postroad.net.contract import Stream
from postroad.trace import Event
from support.peer import DROP, GARBAGE, RESET, Peer, PeerDialer

ZONE = """
two.example   MX 10 mx1.two.example
two.example   MX 20 mx2.two.example
mx1.two.example A 192.0.2.1
mx2.two.example A 192.0.2.2
naked.example MX 10 void.example
"""
FIRST, SECOND = "192.0.2.1", "192.0.2.2"
MESSAGE = b"Subject: x\r\n\r\n.dot first\r\n..two\r\n.\r\nend\r\n"
ALL = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 1000000")


class Trip:
    """A courier among peers, and what it told on the way."""

    def __init__(
        self,
        peers: dict[str, Peer],
        domain: str = "two.example",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dialer = PeerDialer(peers)
        self.events: list[Event] = []
        road = Road(
            hostname="mx.one.example",
            resolver=Zone(ZONE),
            dialer=self.dialer,
            jitter=lambda: 0.5,
            monotonic=monotonic,
            tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )
        self.courier = Courier(road, domain)

    async def carry(
        self,
        *paths: str | Recipient,
        message: bytes = MESSAGE,
        head: bytes = b"",
        sender: str = "ann@one.example",
        smtputf8: bool = False,
    ) -> list[Outcome]:
        recipients = [
            path if isinstance(path, Recipient) else Recipient(path=parse_address(path))
            for path in paths or ("bob@two.example",)
        ]
        parcel = Parcel(
            message="m1",
            reverse_path=parse_address(sender) if sender else None,
            recipients=dict(enumerate(recipients)),
            content=Content(head, message),
            smtputf8=smtputf8,
            ret="HDRS",
            envid="abc",
        )
        outcomes = await self.courier.deliver(parcel, self.events.append)
        assert sorted(outcomes) == list(range(len(recipients)))
        return [outcomes[number] for number in sorted(outcomes)]

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if type(event).__name__ == name]


def deliver(
    peers: dict[str, Peer], *paths: str | Recipient, domain: str = "two.example", **more: object
) -> tuple[list[Outcome], Trip]:
    async def main() -> tuple[list[Outcome], Trip]:
        trip = Trip(peers, domain)
        outcomes = await trip.carry(*paths, **more)  # type: ignore[arg-type]
        await trip.courier.close()
        return outcomes, trip

    return asyncio.run(main())


def kinds(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"{type(o).__name__} {o.reply.code} {o.reply.status}" for o in outcomes]


# -- Accepting peers ----------------------------------------------------------------------------
@pytest.mark.parametrize("extensions", [ALL, ("8BITMIME",), ()])
def test_accept(extensions: tuple[str, ...]) -> None:
    peer = Peer(extensions=extensions)
    outcomes, trip = deliver(
        {FIRST: peer}, "bob@two.example", "carol@two.example", head=b"A: b\r\n"
    )
    assert kinds(outcomes) == ["Delivered 250 2.0.0"] * 2
    (taken,) = peer.taken
    assert taken.octets == b"A: b\r\n" + MESSAGE
    assert len(taken.rcpts) == 2
    assert trip.dialer.dialled == [FIRST]
    assert peer.commands[-1] == "QUIT"
    assert not taken.tls


def test_a_peer_that_knows_only_helo() -> None:
    peer = Peer({"EHLO": "500 what?"})
    outcomes, _ = deliver({FIRST: peer})
    assert kinds(outcomes) == ["Delivered 250 2.0.0"]
    assert peer.taken[0].mail == "MAIL FROM:<ann@one.example>"


def test_tls_when_offered() -> None:
    peer = Peer(tls="ok")
    (outcome,), trip = deliver({FIRST: peer})
    assert isinstance(outcome, Delivered)
    assert outcome.peer.tls == "TLSv1.3" and peer.taken[0].tls
    assert [line.split()[0] for line in peer.commands[:3]] == ["EHLO", "STARTTLS", "EHLO"]
    (used,) = trip.named("SessionUsed")
    assert used.tls == "TLSv1.3"  # type: ignore[attr-defined]


@pytest.mark.parametrize("tls", ["broken", "injected"])
def test_broken_tls_falls_back_to_plaintext_on_a_new_connection(tls: str) -> None:
    peer = Peer(tls=tls)
    (outcome,), trip = deliver({FIRST: peer})
    assert isinstance(outcome, Delivered) and outcome.peer.tls == ""
    assert peer.connections == 2 and not peer.taken[0].tls
    assert len(trip.named("TLSFellBack")) == 1


def test_starttls_taken_back_goes_on_in_plaintext() -> None:
    peer = Peer({"STARTTLS": "454 4.7.0 not now"}, tls="ok")
    (outcome,), _ = deliver({FIRST: peer})
    assert isinstance(outcome, Delivered) and peer.connections == 1


def test_a_big_message_goes_in_slices() -> None:
    line = b"x" * 76 + b"\r\n"
    message = b"Subject: big\r\n\r\n" + line * (3 * SLICE_OCTETS // len(line)) + b".end"
    peer = Peer()
    outcomes, _ = deliver({FIRST: peer}, message=message)
    assert kinds(outcomes) == ["Delivered 250 2.0.0"]
    assert peer.taken[0].octets == message + b"\r\n"


def test_one_connection_for_many_messages_with_rset_between() -> None:
    async def main() -> None:
        peer = Peer({"RCPT": ["550 5.1.1 no", "250 ok"]})
        trip = Trip({FIRST: peer})
        for _ in range(3):
            await trip.carry()
        assert peer.connections == 1 and len(peer.taken) == 2
        assert [line.split()[0] for line in peer.commands].count("RSET") == 2
        assert trip.courier.messages == 3
        await trip.courier.close()

    asyncio.run(main())


def test_a_kept_connection_that_died_is_replaced_without_notice() -> None:
    async def main() -> None:
        for end in (DROP, "421 4.4.2 idle"):
            peer = Peer({"RSET": [end]})
            trip = Trip({FIRST: peer})
            await trip.carry()
            assert kinds(await trip.carry()) == ["Delivered 250 2.0.0"]
            assert peer.connections == 2 and len(peer.taken) == 2
            await trip.courier.close()

    asyncio.run(main())


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
def test_a_peer_that_has_had_enough_of_a_connection_gets_a_new_one(verb: str) -> None:
    async def main() -> None:
        peer = Peer({verb: ["250 ok" if verb != "DATA" else "354 go", "421 4.7.0 enough"]})
        trip = Trip({FIRST: peer})
        await trip.carry()
        assert kinds(await trip.carry()) == ["Delivered 250 2.0.0"]
        assert peer.connections == 2 and len(peer.taken) == 2
        await trip.courier.close()

    asyncio.run(main())


# -- Recipients, one by one ---------------------------------------------------------------------
def test_replies_are_each_recipients_own() -> None:
    peer = Peer({"RCPT grey@": "450 4.2.0 later", "RCPT no@": "550 5.1.1 no"})
    outcomes, trip = deliver({FIRST: peer}, "bob@two.example", "grey@two.example", "no@two.example")
    assert kinds(outcomes) == ["Delivered 250 2.0.0", "Deferred 450 4.2.0", "Failed 550 5.1.1"]
    assert trip.dialer.dialled == [FIRST]  # no other host is asked about a recipient


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [("451 4.3.0 hm", "Deferred 451 4.3.0"), ("554 5.7.1 no", "Failed 554 5.7.1")],
)
@pytest.mark.parametrize("extensions", [ALL, ()])
def test_every_command_refused(
    verb: str, reply: str, kind: str, extensions: tuple[str, ...]
) -> None:
    peer = Peer({verb: reply}, extensions=extensions)
    outcomes, trip = deliver({FIRST: peer, SECOND: Peer()})
    assert kinds(outcomes) == [kind]
    assert trip.dialer.dialled == [FIRST]
    assert isinstance(outcomes[0], Deferred | Failed) and outcomes[0].peer is not None


def test_everybody_refused_and_354_all_the_same() -> None:
    peer = Peer({"RCPT": "550 5.1.1 no", "DATA": "354 go", ".": "554 5.5.1 nobody"})
    outcomes, _ = deliver({FIRST: peer})
    assert kinds(outcomes) == ["Failed 550 5.1.1"]
    assert peer.taken == [] and peer.commands[-1] == "QUIT"


@pytest.mark.parametrize("reply", ["452 4.5.3 too many", "552 5.5.3 too many", "452 too many"])
def test_too_many_recipients_go_in_further_transactions(reply: str) -> None:
    """Source: RFC 5321 §4.5.3.1.10."""
    peer = Peer({"RCPT": ["250 ok", "250 ok", reply, reply, reply, "250 ok"]})
    outcomes, _ = deliver({FIRST: peer}, *(f"u{n}@two.example" for n in range(5)))
    assert kinds(outcomes) == ["Delivered 250 2.0.0"] * 5
    assert [len(taken.rcpts) for taken in peer.taken] == [2, 3]
    assert peer.connections == 1


def test_too_many_for_one_is_no_endless_loop() -> None:
    outcomes, _ = deliver({FIRST: Peer({"RCPT": "552 5.5.3 too many"})}, "a@two.example")
    assert kinds(outcomes) == ["Deferred 552 5.5.3"]


def test_a_full_mailbox_is_not_too_many() -> None:
    peer = Peer({"RCPT full@": "552 5.2.2 mailbox full"})
    outcomes, _ = deliver({FIRST: peer}, "a@two.example", "full@two.example")
    assert kinds(outcomes) == ["Delivered 250 2.0.0", "Failed 552 5.2.2"]


def test_hundreds_of_recipients() -> None:
    peer = Peer()
    outcomes, _ = deliver({FIRST: peer}, *(f"user{n}@two.example" for n in range(250)))
    assert kinds(outcomes) == ["Delivered 250 2.0.0"] * 250
    assert [len(taken.rcpts) for taken in peer.taken] == [100, 100, 50]


# -- Connections that break ---------------------------------------------------------------------
BROKEN = [DROP, RESET, GARBAGE, "355 what?"]


@pytest.mark.parametrize("end", BROKEN)
@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("extensions", [ALL, ()])
def test_broken_before_the_dot_tries_the_next_host(
    end: str, verb: str, extensions: tuple[str, ...]
) -> None:
    peers = {FIRST: Peer({verb: end}, extensions=extensions), SECOND: Peer()}
    outcomes, trip = deliver(peers)
    assert kinds(outcomes) == ["Delivered 250 2.0.0"]
    assert trip.dialer.dialled == [FIRST, SECOND]
    assert len(trip.named("HostPassedOver")) == 1


@pytest.mark.parametrize("end", BROKEN)
def test_broken_behind_the_dot_defers_and_asks_nobody_else(end: str) -> None:
    """The peer may have taken it: whoever else is asked makes a duplicate."""
    peers = {FIRST: Peer({".": end}), SECOND: Peer()}
    outcomes, trip = deliver(peers)
    assert [type(outcome) for outcome in outcomes] == [Deferred]
    assert trip.dialer.dialled == [FIRST]
    assert peers[SECOND].taken == []


def test_refused_in_the_middle_of_the_message() -> None:
    line = b"x" * 76 + b"\r\n"
    peers = {FIRST: Peer({"BLOCK": "552 5.3.4 enough"}), SECOND: Peer()}
    outcomes, trip = deliver(peers, message=b"A: b\r\n\r\n" + line * 20_000)
    assert kinds(outcomes) == ["Failed 552 5.3.4"]
    assert trip.dialer.dialled == [FIRST]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
def test_421_is_a_deferral_for_whoever_is_undecided(verb: str) -> None:
    outcomes, trip = deliver({FIRST: Peer({verb: "421 4.3.2 shutting down"})})
    assert kinds(outcomes) == ["Deferred 421 4.3.2"]
    assert not trip.courier.is_connected


def test_a_peer_that_dribbles_is_cut_off_with_the_reply() -> None:
    """The deadline is for the reply, not for an octet of it."""

    async def main() -> None:
        moment = [0.0]

        class Dribbler(Peer):
            async def serve(self, stream: Stream) -> None:
                for octet in b"220 " + b"x" * 500:
                    await stream.write(bytes([octet]))
                    moment[0] += 10.0
                    await asyncio.sleep(0)
                raise AssertionError("nobody hung up")

        trip = Trip({FIRST: Dribbler(), SECOND: Peer()}, monotonic=lambda: moment[0])
        assert kinds(await trip.carry()) == ["Delivered 250 2.0.0"]
        assert 300 <= moment[0] < 400
        (passed,) = trip.named("HostPassedOver")
        assert "timed out" in str(passed.reply)  # type: ignore[attr-defined]
        await trip.courier.close()

    asyncio.run(main())


def test_a_peer_that_is_slow_for_every_recipient_is_cut_off_in_the_end() -> None:
    async def main() -> None:
        moment = [0.0]

        class Sluggard(Peer):
            def reply_to(self, verb: str, line: str) -> str:
                moment[0] += 250.0 if verb == "RCPT" else 0.0
                return super().reply_to(verb, line)

        peer = Sluggard(extensions=())
        trip = Trip({FIRST: peer}, monotonic=lambda: moment[0])
        outcomes = await trip.carry(*(f"u{n}@two.example" for n in range(50)))
        assert set(kinds(outcomes)) == {"Deferred 451 4.4.2"}
        assert moment[0] < 2500
        await trip.courier.close()

    asyncio.run(main())


# -- Hosts --------------------------------------------------------------------------------------
@pytest.mark.parametrize("greeting", ["421 4.7.0 busy", "450 later", "554 5.7.1 not you"])
@pytest.mark.parametrize("verb", ["GREETING", "EHLO"])
def test_a_host_that_refuses_us_makes_room_for_the_next(verb: str, greeting: str) -> None:
    script = {verb: greeting, "HELO": greeting}
    outcomes, trip = deliver({FIRST: Peer(script), SECOND: Peer()})
    assert kinds(outcomes) == ["Delivered 250 2.0.0"]
    assert trip.dialer.dialled == [FIRST, SECOND]


def test_all_hosts_refuse_us_is_no_failure_of_the_mail() -> None:
    peers = {FIRST: Peer({"GREETING": "554 5.7.1 not you"}), SECOND: Peer({"GREETING": "421 x"})}
    (outcome,), trip = deliver(peers)
    assert isinstance(outcome, Deferred)
    assert trip.courier.last_failure == outcome.reply
    (outcome,), trip = deliver({address: Peer({"GREETING": "554 no"}) for address in peers})
    assert isinstance(outcome, Deferred) and "554 no" in outcome.reply.text


def test_hosts_that_never_take_mail_fail_it() -> None:
    """Source: RFC 7504 §3."""
    dummy = {"GREETING": "521 mx.two.example does not accept mail"}
    (outcome,), trip = deliver({FIRST: Peer(dummy), SECOND: Peer(dummy)})
    assert isinstance(outcome, Failed) and outcome.reply.code == 521
    assert trip.courier.last_failure is None
    (outcome,), _ = deliver({FIRST: Peer(dummy)})  # the second one cannot be reached now
    assert isinstance(outcome, Deferred)


def test_nobody_answers() -> None:
    (outcome,), trip = deliver({})
    assert isinstance(outcome, Deferred) and str(outcome.reply.status) == "4.4.1"
    assert trip.dialer.dialled == [FIRST, SECOND]
    assert trip.courier.last_failure is not None


def test_exchangers_without_addresses_defer() -> None:
    (outcome,), _ = deliver({}, domain="naked.example")
    assert isinstance(outcome, Deferred) and str(outcome.reply.status) == "4.4.4"


def test_a_domain_that_does_not_exist() -> None:
    (outcome,), trip = deliver({}, domain="nowhere.example")
    assert kinds([outcome]) == ["Failed 550 5.1.2"]
    assert trip.courier.last_failure is None


def test_an_address_literal_is_dialled() -> None:
    peer = Peer()
    (outcome,), trip = deliver({"2001:db8::1": peer}, domain="[ipv6:2001:db8::1]")
    assert isinstance(outcome, Delivered)
    assert trip.dialer.dialled == ["2001:db8::1"]


# -- What the message needs ---------------------------------------------------------------------
def test_dsn_wishes_go_along() -> None:
    peer = Peer(extensions=ALL)
    wish = Recipient(
        path=Address("bob", "two.example"), notify=frozenset({"NEVER"}), orcpt="rfc822;b@x"
    )
    (outcome,), _ = deliver({FIRST: peer}, wish)
    assert isinstance(outcome, Delivered) and outcome.peer.dsn
    assert peer.taken[0].mail.endswith("RET=HDRS ENVID=abc")
    assert peer.taken[0].rcpts[0].endswith("NOTIFY=NEVER ORCPT=rfc822;b@x")


EIGHT = "Subject: x\r\n\r\nGrüße\r\n".encode()
UTF8 = "Subject: Grüße\r\n\r\nx\r\n".encode()


@pytest.mark.parametrize(
    ("message", "smtputf8", "extensions", "expected"),
    [
        (EIGHT, False, ("8BITMIME",), "Delivered 250 2.0.0"),
        (EIGHT, False, (), "Failed 554 5.6.3"),
        (EIGHT, True, ("8BITMIME",), "Delivered 250 2.0.0"),  # only asked for, not needed
        (UTF8, True, ("8BITMIME",), "Failed 553 5.6.7"),
        (UTF8, True, ALL, "Delivered 250 2.0.0"),
        (UTF8, False, ("8BITMIME",), "Delivered 250 2.0.0"),  # raw 8-bit, never declared
        (MESSAGE, True, (), "Delivered 250 2.0.0"),
        (MESSAGE, False, ("SIZE 10",), "Failed 552 5.3.4"),
        (MESSAGE, False, ("SIZE 0",), "Delivered 250 2.0.0"),
    ],
)
def test_needs(message: bytes, smtputf8: bool, extensions: tuple[str, ...], expected: str) -> None:
    peer = Peer(extensions=extensions)
    outcomes, _ = deliver({FIRST: peer}, message=message, smtputf8=smtputf8)
    assert kinds(outcomes) == [expected]
    if peer.taken:
        mail = peer.taken[0].mail
        assert ("SMTPUTF8" in mail) == (smtputf8 and message is UTF8)
        assert ("BODY=8BITMIME" in mail) == (not message.isascii())


def test_one_recipient_needs_smtputf8_and_the_other_does_not() -> None:
    outcomes, _ = deliver(
        {FIRST: Peer()}, "jürgen@two.example", "bob@two.example", "ann@bücher.example"
    )
    assert kinds(outcomes) == ["Failed 553 5.6.7", "Delivered 250 2.0.0", "Delivered 250 2.0.0"]


def test_a_sender_that_needs_smtputf8() -> None:
    assert kinds(deliver({FIRST: Peer()}, sender="jürgen@one.example")[0]) == ["Failed 553 5.6.7"]
    peer = Peer(extensions=ALL)
    assert kinds(deliver({FIRST: peer}, sender="jürgen@one.example")[0]) == ["Delivered 250 2.0.0"]
    assert peer.taken[0].mail.startswith("MAIL FROM:<jürgen@one.example>")


@pytest.mark.parametrize(
    "octets", [b"a\n.\nb\r\n", b"a\rb\r\n", b"a\r\n.\n\r\n", b"a\0\r\n", b"\r"]
)
@pytest.mark.parametrize("head", [b"", b"A: b\r\n"])
def test_what_smtp_cannot_carry_fails_and_nobody_is_dialled(octets: bytes, head: bytes) -> None:
    outcomes, trip = deliver({FIRST: Peer()}, message=octets, head=head)
    assert kinds(outcomes) == ["Failed 554 5.6.0"]
    assert trip.dialer.dialled == []


def test_facts_of_content() -> None:
    assert Content(b"", b"").size == 0
    plain = Content(b"A: b\r\n", b"C: d\r\n\r\nx\r\n")
    assert not plain.eight_bit and not plain.utf8_header and plain.fault is None
    body = Content(b"A: b\r\n", EIGHT)
    assert body.eight_bit and not body.utf8_header
    assert Content(b"", UTF8).utf8_header and Content("Ä: b\r\n".encode(), MESSAGE).utf8_header
    assert Content(b"A: b\r", b"\nC: d\r\n").fault is None
    assert Content(b"", b"x" * (SLICE_OCTETS - 1) + b"\r\n").fault is None
