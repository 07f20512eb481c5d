"""Keys of accounts whose mail is sealed at rest: the master key, and what it wraps.

Every encrypted account has a data key of its own, wrapped by the master key in a row of
`account_key`; the master key is in no table. From the data key come, by HKDF, one key each for
records, columns and the search index, and one for every big file. Sealed octets name their
account and are bound to it and to what they are; AES-256-GCM with a random nonce, at most 2^32 of
them under one key (RFC 5116 §5.1.1, NIST SP 800-38D §8.3), more than an account gets messages.
Who removes an account's row has removed its mail from every disk and backup that lacks the key.
Source: RFC 5116 §5.2 (AEAD_AES_256_GCM), RFC 5869 (HKDF).
"""

from __future__ import annotations

import base64
import hmac
import os
import struct
from collections import OrderedDict
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from postroad.database.contract import Row, SQLValue
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.mail.secret import Secret

KEY_OCTETS = 32
NONCE_OCTETS = 12
TAG_OCTETS = 16
CELL = b"\0s1"
"""How a sealed column begins; no rendering of ours does. Then account, nonce, sealed octets."""
CELL_TEXT = "\x01s1:"
CIPHERS_MAX = 4096
"""Kept in memory: an account in use costs 2 KB."""
_ACCOUNT = struct.Struct(">Q")
_CELL_HEAD = len(CELL) + _ACCOUNT.size + NONCE_OCTETS
CELL_OCTETS = _CELL_HEAD + TAG_OCTETS
"""By how much a sealed column is longer."""
_RECORD_HEAD = _ACCOUNT.size + NONCE_OCTETS


class NoKey(Unavailable):
    """It is sealed, and its key is not here or is another one."""


class Rows(Protocol):
    """What of a database is needed."""

    def first(self, sql: str, params: tuple[SQLValue, ...] = ()) -> Row | None: ...


def _derived(key: bytes, purpose: bytes, salt: bytes | None = None) -> bytes:
    return HKDF(SHA256(), KEY_OCTETS, salt, b"postroad " + purpose).derive(key)


class Cipher:
    """Seals and opens what is one account's. Safe to use from several threads."""

    __slots__ = ("_cells", "_data", "_name", "_records", "_search", "_tags", "account")

    def __init__(self, account: int, data_key: bytes) -> None:
        self.account = account
        self._name = _ACCOUNT.pack(account)
        self._data = data_key
        self._records = AESGCM(_derived(data_key, b"record"))
        self._cells = AESGCM(_derived(data_key, b"column"))
        self._search: AESGCM | None = None
        self._tags = b""

    def seal_record(self, octets: bytes) -> bytes:
        nonce = os.urandom(NONCE_OCTETS)
        return self._name + nonce + self._records.encrypt(nonce, octets, self._name)

    def open_record(self, stored: bytes | memoryview) -> bytes:
        """Raises: NoKey."""
        nonce = bytes(stored[_ACCOUNT.size : _RECORD_HEAD])
        try:
            return self._records.decrypt(nonce, bytes(stored[_RECORD_HEAD:]), self._name)
        except InvalidTag as error:
            raise NoKey(f"sealed octets of account {self.account} do not open") from error

    def seal(self, octets: bytes, column: bytes) -> bytes:
        """One value of a row. column: its name, to which it is bound."""
        nonce = os.urandom(NONCE_OCTETS)
        return CELL + self._name + nonce + self._cells.encrypt(nonce, octets, self._name + column)

    def open(self, cell: bytes, column: bytes) -> bytes:
        """The value; as it is when it is not sealed. Raises: NoKey."""
        if not cell.startswith(CELL):
            return cell
        nonce = cell[_CELL_HEAD - NONCE_OCTETS : _CELL_HEAD]
        try:
            return self._cells.decrypt(nonce, cell[_CELL_HEAD:], self._name + column)
        except InvalidTag as error:
            raise NoKey(f"a sealed {column.decode()} of account {self.account} fails") from error

    def seal_search(self, octets: bytes, where: bytes) -> bytes:
        """A block of the search index; where: what it is, to which it is bound."""
        nonce = os.urandom(NONCE_OCTETS)
        return nonce + self._for_search().encrypt(nonce, octets, self._name + where)

    def open_search(self, octets: bytes, where: bytes) -> bytes:
        """Raises: NoKey."""
        nonce, sealed = octets[:NONCE_OCTETS], octets[NONCE_OCTETS:]
        try:
            return self._for_search().decrypt(nonce, sealed, self._name + where)
        except (InvalidTag, ValueError) as error:
            raise NoKey(f"a search block of account {self.account} does not open") from error

    def _for_search(self) -> AESGCM:
        if self._search is None:
            self._search = AESGCM(_derived(self._data, b"search"))
        return self._search

    def tag(self, octets: bytes) -> bytes:
        """By which whoever has the key knows the octets again; it tells nobody else anything."""
        if not self._tags:
            self._tags = _derived(self._data, b"tag")
        return hmac.digest(self._tags, octets, "sha256")

    def file_key(self, salt: bytes) -> AESGCM:
        """Of one file alone, so that its nonces may be counted."""
        return AESGCM(_derived(self._data, b"file", salt))


def new_wrapped_key(master: Secret, account: int) -> bytes:
    """A fresh data key, as `account_key` keeps it."""
    return wrap_key(master, account, os.urandom(KEY_OCTETS))


def wrap_key(master: Secret, account: int, data_key: bytes) -> bytes:
    nonce = os.urandom(NONCE_OCTETS)
    wrapping = AESGCM(_derived(master.reveal(), b"wrap"))
    return nonce + wrapping.encrypt(nonce, data_key, _ACCOUNT.pack(account))


def unwrap_key(master: Secret, account: int, wrapped: bytes) -> bytes:
    """Raises: NoKey when the master key is another one."""
    wrapping = AESGCM(_derived(master.reveal(), b"wrap"))
    try:
        return wrapping.decrypt(
            wrapped[:NONCE_OCTETS], wrapped[NONCE_OCTETS:], _ACCOUNT.pack(account)
        )
    except (InvalidTag, ValueError) as error:
        raise NoKey(
            f"the master key does not open the key of account {account}: it is another one"
        ) from error


def account_of_record(stored: bytes | memoryview) -> int:
    """Whose sealed record it is."""
    (account,) = _ACCOUNT.unpack_from(stored)
    return int(account)


class Keys:
    """The keys of this process. A key that was found is kept: an account's key never changes."""

    def __init__(self, master: Secret, rows: Rows) -> None:
        self._master = master
        self._rows = rows
        self._ciphers: OrderedDict[int, Cipher] = OrderedDict()

    def cipher(self, account: int) -> Cipher | None:
        """To open what may be sealed; None for an account that never was encrypted.

        Raises: Unavailable, NoKey.
        """
        known = self._ciphers.get(account)
        if known is not None:
            return known
        row = self._rows.first("SELECT wrapped FROM account_key WHERE account = ?", (account,))
        return None if row is None else self._keep(account, row[0])

    def sealing(self, account: int) -> Cipher | None:
        """To seal what is new; None for an account that is not to be sealed (any more)."""
        row = self._rows.first(
            "SELECT wrapped FROM account_key WHERE account = ? AND sealed = 1", (account,)
        )
        if row is None:
            return None
        return self._ciphers.get(account) or self._keep(account, row[0])

    def _keep(self, account: int, wrapped: bytes) -> Cipher:
        made = Cipher(account, unwrap_key(self._master, account, wrapped))
        self._ciphers[account] = made
        while len(self._ciphers) > CIPHERS_MAX:
            self._ciphers.popitem(last=False)
        return made

    def _demand(self, account: int) -> Cipher:
        found = self.cipher(account)
        if found is None:
            raise NoKey(f"the key of account {account} is not here")
        return found

    def open_record(self, stored: bytes | memoryview) -> bytes:
        """Raises: NoKey, Unavailable."""
        return self._demand(account_of_record(stored)).open_record(stored)

    def open(self, cell: bytes, column: bytes) -> bytes:
        """A column of whichever account it names. Raises: NoKey, Unavailable."""
        if not cell.startswith(CELL):
            return cell
        (account,) = _ACCOUNT.unpack_from(cell, len(CELL))
        return self._demand(account).open(cell, column)

    def open_text(self, cell: str, column: bytes) -> str:
        """The same for a column of text."""
        if not cell.startswith(CELL_TEXT):
            return cell
        try:
            octets = base64.b64decode(cell[len(CELL_TEXT) :], validate=True)
        except ValueError as error:
            raise NoKey(f"a sealed {column.decode()} is not whole") from error
        return self.open(octets, column).decode("utf-8", "replace")

    def new_key(self, account: int) -> bytes:
        return new_wrapped_key(self._master, account)


def seal_text(cipher: Cipher, text: str, column: bytes) -> str:
    sealed = cipher.seal(text.encode("utf-8", "surrogatepass"), column)
    return CELL_TEXT + base64.b64encode(sealed).decode("ascii")


def fingerprint(master: Secret) -> str:
    """By which two processes see that they have the same master key; tells nothing of it."""
    return _derived(master.reveal(), b"fingerprint").hex()


def check_master_key(rows: Rows, master: Secret | None) -> None:
    """At start: whether the master key is the one that wrapped the keys here.

    Raises: StateError(CANNOT) in words for the operator.
    """
    row = rows.first("SELECT account, wrapped FROM account_key LIMIT 1")
    if row is None:
        return
    if master is None:
        raise StateError(
            Fault.CANNOT,
            "mail of some accounts is sealed, and [storage] master_key names no key. Nothing is "
            "lost: name the key that sealed it",
        )
    try:
        unwrap_key(master, row[0], row[1])
    except NoKey as error:
        raise StateError(
            Fault.CANNOT,
            "[storage] master_key is not the key that sealed the mail here. Nothing is lost: put "
            "back the right one",
        ) from error


def read_master_key(octets: bytes) -> Secret:
    """The key from its file's octets: 64 hexadecimal digits. Raises: ValueError."""
    try:
        key = bytes.fromhex(octets.decode("ascii").strip())
    except ValueError as error:
        raise ValueError("a master key is 64 hexadecimal digits, and this is not") from error
    if len(key) != KEY_OCTETS:
        raise ValueError(f"a master key is {2 * KEY_OCTETS} hexadecimal digits, not {2 * len(key)}")
    return Secret(key)


def new_master_key() -> bytes:
    """A fresh one, as its file keeps it."""
    return os.urandom(KEY_OCTETS).hex().encode("ascii") + b"\n"
