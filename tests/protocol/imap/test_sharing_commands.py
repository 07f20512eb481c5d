"""The grammar of ACL, METADATA and QUOTA: what is read, what is refused, and that nothing else
happens to hostile text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.mail.errors import ProtocolError
from postroad.mail.rights import ALL, parse_rights
from postroad.protocol.imap import acl, lists, metadata, quota
from postroad.protocol.imap.acl import Change
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.metadata import Depth
from postroad.protocol.imap.scanner import Scanner

PARSERS = (
    acl.parse_setacl,
    acl.parse_deleteacl,
    acl.parse_getacl,
    acl.parse_listrights,
    acl.parse_myrights,
    metadata.parse_getmetadata,
    metadata.parse_setmetadata,
    quota.parse_getquota,
    quota.parse_getquotaroot,
    quota.parse_setquota,
    lists.parse_list,
)


def read(parser: Any, text: bytes) -> Any:
    return parser(b"t", Scanner(b" " + text + b"\r\n"), False)


def test_setacl() -> None:
    found = read(acl.parse_setacl, b'INBOX "bob@one.example" +cd')
    assert (found.mailbox, found.identifier) == ("INBOX", "bob@one.example")
    assert (found.change, found.rights) == (Change.ADD, frozenset("kxet"))
    found = read(acl.parse_setacl, b"{5}\r\nINBOX {4}\r\n-bob -")
    assert (found.identifier, found.change, found.rights) == ("-bob", Change.REMOVE, frozenset())
    assert read(acl.parse_setacl, b'a b ""').change is Change.REPLACE


def test_identifiers_are_prepared() -> None:
    """RFC 4314 §3: SASLprep; what cannot be prepared, or is nothing then, is BAD."""
    found = read(acl.parse_listrights, 'INBOX "bo\u00adb"'.encode())
    assert found.identifier == "bob" and found.written == "bo\u00adb".encode()
    for wrong in (b'"\xc2\xad"', b'""', b"-", b'"-\xc2\xad"', b'"\x7f"', b'"\xff"', b"a" * 1025):
        with pytest.raises(ProtocolError):
            read(acl.parse_listrights, b"INBOX " + wrong)


@given(st.sampled_from(["", "+", "-"]), st.text(alphabet=ALL + "cd", max_size=15))
def test_every_list_of_rights_is_read(sign: str, letters: str) -> None:
    found = read(acl.parse_setacl, b'INBOX bob "%b%b"' % (sign.encode(), letters.encode()))
    assert found.change.value == sign and found.rights == parse_rights(letters)


def test_metadata() -> None:
    found = read(metadata.parse_getmetadata, b'(DEPTH infinity MAXSIZE 7) "" (/shared /Private/A)')
    assert (found.mailbox, found.depth, found.maxsize) == ("", Depth.INFINITY, 7)
    assert found.entries == (("/shared", b"/shared"), ("/private/a", b"/Private/A"))
    found = read(metadata.parse_getmetadata, b'INBOX (maxsize 7) ("/shared/a b" {9}\r\n/shared/c)')
    assert (found.mailbox, found.depth, found.maxsize) == ("INBOX", Depth.ZERO, 7)
    assert [entry for entry, _ in found.entries] == ["/shared/a b", "/shared/c"]
    found = read(
        metadata.parse_setmetadata, b'INBOX (/shared/a NIL /shared/b ~{2}\r\n\x00) /shared/a "x")'
    )
    assert found.values == (("/shared/a", b"x"), ("/shared/b", b"\0)"))


def test_quota() -> None:
    found = read(quota.parse_setquota, b'"" (storage 5 X-OTHER 9223372036854775807)')
    assert found.root == "" and found.limits == ((b"STORAGE", 5), (b"X-OTHER", (1 << 63) - 1))
    for wrong in (
        b"a",
        b"a (STORAGE)",
        b"a (STORAGE 9223372036854775808)",
        b"a (A 1 B)",
        b"a (",
        b'"\xff" ()',
        b"a (" + b" ".join(b"A%d 1" % n for n in range(21)) + b")",
    ):
        with pytest.raises(ProtocolError):
            read(quota.parse_setquota, wrong)


def test_many_entries_are_too_many() -> None:
    entries = [b"/shared/e%d" % number for number in range(101)]
    for text in (b"(" + b" ".join(entries) + b")", b" ".join(entries)):
        with pytest.raises(ProtocolError):
            read(metadata.parse_getmetadata, b"INBOX " + text)
    values = b" ".join(entry + b" NIL" for entry in entries)
    with pytest.raises(ProtocolError):
        read(metadata.parse_setmetadata, b"INBOX (" + values + b")")
    with pytest.raises(ProtocolError):
        read(metadata.parse_getmetadata, b"INBOX /shared/" + b"x" * 255)


_PIECES = st.lists(
    st.sampled_from(
        [
            b" ",
            b"(",
            b")",
            b'"',
            b"INBOX",
            b"/shared/x",
            b"/private",
            b"NIL",
            b"~{1}\r\n",
            b"{2}\r\n",
            b"DEPTH",
            b"1",
            b"MAXSIZE",
            b"RETURN",
            b"METADATA",
            b"STATUS",
            b"MYRIGHTS",
            b"+lr",
            b"-",
            b"*",
            b"%",
            b"\xff",
            b"\0",
            b"&-",
            b"infinity",
            b"STORAGE",
            b"99999999999999999999",
        ]
    ),
    max_size=14,
)


@given(st.sampled_from(PARSERS), _PIECES)
def test_hostile_text_is_a_command_or_a_protocol_error(parser: Any, pieces: list[bytes]) -> None:
    try:
        found = parser(b"t", Scanner(b" " + b"".join(pieces) + b"\r\n"), False)
    except ProtocolError:
        return
    assert isinstance(found, Command)
