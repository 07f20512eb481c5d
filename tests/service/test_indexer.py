"""The indexer: behind the deliveries, in small steps, one account at a time, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from postroad.directory.operations import AddAccount, RemoveAccount
from postroad.mail.errors import Unavailable
from postroad.service import indexer as module
from postroad.service.indexer import AccountIndexed, Asker, Indexer, IndexingFailed
from postroad.store.search.building import Builder, lag_of
from postroad.store.search.contract import Needle, Where
from postroad.store.search.operations import WriteBlock
from postroad.store.search.verifying import check_index, drop_index
from postroad.trace import Event
from support.mails import append_of, plain_mail, put, read_all
from support.state import BOB, FORMS, INBOX, NOW, State, opened

ANN = 78
NEEDLE = Needle(Where.TEXT, "example")


@asynccontextmanager
async def indexing(
    state: State, events: list[Event] | None = None, **times: float
) -> AsyncIterator[Indexer]:
    heard: list[Event] = [] if events is None else events
    given = {"calm_s": 0.0, "first_s": 0.0, "trouble_s": 0.0} | times
    made = Indexer(
        state.database,
        state.store.index,
        heard.append,
        calm_s=given["calm_s"],
        first_s=given["first_s"],
        trouble_s=given["trouble_s"],
        told_min=1,
    )
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        await made.drain()
        await task


def indexed(events: list[Event]) -> int:
    return sum(event.messages for event in events if isinstance(event, AccountIndexed))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


def covered(state: State) -> int:
    (found,) = state.store.index.find(BOB, INBOX, [NEEDLE])
    return len(set(found.covered))


def run(form: str, data_dir: Path, scenario: Callable[[State], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(form, data_dir) as state:
            await scenario(state)

    asyncio.run(main())


async def add_ann(state: State) -> None:
    await state.database.submit(
        AddAccount(account=ANN, address="ann@two.example", argon2="a", scram_sha_256="s", now=NOW)
    )


@pytest.mark.parametrize("form", FORMS)
def test_mail_that_was_there_and_mail_that_comes(form: str, tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await put(state, *(plain_mail(number) for number in range(150)))
        events: list[Event] = []
        async with indexing(state, events):
            await until(lambda: covered(state) == 150)
            await put(state, *(plain_mail(number) for number in range(150, 190)))
            await until(lambda: covered(state) == 190 and indexed(events) == 190)
        (found,) = state.store.index.find(BOB, INBOX, [NEEDLE])
        assert set(found.matched) == read_all(state, NEEDLE)

    run(form, tmp_path, scenario)


def test_few_messages_wait_until_somebody_searches(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        async with indexing(state):
            await put(state, *(plain_mail(number) for number in range(10)))
            await asyncio.sleep(0.1)
            assert covered(state) == 0
            asker = Asker(state.database)
            await asyncio.to_thread(asker, BOB)
            await until(lambda: covered(state) == 10)

    run("local", tmp_path, scenario)


def test_a_search_of_what_is_not_indexed_asks_for_it(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        asked: list[int] = []
        state.store.index.lacking = asked.append
        await put(state, *(plain_mail(number) for number in range(15)))
        assert covered(state) == 0 and not asked
        await put(state, plain_mail(15))
        assert covered(state) == 0 and asked == [BOB]

    run("local", tmp_path, scenario)


def test_an_asker_asks_once_in_a_while(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        heard = []
        state.database.subscribe(BOB, heard.append)
        asker = Asker(state.database)
        for _ in range(100):
            await asyncio.to_thread(asker, BOB)
        await asyncio.sleep(0.05)
        assert len(heard) == 1

    run("local", tmp_path, scenario)


def test_who_is_waited_for_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account that is searched interrupts a long one, which then goes on."""
    monkeypatch.setattr(module, "REST", 0.0)

    async def scenario(state: State) -> None:
        await add_ann(state)
        await put(state, *(plain_mail(number) for number in range(1000)))
        await state.database.submit(
            *(append_of(state, plain_mail(number), account=ANN) for number in range(70))
        )
        events: list[Event] = []
        async with indexing(state, events, calm_s=60.0):
            await until(lambda: 0 < lag_of(state.database, BOB) < 1000)
            Asker(state.database)(ANN)
            await until(lambda: len(events) == 2)
        done = [e.account for e in events if isinstance(e, AccountIndexed)]
        assert done == [ANN, BOB]

    run("local", tmp_path, scenario)


def test_an_end_in_the_middle_loses_nothing_and_the_next_goes_on(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await put(state, *(plain_mail(number) for number in range(600)))
        async with indexing(state):
            await until(lambda: lag_of(state.database, BOB) < 600)
        left = lag_of(state.database, BOB)
        assert 0 < left < 600
        assert covered(state) == 600 - left
        async with indexing(state):
            await until(lambda: covered(state) == 600)

    run("local", tmp_path, scenario)


def test_one_that_lost_its_place_begins_anew(tmp_path: Path) -> None:
    """Somebody else builds the same account: nothing is in two blocks, nothing is left out."""

    async def scenario(state: State) -> None:
        await put(state, *(plain_mail(number) for number in range(500)))

        async def rival() -> None:
            while True:
                builder = Builder(state.database, state.store, None, BOB)
                operation = await asyncio.to_thread(builder.step)
                if operation is None:
                    return
                try:
                    await state.database.submit(operation)
                except module.StateError:
                    await asyncio.sleep(0)

        async with indexing(state):
            await rival()
            await until(lambda: covered(state) == 500)
        heaps = [heap for _, held in state.store.index.blocks.layout(BOB) for heap in held]
        assert len(heaps) == len(set(heaps)) == 500

    run("local", tmp_path, scenario)


def test_what_cannot_be_read_is_passed_over_the_second_time(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await put(state, *(plain_mail(number) for number in range(40)))
        real = state.store.octets_range

        def broken(row: object, start: int, stop: int) -> bytes:
            if row.uid == 20:  # type: ignore[attr-defined]
                raise Unavailable("pack 1: Input/output error")
            return real(row, start, stop)  # type: ignore[arg-type]

        state.store.octets_range = broken  # type: ignore[method-assign]
        events: list[Event] = []
        async with indexing(state, events):
            await until(lambda: covered(state) == 39)
        failures = [e for e in events if isinstance(e, IndexingFailed)]
        assert [e.account for e in failures] == [BOB] and "Input/output" in failures[0].why
        (found,) = state.store.index.find(BOB, INBOX, [NEEDLE])
        assert 20 not in found.covered
        problems = list(check_index(state.database))
        assert [problem.account for problem in problems] == [BOB]
        await drop_index(state.database, BOB)

    run("local", tmp_path, scenario)


def test_a_fault_of_ours_stops_neither_the_indexer_nor_other_accounts(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await add_ann(state)
        await put(state, *(plain_mail(number) for number in range(40)))
        await state.database.submit(
            *(append_of(state, plain_mail(number), account=ANN) for number in range(40))
        )
        index = state.store.index
        real = index.builder

        def builder(account: int) -> Builder:
            if account == BOB:
                raise RuntimeError("a bug")
            return real(account)

        index.builder = builder  # type: ignore[method-assign]
        events: list[Event] = []
        async with indexing(state, events):
            await until(lambda: lag_of(state.database, ANN) == 0)
            await until(lambda: any(isinstance(e, IndexingFailed) for e in events))
        (failure,) = [e for e in events if isinstance(e, IndexingFailed)]
        assert failure.account == BOB and "a bug" in failure.why

    run("local", tmp_path, scenario)


def test_an_account_that_goes_while_it_is_built(tmp_path: Path) -> None:
    async def scenario(state: State) -> None:
        await put(state, *(plain_mail(number) for number in range(40)))
        builder = Builder(state.database, state.store, None, BOB)
        operation = builder.step()
        assert isinstance(operation, WriteBlock) and operation.sections
        await state.database.submit(RemoveAccount(account=BOB))
        with pytest.raises(module.StateError):
            await state.database.submit(operation)
        left = state.database.first("SELECT count(*) FROM search_block")
        assert left == (0,)
        async with indexing(state):
            Asker(state.database)(BOB)
            await asyncio.sleep(0.05)

    run("local", tmp_path, scenario)
