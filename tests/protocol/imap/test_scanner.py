"""Tokens (RFC 3501 §9, §4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.mail.errors import ProtocolError
from postroad.mail.flags import Flag
from postroad.protocol.imap import render
from postroad.protocol.imap.scanner import BadMailboxName, Scanner

_octets = st.binary(max_size=80).filter(lambda octets: b"\0" not in octets)


@given(_octets)
def test_a_rendered_string_is_read_back(octets: bytes) -> None:
    scan = Scanner(render.string(octets) + b"\r\n")
    assert scan.string() == octets
    scan.end()


@given(_octets)
def test_a_rendered_astring_is_read_back(octets: bytes) -> None:
    scan = Scanner(render.astring(octets) + b" x\r\n")
    assert scan.astring() == octets
    assert scan.peek(b" x")


@given(st.integers(0, 4102444799))
def test_a_rendered_date_is_read_back(moment: int) -> None:
    assert Scanner(render.date_time(moment)).date_time() == moment


def test_dates_with_zones() -> None:
    utc = Scanner(b'"17-Jul-1996 09:44:25 +0000"').date_time()
    assert Scanner(b'"17-Jul-1996 02:44:25 -0700"').date_time() == utc
    assert Scanner(b'"17-Jul-1996 11:14:25 +0130"').date_time() == utc
    assert Scanner(b'" 7-Jul-1996 09:44:25 +0000"').date_time() == utc - 10 * 86400


@pytest.mark.parametrize(
    "text",
    [b'"31-Feb-2026 00:00:00 +0000"', b'"1-Foo-2026 00:00:00 +0000"', b'"01-Jan-2026"',
     b'"01-Jan-0001 00:00:00 +2359"', b'"01-Jan-2026 25:00:00 +0000"'],
)  # fmt: skip
def test_dates_that_are_none(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        Scanner(text).date_time()


@pytest.mark.parametrize(
    ("text", "flags", "keywords"),
    [
        (b"(\\Seen $Junk \\deleted)", Flag.SEEN | Flag.DELETED, (b"$Junk",)),
        (b"\\Seen b a", Flag.SEEN, (b"a", b"b")),
        (b"()", Flag(0), ()),
        (b"(x X x)", Flag(0), (b"x",)),
    ],
)
def test_flags(text: bytes, flags: Flag, keywords: tuple[bytes, ...]) -> None:
    scan = Scanner(text + b"\r\n")
    assert scan.flags() == (flags, keywords)
    scan.end()


@pytest.mark.parametrize("text", [b"(\\Recent)", b"(\\Foo)", b"(a", b"(" + b"k" * 101 + b")"])
def test_flags_that_cannot_be_set(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        Scanner(text + b"\r\n").flags()


@pytest.mark.parametrize("text", [b'"a', b'"a\\n"', b"{5}\r\nab\r\n", b"{3}\r\na\0b", b'"a\r\n"'])
def test_malformed_strings_are_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        Scanner(text).astring()


UTF8 = frozenset((b"UTF8=ACCEPT",))


def test_literal8_may_hold_nul_and_a_string_may_not() -> None:
    assert Scanner(b"~{3}\r\na\0b\r\n").string8() == b"a\0b"
    assert Scanner(b"~{3+}\r\na\0b\r\n").nstring8() == b"a\0b"
    assert Scanner(b"nil\r\n").nstring8() is None
    assert Scanner(b'"ab"\r\n').string8() == b"ab"
    with pytest.raises(ProtocolError, match="NUL"):
        Scanner(b"{3}\r\na\0b\r\n").string8()
    assert Scanner(b"~{1}\r\na\r\n").string() is None


def test_quoted_strings_are_utf8_once_that_is_enabled() -> None:
    assert Scanner('"\u00e9"'.encode(), enabled=UTF8).string() == "\u00e9".encode()
    with pytest.raises(ProtocolError, match="UTF-8"):
        Scanner(b'"\xe9"', enabled=UTF8).string()
    assert Scanner(b'"\xe9"').string() == b"\xe9"


def test_an_ampersand_is_nothing_special_in_utf8_names() -> None:
    assert Scanner(b'"A&AOk-"').mailbox() == "A\u00e9"
    assert Scanner(b'"A&AOk-"', enabled=UTF8).mailbox() == "A&AOk-"
    assert Scanner('"A\u00e9"'.encode(), enabled=UTF8).mailbox() == "A\u00e9"
    assert Scanner(b'"inbox"', enabled=UTF8).mailbox() == "INBOX"
    for octets in (b"{1}\r\n\xe9", b'"a\xc2\x85"', b'"a\xe2\x80\xa8"'):
        with pytest.raises(BadMailboxName):
            Scanner(octets, enabled=UTF8).mailbox()


def test_utf8_accept_leaves_no_charset_to_choose() -> None:
    both = UTF8 | {b"IMAP4REV2"}
    Scanner(b"").check_charset(b"KOI8-R")
    Scanner(b"", enabled=UTF8).check_charset(None)
    Scanner(b"", enabled=UTF8).check_charset(b"utf-8", mandatory=True)
    Scanner(b"", enabled=both).check_charset(b"utf-8")
    with pytest.raises(ProtocolError):
        Scanner(b"", enabled=UTF8).check_charset(b"UTF-8")
    with pytest.raises(ProtocolError):
        Scanner(b"", enabled=both).check_charset(b"US-ASCII", mandatory=True)
