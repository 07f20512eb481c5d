"""Responses of an IMAP server, held to the grammar: whatever does not parse is a failure.

`Grammar` reads one response; `Watcher` cuts what a server sends into responses and reads each.
Written from the ABNF alone, and shares no code with the server.
Source: RFC 3501 §9, RFC 9051 §9, and the formal syntax of the extensions: RFC 2971, 4314, 4315,
4466, 4467, 4469, 4731, 5255, 5256, 5258, 5267, 5464, 5465, 5466, 5524, 5530, 6154, 6203, 7162,
7888, 8437, 8474, 8508, 8514, 8970, 9208, 9394, 9585, 9586, 9590, 9738.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import datetime

_LITERAL_END = re.compile(rb"~?\{(\d+)\}\r\n\Z")
_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_ASTRING = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\x00]|\\["\\])*)"')
_LITERAL = re.compile(rb"(~?)\{(\d+)\}\r\n")
_NUMBER = re.compile(rb"\d+")
_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]+')
_SET = re.compile(rb"[1-9]\d*(?::[1-9]\d*)?(?:,[1-9]\d*(?::[1-9]\d*)?)*")
_TEXT = re.compile(rb"[^\x00\r\n]*\Z")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_FLAG = re.compile(rb'\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_OBJECT = re.compile(rb"\(([A-Za-z0-9_-]{1,255})\)")
_DATE_TIME = re.compile(rb'"([ \d]\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d [+-]\d{4})"')
_SECTION = re.compile(
    rb"(?:[1-9]\d*(?:\.[1-9]\d*)*(?:\.(?=[A-Z]))?)?"
    rb"(?:HEADER(?:\.FIELDS(?:\.NOT)? (?=\())?|TEXT|MIME)?"
)
_BINARY_SECTION = re.compile(rb"\[(?:[1-9]\d*(?:\.[1-9]\d*)*)?\]")
_PARTIAL = re.compile(rb"-[1-9]\d*:-[1-9]\d*|[1-9]\d*:[1-9]\d*")
_RIGHTS = re.compile(rb"[a-z0-9]+\Z")
_SHIFT = re.compile(rb"&([A-Za-z0-9+,]*)-")
_URL = re.compile(rb"[\x21-\x5c\x5e-\x7e]+")
_STATUS = frozenset(
    b"MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ APPENDLIMIT "
    b"DELETED-STORAGE".split()
)
_PLAIN_CODES = frozenset(
    b"ALERT PARSE READ-ONLY READ-WRITE TRYCREATE UIDNOTSTICKY UNAVAILABLE AUTHENTICATIONFAILED "
    b"AUTHORIZATIONFAILED EXPIRED PRIVACYREQUIRED CONTACTADMIN NOPERM INUSE EXPUNGEISSUED "
    b"CORRUPTION SERVERBUG CLIENTBUG CANNOT LIMIT OVERQUOTA ALREADYEXISTS NONEXISTENT NOTSAVED "
    b"HASCHILDREN CLOSED UNKNOWN-CTE NOMODSEQ COMPRESSIONACTIVE USEATTR TOOBIG UIDREQUIRED "
    b"NOTIFICATIONOVERFLOW".split()
)
_NUMBER_CODES = {
    b"UIDNEXT": 0xFFFF_FFFF, b"UIDVALIDITY": 0xFFFF_FFFF, b"UNSEEN": 0xFFFF_FFFF,
    b"HIGHESTMODSEQ": (1 << 63) - 1,
}  # fmt: skip


class NotGrammar(AssertionError):
    """The server said something that no client need understand."""


class Grammar:
    """One response, its literals in it, without the last CRLF.

    utf8: quoted strings may hold UTF-8, mailbox names are UTF-8. texts_utf8: so may human text.
    """

    def __init__(self, octets: bytes, *, utf8: bool = False, texts_utf8: bool = False) -> None:
        self.octets = octets
        self.utf8 = utf8
        self.texts_utf8 = texts_utf8 or utf8
        self.at = 0

    # -- pieces -------------------------------------------------------------------------------

    def fail(self, what: str) -> NotGrammar:
        here = self.octets[self.at : self.at + 60]
        return NotGrammar(f"{what} expected at {self.at}, {here!r}, of {self.octets[:1000]!r}")

    def match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        found = pattern.match(self.octets, self.at)
        if found is None:
            raise self.fail(what)
        self.at = found.end()
        return found

    def skip(self, octets: bytes) -> bool:
        if self.octets.startswith(octets, self.at):
            self.at += len(octets)
            return True
        return False

    def want(self, octets: bytes) -> None:
        if not self.skip(octets):
            raise self.fail(repr(octets))

    def peek(self, octets: bytes) -> bool:
        return self.octets.startswith(octets, self.at)

    @property
    def is_over(self) -> bool:
        return self.at == len(self.octets)

    def number(self, *, low: int = 0, high: int = 0xFFFF_FFFF) -> int:
        value = int(self.match(_NUMBER, "a number")[0])
        if not low <= value <= high:
            raise self.fail(f"a number from {low} to {high}, not {value},")
        return value

    def several(self, one: Callable[[], object], *, none: bool = False) -> None:
        """`(one one ...)`; none: perhaps empty."""
        self.want(b"(")
        if none and self.skip(b")"):
            return
        one()
        while self.skip(b" "):
            one()
        self.want(b")")

    def is_string(self) -> bool:
        return self.octets[self.at : self.at + 1] in (b'"', b"{")

    def string(self, *, binary: bool = False) -> bytes:
        quoted = _QUOTED.match(self.octets, self.at)
        if quoted is not None:
            if not quoted[1].isascii():
                if not self.utf8:
                    raise self.fail("a quoted string of ASCII")
                self.text8(quoted[1])
            self.at = quoted.end()
            return re.sub(rb"\\(.)", rb"\1", quoted[1])
        head = self.match(_LITERAL, "a string")
        if head[1] and not binary:
            raise self.fail("a string that is no literal8")
        size = int(head[2])
        octets = self.octets[self.at : self.at + size]
        if len(octets) != size or (b"\0" in octets and not head[1]):
            raise self.fail("a literal of its size, without NUL,")
        self.at += size
        return octets

    def text8(self, octets: bytes) -> None:
        try:
            octets.decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail("UTF-8") from None

    def nil(self) -> bool:
        return self.skip(b"NIL")

    def nstring(self, *, binary: bool = False) -> bytes | None:
        return None if self.nil() else self.string(binary=binary)

    def atom(self, what: str = "an atom") -> bytes:
        return self.match(_ATOM, what)[0]

    def astring(self) -> bytes:
        if self.is_string():
            return self.string()
        return self.match(_ASTRING, "an astring")[0]

    def mailbox(self) -> bytes:
        name = self.astring()
        if self.utf8:
            self.text8(name)
            return name
        if not name.isascii() or re.search(rb"[\x00-\x1f\x7f]", name):
            raise self.fail("a mailbox name in modified UTF-7")
        if b"&" in _SHIFT.sub(b"", name):
            raise self.fail("a mailbox name with whole shifts")
        for body in _SHIFT.findall(name):
            if body:
                padded = body.replace(b",", b"/") + b"=" * (-len(body) % 4)
                text = base64.b64decode(padded, validate=True).decode("utf-16-be")
                if not text or all("\x20" <= letter <= "\x7e" for letter in text):
                    raise self.fail("a mailbox name that shifts only where it must")
        return name

    def flag(self) -> bytes:
        return self.match(_FLAG, "a flag")[0]

    def flag_perm(self) -> None:
        if not self.skip(b"\\*"):
            self.flag()

    def set(self) -> None:
        found = self.match(_SET, "a set of numbers")[0]
        if max(map(int, re.findall(rb"\d+", found))) > 0xFFFF_FFFF:
            raise self.fail("numbers of 32 bits")

    def modseq(self, *, low: int = 1) -> None:
        self.number(low=low, high=(1 << 63) - 1)

    def date_time(self) -> None:
        found = self.match(_DATE_TIME, "a date-time")[1]
        datetime.strptime(found.decode().strip(), "%d-%b-%Y %H:%M:%S %z")

    # -- responses ----------------------------------------------------------------------------

    def response(self) -> bytes:
        """The whole. Returns its word: OK, FETCH, LIST, `+` ..."""
        if self.skip(b"+ "):
            if _BASE64.match(self.octets, self.at) is None:
                self.resp_text()
            else:
                self.at = len(self.octets)
            return b"+"
        if self.skip(b"* "):
            word = self.untagged()
        else:
            self.match(_TAG, "a tag")
            self.want(b" ")
            word = self.atom()
            if word not in (b"OK", b"NO", b"BAD"):
                raise self.fail("OK, NO or BAD")
            self.want(b" ")
            self.resp_text()
        if not self.is_over:
            raise self.fail("the end")
        return word

    def untagged(self) -> bytes:
        if self.octets[self.at : self.at + 1].isdigit():
            return self.numbered()
        word = self.atom()
        if word in (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"):
            self.want(b" ")
            self.resp_text()
            return word
        read = getattr(self, "on_" + word.lower().decode(), None)
        if read is None:
            raise self.fail("a response that is known")
        read()
        return word

    def numbered(self) -> bytes:
        number = self.number()
        self.want(b" ")
        word = self.atom()
        if word in (b"EXPUNGE", b"FETCH", b"UIDFETCH") and not number:
            raise self.fail("a number above 0")
        if word in (b"FETCH", b"UIDFETCH"):
            self.want(b" ")
            self.several(self.fetched)
        elif word not in (b"EXISTS", b"RECENT", b"EXPUNGE"):
            raise self.fail("EXISTS, RECENT, EXPUNGE or FETCH")
        return word

    def resp_text(self) -> None:
        if self.skip(b"["):
            self.code()
            self.want(b"]")
            if not self.is_over:
                self.want(b" ")
        text = self.match(_TEXT, "text without NUL, CR and LF")[0]
        if not text.isascii():
            if not self.texts_utf8:
                raise self.fail("text of ASCII")
            self.text8(text)
        if not text and b"]" not in self.octets:
            raise self.fail("text")

    def code(self) -> None:
        word = self.atom("a response code")
        if word in _PLAIN_CODES:
            return
        if word in _NUMBER_CODES:
            self.want(b" ")
            self.number(low=1, high=_NUMBER_CODES[word])
            return
        read = getattr(self, "code_" + word.lower().replace(b"-", b"_").decode(), None)
        if read is None:
            raise self.fail(f"a response code that is known, not {word!r},")
        read()

    def code_badcharset(self) -> None:
        if self.skip(b" "):
            self.several(self.astring)

    def code_capability(self) -> None:
        self.words()

    def code_permanentflags(self) -> None:
        self.want(b" ")
        self.several(self.flag_perm, none=True)

    def code_appenduid(self) -> None:
        self.want(b" ")
        self.number(low=1)
        self.want(b" ")
        self.set()

    def code_copyuid(self) -> None:
        self.code_appenduid()
        self.want(b" ")
        self.set()

    def code_modified(self) -> None:
        self.want(b" ")
        self.set()

    def code_mailboxid(self) -> None:
        self.want(b" ")
        self.match(_OBJECT, "an object id")

    def code_badurl(self) -> None:
        self.want(b" ")
        self.match(_URL, "a URL without ]")

    def code_urlmech(self) -> None:
        self.want(b" INTERNAL")
        while self.skip(b" "):
            self.match(re.compile(rb"[A-Za-z0-9.-]+(?:=[A-Za-z0-9+/=]+)?"), "a mechanism")

    def code_undefined_filter(self) -> None:
        self.want(b" ")
        self.atom()

    def code_noupdate(self) -> None:
        self.want(b" ")
        if self.octets[self.at : self.at + 1] != b'"':
            raise self.fail("a quoted tag")
        self.string()

    def code_badevent(self) -> None:
        self.want(b" ")
        self.several(self.atom)

    def code_metadata(self) -> None:
        self.want(b" ")
        if self.skip(b"LONGENTRIES ") or self.skip(b"MAXSIZE "):
            self.number()
        elif not (self.skip(b"TOOMANY") or self.skip(b"NOPRIVATE")):
            raise self.fail("LONGENTRIES, MAXSIZE, TOOMANY or NOPRIVATE")

    def code_inprogress(self) -> None:
        if not self.skip(b" ("):
            return
        if not self.nil():
            self.string()
        self.want(b" ")
        if not self.nil():
            self.number()
        self.want(b" ")
        if not self.nil():
            self.number()
        self.want(b")")

    def code_messagelimit(self) -> None:
        self.want(b" ")
        self.number(low=1)
        if self.skip(b" "):
            self.number(low=1)

    # -- server and mailboxes -----------------------------------------------------------------

    def words(self) -> None:
        while self.skip(b" "):
            self.atom("a capability")

    on_capability = on_enabled = words

    def on_flags(self) -> None:
        self.want(b" ")
        self.several(self.flag, none=True)

    def on_list(self) -> None:
        self.want(b" ")
        self.several(lambda: self.match(re.compile(rb"\\[A-Za-z-]+"), "an attribute"), none=True)
        self.want(b" ")
        if not self.nil():
            self.match(re.compile(rb'"(?:[^"\\\r\n\x00\x80-\xff]|\\["\\])"'), "a separator")
        self.want(b" ")
        self.mailbox()
        if self.skip(b" "):
            self.several(self.list_extended, none=True)

    on_lsub = on_list

    def list_extended(self) -> None:
        name = self.astring()
        self.want(b" ")
        if name == b"CHILDINFO":
            self.several(lambda: self.match(_QUOTED, "a quoted option"))
        elif name == b"OLDNAME":
            self.want(b"(")
            self.mailbox()
            self.want(b")")
        else:
            raise self.fail(f"an extended item that is known, not {name!r},")

    def on_status(self) -> None:
        self.want(b" ")
        self.mailbox()
        self.want(b" ")
        self.several(self.status_item, none=True)

    def status_item(self) -> None:
        item = self.atom()
        self.want(b" ")
        if item == b"MAILBOXID":
            self.match(_OBJECT, "an object id")
        elif item == b"APPENDLIMIT" and self.nil():
            return
        elif item in _STATUS:
            wide = item in (b"SIZE", b"HIGHESTMODSEQ", b"DELETED-STORAGE")
            self.number(
                low=item in (b"UIDVALIDITY", b"UIDNEXT"),
                high=(1 << 63) - 1 if wide else 0xFFFF_FFFF,
            )
        else:
            raise self.fail(f"a status item that is known, not {item!r},")

    def on_namespace(self) -> None:
        for _ in range(3):
            self.want(b" ")
            if self.nil():
                continue
            self.want(b"(")
            while True:
                self.want(b"(")
                self.string()
                self.want(b' "/")')
                if self.skip(b")"):
                    break

    def on_id(self) -> None:
        self.want(b" ")
        if self.nil():
            return
        names: list[bytes] = []

        def pair() -> None:
            names.append(self.string().lower())
            self.want(b" ")
            value = self.nstring()
            if len(names[-1]) > 30 or len(value or b"") > 1024:
                raise self.fail("names of 30 octets, values of 1024")

        self.several(pair, none=True)
        if len(names) > 30 or len(names) != len(set(names)):
            raise self.fail("30 fields, each once,")

    def rights(self) -> None:
        found = self.astring()
        if found and _RIGHTS.match(found) is None:
            raise self.fail("rights")

    def on_acl(self) -> None:
        self.want(b" ")
        self.mailbox()
        while self.skip(b" "):
            self.astring()
            self.want(b" ")
            self.rights()

    def on_listrights(self) -> None:
        self.want(b" ")
        self.mailbox()
        self.want(b" ")
        self.astring()
        self.want(b" ")
        self.rights()
        while self.skip(b" "):
            self.rights()

    def on_myrights(self) -> None:
        self.want(b" ")
        self.mailbox()
        self.want(b" ")
        self.rights()

    def on_quota(self) -> None:
        def resource() -> None:
            self.atom()
            self.want(b" ")
            self.number(high=(1 << 63) - 1)
            self.want(b" ")
            self.number(high=(1 << 63) - 1)

        self.want(b" ")
        self.astring()
        self.want(b" ")
        self.several(resource, none=True)

    def on_quotaroot(self) -> None:
        self.want(b" ")
        self.mailbox()
        while self.skip(b" "):
            self.astring()

    def entry(self) -> None:
        entry = self.astring()
        if re.match(rb"/(?:shared|private)(?:/|\Z)", entry, re.IGNORECASE) is None:
            raise self.fail("an entry name")

    def on_metadata(self) -> None:
        def pair() -> None:
            self.entry()
            self.want(b" ")
            self.nstring(binary=True)

        self.want(b" ")
        self.mailbox()
        self.want(b" ")
        if self.peek(b"("):
            self.several(pair)
            return
        self.entry()
        while self.skip(b" "):
            self.entry()

    def on_language(self) -> None:
        self.want(b" ")
        self.several(self.astring)

    def on_comparator(self) -> None:
        self.want(b" ")
        self.string()
        if self.skip(b" "):
            self.several(self.string)

    def on_genurlauth(self) -> None:
        self.want(b" ")
        self.astring()
        while self.skip(b" "):
            self.astring()

    def on_urlfetch(self) -> None:
        while self.skip(b" "):
            self.astring()
            self.want(b" ")
            if self.peek(b"("):
                self.url_items()
            else:
                self.nstring()

    def url_items(self) -> None:
        """RFC 5524 §5."""
        while self.skip(b"("):
            item = self.atom()
            self.want(b" ")
            if item == b"BODYPARTSTRUCTURE":
                if not self.nil():
                    self.body(extensible=True)
            elif item in (b"BODY", b"BINARY"):
                self.nstring(binary=item == b"BINARY")
            else:
                raise self.fail("BODY, BINARY or BODYPARTSTRUCTURE")
            self.want(b")")
            if self.octets[self.at : self.at + 2] != b" (":
                return
            self.want(b" ")
        raise self.fail("an item in parentheses")

    # -- results ------------------------------------------------------------------------------

    def on_search(self) -> None:
        while self.skip(b" "):
            if self.skip(b"(MODSEQ "):
                self.modseq()
                self.want(b")")
                return
            self.number(low=1)

    on_sort = on_search

    def on_thread(self) -> None:
        if not self.skip(b" "):
            return
        while not self.is_over:
            self.thread()

    def thread(self) -> None:
        """`(` members, then perhaps two threads or more that branch `)` (RFC 5256 §5). Without
        recursion: a thread may be as deep as it is long."""
        branches: list[int] = []
        while True:
            if not self.skip(b"("):
                self.want(b")")
                if branches.pop() == 1:
                    raise self.fail("two branches or none")
                if not branches:
                    return
                continue
            if branches:
                branches[-1] += 1
            branches.append(0)
            if self.peek(b"("):
                continue
            self.number(low=1)
            while self.skip(b" ") and not self.peek(b"("):
                self.number(low=1)
            if self.octets[self.at - 1 : self.at + 1] != b" (" and not self.peek(b")"):
                raise self.fail("a closing parenthesis")

    def on_esearch(self) -> None:
        if self.skip(b" ("):
            self.want(b"TAG ")
            if not self.is_string():
                raise self.fail("the tag as a string")
            self.string()
            if self.skip(b" MAILBOX "):
                self.mailbox()
                self.want(b" UIDVALIDITY ")
                self.number(low=1)
            self.want(b")")
        self.skip(b" UID")
        seen: set[bytes] = set()
        while self.skip(b" "):
            item = self.atom()
            if item in seen and item not in (b"ADDTO", b"REMOVEFROM"):
                raise self.fail(f"{item!r} once")
            seen.add(item)
            self.want(b" ")
            self.result(item)

    def result(self, item: bytes) -> None:
        match item:
            case b"MIN" | b"MAX":
                self.number(low=1)
            case b"COUNT":
                self.number()
            case b"ALL":
                self.set()
            case b"MODSEQ":
                self.modseq()
            case b"PARTIAL":
                self.want(b"(")
                self.match(_PARTIAL, "a range")
                self.want(b" ")
                if not self.nil():
                    self.set()
                self.want(b")")
            case b"RELEVANCY":
                self.several(lambda: self.number(low=1, high=100), none=True)
            case b"ADDTO" | b"REMOVEFROM":
                self.several(self.moved)
            case _:
                raise self.fail(f"a result that is known, not {item!r},")

    def moved(self) -> None:
        self.number()
        self.want(b" ")
        self.set()

    def on_vanished(self) -> None:
        self.skip(b" (EARLIER)")
        self.want(b" ")
        self.set()

    # -- messages -----------------------------------------------------------------------------

    def fetched(self) -> None:
        name = self.match(re.compile(rb"[A-Z0-9.]+"), "an item")[0]
        if name == b"BODY" and self.skip(b"["):
            self.section()
            self.origin()
            self.want(b" ")
            self.nstring()
            return
        if name in (b"BINARY", b"BINARY.SIZE"):
            self.match(_BINARY_SECTION, "a section of BINARY")
            if name == b"BINARY":
                self.origin()
        self.want(b" ")
        match name:
            case b"FLAGS":
                self.several(self.flag, none=True)
            case b"INTERNALDATE":
                self.date_time()
            case b"RFC822" | b"RFC822.HEADER" | b"RFC822.TEXT":
                self.nstring()
            case b"RFC822.SIZE" | b"BINARY.SIZE":
                self.number(high=(1 << 63) - 1)
            case b"ENVELOPE":
                self.envelope()
            case b"BODY" | b"BODYSTRUCTURE":
                self.body(extensible=name == b"BODYSTRUCTURE")
            case b"UID":
                self.number(low=1)
            case b"MODSEQ":
                self.want(b"(")
                self.modseq()
                self.want(b")")
            case b"BINARY" | b"PREVIEW":
                self.nstring(binary=name == b"BINARY")
            case b"EMAILID" | b"THREADID":
                if name == b"EMAILID" or not self.nil():
                    self.match(_OBJECT, "an object id")
            case b"SAVEDATE":
                if not self.nil():
                    self.date_time()
            case _:
                raise self.fail(f"an item that is known, not {name!r},")

    def section(self) -> None:
        found = self.match(_SECTION, "a section")[0]
        if found.endswith(b" "):
            self.several(self.astring)
        self.want(b"]")

    def origin(self) -> None:
        if self.skip(b"<"):
            self.number()
            self.want(b">")

    def envelope(self) -> None:
        self.want(b"(")
        self.nstring()
        self.want(b" ")
        self.nstring()
        for _ in range(6):
            self.want(b" ")
            self.addresses()
        for _ in range(2):
            self.want(b" ")
            self.nstring()
        self.want(b")")

    def addresses(self) -> None:
        if self.nil():
            return
        self.want(b"(")
        while True:
            self.want(b"(")
            for count in range(4):
                if count:
                    self.want(b" ")
                self.nstring()
            self.want(b")")
            if self.skip(b")"):
                return

    def body(self, *, extensible: bool) -> None:
        self.want(b"(")
        if self.peek(b"("):
            while self.peek(b"("):
                self.body(extensible=extensible)
            self.want(b" ")
            self.string()
            if extensible and self.skip(b" "):
                self.parameters()
                self.extensions()
        else:
            self.part(extensible=extensible)
        self.want(b")")

    def part(self, *, extensible: bool) -> None:
        kind = self.string().upper()
        self.want(b" ")
        kind += b"/" + self.string().upper()
        self.want(b" ")
        self.parameters()
        for _ in range(2):
            self.want(b" ")
            self.nstring()
        self.want(b" ")
        self.string()
        self.want(b" ")
        self.number(high=(1 << 63) - 1)
        if kind in (b"MESSAGE/RFC822", b"MESSAGE/GLOBAL") and self.skip(b" ("):
            self.at -= 1
            self.envelope()
            self.want(b" ")
            self.body(extensible=extensible)
            self.want(b" ")
            self.number(high=(1 << 63) - 1)
        elif kind == b"MESSAGE/RFC822" or kind.startswith(b"TEXT/"):
            self.want(b" ")
            self.number(high=(1 << 63) - 1)
        if extensible and self.skip(b" "):
            self.nstring()
            self.extensions()

    def parameters(self) -> None:
        def pair() -> None:
            self.string()
            self.want(b" ")
            self.string()

        if not self.nil():
            self.several(pair)

    def extensions(self) -> None:
        """Disposition, language, location: each only behind the one before."""
        if not self.skip(b" "):
            return
        if not self.nil():
            self.want(b"(")
            self.string()
            self.want(b" ")
            self.parameters()
            self.want(b")")
        if not self.skip(b" "):
            return
        if self.peek(b"("):
            self.several(self.string)
        else:
            self.nstring()
        if self.skip(b" "):
            self.nstring()


class Watcher:
    """Everything a server says on one connection, from its greeting on.

    `sent` takes what the client says: of it only COMPRESS and UNAUTHENTICATE matter.
    """

    def __init__(self) -> None:
        self.utf8 = self.texts_utf8 = False
        self._unread = b""
        self._start = self._next = 0
        self._opaque: dict[bytes, bytes] = {}
        self._is_over = False
        self.count = 0

    def sent(self, octets: bytes) -> None:
        for found in re.finditer(
            rb"(?:\A|\n)(\S+) (COMPRESS|UNAUTHENTICATE|STARTTLS)\b", octets, re.IGNORECASE
        ):
            self._opaque[found[1]] = found[2].upper()

    def received(self, octets: bytes) -> None:
        """Raises: NotGrammar."""
        self._unread += octets
        while not self._is_over:
            if len(self._unread) < self._next:
                return
            end = self._unread.find(b"\r\n", self._next)
            if end < 0:
                return
            literal = _LITERAL_END.search(self._unread[self._next : end + 2])
            if literal is not None:
                self._next = end + 2 + int(literal[1])
                continue
            response, self._unread = self._unread[:end], self._unread[end + 2 :]
            self._next = 0
            self.response(response)

    def response(self, octets: bytes) -> None:
        """One response, without the last CRLF. Raises: NotGrammar."""
        self.count += 1
        Grammar(octets, utf8=self.utf8, texts_utf8=self.texts_utf8).response()
        if octets.startswith(b"* ENABLED"):
            words = octets.upper().split()
            self.utf8 = self.utf8 or b"UTF8=ACCEPT" in words or b"IMAP4REV2" in words
        elif octets.startswith(b"* LANGUAGE"):
            self.texts_utf8 = True
        tag, _, answer = octets.partition(b" ")
        match self._opaque.pop(tag, b"") if answer[:3] == b"OK " else b"":
            case b"COMPRESS" | b"STARTTLS":
                self._is_over = True
            case b"UNAUTHENTICATE":
                self.utf8 = self.texts_utf8 = False

    def ended(self) -> None:
        """The connection has ended. Raises: NotGrammar."""
        if self._unread and not self._is_over:
            raise NotGrammar(f"the server ended within {self._unread[:200]!r}")
