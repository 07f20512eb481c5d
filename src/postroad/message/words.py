"""Encoded words: header text to Unicode, and back.

Tolerant: what is not an encoded word stays; unknown charsets are read as Latin-1. Never raises.
Source: RFC 2047 §2, §4, §5, §6.2; RFC 2231 §5 (language suffix); RFC 6532 §3 (raw UTF-8).
"""

from __future__ import annotations

import binascii
import codecs
import re
from functools import lru_cache

_WORD = re.compile(rb"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\r\n]*)\?=")
_GAP = re.compile(rb"(\?=)[ \t\r\n]+(?==\?[^?\s]{1,60}\?[bBqQ]\?[^?\r\n]*\?=)")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
_ONLY_BASE64 = re.compile(rb"[A-Za-z0-9+/=\r\n]*+\Z")
_PADDING = re.compile(rb"=[=\r\n]*+")
_LONE = re.compile("[\ud800-\udfff]")

_ALIASES = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "x-sjis": "cp932",
    "shift_jis": "cp932",
    "iso-8859-8-i": "iso-8859-8",
    "windows-874": "cp874",
    "x-gbk": "gb18030",
    "unicode-1-1-utf-7": "utf-7",
    "ansi_x3.4-1968": "ascii",
}
_NOT_TEXT = frozenset(("idna", "punycode", "unicodeescape", "rawunicodeescape", "undefined"))
_ASCII_BASED = ("utf-8", "us-ascii", "iso-8859", "windows-125", "koi8")


@lru_cache(maxsize=512)
def codec_name(charset: str) -> str | None:
    """Python's name of a charset's codec, or None for one we do not know."""
    name = charset.strip().strip("\"'").lower()
    if not name or len(name) > 60 or not name.isascii() or "\0" in name:
        return None
    name = _ALIASES.get(name, name)
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    if (
        not getattr(info, "_is_text_encoding", True)
        or info.name.replace("-", "").replace("_", "") in _NOT_TEXT
    ):
        return None
    return info.name


def decode_charset(octets: bytes, charset: str | None) -> str:
    """Octets of a named charset to text; unknown or unnamed: UTF-8 when legal, else Latin-1."""
    if octets.isascii() and (charset is None or charset.lower().startswith(_ASCII_BASED)):
        return octets.decode("ascii")
    name = codec_name(charset) if charset else None
    if name is not None and name != "ascii":
        try:
            return _LONE.sub("\ufffd", octets.decode(name, "replace"))
        except (UnicodeError, ValueError):
            pass
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def decode_base64(octets: bytes) -> bytes:
    """Base64 of any shape: foreign octets are skipped, a torn last group gives what it holds.

    What follows the padding counts only when all of it is base64 again: several encodings put
    behind one another; a list's footer in plain text does not.
    """
    end = octets.find(b"=")
    if end == -1 or not (rest := octets[end:].lstrip(b"=\r\n \t")):
        return _decode_base64(octets)
    first = _decode_base64(octets[:end])
    if _ONLY_BASE64.match(rest) is None:
        return first
    pieces = [_decode_base64(piece) for piece in _PADDING.split(rest) if piece]
    return b"".join([first, *pieces])


def _decode_base64(octets: bytes) -> bytes:
    clean = _NOT_BASE64.sub(b"", octets)
    if len(clean) % 4 == 1:
        clean = clean[:-1]
    return binascii.a2b_base64(clean + b"=" * (-len(clean) % 4))


def _decode_q(text: bytes) -> bytes:
    return _HEX.sub(lambda match: bytes((int(match[1], 16),)), text.replace(b"_", b" "))


def _raw(octets: bytes) -> str:
    if octets.isascii():
        return octets.decode("ascii")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def decode_words(value: bytes) -> str:
    """A field's value as text: encoded words decoded, the rest as UTF-8 or Latin-1.

    Adjacent words of one charset are joined before decoding, since senders cut characters apart.
    """
    if b"=?" not in value:
        return _raw(value)
    value = _GAP.sub(rb"\1", value)
    out: list[str] = []
    pending = bytearray()
    pending_charset: str | None = None
    at = 0
    for match in _WORD.finditer(value):
        charset = match[1].partition(b"*")[0].decode("latin-1").lower()
        octets = decode_base64(match[3]) if match[2] in b"bB" else _decode_q(match[3])
        if pending_charset is not None and (match.start() > at or charset != pending_charset):
            out.append(decode_charset(bytes(pending), pending_charset))
            pending.clear()
        if match.start() > at:
            out.append(_raw(value[at : match.start()]))
        pending += octets
        pending_charset = charset
        at = match.end()
    if pending_charset is not None:
        out.append(decode_charset(bytes(pending), pending_charset))
    if at < len(value):
        out.append(_raw(value[at:]))
    return "".join(out)


def encode_words(text: str) -> bytes:
    """Text as field content: ASCII as it is, the rest as encoded words (UTF-8, base64).

    Each word is at most 75 octets and holds whole characters; CR, LF and NUL become spaces.
    """
    clean = re.sub("[\r\n\0]", " ", text)
    if clean.isascii() and "=?" not in clean:
        return clean.encode("ascii")
    words: list[bytes] = []
    pending = b""
    for character in clean:
        octets = character.encode("utf-8", "replace")
        if len(pending) + len(octets) > 45:
            words.append(pending)
            pending = b""
        pending += octets
    words.append(pending)
    return b"\r\n ".join(
        b"=?utf-8?B?" + binascii.b2a_base64(word, newline=False) + b"?=" for word in words
    )
