"""kill -9 while mail comes, goes, and packs are rewritten under it: nothing acknowledged is lost.

A child process delivers, expunges and compacts as fast as it can, tells what was answered, and is
killed at a random moment; the next start must find all of it, and the checks find nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from postroad.mail.uidset import UIDSet
from postroad.store import appending
from postroad.store.compaction import Compactor, Rules
from postroad.store.operations import Expunge
from postroad.store.removed import forget_removed
from postroad.store.values import Want
from postroad.store.verify import verify
from support.state import BOB, INBOX, NOW, opened

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

ROUNDS = int(os.environ.get("POSTROAD_CRASH_ROUNDS", "30"))
PACK_OCTETS = 60_000
RULES = Rules(octets_per_second=1 << 40, age_s=0.0, grace_s=0.05, live_share=0.9)


async def busy(data_dir: Path) -> None:
    """The child: lines `+ UID SHA-256` and `- UID` for what was answered."""
    appending.PACK_OCTETS_MAX = PACK_OCTETS
    dice = random.Random()
    async with opened("local", data_dir) as state:
        present = [
            row.uid
            for batch in state.store.messages(BOB, INBOX, UIDSet.of_ranges([(1, 1 << 32)]))
            for row in batch
        ]

        async def deliver() -> None:
            while True:
                octets = dice.randbytes(dice.choice((300, 2000, 9000)))
                uid = (await state.append(octets)).uid
                present.append(uid)
                print("+", uid, hashlib.sha256(octets).hexdigest(), flush=True)
                if len(present) > 40:
                    gone = present.pop(dice.randrange(len(present)))
                    print("?", gone, flush=True)
                    await state.database.submit(
                        Expunge(
                            account=BOB,
                            mailbox=INBOX,
                            uids=[(gone, gone)],
                            only_deleted=False,
                            now=NOW,
                        )
                    )
                    print("-", gone, flush=True)
                    await forget_removed(state.database, NOW + 1, pause_s=0)

        async def compact() -> None:
            compactor = Compactor(state.database, data_dir, RULES)
            while True:
                done = await compactor.round(time.time() + 1)
                print("c", done.records, done.removed, flush=True)
                await asyncio.sleep(0.01)

        await asyncio.gather(deliver(), deliver(), compact())


async def found(data_dir: Path) -> dict[int, str]:
    async with opened("local", data_dir) as state:
        return {
            row.uid: hashlib.sha256(state.store.octets(row)).hexdigest()
            for batch in state.store.messages(
                BOB, INBOX, UIDSet.of_ranges([(1, 1 << 32)]), Want.OCTETS
            )
            for row in batch
        }


def test_nothing_that_was_answered_is_lost(tmp_path: Path) -> None:
    dice = random.Random(20261124)
    expected: dict[int, str] = {}
    moved = removed = 0
    data_dir = tmp_path / "data"
    for _ in range(ROUNDS):
        child = subprocess.Popen(
            [sys.executable, __file__, str(data_dir)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            time.sleep(dice.uniform(0.5, 1.6))
        finally:
            child.kill()
        assert child.stdout is not None
        lines = child.stdout.read().decode().split("\n")[:-1]
        child.wait()
        perhaps: set[int] = set()
        for line in lines:
            what, *rest = line.split()
            if what == "+":
                expected[int(rest[0])] = rest[1]
            elif what == "?":
                perhaps.add(int(rest[0]))
            elif what == "-":
                perhaps.discard(int(rest[0]))
                expected.pop(int(rest[0]), None)
            else:
                moved += int(rest[0])
                removed += int(rest[1])
        there = asyncio.run(found(data_dir))
        assert list(verify(data_dir)) == []
        for uid, sha256 in expected.items():
            if uid in perhaps:
                continue
            assert there.get(uid) == sha256, f"UID {uid} is lost or changed"
        assert set(expected) - set(there) <= perhaps
        expected = there
    assert moved > 10 * ROUNDS and removed > ROUNDS, (moved, removed)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(busy(Path(sys.argv[1])))
