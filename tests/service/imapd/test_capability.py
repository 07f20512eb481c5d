"""What is advertised, in which state, and that docs/imap.md says the same."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from postroad.service.imapd import IMAPService
from support.imap import Client
from support.sites import make_site

PAGE = Path(__file__).parents[3] / "docs" / "imap.md"


def sections() -> dict[str, set[str]]:
    """Title of each section of the page → the words in its first column."""
    found: dict[str, set[str]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, rest = section.partition("\n")
        rows = [line for line in rest.splitlines() if line.startswith("| `")]
        found[title] = {
            word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])
        }
    return found


def advertised(tmp_path: Path) -> tuple[set[str], set[str]]:
    async def run() -> tuple[set[str], set[str]]:
        async with make_site(tmp_path, plaintext_on_loopback=True) as made:
            async with Client(IMAPService(made.site, False)) as client:
                before = (await client.ok(b"CAPABILITY"))[0].decode().split()[2:]
                await client.login()
                after = (await client.ok(b"CAPABILITY"))[0].decode().split()[2:]
        assert len(before) == len(set(before))
        assert len(after) == len(set(after))
        return set(before), set(after)

    return asyncio.run(run())


def test_the_page_says_what_is_advertised(tmp_path: Path) -> None:
    before, after = advertised(tmp_path)
    page = sections()
    always = page["Before and after login"]
    assert {word for word in before if not word.startswith("AUTH=")} == always | {
        "STARTTLS", "SASL-IR"
    }  # fmt: skip
    named = {re.sub(r"^APPENDLIMIT=.*", "APPENDLIMIT", word) for word in after}
    assert named == always | page["After login"]
    assert {"STARTTLS", "SASL-IR", "LOGINDISABLED", "AUTH=..."} == page["Before login only"]


def test_what_is_not_there_is_not_advertised(tmp_path: Path) -> None:
    before, after = advertised(tmp_path)
    absent = sections()["What is not there, and why"]
    assert absent
    assert absent.isdisjoint(before | after)


def test_the_words_are_atoms(tmp_path: Path) -> None:
    for words in advertised(tmp_path):
        for word in words:
            assert re.fullmatch(r"[!#$&\'+,\-./0-9:;<=>?@A-Za-z^_`|}~]+", word), word
