"""Where each target begins: a few inputs that reach far."""

from __future__ import annotations

from pathlib import Path

_MAIL = (
    b'From: =?utf-8?q?=C3=84nn?= <ann@one.example>\r\nTo: a, b: c@d;, "e, f" <g@h>\r\n'
    b"Subject: =?utf-8?b?w6Q=?= =?iso-8859-1?q?=E4?=\r\nDate: Mon, 23 Nov 2026 10:00:00 +0200\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\npre\r\n--b\r\n'
    b"Content-Type: text/plain; charset*=utf-8''x; name*0=\"a\"; name*1=b\r\n\r\nhi\r\n--b\r\n"
    b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody\r\n--b\r\n"
    b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment; filename=x.pdf\r\nContent-Language: en, de\r\n\r\nAAAA\r\n"
    b"--b--\r\nepi\r\n"
)
_COMMANDS = (
    b'\x02a FETCH 1:*,5 (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (SUBJECT "X-Y")]<0.10> BINARY[1])\r\n',
    b"\x02a UID SEARCH RETURN (ALL) CHARSET UTF-8 OR (FROM {3+}\r\nabc) NOT SINCE 1-Jan-2020\r\n",
    b'\x02a STORE 1:5 (UNCHANGEDSINCE 7) +FLAGS.SILENT (\\Seen $x)\r\nb UID COPY $ "&AOQ-"\r\n',
    b'\x02a APPEND INBOX (\\Seen) " 1-Feb-2026 10:00:00 +0000" {5+}\r\nhello {3+}\r\nabc\r\n',
    b'\x02a APPEND x CATENATE (URL "/INBOX/;UID=1" TEXT {3+}\r\nabc)\r\n',
    b"\x02a SORT (REVERSE SUBJECT) UTF-8 ALL\r\nb THREAD REFS UTF-8 ALL\r\n",
    b'\x01a LIST (SUBSCRIBED) "" ("%" "*") RETURN (CHILDREN STATUS (MESSAGES UNSEEN))\r\n',
    b'\x01a SETMETADATA "" (/private/comment "x" /shared/y NIL)\r\n',
    b"\x01a NOTIFY SET (selected (MessageNew (UID) MessageExpunge)) (subtree a (MailboxName))\r\n",
    b"\x01a SELECT x (QRESYNC (1 2 1:5 (1:2 1:2)))\r\nb ESEARCH IN (mailboxes x) ALL\r\n",
    b'\x00a AUTHENTICATE PLAIN AGEAYg==\r\nb LOGIN "u" {1+}\r\nx\r\nc ID ("name" NIL)\r\n',
)


def seeds(target: str) -> list[bytes]:
    match target:
        case "imap-commands":
            return list(_COMMANDS)
        case "names":
            return [b"&AOQ-x/INBOX", b"inbox", b"1:*,5,7:9"]
        case _:
            kept = Path(__file__).parent.parent / "tests" / "message" / "vectors"
            return [_MAIL, *(path.read_bytes() for path in sorted(kept.rglob("*.eml"))[:100])]
