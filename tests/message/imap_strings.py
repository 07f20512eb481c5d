"""A strict reader of what IMAP lets stand in ENVELOPE and BODYSTRUCTURE, for tests only."""

from __future__ import annotations

import re

_QUOTED = re.compile(rb'"((?:[\x01-\x09\x0b\x0c\x0e-\x21\x23-\x5b\x5d-\x7f]|\\["\\])*)"')
_LITERAL = re.compile(rb"\{(\d+)\}\r\n")
_NUMBER = re.compile(rb"\d+")

Value = bytes | int | None | list["Value"]


class _Reader:
    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.at = 0

    def value(self) -> Value:
        octets = self.octets
        if octets.startswith(b"(", self.at):
            return self.list()
        if octets.startswith(b"NIL", self.at):
            self.at += 3
            return None
        if (match := _QUOTED.match(octets, self.at)) is not None:
            self.at = match.end()
            return re.sub(rb"\\(.)", rb"\1", match[1])
        if (match := _LITERAL.match(octets, self.at)) is not None:
            text = octets[match.end() : match.end() + int(match[1])]
            assert len(text) == int(match[1])
            assert b"\0" not in text
            self.at = match.end() + len(text)
            return text
        match = _NUMBER.match(octets, self.at)
        assert match is not None, (octets, self.at)
        self.at = match.end()
        return int(match[0])

    def list(self) -> list[Value]:
        self.at += 1
        out: list[Value] = []
        while not self.octets.startswith(b")", self.at):
            if out and self.octets.startswith(b" ", self.at):
                self.at += 1
            elif out:  # only lists stand side by side (addresses, parts)
                assert self.octets.startswith(b"(", self.at) and isinstance(out[-1], list)
            out.append(self.value())
        self.at += 1
        return out


def read(octets: bytes) -> Value:
    """Raises AssertionError for anything that is not exactly one value."""
    reader = _Reader(octets)
    out = reader.value()
    assert reader.at == len(octets), octets[reader.at :]
    return out


def check_envelope(value: Value) -> None:
    assert isinstance(value, list) and len(value) == 10
    for index, item in enumerate(value):
        if 2 <= index <= 7:
            assert item is None or (isinstance(item, list) and item)
            for address in item or ():
                assert isinstance(address, list) and len(address) == 4
                assert all(piece is None or isinstance(piece, bytes) for piece in address)
        else:
            assert item is None or isinstance(item, bytes)


def _check_parameters(value: Value) -> None:
    if value is not None:
        assert isinstance(value, list) and len(value) % 2 == 0 and value
        assert all(isinstance(item, bytes) for item in value)


def _check_tail(tail: list[Value]) -> None:
    assert len(tail) == 3
    disposition, languages, location = tail
    if disposition is not None:
        assert isinstance(disposition, list) and len(disposition) == 2
        assert isinstance(disposition[0], bytes)
        _check_parameters(disposition[1])
    assert languages is None or (isinstance(languages, list) and languages)
    assert location is None or isinstance(location, bytes)


def check_body(value: Value, extended: bool) -> None:
    """RFC 3501 §9, body: every field in its place."""
    assert isinstance(value, list)
    if isinstance(value[0], list):
        count = next(index for index, item in enumerate(value) if not isinstance(item, list))
        for child in value[:count]:
            check_body(child, extended)
        assert isinstance(value[count], bytes)
        rest = value[count + 1 :]
        if not extended:
            assert not rest
            return
        _check_parameters(rest[0])
        _check_tail(rest[1:])
        return
    kind, subtype, parameters, id, description, encoding, size = value[:7]
    assert isinstance(kind, bytes) and isinstance(subtype, bytes) and isinstance(encoding, bytes)
    assert isinstance(size, int)
    assert id is None or isinstance(id, bytes)
    assert description is None or isinstance(description, bytes)
    _check_parameters(parameters)
    rest = value[7:]
    if kind == b"text":
        assert isinstance(rest.pop(0), int)
    elif kind == b"message" and subtype in (b"rfc822", b"global"):
        check_envelope(rest.pop(0))
        check_body(rest.pop(0), extended)
        assert isinstance(rest.pop(0), int)
    if not extended:
        assert not rest
        return
    md5 = rest.pop(0)
    assert md5 is None or isinstance(md5, bytes)
    _check_tail(rest)
