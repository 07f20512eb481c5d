"""Mailbox names on the wire: modified UTF-7 or UTF-8, and INBOX in any case.

Source: RFC 3501 §5.1.3, §5.1; RFC 2152; RFC 9051 §5.1 and RFC 9755 §3 (UTF-8).
"""

from __future__ import annotations

import binascii
import re

_ENCODED = re.compile(rb"&([A-Za-z0-9+,]*)-")
_UNSAFE = re.compile(r"[^\x20-\x25\x27-\x7e]+")
_ILLEGAL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SEPARATOR = "/"


def _decode_shift(match: re.Match[bytes]) -> bytes:
    body = match[1]
    if not body:
        return b"&"
    padded = body.replace(b",", b"/") + b"=" * (-len(body) % 4)
    try:
        octets = binascii.a2b_base64(padded, strict_mode=True)
        text = octets.decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("not modified UTF-7") from error
    if not text:
        raise ValueError("not modified UTF-7")
    return text.encode("utf-8")


def decode_utf7(octets: bytes) -> str:
    """Modified UTF-7, or UTF-8 as some clients send it all the same.

    Raises: ValueError when it is neither, or when the name has another, right spelling: a client
    would look in vain for what it created (RFC 3501 §5.1.3, superfluous shifts).
    """
    decoded = octets
    if b"&" in octets:
        if b"&" in _ENCODED.sub(b"", octets):
            raise ValueError("not modified UTF-7")
        decoded = _ENCODED.sub(_decode_shift, octets)
    try:
        name = decoded.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("not modified UTF-7") from error
    if b"&" in octets and octets.isascii() and _shifts(octets) != _shifts(encode_utf7(name)):
        raise ValueError("not modified UTF-7")
    return name


def _shifts(octets: bytes) -> list[bytes]:
    return _ENCODED.findall(octets)


def _encode_run(match: re.Match[str]) -> str:
    run = match[0]
    out = []
    for piece in re.split("(&)", run):
        if piece == "&":
            out.append("&-")
        elif piece:
            shifted = binascii.b2a_base64(piece.encode("utf-16-be"), newline=False)
            out.append("&" + shifted.decode("ascii").rstrip("=").replace("/", ",") + "-")
    return "".join(out)


def encode_utf7(name: str) -> bytes:
    """The inverse of `decode_utf7`, always in modified UTF-7."""
    return _UNSAFE.sub(_encode_run, name).encode("ascii")


def canonical(name: str) -> str:
    """INBOX, alone or as the first level, in capitals (RFC 3501 §5.1)."""
    if name[:5].upper() == "INBOX" and name[5:6] in ("", SEPARATOR):
        return "INBOX" + name[5:]
    return name


def decode_mailbox(octets: bytes, *, utf8: bool = False) -> str:
    """utf8: enabled, so that `&` is nothing special. Raises: ValueError."""
    if utf8:
        try:
            name = canonical(octets.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError("not UTF-8") from error
    else:
        name = canonical(decode_utf7(octets))
    if _ILLEGAL.search(name) is not None:
        raise ValueError("control characters are not allowed")
    return name
