"""Writing Maildirs (Maildir++), as Dovecot, Courier and mutt read them.

A file's name is made of UIDVALIDITY and UID, so a second run sees what is there; flags that have
changed since rename the file. A message is written to `tmp`, then renamed: killed at any instant,
it is whole or not there. What a power failure cut short is seen by its length, and written anew.
Source: https://cr.yp.to/proto/maildir.html (names, `tmp`, flags in alphabetical order).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from postroad.admin.transfer.exporting import Outbox, digest_of
from postroad.admin.transfer.places import ToCRLF
from postroad.admin.transfer.report import Fault
from postroad.mail.errors import Fault as StateFault
from postroad.mail.errors import StateError
from postroad.mail.flags import Flag
from postroad.protocol.imap.names import encode_utf7
from postroad.store.values import Mailbox, MessageRow

_OURS = re.compile(r"(\d+\.P[0-9a-f]+Q\d+\.postroad),S=(\d+)[^:]*:2,([A-Za-z]*)\Z")
_LETTERS = (
    ("D", Flag.DRAFT),
    ("F", Flag.FLAGGED),
    ("R", Flag.ANSWERED),
    ("S", Flag.SEEN),
    ("T", Flag.DELETED),
)
KEYWORDS_MAX = 26


class MaildirTarget:
    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.name = f"maildir:{self.root}"

    async def begin(self, mailboxes: list[tuple[str, Mailbox]]) -> None:
        if self.root.exists() and not (self.root / "cur").is_dir() and any(self.root.iterdir()):
            raise StateError(
                StateFault.CONFLICT, f"{self.root} holds something else, and is no Maildir"
            )
        _make(self.root)
        subscribed = [name for name, mailbox in mailboxes if mailbox.subscribed]
        path = self.root / "subscriptions"
        known = path.read_text("ascii").splitlines() if path.exists() else []
        listed = dict.fromkeys([*known, *(_folder(name) or "INBOX" for name in subscribed)])
        path.write_text("".join(f"{name.removeprefix('.')}\n" for name in listed), "ascii")

    async def put(self, outbox: Outbox) -> None:
        folder = self.root / _folder(outbox.name)
        there = _there(folder)
        if outbox.dry:
            for row in outbox.rows(octets=False):
                _count(outbox, _base(outbox.mailbox, row) in there)
            return
        _make(folder)
        if folder != self.root:
            (folder / "maildirfolder").touch()
        if "." in outbox.name:
            outbox.total.remark(outbox.mailbox.name, "dots in its name became _")
        words = _Words(folder)
        written: dict[str, bytes] = {}
        for row in outbox.rows():
            base = _base(outbox.mailbox, row)
            letters = words.letters(row)
            known = there.get(base)
            if known is not None and known.stat().st_size == _size(known):
                outbox.report.known += 1
                if known.name.rpartition(":2,")[2] != letters:
                    known.rename(folder / "cur" / f"{known.name.rpartition(':2,')[0]}:2,{letters}")
                    outbox.report.changed += 1
                continue
            octets = outbox.octets(row)
            if octets is not None:
                if known is not None:
                    known.unlink()
                name = _write(folder, base, letters, octets, row.internal_date)
                written[name] = _expected(octets)
                outbox.went(len(octets))
        if words.left_out:
            outbox.total.remark(
                outbox.mailbox.name,
                f"a Maildir knows {KEYWORDS_MAX} keywords; left out: "
                + b" ".join(sorted(words.left_out)).decode("ascii", "replace"),
            )
        words.write()
        os.sync()
        _verify(folder, written, outbox)

    async def close(self) -> None:
        return


class _Words:
    """Keywords as letters of file names, in the order of `dovecot-keywords`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "dovecot-keywords"
        self._letters: dict[bytes, str] = {}
        self.left_out: set[bytes] = set()
        self._changed = False
        if self._path.exists():
            for line in self._path.read_bytes().splitlines():
                number, _, word = line.partition(b" ")
                if number.isdigit() and int(number) < KEYWORDS_MAX:
                    self._letters[word] = chr(97 + int(number))

    def letters(self, row: MessageRow) -> str:
        found = [letter for letter, flag in _LETTERS if row.flags & flag]
        for word in row.keywords:
            if word.lower() == b"$forwarded":
                found.append("P")
            elif word in self._letters:
                found.append(self._letters[word])
            elif len(self._letters) < KEYWORDS_MAX:
                free = set(map(chr, range(97, 97 + KEYWORDS_MAX))) - set(self._letters.values())
                self._letters[word] = min(free)
                self._changed = True
                self.write()  # before a file's name says it
                found.append(self._letters[word])
            else:
                self.left_out.add(word)
        return "".join(sorted(found))

    def write(self) -> None:
        if not self._changed:
            return
        lines = sorted((ord(letter) - 97, word) for word, letter in self._letters.items())
        part = self._path.with_suffix(".part")
        part.write_bytes(b"".join(b"%d %b\n" % line for line in lines))
        part.rename(self._path)
        self._changed = False


def _folder(name: str) -> str:
    """`.Work.2026`; "" for INBOX."""
    if name == "INBOX":
        return ""
    levels = (encode_utf7(level).decode("ascii") for level in name.split("/"))
    return "." + ".".join(level.replace(".", "_") for level in levels)


def _make(path: Path) -> None:
    for name in ("tmp", "new", "cur"):
        (path / name).mkdir(mode=0o700, parents=True, exist_ok=True)


def _base(mailbox: Mailbox, row: MessageRow) -> str:
    return f"{max(row.internal_date, 0)}.P{mailbox.uidvalidity:x}Q{row.uid}.postroad"


def _there(folder: Path) -> dict[str, Path]:
    """What earlier runs wrote, by the unique part of its name."""
    found = {}
    for where in ("cur", "new"):
        path = folder / where
        if path.is_dir():
            for entry in os.scandir(path):
                name = _OURS.match(entry.name)
                if name is not None:
                    found[name[1]] = Path(entry.path)
    return found


def _size(path: Path) -> int:
    name = _OURS.match(path.name)
    return int(name[2]) if name else -1


def _count(outbox: Outbox, known: bool) -> None:
    if known:
        outbox.report.known += 1
    else:
        outbox.report.added += 1


def _write(folder: Path, base: str, letters: str, octets: bytes, date: int) -> str:
    """The name of the file in `cur`."""
    lines = octets.replace(b"\r\n", b"\n")
    part = folder / "tmp" / base
    part.write_bytes(lines)
    part.chmod(0o600)
    os.utime(part, (max(date, 0), max(date, 0)))
    name = f"{base},S={len(lines)},W={len(octets)}:2,{letters}"
    part.rename(folder / "cur" / name)
    return name


def _expected(octets: bytes) -> bytes:
    """Digest of the message with the line ends that reading it back gives."""
    lines = ToCRLF()
    return digest_of(lines.feed(octets.replace(b"\r\n", b"\n")) + lines.finish())


def _verify(folder: Path, written: dict[str, bytes], outbox: Outbox) -> None:
    for name, digest in written.items():
        path = folder / "cur" / name
        lines = ToCRLF()
        try:
            octets = lines.feed(path.read_bytes()) + lines.finish()
        except FileNotFoundError:
            continue  # a mail program has changed its flags just now
        if digest_of(octets) == digest:
            outbox.total.verified += 1
        else:
            outbox.total.differ.append(Fault(str(path), "its octets differ"))
