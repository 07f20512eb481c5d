"""Messages on their way in, of one APPEND or REPLACE: each flows into a draft as it comes.

A message that is whole is summarized once and its octets are put where blobs live; what is kept
of it here is its summary. Nothing is in a mailbox before the command's one unit of work. When
something is wrong the literal in hand is still read to its end, and the rest is not asked for.
Source: RFC 3501 §6.3.11, RFC 3502 §6.3.11 (all or none), RFC 7888 §4, RFC 4469 §3, §4 (TOOBIG),
RFC 3516 §4.4 (NUL), RFC 6855 §4 (UTF-8 in headers), RFC 7889 §4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import TypeVar

from postroad.mail import limits
from postroad.mail.errors import Unavailable
from postroad.message.binary import Unencodable, encode_nul_parts
from postroad.message.summary import Summary, summarize
from postroad.protocol.imap.events import (
    AppendData,
    AppendEnd,
    Bad,
    Continue,
    LiteralPart,
    MessageBegins,
    URLPart,
)
from postroad.service.imapd import catenate
from postroad.service.imapd.events import IMAPCommandDeferred
from postroad.service.imapd.places import Place
from postroad.service.imapd.session import Answer, Farewell, Session, no
from postroad.service.imapd.turns import turn
from postroad.store import operations, units
from postroad.store.contract import Draft
from postroad.store.quota import Quota
from postroad.store.values import BlobRef, MessageRow, NewMessage, content_of, unix

T = TypeVar("T")
R = TypeVar("R")
THREAD_OCTETS_MIN = limits.DRAFT_MEMORY_OCTETS_MAX
"""Scanning and compressing less than this takes under a millisecond: not worth a thread."""
SUMMARY_OCTETS_MAX = 32 << 20
"""What is known of all messages of one command: 2,000 with headers of 16 KB, and half of what fits
into one frame to the store process."""
TURN_OCTETS = 32 << 10
"""Of small messages scanned between two looks at the loop."""
MESSAGE_OCTETS = 4 << 10
"""What a message costs whatever its size, in octets scanned."""

TOO_BIG = no("The message is too big", b"TOOBIG")
OVER_QUOTA = no("There is no room for it: remove something first", b"OVERQUOTA")


class Upload:
    """The messages of one command. A context: `receive` inside it, and the unit of work."""

    __slots__ = (
        "_answer", "_begun", "_binary", "_draft", "_nul", "_octets", "_place", "_room", "_session",
        "_since_turn", "_summaries", "messages", "now",
    )  # fmt: skip

    def __init__(self, session: Session) -> None:
        self._session = session
        self._place: Place | None = None
        self._draft: Draft | None = None
        self._begun: MessageBegins | None = None
        self._answer: Answer | None = None
        self._binary = False
        """The literal in hand may hold NUL."""
        self._nul = False
        """The message in hand does."""
        self._since_turn = self._summaries = self._octets = 0
        self._room = (0.0, 0.0)
        """Octets and messages that the account may still take; the unit of work counts anew."""
        self.messages: list[NewMessage] = []
        self.now = unix(session.site.clock.now())

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Whatever happened, no draft is left, and the connection knows what is not wanted."""
        if self._draft is not None:
            self._draft.discard()
        core = self._session.core
        if core.is_uploading and not core.abandon_upload() and error is None:
            raise Farewell("The message is too big", "literal too big")

    async def receive(
        self, place: Place | None, unwilling: Answer | None, credit: MessageRow | None = None
    ) -> Answer | None:
        """Reads the command to its end. unwilling: why nothing is taken, known beforehand.

        credit: a message of the same account that will go. Returns why it was not taken, or None.
        """
        self._place = place
        self._answer = unwilling
        if place is not None and unwilling is None:
            self._room = _room(self._session.site.store.quota(place.account), credit)
        session = self._session
        while True:
            match event := await session.next_event():
                case AppendData():
                    self._write(event.octets)
                case MessageBegins():
                    await self._finish()
                    self._begin(event)
                case LiteralPart():
                    if self._answer is None:
                        self._answer = self._unwilling(event)
                    if self._answer is not None:
                        return self._answer
                    self._binary = event.binary
                    session.put(session.core.accept_literal())
                case URLPart():
                    await self._catenate(event.url)
                case Continue():
                    session.put(b"+ Ready\r\n")
                case Bad():
                    return self._answer or _spoilt(session, event)
                case AppendEnd():
                    await self._finish()
                    return self._answer
                case _:
                    raise AssertionError(f"nobody waits for {event}")

    # -- one message ----------------------------------------------------------------------------

    def _begin(self, begun: MessageBegins) -> None:
        self._begun = begun
        self._binary = self._nul = False
        if self._answer is None:
            self._draft = self._session.site.store.blobs.draft()

    def _unwilling(self, part: LiteralPart) -> Answer | None:
        """Why the literal is not taken, known before it is sent."""
        if part.whole and not part.size:
            return no("There is no message in it")
        assert self._draft is not None, "nothing is wrong so far"
        size = self._draft.size + part.size
        if size > self._session.site.message_octets_max:
            return TOO_BIG
        octets, messages = self._room
        if len(self.messages) >= messages or self._octets + size > octets:
            return OVER_QUOTA
        return None

    def _fail(self, answer: Answer) -> None:
        if self._answer is None:
            self._answer = answer
        self.messages.clear()
        if self._draft is not None:
            self._draft.discard()
            self._draft = None

    def _defer(self, error: Unavailable) -> None:
        session = self._session
        session.site.trace(
            IMAPCommandDeferred(session=session.id, command="Append", what=error.what)
        )
        self._fail(no("Not now, please try again later", b"UNAVAILABLE"))

    def _write(self, octets: bytes) -> None:
        if self._draft is None:
            return
        if b"\0" in octets:
            self._nul = True
            if not self._binary:  # RFC 3501 §9, CHAR8
                self._fail(no("A message cannot hold NUL, but in a binary literal"))
                return
        try:
            self._draft.write(octets)
        except Unavailable as error:
            self._defer(error)

    async def _catenate(self, url: bytes) -> None:
        """Adds what the URL means."""
        draft = self._draft
        if draft is None:
            return
        most = self._session.site.message_octets_max - draft.size
        try:
            answer = await catenate.copy(self._session, url, draft, most)
        except Unavailable as error:
            self._defer(error)
            return
        if answer is not None:
            self._fail(answer)

    async def _finish(self) -> None:
        """The message in hand is whole: it leaves the draft."""
        draft, begun = self._draft, self._begun
        if draft is None or begun is None:
            return
        if not draft.size:
            self._fail(no("There is no message in it"))
            return
        try:
            if self._nul:
                draft = self._draft = await self._encode(draft)
            summary = await _in_turn(draft.size, summarize, draft.view())
            answer = self._unfit(summary)
            if answer is not None:
                self._fail(answer)
                return
            blob = await _in_turn(draft.size, self._commit, draft)
        except Unencodable as error:
            self._fail(no(str(error), b"UNKNOWN-CTE"))
            return
        except Unavailable as error:
            self._defer(error)
            return
        date = begun.internal_date
        self.messages.append(
            NewMessage(
                content=content_of(summary, blob, b""),
                flags=int(begun.flags),
                keywords=begun.keywords,
                internal_date=self.now if date is None else date,
            )
        )
        self._octets += summary.size
        self._since_turn += summary.size + MESSAGE_OCTETS
        self._draft = None
        if self._since_turn >= TURN_OCTETS:
            self._since_turn = 0
            await turn()

    def _commit(self, draft: Draft) -> BlobRef:
        return draft.commit(0 if self._place is None else self._place.account)

    async def _encode(self, draft: Draft) -> Draft:
        """The same message with base64 where NUL is. Raises: Unencodable, Unavailable."""
        encoded = self._session.site.store.blobs.draft()

        def encode(octets: memoryview) -> None:
            for piece in encode_nul_parts(octets):
                encoded.write(piece)

        try:
            await _in_turn(draft.size, encode, draft.view())
        except BaseException:
            encoded.discard()
            raise
        draft.discard()
        return encoded

    def _unfit(self, summary: Summary) -> Answer | None:
        """Why the whole message is not taken."""
        if summary.size > self._session.site.message_octets_max:
            return TOO_BIG
        self._summaries += (
            len(summary.header)
            + len(summary.envelope)
            + len(summary.body)
            + len(summary.bodystructure)
            + len(summary.structure)
        )
        if self._summaries > SUMMARY_OCTETS_MAX:
            return no("These are too many messages for one command", b"LIMIT")
        return None

    # -- the unit of work -----------------------------------------------------------------------

    def operation(self, place: Place) -> operations.Append | units.AppendAll:
        """Puts them there."""
        user = self._session.user
        reader = 0 if user == place.account else user
        rights = "".join(place.rights.intersection("stw"))
        if len(self.messages) > 1:
            return units.AppendAll(
                account=place.account,
                mailbox=place.mailbox.mailbox,
                messages=tuple(self.messages),
                now=self.now,
                enforce_quota=True,
                reader=reader,
                rights=rights,
            )
        (message,) = self.messages
        return operations.Append(
            account=place.account,
            mailbox=place.mailbox.mailbox,
            content=message.content,
            flags=message.flags,
            keywords=message.keywords,
            internal_date=message.internal_date,
            now=self.now,
            enforce_quota=True,
            reader=reader,
            rights=rights,
        )


async def _in_turn(size: int, work: Callable[[T], R], argument: T) -> R:
    """On a thread when it would hold the loop."""
    if size < THREAD_OCTETS_MIN:
        return work(argument)
    return await asyncio.to_thread(work, argument)


def _room(quota: Quota | None, credit: MessageRow | None) -> tuple[float, float]:
    """What fits, so that nobody sends in vain what does not."""
    if quota is None:
        return inf, inf
    octets, messages = quota.octets, quota.messages
    if credit is not None:
        octets, messages = octets - credit.size, messages - 1
    return (
        inf if quota.octets_max is None else quota.octets_max - octets,
        inf if quota.messages_max is None else quota.messages_max - messages,
    )


def _spoilt(session: Session, bad: Bad) -> Answer:
    answer = Answer(bad.text, bad.code, b"NO" if bad.no else b"BAD")
    if bad.fatal:
        session.tagged(bad.tag, answer)
        raise Farewell("The commands cannot be told apart any more", "unsynchronised")
    return answer
