"""The server's side of one IMAP connection: command borders, literals, order.

Knows no socket, time or store. Input: hostile octets, cut anywhere. Each command, however broken,
becomes one event; only what cannot be resynchronised ends the session (`Event` says so).
Source: RFC 3501 §2.2, §3, §4.3; RFC 7888 §3-4 (non-synchronizing literals).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from postroad.mail import limits
from postroad.mail.errors import LocalProtocolError, ProtocolError
from postroad.protocol.imap import (
    acl,
    commands,
    context,
    fetch,
    lists,
    mailboxes,
    messages,
    metadata,
    multisearch,
    notify,
    quota,
    search,
    sort,
    thread,
    urlauth,
)
from postroad.protocol.imap.append import Grammar
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.events import (
    NEED_DATA,
    AppendData,
    AppendEnd,
    Bad,
    Continue,
    Event,
    Line,
    LiteralPart,
    MessageBegins,
    URLPart,
)
from postroad.protocol.imap.scanner import Declined, Scanner, UIDRequired
from postroad.protocol.imap.upload import Lost, Upload

PREAUTH_LINE_OCTETS_MAX = limits.SASL_MESSAGE_OCTETS_MAX * 4 // 3 + 1024
"""Before login the longest line is AUTHENTICATE with an initial response."""
PREAUTH_LITERAL_OCTETS_MAX = 4096
"""Before login literals are user names and passwords."""
DRAIN_OCTETS_MAX = 1 << 30
"""A refused literal that is coming all the same is read and dropped up to here; past it, BYE."""

TAG_OCTETS_MAX = 1000
"""Clients send some ten. Up to here it fits a quoted string, in which ESEARCH tells it again."""

_TAG_WORD = rb'([^\x00-\x20\x7f-\xff(){%%*"\\+]{1,%d})' % TAG_OCTETS_MAX
_TAG = re.compile(_TAG_WORD + b" ")
_TAG_ALONE = re.compile(_TAG_WORD + rb"(?=[ \r\n])")
_VERB = re.compile(rb"(UID )?([A-Z]+)(?=[ \r])", re.IGNORECASE)
_LITERAL = re.compile(rb"\{(\d{1,20})(\+?)\}\r?\n\Z")
_LITERAL_HEAD_MAX = 26
_UPLOAD = re.compile(_TAG_WORD + rb" (?:APPEND|(UID )?REPLACE)(?=[ \r])", re.IGNORECASE)
"""Commands with messages in them: `upload.Upload` reads them."""


class State(Enum):
    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


_Parser: TypeAlias = Callable[[bytes, Scanner, bool], Command]
_ANY = frozenset((State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED))
_BEFORE = frozenset((State.NOT_AUTHENTICATED,))
_AFTER = frozenset((State.AUTHENTICATED, State.SELECTED))
_SELECTED = frozenset((State.SELECTED,))


def _plain(make: Callable[[bytes], Command]) -> _Parser:
    def parse(tag: bytes, scan: Scanner, uid: bool) -> Command:
        scan.end()
        return make(tag)

    return parse


LEGAL: dict[bytes, tuple[frozenset[State], _Parser]] = {
    b"CAPABILITY": (_ANY, _plain(commands.Capability)),
    b"NOOP": (_ANY, _plain(commands.Noop)),
    b"LOGOUT": (_ANY, _plain(commands.Logout)),
    b"ID": (_ANY, commands.parse_id),
    b"LANGUAGE": (_ANY, commands.parse_language),
    b"STARTTLS": (_BEFORE, _plain(commands.StartTLS)),
    b"LOGIN": (_BEFORE, commands.parse_login),
    b"AUTHENTICATE": (_BEFORE, commands.parse_authenticate),
    b"ENABLE": (_AFTER, commands.parse_enable),
    b"NOTIFY": (_AFTER, notify.parse_notify),
    b"COMPRESS": (_AFTER, commands.parse_compress),
    b"UNAUTHENTICATE": (_AFTER, _plain(commands.Unauthenticate)),
    b"NAMESPACE": (_AFTER, _plain(commands.Namespace)),
    b"IDLE": (_AFTER, _plain(commands.Idle)),
    b"SELECT": (_AFTER, mailboxes.parse_select),
    b"EXAMINE": (_AFTER, mailboxes.parse_examine),
    b"CREATE": (_AFTER, mailboxes.parse_create),
    b"DELETE": (_AFTER, mailboxes.parse_delete),
    b"RENAME": (_AFTER, mailboxes.parse_rename),
    b"SUBSCRIBE": (_AFTER, mailboxes.parse_subscribe),
    b"UNSUBSCRIBE": (_AFTER, mailboxes.parse_unsubscribe),
    b"STATUS": (_AFTER, mailboxes.parse_status),
    b"SETACL": (_AFTER, acl.parse_setacl),
    b"DELETEACL": (_AFTER, acl.parse_deleteacl),
    b"GETACL": (_AFTER, acl.parse_getacl),
    b"LISTRIGHTS": (_AFTER, acl.parse_listrights),
    b"MYRIGHTS": (_AFTER, acl.parse_myrights),
    b"GETMETADATA": (_AFTER, metadata.parse_getmetadata),
    b"SETMETADATA": (_AFTER, metadata.parse_setmetadata),
    b"GETQUOTA": (_AFTER, quota.parse_getquota),
    b"GETQUOTAROOT": (_AFTER, quota.parse_getquotaroot),
    b"SETQUOTA": (_AFTER, quota.parse_setquota),
    b"GENURLAUTH": (_AFTER, urlauth.parse_genurlauth),
    b"URLFETCH": (_AFTER, urlauth.parse_urlfetch),
    b"RESETKEY": (_AFTER, urlauth.parse_resetkey),
    b"LIST": (_AFTER, lists.parse_list),
    b"LSUB": (_AFTER, lists.parse_lsub),
    b"CHECK": (_SELECTED, _plain(commands.Check)),
    b"CLOSE": (_SELECTED, _plain(commands.Close)),
    b"UNSELECT": (_SELECTED, _plain(commands.Unselect)),
    b"EXPUNGE": (_SELECTED, commands.parse_expunge),
    b"SEARCH": (_SELECTED, search.parse_search),
    b"ESEARCH": (_AFTER, multisearch.parse_esearch),
    b"SORT": (_SELECTED, sort.parse_sort),
    b"THREAD": (_SELECTED, thread.parse_thread),
    b"CANCELUPDATE": (_SELECTED, context.parse_cancelupdate),
    b"FETCH": (_SELECTED, fetch.parse_fetch),
    b"STORE": (_SELECTED, messages.parse_store),
    b"COPY": (_SELECTED, messages.parse_copy),
    b"MOVE": (_SELECTED, messages.parse_move),
}
"""Order is a table: in which states a command may come, and who reads it. APPEND and REPLACE
are apart."""
WITH_UID = frozenset(
    (b"FETCH", b"STORE", b"SEARCH", b"COPY", b"MOVE", b"EXPUNGE", b"SORT", b"THREAD", b"REPLACE")
)
"""What may stand behind `UID `; the parser is told by its last argument."""
BY_NUMBER = WITH_UID - {b"EXPUNGE"}
"""Without `UID ` they speak of sequence numbers: not after ENABLE UIDONLY (RFC 9586 §3)."""
_UPLOAD_STATES = {b"APPEND": _AFTER, b"REPLACE": _SELECTED}


class _Mode(Enum):
    COMMAND = 0
    SKIP_LINE = 1
    """A line that was too long: to its end."""
    DRAIN = 2
    """A literal nobody wants."""
    LINE = 3
    UPLOAD = 4
    """An APPEND or REPLACE, literal by literal."""


class ServerConnection:
    """`receive_data` takes octets, `next_event` gives what they mean."""

    __slots__ = (
        "_bad", "_buffer", "_left", "_line_start", "_literals", "_mode", "_scanned", "_upload",
        "enabled", "state",
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = State.NOT_AUTHENTICATED
        self.enabled: set[bytes] = set()
        """What ENABLE switched on, in capitals: some of it changes the grammar."""
        self._buffer = bytearray()
        self._mode = _Mode.COMMAND
        self._scanned = 0
        """Where to look on for the line's end."""
        self._line_start = 0
        """Where the current line of the command begins in the buffer."""
        self._literals = 0
        """Octets of literals in the current command."""
        self._left = 0
        """Octets still to come of the literal that is drained."""
        self._bad: Bad | None = None
        """The command is lost already; this is the answer when its end has come."""
        self._upload: Upload | None = None

    # -- input --------------------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        self._buffer += octets

    @property
    def has_pending(self) -> bool:
        """Octets have arrived that are not yet part of an event: the client pipelines."""
        return bool(self._buffer)

    @property
    def is_between_commands(self) -> bool:
        return self._mode is _Mode.COMMAND and not self._buffer and self._bad is None

    def forget(self) -> None:
        """After STARTTLS: nothing said in the clear counts (RFC 3501 §6.2.1)."""
        if self._buffer:
            raise LocalProtocolError("plaintext behind STARTTLS")
        self.state = State.NOT_AUTHENTICATED

    def unauthenticate(self) -> None:
        """As before login (RFC 8437 §3); what was pipelined behind it stays."""
        self.state = State.NOT_AUTHENTICATED
        self.enabled.clear()

    def expect_line(self) -> None:
        """The next line is no command: DONE, or a SASL response."""
        self._mode = _Mode.LINE

    def accept_literal(self) -> bytes:
        """The literal that a `LiteralPart` announced is wanted. Returns what to write first."""
        if self._upload is None:
            raise LocalProtocolError("there is no literal to accept")
        return self._upload.accept()

    @property
    def is_uploading(self) -> bool:
        """An Append or Replace was told, and not yet its end."""
        return self._upload is not None

    def abandon_upload(self) -> bool:
        """Nothing more of the command is wanted; what comes of it is dropped, and no event tells
        its end. False: too much is coming to wait for it."""
        upload, self._upload = self._upload, None
        if upload is None:
            raise LocalProtocolError("there is no upload to abandon")
        left, over = upload.remainder()
        if over:
            self._restart()
            return True
        self._bad = Bad(b"", "")
        if left:
            self._mode, self._left = _Mode.DRAIN, left
        else:
            self._go_on_after(upload)
        return left <= DRAIN_OCTETS_MAX

    def patience(self) -> float:
        """Seconds to wait for the next event before the connection is given up."""
        if self.state is State.NOT_AUTHENTICATED:
            return limits.IMAP_PREAUTH_TIMEOUT_S
        return limits.IMAP_IDLE_TIMEOUT_S

    # -- output -------------------------------------------------------------------------------

    def next_event(self) -> Event:
        """Raises: LocalProtocolError while an announced literal waits for its decision."""
        while True:
            match self._mode:
                case _Mode.COMMAND:
                    event = self._collect()
                case _Mode.SKIP_LINE:
                    event = self._skip_line()
                case _Mode.DRAIN:
                    event = self._drain()
                case _Mode.LINE:
                    event = self._line()
                case _Mode.UPLOAD:
                    event = self._uploading()
            if event is not None:
                return event

    def _limits(self) -> tuple[int, int]:
        if self.state is State.NOT_AUTHENTICATED:
            return PREAUTH_LINE_OCTETS_MAX, PREAUTH_LITERAL_OCTETS_MAX
        return limits.IMAP_LINE_OCTETS_MAX, limits.IMAP_LITERAL_OCTETS_MAX

    def _take(self, stop: int) -> bytes:
        """Octets up to `stop`, which leave the buffer; its memory goes when it is empty."""
        if stop == len(self._buffer):
            taken = bytes(self._buffer)
            self._buffer = bytearray()
        else:
            taken = bytes(self._buffer[:stop])
            del self._buffer[:stop]
        return taken

    def _restart(self) -> None:
        self._scanned = self._line_start = self._literals = 0
        self._mode = _Mode.COMMAND

    def _collect(self) -> Event | None:
        """Looks for the end of the current line; None: look again, in the mode there is now."""
        buffer = self._buffer
        if len(buffer) < self._line_start:
            return NEED_DATA
        line_max, _ = self._limits()
        end = buffer.find(b"\n", max(self._scanned, self._line_start)) + 1
        written = (end or len(buffer)) - self._literals
        if written > line_max:
            self._lose("The command line is too long", b"TOOBIG")
            self._mode = _Mode.SKIP_LINE
            return None
        if not end:
            self._scanned = len(buffer)
            return NEED_DATA
        if not self._line_start and self._bad is None and self._begin_upload():
            return None
        literal = None
        if buffer[end - 2 : end - 1] == b"\r":
            if buffer[end - 3 : end - 2] == b"}":
                literal = _LITERAL.search(
                    bytes(buffer[max(self._line_start, end - _LITERAL_HEAD_MAX) : end])
                )
        elif self._bad is None:
            return self._bare_line_feed(end)
        if literal is not None:
            return self._literal(end, int(literal[1]), synchronizing=not literal[2])
        text = self._take(end)
        self._restart()
        if self._bad is not None:
            return self._found_lost()
        return self._parse(text)

    def _bare_line_feed(self, end: int) -> Event:
        """RFC 3501 §2.2: lines end in CRLF. A literal announced like this is not believed."""
        text = self._take(end)
        self._restart()
        return Bad(_tag_of(text), "Lines end in CRLF", fatal=_LITERAL.search(text) is not None)

    def _lose(self, text: str, code: bytes = b"", no: bool = False) -> None:
        if self._bad is None:
            head = bytes(self._buffer[: TAG_OCTETS_MAX + 1])
            self._bad = Bad(_tag_of(head), text, code, no)

    def _found_lost(self) -> Event | None:
        """The end of a lost command: its answer, if it still wants one."""
        bad, self._bad = self._bad, None
        return bad if bad is not None and bad.tag else None

    def _literal(self, end: int, size: int, *, synchronizing: bool) -> Event | None:
        """The line ended in `{size}`."""
        _, literal_max = self._limits()
        if self._bad is None and self._literals + size > literal_max:
            self._lose("The literal is too long", b"TOOBIG", no=True)
        if self._bad is not None:
            self._take(end)
            self._restart()
            if synchronizing:
                return self._found_lost()
            if size > DRAIN_OCTETS_MAX:
                return Bad(self._bad.tag or b"*", "The literal is too long", b"TOOBIG", fatal=True)
            self._mode, self._left = _Mode.DRAIN, size
            return None
        self._literals += size
        self._scanned = self._line_start = end + size
        return Continue() if synchronizing else None

    def _begin_upload(self) -> bool:
        """Whether the command is one with messages in it, in a state where it may come."""
        match = _UPLOAD.match(self._buffer)
        if match is None:
            return False
        tag, uid = bytes(match[1]), match[2] is not None
        verb = b"REPLACE" if match[0][-1:].upper() == b"E" else b"APPEND"
        if self.state not in _UPLOAD_STATES[verb]:
            self._lose(f"{verb.decode()} is not possible when {self.state.value}")
            return False
        if verb == b"REPLACE" and not uid and b"UIDONLY" in self.enabled:
            error = UIDRequired()
            self._lose(str(error), error.code)
            return False
        self._upload = Upload(Grammar(tag, verb, uid), match.end(), self.enabled)
        self._mode = _Mode.UPLOAD
        return True

    def _uploading(self) -> Event | None:
        upload = self._upload
        assert upload is not None, "the mode says so"
        try:
            event = upload.next_event(self._buffer, self._take)
        except Lost as lost:
            self._upload = None
            self._go_on_after(upload)
            if lost.bad.fatal:
                self._bad = Bad(b"", "")
                return lost.bad
            self._bad = lost.bad
            return None
        if isinstance(event, AppendEnd):
            self._upload = None
            self._restart()
        return event

    def _go_on_after(self, upload: Upload) -> None:
        """The text of a lost command is read on from where the upload was in it."""
        self._mode = _Mode.COMMAND
        self._line_start, self._literals = upload.line_start, upload.literals
        self._scanned = upload.line_start

    def _skip_line(self) -> Event | None:
        """Drops the rest of a line that is too long, but for what may announce a literal."""
        buffer = self._buffer
        end = buffer.find(b"\n") + 1
        if not end:
            if len(buffer) > _LITERAL_HEAD_MAX:
                self._take(len(buffer) - _LITERAL_HEAD_MAX)
            return NEED_DATA
        tail = self._take(end)
        self._restart()
        literal = _LITERAL.search(tail[-_LITERAL_HEAD_MAX:])
        if literal is None or not literal[2]:
            return self._found_lost()
        self._mode, self._left = _Mode.DRAIN, int(literal[1])
        if self._left > DRAIN_OCTETS_MAX:
            return Bad(b"*", "The literal is too long", b"TOOBIG", fatal=True)
        return None

    def _drain(self) -> Event | None:
        drop = min(self._left, len(self._buffer))
        if drop:
            self._take(drop)
            self._left -= drop
        if self._left:
            return NEED_DATA
        self._restart()  # the rest of the command's line follows, and is dropped too
        return None

    def _line(self) -> Event:
        end = self._buffer.find(b"\n") + 1
        line_max, _ = self._limits()
        if end > line_max or (not end and len(self._buffer) > line_max):
            self._mode = _Mode.SKIP_LINE
            self._bad = Bad(b"", "")
            return Line(None)
        if not end:
            return NEED_DATA
        octets = self._take(end)
        self._restart()
        return Line(octets.removesuffix(b"\n").removesuffix(b"\r"))

    def _parse(self, text: bytes) -> Event:
        match = _TAG.match(text)
        if match is None:
            return Bad(_tag_of(text), "A tag and a command expected")
        tag = match[1]
        verb = _VERB.match(text, match.end())
        if verb is None:
            return Bad(tag, "A command expected")
        name, uid = verb[2].upper(), verb[1] is not None
        known = LEGAL.get(name)
        if known is None or (uid and name not in WITH_UID):
            return Bad(tag, "The command is not known")
        states, parser = known
        if self.state not in states:
            return Bad(tag, f"{name.decode()} is not possible when {self.state.value}")
        try:
            if not uid and name in BY_NUMBER and b"UIDONLY" in self.enabled:
                raise UIDRequired
            return parser(tag, Scanner(text, verb.end(), self.enabled), uid)
        except Declined as error:
            return Bad(tag, str(error), error.code, no=error.no)
        except ProtocolError as error:
            return Bad(tag, str(error))


def _tag_of(text: bytes) -> bytes:
    """What the answer to a line that is no command begins with (RFC 9051 §7.1.3)."""
    match = _TAG_ALONE.match(text)
    return match[1] if match is not None else b"*"


__all__ = [
    "NEED_DATA",
    "AppendData",
    "AppendEnd",
    "Bad",
    "Continue",
    "Event",
    "Line",
    "LiteralPart",
    "MessageBegins",
    "ServerConnection",
    "State",
    "URLPart",
]
