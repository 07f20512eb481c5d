"""The rows: what a client does to a mailbox, one command or a few, timed whole.

A reading row runs once after a cold start ("first") and then some times more ("warm"); a changing
row runs once on each side, since it changes what the next would meet.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import processes
from bench.imap import mail
from bench.imap.client import Client, Refused
from bench.imap.sides import Side
from bench.sections import PASSWORD

Say = Callable[[str], None]


@dataclass(slots=True)
class Figure:
    """Milliseconds of each run, and CPU seconds of all the server's processes for one."""

    milliseconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    note: str = ""


Table = dict[str, dict[str, Figure]]
"""Row, then side."""

_HEADERS = (
    b"(UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID "
    b"Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])"
)
"""What Thunderbird asks of new messages."""


def reading_rows(count: int) -> list[tuple[str, bytes]]:
    text, subject, sender = mail.RARE, mail.RARE_SUBJECT, mail.RARE_SENDER
    middle = b"%d:%d" % (count // 2, count // 2 + 999)
    return [
        ("SELECT", b"SELECT INBOX"),
        ("FETCH 1:* (UID FLAGS)", b"FETCH 1:* (UID FLAGS)"),
        ("FETCH 1:* ENVELOPE", b"FETCH 1:* ENVELOPE"),
        ("FETCH 1:* BODYSTRUCTURE", b"FETCH 1:* BODYSTRUCTURE"),
        ("FETCH 1:* header fields", b"FETCH 1:* " + _HEADERS),
        ("FETCH 1,000 whole messages", b"UID FETCH %b BODY.PEEK[]" % middle),
        ("SEARCH UNSEEN", b"SEARCH UNSEEN"),
        ("SEARCH FROM rare", b"SEARCH FROM %b" % sender.encode()),
        ("SEARCH FROM frequent", b"SEARCH FROM example"),
        ("SEARCH FROM absent", b"SEARCH FROM %b" % mail.ABSENT.encode()),
        ("SEARCH SUBJECT rare", b"SEARCH SUBJECT %b" % subject.encode()),
        ("SEARCH SUBJECT frequent", b"SEARCH SUBJECT report"),
        ("SEARCH SUBJECT absent", b"SEARCH SUBJECT %b" % mail.ABSENT.encode()),
        ("SEARCH TEXT rare", b"SEARCH TEXT %b" % text.encode()),
        ("SEARCH TEXT frequent", b"SEARCH TEXT %b" % mail.FREQUENT.encode()),
        ("SEARCH TEXT absent", b"SEARCH TEXT %b" % mail.ABSENT.encode()),
        ("SORT (REVERSE DATE)", b"SORT (REVERSE DATE) UTF-8 ALL"),
        ("SORT (SUBJECT)", b"SORT (SUBJECT) UTF-8 ALL"),
        ("SORT (FROM)", b"SORT (FROM) UTF-8 ALL"),
        ("THREAD REFERENCES", b"THREAD REFERENCES UTF-8 ALL"),
    ]  # fmt: skip


def timed(side: Side, action: Callable[[], object]) -> tuple[float, float]:
    """(milliseconds, CPU seconds of the server)"""
    pids = side.pids()
    before = processes.cpu_seconds(pids)
    began = time.perf_counter()
    action()
    took = (time.perf_counter() - began) * 1000
    return took, processes.cpu_seconds(side.pids()) - before


def note(table: Table, row: str, side: Side, action: Callable[[], object]) -> None:
    figure = table.setdefault(row, {}).setdefault(side.name, Figure())
    try:
        took, cpu = timed(side, action)
    except Refused as error:
        figure.note = str(error)[:80]
        return
    figure.milliseconds.append(took)
    figure.cpu.append(cpu)


def _opened(side: Side) -> Client:
    client = Client(side.imap, password=PASSWORD)
    client.run(b"SELECT INBOX", keep=False)
    return client


def read(table: Table, side: Side, count: int, runs: int, say: Say) -> None:
    for name, command in reading_rows(count):
        say(f"{side.name}: {name}")
        side.make_cold()
        selects = command.startswith(b"SELECT")
        client = Client(side.imap, password=PASSWORD) if selects else _opened(side)
        run = lambda client=client, command=command: client.run(command, keep=False)  # noqa: E731
        note(table, f"{name}, first", side, run)
        for _ in range(runs):
            note(table, f"{name}, warm", side, run)
        client.close()


def change(table: Table, side: Side, say: Say, amount: int) -> None:
    client = _opened(side)
    for name in (b"copies", b"moved", b"single", b"multi"):
        client.run(b"CREATE " + name)
    span = b"1:%d" % amount
    say(f"{side.name}: changes")
    note(table, f"STORE +FLAGS on {amount:,}", side,
         lambda: client.run(b"STORE %b +FLAGS (\\Flagged)" % span, keep=False))  # fmt: skip
    note(table, f"STORE +FLAGS.SILENT on {amount:,}", side,
         lambda: client.run(b"STORE %b +FLAGS.SILENT ($Work)" % span, keep=False))  # fmt: skip
    note(table, f"COPY of {amount:,}", side,
         lambda: client.run(b"COPY %b copies" % span, keep=False))  # fmt: skip
    client.run(b"SELECT copies")
    note(table, f"MOVE of {amount:,}", side,
         lambda: client.run(b"MOVE %b moved" % span, keep=False))  # fmt: skip
    client.run(b"SELECT moved")
    client.run(b"STORE 1:* +FLAGS.SILENT (\\Deleted)", keep=False)
    note(table, f"EXPUNGE of {amount:,}", side, lambda: client.run(b"EXPUNGE", keep=False))
    new = list(mail.messages(2000))
    note(table, "APPEND 2,000, one by one", side, lambda: client.append(b"single", new))
    note(table, "MULTIAPPEND 2,000", side, lambda: client.multiappend(b"multi", new))
    client.close()


def resynchronise(table: Table, side: Side, count: int, say: Say) -> None:
    """1 % of the mailbox is flagged and some expunged while the client is away."""
    say(f"{side.name}: QRESYNC")
    client = Client(side.imap, password=PASSWORD)
    client.run(b"ENABLE QRESYNC")
    told = client.run(b"SELECT INBOX")
    validity = re.search(rb"UIDVALIDITY (\d+)", told)
    highest = re.search(rb"HIGHESTMODSEQ (\d+)", told)
    client.run(b"UNSELECT")
    if validity is None or highest is None:
        return
    other = _opened(side)
    some = b",".join(b"%d" % n for n in range(7, count, 100))[:60000].rpartition(b",")[0]
    other.run(b"STORE %b +FLAGS.SILENT (\\Answered)" % some)
    other.run(b"STORE 10:%d +FLAGS.SILENT (\\Deleted)" % (10 + count // 1000))
    other.run(b"EXPUNGE", keep=False)
    other.close()
    command = b"SELECT INBOX (QRESYNC (%b %b))" % (validity[1], highest[1])
    note(table, "QRESYNC, 1 % changed", side, lambda: client.run(command, keep=False))
    client.close()


def pop(table: Table, side: Side, say: Say, messages: int) -> None:
    """STAT, UIDL and RETR of all, pipelined, from a mailbox of their own."""
    say(f"{side.name}: POP3")
    client = Client(side.imap, user="u1@x.example", password=PASSWORD)
    client.multiappend(b"INBOX", mail.messages(messages))
    client.close()

    def fetch() -> None:
        with socket.create_connection(("127.0.0.1", side.pop3), timeout=120) as connection:
            reader = connection.makefile("rb", 1 << 20)
            reader.readline()
            for command in (b"USER u1@x.example", b"PASS bench", b"STAT"):
                connection.sendall(command + b"\r\n")
                assert reader.readline().startswith(b"+OK")
            connection.sendall(b"".join(b"RETR %d\r\n" % n for n in range(1, messages + 1)))
            for _ in range(messages):
                assert reader.readline().startswith(b"+OK")
                while reader.readline() != b".\r\n":
                    continue
            connection.sendall(b"QUIT\r\n")
            reader.readline()

    note(table, f"POP3 RETR of {messages:,}", side, fetch)
