"""The folders of an IMAP account elsewhere, whatever its separator, prefix and extensions.

Source: RFC 3501 §6.3.8, RFC 2342 §5 (personal namespace), RFC 5258 §3 and RFC 6154 §5
(LIST-EXTENDED, SPECIAL-USE), RFC 3501 §5.1.3 (UTF-7).
"""

from __future__ import annotations

from dataclasses import dataclass

from postroad.admin.transfer.places import Folder
from postroad.admin.transfer.remote import Remote
from postroad.protocol.imap.client import Data, Value
from postroad.protocol.imap.names import decode_utf7

USES = {
    b"\\archive": "\\Archive",
    b"\\drafts": "\\Drafts",
    b"\\junk": "\\Junk",
    b"\\sent": "\\Sent",
    b"\\trash": "\\Trash",
}
VIRTUAL = frozenset((b"\\all", b"\\flagged", b"\\important"))
"""They show messages that are in other folders too (RFC 6154 §2, RFC 8457 §4)."""
_NO_MAILBOX = frozenset((b"\\noselect", b"\\nonexistent"))


@dataclass(frozen=True, slots=True)
class Namespace:
    """Of the account itself: what its folders' names begin with, and what parts their levels."""

    prefix: bytes
    separator: bytes


async def personal(remote: Remote) -> Namespace:
    """Raises: Refused, Broken."""
    if b"NAMESPACE" in remote.capabilities:
        for data in await remote.gather(b"NAMESPACE"):
            if data.name == b"NAMESPACE" and data.values and isinstance(data.values[0], list):
                first = data.values[0][0] if data.values[0] else None
                if isinstance(first, list) and len(first) >= 2 and isinstance(first[0], bytes):
                    separator = first[1] if isinstance(first[1], bytes) else b""
                    return Namespace(first[0], separator)
    for data in await remote.gather(b'LIST "" ""'):
        if data.name == b"LIST" and len(data.values) >= 2 and isinstance(data.values[1], bytes):
            return Namespace(b"", data.values[1])
    return Namespace(b"", b"")


async def folders(remote: Remote, *, virtual: bool) -> list[Folder]:
    """virtual: also those that only show what is elsewhere. Raises: Refused, Broken."""
    space = await personal(remote)
    extended = b"LIST-EXTENDED" in remote.capabilities or b"IMAP4REV2" in remote.capabilities
    returned = [b"SUBSCRIBED"] if extended else []
    if b"SPECIAL-USE" in remote.capabilities and extended:
        returned.append(b"SPECIAL-USE")
    pattern = _quoted(space.prefix) + b' "*"' if not extended else b'"" "*"'
    command = b"LIST " + (b'"" "*"' if not space.prefix or extended else pattern)
    if returned:
        command += b" RETURN (" + b" ".join(returned) + b")"
    listed = [data for data in await remote.gather(command) if data.name == b"LIST"]
    subscribed = None if extended else await _subscribed(remote)
    found: dict[bytes, Folder] = {}
    for data in listed:
        folder = _folder(data, space, subscribed, virtual)
        if folder is not None:
            assert isinstance(folder.place, bytes)
            found.setdefault(folder.place, folder)
    if not any(folder.name == "INBOX" for folder in found.values()):
        found[b"INBOX"] = Folder(name="INBOX", place=b"INBOX")
    return sorted(found.values(), key=lambda folder: (folder.name != "INBOX", folder.name))


async def _subscribed(remote: Remote) -> frozenset[bytes]:
    found = await remote.gather(b'LSUB "" "*"')
    return frozenset(
        data.values[2]
        for data in found
        if data.name == b"LSUB" and len(data.values) >= 3 and isinstance(data.values[2], bytes)
    )


def _folder(
    data: Data, space: Namespace, subscribed: frozenset[bytes] | None, virtual: bool
) -> Folder | None:
    if len(data.values) < 3 or not isinstance(data.values[0], list):
        return None
    attributes = {word.lower() for word in data.values[0] if isinstance(word, bytes)}
    place, separator = data.values[2], data.values[1]
    if not isinstance(place, bytes) or attributes & _NO_MAILBOX:
        return None
    if attributes & VIRTUAL and not virtual:
        return None
    uses = [use for word, use in USES.items() if word in attributes]
    is_subscribed = b"\\subscribed" in attributes if subscribed is None else place in subscribed
    return Folder(
        name=name_of(place, _text(separator), space),
        place=place,
        special_use=uses[0] if uses else "",
        subscribed=is_subscribed,
    )


def _text(value: Value) -> bytes:
    return value if isinstance(value, bytes) else b""


def name_of(place: bytes, separator: bytes, space: Namespace) -> str:
    """The name as it would be here: without the prefix, with "/" between levels."""
    if place.upper() == b"INBOX":
        return "INBOX"
    if space.prefix and place.startswith(space.prefix) and len(place) > len(space.prefix):
        place = place[len(space.prefix) :]
    try:
        name = decode_utf7(place)
    except ValueError:
        name = place.decode("utf-8", "replace")
    mark = separator.decode("latin-1")
    if mark and mark != "/":
        name = name.replace("/", "_").replace(mark, "/")
    return name


def place_of(name: str, space: Namespace) -> str:
    """The inverse, for making a folder over there."""
    if name == "INBOX":
        return name
    mark = space.separator.decode("latin-1")
    if mark and mark != "/":
        name = name.replace(mark, "_").replace("/", mark)
    elif not mark:
        name = name.replace("/", "_")
    return decode_utf7(space.prefix) + name


def _quoted(octets: bytes) -> bytes:
    return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
