"""BODYSTRUCTURE of one part, as it is or as it is when its encoding has been undone.

Source: RFC 5524 §3.2; RFC 3501 §6.4.5 (part numbers), §7.4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroad.message.envelope import render_body
from postroad.message.header import Octets
from postroad.message.part import Part, scan


@dataclass(frozen=True, slots=True)
class Identity:
    """A part without transfer encoding. encoding: 7BIT, 8BIT or BINARY; lines: its line ends."""

    encoding: bytes
    octets: int
    lines: int


def render_part(octets: Octets, path: tuple[int, ...], decoded: Identity | None) -> bytes | None:
    """The structure of the part with this number, () being the message; None: there is none.

    decoded: told in place of what the part is in the message. Scans all of the message.
    """
    part = _part_at(scan(octets), path)
    if part is None:
        return None
    if decoded is not None and not part.children:
        part.encoding = decoded.encoding
        part.body, part.stop = 0, decoded.octets
        part.lines = decoded.lines
    return render_body(part)[1]


def _numbered(part: Part) -> list[Part]:
    """The parts that numbers below this one mean."""
    if part.is_message and part.children:
        inner = part.children[0]
        return inner.children if inner.is_multipart else [inner]
    return part.children


def _part_at(root: Part, path: tuple[int, ...]) -> Part | None:
    here = root
    if path and not root.is_multipart:  # its only part is number 1
        if path[0] != 1:
            return None
        path = path[1:]
    for step in path:
        parts = _numbered(here)
        if not 1 <= step <= len(parts):
            return None
        here = parts[step - 1]
    return here
