"""The same commands to Debian's dovecot and to Postroad: what the standards fix must agree.

Left out of the comparison, because the standards leave it open, or because dovecot departs:
- a section that is not there: NIL here, "" there; BODY[1.1] of a plain part 1: NIL here, the part
  itself there (RFC 3501 §6.4.5 knows no such number);
- parameters of a text part without a charset: NIL here, "us-ascii" supplied there;
- the domain of an address without one: "" here, MISSING_DOMAIN there;
- boundaries that begin like others (dovecot takes `--ab` for `--a`; RFC 2046 §5.1.1 does not), and
  the CRLF before a boundary, which belongs to the boundary;
- UID in the news of flags, \\Recent after MOVE, codes and words of NO, quoting of names;
- SENTBEFORE: a message without Date: is never sent before or after a day here;
- BODY searches the headers of embedded messages and parts too here;
- NOT (SEEN FLAGGED): dovecot leaves out what has one of both.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.peers import Dovecot
from postroad.lab.process import free_offset
from support.programs import needs
from support.raw_imap import RawClient, Value, values
from support.world import world

pytestmark = [
    pytest.mark.interop,
    needs("dovecot", "dovecot-imapd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="dovecot's master needs root"),
    pytest.mark.timeout(120),
]

PASSWORD = "bench"
BADS_MAX = 15
"""Both servers hang up after some twenty bad commands."""


def message(
    subject: bytes = b"x", author: bytes = b"Ann <ann@one.example>",
    to: bytes = b"bob@two.example", date: bytes = b"Mon, 23 Nov 2026 10:00:00 +0200",
    more: bytes = b"", body: bytes = b"hello\r\n",
) -> bytes:  # fmt: skip
    head = b"From: %b\r\nTo: %b\r\nSubject: %b\r\nDate: %b\r\n" % (author, to, subject, date)
    return head + more + b"\r\n" + body


MIXED = (
    b"pre\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64"
    b"\r\n\r\nSW4gYmFzZTY0IGhpZGRlbg==\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner"
    b" subject\r\nFrom: i@x\r\n\r\ninner body\r\n\r\n--b\r\nContent-Type: multipart/alternative;"
    b' boundary="c"\r\n\r\n--c\r\nContent-Type: text/html; charset=us-ascii\r\n\r\n<b>1</b>\r\n'
    b'--c\r\nContent-Type: image/png; name="x y.png"\r\nContent-ID: <1@x>\r\nContent-Disposition:'
    b" attachment; filename=x.png\r\nContent-Language: en, de\r\n\r\nxx\r\n--c--\r\n\r\n--b--\r\n"
)
MESSAGES = [
    (b'(\\Seen) "01-Jan-2020 10:00:00 +0000"', message(b"alpha one")),
    (
        b'(\\Flagged $Label1) "02-Feb-2021 23:59:59 +0000"',
        message(b"=?utf-8?q?Gr=C3=BC=C3=9Fe?= aus Berlin", date=b"Tue, 2 Feb 2021 23:59:59 +0000"),
    ),
    (
        b'(\\Answered \\Seen) "05-May-2024 05:05:05 +0000"',
        message(
            b"beta",
            b'"Doe, John" <john@doe.example>',
            body=b"Content of the third BODY text\r\n" * 50,
        ),
    ),
    (
        b'() " 3-Mar-2022 00:30:00 +0000"',
        message(
            b"gamma", to=b"undisclosed-recipients:;", date=b"Wed, 2 Mar 2022 23:30:00 -0100",
            more=b"Cc: Carol <carol@x.example>\r\nBcc: dave@x.example\r\nX-Spam: yes\r\n"
            b"Reply-To: G: a@b.example, \"c d\"@e.example;, f@g.example\r\nIn-Reply-To: <1@x>\r\n",
        ),
    ),
    (
        b'(\\Draft) "05-May-2024 23:05:05 -0500"',
        message(
            b"folded\r\n subject here",
            more=b"Content-Type: text/plain; charset=iso-8859-1\r\n"
            b"Content-Transfer-Encoding: quoted-printable\r\n",
            body=b"caf=E9 au la=\r\nit\r\n",
        ),
    ),
    (
        b'(\\Deleted) "05-May-2024 05:05:05 +0000"',
        message(
            b"zeta",
            more=b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
            body=MIXED + b"epilogue\r\n",
        ),
    ),
    (b'"06-May-2024 05:05:05 +0000"', b"Subject: no from\r\nDate: bad\r\n\r\nbody\r\n"),
    (
        b'(\\Seen Custom) "07-May-2024 05:05:05 +0000"',
        b"Subject: \r\nFrom: e@x.example\r\nX-Empty:\r\n\r\n\r\n",
    ),
]  # fmt: skip


class Both:
    """One session with each server; hangs up and comes back before either loses patience."""

    def __init__(self, ours: int, theirs: int) -> None:
        self.ports = ours, theirs
        self.bads = 0
        self.selected = b""
        self._connect()

    def _connect(self) -> None:
        self.ours, self.theirs = (RawClient(port) for port in self.ports)
        self.ours.ok(b"LOGIN ann@x.example bench")
        self.theirs.ok(b"LOGIN ann bench")
        self.bads = 0

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()

    def ask(self, command: bytes) -> tuple[list[bytes], list[bytes]]:
        if self.bads > BADS_MAX:
            self.close()
            self._connect()
            if self.selected:
                self.ask(b"SELECT " + self.selected)
        pair = self.ours.ask(command), self.theirs.ask(command)
        self.bads += any(answer[-1].startswith(b"BAD") for answer in pair)
        return pair

    def select(self, mailbox: bytes) -> None:
        self.selected = mailbox
        self.ask(b"SELECT " + mailbox)


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    """dovecot's own user must be able to enter the directory: pytest's are closed to others."""
    with tempfile.TemporaryDirectory(prefix="postroad-dovecot-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with world(directory / "ours") as made:
            server = made.server("x.example", address="127.0.0.1", plaintext_on_loopback=True)
            server.add_account("ann@x.example", PASSWORD)
            server.start()
            offset = free_offset("127.0.0.1")
            tls = server.directory / "tls"
            dovecot = Dovecot(
                directory / "dovecot", imap=offset + 143, imaps=offset + 993, pop3=offset + 110,
                certificate=tls / "cert.pem", key=tls / "key.pem",
            )  # fmt: skip
            with dovecot.config.open("a") as config:
                config.write(
                    f"mail_location = sdbox:{dovecot.mail}/%n\n"
                    "namespace inbox {\n  inbox = yes\n  separator = /\n}\n"
                )
            dovecot.start()
            try:
                pair = Both(server.port("imap"), dovecot.imap)
                yield pair
                pair.close()
            finally:
                dovecot.stop()


def fill(both: Both, mailbox: bytes) -> None:
    both.ask(b"CREATE " + mailbox)
    for before, octets in MESSAGES:
        for client in (both.ours, both.theirs):
            answer = client.append(mailbox, octets, before)
            assert answer[-1].startswith(b"OK [APPENDUID"), answer
    both.select(mailbox)


# -- what is left open is made the same -------------------------------------------------------

_SILENT = re.compile(rb"\* (FLAGS|OK|\d+ RECENT)")
"""Whose turn \\Recent is depends on when a server learns that a session has gone."""


def same(value: Value) -> Value:
    """Without what the head of this file lists, and in lower case where MIME has no case."""
    if isinstance(value, list):
        if len(value) > 6 and isinstance(value[0], bytes) and value[0].lower() == b"text":
            value = [*value[:2], value[2] or [b"charset", b"us-ascii"], *value[3:]]
        return [same(item) for item in value]
    if value in (None, b"MISSING_DOMAIN", b"MISSING_MAILBOX"):
        return b""
    return value.lower()


def plain(response: bytes) -> object:
    """A response without what is left open."""
    if re.match(rb"\* (ESEARCH|SEARCH)", response):
        return re.sub(rb'TAG "\w+"', b"TAG", re.sub(rb"MODSEQ \d+", b"MODSEQ", response))
    fetched = re.match(rb"\* (\d+) FETCH ", response)
    if fetched is not None:
        [items] = values(response[fetched.end() :])
        assert isinstance(items, list) and not len(items) % 2, response
        out = {}
        for name, value in zip(items[::2], items[1::2], strict=True):
            assert isinstance(name, bytes)
            if name == b"FLAGS":
                assert isinstance(value, list)
                value = sorted(value, key=repr)
            if name not in (b"UID", b"MODSEQ"):
                body = name.startswith((b"BODY[", b"RFC822"))
                out[name.upper()] = (value or b"") if body else same(value)
        return int(fetched[1]), out
    listed = re.match(rb"\* (LIST|LSUB|STATUS) ", response)
    if listed is not None:
        kind, first, *rest = values(response[2:])
        if kind == b"STATUS":
            [numbers] = rest
            assert isinstance(numbers, list)
            return kind, first, sorted(zip(numbers[::2], numbers[1::2], strict=True))
        assert isinstance(first, list)
        open_ = (b"\\HasChildren", b"\\HasNoChildren", b"\\UnMarked", b"\\Marked")
        return kind, [word for word in first if word not in open_], rest
    return re.sub(rb"COPYUID \d+", b"COPYUID", response)


def answer_of(response: bytes) -> bytes:
    """OK, NO or BAD, with those codes that are an answer by themselves."""
    code = re.match(rb"OK \[(COPYUID|APPENDUID) \d+ ([^\]]*)\]", response)
    if code is not None:
        return b"%b %b" % (code[1], code[2])
    found = re.match(rb"OK( \[MODIFIED [^\]]*\]| \[READ-\w+\])?|NO( \[TRYCREATE\])?|BAD", response)
    assert found is not None, response
    return found[0]


def compare(both: Both, command: bytes) -> None:
    ours, theirs = both.ask(command)
    shown = []
    for answers in (ours, theirs):
        told = [plain(line) for line in answers[:-1] if _SILENT.match(line) is None]
        lists = answers[0].startswith((b"* LIST", b"* LSUB"))
        shown.append((sorted(told, key=repr) if lists else told, answer_of(answers[-1])))
    assert shown[0] == shown[1], f"{command!r}\n  ours   {ours}\n  theirs {theirs}"


# -- the comparisons --------------------------------------------------------------------------

SECTIONS = """
RFC822.SIZE|ENVELOPE|BODY|BODYSTRUCTURE|INTERNALDATE|RFC822|RFC822.HEADER|RFC822.TEXT|BODY[]|
BODY[HEADER]|BODY[TEXT]|BODY[1]|BODY[1.MIME]|BODY[2]|BODY[2.MIME]|BODY[2.HEADER]|BODY[2.TEXT]|
BODY[2.1]|BODY[2.1.MIME]|BODY[3]|BODY[3.1]|BODY[3.2]|BODY[3.2.MIME]|BODY[4]|BODY[9]|BODY[]<0.10>|
BODY[]<99999.9>|BODY[TEXT]<5.7>|BODY[HEADER]<3.9>|BODY[1]<2.5>|BODY[2.TEXT]<2.3>|
BODY[HEADER.FIELDS (From To Subject)]|BODY[HEADER.FIELDS.NOT (From To Subject Received)]|
BODY[2.HEADER.FIELDS (Subject)]|BODY[2.HEADER.FIELDS.NOT (Subject)]|BODY[HEADER.FIELDS (X-None)]|
BODY[HEADER.FIELDS (DATE SUBJECT)]<4.10>|BODY[HEADER.FIELDS ("x-empty")]
"""


@pytest.mark.parametrize("item", SECTIONS.replace("\n", "").split("|"))
def test_fetch(both: Both, item: str) -> None:
    name = b"Sections"
    if both.selected != name:
        fill(both, name)
    compare(both, b"FETCH 1:* (%b)" % item.replace("BODY[", "BODY.PEEK[").encode())


@pytest.mark.skipif(
    "POSTROAD_SHARED" not in os.environ,
    reason="POSTROAD_SHARED is not set: the samples of MIME are not at hand",
)
def test_fetch_of_samples(both: Both) -> None:
    """Messages of others' suites, but for those whose MIME is broken: their ends are anyone's."""
    base = Path(os.environ["POSTROAD_SHARED"]) / "conformance" / "mime"
    both.ask(b"CREATE Samples")
    known = set()
    for path in sorted((*base.rglob("*.eml"), *base.rglob("*.msg"))):
        octets = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\0", b"")
        if not octets or "malformed" in path.as_posix() or len(octets) > 200_000:
            continue
        octets = octets.replace(b"\n", b"\r\n")
        if octets in known:
            continue
        known.add(octets)
        for client in (both.ours, both.theirs):
            assert client.append(b"Samples", octets)[-1].startswith(b"OK")
    both.select(b"Samples")
    assert len(known) > 50
    for item in (
        b"RFC822.SIZE",
        b"BODY.PEEK[]",
        b"BODY.PEEK[HEADER]",
        b"BODY.PEEK[TEXT]",
        b"BODY.PEEK[HEADER.FIELDS (From To Subject Date)]",
        b"BODY.PEEK[]<10.50>",
    ):
        compare(both, b"FETCH 1:* (%b)" % item)


SEARCHES = """
ALL|ANSWERED|UNANSWERED|DELETED|UNDELETED|SEEN|UNSEEN|FLAGGED|UNFLAGGED|DRAFT|UNDRAFT|RECENT|
NEW|OLD|
KEYWORD $Label1|KEYWORD $label1|UNKEYWORD $Label1|KEYWORD custom|BEFORE 1-Jan-2020|
BEFORE 2-Jan-2020|
ON 1-Jan-2020|SINCE 3-Mar-2022|ON 2-Feb-2021|ON 3-Mar-2022|SENTON 2-Mar-2022|SENTON 3-Mar-2022|
SENTSINCE 23-Nov-2026|SENTSINCE 1-Jan-1971|ON "1-Jan-2020"|ON 01-Jan-2020|LARGER 300|SMALLER 100|
LARGER 0|SMALLER 0|LARGER 99999999999|SUBJECT alpha|SUBJECT ALPHA|SUBJECT "grüße"|SUBJECT GRÜ|
CHARSET UTF-8 SUBJECT "GRÜßE"|CHARSET US-ASCII SUBJECT alpha|CHARSET X-NOPE SUBJECT alpha|
SUBJECT "folded subject"|SUBJECT "folded  subject"|SUBJECT ""|FROM john|FROM "Doe, John"|
FROM "john@doe.example"|FROM "Doe John"|TO bob|TO undisclosed|CC carol|CC x.example|BCC dave|
HEADER X-Spam yes|HEADER X-Spam ""|HEADER X-Empty ""|HEADER X-None ""|HEADER "X-Spam" "YES"|
HEADER Subject alpha|BODY hello|BODY "café au lait"|BODY "au lait"|BODY "base64 hidden"|
BODY "inner body"|BODY "SW4gYm"|BODY epilogue|BODY pre|BODY "third body TEXT"|BODY "text Content"|
TEXT "no from"|TEXT "Subject:"|TEXT john|TEXT inner|TEXT "grüße"|BODY ""|TEXT ""|1|1:3|*|1:*|*:1|
3:1|8:*|2,4,6|9|1:9|UID 1:3|UID *|UID 99|UID 99:*|UID 3:1|NOT 1|NOT SEEN|NOT NOT SEEN|
OR SEEN FLAGGED|
OR (SEEN ANSWERED) (FLAGGED)|(SEEN)|(SEEN) (ANSWERED)|((SEEN))|OR OR 1 2 3|SEEN ANSWERED|
SEEN UNSEEN|
NOT ALL|OR ALL NOT ALL|NOT OR 1 2|OLDER 1|YOUNGER 100|YOUNGER 0|OLDER 0|MODSEQ 1|MODSEQ 9999999|
FOO|SEEN FOO|()|(|OR 1|NOT|1:|0|1:0|ON 1-Foo-2020|SUBJECT|HEADER X|RETURN () ALL|RETURN (MIN) ALL|
RETURN (MAX) ALL|RETURN (COUNT) SEEN|RETURN (MIN MAX COUNT ALL) SEEN|RETURN (MIN) NOT ALL|
RETURN (COUNT) NOT ALL|RETURN (ALL) NOT ALL|RETURN (NOPE) ALL|UID 1 2|seen|UNDELETED SUBJECT x
"""


def test_search(both: Both) -> None:
    fill(both, b"Searched")
    for query in SEARCHES.replace("|\n", "|").strip().split("|"):
        compare(both, b"SEARCH " + query.encode())
        compare(both, b"UID SEARCH " + query.encode())


CHANGES = """
STORE 1 +FLAGS (\\Flagged)|STORE 1 -FLAGS (\\Flagged)|STORE 1 FLAGS (\\Seen $New)|STORE 1 FLAGS ()|
STORE 1 +FLAGS \\Seen \\Flagged|STORE 1 +FLAGS.SILENT (\\Deleted)|STORE 1 -FLAGS.SILENT (\\Deleted)|
STORE 1:* FLAGS.SILENT (\\Seen)|STORE 9 +FLAGS (\\Seen)|UID STORE 99 +FLAGS (\\Seen)|
STORE 1 +FLAGS (\\Recent)|STORE 1 +FLAGS (\\Foo)|STORE 1 +FLAGS (a b c)|STORE 1 -FLAGS (A)|
STORE 1 FOO (x)|STORE 2:4,1 +FLAGS (\\Answered)|UID STORE 2:4 -FLAGS (\\Answered)|
UID STORE 2:4 +FLAGS.SILENT (\\Answered)|STORE * +FLAGS (last)|STORE 3:1 -FLAGS (\\Answered)|
STORE 0 FLAGS (x)|NOOP|CHECK|FETCH 1:* (FLAGS)|FETCH 1 FAST|FETCH 1 ALL|FETCH 1 FULL|FETCH 1 (FAST)|
FETCH 1 ()|FETCH 1|FETCH 9 FLAGS|FETCH 1:9 FLAGS|FETCH 0 FLAGS|FETCH 5:* FLAGS|UID FETCH 99:* FLAGS|
UID FETCH 1:3 (UID FLAGS)|UID FETCH 99 FLAGS|FETCH 1 BODY[|FETCH 1 BODY.PEEK[]<0.5>|
FETCH 1 BODY.PEEK[MIME]|FETCH 1 BODY.PEEK[1.]|FETCH 1 BODY.PEEK[HEADER.FIELDS ()]|
FETCH 1 (FLAGS FLAGS UID UID)|FETCH 2 BODY[TEXT]|FETCH 2 FLAGS|FETCH 4 RFC822.TEXT|FETCH 4 RFC822|
FETCH 5 (RFC822.SIZE BODY[1])|FETCH 2 (INTERNALDATE)|FETCH 1,2,1 UID|FETCH 3:1 UID|FETCH *:2 UID|
COPY 1 nope|COPY 1 Changed|COPY 10 Changed|COPY 99 Changed|UID COPY 99 Changed|UID COPY 1:2 Changed|
CREATE Box|COPY 1:3,2 Box|UID COPY 3,1 Box|UID MOVE 9:11 Box|MOVE 1 nope|NOOP|FETCH 1:* UID|
STATUS Box (MESSAGES UIDNEXT UNSEEN)|STATUS Box (MESSAGES FOO)|STATUS nope (MESSAGES)|
STATUS Changed (MESSAGES UIDNEXT UNSEEN)|STORE 2,4 +FLAGS.SILENT (\\Deleted)|UID EXPUNGE 1:3|
EXPUNGE|
FETCH 1:* UID|UID EXPUNGE|FETCH 1 (FLAGS UID) (CHANGEDSINCE 99999)|
FETCH 1 (FLAGS UID) (CHANGEDSINCE 1)|UID FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)|
STORE 1 (UNCHANGEDSINCE 1) +FLAGS.SILENT (zz)|STORE 1 (UNCHANGEDSINCE 0) +FLAGS (zz)|
STORE 1 (UNCHANGEDSINCE 9999999999) +FLAGS (zz)|CLOSE|FETCH 1 FLAGS|SELECT Box|
FETCH 1:* (UID FLAGS)|EXAMINE Box|FETCH 1 BODY[]|FETCH 1 FLAGS|UNSELECT|UNSELECT|CLOSE|CHECK|
EXPUNGE|
CREATE Empty|SELECT Empty|UID FETCH 1:* FLAGS|UID FETCH * FLAGS|SEARCH ALL|SEARCH *|SEARCH 1:*|
UID STORE 1:* +FLAGS (x)|UID COPY 1:* Box|EXPUNGE|UID SEARCH 1:*|FETCH 1 FLAGS|SELECT nope|
FETCH 1 FLAGS
"""


def test_changes(both: Both) -> None:
    fill(both, b"Changed")
    for command in CHANGES.replace("|\n", "|").strip().split("|"):
        compare(both, command.encode())


NAMES = r"""
LIST "" ""|LIST "" INBOX|LIST "" inbox|CREATE n|CREATE n|CREATE n/b|CREATE n/b/c|LIST "" n*|
LIST "" n%|LIST "" n/%|LIST "" n/*|LIST n/ %|LIST n %|LIST "" n%/%|LIST "" n%b%|LIST "" n*c|
LIST "" "n/b/"|LIST "" nowhere|CREATE INBOX/x|CREATE inbox/y|
LIST "" inbox/*|LIST "" INBOX*|CREATE ""|CREATE "/lead"|CREATE "x//y"|CREATE "&"|CREATE "&AOk-t"|
CREATE "&AOk-t&AOk-"|CREATE "&AGE-"|CREATE "&U,BTFw-&ZeVnLIqe-"|CREATE "&Jjo!"|
CREATE "Entw&APw-rfe"|
CREATE "&ZeVnLIqe-"|CREATE "&ZeVnLIqe-/&U,BTFw-"|LIST "" "&ZeVnLIqe-/%"|LIST "" "Entw*"|SUBSCRIBE n|
SUBSCRIBE n/b/c|LSUB "" n*|LSUB "" n%|LSUB "" n/%|LSUB "" n/b*|UNSUBSCRIBE n|LSUB "" n%|LSUB "" n*|
DELETE INBOX|DELETE nope2|CREATE r|CREATE r/s|CREATE r/s/t|RENAME r r2|LIST "" r*|RENAME r2 INBOX|
RENAME nope q|RENAME r2/s r2/s/u|RENAME r2/s/t top|LIST "" r2/*|LIST "" top|RENAME top top|
DELETE n/b/c|DELETE n/b|LIST "" n*|SELECT n|UNSELECT|DELETE n|FETCH 1 FLAGS|LIST "" n*|LIST|
LIST ""|LSUB ""|
SUBSCRIBE|STATUS a|CREATE|RENAME a|CREATE "sp ace"|LIST "" "sp ace"|
CREATE "qu\"ote"|LIST "" "qu*"|DELETE "sp ace"
"""


def test_names(both: Both) -> None:
    both.ask(b"UNSELECT")
    both.selected = b""
    for command in NAMES.replace("|\n", "|").strip().split("|"):
        compare(both, command.encode())
