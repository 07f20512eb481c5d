"""What is fuzzed: each target takes octets and raises only where the code under it is wrong."""

from __future__ import annotations

from postroad.mail.uidset import UIDSet
from postroad.message.header import parse_header
from postroad.message.section import locate
from postroad.message.structure import Kind, Node, unpack
from postroad.message.summary import summarize
from postroad.message.words import decode_words
from postroad.protocol.imap import render
from postroad.protocol.imap.names import decode_mailbox, encode_utf7
from postroad.protocol.imap.sequence import SequenceSet
from postroad.protocol.imap.server import NEED_DATA, LiteralPart, ServerConnection, State

EVENTS_MAX = 10_000


def imap_commands(data: bytes) -> None:
    """The first octet chooses the state and how the rest is cut; every command is one event."""
    if not data:
        return
    states = (State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED)
    cut = data[0] // 3 + 1
    pieces = [data[1:]] if data[0] & 1 else [
        data[at : at + cut] for at in range(1, len(data), cut)
    ]  # fmt: skip
    connection = ServerConnection()
    connection.state = states[data[0] % 3]
    count = 0
    for piece in pieces:
        connection.receive_data(piece)
        while (event := connection.next_event()) is not NEED_DATA:
            count += 1
            assert count < EVENTS_MAX, "more events than octets can mean"
            repr(event)
            if isinstance(event, LiteralPart):
                _ = connection.accept_literal() if data[0] & 2 else connection.abandon_upload()
            if data[0] & 64 and connection.is_uploading and count % 3 == 0:
                connection.abandon_upload()


def mime(data: bytes) -> None:
    """Structure lies inside the message, sections are where it says, renderings can be read."""
    found = summarize(data)
    assert found.size == len(data)
    for text in (found.envelope, found.body, found.bodystructure):
        _balanced(text)
    waiting: list[tuple[Node, int, int]] = [(unpack(found.structure), 0, len(data))]
    while waiting:
        node, low, high = waiting.pop()
        assert low <= node.start <= node.body <= node.stop <= high
        if node.kind is not Kind.LEAF:
            waiting += [(child, node.start, node.stop) for child in node.children]
    for path in ((), (1,), (1, 1), (2,), (1, 2, 1)):
        for what in ("", "HEADER", "TEXT", "MIME"):
            if what == "MIME" and not path:
                continue
            span = locate(found.structure, path, what)
            assert span is None or 0 <= span[0] <= span[1] <= len(data)


def _balanced(text: bytes) -> None:
    """Parentheses outside strings match, strings end, literals are whole."""
    depth = at = 0
    while at < len(text):
        octet = text[at : at + 1]
        if octet == b'"':
            at += 1
            while text[at : at + 1] != b'"':
                assert at < len(text), "a string without an end"
                assert text[at] not in b"\r\n\0", "a line's end in a quoted string"
                at += 2 if text[at : at + 1] == b"\\" else 1
        elif octet == b"{":
            end = text.index(b"}\r\n", at)
            at = end + 2 + int(text[at + 1 : end])
        elif octet == b"(":
            depth += 1
        elif octet == b")":
            depth -= 1
        assert depth >= 0, "a parenthesis too many"
        at += 1
    assert depth == 0, "a parenthesis too few"


def headers(data: bytes) -> None:
    header, body = parse_header(data)
    assert 0 <= body <= len(data)
    for found in header.fields:
        decode_words(found.value)
    assert b"".join(bytes(found.raw) for found in header.fields) in bytes(data[:body]) or body == 0


def names(data: bytes) -> None:
    """A mailbox name that is taken comes back as it was, and a set of numbers too."""
    try:
        name = decode_mailbox(data)
    except ValueError:
        name = ""
    if name:
        assert decode_mailbox(encode_utf7(name)) == name
        render.mailbox(name)
    try:
        found = SequenceSet.parse(data[:200])
    except ValueError:
        return
    assert isinstance(found.resolve(1000), UIDSet)


TARGETS = {
    "imap-commands": imap_commands,
    "mime": mime,
    "headers": headers,
    "names": names,
}
