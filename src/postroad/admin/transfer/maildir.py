"""Reading Maildirs: folders as Maildir++ has them (`.Name.Sub`) or as directories in directories.

Flags come from the names of files, keywords by the letters of `dovecot-keywords`, dates from the
files' times, the order from `dovecot-uidlist` where there is one. A message is known by the unique
part of its file's name. Programs may go on delivering and renaming beside.
Source: https://cr.yp.to/proto/maildir.html; https://doc.dovecot.org (Maildir mailbox format).
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from postroad.admin.transfer.places import (
    COPIED_OCTETS,
    Brought,
    Desk,
    Folder,
    Item,
    Lost,
    Seen,
    ToCRLF,
)
from postroad.mail.errors import Unavailable
from postroad.mail.flags import Flag
from postroad.protocol.imap.names import decode_utf7
from postroad.store.contract import Draft

_INFO = re.compile(r"[:!;]2,([^/]*)\Z")
_TIME = re.compile(r"(\d{9,11})[._]")
_UIDLINE = re.compile(rb"^(\d+) [^:\n]*:([^\n]+)$", re.MULTILINE)
_KEYWORD = re.compile(rb"^(\d{1,2}) ([^\n]+)$", re.MULTILINE)
_LETTERS = {
    "D": Flag.DRAFT,
    "F": Flag.FLAGGED,
    "R": Flag.ANSWERED,
    "S": Flag.SEEN,
    "T": Flag.DELETED,
}
FORWARDED = b"$Forwarded"
FOLDERS_MAX = 10_000
DEPTH_MAX = 32
STATE_FILE_OCTETS_MAX = 256 << 20


class _File:
    """A message, by the name of its file below the folder: `cur/1.x:2,S`. There are many."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def base(self) -> str:
        """The part that stays."""
        return _INFO.sub("", self.name[4:])

    @property
    def letters(self) -> str:
        info = _INFO.search(self.name)
        return info[1] if info else ""

    @property
    def flags(self) -> int:
        return int(sum(_LETTERS.get(letter, 0) for letter in set(self.letters)))


class MaildirSource:
    """dates: "mtime", "name" (the seconds that names begin with) or "header"."""

    def __init__(self, root: Path, *, dates: str = "mtime") -> None:
        self.root = root.resolve()
        self.name = f"maildir:{self.root}"
        self._dates = dates

    async def folders(self) -> list[Folder]:
        if not self.root.is_dir():
            raise Unavailable(f"{self.root} is no directory")
        subscribed = _subscriptions(self.root)
        found = []
        for path in _maildirs(self.root, 0):
            name = _name(path.relative_to(self.root))
            found.append(
                Folder(
                    name=name,
                    place=path,
                    count=sum(1 for _ in _listed(path)),
                    subscribed=name in subscribed,
                )
            )
        if not found:
            raise Unavailable(f"{self.root} is no Maildir: neither it nor anything below has cur")
        return found

    async def messages(self, folder: Folder, desk: Desk) -> AsyncIterator[Item]:
        path = folder.place
        assert isinstance(path, Path)
        words = _keywords(path)
        order = _uids(path)
        listed = sorted(_listed(path), key=lambda file: file.base)
        if order:
            listed.sort(key=lambda file: order.get(file.base, 1 << 40))
        for file in listed:
            keywords = _words(file, words)
            identity = os.fsencode(file.base)
            if desk.known(identity):
                yield Seen(identity=identity, flags=file.flags, keywords=keywords)
                continue
            where = f"{folder.name}: {file.base}"
            try:
                draft, date = self._read(path, file, desk)
            except OSError as error:
                yield Lost(where, error.strerror or str(error))
                continue
            yield Brought(
                identity=identity,
                flags=file.flags,
                keywords=keywords,
                internal_date=date,
                where=where,
                draft=draft,
            )

    async def close(self) -> None:
        return

    def _read(self, folder: Path, file: _File, desk: Desk) -> tuple[Draft | None, int | None]:
        """Raises: OSError."""
        draft = desk.draft()
        if draft is None:
            return None, None
        path = folder / file.name
        if not path.exists():
            path = _renamed(folder, file.base)
        with path.open("rb") as opened:
            date = self._date(file, os.fstat(opened.fileno()).st_mtime)
            lines = ToCRLF()
            while piece := opened.read(COPIED_OCTETS):
                draft.write(lines.feed(piece))
            draft.write(lines.finish())
        return draft, date

    def _date(self, file: _File, mtime: float) -> int | None:
        if self._dates == "header":
            return None
        if self._dates == "name":
            found = _TIME.match(file.base)
            if found is not None:
                return int(found[1])
        return int(mtime)


def _maildirs(path: Path, depth: int) -> Iterator[Path]:
    """The directory itself, when it is one, and all below it."""
    if (path / "cur").is_dir():
        yield path
    if depth >= DEPTH_MAX:
        return
    below = sorted(
        entry.name
        for entry in os.scandir(path)
        if entry.is_dir() and entry.name not in ("cur", "new", "tmp", ".", "..")
    )
    for name in below[:FOLDERS_MAX]:
        yield from _maildirs(path / name, depth + 1)


def _name(relative: Path) -> str:
    """Of `.Work.2026`, or of `Work/2026`."""
    levels: list[str] = []
    for part in relative.parts:
        levels += part[1:].split(".") if part.startswith(".") else [part]
    name = "/".join(_decoded(level) for level in levels if level)
    return name or "INBOX"


def _decoded(level: str) -> str:
    """A name in modified UTF-7, or as it is."""
    try:
        text = decode_utf7(os.fsencode(level))
    except ValueError:
        text = os.fsencode(level).decode("utf-8", "replace")
    return text.replace("/", "_")


def _listed(path: Path) -> Iterator[_File]:
    for where in ("new", "cur"):
        try:
            entries = os.scandir(path / where)
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_file():
                    continue
                yield _File(f"{where}/{entry.name}")


def _renamed(path: Path, base: str) -> Path:
    """A file whose flags were changed since it was listed. Raises: FileNotFoundError."""
    for file in _listed(path):
        if file.base == base:
            return path / file.name
    raise FileNotFoundError(2, "it was removed meanwhile", base)


def _octets(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(STATE_FILE_OCTETS_MAX)
    except (FileNotFoundError, PermissionError):
        return b""


def _keywords(path: Path) -> dict[str, bytes]:
    """Letter to keyword."""
    found = _KEYWORD.findall(_octets(path / "dovecot-keywords"))
    return {chr(97 + int(number)): word for number, word in found if int(number) < 26}


def _words(file: _File, words: dict[str, bytes]) -> tuple[bytes, ...]:
    found = {words[letter] for letter in file.letters if letter in words}
    if "P" in file.letters:
        found.add(FORWARDED)
    return tuple(sorted(found))


def _uids(path: Path) -> dict[str, int]:
    """The order in which Dovecot showed them, by the unique part of the name."""
    found = _UIDLINE.findall(_octets(path / "dovecot-uidlist"))
    return {_INFO.sub("", os.fsdecode(name)): int(uid) for uid, name in found}


def _subscriptions(root: Path) -> frozenset[str]:
    octets = _octets(root / "subscriptions")
    lines = octets.split(b"\n")
    if octets.startswith(b"V\t2"):
        names = [
            "/".join(_decoded(os.fsdecode(p)) for p in line.split(b"\t")) for line in lines[1:]
        ]
    else:
        names = [
            _name(Path("." + os.fsdecode(line).strip(".").replace("/", "."))) for line in lines
        ]
    return frozenset(name for name in names if name)
