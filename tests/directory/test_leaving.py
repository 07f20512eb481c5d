"""An account that is removed is out of reach at once; its mail goes in steps."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from postroad.directory import leaving
from postroad.directory.operations import AddAccount, RemoveAccount
from postroad.mail.errors import Fault, StateError
from postroad.store.operations import Copy, Expunge
from postroad.store.verify import verify
from support.state import BOB, FORMS, INBOX, NOW, State, add_bob, opened

ANN = 78
BOB_AGAIN = AddAccount(
    account=BOB, address="bob@two.example", argon2="a", scram_sha_256="s", now=NOW
)


def count(state: State, table: str) -> Any:
    row = state.database.first(f"SELECT count(*) FROM {table}")
    assert row is not None
    return row[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_large_account_goes_in_steps(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving.clear_step, "__defaults__", (2,))

    async def main() -> None:
        async with opened(form, tmp_path) as state:
            await state.database.submit(
                AddAccount(
                    account=ANN, address="ann@two.example", argon2="a", scram_sha_256="s", now=NOW
                )
            )
            for number in range(15):
                await state.append(b"%d" % number)
            await state.database.submit(
                Copy(account=BOB, mailbox=INBOX, uids=[(1, 5)], to=2),
                Copy(account=BOB, mailbox=INBOX, uids=[(1, 3)], to=INBOX, to_account=ANN),
                Expunge(account=BOB, mailbox=INBOX, uids=[(9, 12)], only_deleted=False, now=NOW),
            )
            (messages,) = await state.database.submit(RemoveAccount(account=BOB))
            assert messages == 16
            assert state.directory.account("bob@two.example") is None
            assert state.store.mailboxes(BOB) == []
            assert count(state, "message") > 3, "it is large"
            assert list(verify(tmp_path)) == [], "what is going is no fault"
            with pytest.raises(StateError) as caught:
                await state.database.submit(BOB_AGAIN)
            assert caught.value.fault is Fault.CONFLICT
            await leaving.clear_leaving(state.database)
            assert (count(state, "message"), count(state, "content")) == (3, 3)
            assert count(state, "removed") == count(state, "shared") == 0
            assert count(state, "leaving") == 0
            await state.database.submit(BOB_AGAIN)

    asyncio.run(main())


def test_a_small_one_goes_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("local", tmp_path) as state:
            await state.append()
            await state.database.submit(RemoveAccount(account=BOB))
            assert count(state, "message") == count(state, "content") == 0
            assert count(state, "leaving") == 0
            with pytest.raises(StateError):
                await add_bob(state.database)  # the domain is there
            await state.database.submit(BOB_AGAIN)

    asyncio.run(main())
