"""The queue's rows from acceptance to the end, and the history; both forms of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from postroad.database.contract import Notice, Topic
from postroad.mail.errors import Fault, StateError
from postroad.mail.ids import message_id
from postroad.queue.operations import (
    BeginAttempt,
    Enqueue,
    QueuedPath,
    Remember,
    RemoveQueued,
    Reschedule,
    Settle,
    Settlement,
)
from postroad.queue.sweep import sweep
from support.state import BOB, FORMS, NOW, State, opened

pytestmark = pytest.mark.parametrize("form", FORMS)


def run(form: str, data_dir: Path, scenario: Callable[[State], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(form, data_dir) as state:
            await scenario(state)

    asyncio.run(main())


def enqueue(state: State, message: str = "m1", *paths: str) -> Enqueue:
    content = state.content()
    return Enqueue(
        message=message,
        blob=content.blob,
        head=b"Received: x\r\n",
        size=content.size,
        reverse_path="bob@two.example",
        recipients=tuple(
            QueuedPath(
                path=path,
                domain=path.rpartition("@")[2],
                notify=("FAILURE", "DELAY"),
                orcpt="rfc822;" + path,
            )
            for path in paths or ("ann@one.example", "eve@three.example")
        ),
        body="8BITMIME",
        smtputf8=True,
        ret="HDRS",
        envid="e1",
        account=BOB,
        accepted=NOW,
        expires=NOW + 99,
    )


async def fault_of(awaitable: Awaitable[object]) -> Fault:
    with pytest.raises(StateError) as caught:
        await awaitable
    return caught.value.fault


def test_what_is_accepted_is_read_back(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        heard: list[Notice] = []
        state.database.subscribe(0, heard.append)
        operation = enqueue(state)
        await state.database.submit(operation)
        assert [(item.topic, item.subject) for item in heard] == [(Topic.QUEUE, "m1")]
        found = state.queue.message("m1")
        assert found is not None
        for name in ("blob", "head", "size", "reverse_path", "body", "smtputf8", "ret", "envid"):
            assert getattr(found, name) == getattr(operation, name)
        assert (found.account, found.accepted, found.expires) == (BOB, NOW, NOW + 99)
        first, second = found.recipients
        assert (first.recipient, first.path, first.domain) == (0, "ann@one.example", "one.example")
        assert (first.notify, first.orcpt) == (("FAILURE", "DELAY"), "rfc822;ann@one.example")
        assert (first.tries, first.next_attempt, first.attempting) == (0, NOW, False)
        assert second.recipient == 1
        assert list(state.queue.due()) == state.queue.due_of("m1")
        assert [item.domain for item in state.queue.due()] == ["one.example", "three.example"]
        assert list(state.queue.messages()) == [found]
        assert state.queue.message("m2") is None and state.queue.due_of("m2") == []

    run(form, tmp_path, scenario)


def test_an_attempt_is_known_before_it_ends(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        submit = state.database.submit
        await submit(enqueue(state))
        await submit(BeginAttempt(message="m1", recipients=(0,), now=NOW + 1))
        found = state.queue.message("m1")
        assert found is not None
        assert [item.attempting for item in found.recipients] == [True, False]
        assert found.recipients[0].tries == 1
        deferred = Settlement(
            recipient=0,
            state="deferred",
            reply="451 4.3.0 later",
            remote="mx.one.example",
            next_attempt=NOW + 60,
        )
        assert await submit(Settle(message="m1", settlements=(deferred,), now=NOW + 2)) == [False]
        found = state.queue.message("m1")
        assert found is not None
        first = found.recipients[0]
        assert (first.attempting, first.next_attempt, first.last_attempt) == (
            False,
            NOW + 60,
            NOW + 2,
        )
        assert (first.last_reply, first.last_remote) == ("451 4.3.0 later", "mx.one.example")
        done = tuple(
            Settlement(recipient=number, state=end, reply="250 ok")
            for number, end in ((0, "delivered"), (1, "failed"))
        )
        assert await submit(Settle(message="m1", settlements=done[:1], now=NOW)) == [False]
        assert [item.recipient for item in state.queue.due_of("m1")] == [1]
        assert await submit(Settle(message="m1", settlements=done[1:], now=NOW)) == [True]
        assert state.queue.message("m1") is None and list(state.queue.due()) == []
        bad = Settlement(recipient=0, state="lost", reply="")
        assert (
            await fault_of(submit(Settle(message="m1", settlements=(bad,), now=NOW)))
            is Fault.CANNOT
        )
        assert (
            await fault_of(submit(BeginAttempt(message="m1", recipients=(0,), now=NOW)))
            is Fault.NONEXISTENT
        )

    run(form, tmp_path, scenario)


def test_a_message_that_comes_again_is_queued_once(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        submit = state.database.submit
        operation = enqueue(state)
        await submit(operation)
        await submit(operation)
        assert len(list(state.queue.due())) == 2
        assert await submit(RemoveQueued(message="m1")) == [2]
        await submit(operation)
        assert list(state.queue.due()) == []
        assert await fault_of(submit(RemoveQueued(message="m1"))) is Fault.NONEXISTENT

    run(form, tmp_path, scenario)


def test_retry_now(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        submit = state.database.submit
        await submit(enqueue(state), enqueue(state, "m2", "x@y.example"))
        heard: list[Notice] = []
        state.database.subscribe(0, heard.append)
        assert await submit(Reschedule(message="m2", next_attempt=5)) == [1]
        assert [item.next_attempt for item in state.queue.due()] == [NOW, NOW, 5]
        assert await submit(Reschedule(message="", next_attempt=6)) == [3]
        assert [item.next_attempt for item in state.queue.due()] == [6, 6, 6]
        assert [item.subject for item in heard] == ["m2", ""]
        assert await fault_of(submit(Reschedule(message="m3", next_attempt=5))) is Fault.NONEXISTENT

    run(form, tmp_path, scenario)


def test_a_long_queue_is_walked_in_pages(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        paths = [f"u{number}@d{number % 7}.example" for number in range(1000)]
        await state.database.submit(
            *(enqueue(state, f"m{number}", *paths[: 400 + number]) for number in range(5))
        )
        due = list(state.queue.due())
        assert len(due) == 2010 and len({(item.message, item.recipient) for item in due}) == 2010
        assert [item.message for item in state.queue.messages()] == ["m0", "m1", "m2", "m3", "m4"]

    run(form, tmp_path, scenario)


def test_history_is_in_the_order_of_writing_and_is_swept(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        now = datetime(2026, 11, 23, tzinfo=UTC)
        old = message_id(now - timedelta(days=40), 1)
        new = message_id(now, 2)
        moment = now.timestamp()

        def remember(message: str, at: float, *records: bytes) -> Remember:
            return Remember(message=message, records=tuple((at, record) for record in records))

        past = moment - 40 * 86400
        await state.database.submit(remember(old, past, b"{}"), enqueue(state, old))
        await state.database.submit(remember(new, moment, b'{"a":1}', b'{"b":2}'))
        await state.database.submit(remember(new, moment + 1, b'{"c":3}'), remember(new, 0.0))
        assert state.queue.history(new) == [
            (moment, b'{"a":1}'),
            (moment, b'{"b":2}'),
            (moment + 1, b'{"c":3}'),
        ]
        assert (await sweep(state.database, state.data_dir, now)).rows == 2
        assert state.queue.history(old) == [] and len(state.queue.history(new)) == 3
        assert state.queue.message(old) is not None

    run(form, tmp_path, scenario)
