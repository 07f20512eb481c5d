"""IMAP's ENVELOPE, BODY and BODYSTRUCTURE, rendered from a scanned message.

Octets come out ready to be written after the item's name: quoted strings where they are legal,
literals where not (8-bit, control characters that quoting cannot carry), NIL; NUL never.
Source: RFC 3501 §7.4.2 (ENVELOPE, BODYSTRUCTURE), §4.3 (strings), §9; RFC 9051 §7.5.2.
"""

from __future__ import annotations

import re

from postroad.message.addresses import Group, MailboxAddress, parse_addresses
from postroad.message.content_fields import Parameters
from postroad.message.part import Fields, Part

_NEEDS_LITERAL = re.compile(rb"[\x00\r\n\x80-\xff]")
_SPECIAL = re.compile(rb'(["\\])')
_PLAIN = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x21\x23-\x5b\x5d-\x7f]*+\Z")
_COMMON = {
    word: b'"' + word + b'"'
    for word in b"""text plain html multipart mixed alternative related report signed application
    octet-stream pdf zip image png jpeg gif message rfc822 delivery-status charset utf-8 UTF-8
    us-ascii iso-8859-1 windows-1252 boundary name filename format flowed delsp type report-type
    protocol micalg 7bit 8bit binary base64 quoted-printable attachment inline size""".split()
}
"""Half of the strings of all BODYSTRUCTUREs."""

_EMPTY_PART = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)'
_EMPTY_PART_EXTENDED = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'


def render_nstring(value: bytes | None) -> bytes:
    """NIL, a quoted string, or a literal."""
    if value is None:
        return b"NIL"
    if _PLAIN.match(value) is not None:
        return b'"%b"' % value
    if _NEEDS_LITERAL.search(value) is None:
        return b'"%b"' % _SPECIAL.sub(rb"\\\1", value)
    value = value.replace(b"\0", b"")
    if _NEEDS_LITERAL.search(value) is None:
        return render_nstring(value)
    return b"{%d}\r\n%b" % (len(value), value)


def _word(value: bytes) -> bytes:
    """A string that is most often one of a few."""
    return _COMMON.get(value) or render_nstring(value)


def _address(item: MailboxAddress) -> bytes:
    nstring = render_nstring
    return b"(%b %b %b %b)" % (
        nstring(item.display),
        nstring(item.route),
        nstring(item.local),
        nstring(item.domain),
    )


def render_addresses(value: bytes | None) -> bytes:
    """An address field's value as ENVELOPE shows it; NIL when it holds no address."""
    if not value:
        return b"NIL"
    out: list[bytes] = []
    for item in parse_addresses(value):
        if isinstance(item, Group):
            # RFC 3501 §7.4.2: a group begins with (NIL NIL name NIL) and ends with four NIL.
            out.append(b"(NIL NIL %b NIL)" % render_nstring(item.name))
            out += map(_address, item.members)
            out.append(b"(NIL NIL NIL NIL)")
        else:
            out.append(_address(item))
    return b"(" + b"".join(out) + b")" if out else b"NIL"


def render_envelope(fields: Fields) -> bytes:
    """ENVELOPE of the known fields of one header section."""
    get = fields.get
    author = render_addresses(get(b"from"))
    sender, reply_to = get(b"sender"), get(b"reply-to")
    rendered_sender = render_addresses(sender) if sender else author
    rendered_reply_to = render_addresses(reply_to) if reply_to else author
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        render_nstring(get(b"date")),
        render_nstring(get(b"subject")),
        author,
        author if rendered_sender == b"NIL" else rendered_sender,
        author if rendered_reply_to == b"NIL" else rendered_reply_to,
        render_addresses(get(b"to")),
        render_addresses(get(b"cc")),
        render_addresses(get(b"bcc")),
        render_nstring(get(b"in-reply-to")),
        render_nstring(get(b"message-id")),
    )


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return b"NIL"
    pairs = [b"%b %b" % (_word(name), _word(value)) for name, value in parameters]
    return b"(" + b" ".join(pairs) + b")"


def _disposition(part: Part) -> bytes:
    if part.disposition is None:
        return b"NIL"
    kind, parameters = part.disposition
    return b"(%b %b)" % (_word(kind), _parameters(parameters))


def _languages(part: Part) -> bytes:
    if not part.languages:
        return b"NIL"
    return b"(" + b" ".join(map(render_nstring, part.languages)) + b")"


def _tail(part: Part) -> bytes:
    """Disposition, language, location: the extension data every part ends with."""
    if part.disposition is None and not part.languages and part.location is None:
        return b" NIL NIL NIL"
    return b" %b %b %b" % (_disposition(part), _languages(part), render_nstring(part.location))


def _multipart(part: Part, shown: list[bytes], extended: bool) -> bytes:
    empty = _EMPTY_PART_EXTENDED if extended else _EMPTY_PART
    out = b"(" + (b"".join(shown) or empty) + b" " + _word(part.subtype)
    if extended:
        out += b" " + _parameters(part.parameters) + _tail(part)
    return out + b")"


def _single(part: Part, shown: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    nstring = render_nstring
    common = b"(%b %b %b %b %b %b %d" % (
        _word(part.type),
        _word(part.subtype),
        _parameters(part.parameters),
        nstring(part.id),
        nstring(part.description),
        _word(part.encoding),
        part.size,
    )
    tail = b" " + nstring(part.md5) + _tail(part) + b")"
    if part.type == b"text":
        common += b" %d" % part.lines
    elif part.children:
        envelope = render_envelope(part.children[0].fields)
        lines = part.lines
        plain = b"%b %b %b %d)" % (common, envelope, shown[0][0], lines)
        return plain, b"%b %b %b %d%b" % (common, envelope, shown[0][1], lines, tail)
    return common + b")", common + tail


def render_body(part: Part) -> tuple[bytes, bytes]:
    """(BODY, BODYSTRUCTURE) of the part; recursion is as deep as MIME_DEPTH_MAX."""
    shown = [render_body(child) for child in part.children]
    if part.is_multipart:
        return (
            _multipart(part, [plain for plain, _ in shown], False),
            _multipart(part, [extended for _, extended in shown], True),
        )
    return _single(part, shown)
