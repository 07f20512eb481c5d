"""IMAP servers of other makes, played: separators, prefixes, breaks, new UIDVALIDITY."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from postroad.admin.transfer import remote_source
from postroad.admin.transfer.access import Access
from postroad.admin.transfer.exporting import Selection, export
from postroad.admin.transfer.importing import Choice, Importer
from postroad.admin.transfer.remote import Account
from postroad.admin.transfer.remote_source import RemoteSource
from postroad.admin.transfer.remote_target import RemoteTarget
from postroad.admin.transfer.report import Report
from postroad.mail.errors import Unavailable
from postroad.mail.secret import Secret
from postroad.net.dialer import NetDialer
from postroad.store.operations import Append
from postroad.store.values import Want
from support.servers import ALL
from support.state import BOB, NOW, State, opened

_FETCH = re.compile(rb"UID FETCH (\S+) \((.*)\)")


@dataclass
class Box:
    uidvalidity: int = 7
    messages: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    """UID to flags and octets."""

    @property
    def next(self) -> int:
        return max(self.messages, default=0) + 1


class Played:
    """A server of another make. break_after: it hangs up after so many messages, once each."""

    def __init__(self, *, separator: str = ".", prefix: str = "INBOX.", caps: bytes = b"") -> None:
        self.separator, self.prefix, self.caps = separator, prefix, caps
        self.boxes: dict[bytes, Box] = {b"INBOX": Box()}
        self.breaks: list[int] = []
        self.commands: list[bytes] = []
        self.greeting = b"* OK hello"
        self.before_append: Callable[[], bool] = lambda: False
        self.port = 0
        self._sent = 0
        self._selected = Box()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Played]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.greeting + b"\r\n")
        try:
            while line := await reader.readline():
                tag, _, command = line.rstrip(b"\r\n").partition(b" ")
                self.commands.append(command)
                if command.startswith(b"APPEND"):
                    await self._append(tag, command, reader, writer)
                    continue
                for answer in self._answers(command):
                    writer.write(answer + b"\r\n")
                writer.write(tag + b" OK done\r\n")
        except ConnectionResetError:
            pass
        finally:
            writer.close()

    async def _append(
        self, tag: bytes, command: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        found = re.match(rb'APPEND "(.*)" \((.*)\) "[^"]*" \{(\d+)\}', command)
        assert found is not None, command
        writer.write(b"+ go\r\n")
        octets = await reader.readexactly(int(found[3]))
        await reader.readline()
        box = self.boxes[found[1]]
        box.messages[box.next] = found[2], octets
        if self.before_append():
            raise ConnectionResetError
        writer.write(tag + b" OK done\r\n")

    def _answers(self, command: bytes) -> list[bytes]:
        word = command.split(b" ")[0]
        if word == b"CAPABILITY":
            return [b"* CAPABILITY IMAP4rev1 " + self.caps]
        if word == b"NAMESPACE":
            mark = self.separator.encode()
            return [b'* NAMESPACE (("%b" "%b")) NIL NIL' % (self.prefix.encode(), mark)]
        if word in (b"LIST", b"LSUB"):
            if command.endswith(b'""'):
                return [b'* LIST (\\Noselect) "%b" ""' % self.separator.encode()]
            return [b'* %b () "%b" "%b"' % (word, self.separator.encode(), name)
                    for name in self.boxes]  # fmt: skip
        if word in (b"EXAMINE", b"SELECT"):
            name = re.findall(rb'"(.*)"', command)[0]
            self._selected = box = self.boxes[name]
            return [
                b"* %d EXISTS" % len(box.messages),
                b"* OK [UIDVALIDITY %d] x" % box.uidvalidity,
            ]
        if word == b"CREATE":
            self.boxes[re.findall(rb'"(.*)"', command)[0]] = Box(uidvalidity=9)
        if command.startswith(b"UID SEARCH"):
            return [b"* SEARCH " + b" ".join(b"%d" % uid for uid in self._selected.messages)]
        if command.startswith(b"UID FETCH"):
            return self._fetched(command)
        return []

    def _fetched(self, command: bytes) -> list[bytes]:
        found = _FETCH.match(command)
        assert found is not None
        uids: set[int] = set()
        for item in found[1].split(b","):
            low, _, high = item.partition(b":")
            top = self._selected.next if high == b"*" else int(high or low)
            uids.update(range(int(low), top + 1))
        answers = []
        for seq, (uid, (flags, octets)) in enumerate(sorted(self._selected.messages.items()), 1):
            if uid not in uids:
                continue
            body = b""
            if b"BODY.PEEK[]" in found[2]:
                self._sent += 1
                if self.breaks and self._sent >= self.breaks[0]:
                    self.breaks.pop(0)
                    raise ConnectionResetError
                body = b" BODY[] {%d}\r\n%b" % (len(octets), octets)
            answers.append(
                b'* %d FETCH (UID %d FLAGS (%b) INTERNALDATE " 1-Jan-2020 10:00:00 +0100"'
                b" RFC822.SIZE %d%b)" % (seq, uid, flags, len(octets), body)
            )
        return answers

    def account(self) -> Account:
        return Account(
            host="127.0.0.1", port=self.port, login="ann", password=Secret(b"x"), tls=None
        )


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_source, "PAUSE_S", 0.01)
    monkeypatch.setattr("postroad.admin.transfer.remote_target.PAUSE_S", 0.01)


def played(test: Callable[[Played, State], Any], data: Path, server: Played) -> None:
    async def run() -> None:
        async with opened("local", data) as state, server.running():
            await test(server, state)

    asyncio.run(run())


async def brought(server: Played, state: State, **choice: Any) -> Report:
    source = RemoteSource(server.account(), NetDialer())
    try:
        return await Importer(state.database, state.blobs, BOB, Choice(**choice)).run(source)
    finally:
        await source.close()


def mails(state: State) -> dict[str, list[bytes]]:
    found = {}
    for mailbox in state.store.mailboxes(BOB):
        rows = state.store.messages(BOB, mailbox.mailbox, ALL, Want.OCTETS)
        octets = [state.store.octets(row) for batch in rows for row in batch]
        if octets:
            found[mailbox.name] = octets
    return found


def text(number: int, size: int = 10) -> bytes:
    return b"Subject: %d\r\n\r\n" % number + b"x" * size + b"\r\n"


def test_an_old_server_with_dots_and_a_prefix(tmp_path: Path) -> None:
    server = Played(caps=b"NAMESPACE")
    server.boxes[b"INBOX"].messages = {
        5: (b"\\Seen \\Recent $x", text(1)),
        9: (b"", text(2, 99_999)),
    }
    server.boxes[b"INBOX.Entw&APw-rfe.a/b"] = Box(messages={1: (b"\\Deleted", text(3))})

    async def test(server: Played, state: State) -> None:
        report = await brought(server, state)
        assert report.added == report.verified == 3 and report.is_whole
        assert mails(state) == {
            "INBOX": [text(1), text(2, 99_999)], "Entwürfe/a_b": [text(3)]
        }  # fmt: skip
        ((row, _),) = state.store.messages(BOB, 1, ALL)
        assert row.keywords == (b"$x",)
        assert row.internal_date == int(datetime(2020, 1, 1, 9, tzinfo=UTC).timestamp())
        assert any(item.startswith(b"LOGIN ann") for item in server.commands)

    played(test, tmp_path, server)


def test_a_connection_that_breaks_is_made_anew(tmp_path: Path) -> None:
    server = Played(caps=b"NAMESPACE")
    server.boxes[b"INBOX"].messages = {n: (b"", text(n, n * 500)) for n in range(1, 130)}
    server.breaks = [3, 60, 100, 180]

    async def test(server: Played, state: State) -> None:
        report = await brought(server, state)
        assert report.added == 129 and not server.breaks
        assert mails(state)["INBOX"] == [text(n, n * 500) for n in range(1, 130)]
        assert (await brought(server, state)).added == 0

    played(test, tmp_path, server)


def test_a_server_that_stays_away_ends_it(tmp_path: Path) -> None:
    server = Played()
    server.greeting = b"* BYE go away"

    async def test(server: Played, state: State) -> None:
        with pytest.raises(Unavailable, match="greet"):
            await brought(server, state)

    played(test, tmp_path, server)


def test_folders_that_were_made_anew_bring_nothing_twice(tmp_path: Path) -> None:
    server = Played(caps=b"NAMESPACE")
    same = text(1)
    server.boxes[b"INBOX"].messages = {1: (b"", same), 2: (b"", same), 3: (b"", text(3))}

    async def test(server: Played, state: State) -> None:
        assert (await brought(server, state)).added == 3
        server.boxes[b"INBOX"] = Box(
            uidvalidity=8,
            messages={
                11: (b"", text(3)),
                12: (b"\\Seen", same),
                13: (b"", text(4)),
                14: (b"", same),
            },
        )
        report = await brought(server, state)
        assert (report.added, report.folders[0].known) == (1, 3)
        before = len(server.commands)
        assert (await brought(server, state)).added == 0
        assert not any(b"BODY" in item for item in server.commands[before:]), "known by UID again"
        # one more of the same, and the others are not taken for it
        server.boxes[b"INBOX"].messages[15] = b"", same
        assert (await brought(server, state)).added == 1
        assert sorted(mails(state)["INBOX"]) == sorted([same] * 3 + [text(3), text(4)])

    played(test, tmp_path, server)


def test_what_the_server_does_not_give_is_listed(tmp_path: Path) -> None:
    server = Played(caps=b"NAMESPACE")
    server.boxes[b"INBOX"].messages = {1: (b"", text(1)), 2: (b"", b""), 3: (b"", b"S: \0\r\n\r\n")}

    async def test(server: Played, state: State) -> None:
        report = await brought(server, state)
        assert report.added == 1 and len(report.failed) == 2 and not report.is_whole

    played(test, tmp_path, server)


def test_an_export_to_a_server_without_extensions_that_breaks(tmp_path: Path) -> None:
    server = Played(separator="/", prefix="")
    server.boxes[b"INBOX"].messages = {4: (b"", text(7))}
    breaks = iter([False, True, False, False, True])
    server.before_append = lambda: next(breaks, False)

    async def test(server: Played, state: State) -> None:
        for number in range(10):
            content = state.content(text(number))
            await state.database.submit(
                Append(account=BOB, mailbox=1, content=content, internal_date=NOW)
            )
        # SIZE as the store has it
        access = Access(BOB, "bob@two.example", state.database, state.blobs, state.store)
        target = RemoteTarget(server.account(), NetDialer())
        report = await export(access, target, Selection(only=frozenset({"INBOX"})))
        await target.close()
        there = sorted(octets for _, octets in server.boxes[b"INBOX"].messages.values())
        assert there == sorted(text(number) for number in range(10)), "one was there, each once"
        assert report.added == 9 - 2, "two were over there though their OK never came"
        target = RemoteTarget(server.account(), NetDialer())
        again = await export(access, target, Selection(only=frozenset({"INBOX"})))
        await target.close()
        assert again.added == 0 and again.folders[0].known == 10

    played(test, tmp_path, server)
