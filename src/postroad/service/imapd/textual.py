"""Text looked for in messages: through the index where it reaches, else by reading them.

Both say the same, since `store.search.text` says in both what the text of a message is.
Source: RFC 3501 §6.4.4 (FROM, HEADER, BODY, TEXT...), RFC 6203 §4 (scores).
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, date, datetime

from postroad.mail.uidset import UIDSet
from postroad.message.dates import parse_date
from postroad.message.header import unfold
from postroad.protocol.imap import search_keys as keys
from postroad.protocol.imap.search_keys import When
from postroad.service.imapd.spans import span_of
from postroad.service.imapd.view import View
from postroad.store.contract import Store
from postroad.store.search.contract import Found, Needle, Where
from postroad.store.search.text import SearchText, fields, fold, header_fields
from postroad.store.values import MessageRow, Want

HEADER_SLICE = 200
TEXT_SLICE = 20
"""Whole messages read and decoded between two looks at the session."""
WHOLE_OCTETS_MAX = 1 << 20
"""Larger messages are read part by part: most of them is no text."""

_NAMED = {
    where.value.encode(): where
    for where in Where
    if where.value in ("from", "to", "cc", "bcc", "subject")
}
_DATE_FIELD = re.compile(rb"^date[ \t]*:(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)

Combine = Callable[[Iterable[bool]], bool]
"""`all` or `any`."""


def needle_of(key: keys.Key) -> Needle:
    match key:
        case keys.InHeader(field, text):
            where = _NAMED.get(field)
            if where is not None:
                return Needle(where, fold(text))
            return Needle(Where.HEADER, fold(text), field)
        case keys.InText(text, header):
            return Needle(Where.TEXT if header else Where.BODY, fold(text))
        case _:
            raise AssertionError(f"{key} asks for no text")


class Texts:
    """Looks for text in the messages of one view."""

    __slots__ = ("_report", "_store", "_view")

    def __init__(
        self,
        view: View,
        store: Store,
        report: Callable[[int, int], Awaitable[None]] | None,
    ) -> None:
        self._view = view
        self._store = store
        self._report = report

    async def find(
        self, needles: list[Needle], combine: Combine, among: Sequence[int]
    ) -> Sequence[int]:
        """Which of ascending UIDs have all, or any, of the needles."""
        if not among:
            return among
        found, rest = await asyncio.to_thread(self._look_up, needles, combine, among)
        if rest:
            found += await self._read(needles, combine, rest)
            found.sort()
        return found

    def _look_up(
        self, needles: list[Needle], combine: Combine, among: Sequence[int]
    ) -> tuple[list[int], list[int]]:
        """What the index says: UIDs that match, and those it knows nothing of."""
        view = self._view
        span, _ = span_of(among, view.uids)
        answers = self._store.index.find(view.account, view.mailbox, needles, span)
        matched = _combined(answers, combine)
        if all(_reaches(answer.covered, among) for answer in answers):
            return _members(matched, among), []
        known = set(among)
        for answer in answers:
            known.intersection_update(answer.covered)
        found = [uid for uid in among if uid in known and uid in matched]
        rest = [uid for uid in among if uid not in known] if len(known) < len(among) else []
        return found, rest

    async def _read(self, needles: list[Needle], combine: Combine, among: list[int]) -> list[int]:
        view, store = self._view, self._store
        in_body = any(needle.where in (Where.BODY, Where.TEXT) for needle in needles)
        want = Want.HEADER | Want.OCTETS if in_body else Want.HEADER
        size = TEXT_SLICE if in_body else HEADER_SLICE
        span, counts = span_of(among, view.uids)
        slices = store.messages(view.account, view.mailbox, span, want, size)
        read = self._whole if in_body else _header_of

        def step() -> tuple[int, list[int]] | None:
            rows = next(slices, None)
            if rows is None:
                return None
            wanted = rows if counts is None else [row for row in rows if row.uid in counts]
            hits = []
            for row in wanted:
                text = read(row)
                if combine(text.holds(needle) for needle in needles):
                    hits.append(row.uid)
            return len(wanted), hits

        out: list[int] = []
        done = 0
        while (more := await asyncio.to_thread(step)) is not None:
            done += more[0]
            out += more[1]
            if self._report is not None and done < len(among):
                await self._report(done, len(among))
        return out

    def _whole(self, row: MessageRow) -> SearchText:
        """May run in a thread. Raises: Unavailable."""
        assert row.header is not None and row.structure is not None, "read with OCTETS and HEADER"
        if row.size <= WHOLE_OCTETS_MAX:
            return fields(row.header, row.structure, self._store.octets(row))
        return fields(row.header, row.structure, _Parts(self._store, row))

    async def fuzzy(self, key: keys.Key, among: Sequence[int]) -> dict[int, int]:
        """Scores of those of ascending UIDs that hold words like these."""
        if not among:
            return {}
        text = key.text if isinstance(key, keys.InHeader | keys.InText) else ""
        needle = needle_of(key)
        if not text.split():
            return dict.fromkeys(await self.find([needle], all, among), 100)
        view = self._view
        span, _ = span_of(among, view.uids)
        scored = await asyncio.to_thread(
            self._store.index.fuzzy,
            view.account, view.mailbox, needle.where, text, needle.field, span,
        )  # fmt: skip
        counts = set(among)
        return {uid: score for uid, score in scored if uid in counts}


class _Parts:
    """A large message's octets, read as they are asked for."""

    __slots__ = ("_row", "_store")

    def __init__(self, store: Store, row: MessageRow) -> None:
        self._store = store
        self._row = row

    def __getitem__(self, part: slice, /) -> bytes:
        return self._store.octets_range(self._row, part.start, part.stop)


def _header_of(row: MessageRow) -> SearchText:
    assert row.header is not None, "the row was read with Want.HEADER"
    return header_fields(row.header)


def _combined(answers: Sequence[Found], combine: Combine) -> set[int]:
    sets = [set(answer.matched) for answer in answers]
    return set.intersection(*sets) if combine is all else set.union(*sets)


def _reaches(covered: UIDSet, among: Sequence[int]) -> bool:
    """Whether one range holds all of them, as it does where everything is indexed."""
    if len(covered.ranges) != 1:
        return False
    low, high = covered.ranges[0]
    return low <= among[0] and among[-1] <= high


def _members(matched: set[int], among: Sequence[int]) -> list[int]:
    """Those of ascending UIDs that are in the set."""
    if 16 * len(matched) > len(among):
        return [uid for uid in among if uid in matched]
    out = []
    for uid in sorted(matched):
        at = bisect_left(among, uid)
        if at < len(among) and among[at] == uid:
            out.append(uid)
    return out


def written_on(row: MessageRow, key: keys.Sent) -> bool:
    """Whether the Date: field, as it is written, has such a day."""
    if not row.sent:
        return False
    day = _written_day(row.header or b"", row.sent)
    match key.when:
        case When.BEFORE:
            return day < key.day
        case When.ON:
            return day == key.day
        case When.SINCE:
            return day >= key.day


def _written_day(header: bytes, sent: int) -> date:
    field = _DATE_FIELD.search(header)
    moment = parse_date(unfold(field[1])) if field is not None else None
    return moment.date() if moment is not None else datetime.fromtimestamp(sent, UTC).date()
