"""Messages by combinations of system flags: what the columns say as well."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from support.state import BOB, INBOX, opened


def test_every_combination(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            for bits in range(32):
                words = (b"word",) if bits % 3 == 0 else ()
                await state.append(flags=Flag(bits), keywords=words)
            (digest,) = state.store.digests(BOB, INBOX, UIDSet(((1, 99),)), modseqs=False)
            flags = {packed >> 6: packed & 31 for packed in digest.packed}
            assert len(flags) == 32
            dice = random.Random(1)
            for wanted in (0, 1, 1 << 31, 0xFFFF_FFFF, *(dice.getrandbits(32) for _ in range(50))):
                for low, high in ((1, 99), (5, 20), (40, 50)):
                    found = state.store.flagged(BOB, INBOX, wanted, (low, high))
                    expected = [u for u in flags if low <= u <= high and wanted >> flags[u] & 1]
                    assert found == expected

    asyncio.run(main())
