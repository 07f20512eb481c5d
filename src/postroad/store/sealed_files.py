"""Big messages of encrypted accounts: files in sealed chunks, readable from any octet on.

A file is a magic word, the account, a salt, and chunks of 64 KiB, each sealed under the key that
the salt makes for this file alone, with its number as nonce; the last one says that it is the last,
so that neither order nor end can be changed unseen (STREAM of Hoang, Reyhanitabar, Rogaway and
Vizár, 2015). Its name carries the SHA-256 of the sealed octets, which says nothing of the message.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from postroad.database.packs import Damaged
from postroad.store.keys import TAG_OCTETS, Cipher, Keys, NoKey

MAGIC = b"PRf1"
SALT_OCTETS = 32
CHUNK_OCTETS = 1 << 16
SUFFIX = ".sealed"
"""Of the file's name, by which a reader knows it."""
_HEAD = struct.Struct(f">4sQ{SALT_OCTETS}s")
_NONCE = struct.Struct(">7xIB")
_SEALED_CHUNK = CHUNK_OCTETS + TAG_OCTETS


def is_sealed(name: str) -> bool:
    return name.endswith(SUFFIX)


def write_sealed(view: memoryview, cipher: Cipher, fd: int) -> tuple[str, int]:
    """Seals all of `view` into the open file; (SHA-256 in hex, octets written). Raises: OSError."""
    salt = os.urandom(SALT_OCTETS)
    head = _HEAD.pack(MAGIC, cipher.account, salt)
    key = cipher.file_key(salt)
    digest = hashlib.sha256()
    written = 0
    for part in _sealed(view, head, key):
        digest.update(part)
        written += len(part)
        left = memoryview(part)
        while left:
            left = left[os.write(fd, left) :]
    return digest.hexdigest(), written


def _sealed(view: memoryview, head: bytes, key: AESGCM) -> Iterator[bytes]:
    yield head
    last = max(len(view) - 1, 0) // CHUNK_OCTETS
    for number in range(last + 1):
        chunk = bytes(view[number * CHUNK_OCTETS : (number + 1) * CHUNK_OCTETS])
        yield key.encrypt(_NONCE.pack(number, number == last), chunk, head)


def _head(fd: int) -> tuple[bytes, int, bytes]:
    """(all of it, account, salt)"""
    head = os.pread(fd, _HEAD.size, 0)
    if len(head) != _HEAD.size or head[:4] != MAGIC:
        raise Damaged("it is no sealed file")
    _, account, salt = _HEAD.unpack(head)
    return head, account, salt


def message_octets(octets: int) -> int:
    """Of what is sealed in a file of so many octets."""
    body = octets - _HEAD.size
    return body - ((body - 1) // _SEALED_CHUNK + 1) * TAG_OCTETS


class SealedFile:
    """One open file. Raises Damaged, NoKey, OSError."""

    def __init__(self, fd: int, octets: int, keys: Keys | None) -> None:
        head, account, salt = _head(fd)
        body = octets - _HEAD.size
        if body < TAG_OCTETS:
            raise Damaged("it is no sealed file")
        cipher = None if keys is None else keys.cipher(account)
        if cipher is None:
            raise NoKey(f"it is sealed, and the key of account {account} is not here")
        self._fd = fd
        self._head = head
        self._key = cipher.file_key(salt)
        self._last = (body - 1) // _SEALED_CHUNK
        self.size = message_octets(octets)
        """Octets of the message."""

    @staticmethod
    def account(fd: int) -> int:
        """Whose it is. Raises: Damaged, OSError."""
        return _head(fd)[1]

    def read(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.size)
        if stop <= start:
            return b""
        first = start // CHUNK_OCTETS
        parts = [self._chunk(number) for number in range(first, (stop - 1) // CHUNK_OCTETS + 1)]
        begin = first * CHUNK_OCTETS
        return b"".join(parts)[start - begin : stop - begin]

    def _chunk(self, number: int) -> bytes:
        sealed = os.pread(self._fd, _SEALED_CHUNK, _HEAD.size + number * _SEALED_CHUNK)
        try:
            return self._key.decrypt(_NONCE.pack(number, number == self._last), sealed, self._head)
        except InvalidTag as error:
            raise Damaged(f"its chunk {number} does not open") from error


def temporary_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
