"""Octets of messages: compressed records in packs, greater ones in files of their own.

Knows neither messages nor accounts, but for whose key seals what. Every process has one
`BlobStore`: it appends to its own pack, and reads all. What comes from disk is checked before
anybody sees it. Octets that come again while they are in the pack being written are named again.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections import OrderedDict
from pathlib import Path

from postroad.database.packs import (
    HEADER,
    KINDS,
    SEALED,
    Damaged,
    FileRef,
    PackRef,
    check_record,
    file_path,
    parse_ref,
)
from postroad.mail import limits
from postroad.mail.errors import Unavailable
from postroad.store.appending import PackAppender, keep_file
from postroad.store.drafts import BlobDraft
from postroad.store.keys import Cipher, Keys, NoKey, account_of_record
from postroad.store.open_packs import OpenPacks, read_at
from postroad.store.records import Records
from postroad.store.sealed_files import (
    SUFFIX,
    SealedFile,
    is_sealed,
    temporary_file,
    write_sealed,
)
from postroad.store.values import BlobRef, Vanished

FAULTS = (Damaged, OSError, Unavailable)
REMEMBERED_MAX = 2048
"""Of the newest blobs: a mailing list sends one message to many recipients within minutes."""


class BlobStore:
    """Implements `store.contract.Blobs`. Safe to use from several threads.

    keys: None where nothing is sealed. learnt: whether new records use the newest dictionary.
    remembers: whether octets that come again are named again; whoever asks for it calls `forget`
    when a unit of work was not durable (see `store.gate`).
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        keys: Keys | None = None,
        learnt: bool = True,
        remembers: bool = False,
    ) -> None:
        self.data_dir = data_dir
        self.records = Records(data_dir, keys=keys, learnt=learnt)
        self.keys = keys
        self._appender = PackAppender(data_dir)
        self._remembers = remembers
        self._remembered: OrderedDict[bytes, PackRef] = OrderedDict()
        self._packs = OpenPacks(data_dir)
        self._last: tuple[BlobRef, bytes] = ("", b"")
        self._temporary = itertools.count()

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        keys: Keys | None = None,
        learnt: bool = True,
        remembers: bool = False,
    ) -> BlobStore:
        """Creates the directories that are missing. Raises: Unavailable."""
        try:
            for name in ("packs", "files", "tmp"):
                (data_dir / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"blobs in {data_dir}: {error}") from error
        return cls(data_dir, keys=keys, learnt=learnt, remembers=remembers)

    def temporary_path(self) -> Path:
        return self.data_dir / "tmp" / f"{os.getpid()}-{id(self):x}-{next(self._temporary)}"

    def draft(self) -> BlobDraft:
        return BlobDraft(self)

    # -- writing ------------------------------------------------------------------------------

    def append(
        self, octets: bytes | bytearray | memoryview, cipher: Cipher | None = None
    ) -> BlobRef:
        """A record in this process's pack, sealed with `cipher`. Raises: Unavailable."""
        size = len(octets)
        if cipher is not None:
            kind, stored, sha256 = self.records.seal(octets, cipher)
            return str(self._appender.append(kind, stored, size, sha256))
        sha256 = hashlib.sha256(octets).digest()
        if self._remembers:
            known = self._remembered.get(sha256)
            if known is not None and known.pack == self._appender.pack:
                return str(known)
        kind, stored = self.records.pack(octets)
        ref = self._appender.append(kind, stored, size, sha256)
        if self._remembers:
            self._remembered[sha256] = ref
            if len(self._remembered) > REMEMBERED_MAX:
                with contextlib.suppress(KeyError):  # another thread may have emptied it
                    self._remembered.popitem(last=False)
        return str(ref)

    def forget(self) -> None:
        """Octets that were stored before are stored anew from now on: a sync may have failed."""
        self._remembered.clear()

    def place(self, octets: memoryview, cipher: Cipher | None) -> BlobRef:
        """Octets of any length, from memory: a record, or a file. Blocks. Raises: Unavailable."""
        if cipher is not None and len(octets) > limits.DRAFT_MEMORY_OCTETS_MAX:
            return self.keep_sealed(octets, cipher)
        draft = self.draft()
        try:
            draft.write(octets)
            return draft.commit() if cipher is None else self.append(octets, cipher)
        finally:
            draft.discard()

    def keep_sealed(self, octets: memoryview, cipher: Cipher) -> BlobRef:
        """A sealed file of its own. Blocks. Raises: Unavailable."""
        path = self.temporary_path()
        try:
            fd = temporary_file(path)
            try:
                sha256, size = write_sealed(octets, cipher, fd)
                return str(keep_file(self.data_dir, path, fd, sha256, size, SUFFIX))
            finally:
                os.close(fd)
                path.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"draft: {error}") from error

    # -- reading ------------------------------------------------------------------------------

    def read(self, blob: BlobRef) -> bytes:
        known, octets = self._last
        if known == blob:
            return octets
        try:
            ref = parse_ref(blob)
            if isinstance(ref, FileRef):
                return self._read_file(ref)
            kind, stored, _ = self.record(ref, ahead=True)
            octets = self.records.unpack(kind, stored, ref.size)
        except FAULTS as error:
            raise _fault(blob, error) from error
        self._last = (blob, octets)
        return octets

    def read_range(self, blob: BlobRef, start: int, stop: int) -> bytes:
        if blob[:1] == "p":
            return self.read(blob)[start:stop]
        try:
            ref = parse_ref(blob)
            assert isinstance(ref, FileRef)
            with file_path(self.data_dir, ref.name).open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != ref.size:
                    raise Damaged("its file has another length")
                if is_sealed(ref.name):
                    return SealedFile(file.fileno(), ref.size, self.keys).read(start, stop)
                return read_at(file.fileno(), max(min(stop, ref.size) - start, 0), start)
        except FAULTS as error:
            raise _fault(blob, error) from error

    def _read_file(self, ref: FileRef) -> bytes:
        with file_path(self.data_dir, ref.name).open("rb", buffering=0) as file:
            if is_sealed(ref.name):
                sealed = SealedFile(file.fileno(), ref.size, self.keys)
                return sealed.read(0, sealed.size)
            octets = read_at(file.fileno(), ref.size + 1, 0)
        if len(octets) != ref.size or hashlib.sha256(octets).hexdigest() != ref.name[:64]:
            raise Damaged("its octets have changed")
        return octets

    def read_with_checksum(self, ref: PackRef) -> tuple[bytes, bytes]:
        """The octets of a record and the SHA-256 it was written with.

        Raises: Damaged, OSError, NoKey, Unavailable.
        """
        kind, stored, sha256 = self.record(ref)
        return self.records.unpack(kind, stored, ref.size), sha256

    def fault(self, ref: PackRef) -> str | None:
        """What is wrong with a record; None when its octets are those that were written.

        A sealed one is looked into only with its key. Raises: Damaged, OSError, Unavailable.
        """
        kind, stored, sha256 = self.record(ref)
        if kind == SEALED and hashlib.sha256(stored).digest() != sha256:
            return "its SHA-256 differs"
        if kind == SEALED and self.keys is None:
            return None
        octets = self.records.unpack(kind, stored, ref.size)
        if kind != SEALED and hashlib.sha256(octets).digest() != sha256:
            return "its SHA-256 differs"
        return None

    def record(self, ref: PackRef, *, ahead: bool = False) -> tuple[bytes, memoryview, bytes]:
        """(kind, stored octets, SHA-256) as in the pack, checked. Raises: Damaged, OSError.

        ahead: the records that follow it may be wanted next.
        """
        read = self._packs.read_ahead if ahead else self._packs.read
        try:
            return check_record(read(ref.pack, ref.stored, ref.offset), ref)
        except (Damaged, OSError):
            # The descriptor may be of a pack that is gone, and was put back by an operator.
            self._packs.let_go(ref.pack)
            return check_record(self._packs.read(ref.pack, ref.stored, ref.offset), ref)

    def owner(self, blob: BlobRef) -> int:
        """The account whose key opens the blob; 0 when it is not sealed. Raises: Unavailable."""
        try:
            ref = parse_ref(blob)
            if isinstance(ref, FileRef):
                if not is_sealed(ref.name):
                    return 0
                with file_path(self.data_dir, ref.name).open("rb", buffering=0) as file:
                    return SealedFile.account(file.fileno())
            head = self._packs.read(ref.pack, HEADER.size + 8, ref.offset)
            kind, account = head[:4], head[HEADER.size :]
            if kind not in KINDS or len(head) < HEADER.size:
                kind, stored, _ = self.record(ref)  # tells what is wrong with it
                account = bytes(stored[:8])
            return account_of_record(account) if kind == SEALED else 0
        except FAULTS as error:
            raise _fault(blob, error) from error

    def close(self) -> None:
        self._appender.close()
        self._packs.close()


def _fault(blob: BlobRef, error: Exception) -> Unavailable:
    """A fault of the disk, or a key that is missing, said of this blob."""
    if isinstance(error, FileNotFoundError):
        return Vanished(f"blob {blob}: {error}")
    if isinstance(error, NoKey):
        return NoKey(f"blob {blob}: {error.what}")
    if isinstance(error, Unavailable):
        return error
    return Unavailable(f"blob {blob}: {error}")
