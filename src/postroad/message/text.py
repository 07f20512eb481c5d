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
_PREVIEW_OCTETS = 8192
"""Of encoded text that a preview looks at; HTML begins with some KB of styles."""
_PREVIEW_HTML_OCTETS = 65536

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
        return binascii.a2b_qp(_TRAILING.sub(b"", octets))
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
    octets = octets[: _PREVIEW_HTML_OCTETS if is_html else _PREVIEW_OCTETS]
    text = decode_text(octets, encoding, charset)
    if is_html:
        text = strip_html(text)
    text = _SPACE.sub(" ", text[: 20 * PREVIEW_CHARACTERS]).strip()
    return text[:PREVIEW_CHARACTERS].rstrip()
