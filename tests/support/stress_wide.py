"""The stress client with the whole of IMAP: names, lists, results, annotations, rights, URLs.

Spare mailboxes are created, renamed and deleted by all clients; those that `stress` names stay.
Where several clients write the same thing, an answer must be one that some order of them allows.
"""

from __future__ import annotations

import asyncio
import re
import zlib

from support.raw_imap import values
from support.stress import Act, Client, Wrong, expand, mail

SPARES = (b"spare", b"spare/a", b"spare/b", b"spare/a/deep", b"other", "naïve".encode("utf-7"))
_KEYS = (b"ALL", b"SEEN", b"UNFLAGGED", b"OR KEYWORD urgent DRAFT", b"SUBJECT topic", b"LARGER 400")
_CODES = re.compile(rb"NO \[(ALREADYEXISTS|NONEXISTENT|CANNOT|INUSE|HASCHILDREN|TRYCREATE|LIMIT)\]")


class _Deflated:
    """A writer whose octets are compressed."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._press = zlib.compressobj(wbits=-15)

    def write(self, octets: bytes) -> None:
        self._writer.write(self._press.compress(octets) + self._press.flush(zlib.Z_SYNC_FLUSH))

    def close(self) -> None:
        self._writer.close()


async def _inflate(source: asyncio.StreamReader, to: asyncio.StreamReader) -> None:
    press = zlib.decompressobj(wbits=-15)
    try:
        while octets := await source.read(1 << 16):
            to.feed_data(press.decompress(octets))
    except (ConnectionError, zlib.error):
        pass
    to.feed_eof()


class Wide(Client):
    """kept: of the search that is kept up to date, its tag, command and UIDs in their order."""

    kept: tuple[bytes, bytes, list[int]] | None = None
    notified = False
    pump: asyncio.Task[None] | None = None

    def acts(self) -> list[tuple[Act, int]]:
        offered = self.offered
        return [
            *super().acts(), (self.names, 5), (self.lists, 4), (self.results, 5),
            *([(self.saved, 4)] if b"SEARCHRES" in offered else []),
            *([(self.context, 2)] if {b"CONTEXT=SEARCH", b"CONTEXT=SORT"} <= offered else []),
            *([(self.annotations, 3)] if b"METADATA" in offered else []),
            *([(self.rights, 2)] if b"ACL" in offered else []),
            *([(self.replace, 4)] if b"REPLACE" in offered else []),
            *([(self.binary, 3)] if b"BINARY" in offered else []),
            *([(self.catenate, 3)] if b"CATENATE" in offered else []),
            *([(self.urls, 2)] if b"URLAUTH" in offered else []),
            *([(self.sorted, 4)] if b"ESORT" in offered else []),
            *([(self.everywhere, 2)] if b"MULTISEARCH" in offered else []),
            *([(self.notify, 1)] if b"NOTIFY" in offered else []),
        ]  # fmt: skip

    def forget(self) -> None:
        super().forget()
        self.kept = None

    async def connect(self) -> None:
        self.notified = False
        await super().connect()
        if b"COMPRESS=DEFLATE" in self.offered and self.dice.random() < 0.2:
            await self.ok(b"COMPRESS DEFLATE")
            inflated = asyncio.StreamReader(limit=1 << 24)
            self.pump = asyncio.ensure_future(_inflate(self.reader, inflated))
            self.reader = inflated
            self.writer = _Deflated(self.writer)  # type: ignore[assignment]  # all that is used

    async def close(self) -> None:
        await super().close()
        if self.pump is not None:
            self.pump.cancel()
            self.pump = None

    def take(self, line: bytes) -> None:
        if self.kept is not None and line.startswith(b'* ESEARCH (TAG "%b")' % self.kept[0]):
            self._updated(line, self.kept[2])
        super().take(line)

    def _updated(self, line: bytes, uids: list[int]) -> None:
        """Position 0 means mailbox order (RFC 5267 §4.3.3-4)."""
        if found := re.search(rb" ALL ([\d:,]+)", line):
            uids[:] = expand(found[1])
        for word, pairs in re.findall(rb"(ADDTO|REMOVEFROM) \(([^)]*)\)", line):
            words = pairs.split(b" ")
            for position, numbers in zip(words[::2], words[1::2], strict=True):
                told, at = expand(numbers), int(position) - 1
                if word == b"ADDTO":
                    if set(told) & set(uids) or at > len(uids):
                        raise self.wrong(f"ADDTO {told} at {at + 1} of {uids}")
                    uids[max(at, 0) : max(at, 0)] = told
                elif set(told) - set(uids) or (at >= 0 and uids[at : at + len(told)] != told):
                    raise self.wrong(f"REMOVEFROM {told} at {at + 1} of {uids}")
                else:
                    uids[:] = [uid for uid in uids if uid not in set(told)]
                if at < 0:
                    uids.sort()

    async def settle(self) -> None:
        """The search that was kept up to date has come to what a new one finds."""
        if self.kept is None:
            return
        await self.ok(b"NOOP")
        await self.ok(b"NOOP")
        tag, command, uids = self.kept
        out = await self.ok(command % b"ALL")
        line = next(line for line in out if b'(TAG "s%d")' % self.tag in line)
        found = re.search(rb" ALL ([\d:,]+)", line)
        now = expand(found[1]) if found else []
        if now != uids:
            raise self.wrong(f"{tag!r} was told to be {uids}, is {now}")

    def _only(self, out: list[bytes], start: bytes) -> bytes | None:
        found = [line for line in out[:-1] if line.startswith(start)]
        if len(found) > 1:
            raise self.wrong(f"{start!r} more than once")
        return found[0] if found else None

    async def _found(self, command: bytes) -> set[int]:
        """UIDs that an extended search finds."""
        out = await self.ok(command)
        line = next((line for line in out if b'(TAG "s%d")' % self.tag in line), None)
        if line is None:
            raise self.wrong("a search without its answer")
        found = re.search(rb" ALL ([\d:,]+)", line)
        return set(expand(found[1])) if found else set()

    # -- names --------------------------------------------------------------------------------

    def _spare(self) -> bytes:
        return b'"%b"' % self.dice.choice(SPARES).replace(b"+", b"&")

    async def names(self) -> None:
        command = self.dice.choice(
            [b"CREATE " + self._spare(), b"CREATE " + self._spare(), b"DELETE " + self._spare(),
             b"RENAME %b %b" % (self._spare(), self._spare()), b"SUBSCRIBE " + self._spare(),
             b"UNSUBSCRIBE " + self._spare(), b"STATUS %b (MESSAGES SIZE)" % self._spare()]
        )  # fmt: skip
        out = await self.ask(command)
        if out[-1].startswith(b"NO") and _CODES.match(out[-1]) is None:
            raise self.wrong(f"{command!r} was answered {out[-1]!r}")

    async def lists(self) -> None:
        options = self.dice.choice(
            [b"", b" RETURN (SUBSCRIBED CHILDREN)", b" RETURN (STATUS (MESSAGES UIDNEXT DELETED))",
             b" RETURN (SPECIAL-USE MYRIGHTS)"]
        )  # fmt: skip
        verb = b"LIST" if options or self.dice.random() < 0.7 else b"LSUB"
        pattern = self.dice.choice([b"*", b"%", b"spare/%", b"%/%", b"*e*"])
        out = await self.ok(b'%b "" "%b"%b' % (verb, pattern, options))
        if self.notified:
            return  # names that came and went are told between
        told = {}
        for line in out[:-1]:
            if line.startswith(b"* %b " % verb):
                attributes, _, name, *_ = values(line[len(verb) + 3 :])
                assert isinstance(attributes, list) and isinstance(name, bytes)
                if name in told:
                    raise self.wrong(f"{name!r} is listed twice")
                told[name] = attributes
        if verb == b"LIST" and pattern == b"*":
            self._check_tree(told)

    def _check_tree(self, told: dict[bytes, list[object]]) -> None:
        for name, attributes in told.items():
            above = name.rpartition(b"/")[0]
            if above and above not in told:
                raise self.wrong(f"{name!r} is listed, {above!r} is not")
            has_children = any(other.startswith(name + b"/") for other in told)
            if (b"\\HasChildren" in attributes) is not has_children:
                raise self.wrong(f"{name!r} has {attributes}")
        if missing := {b"INBOX", *self.boxes} - set(told):
            raise self.wrong(f"{missing} are not listed")

    async def notify(self) -> None:
        """After NONE nothing would be told of the selected mailbox either."""
        self.notified = True
        if self.dice.random() < 0.3:
            await self.ok(b"NOTIFY NONE")
        await self.ok(
            self.dice.choice(
                [b"NOTIFY SET (SELECTED-DELAYED (MessageNew (UID FLAGS) MessageExpunge FlagChange))"
                 b" (PERSONAL (MailboxName SubscriptionChange MessageNew MessageExpunge))",
                 b"NOTIFY SET STATUS (SELECTED-DELAYED (MessageNew MessageExpunge FlagChange))"
                 b" (SUBTREE spare (MailboxName MessageNew MessageExpunge FlagChange))"]
            )
        )  # fmt: skip

    # -- searches -----------------------------------------------------------------------------

    async def results(self) -> None:
        """What one response says of its results must agree."""
        key = self.dice.choice(_KEYS)
        out = await self.ok(b"UID SEARCH RETURN (MIN MAX ALL COUNT) " + key)
        line = next(line for line in out if b'(TAG "s%d")' % self.tag in line)
        found = re.search(rb" ALL ([\d:,]+)", line)
        uids = expand(found[1]) if found else []
        count = re.search(rb" COUNT (\d+)", line)
        if count is None or int(count[1]) != len(uids) or uids != sorted(set(uids)):
            raise self.wrong("ALL and COUNT differ")
        for word, wanted in ((b"MIN", uids[:1]), (b"MAX", uids[-1:])):
            told = re.search(rb" %b (\d+)" % word, line)
            if [int(told[1])] * bool(uids) != wanted if told else bool(uids):
                raise self.wrong(f"{word!r} is not that of ALL")

    async def saved(self) -> None:
        """`$` holds what was found, but for what has gone since."""
        key = self.dice.choice(_KEYS)
        mark = self.dice.choice(
            [b"UID SEARCH RETURN (SAVE ALL) ", b"UID SEARCH RETURN (ALL SAVE) "]
        )
        found = await self._found(mark + key)
        again = await self._found(b"UID SEARCH RETURN (ALL) " + self.dice.choice([b"$", b"UID $"]))
        if again - found or (found - again) & set(self.uids):
            raise self.wrong(f"$ was {sorted(found)} and is {sorted(again)}")
        verb = self.dice.choice([b"UID FETCH $ (FLAGS)", b"UID STORE $ +FLAGS.SILENT (urgent)"])
        await self.ask(verb)
        self.flags.clear()

    async def context(self) -> None:
        if self.kept is not None:
            await self.ok(b'CANCELUPDATE "%b"' % self.kept[0])
            self.kept = None
        command = self.dice.choice(
            [b"UID SEARCH RETURN (%b) ", b"UID SORT RETURN (%b) (REVERSE SIZE) UTF-8 "]
        )
        command += self.dice.choice(_KEYS)
        self.kept = b"s%d" % (self.tag + 1), command, []
        out = await self.ok(command % b"UPDATE ALL")
        if any(b"NOUPDATE" in line for line in out):
            self.kept = None

    async def sorted(self) -> None:
        by = self.dice.choice([b"(DATE)", b"(REVERSE SIZE SUBJECT)", b"(DISPLAYFROM ARRIVAL)"])
        key = self.dice.choice(_KEYS)
        if self.dice.random() < 0.5:
            out = await self.ok(b"UID SORT RETURN (ALL COUNT) %b UTF-8 %b" % (by, key))
            line = next(line for line in out if b'(TAG "s%d")' % self.tag in line)
            found = re.search(rb" ALL ([\d:,]+)", line)
            uids = expand(found[1]) if found else []
            if b"COUNT %d" % len(uids) not in line:
                raise self.wrong("ALL and COUNT differ")
        else:
            word = self.dice.choice([b"REFERENCES", b"ORDEREDSUBJECT", b"REFS"])
            if b"THREAD=" + word not in self.offered:
                return
            out = await self.ok(b"UID THREAD %b UTF-8 %b" % (word, key))
            uids = [int(uid) for uid in re.findall(rb"\d+", self._only(out, b"* THREAD") or b"")]
        if len(uids) != len(set(uids)):
            raise self.wrong("a message twice")

    async def everywhere(self) -> None:
        names = b" ".join(self.boxes)
        sources = self.dice.choice([b"(MAILBOXES (%b))" % names, b"(PERSONAL)", b"(SUBTREE spare)"])
        out = await self.ok(
            b"ESEARCH IN %b RETURN (COUNT ALL) %b" % (sources, self.dice.choice(_KEYS))
        )
        seen = [line.split(b" UID ")[0] for line in out if b'(TAG "s%d" MAILBOX' % self.tag in line]
        if len(seen) != len(set(seen)):
            raise self.wrong("a mailbox is searched twice")

    # -- annotations, rights ------------------------------------------------------------------

    async def annotations(self) -> None:
        box = self.dice.choice(self.boxes)
        entry = self.dice.choice([b"/private/comment", b"/shared/comment", b"/private/vendor/x/y"])
        if self.dice.random() < 0.5:
            value = self.dice.choice([b"NIL", b'"v%d"' % self.dice.randrange(9), b"{3+}\r\nv\r\n"])
            await self.ok(b"SETMETADATA %b (%b %b)" % (box, entry, value))
            return
        depth = self.dice.choice([b"", b"(DEPTH 1) ", b"(MAXSIZE 100) "])
        out = await self.ok(b"GETMETADATA %b %b%b" % (box, depth, entry))
        line = self._only(out, b"* METADATA " + b'"%b" (' % box)
        if line is not None:
            [[name, value]] = values(line.split(b" ", 3)[3])  # type: ignore[misc]
            if name != entry or not (value is None or bytes(value).startswith(b"v")):
                raise self.wrong("an annotation that nobody set")

    async def rights(self) -> None:
        box = self.dice.choice(self.boxes)
        command = self.dice.choice(
            [b"SETACL %b anyone lr", b"SETACL %b anyone +w", b"DELETEACL %b anyone",
             b"SETACL %b -anyone k", b"GETACL %b", b"MYRIGHTS %b", b"LISTRIGHTS %b anyone"]
        )  # fmt: skip
        out = await self.ok(command % box)
        line = self._only(out, b"* MYRIGHTS")
        if line is not None and set(b"lrswipkxtea") - set(line.split()[-1]):
            raise self.wrong("the owner lacks rights")

    # -- messages -----------------------------------------------------------------------------

    async def replace(self) -> None:
        pool = [uid for uid in self.uids if uid]
        if not pool:
            return
        box, message = self.dice.choice(self.boxes), mail(self.dice.randrange(60))
        by_uid = b"UIDONLY" in self.mode or self.dice.random() < 0.5
        number = self.dice.choice(pool)
        if not by_uid:
            number = self.uids.index(number) + 1
        before = b"UID " if by_uid else b""
        top = dict(self.record.top)
        out = await self.ask(
            b"%bREPLACE %d %b (\\Seen) {%d+}\r\n%b" % (before, number, box, len(message), message)
        )
        for line in out:
            if told := re.search(rb"APPENDUID (\d+) (\d+)\]", line):
                if int(told[2]) <= top.get((box, int(told[1])), 0):
                    raise self.wrong(f"UID {told[2]!r} is given out again")
                return
        if out[-1].startswith(b"OK"):
            raise self.wrong("REPLACE without APPENDUID")

    async def binary(self) -> None:
        found = self.some()
        if found is None:
            return
        if self.dice.random() < 0.3:
            part = b"Content-Transfer-Encoding: binary\r\n\r\n\x00\x01\r\n"
            await self.ok(
                b"APPEND %b ~{%d+}\r\n%b" % (self.dice.choice(self.boxes), len(part), part)
            )
            return
        messages, by_uid = found
        before = b"UID " if by_uid else b""
        item = self.dice.choice([b"BINARY.PEEK[1]", b"BINARY.PEEK[]", b"BINARY.PEEK[1]<2.9>"])
        await self.ask(b"%bFETCH %b (UID %b)" % (before, messages, item), expunges=by_uid)

    async def catenate(self) -> None:
        pool = [uid for uid in self.uids if uid]
        if not pool:
            return
        url = b"/%b;UIDVALIDITY=%d/;UID=%d" % (
            self.mailbox, self.uidvalidity, self.dice.choice(pool),
        )  # fmt: skip
        url += self.dice.choice([b"", b"/;SECTION=TEXT", b"/;SECTION=HEADER", b"/;PARTIAL=3.50"])
        out = await self.ask(
            b'APPEND %b CATENATE (TEXT {9+}\r\nX: y\r\n\r\nz URL "%b")'
            % (self.dice.choice(self.boxes), url)
        )
        if not re.match(rb"OK \[APPENDUID|NO \[BADURL ", out[-1]):
            raise self.wrong(f"CATENATE was answered {out[-1]!r}")

    async def urls(self) -> None:
        """The octets that a URL means are those of the message, while it is there."""
        pool = [uid for uid in self.uids if uid]
        if not pool:
            return
        uid = self.dice.choice(pool)
        user = self.login.split(b" ")[0].replace(b"@", b"%40")
        rump = b"imap://%b@x/%b/;UID=%d;URLAUTH=anonymous" % (user, self.mailbox, uid)
        out = await self.ok(b'GENURLAUTH "%b" INTERNAL' % rump)
        [[url]] = [values(line[13:]) for line in out if line.startswith(b"* GENURLAUTH ")]
        assert isinstance(url, bytes)
        out = await self.ok(b'URLFETCH "%b"' % url)
        line = self._only(out, b"* URLFETCH")
        if line is None:
            raise self.wrong("URLFETCH without an answer")
        octets = values(line[11:])[1]
        key = self.mailbox, self.uidvalidity, uid, b"BODY[]"
        if octets is not None:
            try:
                self.record.fact(key, repr(octets))
            except Wrong as error:
                raise self.wrong(str(error)) from error
        elif uid in self.uids:
            await self.ok(b"NOOP")
            if uid in self.uids:
                raise self.wrong(f"URLFETCH of {uid}, which is there, is NIL")
