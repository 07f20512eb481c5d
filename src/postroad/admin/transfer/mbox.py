"""Reading mbox: one file, or a tree of files and folders as Thunderbird, Dovecot and mutt make it.

A message begins at a `From ` line after an empty one that ends in a date. Lines quoted with `>` are
unquoted: one `>` of `>From `, `>>From `. What programs keep in the header (Status, X-Status,
X-Keywords, X-Mozilla-*) becomes flags and goes from the octets. A file is mapped and walked, so its
size does not matter. A message is known by its octets, the same ones twice by their order.
Source: RFC 4155 §2 and appendix A; https://www.loc.gov/preservation/digital/formats/fdd/fdd000383.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
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
from postroad.message.dates import parse_date
from postroad.protocol.imap.names import decode_utf7

_DATED = re.compile(rb"From .*\d{1,2}:\d{2}(?::\d{2})?.*\d{4}", re.DOTALL)
_QUOTED = re.compile(rb"^>(?=>*From )", re.MULTILINE)
_FOLDS = re.compile(rb"\r?\n(?![ \t])")
_EMPTY = re.compile(rb"\r?\n\r?\n")
_KEPT_BY_PROGRAMS = re.compile(
    rb"(status|x-status|x-keywords|x-uid|x-imap|x-imapbase|x-mozilla-status2?|x-mozilla-keys"
    rb"|content-length)[ \t]*:",
    re.IGNORECASE,
)
HEADER_OCTETS_MAX = 1 << 20
FROM_LINE_OCTETS_MAX = 1024
RELEASED_OCTETS = 16 << 20
"""Of the map: pages behind are given back."""
DEPTH_MAX = 32
_STATUS = {b"R": Flag.SEEN, b"A": Flag.ANSWERED, b"F": Flag.FLAGGED, b"D": Flag.DELETED}
_STATUS[b"T"] = Flag.DRAFT
_MOZILLA = ((1, Flag.SEEN), (2, Flag.ANSWERED), (4, Flag.FLAGGED))
_MOZILLA_EXPUNGED = 8
_MOZILLA_FORWARDED = 0x1000
_SKIPPED = (".msf", ".dat", ".lock", ".log", ".html", ".sbd", ".postroad")


@dataclass(frozen=True, slots=True)
class _About:
    """What the header says of the message; header: what is left of it, with its empty line."""

    header: bytes
    flags: int
    keywords: tuple[bytes, ...]
    is_gone: bool
    length: int


class MboxSource:
    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.name = f"mbox:{self.path}"

    async def folders(self) -> list[Folder]:
        if self.path.is_file():
            if not _is_mbox(self.path):
                raise Unavailable(f"{self.path} is no mbox: it does not begin with 'From '")
            return [Folder(name=_level(self.path.name), place=self.path)]
        if not self.path.is_dir():
            raise Unavailable(f"{self.path} is neither a file nor a directory")
        found = [
            Folder(name="/".join(levels), place=path) for levels, path in _boxes(self.path, [], 0)
        ]
        if not found:
            raise Unavailable(f"there is no mbox in {self.path}")
        return found

    async def messages(self, folder: Folder, desk: Desk) -> AsyncIterator[Item]:
        path = folder.place
        assert isinstance(path, Path)
        times: dict[bytes, int] = {}
        with path.open("rb") as file:
            size = path.stat().st_size
            if not size:
                return
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as octets:
                released = 0
                for number, (start, stop) in enumerate(_spans(octets), 1):
                    where = f"{folder.name}: no. {number}"
                    item = _read(octets, start, stop, desk, times, where)
                    if item is not None:
                        yield item
                    if stop - released > RELEASED_OCTETS:
                        upto = stop // mmap.PAGESIZE * mmap.PAGESIZE
                        octets.madvise(mmap.MADV_DONTNEED, released, upto - released)
                        released = upto

    async def close(self) -> None:
        return


def _read(
    octets: mmap.mmap, start: int, stop: int, desk: Desk, times: dict[bytes, int], where: str
) -> Item | None:
    """None for what a program has removed and not yet cut out."""
    line = octets.find(b"\n", start, stop) + 1 or stop
    about = _about(octets, line, stop)
    if about is None:
        return Lost(where, f"its header is longer than {HEADER_OCTETS_MAX} octets")
    if about.is_gone:
        return None
    # Hashed first: what went before is not copied.
    digest = hashlib.sha256()
    for piece in _pieces(octets, line, stop, about):
        digest.update(piece)
    key = digest.digest()[:16]
    times[key] = times.get(key, 0) + 1
    identity = b"%b#%d" % (key, times[key])
    if desk.known(identity):
        return Seen(identity=identity, flags=about.flags, keywords=about.keywords)
    draft = desk.draft()
    if draft is not None:
        for piece in _pieces(octets, line, stop, about):
            draft.write(piece)
    sent = octets[start : min(line, start + FROM_LINE_OCTETS_MAX)]
    return Brought(
        identity=identity,
        flags=about.flags,
        keywords=about.keywords,
        internal_date=_date(sent),
        where=where,
        draft=draft,
    )


def _spans(octets: mmap.mmap) -> Iterator[tuple[int, int]]:
    """(where the From line begins, where the message ends) of each message."""
    size = len(octets)
    start = 0
    while start < size and octets[start : start + 1] in (b"\n", b"\r"):
        start += 1
    while start < size:
        after = _next(octets, _counted(octets, start), size)
        yield start, _without_last_line(octets, start, after)
        start = after


def _counted(octets: mmap.mmap, start: int) -> int:
    """Where the search for the next From line begins: behind what Content-Length counts, if a
    message really ends there."""
    line = octets.find(b"\n", start) + 1
    about = _about(octets, line, len(octets)) if line else None
    if about is None or about.length < 0:
        return start + 1
    body = _EMPTY.search(octets, max(line - 1, 0))
    if body is None:
        return start + 1
    end = body.end() + about.length
    ends = octets[end : end + 7].lstrip(b"\r\n")
    if end == len(octets) or ends.startswith(b"From "):
        return max(end - 2, start + 1)
    return start + 1


def _next(octets: mmap.mmap, at: int, size: int) -> int:
    """The next From line that begins a message; the end if there is none."""
    while True:
        at = octets.find(b"\nFrom ", at)
        if at < 0:
            return size
        before = octets[max(at - 2, 0) : at]
        end = octets.find(b"\n", at + 1, at + FROM_LINE_OCTETS_MAX)
        line = octets[at + 1 : end if end > 0 else at + FROM_LINE_OCTETS_MAX]
        if (before.endswith(b"\n") or before == b"\n\r") and _DATED.match(line):
            return at + 1
        at += 1


def _without_last_line(octets: mmap.mmap, start: int, stop: int) -> int:
    """The empty line before the next From line belongs to the file."""
    if octets[max(stop - 4, start) : stop] == b"\r\n\r\n":
        return stop - 2
    return stop - 1 if octets[max(stop - 2, start) : stop] == b"\n\n" else stop


def _about(octets: mmap.mmap, start: int, stop: int) -> _About | None:
    """None when no end of the header is in sight."""
    if octets[start : start + 1] in (b"\n", b"\r"):
        return _About(b"", 0, (), False, -1)
    window = octets[start : min(stop, start + HEADER_OCTETS_MAX)]
    end = _EMPTY.search(window)
    if end is None and stop - start > HEADER_OCTETS_MAX:
        return None
    header = window[: end.start()] if end else window.rstrip(b"\r\n")
    kept, noted = [], {}
    for field in _FOLDS.split(header):
        if _KEPT_BY_PROGRAMS.match(field):
            name, _, value = field.partition(b":")
            noted[name.strip().lower()] = value.strip()
        else:
            kept.append(field)
    flags, keywords, expunged = _flags(noted)
    length = noted.get(b"content-length", b"")
    return _About(
        b"\n".join(kept),
        flags,
        keywords,
        expunged or (b"x-imap" in noted and b"FOLDER INTERNAL DATA" in header),
        int(length) if length.isdigit() and len(length) < 13 else -1,
    )


def _flags(noted: dict[bytes, bytes]) -> tuple[int, tuple[bytes, ...], bool]:
    """(flags, keywords, whether the program has removed it and not yet rewritten the file)"""
    flags = 0
    for letter, flag in _STATUS.items():
        if letter in noted.get(b"status", b"") + noted.get(b"x-status", b""):
            flags |= flag
    words = set(noted.get(b"x-keywords", b"").split()) | set(
        noted.get(b"x-mozilla-keys", b"").split()
    )
    try:
        mozilla = int(noted.get(b"x-mozilla-status", b"0"), 16)
    except ValueError:
        mozilla = 0
    for bit, flag in _MOZILLA:
        flags |= flag if mozilla & bit else 0
    if mozilla & _MOZILLA_FORWARDED:
        words.add(b"$Forwarded")
    return int(flags), tuple(sorted(words)), bool(mozilla & _MOZILLA_EXPUNGED)


def _pieces(octets: mmap.mmap, start: int, stop: int, about: _About) -> Iterator[bytes]:
    """The message as it travels: without what programs noted, unquoted, with CRLF."""
    lines = ToCRLF()
    yield lines.feed(about.header)
    window = octets[start : min(stop, start + HEADER_OCTETS_MAX)]
    if not about.header and window[:1] in (b"\n", b"\r"):
        at = start
    else:
        end = _EMPTY.search(window)
        if end is None:
            yield lines.feed(b"\n") + lines.finish()
            return
        yield lines.feed(b"\n" if about.header else b"")
        at = start + end.start() + (2 if window[end.start() : end.start() + 1] == b"\r" else 1)
    while at < stop:
        cut = min(at + COPIED_OCTETS, stop)
        if cut < stop:
            cut = octets.find(b"\n", cut, stop) + 1 or stop
        yield lines.feed(_QUOTED.sub(b"", octets[at:cut]))
        at = cut
    yield lines.finish()


def _date(line: bytes) -> int | None:
    """Of `From ann@x Mon Nov 23 10:00:00 2026`."""
    words = line.split()
    for skipped in (2, 1, 3):
        moment = parse_date(b" ".join(words[skipped:]))
        if moment is not None:
            return int(moment.timestamp())
    return None


# -- files --------------------------------------------------------------------------------------


def _is_mbox(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            begin = file.read(64).lstrip(b"\r\n")
    except OSError:
        return False
    return begin.startswith(b"From ") or (not begin and path.stat().st_size == 0)


def _level(name: str) -> str:
    stem = name[:-5] if name.lower().endswith(".mbox") else name
    if stem.lower() == "inbox":
        return "INBOX"
    try:
        return decode_utf7(stem.encode("utf-8", "surrogateescape")).replace("/", "_")
    except ValueError:
        return stem.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _boxes(path: Path, above: list[str], depth: int) -> Iterator[tuple[list[str], Path]]:
    if depth > DEPTH_MAX:
        return
    for item in sorted(path.iterdir()):
        name = item.name
        if name.startswith(".") or name == "subscriptions":
            continue
        if item.is_dir():
            if name.endswith(".mbox") and (item / "mbox").is_file():  # Apple Mail
                yield [*above, _level(name)], item / "mbox"
                continue
            level = name[:-4] if name.endswith(".sbd") else name
            yield from _boxes(item, [*above, _level(level)], depth + 1)
        elif not name.endswith(_SKIPPED) and item.stat().st_size and _is_mbox(item):
            yield [*above, _level(name)], item
