"""Many IMAP clients at once, each sending random valid commands and checking every answer.

A client keeps its picture of the selected mailbox from untagged responses alone. All clients share
a record of what can never change of a message (size, dates, structure, its octets) by mailbox,
UIDVALIDITY and UID. Works against any IMAP server on loopback that takes LOGIN in the clear.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from support.raw_imap import Value, values
from support.strict import NotGrammar, Watcher

Act: TypeAlias = Callable[[], Awaitable[None]]
_LITERAL = re.compile(rb"~?\{(\d+)\+?\}\r\n\Z")
_FLAGS = (b"\\Seen", b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Draft", b"$Work", b"urgent")
_STATIC = (b"RFC822.SIZE", b"INTERNALDATE", b"ENVELOPE", b"BODYSTRUCTURE", b"BODY", b"BODY[]")
_STATIC += (b"EMAILID", b"THREADID", b"BODY[HEADER]", b"BODY[TEXT]", b"BINARY.SIZE[1]", b"PREVIEW")


class Wrong(AssertionError):
    """The server said something that cannot be; the text holds the last of the dialog."""


def mail(number: int) -> bytes:
    """One of some distinct messages: plain, alternative, with an attachment, with odd headers."""
    head = (
        f"From: Sender {number} <s{number}@x.example>\r\nTo: ann@x.example\r\n"
        f"Subject: {'Re: ' if number % 3 else ''}topic {number % 5}\r\n"
        f"Date: Mon, {1 + number % 28} Jun 2026 10:{number % 60:02}:00 +0200\r\n"
        f"Message-ID: <{number}@x.example>\r\n"
    ).encode()
    if number % 3:
        head += b"References: <%d@x.example>\r\nIn-Reply-To: <%d@x.example>\r\n" % (
            number % 5, number % 5,
        )  # fmt: skip
    text = b"line %d of the text\r\n" % number * (1 + number % 40)
    if number % 4 == 0:
        return head + b"\r\n" + text
    border = b"b%d" % number
    part = b"--%b\r\nContent-Type: text/%b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n"
    first = part % (border, b"plain", b"8bit", text)
    second = part % (border, b"html", b"base64", b"PGI+aGk8L2I+")
    kind = b"Content-Type: multipart/alternative; boundary=%b\r\n\r\n" % border
    return head + kind + first + second + b"--%b--\r\n" % border


@dataclass(slots=True)
class Record:
    """What all clients know together. facts: (mailbox, uidvalidity, uid, item) -> its value."""

    facts: dict[tuple[bytes, int, int, bytes], object] = field(default_factory=dict)
    top: dict[tuple[bytes, int], int] = field(default_factory=dict)
    """The highest UID of a mailbox that anybody heard to be gone."""
    commands: dict[str, int] = field(default_factory=dict)

    def fact(self, key: tuple[bytes, int, int, bytes], value: object) -> None:
        known = self.facts.setdefault(key, value)
        if known != value:
            raise Wrong(f"{key} was {known!r} and is {value!r}")


class Client:
    """One session. `act` sends one random command, or a few pipelined ones."""

    def __init__(self, port: int, login: bytes, record: Record, seed: int, boxes: list[bytes]):
        self.port, self.login, self.record = port, login, record
        self.dice = random.Random(seed)
        self.boxes = boxes
        self.dialog: list[bytes] = []
        self.tag = 0
        self.mode: frozenset[bytes] = frozenset()
        self.offered: frozenset[bytes] = frozenset()
        self.watcher = Watcher()
        """Each response is held to the grammar."""
        self._resynchronised: dict[int, frozenset[bytes]] = {}
        """What the last QRESYNC told."""
        self.forget()

    def forget(self) -> None:
        self.mailbox = b""
        self.uidvalidity = 0
        self.uids: list[int] = []
        """0: not known yet."""
        self.flags: dict[int, frozenset[bytes]] = {}
        self.modseqs: dict[int, int] = {}
        self.uidnext = 0
        self.highest = 0
        self.may_expunge = True

    def wrong(self, text: str) -> Wrong:
        tail = b"\n".join(line[:300] for line in self.dialog[-25:]).decode("utf-8", "replace")
        return Wrong(f"{text}\nmode {sorted(self.mode)}, mailbox {self.mailbox!r}\n{tail}")

    # -- the wire -----------------------------------------------------------------------------

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, limit=1 << 24
        )
        self.forget()
        self.watcher = Watcher()
        await self.response()
        await self.ok(b"LOGIN " + self.login)
        out = await self.ok(b"CAPABILITY")
        self.offered = frozenset(out[0].upper().split()[2:])
        wanted = {
            b"CONDSTORE": b"CONDSTORE", b"QRESYNC": b"QRESYNC", b"IMAP4REV2": b"IMAP4rev2",
            b"UIDONLY": b"UIDONLY",
        }  # fmt: skip
        mode = frozenset(
            name
            for name, chance in zip(wanted, (0.3, 0.3, 0.2, 0.15), strict=True)
            if name in self.offered and self.dice.random() < chance
        )
        if mode:
            await self.ok(b"ENABLE " + b" ".join(wanted[name] for name in sorted(mode)))
        self.mode = mode

    async def close(self) -> None:
        self.writer.close()

    async def response(self) -> bytes:
        out = b""
        while True:
            line = await asyncio.wait_for(self.reader.readline(), 60)
            if not line.endswith(b"\r\n"):
                raise self.wrong(f"the connection ends: {out + line!r}")
            out += line
            literal = _LITERAL.search(line)
            if literal is None:
                self.dialog.append(b"S: " + out[:2000])
                del self.dialog[:-60]
                try:
                    self.watcher.response(out[:-2])
                except NotGrammar as error:
                    raise self.wrong(str(error)) from error
                return out[:-2]
            out += await asyncio.wait_for(self.reader.readexactly(int(literal[1])), 60)

    def send(self, command: bytes) -> bytes:
        self.tag += 1
        tag = b"s%d" % self.tag
        self.dialog.append(b"C: " + tag + b" " + command[:500])
        self.writer.write(tag + b" " + command + b"\r\n")
        verb = command.removeprefix(b"UID ").split(b" ")[0].decode()
        self.record.commands[verb] = self.record.commands.get(verb, 0) + 1
        return tag

    async def until(self, tag: bytes) -> list[bytes]:
        """Responses up to the tagged one, all taken in; the tagged one last, without tag."""
        out = []
        while True:
            line = await self.response()
            if line.startswith(tag + b" "):
                out.append(line[len(tag) + 1 :])
                return out
            if line.startswith(b"s") and re.match(rb"s\d+ ", line):
                raise self.wrong(f"{line!r} where {tag!r} was to come")
            self.take(line)
            out.append(line)

    def _check(self, answer: bytes, command: bytes) -> None:
        if not answer.startswith((b"OK", b"NO")) or b"SERVERBUG" in answer:
            raise self.wrong(f"{command[:200]!r} was answered {answer!r}")

    async def ask(self, command: bytes, *, expunges: bool = True) -> list[bytes]:
        self.may_expunge = expunges
        tag = self.send(command)
        out = await self.until(tag)
        self.may_expunge = True
        self._check(out[-1], command)
        return out

    async def ok(self, command: bytes) -> list[bytes]:
        out = await self.ask(command)
        if not out[-1].startswith(b"OK"):
            raise self.wrong(f"{command[:200]!r} was answered {out[-1]!r}")
        return out

    # -- the picture --------------------------------------------------------------------------

    def take(self, line: bytes) -> None:
        if found := re.match(rb"\* (\d+) EXISTS\Z", line):
            self._exists(int(found[1]))
        elif found := re.match(rb"\* (\d+) EXPUNGE\Z", line):
            self._expunged(int(found[1]))
        elif found := re.match(rb"\* VANISHED (\(EARLIER\) )?([\d,:]+)\Z", line):
            self._vanished(expand(found[2]), earlier=found[1] is not None)
        elif found := re.match(rb"\* (\d+) (FETCH|UIDFETCH) ", line):
            items = values(line[found.end() :])[0]
            assert isinstance(items, list)
            self._fetched(int(found[1]), found[2] == b"UIDFETCH", items)
        elif line.startswith(b"* BYE"):
            raise self.wrong(f"{line!r}")

    def _exists(self, count: int) -> None:
        if count < len(self.uids):
            raise self.wrong(f"{count} EXISTS, but {len(self.uids)} were there")
        self.uids += [0] * (count - len(self.uids))

    def _expunged(self, number: int) -> None:
        if self.mode & {b"QRESYNC", b"UIDONLY"}:
            raise self.wrong("EXPUNGE where VANISHED is demanded")
        if not self.may_expunge:
            raise self.wrong("EXPUNGE inside a command by sequence numbers")
        if not 1 <= number <= len(self.uids):
            raise self.wrong(f"EXPUNGE of {number} of {len(self.uids)}")
        uid = self.uids.pop(number - 1)
        if uid:
            self._left(uid)

    def _vanished(self, gone: list[int], *, earlier: bool) -> None:
        if not self.mode & {b"QRESYNC", b"UIDONLY"}:
            raise self.wrong("VANISHED that nobody asked for")
        if not earlier and not self.may_expunge and b"UIDONLY" not in self.mode:
            raise self.wrong("VANISHED inside a command by sequence numbers")
        for uid in gone:
            if uid in self.uids:
                self.uids.remove(uid)
                self._left(uid)
            elif not earlier:
                at = self._place_of(uid)
                if at is None:
                    raise self.wrong(f"VANISHED {uid}, which was not there")
                del self.uids[at]
                self._left(uid)

    def _place_of(self, uid: int) -> int | None:
        """A place whose UID is not known and can be this one: between a lower and a higher.
        Who hears no numbers knows no places."""
        if b"UIDONLY" in self.mode:
            return self.uids.index(0) if 0 in self.uids else None
        above = next((at for at, known in enumerate(self.uids) if known > uid), len(self.uids))
        below = max((at for at in range(above) if self.uids[at]), default=-1)
        return below + 1 if below + 1 < above else None

    def _left(self, uid: int) -> None:
        box = (self.mailbox, self.uidvalidity)
        self.record.top[box] = max(self.record.top.get(box, 0), uid)
        self.flags.pop(uid, None)

    def _fetched(self, number: int, by_uid: bool, items: list[Value]) -> None:
        pairs: dict[bytes, Value] = {}
        for name, value in zip(items[::2], items[1::2], strict=True):
            assert isinstance(name, bytes)
            pairs[name.upper()] = value
        if by_uid:
            if b"UIDONLY" not in self.mode:
                raise self.wrong("UIDFETCH that nobody asked for")
            uid = number
            if uid not in self.uids:
                unknown = [at for at, known in enumerate(self.uids) if not known]
                if not unknown:
                    raise self.wrong(f"UIDFETCH of {uid}, which is not there")
                self.uids[unknown[0]] = uid
                self.uids.sort(key=lambda known: known or 1 << 40)
        else:
            uid = self._numbered(number, pairs)
        if uid:
            self._learn(uid, pairs)

    def _numbered(self, number: int, pairs: dict[bytes, Value]) -> int:
        if b"UIDONLY" in self.mode:
            raise self.wrong("FETCH under UIDONLY")
        if not 1 <= number <= len(self.uids):
            raise self.wrong(f"FETCH of {number} of {len(self.uids)}")
        known = self.uids[number - 1]
        told = pairs.get(b"UID")
        uid = int(told) if isinstance(told, bytes) else known
        if known not in (0, uid):
            raise self.wrong(f"number {number} was UID {known} and is {uid}")
        if uid:
            self.uids[number - 1] = uid
            before = [one for one in self.uids[: number - 1] if one]
            after = [one for one in self.uids[number:] if one]
            if (before and before[-1] >= uid) or (after and after[0] <= uid):
                raise self.wrong(f"UID {uid} at {number} is out of order")
        return uid

    def _learn(self, uid: int, pairs: dict[bytes, Value]) -> None:
        modseq = pairs.get(b"MODSEQ")
        if isinstance(modseq, list) and isinstance(modseq[0], bytes):
            told = int(modseq[0])
            if told < self.modseqs.get(uid, 0):
                raise self.wrong(f"MODSEQ of {uid} falls from {self.modseqs[uid]} to {told}")
            self.modseqs[uid] = told
        flags = pairs.get(b"FLAGS")
        if isinstance(flags, list):
            words = [word for word in flags if isinstance(word, bytes)]
            if len(words) != len(set(words)):
                raise self.wrong(f"a flag twice: {words}")
            if b"IMAP4REV2" in self.mode and b"\\Recent" in words:
                raise self.wrong("\\Recent after ENABLE IMAP4rev2")
            self.flags[uid] = frozenset(word.lower() for word in words) - {b"\\recent"}
        for item in _STATIC:
            if item in pairs:
                value = repr(pairs[item])
                self.record.fact((self.mailbox, self.uidvalidity, uid, item), value)

    # -- what clients do ----------------------------------------------------------------------

    async def select(self) -> None:
        """Also resynchronises by QRESYNC from what was known of the mailbox."""
        name = self.dice.choice(self.boxes)
        before = None
        if self.mailbox:
            if name == self.mailbox and b"QRESYNC" in self.mode and self.highest and all(self.uids):
                before = (self.uidvalidity, self.highest, list(self.uids), dict(self.flags))
            await self.ok(b"UNSELECT")
        self.forget()
        self.mailbox = name
        if before is None:
            out = await self.ok(b"SELECT " + name)
        else:
            self.uidvalidity, self.uids, self.flags = before[0], before[2], before[3]
            out = await self._resynchronise(name, *before)
        joined = b"\n".join(out)
        for code, attribute in ((b"UIDVALIDITY", "uidvalidity"), (b"UIDNEXT", "uidnext")):
            found = re.search(rb"\[%b (\d+)\]" % code, joined)
            if found is None:
                raise self.wrong(f"SELECT without {code!r}")
            setattr(self, attribute, int(found[1]))
        found = re.search(rb"\[HIGHESTMODSEQ (\d+)\]", joined)
        self.highest = int(found[1]) if found else 0
        await self.learn()
        if before is not None:
            self._check_resynchronised(before[3])

    async def _resynchronise(
        self, name: bytes, validity: int, highest: int, uids: list[int], flags: object
    ) -> list[bytes]:
        self._resynchronised = {}
        tag = self.send(b"SELECT %b (QRESYNC (%d %d))" % (name, validity, highest))
        out = []
        count = -1
        while True:  # EXISTS names the new count while the client still holds the old messages
            line = await self.response()
            out.append(line)
            if line.startswith(tag):
                break
            if found := re.match(rb"\* (\d+) EXISTS\Z", line):
                count = int(found[1])
            elif found := re.match(rb"\* VANISHED \(EARLIER\) ([\d,:]+)\Z", line):
                gone = set(expand(found[1]))
                self.uids = [uid for uid in self.uids if uid not in gone]
            elif found := re.match(rb"\* (\d+) (?:UID)?FETCH ", line):
                items = values(line[found.end() :])[0]
                assert isinstance(items, list)
                at = items.index(b"UID") + 1 if b"UID" in items else None
                raw = items[at] if at is not None else found[1]
                assert isinstance(raw, bytes)
                changed = items[items.index(b"FLAGS") + 1]
                assert isinstance(changed, list)
                told = frozenset(word.lower() for word in changed if isinstance(word, bytes))
                self._resynchronised[int(raw)] = told - {b"\\recent"}
        if not out[-1].startswith(tag + b" OK"):
            raise self.wrong(f"QRESYNC was answered {out[-1]!r}")
        known = set(self.uids) | set(self._resynchronised)
        if len(known) != count:
            raise self.wrong(f"after QRESYNC {len(known)} messages are known of {count}")
        self.uids = sorted(known)
        return out

    def _check_resynchronised(self, before: dict[int, frozenset[bytes]]) -> None:
        """What QRESYNC did not mention had not changed before its HIGHESTMODSEQ."""
        for uid, flags in before.items():
            unsaid = uid in self.flags and uid not in self._resynchronised
            if unsaid and self.flags[uid] != flags and self.modseqs[uid] <= self.highest:
                raise self.wrong(
                    f"UID {uid} had {flags}, now {self.flags[uid]}, and QRESYNC was mute"
                )

    async def learn(self) -> None:
        items = b"(FLAGS)" if self.dice.random() < 0.5 else b"(FLAGS RFC822.SIZE INTERNALDATE)"
        await self.ok(b"UID FETCH 1:* " + items)
        if not all(self.uids):
            await self.ok(b"NOOP")
            await self.ok(b"UID FETCH 1:* (FLAGS)")

    def some(self) -> tuple[bytes, bool] | None:
        """A set of messages, and whether it is by UID."""
        if not self.uids:
            return None
        by_uid = b"UIDONLY" in self.mode or self.dice.random() < 0.5
        pool = [uid for uid in self.uids if uid] if by_uid else range(1, len(self.uids) + 1)
        if not pool:
            return None
        kind = self.dice.random()
        if kind < 0.4:
            return b"%d" % self.dice.choice(pool), by_uid
        if kind < 0.8:
            low, high = sorted((self.dice.choice(pool), self.dice.choice(pool)))
            return b"%d:%d" % (low, high), by_uid
        picked = self.dice.sample(list(pool), min(len(pool), 5))
        return b",".join(b"%d" % number for number in picked), by_uid

    async def act(self) -> None:
        if not self.mailbox or self.dice.random() < 0.03:
            await self.select()
            return
        acts = self.acts()
        [chosen] = self.dice.choices([act for act, _ in acts], [weight for _, weight in acts])
        await chosen()

    def acts(self) -> list[tuple[Act, int]]:
        """What may be done, and how often."""
        return [
            (self.fetch, 25), (self.store, 18), (self.search, 10), (self.append, 14),
            (self.copy, 6), (self.expunge, 6), (self.status, 5), (self.noop, 6), (self.idle, 2),
            (self.pipeline, 5), (self.sort, 3),
        ]  # fmt: skip

    async def settle(self) -> None:
        """Nobody changes anything any more: is all as this client was told?"""

    async def fetch(self) -> None:
        found = self.some()
        if found is None:
            return
        items = self.dice.choice(
            [b"(UID FLAGS)", b"(UID ENVELOPE)", b"(UID BODYSTRUCTURE)", b"ALL",
             b"(UID BODY.PEEK[])",
             b"(UID RFC822.SIZE INTERNALDATE FLAGS)", b"FULL", b"(UID BODY.PEEK[HEADER])", b"FAST",
             b"(UID BODY[TEXT])", b"(UID BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)])"]
            + [b"(UID EMAILID THREADID)"] * (b"OBJECTID" in self.offered)
            + [b"(UID BINARY.SIZE[1])"] * (b"BINARY" in self.offered)
            + [b"(UID PREVIEW)"] * (b"PREVIEW" in self.offered)
            + [b"(UID MODSEQ)"] * (b"CONDSTORE" in self.offered)
        )  # fmt: skip
        messages, by_uid = found
        before = b"UID " if by_uid else b""
        await self.ask(before + b"FETCH %b %b" % (messages, items), expunges=by_uid)

    async def store(self) -> None:
        found = self.some()
        if found is None:
            return
        messages, by_uid = found
        sign = self.dice.choice([b"+", b"-", b""])
        silent = self.dice.choice([b"", b".SILENT"])
        flags = b" ".join(self.dice.sample(_FLAGS, self.dice.randint(1, 2)))
        since = b""
        if b"CONDSTORE" in self.mode and self.dice.random() < 0.3:
            since = b"(UNCHANGEDSINCE %d) " % max([*self.modseqs.values(), 1])
        before = b"UID " if by_uid else b""
        command = b"%bSTORE %b %b%bFLAGS%b (%b)" % (before, messages, since, sign, silent, flags)
        await self.ask(command, expunges=by_uid)
        if silent:
            self.flags.clear()  # what they are now, nobody need say

    async def search(self) -> None:
        key = self.dice.choice(
            [b"ALL", b"UNSEEN", b"DELETED", b"NOT FLAGGED", b"KEYWORD urgent", b"SUBJECT topic",
             b"FROM s1", b"TEXT line", b"BODY nowhere", b"OR SEEN LARGER 500", b"SINCE 1-Jan-2020",
             b"SENTBEFORE 15-Jun-2026", b"1:*" if b"UIDONLY" not in self.mode else b"UID 1:*"]
        )  # fmt: skip
        uid = b"UIDONLY" in self.mode or self.dice.random() < 0.5
        returns = b""
        if b"ESEARCH" in self.offered and self.dice.random() < 0.4:
            returns = self.dice.choice(
                [b"RETURN (COUNT) ", b"RETURN () ", b"RETURN (MIN MAX ALL) "]
            )
        if not self.uids and key.endswith(b"1:*"):
            return
        before = b"UID " if uid else b""
        out = await self.ask(b"%bSEARCH %b%b" % (before, returns, key), expunges=uid)
        for line in out[:-1]:
            if line.startswith(b"* SEARCH"):
                if b"IMAP4REV2" in self.mode:
                    raise self.wrong("SEARCH where ESEARCH is demanded")
                numbers = [int(word) for word in line.split()[2:] if word.isdigit()]
                if not uid and numbers and max(numbers) > len(self.uids):
                    raise self.wrong(f"SEARCH finds {max(numbers)} of {len(self.uids)}")
            elif re.match(
                rb"\* ESEARCH (?!.* (?:ADDTO|REMOVEFROM) )(?!.*\"s%d\")" % self.tag, line
            ):
                raise self.wrong("ESEARCH with another tag")

    async def sort(self) -> None:
        if b"SORT" not in self.offered:
            return
        uid = b"UIDONLY" in self.mode or self.dice.random() < 0.5
        before = b"UID " if uid else b""
        command = self.dice.choice(
            [b"SORT (DATE) UTF-8 ALL", b"SORT (SUBJECT REVERSE ARRIVAL) US-ASCII UNSEEN",
             b"SORT (SIZE FROM) UTF-8 ALL"]
            + [b"THREAD REFERENCES UTF-8 ALL"] * (b"THREAD=REFERENCES" in self.offered)
        )  # fmt: skip
        out = await self.ask(before + command, expunges=uid)
        for line in out[:-1]:
            if re.match(rb"\* (SORT|THREAD)", line) and not uid:
                numbers = [int(word) for word in re.findall(rb"\d+", line)]
                if len(numbers) != len(set(numbers)) or max([*numbers, 0]) > len(self.uids):
                    raise self.wrong(f"a message twice, or one that is not there: {line[:200]!r}")

    async def append(self) -> None:
        count = self.dice.randint(2, 4) if b"MULTIAPPEND" in self.offered else 1
        count = count if self.dice.random() < 0.2 else 1
        command = b"APPEND " + (mailbox := self.dice.choice(self.boxes))
        for _ in range(count):
            message = mail(self.dice.randrange(60))
            flag = self.dice.choice(_FLAGS)
            command += b" (%b) {%d+}\r\n%b" % (flag, len(message), message)
        top = dict(self.record.top)  # another may hear of the message, and that it went, before us
        out = await self.ask(command)
        found = re.search(rb"APPENDUID (\d+) ([\d:,]+)\]", out[-1])
        if found is not None:
            uids = expand(found[2])
            if len(uids) != count or uids != sorted(uids):
                raise self.wrong(f"APPENDUID of {count} messages: {uids}")
            for uid in uids:
                if uid <= top.get((mailbox, int(found[1])), 0):
                    raise self.wrong(f"UID {uid} is given out again")

    async def copy(self) -> None:
        found = self.some()
        if found is None:
            return
        messages, by_uid = found
        verb = self.dice.choice([b"COPY", b"MOVE"]) if b"MOVE" in self.offered else b"COPY"
        before = b"UID " if by_uid else b""
        target = self.dice.choice(self.boxes)
        out = await self.ask(b"%b%b %b %b" % (before, verb, messages, target))
        for line in out:
            told = re.search(rb"COPYUID (\d+) ([\d:,]+) ([\d:,]+)\]", line)
            if told is not None and len(expand(told[2])) != len(expand(told[3])):
                raise self.wrong("COPYUID with sets of different sizes")

    async def expunge(self) -> None:
        found = self.some()
        if found is not None and found[1] and self.dice.random() < 0.5:
            await self.ask(b"UID EXPUNGE " + found[0])
        else:
            await self.ask(b"EXPUNGE")

    async def status(self) -> None:
        items = b"MESSAGES UIDNEXT UIDVALIDITY UNSEEN"
        out = await self.ok(b"STATUS %b (%b)" % (self.dice.choice(self.boxes), items))
        if not any(line.startswith(b"* STATUS") for line in out):
            raise self.wrong("STATUS without an answer")

    async def noop(self) -> None:
        await self.ok(self.dice.choice([b"NOOP", b"CHECK"]))

    async def idle(self) -> None:
        tag = self.send(b"IDLE")
        while not (line := await self.response()).startswith(b"+"):
            self.take(line)
        pause = self.dice.random() / 5
        end = time.monotonic() + pause
        while (left := end - time.monotonic()) > 0:
            try:
                line = await asyncio.wait_for(self._peek(), left)
            except TimeoutError:
                break
            if line:
                self.take(await self.response())
        self.writer.write(b"DONE\r\n")
        await self.until(tag)

    async def _peek(self) -> bool:
        while not self.reader._buffer:  # type: ignore[attr-defined]  # not to lose half a line
            await asyncio.sleep(0.01)
        return True

    async def pipeline(self) -> None:
        """Commands that may go out together: none of them depends on another's answer."""
        commands = self.dice.choice(
            [(b"NOOP", b"NOOP"), (b"UID SEARCH ALL", b"UID FETCH 1:* (FLAGS)"),
             (b"STATUS %b (MESSAGES)" % self.boxes[0], b"UID FETCH 1:* (FLAGS)", b"NOOP"),
             (b"UID STORE 1:* +FLAGS.SILENT (urgent)", b"UID SEARCH KEYWORD urgent", b"NOOP")]
        )  # fmt: skip
        tags = [self.send(command) for command in commands]
        for tag in tags:
            out = await self.until(tag)
            self._check(out[-1], b"a pipelined command")
        self.flags.clear()


def expand(octets: bytes) -> list[int]:
    """A set of numbers, in the order it has."""
    out: list[int] = []
    for part in octets.split(b","):
        low, _, high = part.partition(b":")
        first, last = int(low), int(high or low)
        out += range(min(first, last), max(first, last) + 1)
    return out


async def agree(clients: list[Client]) -> None:
    """In the end all who look at the same mailbox see the same."""
    seen: dict[bytes, dict[int, frozenset[bytes]]] = {}
    for client in clients:
        for name in client.boxes:
            if client.mailbox:
                await client.ok(b"UNSELECT")
            client.forget()
            client.mailbox = name
            await client.ok(b"SELECT " + name)
            await client.ok(b"UID FETCH 1:* (FLAGS)")
            flags = {uid: client.flags[uid] for uid in client.uids}
            if seen.setdefault(name, flags) != flags:
                raise client.wrong(f"{name!r} is {flags}, another saw {seen[name]}")


async def stress(
    port: int,
    login: bytes,
    *,
    clients: int,
    seconds: float,
    seed: int,
    boxes: list[bytes],
    kind: type[Client] = Client,
) -> Record:
    """Raises: Wrong with the dialog of the client that saw it."""
    record = Record()
    made = [kind(port, login, record, seed * 1000 + number, boxes) for number in range(clients)]
    await made[0].connect()
    for name in boxes:
        await made[0].ask(b"CREATE " + name)
    await made[0].close()
    end = time.monotonic() + seconds

    async def run(client: Client) -> None:
        await client.connect()
        while time.monotonic() < end:
            await client.act()
            if client.dice.random() < 0.004:
                await client.close()  # as if the network had gone
                await client.connect()

    await asyncio.gather(*(run(client) for client in made))
    for client in made:
        await client.settle()
    await agree(made)
    for client in made:
        await client.close()
    return record
