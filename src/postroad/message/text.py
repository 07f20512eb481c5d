"""Text of parts: transfer encodings and charsets undone, for SEARCH and previews.

Tolerant of every kind of damage; never raises. Says nothing of where parts are (`section`).
Source: RFC 2045 §6.7, §6.8; RFC 8970 §4 (preview: about 200 characters).
"""

from __future__ import annotations

import binascii
import html
import re

from postroad.message.words import decode_base64, decode_charset

PREVIEW_CHARACTERS = 200
_PREVIEW_OCTETS = (1024, 8192)
"""Of encoded text that a preview looks at, the second time when the first gave too little."""
_PREVIEW_HTML_OCTETS = (4096, 65536)
"""HTML often begins with some KB of styles."""

_TRAILING = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
_SPACE = re.compile(r"[\s\u00ad\u034f\u200b-\u200f\u2060\ufeff\x00-\x1f\x7f]+")
_HIDDEN = re.compile(
    r"<!--.*?(?:-->|\Z)|<(style|script|head|title)\b.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE
)
_BLOCK = re.compile(r"</?(?:p|div|br|td|tr|th|li|ul|ol|h[1-6]|table|blockquote)\b[^<>]*+>", re.I)
_LONG_NUMBER = re.compile(r"&#(?:x[0-9a-f]{7,}|[0-9]{8,});?", re.IGNORECASE)
"""No character has such a number, and Python refuses to read the longest."""
_TAG = re.compile(r"<[a-zA-Z/!?][^>]*(?:>|\Z)")


def decode_transfer(octets: bytes, encoding: bytes) -> bytes:
    """Content-Transfer-Encoding undone; unknown ones leave the octets as they are."""
    kind = encoding.strip().lower()
    if kind == b"base64":
        return decode_base64(octets)
    if kind == b"quoted-printable":
        # RFC 2045 §6.7 rule 3: white space at line ends was put there by transport.
        if b" \r" in octets or b" \n" in octets or b"\t" in octets or octets.endswith(b" "):
            octets = _TRAILING.sub(b"", octets)
        return binascii.a2b_qp(octets)
    return octets


def decode_text(octets: bytes, encoding: bytes, charset: bytes | None) -> str:
    """A text part's body as text; unknown charsets are read as Latin-1."""
    decoded = decode_transfer(octets, encoding)
    return decode_charset(decoded, None if charset is None else charset.decode("latin-1"))


def strip_html(text: str) -> str:
    """What a reader sees of HTML, roughly: tags, styles and comments gone, entities resolved."""
    text = _HIDDEN.sub(" ", text)
    text = _BLOCK.sub(" ", text)
    return html.unescape(_LONG_NUMBER.sub("\ufffd", _TAG.sub("", text)))


def preview(octets: bytes, encoding: bytes, charset: bytes | None, subtype: bytes) -> str:
    """The first PREVIEW_CHARACTERS of a text part, white space collapsed."""
    is_html = subtype == b"html"
    shown = ""
    for looked_at in _PREVIEW_HTML_OCTETS if is_html else _PREVIEW_OCTETS:
        begin = octets[:looked_at]
        if looked_at < len(octets):
            begin = _whole_characters(begin)
        text = decode_text(begin, encoding, charset)
        if is_html:
            text = strip_html(text)
        shown = _collapse(text[: 20 * PREVIEW_CHARACTERS])
        if len(shown) >= PREVIEW_CHARACTERS or len(octets) <= looked_at:
            break
    return shown[:PREVIEW_CHARACTERS].rstrip()


def _whole_characters(octets: bytes) -> bytes:
    """Without the UTF-8 character at the end, which may be half of one."""
    for back in range(1, min(4, len(octets)) + 1):
        if octets[-back] >= 0xC0:
            return octets[:-back]
    return octets


def _collapse(text: str) -> str:
    """White space runs as one space; invisible and control characters gone."""
    text = " ".join(text.split())
    return text if text.isprintable() else _SPACE.sub(" ", text).strip()
