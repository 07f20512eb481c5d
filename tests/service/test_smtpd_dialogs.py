"""SMTP dialogs, one file for each section; each also fails against a wrong server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroad.service.smtpd import SMTPService
from support.dialog import assert_wrong_server_fails, run_dialog_async
from support.sites import make_site

DIALOGS = sorted((Path(__file__).parent / "dialogs").glob("rfc*.dialog"))


def test_there_are_dialogs() -> None:
    assert len(DIALOGS) >= 9


@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda path: path.stem)
def test_dialog(dialog: Path, tmp_path: Path) -> None:
    async def run() -> None:
        async with make_site(tmp_path, message_octets_max=65536) as made:
            await run_dialog_async(dialog, SMTPService(made.site).handle)

    asyncio.run(run())


@pytest.mark.parametrize("dialog", DIALOGS, ids=lambda path: path.stem)
def test_a_wrong_server_fails(dialog: Path) -> None:
    assert_wrong_server_fails(dialog)
