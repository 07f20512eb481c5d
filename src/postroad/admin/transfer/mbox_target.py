"""Writing mbox files (mboxrd), one for each mailbox; folders below are in `NAME.sbd`.

A small file beside each (`.NAME.postroad`) says up to which UID and octet it was written; killed at
any instant, the next run cuts off what is behind that and goes on. A file that somebody else has
changed is left alone. Flags are written when a message goes, and not changed afterwards.
Source: RFC 4155 appendix A; https://doc.dovecot.org (mbox format: Status, X-Status, X-Keywords).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from postroad.admin.transfer.exporting import Outbox, digest_of
from postroad.admin.transfer.mbox import MboxSource
from postroad.admin.transfer.places import Folder, ToCRLF
from postroad.admin.transfer.report import Fault
from postroad.mail.errors import Fault as StateFault
from postroad.mail.errors import StateError
from postroad.mail.flags import Flag
from postroad.mail.uidset import UIDSet
from postroad.message.header import header_end
from postroad.store.contract import Draft
from postroad.store.values import Mailbox, MessageRow

_FROM = re.compile(rb"^(?=>*From )", re.MULTILINE)
_SENDER = re.compile(rb"^return-path[ \t]*:[ \t]*<([^<>\s]+)>", re.IGNORECASE | re.MULTILINE)
_NOTED_BY_PROGRAMS = re.compile(
    rb"^(?:status|x-status|x-keywords|x-uid|x-imap|x-imapbase|x-mozilla-[a-z0-9-]+|content-length)"
    rb"[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*\n",
    re.IGNORECASE | re.MULTILINE,
)
CHECKPOINT_MESSAGES = 500
_LETTERS = ((Flag.ANSWERED, b"A"), (Flag.FLAGGED, b"F"), (Flag.DRAFT, b"T"), (Flag.DELETED, b"D"))


class _State(msgspec.Struct, kw_only=True):
    """writing: a run is under way, or was killed."""

    uidvalidity: int
    uid: int = 0
    octets: int = 0
    writing: bool = False


class MboxTarget:
    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.name = f"mbox:{self.root}"

    async def begin(self, mailboxes: list[tuple[str, Mailbox]]) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise StateError(StateFault.CONFLICT, f"{self.root} is a file: name a directory")
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def put(self, outbox: Outbox) -> None:
        path = self._path(outbox.name)
        beside = path.with_name(f".{path.name}.postroad")
        state = _read(beside, outbox.mailbox)
        fault = _fault(path, beside, state, outbox.mailbox)
        if fault:
            outbox.total.fail(outbox.report, outbox.name, fault)
            return
        before = UIDSet(((1, state.uid),)) if state.uid else UIDSet()
        outbox.report.known = sum(1 for _ in outbox.rows(before, octets=False))
        new = UIDSet(((state.uid + 1, 0xFFFFFFFF),))
        if outbox.dry:
            outbox.report.added = sum(1 for _ in outbox.rows(new, octets=False))
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.writing = True
        _note(beside, state)
        written: Counter[bytes] = Counter()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "r+b") as file:
            file.truncate(state.octets)
            file.seek(state.octets)
            for count, row in enumerate(outbox.rows(new), 1):
                octets = outbox.octets(row)
                if octets is not None:
                    written[_append(file, row, octets)] += 1
                    outbox.went(len(octets))
                state.uid = row.uid
                if count % CHECKPOINT_MESSAGES == 0:
                    _sync(file, beside, state)
            state.writing = False
            _sync(file, beside, state)
        if written:
            await _verify(path, written, outbox)

    async def close(self) -> None:
        return

    def _path(self, name: str) -> Path:
        levels = [_level(level) for level in name.split("/")]
        return self.root.joinpath(*(f"{level}.sbd" for level in levels[:-1]), levels[-1])


def _level(level: str) -> str:
    level = level.replace("\0", "_")
    return f"_{level}" if level.startswith(".") or level.endswith(".sbd") else level


def _read(beside: Path, mailbox: Mailbox) -> _State:
    try:
        return msgspec.json.decode(beside.read_bytes(), type=_State)
    except (FileNotFoundError, msgspec.MsgspecError):
        return _State(uidvalidity=mailbox.uidvalidity)


def _fault(path: Path, beside: Path, state: _State, mailbox: Mailbox) -> str:
    size = path.stat().st_size if path.exists() else 0
    if not beside.exists() and size:
        return f"{path} is there already, and not of an export of ours: move it away"
    if state.uidvalidity != mailbox.uidvalidity:
        return f"{path} is of a mailbox of the same name that is no more: move it away"
    if size < state.octets or (size > state.octets and not state.writing):
        return f"{path} was changed by another program: move it away"
    return ""


def _note(beside: Path, state: _State) -> None:
    part = beside.with_name(beside.name + ".part")
    part.write_bytes(msgspec.json.encode(state))
    part.rename(beside)


def _sync(file: BinaryIO, beside: Path, state: _State) -> None:
    file.flush()
    os.fsync(file.fileno())
    state.octets = file.tell()
    _note(beside, state)


def _append(file: BinaryIO, row: MessageRow, octets: bytes) -> bytes:
    """Returns the digest of the message as it will be read back."""
    lines = octets.replace(b"\r\n", b"\n")
    end = header_end(lines)
    header, body = lines[:end], lines[end:]
    sender = _SENDER.search(header)
    moment = datetime.fromtimestamp(max(row.internal_date, 0), UTC)
    header = _NOTED_BY_PROGRAMS.sub(b"", header)
    fields = header[:-1] if header.endswith(b"\n\n") or header == b"\n" else header
    if fields and not fields.endswith(b"\n"):
        fields += b"\n"
    file.write(
        b"From %b %b\n"
        % (sender[1] if sender else b"MAILER-DAEMON", moment.strftime("%a %b %e %T %Y").encode())
    )
    file.write(fields + b"".join(_noted(row)) + b"\n")
    body = body if not body or body.endswith(b"\n") else body + b"\n"
    file.write(_FROM.sub(b">", body) + b"\n")
    to_crlf = ToCRLF()
    return digest_of(to_crlf.feed(fields + b"\n" + body) + to_crlf.finish())


def _noted(row: MessageRow) -> Iterator[bytes]:
    yield b"Status: %bO\n" % (b"R" if row.flags & Flag.SEEN else b"")
    letters = b"".join(letter for flag, letter in _LETTERS if row.flags & flag)
    if letters:
        yield b"X-Status: " + letters + b"\n"
    if row.keywords:
        yield b"X-Keywords: " + b" ".join(row.keywords) + b"\n"


class _Digests:
    """Collects what is in a file (`places.Desk`)."""

    def __init__(self) -> None:
        self.found: Counter[bytes] = Counter()

    def known(self, identity: bytes) -> bool:
        self.found[identity.rpartition(b"#")[0]] += 1
        return True

    def draft(self) -> Draft | None:
        return None

    def state(self) -> bytes:
        return b""

    def note(self, state: bytes) -> None:
        return

    def begin_anew(self, identities: Iterator[bytes]) -> None:
        return

    def recognise(self, identity: bytes, octets: memoryview) -> bool:
        return False


async def _verify(path: Path, written: Counter[bytes], outbox: Outbox) -> None:
    desk = _Digests()
    async for _ in MboxSource(path).messages(Folder(name=outbox.name, place=path), desk):
        pass
    missing = written - desk.found
    outbox.total.verified += sum(written.values()) - sum(missing.values())
    if missing:
        count = sum(missing.values())
        outbox.total.differ.append(Fault(str(path), f"{count} messages cannot be read back"))
