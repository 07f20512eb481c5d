"""Texts of many messages put side by side, from blocks or read just now, for ranking.

A page is a section of a block, or messages that no block holds, in the same form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from postroad.mail.uidset import UIDSet
from postroad.store.contract import Store
from postroad.store.search.blocks import DamagedBlock, Section, Text
from postroad.store.search.reading import BlockReader
from postroad.store.search.text import fields, header_fields
from postroad.store.values import Want

_MARKS = re.compile(rb"[\xcc\xcd][\x80-\xbf]")
"""U+0300 to U+037F in UTF-8: the accents that decomposing leaves, and a few signs of Greek."""
_READ_AT_ONCE = 20
BRIEF_NAMES = frozenset((b"from", b"to", b"cc", b"bcc", b"subject"))


@dataclass(frozen=True, slots=True)
class Page:
    """heaps: whose text it is; starts: where each begins in `octets`, and the end of all."""

    heaps: Sequence[int]
    octets: bytes
    starts: list[int]
    section: Section


def page_of(heaps: Sequence[int], texts: list[bytes], section: Section) -> Page:
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text))
    return Page(heaps, b"".join(texts), starts, section)


def plain(page: Page, field: bytes | None) -> Page:
    """Without accents, and with nothing but the values of one field when one is named."""
    if field is None and not _has_marks(page.octets):
        return page
    texts = []
    for place in range(len(page.heaps)):
        text = page.octets[page.starts[place] : page.starts[place + 1]]
        if field is not None:
            text = _values(text, field)
        texts.append(_MARKS.sub(b"", text) if _has_marks(text) else text)
    return page_of(page.heaps, texts, page.section)


def _has_marks(text: bytes) -> bool:
    return b"\xcc" in text or b"\xcd" in text


def _values(text: bytes, field: bytes) -> bytes:
    out = []
    for line in text.split(b"\0"):
        name, colon, value = line.partition(b":")
        if colon and name.rstrip(b" \t") == field:
            out.append(b"\0" + value)
    return b"".join(out)


class Pages:
    """Every page of a mailbox's messages, read anew each time it is walked."""

    def __init__(
        self,
        blocks: BlockReader,
        store: Store,
        account: int,
        mailbox: int,
        among: UIDSet | None,
    ) -> None:
        self._blocks = blocks
        self._store = store
        self._account = account
        self._mailbox = mailbox
        self.uids, self.heaps = blocks.members(account, mailbox, among)
        self._layout = blocks.layout_of(account, self.heaps)
        self._bodyless = blocks.bodyless(account)

    def walk(self, sections: Sequence[Section], field: bytes | None) -> Iterator[Page]:
        """Each message once in each section. Raises: Unavailable."""
        missing: dict[int, set[Section]] = {}
        for section in sections:
            there: set[int] = set()
            for page in self._from_blocks(section, there):
                yield plain(page, field)
            if section is Section.BODY:
                there -= self._bodyless
            for heap in self.heaps:
                if heap not in there:
                    missing.setdefault(heap, set()).add(section)
        for page in self._from_messages(missing):
            yield plain(page, field)

    def _from_blocks(self, section: Section, there: set[int]) -> Iterator[Page]:
        """there: takes the addresses of what was found."""
        rows = self._blocks.sections(self._account, section, self._layout)
        for block, octets in rows:
            heaps = self._layout.get(block)
            if heaps is None:
                continue
            try:
                text = Text(octets, len(heaps))
            except DamagedBlock:
                continue
            fresh = [there.isdisjoint((heap,)) for heap in heaps]
            there.update(heaps)
            if all(fresh):
                yield Page(heaps, text.octets, text.starts, section)
            else:  # it is in another block as well, and counts once
                places = [place for place, is_fresh in enumerate(fresh) if is_fresh]
                yield page_of(
                    [heaps[place] for place in places], [text.of(p) for p in places], section
                )

    def _from_messages(self, missing: dict[int, set[Section]]) -> Iterator[Page]:
        if not missing:
            return
        has_body = any(Section.BODY in sections for sections in missing.values())
        want = Want.HEADER | Want.OCTETS if has_body else Want.HEADER
        uids = UIDSet.of(
            uid for uid, heap in zip(self.uids, self.heaps, strict=True) if heap in missing
        )
        done: set[int] = set()
        for rows in self._store.messages(self._account, self._mailbox, uids, want, _READ_AT_ONCE):
            found: dict[Section, tuple[list[int], list[bytes]]] = {}
            for row in rows:
                if row.heap in done:
                    continue
                done.add(row.heap)
                assert row.header is not None
                if Section.BODY in missing[row.heap]:
                    assert row.structure is not None
                    text = fields(row.header, row.structure, self._store.octets(row))
                else:
                    text = header_fields(row.header)
                for section in missing[row.heap]:
                    heaps, texts = found.setdefault(section, ([], []))
                    heaps.append(row.heap)
                    texts.append(_section_text(text.header, text.body, section))
            for section, (heaps, texts) in found.items():
                yield page_of(heaps, texts, section)


def _section_text(header: Sequence[str], body: Sequence[str], section: Section) -> bytes:
    pieces = [piece.encode("utf-8", "surrogatepass") for piece in header]
    if section is Section.BODY:
        pieces = [piece.encode("utf-8", "surrogatepass") for piece in body]
    else:
        is_brief = section is Section.BRIEF
        pieces = [
            line
            for line in pieces
            if (line.partition(b":")[0].rstrip(b" \t") in BRIEF_NAMES) is is_brief
        ]
    return b"".join([b"\0" + piece for piece in pieces])
