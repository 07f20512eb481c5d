"""MIME's structured fields: Content-Type, Content-Disposition and their parameters.

Parameters stay as they are written (`name*0*=...` too), as IMAP shows them; `parameter` and
`file_name` put RFC 2231 pieces together and decode them. Never raises.
Source: RFC 2045 §5.1, RFC 2183 §2, RFC 2231 §3, §4, RFC 3282 §2.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from postroad.message.addresses import comment_end, unquote
from postroad.message.words import decode_charset, decode_words

Parameters = tuple[tuple[bytes, bytes], ...]
ContentType = tuple[bytes, bytes, Parameters]
_OFTEN_OCTETS = 48

PARAMETERS_MAX = 200
"""Of one field; continuations of a long file name have some ten."""

_TYPE = re.compile(rb"\s*([^\s/;()<>@,\\\":\[\]?=]+)\s*/\s*([^\s/;()<>@,\\\":\[\]?=]+)\s*")
_TOKEN = re.compile(rb"\s*([^\s;()\",]+)\s*")
_PARAMETER = re.compile(
    rb'[\s;]*+([^\s=;"()]++)\s*+=\s*+(?:"((?:[^"\\]++|\\.)*+)(?:"|\\?\Z)|([^\s;"()]*+))',
    re.DOTALL,
)
_GAP = re.compile(rb"[\s;]*+")
_OPENING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|\(', re.DOTALL)


def _uncomment(value: bytes) -> bytes:
    """Without comments; quoted strings stay whole."""
    out: list[bytes] = []
    at = 0
    while (match := _OPENING.search(value, at)) is not None:
        if match[0] != b"(":
            out.append(value[at : match.end()])
            at = match.end()
            continue
        out.append(value[at : match.start()])
        at = comment_end(value, match.start())
    out.append(value[at:])
    return b"".join(out)


def parse_parameters(value: bytes, at: int) -> Parameters:
    """`;name=value` from offset `at` on, names in lower case; what is none is passed over.

    A forgotten semicolon is forgiven: real boundaries have been written that way.
    """
    out: list[tuple[bytes, bytes]] = []
    while len(out) < PARAMETERS_MAX:
        match = _PARAMETER.match(value, at)
        if match is None:
            gap = _GAP.match(value, at)
            at = value.find(b";", gap.end() if gap is not None else at)
            if at == -1:
                break
            continue
        name, quoted, token = match.groups()
        out.append((name.lower(), unquote(quoted) if quoted is not None else token))
        at = match.end()
    return tuple(out)


def parse_content_type(value: bytes) -> ContentType | None:
    """(type, subtype, parameters), lower case, of an unfolded value; None when it is malformed."""
    return _often(value) if len(value) <= _OFTEN_OCTETS else _content_type(value)


def _content_type(value: bytes) -> ContentType | None:
    if b"(" in value:
        value = _uncomment(value)
    match = _TYPE.match(value)
    if match is None:
        return None
    end = match.end()
    parameters = parse_parameters(value, end) if end < len(value) else ()
    return match[1].lower(), match[2].lower(), parameters


_often = lru_cache(maxsize=512)(_content_type)
"""Few values without a boundary or a name make up nearly all; a miss costs little."""


def parse_disposition(value: bytes) -> tuple[bytes, Parameters] | None:
    """(type, parameters) of Content-Disposition."""
    if b"(" in value:
        value = _uncomment(value)
    match = _TOKEN.match(value)
    if match is None:
        return None
    return match[1].lower(), parse_parameters(value, match.end())


def parse_token(value: bytes) -> bytes | None:
    """The token of Content-Transfer-Encoding, as written; None unless it is the only one."""
    if b"(" in value:
        value = _uncomment(value)
    match = _TOKEN.fullmatch(value)
    return None if match is None else match[1]


def parse_languages(value: bytes) -> tuple[bytes, ...]:
    """The tags of Content-Language."""
    if b"(" in value:
        value = _uncomment(value)
    found = (item.strip() for item in value.split(b","))
    return tuple(item for item in found if item)[:PARAMETERS_MAX]


def parameter(parameters: Parameters, name: bytes) -> bytes | None:
    """The plain parameter of this (lower-case) name."""
    for key, value in parameters:
        if key == name:
            return value
    return None


def decoded_parameter(parameters: Parameters, name: bytes) -> str | None:
    """The parameter as text: RFC 2231 pieces joined and decoded, else RFC 2047 words or 8-bit."""
    pieces: dict[int, tuple[bool, bytes]] = {}
    plain: bytes | None = None
    for key, value in parameters:
        if key == name:
            plain = value if plain is None else plain
        elif key.startswith(name + b"*"):
            rest = key[len(name) + 1 :]
            encoded = rest.endswith(b"*") or not rest
            number = rest.rstrip(b"*")
            if not number:
                pieces.setdefault(0, (True, value))
            elif number.isdigit() and len(number) <= 3:
                pieces.setdefault(int(number), (encoded, value))
    if 0 not in pieces:
        return None if plain is None else decode_words(plain)
    charset: str | None = None
    octets = b""
    for index in range(len(pieces)):
        if index not in pieces:
            break
        encoded, value = pieces[index]
        if encoded and index == 0:
            named, quote, rest = value.partition(b"'")
            if quote:
                charset = named.decode("latin-1") or None
                value = rest.partition(b"'")[2]
        octets += unquote_to_bytes(value) if encoded else value
    return decode_charset(octets, charset)


def file_name(disposition: Parameters, content_type: Parameters) -> str | None:
    """A part's file name: filename of Content-Disposition, else name of Content-Type."""
    found = decoded_parameter(disposition, b"filename")
    return found if found is not None else decoded_parameter(content_type, b"name")
