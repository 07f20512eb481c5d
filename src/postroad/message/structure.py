"""The part tree packed for the content heap: what FETCH of a section needs, without a rescan.

A msgpack array of a version and the root part; each part is an array of its start, body, stop
(offsets from the first octet of head + blob), kind, type, subtype, encoding, charset, file name,
lines and children. Only what this module packed is unpacked.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from postroad.message.content_fields import file_name
from postroad.message.part import Part

VERSION = 1


class Kind(IntEnum):
    LEAF = 0
    MULTIPART = 1
    MESSAGE = 2


class Node(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One part. header section: [start, body); body: [body, stop)."""

    start: int
    body: int
    stop: int
    kind: int = 0
    type: bytes = b"text"
    subtype: bytes = b"plain"
    encoding: bytes = b"7bit"
    charset: bytes | None = None
    name: str | None = None
    attached: bool = False
    lines: int = 0
    children: tuple[Node, ...] = ()


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    version: int
    root: Node


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Packed)


def node(part: Part, shift: int) -> Node:
    """The part as a node, its offsets moved by `shift` (the octets of fields put on top).

    The first part of a message begins at 0, whatever was put on top.
    """
    kind = Kind.LEAF
    if part.is_multipart:
        kind = Kind.MULTIPART
    elif part.children:
        kind = Kind.MESSAGE
    disposition = part.disposition
    name: str | None = None
    if disposition is not None or part.parameters:
        name = file_name(disposition[1] if disposition else (), part.parameters)
    return Node(
        part.start + shift if part.start else 0,
        part.body + shift,
        part.stop + shift,
        int(kind),
        part.type,
        part.subtype,
        part.encoding.lower(),
        part.charset,
        name,
        disposition is not None and disposition[0] == b"attachment",
        part.lines,
        tuple([node(child, shift) for child in part.children]),
    )


def pack(root: Node) -> bytes:
    return _ENCODER.encode(_Packed(VERSION, root))


def unpack(structure: bytes) -> Node:
    """Raises: ValueError for octets that `pack` did not make."""
    try:
        packed = _DECODER.decode(structure)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a packed structure: {error}") from error
    if packed.version != VERSION:
        raise ValueError(f"packed structure of version {packed.version}, not {VERSION}")
    return packed.root
