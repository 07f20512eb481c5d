"""What the server does for its packs while it runs: compaction, a dictionary once, conversions
of accounts that a stop has cut short."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from postroad.app.config import Storage
from postroad.app.master_key import keys_of
from postroad.database.local import LocalDatabase
from postroad.mail.errors import StateError, Unavailable
from postroad.store.blobs import BlobStore
from postroad.store.compaction import Busy, Compacted, Compactor, Rules
from postroad.store.recoding import SETTLE_S, accounts_to_convert, recode
from postroad.store.training import is_due, train_from
from postroad.trace import Event, Trace

FIRST_S = 120.0
EVERY_S = 3600.0
GRACE_S = 600.0
"""A reader holds a reference for as long as a command lasts, minutes at most; and looks at its row
again if it meets a pack that is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacksCompacted(Event):
    """packs, records: rewritten. removed, freed: packs and octets given back."""

    packs: int
    records: int
    removed: int
    freed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDamaged(Event):
    """Found by compaction, which leaves it where it is; `postroad verify` says whose it is."""

    blob: str
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionaryTrained(Event):
    number: int
    samples: int
    plain: float
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountConverted(Event):
    account: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackKeepingFailed(Event):
    """doing: "compaction", "dictionary" or "encryption"; it is tried again in an hour."""

    doing: str
    why: str


def rules_of(storage: Storage) -> Rules:
    return Rules(
        live_share=storage.compact_below_percent / 100,
        octets_per_second=storage.compact_octets_per_second,
        age_s=float(storage.compact_age_s),
        grace_s=GRACE_S,
    )


class PackKeeper:
    def __init__(self, database: LocalDatabase, storage: Storage, trace: Trace) -> None:
        self._database = database
        self._storage = storage
        self._trace = trace
        self._compactor = Compactor(database, database.data_dir, rules_of(storage))
        self._tried = False

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await asyncio.sleep(FIRST_S)
            while True:
                await self.once()
                await asyncio.sleep(EVERY_S)
        finally:
            self._compactor.close()

    async def once(self) -> None:
        for doing, work in (
            ("encryption", self._convert),
            ("dictionary", self._learn),
            ("compaction", self._compact),
        ):
            try:
                await work()
            except Busy:
                continue  # somebody does it by hand
            except (Unavailable, StateError, OSError, ValueError) as error:
                self._trace(PackKeepingFailed(doing=doing, why=str(error)))

    async def _convert(self) -> None:
        accounts = accounts_to_convert(self._database)
        keys = keys_of(self._storage.master_key, self._database) if accounts else None
        if keys is None:
            return
        blobs = BlobStore(self._database.data_dir, keys=keys)
        try:
            for account in accounts:
                done = await recode(self._database, blobs, keys, account, settle_s=SETTLE_S)
                self._trace(AccountConverted(account=account, rows=done.rows))
        finally:
            blobs.close()

    async def _learn(self) -> None:
        """Once in the life of the process, if it comes to nothing."""
        data_dir = self._database.data_dir
        if not self._storage.dictionary or self._tried or not is_due(self._database, data_dir):
            return
        self._tried = True
        made = await asyncio.to_thread(train_from, self._database, data_dir)
        self._trace(
            DictionaryTrained(
                number=made.number,
                samples=made.samples,
                plain=round(made.plain, 2),
                ratio=round(made.ratio, 2),
            )
        )

    async def _compact(self) -> None:
        if not self._storage.compact_below_percent:
            return
        self._tell(await self._compactor.round(time.time()))
        if self._compactor.waits:
            await asyncio.sleep(GRACE_S)
            self._tell(await self._compactor.retire(time.time()))

    def _tell(self, done: Compacted) -> None:
        for blob, fault in done.damaged:
            self._trace(RecordDamaged(blob=blob, fault=fault))
        if done.packs or done.removed:
            self._trace(
                PacksCompacted(
                    packs=done.packs, records=done.records, removed=done.removed, freed=done.freed
                )
            )
