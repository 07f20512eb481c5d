"""IMAP dialogs, one file for each section; each also fails against a wrong server.

Beside what a dialog expects, every response is held to the grammar.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroad.net.memory import pipe
from postroad.service.imapd import IMAPService
from support.dialog import assert_wrong_server_fails, run_dialog_async
from support.sites import make_site
from support.strict import Watcher

DIALOGS = sorted((Path(__file__).parent / "dialogs").glob("rfc*.dialog"))


def test_there_are_dialogs() -> None:
    assert len(DIALOGS) >= 14


@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda path: path.stem)
def test_dialog(dialog: Path, tmp_path: Path) -> None:
    """Names with "remote" come from afar; the others from loopback, where login is allowed."""

    async def run() -> None:
        async with make_site(
            tmp_path, plaintext_on_loopback=True, message_octets_max=65536
        ) as made:
            address = "192.0.2.1" if "remote" in dialog.stem else "127.0.0.1"
            watcher = Watcher()
            await run_dialog_async(
                dialog, IMAPService(made.site, False).handle, pipe(client=(address, 40000)), watcher
            )
            assert watcher.count
            assert [event for event in made.events if "Crashed" in type(event).__name__] == []

    asyncio.run(run())


@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda path: path.stem)
def test_a_wrong_server_fails(dialog: Path) -> None:
    assert_wrong_server_fails(dialog)
