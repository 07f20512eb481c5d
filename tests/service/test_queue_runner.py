from __future__ import annotations

import asyncio
import email
import email.message
import email.policy
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from postroad.mail.errors import Unavailable
from postroad.queue.contract import QueuedMessage
from postroad.queue.operations import (
    BeginAttempt,
    RemoveQueued,
    Reschedule,
)
from postroad.service.queue_runner import MESSAGES_PER_CONNECTION_MAX, OctetBudget
from postroad.trace import record
from support.peer import DROP, SILENCE, Peer
from support.queue_world import MESSAGE, World


def live(
    directory: Path,
    peers: dict[str, Peer],
    story: Callable[[World], Awaitable[None]],
    before: Callable[[World], Awaitable[None]] | None = None,
    **bounds: Any,
) -> World:
    """Runs the runner beside the story, and drains it."""

    async def main() -> World:
        world = World(directory, peers, **bounds)
        if before is not None:
            await before(world)
        running = asyncio.create_task(world.runner.run())
        try:
            await story(world)
        finally:
            await world.runner.drain(5)
            await running
            await world.database.close()
        return world

    return asyncio.run(main())


def test_a_message_is_delivered_byte_for_byte(tmp_path: Path) -> None:
    peer = Peer()

    async def story(world: World) -> None:
        await world.enqueue("bob@two.example", "carol@two.example")
        await world.empty()
        names = [item["event"] for item in world.history("m0001")]
        assert names == [
            "AttemptBegan", "RouteFound", "SessionUsed", "RecipientDelivered", "RecipientDelivered",
        ]  # fmt: skip
        assert world.history("m0001")[-1]["reply"] == "250 2.0.0 taken"

    live(tmp_path, {"192.0.2.2": peer}, story)
    (taken,) = peer.taken
    assert taken.octets == b"Received: here\r\n" + MESSAGE
    assert len(taken.rcpts) == 2
    assert peer.commands[-1] == "QUIT"


def test_many_messages_share_connections(tmp_path: Path) -> None:
    peer = Peer()

    async def story(world: World) -> None:
        await asyncio.gather(*(world.enqueue("bob@two.example") for _ in range(300)))
        await world.empty()

    live(tmp_path, {"192.0.2.2": peer}, story)
    assert len(peer.taken) == 300
    assert peer.connections <= 12


def report_of(octets: bytes) -> tuple[email.message.EmailMessage, str]:
    """The report and its machine-readable part as text."""
    report = email.message_from_bytes(octets, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report"
    (status,) = [
        part for part in report.walk() if part.get_content_type() == "message/delivery-status"
    ]
    return report, status.as_string()


def test_greylisting_ends_in_delivery(tmp_path: Path) -> None:
    peer = Peer({"RCPT": ["450 4.2.0 come back later"]})

    async def story(world: World) -> None:
        await world.enqueue("bob@two.example")
        await world.settled()
        row = world.queue.message("m0001")
        assert row is not None
        (recipient,) = row.recipients
        assert recipient.next_attempt == world.clock.now().timestamp() + 60
        assert recipient.last_reply == "450 4.2.0 come back later"
        assert recipient.last_remote == "mx.two.example [192.0.2.2]"
        assert not recipient.attempting
        await asyncio.sleep(0.05)
        assert len(peer.taken) == 0
        world.clock.advance(61)
        await world.empty()

    live(tmp_path, {"192.0.2.2": peer}, story)
    assert len(peer.taken) == 1


def test_failure_is_reported_into_the_senders_inbox_in_the_same_unit(tmp_path: Path) -> None:
    peer = Peer({"RCPT nobody@": "550 5.1.1 no such user", "RCPT gone@": "551 moved away"})

    async def story(world: World) -> None:
        await world.enqueue(
            "nobody@two.example", "bob@two.example", "gone@two.example", envid="a+2Bb"
        )
        await world.empty()
        (octets,) = world.inbox()
        assert octets.startswith(b"Return-Path: <>\r\n")
        report, status = report_of(octets)
        assert report["To"] == "<alice@one.example>" or "alice@one.example" in report["To"]
        assert "Original-Envelope-Id: a+b" in status
        assert status.count("Action: failed") == 2
        assert "Final-Recipient: rfc822; nobody@two.example" in status
        assert "Status: 5.1.1" in status
        assert "Diagnostic-Code: smtp; 550 5.1.1 no such user" in status
        assert "Status: 5.0.0" in status
        assert "Remote-MTA: dns; mx.two.example" in status
        assert "bob@two.example" not in status
        assert b"Hello Bob." in octets  # small: the message comes back whole
        names = [item["event"] for item in world.history("m0001")]
        assert names.count("FailedForGood") == 2
        (sent,) = world.named("DSNSent")
        made = world.history(str(record(sent)["report"]))
        assert [item["event"] for item in made][:1] == ["DSNMade"]

    live(tmp_path, {"192.0.2.2": peer}, story, before=World.add_alice)
    assert len(peer.taken) == 1


@pytest.mark.parametrize(
    ("more", "reports"),
    [
        ({"reverse_path": ""}, 0),
        ({"notify": ("NEVER",)}, 0),
        ({"notify": ("SUCCESS",)}, 0),
        ({"notify": ("FAILURE", "DELAY")}, 1),
        ({}, 1),
    ],
)
def test_who_is_told_of_a_failure(tmp_path: Path, more: dict[str, Any], reports: int) -> None:
    async def story(world: World) -> None:
        await world.enqueue("bob@null.example", **more)
        await world.empty()
        assert len(world.inbox()) == reports
        assert len(world.named("FailedForGood")) == 1

    live(tmp_path, {}, story, before=World.add_alice)


def test_success_is_reported_where_the_peer_will_not(tmp_path: Path) -> None:
    peers = {"192.0.2.2": Peer(), "192.0.2.3": Peer(extensions=("DSN", "PIPELINING"))}
    zone = "dsn.example A 192.0.2.3"

    async def story(world: World) -> None:
        world.site.resolver.load(zone)  # type: ignore[attr-defined]  # it is a Zone
        await world.enqueue(
            "bob@two.example", "ann@dsn.example", notify=("SUCCESS",), orcpt="rfc822;b@x"
        )
        await world.empty()
        (octets,) = world.inbox()
        _, status = report_of(octets)
        assert "Action: relayed" in status
        assert "Status: 2.0.0" in status
        assert "Original-Recipient: rfc822; b@x" in status
        assert "ann@dsn.example" not in status
        assert b"Hello Bob." not in octets

    live(tmp_path, peers, story, before=World.add_alice)
    (taken,) = peers["192.0.2.3"].taken
    assert taken.rcpts == ["RCPT TO:<ann@dsn.example> NOTIFY=SUCCESS ORCPT=rfc822;b@x"]


def test_a_report_to_a_remote_sender_goes_by_the_queue(tmp_path: Path) -> None:
    peer = Peer({"RCPT nobody@": "550 5.1.1 no such user"})

    async def story(world: World) -> None:
        await world.enqueue("nobody@two.example", reverse_path="eve@two.example")
        await world.until(lambda: len(peer.taken) == 1)
        await world.empty()

    live(tmp_path, {"192.0.2.2": peer}, story)
    assert peer.taken[0].mail.startswith("MAIL FROM:<> ")
    assert peer.taken[0].rcpts == ["RCPT TO:<eve@two.example>"]
    report_of(peer.taken[0].octets)


def test_a_report_that_cannot_be_delivered_is_not_reported(tmp_path: Path) -> None:
    peer = Peer({"RCPT": "550 5.1.1 no such user"})

    async def story(world: World) -> None:
        await world.enqueue("nobody@two.example", reverse_path="eve@two.example")
        await world.until(lambda: len(world.named("FailedForGood")) == 2)
        await world.empty()
        assert len(world.named("DSNSent")) == 1

    live(tmp_path, {"192.0.2.2": peer}, story)


def test_a_sender_who_is_nobody_any_more_keeps_nothing_in_the_queue(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.enqueue("bob@null.example", reverse_path="gone@one.example")
        await world.empty()
        assert len(world.named("DSNImpossible")) == 1

    live(tmp_path, {}, story, before=World.add_alice)


def test_a_peers_words_steer_no_screen(tmp_path: Path) -> None:
    """History, queue and report are read on terminals."""
    rude = "550-5.1.1 no\x1b[2J\x07\n550 5.1.1 \x9b31m\u202e \x08 user"
    later = "451 4.1.1 \x1b]0;mine\x07"
    peer = Peer({"RCPT bob@": rude.replace("\n", "\r\n"), "RCPT carol@": later})

    async def story(world: World) -> None:
        await world.enqueue("bob@two.example", "carol@two.example")
        await world.until(lambda: len(world.inbox()) == 1)
        shown = [str(value) for item in world.history("m0001") for value in item.values()]
        message = world.queue.message("m0001")
        assert message is not None
        shown += [item.last_reply for item in message.recipients]
        shown.append(world.inbox()[0].decode().replace("\r\n", " ").replace("\t", " "))
        assert any("user" in text for text in shown) and any("mine" in text for text in shown)
        assert [text for text in shown if not text.isprintable()] == []

    live(tmp_path, {"192.0.2.2": peer}, story, before=World.add_alice)


def test_the_delay_is_told_once_and_the_end_with_the_last_reply(tmp_path: Path) -> None:
    peer = Peer({"MAIL": "451 4.7.1 not today"})

    async def story(world: World) -> None:
        await world.enqueue("bob@two.example", lifetime=86400)
        for _ in range(26):
            seen = len(world.named("DeferredUntil")) + len(world.named("FailedForGood"))
            if world.named("FailedForGood"):
                break
            await world.until(
                lambda seen=seen: (
                    len(world.named("DeferredUntil")) + len(world.named("FailedForGood")) > seen
                    or world.clock.advance(200) is not None
                )
            )
        await world.empty()
        delayed, failed = world.inbox()
        _, status = report_of(delayed)
        assert "Action: delayed" in status
        assert "Status: 4.7.1" in status
        assert "Will-Retry-Until:" in status
        _, status = report_of(failed)
        assert "Action: failed" in status
        assert "Status: 5.4.7" in status
        assert "Diagnostic-Code: smtp; 451 4.7.1 not today" in status

    live(tmp_path, {"192.0.2.2": peer}, story, before=World.add_alice)


def test_an_attempt_cut_by_a_crash_is_made_again_and_told(tmp_path: Path) -> None:
    """BeginAttempt was durable, then the process died: nothing is lost, the trace says why."""
    peer = Peer()

    async def crash(world: World) -> None:
        await world.enqueue("bob@two.example")
        now = int(world.clock.now().timestamp())
        await world.database.submit(BeginAttempt(message="m0001", recipients=(0,), now=now))

    async def story(world: World) -> None:
        await world.empty()
        names = [item["event"] for item in world.history("m0001")]
        assert names[0] == "AttemptInterrupted"
        assert names[-1] == "RecipientDelivered"

    live(tmp_path, {"192.0.2.2": peer}, story, before=crash)
    assert len(peer.taken) == 1


def test_a_start_picks_up_everything(tmp_path: Path) -> None:
    peer = Peer()

    async def before(world: World) -> None:
        for _ in range(50):
            await world.enqueue("bob@two.example")

    async def story(world: World) -> None:
        await world.empty()

    live(tmp_path, {"192.0.2.2": peer}, story, before=before)
    assert len(peer.taken) == 50


def test_a_dropped_connection_behind_the_dot_defers_and_loses_nothing(tmp_path: Path) -> None:
    peer = Peer({".": [DROP]})

    async def story(world: World) -> None:
        await world.enqueue("bob@two.example")
        await world.settled()
        world.clock.advance(61)
        await world.empty()

    live(tmp_path, {"192.0.2.2": peer}, story)
    assert len(peer.taken) == 2  # it had taken it: a duplicate, as RFC 1047 tells; never a loss


def test_a_dead_destination_is_suspended_and_harms_no_other(tmp_path: Path) -> None:
    peer = Peer()

    async def story(world: World) -> None:
        for _ in range(40):
            await world.enqueue("bob@dead.example")
        await world.enqueue("bob@two.example")
        await world.settled()
        assert len(world.named("DeferredUntil")) == 40
        await world.until(lambda: len(peer.taken) == 1)
        assert world.dialer.dialled.count("192.0.2.66") <= 12
        world.dialer.peers["192.0.2.66"] = revived
        await world.database.submit(
            Reschedule(message="", next_attempt=int(world.clock.now().timestamp()))
        )
        await world.empty()

    revived = Peer()
    live(tmp_path, {"192.0.2.2": peer}, story)
    assert len(revived.taken) == 40


def test_a_peer_that_grants_few_connections_gets_few(tmp_path: Path) -> None:
    peer = Peer()
    busy: list[int] = []
    serve = peer.serve

    async def few(stream: Any) -> None:
        busy.append(1)
        peer._steps["GREETING"] = ["421 4.7.0 too many connections"] if len(busy) > 2 else []
        try:
            await serve(stream)
        finally:
            busy.pop()

    peer.serve = few  # type: ignore[method-assign]

    async def story(world: World) -> None:
        await asyncio.gather(*(world.enqueue("bob@two.example") for _ in range(100)))
        await world.until(lambda: len(peer.taken) == 100)
        await world.empty()
        assert not world.named("DeferredUntil")

    live(tmp_path, {"192.0.2.2": peer}, story)


class Counted(Peer):
    """Peers that know how many connections there are to all of them together."""

    open: list[int] = []
    most: list[int] = []

    async def serve(self, stream: Any) -> None:
        self.open.append(1)
        self.most.append(len(self.open))
        try:
            await super().serve(stream)
        finally:
            self.open.pop()


def test_all_destinations_share_the_connections_there_may_be(tmp_path: Path) -> None:
    Counted.open, Counted.most = [], []
    peers: dict[str, Peer] = {f"192.0.2.{100 + number}": Counted() for number in range(12)}

    async def story(world: World) -> None:
        for address in peers:
            world.site.resolver.load(f"d{address[-2:]}.example A {address}")  # type: ignore[attr-defined]
        for _ in range(4):
            for address in peers:
                await world.enqueue(f"bob@d{address[-2:]}.example")
        await world.empty()

    live(tmp_path, peers, story, connections_max=3, connection_idle_s=30.0)
    assert [len(peer.taken) for peer in peers.values()] == [4] * 12
    assert 1 <= max(Counted.most) <= 3


def test_a_connection_carries_so_many_messages_and_no_more(tmp_path: Path) -> None:
    peer = Peer()

    async def before(world: World) -> None:
        for _ in range(MESSAGES_PER_CONNECTION_MAX * 2 + 10):
            await world.enqueue("bob@two.example")

    async def story(world: World) -> None:
        await world.empty()

    live(tmp_path, {"192.0.2.2": peer}, story, before, connections_per_destination_max=1)
    assert len(peer.taken) == MESSAGES_PER_CONNECTION_MAX * 2 + 10
    assert peer.connections == 3


def test_a_connection_waits_a_little_for_the_next_message(tmp_path: Path) -> None:
    peer = Peer()

    async def story(world: World) -> None:
        for _ in range(3):
            await world.enqueue("bob@two.example")
            await world.empty()
            await asyncio.sleep(0.01)
        assert peer.connections == 1
        await world.until(lambda: peer.commands[-1] == "QUIT")

    live(tmp_path, {"192.0.2.2": peer}, story, connection_idle_s=0.5)


def test_a_fault_in_one_attempt_is_deferred_and_traced(tmp_path: Path) -> None:
    peer = Peer()

    async def story(world: World) -> None:
        real = world.blobs.read

        def read(blob: str) -> bytes:
            if blob == broken.blob:
                raise Unavailable("pack 1: checksum")
            return real(blob)

        await world.enqueue("bob@dead.example", message="later")
        broken = world.queue.message("later")
        assert isinstance(broken, QueuedMessage)
        world.blobs.read = read  # type: ignore[method-assign]
        await world.enqueue("bob@two.example")
        await world.until(lambda: len(peer.taken) == 1)
        await world.until(lambda: bool(world.named("AttemptBroke")))
        world.dialer.peers["192.0.2.66"] = Peer()
        world.blobs.read = real  # type: ignore[method-assign]
        world.clock.advance(70)
        await world.empty()

    live(tmp_path, {"192.0.2.2": peer}, story)


def test_outcomes_wait_for_a_disk_that_is_full(tmp_path: Path) -> None:
    peer = Peer()

    async def story(world: World) -> None:
        real, failures = world.database.submit, [3]

        async def submit(*unit: Any) -> list[Any]:
            if type(unit[0]).__name__ == "Settle" and failures[0]:
                failures[0] -= 1
                raise Unavailable("disk full")
            return await real(*unit)

        world.database.submit = submit  # type: ignore[method-assign]
        await world.enqueue("bob@two.example")
        for _ in range(4):
            await asyncio.sleep(0.02)
            world.clock.advance(30)
        await world.empty()

    live(tmp_path, {"192.0.2.2": peer}, story)
    assert len(peer.taken) == 1


def test_a_report_that_was_not_synced_is_stored_anew_and_arrives_once(tmp_path: Path) -> None:
    """A pack whose sync failed is not believed again: the same octets would be refused for ever."""
    real_sync, failures = os.fdatasync, [1]

    def sync(fd: int) -> None:
        if failures[0]:
            failures[0] -= 1
            raise OSError(errno.EIO, "the disk is broken")
        real_sync(fd)

    async def story(world: World) -> None:
        await world.add_alice()
        real = world.database.submit

        async def submit(*unit: Any) -> list[Any]:
            if type(unit[0]).__name__ == "Settle":
                os.fdatasync = sync
            try:
                return await real(*unit)
            finally:
                os.fdatasync = real_sync

        world.database.submit = submit  # type: ignore[method-assign]
        await world.enqueue("bob@null.example")
        for _ in range(4):
            await asyncio.sleep(0.02)
            world.clock.advance(30)
        await world.empty()
        assert failures == [0]
        assert len(world.inbox()) == 1
        names = [item["event"] for item in world.history("m0001")]
        assert names.count("DSNSent") == 1 and names.count("FailedForGood") == 1

    live(tmp_path, {}, story)


def test_removed_while_it_is_tried(tmp_path: Path) -> None:
    peer = Peer({"RCPT": SILENCE})

    async def story(world: World) -> None:
        await world.enqueue("bob@two.example")
        await world.until(lambda: "DATA" in peer.commands or len(peer.commands) > 2)
        await world.database.submit(RemoveQueued(message="m0001"))
        assert world.queue.message("m0001") is None
        await world.enqueue("bob@null.example", reverse_path="")
        await world.empty()
        await world.runner.drain(0.01)

    live(tmp_path, {"192.0.2.2": peer}, story)


def test_drain_lets_a_transaction_end_and_starts_nothing_new(tmp_path: Path) -> None:
    peer = Peer()

    async def main() -> None:
        world = World(tmp_path, {"192.0.2.2": peer})
        peer.gate = gate = asyncio.Event()
        running = asyncio.create_task(world.runner.run())
        await world.enqueue("bob@two.example")
        await world.until(lambda: "DATA" in peer.commands)
        draining = asyncio.create_task(world.runner.drain(5))
        await asyncio.sleep(0.02)
        await world.enqueue("bob@two.example")
        assert not draining.done()
        gate.set()
        await draining
        await running
        assert [due.message for due in world.queue.due()] == ["m0002"]
        assert len(peer.taken) == 1
        await world.database.close()

    asyncio.run(main())


def test_drain_cuts_what_takes_longer_than_the_grace(tmp_path: Path) -> None:
    peer = Peer({"RCPT": SILENCE})

    async def story(world: World) -> None:
        await world.enqueue("bob@two.example")
        await world.until(lambda: any(line.startswith("RCPT") for line in peer.commands))
        await world.runner.drain(0.01)
        (recipient,) = world.queue.message("m0001").recipients  # type: ignore[union-attr]
        assert recipient.attempting

    live(tmp_path, {"192.0.2.2": peer}, story)


def test_drain_ends_although_the_disk_takes_no_outcome(tmp_path: Path) -> None:
    peer = Peer()

    async def story(world: World) -> None:
        real = world.database.submit

        async def submit(*unit: Any) -> list[Any]:
            if type(unit[0]).__name__ == "Settle":
                raise Unavailable("disk full")
            return await real(*unit)

        world.database.submit = submit  # type: ignore[method-assign]
        await world.enqueue("bob@two.example")
        await world.until(lambda: bool(world.named("AttemptBroke")))
        await asyncio.wait_for(world.runner.drain(0.05), 5)
        (recipient,) = world.queue.message("m0001").recipients  # type: ignore[union-attr]
        assert recipient.attempting

    live(tmp_path, {"192.0.2.2": peer}, story)


def test_what_was_cut_is_made_again_by_the_next_start(tmp_path: Path) -> None:
    """Killed behind DATA: the row says so, the next process tries again, and says so too."""

    async def cut(world: World) -> None:
        await world.enqueue("bob@two.example", "carol@null.example")
        await world.until(lambda: len(slow.commands) > 2)
        await world.until(lambda: bool(world.named("DSNSent")))
        await world.runner.drain(0.01)
        assert [due.recipient for due in world.queue.due()] == [0]

    async def again(world: World) -> None:
        await world.empty()
        names = [item["event"] for item in world.history("m0001")]
        assert names.count("AttemptInterrupted") == 1 and names.count("DSNSent") == 1
        assert len(world.inbox()) == 1

    slow, friendly = Peer({".": SILENCE}), Peer()
    live(tmp_path, {"192.0.2.2": slow}, cut, before=World.add_alice)
    live(tmp_path, {"192.0.2.2": friendly}, again)
    assert len(friendly.taken) == 1


def test_a_report_that_the_disk_refuses_is_made_later(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        real, failures = world.blobs.draft, [1]

        def draft() -> Any:
            if failures[0]:
                failures[0] -= 1
                raise Unavailable("disk full")
            return real()

        await world.enqueue("bob@dead.example", lifetime=30)
        await world.settled()
        world.blobs.draft = draft  # type: ignore[method-assign]
        world.clock.advance(31)
        await world.settled()
        assert world.inbox() == [] and len(list(world.queue.due())) == 1
        world.clock.advance(61)
        await world.empty()
        assert len(world.inbox()) == 1

    live(tmp_path, {}, story, before=World.add_alice)


def test_the_budget_of_octets_lets_one_giant_through_alone() -> None:
    async def main() -> None:
        budget = OctetBudget(10)
        await budget.take(6)
        giant = asyncio.create_task(budget.take(50))
        await asyncio.sleep(0)
        small = asyncio.create_task(budget.take(4))
        await asyncio.sleep(0)
        assert small.done() and not giant.done()
        budget.give(6)
        budget.give(4)
        await giant
        budget.give(50)
        await budget.take(10)

    asyncio.run(main())
