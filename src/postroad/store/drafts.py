"""A message on its way in: in memory first, in a file past a bound."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

from postroad.mail import limits
from postroad.mail.errors import LocalProtocolError, Unavailable
from postroad.store.appending import keep_file
from postroad.store.values import BlobRef

if TYPE_CHECKING:
    from postroad.store.blobs import BlobStore


class BlobDraft:
    """Implements `store.contract.Draft`. One owner at a time; no locking of its own."""

    __slots__ = ("_fd", "_memory", "_path", "_sha256", "_size", "_state", "_store", "_view")

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._memory = bytearray()
        self._size = 0
        self._path: Path | None = None
        self._fd = -1
        self._sha256 = hashlib.sha256()
        self._view: memoryview | None = None
        self._state = "writing"

    @property
    def size(self) -> int:
        return self._size

    def write(self, octets: bytes | memoryview) -> None:
        if self._state != "writing":
            raise LocalProtocolError(f"a draft cannot be written to when it is {self._state}")
        if self._fd < 0:
            if self._size + len(octets) <= limits.DRAFT_MEMORY_OCTETS_MAX:
                self._memory += octets
                self._size += len(octets)
                return
            self._spill()
        self._to_file(octets)
        self._size += len(octets)

    def _spill(self) -> None:
        """Moves what is in memory into a file."""
        self._path = self._store.temporary_path()
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # tells the cleaning that it is in use
        except OSError as error:
            self.discard()
            raise Unavailable(f"draft: {error}") from error
        memory, self._memory = self._memory, bytearray()
        self._to_file(memory)

    def _to_file(self, octets: bytes | bytearray | memoryview) -> None:
        try:
            view = memoryview(octets)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self.discard()
            raise Unavailable(f"draft: {error}") from error
        self._sha256.update(octets)

    def view(self) -> memoryview:
        if self._state == "discarded":
            raise LocalProtocolError("the draft was discarded")
        self._state = "read"
        if self._view is None:
            if self._fd < 0:
                self._view = memoryview(self._memory).toreadonly()
            else:
                try:
                    mapped = mmap.mmap(self._fd, self._size, access=mmap.ACCESS_READ)
                except (OSError, ValueError) as error:
                    raise Unavailable(f"draft: {error}") from error
                self._view = memoryview(mapped)
        return self._view

    def commit(self, account: int = 0) -> BlobRef:
        if self._state == "discarded":
            raise LocalProtocolError("the draft was discarded")
        keys = self._store.keys
        cipher = keys.sealing(account) if keys is not None and account else None
        try:
            if self._fd < 0:
                return self._store.append(self._memory, cipher)
            if cipher is not None:
                return self._store.keep_sealed(self.view(), cipher)
            assert self._path is not None
            try:
                ref = keep_file(
                    self._store.data_dir, self._path, self._fd, self._sha256.hexdigest(), self._size
                )
            except OSError as error:
                raise Unavailable(f"draft: {error}") from error
            self._path = None
            return str(ref)
        finally:
            self.discard()

    def discard(self) -> None:
        """A view that was given out stays readable."""
        self._state = "discarded"
        self._view = None
        self._memory = bytearray()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def __del__(self) -> None:
        if self._fd >= 0:
            self.discard()
