"""Messages of many kinds put into a mailbox, and its index built, for tests of searching."""

from __future__ import annotations

import random

from postroad.mail.uidset import UIDSet
from postroad.message.summary import summarize
from postroad.store.operations import Append
from postroad.store.search.building import Builder
from postroad.store.search.contract import Needle
from postroad.store.search.text import SearchText, fields
from postroad.store.values import Appended, Want, content_of
from support.state import BOB, INBOX, NOW, State

ALL = UIDSet(((1, 0xFFFF_FFFF),))


def append_of(state: State, octets: bytes, mailbox: int = INBOX, account: int = BOB) -> Append:
    """What puts a real message, with all that is computed of it, into the mailbox."""
    draft = state.blobs.draft()
    draft.write(octets)
    content = content_of(summarize(octets), draft.commit(), b"")
    return Append(account=account, mailbox=mailbox, content=content, internal_date=NOW)


async def put(state: State, *messages: bytes, mailbox: int = INBOX) -> list[int]:
    """Their UIDs."""
    done = await state.database.submit(*(append_of(state, octets, mailbox) for octets in messages))
    out = []
    for item in done:
        assert isinstance(item, Appended)
        out.append(item.uid)
    return out


async def build(state: State, account: int = BOB) -> int:
    """Builds until all has been looked at; returns how many messages were put into blocks."""
    builder = Builder(state.database, state.store, None, account)
    while (operation := builder.step()) is not None:
        await state.database.submit(operation)
    return builder.messages


def texts_of(state: State, mailbox: int = INBOX) -> dict[int, SearchText]:
    """The text of every message, by reading it."""
    out = {}
    for rows in state.store.messages(BOB, mailbox, ALL, Want.HEADER | Want.OCTETS):
        for row in rows:
            assert row.header is not None and row.structure is not None
            out[row.uid] = fields(row.header, row.structure, state.store.octets(row))
    return out


def read_all(state: State, needle: Needle, mailbox: int = INBOX) -> set[int]:
    """UIDs of the messages that hold the needle, by reading each of them."""
    return {uid for uid, text in texts_of(state, mailbox).items() if text.holds(needle)}


_WORDS = """invoice meeting lunch budget report tomorrow please review attached document project
team schedule holiday flight hotel customer order shipping address question answer server mail"""


def plain_mail(number: int, words: int = 120) -> bytes:
    """A message of made-up words; the number decides all of it."""
    dice = random.Random(number)
    known = _WORDS.split()
    chosen = " ".join(dice.choice(known) for _ in range(words))
    sender, topic = dice.choice(("ann", "carl", "dora")), dice.choice(known)
    return (
        f"From: {sender.title()} <{sender}@example.org>\r\nTo: bob@two.example\r\n"
        f"Subject: About the {topic} {number}\r\nMessage-ID: <{number}@example.org>\r\n"
        f"Date: Mon, 1 Jan 2024 10:{number % 60:02}:00 +0000\r\nX-Number: n{number}\r\n"
        f"\r\n{chosen}\r\nunique{number}end\r\n"
    ).encode()
