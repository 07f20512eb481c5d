"""Delivery status notifications: multipart/report for people and programs.

Whatever peers said or senders named (replies, ORCPT, ENVID, addresses) is cleaned of control
characters before it is written, so that it can neither end a field nor a part. Lines stay within
998 octets; only an original with 8-bit octets, or an SMTPUTF8 report, is not 7-bit.
Source: RFC 3464 §2, RFC 6522 §3, RFC 6533 §3, §4, §5, RFC 3461 §6.2, RFC 3834 §5.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from postroad.mail.address import Address
from postroad.mail.limits import SMTP_TEXT_LINE_OCTETS_MAX
from postroad.mail.reply import Reply, Status
from postroad.message.compose import message_id_field
from postroad.message.dates import render_date
from postroad.message.dsn_text import explain
from postroad.message.header import Header

ORIGINAL_OCTETS_MAX = 1 << 17
"""Of a whole original that goes back; larger ones go back as their header only."""
HEADER_OCTETS_MAX = 1 << 16
"""Of an original's header that goes back; cut at a field."""
DIAGNOSTIC_OCTETS_MAX = 2000
_LINE_OCTETS = 76
_WORD_OCTETS_MAX = 900
_TEXT_COLUMNS = 72

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_UNITEXT = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_MESSAGE_ID = re.compile(rb"<[\x21-\x3b\x3d\x3f-\x7e]{1,250}>\Z")
_LONG_LINE = re.compile(rb"[^\n]{%d}" % (SMTP_TEXT_LINE_OCTETS_MAX + 2))
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
_BOUNDARY = re.compile(r"[^A-Za-z0-9'+_,\-./:=?]")

ACTIONS = ("failed", "delayed", "delivered", "relayed", "expanded")


@dataclass(frozen=True, slots=True, kw_only=True)
class DSNRecipient:
    """One recipient's fate.

    final: the address we tried. original: ORCPT as received (`rfc822;` and xtext), or None.
    diagnostic: the reply that decided; remote: the server that gave it, None when the words are
    our own. ours: they are, although a server is named. waited: for how long it was tried in
    vain, when that is why it failed. will_retry_until: only for `delayed`.
    """

    final: str
    original: str | None = None
    action: str = "failed"
    status: str = "5.0.0"
    diagnostic: Reply | None = None
    remote: str | None = None
    ours: bool = False
    waited: timedelta | None = None
    last_attempt: datetime | None = None
    will_retry_until: datetime | None = None

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"{self.action!r} is no action of RFC 3464 §2.3.3")
        Status.parse(self.status)

    @property
    def in_our_words(self) -> bool:
        """Whether no server said what `diagnostic` holds."""
        return self.ours or self.remote is None


FailedRecipient = DSNRecipient


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()


def _ascii(text: str, utf8: bool) -> str:
    return text if utf8 else _NOT_ASCII.sub("?", text)


def decode_xtext(text: str) -> str:
    """RFC 3461 §4: `+2B` is a plus sign; what decodes to a control character becomes a space."""
    return _clean(_XTEXT.sub(lambda match: chr(int(match[1], 16)), text))


def _code_point(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if 0x20 <= number <= 0x10FFFF and not 0xD800 <= number < 0xE000 else "?"


def _typed_address(kind: str, address: str, utf8: bool) -> str:
    """`rfc822; a@b`, or the utf-8 type in one of its two forms (RFC 6533 §3)."""
    if address.isascii() and "\\x{" not in address:
        return f"{kind}; {address}"
    plain = _clean(_UNITEXT.sub(_code_point, address))
    if utf8:
        return f"utf-8; {plain}"
    return "utf-8; " + "".join(
        c if "!" <= c <= "~" and c not in "+=\\" else f"\\x{{{ord(c):02X}}}" for c in plain
    )


def _original_recipient(orcpt: str, utf8: bool) -> str:
    kind, semicolon, address = orcpt.partition(";")
    if not semicolon:
        kind, address = "rfc822", orcpt
    kind = re.sub(r"[^A-Za-z0-9\-]", "", kind) or "rfc822"
    return _typed_address(kind, decode_xtext(address), utf8)


def _field(name: str, value: str) -> bytes:
    """One field, folded at white space; a word that fits no line is cut."""
    line = name.encode() + b":"
    lines: list[bytes] = []
    for word in value.encode("utf-8", "replace").split():
        for at in range(0, len(word), _WORD_OCTETS_MAX):
            piece = word[at : at + _WORD_OCTETS_MAX]
            if len(line) + 1 + len(piece) > _LINE_OCTETS and line.strip() and len(line) > 30:
                lines.append(line)
                line = b""
            line += b" " + piece
    lines.append(line)
    return b"\r\n".join(lines) + b"\r\n"


def _diagnostic(reply: Reply, utf8: bool) -> str:
    text = _ascii(_clean(str(reply)), utf8).encode("utf-8")[:DIAGNOSTIC_OCTETS_MAX]
    return text.decode("utf-8", "ignore")


def _recipient_fields(recipient: DSNRecipient, utf8: bool) -> bytes:
    out = [b"\r\n"]
    if recipient.original:
        original = _original_recipient(recipient.original, utf8)
        out.append(_field("Original-Recipient", original))
    out.append(_field("Final-Recipient", _typed_address("rfc822", _clean(recipient.final), utf8)))
    out.append(_field("Action", recipient.action))
    out.append(_field("Status", recipient.status))
    if recipient.remote:
        out.append(_field("Remote-MTA", f"dns; {_ascii(_clean(recipient.remote), utf8)}"))
    if recipient.diagnostic is not None:
        # RFC 3464 §2.3.6: `smtp` is for what a server said by SMTP
        kind = "x-postroad" if recipient.in_our_words else "smtp"
        text = _diagnostic(recipient.diagnostic, utf8)
        out.append(_field("Diagnostic-Code", f"{kind}; {text}"))
    if recipient.last_attempt is not None:
        out.append(b"Last-Attempt-Date: " + render_date(recipient.last_attempt) + b"\r\n")
    if recipient.will_retry_until is not None and recipient.action == "delayed":
        out.append(b"Will-Retry-Until: " + render_date(recipient.will_retry_until) + b"\r\n")
    return b"".join(out)


def _status_part(
    hostname: str,
    envid: str | None,
    arrival: datetime | None,
    recipients: Sequence[DSNRecipient],
    utf8: bool,
) -> bytes:
    fields = []
    if envid:
        fields.append(_field("Original-Envelope-Id", _ascii(decode_xtext(envid), utf8)))
    fields.append(_field("Reporting-MTA", f"dns; {_ascii(_clean(hostname), utf8)}"))
    if arrival is not None:
        fields.append(b"Arrival-Date: " + render_date(arrival) + b"\r\n")
    fields += [_recipient_fields(recipient, utf8) for recipient in recipients]
    content = b"".join(fields)
    if content.isascii():
        return b"Content-Type: message/delivery-status\r\n\r\n" + content
    return (
        b"Content-Type: message/global-delivery-status\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\n" + content
    )


def _wrap(text: str, indent: str) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in text.split():
        for at in range(0, len(word), _WORD_OCTETS_MAX // 4):
            piece = word[at : at + _WORD_OCTETS_MAX // 4]
            if line and len(line) + 1 + len(piece) > _TEXT_COLUMNS - len(indent):
                lines.append(indent + line)
                line = piece
            else:
                line = f"{line} {piece}" if line else piece
    if line:
        lines.append(indent + line)
    return lines


_OPENINGS = {
    "failed": "Your message could not be delivered to the recipients below. It will not be tried "
    "again.",
    "delayed": "Your message is on its way, but could not be delivered yet. This is a warning "
    "only: you need not send it again.",
    "delivered": "Your message was delivered, as you asked to be told.",
}


def _kind(recipients: Sequence[DSNRecipient]) -> str:
    """What the report is about as a whole: failures before delays before successes."""
    actions = {recipient.action for recipient in recipients}
    if "failed" in actions:
        return "failed"
    return "delayed" if "delayed" in actions else "delivered"


def _recipient_text(recipient: DSNRecipient, kind: str) -> list[str]:
    status = Status.parse(recipient.status)
    what, todo = explain(recipient.action, status.subject, status.detail, recipient.waited)
    lines = ["", f"<{_clean(recipient.final)[:400]}>"]
    if recipient.action != kind and recipient.action in ("failed", "delayed"):
        lines += _wrap(f"({recipient.action})", "    ")
    lines += _wrap(what, "    ")
    lines += _wrap(todo, "    ")
    if recipient.diagnostic is not None:
        own = recipient.in_our_words
        lines += _wrap(
            "We found:" if own else f"The server {_clean(recipient.remote or '')} said:", "    "
        )
        lines += _wrap(_diagnostic(recipient.diagnostic, True), "        ")
    if recipient.will_retry_until is not None and recipient.action == "delayed":
        until = render_date(recipient.will_retry_until).decode()
        lines += _wrap(f"We keep trying until {until}.", "    ")
    return lines


def _text_part(hostname: str, kind: str, recipients: Sequence[DSNRecipient]) -> bytes:
    lines = _wrap(f"This is the mail server {_clean(hostname)}.", "")
    lines.append("")
    lines += _wrap(_OPENINGS[kind], "")
    for recipient in recipients:
        lines += _recipient_text(recipient, kind)
    if kind != "delivered":
        lines += [""]
        lines += _wrap(
            "The parts that follow hold the same for programs, and your message or its header.", ""
        )
    text = "\r\n".join(lines) + "\r\n"
    if text.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + text.encode("ascii")
    return (
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        + _quoted_printable(text.encode("utf-8", "replace"))
    )


def _quoted_printable(octets: bytes) -> bytes:
    """CRLF lines to quoted-printable with CRLF lines (RFC 2045 §6.7)."""
    lines = []
    for line in octets.split(b"\r\n"):
        lines.append(binascii.b2a_qp(line, quotetabs=False, istext=False).replace(b"=\n", b"=\r\n"))
    return b"\r\n".join(lines)


def _is_sendable(octets: bytes) -> bool:
    """Whether it may stand in a part as it is: CRLF lines of legal length, no NUL."""
    return _BARE.search(octets) is None and _LONG_LINE.search(octets) is None


def _cut_header(original_header: bytes) -> bytes:
    """Whole fields of at most HEADER_OCTETS_MAX, with CRLF line ends and no NUL."""
    out: list[bytes] = []
    size = 0
    for field in Header(original_header):
        raw = re.sub(rb"\r*\n|\r", b"\r\n", field.raw.replace(b"\0", b""))
        raw = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
        size += len(raw)
        if size > HEADER_OCTETS_MAX:
            break
        out.append(raw)
    return b"".join(out)


def _original_part(original_header: bytes, original: bytes | None, smtputf8: bool) -> bytes:
    if original is not None and len(original) <= ORIGINAL_OCTETS_MAX and _is_sendable(original):
        is_global = smtputf8 and not original_header.isascii()
        fields = b"Content-Type: message/" + (b"global" if is_global else b"rfc822") + b"\r\n"
        if not original.isascii():
            fields += b"Content-Transfer-Encoding: 8bit\r\n"
        return fields + b"\r\n" + original
    header = _cut_header(original_header)
    if header.isascii() and _is_sendable(header):
        return b"Content-Type: text/rfc822-headers\r\n\r\n" + header
    if smtputf8 and _is_sendable(header) and _is_utf8(header):
        return (
            b"Content-Type: message/global-headers\r\n"
            b"Content-Transfer-Encoding: 8bit\r\n\r\n" + header
        )
    return (  # RFC 6522 §4 allows this encoding for headers that are not 7-bit
        b"Content-Type: text/rfc822-headers\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + _quoted_printable(header)
    )


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


_SUBJECTS = {
    "failed": b"Your message could not be delivered",
    "delayed": b"Your message is delayed",
    "delivered": b"Your message was delivered",
}


def _fresh_boundary(wanted: str, parts: Sequence[bytes]) -> bytes:
    """A boundary that stands in no part."""
    base = _BOUNDARY.sub("", wanted)[:50].encode() or b"report"
    boundary = base
    number = 0
    while any(b"--" + boundary in part for part in parts):
        number += 1
        boundary = base + b"_%d" % number
    return boundary


def render_dsn(
    *,
    hostname: str,
    reverse_path_of_original: Address,
    message_id: str | bytes,
    now: datetime,
    arrival: datetime | None,
    envid: str | None,
    recipients: Sequence[DSNRecipient],
    original_header: bytes,
    original: bytes | None,
    smtputf8: bool,
    boundary: str,
) -> bytes:
    """The whole report, CRLF lines; it is sent from the null reverse-path.

    message_id: of the report, with or without brackets and domain. envid: ENVID as received
    (xtext). original: the whole message where RET=FULL, else None: then its header goes back.
    smtputf8: the original came with SMTPUTF8, so the report may go as such.
    """
    if not recipients:
        raise ValueError("a report is about at least one recipient")
    utf8 = smtputf8 or not reverse_path_of_original.is_ascii
    kind = _kind(recipients)
    host = _ascii(_clean(hostname), utf8)
    parts = [
        _text_part(host, kind, recipients),
        _status_part(host, envid, arrival, recipients, utf8),
        _original_part(original_header, original, utf8),
    ]
    mark = _fresh_boundary(boundary, parts)
    identifier = (
        message_id if isinstance(message_id, bytes) else message_id.encode("ascii", "ignore")
    )
    fields = [
        _field("From", f"Mail Delivery System <MAILER-DAEMON@{host}>"),
        _field("To", f"<{_clean(str(reverse_path_of_original))}>"),
        b"Subject: " + _SUBJECTS[kind] + b"\r\n",
        b"Date: " + render_date(now) + b"\r\n",
        message_id_field(identifier, host),
    ]
    answered = Header(original_header).value(b"message-id")
    if answered is not None and _MESSAGE_ID.match(answered):
        fields.append(b"References: " + answered + b"\r\n")
    fields.append(b"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n")
    fields.append(
        b"Content-Type: multipart/report; report-type=delivery-status;\r\n"
        b'\tboundary="' + mark + b'"\r\n'
    )
    if not all(part.isascii() for part in parts):
        fields.append(b"Content-Transfer-Encoding: 8bit\r\n")
    body = b"".join(b"\r\n--" + mark + b"\r\n" + part for part in parts)
    return b"".join(fields) + body + b"\r\n--" + mark + b"--\r\n"
