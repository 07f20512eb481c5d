"""Contents of encrypted accounts: sealed before they leave the process that makes them, opened in
the process that reads them. The writer sees sealed octets only, and needs no key.

A content row is sealed whole or not at all; its ENVELOPE, which is ours to render and never begins
like a sealed value, says which. What stays in the clear: sizes, dates, flags, keywords, the names
of mailboxes, and who has mail when.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from postroad.store.keys import CELL, CELL_OCTETS, Cipher, Keys, seal_text
from postroad.store.sealed_files import SUFFIX, message_octets
from postroad.store.values import Content, MessageRow

if TYPE_CHECKING:
    from postroad.store.blobs import BlobStore

COLUMNS = ("head", "envelope", "body", "bodystructure", "structure", "header")
"""Those of octets; `preview`, a text, is sealed as well."""


def is_sealed(content: Content) -> bool:
    return content.envelope.startswith(CELL)


def octets_of(head: bytes, blob: str) -> int:
    """RFC822.SIZE of a content as it lies, sealed or not; no key is needed."""
    octets = int(blob.rpartition(":")[2])
    if blob.startswith("f") and blob.partition(":")[0].endswith(SUFFIX):
        octets = message_octets(octets)
    return octets + len(head) - (CELL_OCTETS if head.startswith(CELL) else 0)


def sealed_content(content: Content, cipher: Cipher, blobs: BlobStore) -> Content:
    """The same, sealed; the blob too, unless it is already. Raises: Unavailable."""
    if is_sealed(content):
        return content
    return msgspec.structs.replace(
        content,
        blob=sealed_blob(content.blob, cipher, blobs),
        preview=seal_text(cipher, content.preview, b"preview"),
        **{name: cipher.seal(getattr(content, name), name.encode()) for name in COLUMNS},
    )


def opened_content(content: Content, keys: Keys, blobs: BlobStore) -> Content:
    """The same in the clear; its blob too. Raises: Unavailable, NoKey."""
    return msgspec.structs.replace(
        plain_columns(content, keys), blob=opened_blob(content.blob, blobs)
    )


def plain_columns(content: Content, keys: Keys) -> Content:
    """Its columns in the clear, the blob as it is. Raises: Unavailable, NoKey."""
    if not is_sealed(content):
        return content
    return msgspec.structs.replace(
        content,
        preview=keys.open_text(content.preview, b"preview"),
        **{name: keys.open(getattr(content, name), name.encode()) for name in COLUMNS},
    )


def sealed_blob(blob: str, cipher: Cipher, blobs: BlobStore) -> str:
    """A blob with the octets of this one that `cipher` opens. Raises: Unavailable."""
    if blobs.owner(blob) == cipher.account:
        return blob
    return blobs.place(memoryview(blobs.read(blob)), cipher)


def opened_blob(blob: str, blobs: BlobStore) -> str:
    """A blob with the octets of this one that needs no key. Raises: Unavailable."""
    return blobs.place(memoryview(blobs.read(blob)), None) if blobs.owner(blob) else blob


def opened_rows(batches: Iterator[list[MessageRow]], keys: Keys) -> Iterator[list[MessageRow]]:
    """Rows of an account that is or was encrypted, readable. Raises: Unavailable, NoKey."""
    for batch in batches:
        for row in batch:
            open_row(row, keys)
        yield batch


def open_row(row: MessageRow, keys: Keys) -> None:
    if row.envelope is not None:
        row.envelope = keys.open(row.envelope, b"envelope")
    if row.body is not None:
        row.body = keys.open(row.body, b"body")
    if row.bodystructure is not None:
        row.bodystructure = keys.open(row.bodystructure, b"bodystructure")
    if row.header is not None:
        row.header = keys.open(row.header, b"header")
    if row.head is not None:
        row.head = keys.open(row.head, b"head")
    if row.structure is not None:
        row.structure = keys.open(row.structure, b"structure")
    if row.preview is not None:
        row.preview = keys.open_text(row.preview, b"preview")
