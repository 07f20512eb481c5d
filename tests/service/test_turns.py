"""Turns: many that are woken at once do not keep the loop from everything else."""

from __future__ import annotations

import asyncio

from postroad.service.turns import Turns


def test_so_many_in_each_turn_in_the_order_they_came() -> None:
    async def run() -> None:
        turns = Turns(3)
        done: list[int] = []
        seen: list[int] = []

        async def work(number: int) -> None:
            await turns.take()
            done.append(number)

        tasks = [asyncio.create_task(work(number)) for number in range(20)]
        while len(done) < 20:
            await asyncio.sleep(0)
            seen.append(len(done))
        await asyncio.gather(*tasks)
        assert done == list(range(20))
        steps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
        assert max(steps) == 3, "no turn of the loop had more, and none of them was wasted"

    asyncio.run(run())


def test_whoever_is_alone_never_waits() -> None:
    async def run() -> None:
        turns = Turns(2)
        with_nothing_to_wait_for = turns.take()
        try:
            with_nothing_to_wait_for.send(None)
        except StopIteration:
            return
        raise AssertionError("it waited")

    asyncio.run(run())


def test_a_cancelled_caller_costs_nobody_his_turn() -> None:
    async def run() -> None:
        turns = Turns(1)
        tasks = [asyncio.create_task(turns.take()) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        async with asyncio.timeout(2):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert [task.cancelled() for task in tasks] == [False, False, True, False, False]

    asyncio.run(run())
