"""Answers: their bounds, and stuffing that no cut and no bare LF can break."""

from __future__ import annotations

import io
import itertools
import poplib
from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.mail.uidset import UIDSet
from postroad.protocol.pop3 import replies
from postroad.protocol.pop3.maildrop import Maildrop

TEXT = st.lists(st.sampled_from([b".", b"a", b"\r", b"\n", b"\r\n", b"..", b"\r\n.\r\n"])).map(
    b"".join
)


def stuffed(octets: bytes, cuts: list[int]) -> bytes:
    places = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    stuffer = replies.DotStuffer()
    parts = [stuffer.feed(octets[a:b]) for a, b in itertools.pairwise(places)]
    return b"".join(parts) + stuffer.end()


@given(TEXT, st.lists(st.integers(0, 40), max_size=5))
@settings(max_examples=200)
def test_no_message_ends_early_for_any_reader(octets: bytes, cuts: list[int]) -> None:
    wire = stuffed(octets, cuts)
    assert wire == stuffed(octets, []) == replies.stuffed(octets)
    assert wire.endswith(b"\r\n.\r\n") or wire == b".\r\n"
    body = wire[:-3]
    for line in body.split(b"\n"):  # a reader that takes any LF for a line end
        assert line not in (b".", b".\r")
    unstuffed = body.replace(b"\n..", b"\n.")
    if unstuffed.startswith(b".."):
        unstuffed = unstuffed[1:]
    added = b"" if not octets or octets.endswith(b"\r\n") else b"\r\n"
    assert unstuffed == octets + added


@given(st.lists(st.sampled_from([b"", b".", b"..", b"a", b".b"]), min_size=1, max_size=8))
def test_poplib_reads_back_what_was_stuffed(lines: list[bytes]) -> None:
    octets = b"".join(line + b"\r\n" for line in lines)
    reader = poplib.POP3.__new__(poplib.POP3)
    reader.file = io.BytesIO(replies.ok("x") + stuffed(octets, [3]))
    reader._debugging = 0
    assert reader._getlongresp()[1] == lines


def test_lines_are_bounded_and_hold_no_line_end() -> None:
    assert replies.err("x" * 1000, "SYS/TEMP").endswith(b"x\r\n")
    assert len(replies.err("x" * 1000, "SYS/TEMP")) == 512  # RFC 2449 §4
    assert replies.ok("a\r\n+OK b") == b"+OK a  +OK b\r\n"
    assert replies.ok() == b"+OK\r\n"
    assert replies.err("no", "IN-USE") == b"-ERR [IN-USE] no\r\n"


@given(st.integers(0, 300), st.integers(1, 200))
def test_listings_come_in_slices(count: int, slice_octets: int) -> None:
    lines = [b"%d 1" % number for number in range(count)]
    out = b"".join(replies.listing("x", lines, slice_octets))
    assert out == b"+OK x\r\n" + b"".join(line + b"\r\n" for line in lines) + b".\r\n"


@given(st.lists(st.integers(1, 10**6), unique=True, max_size=50), st.data())
def test_maildrop_counts(uids: list[int], data: st.DataObject) -> None:
    uids.sort()
    sizes = [uid % 97 for uid in uids]
    drop = Maildrop(7, array("L", uids), array("Q", sizes))
    gone = data.draw(st.sets(st.integers(1, len(uids)))) if uids else set()
    for number in gone:
        assert drop.fault(number) is None
        drop.mark(number)
        assert drop.fault(number) is not None
    left = [number for number in range(1, len(uids) + 1) if number not in gone]
    assert drop.count == len(left)
    assert drop.size == sum(sizes[number - 1] for number in left)
    assert drop.marked == UIDSet.of(uids[number - 1] for number in gone)
    assert list(drop.scan_listing()) == [b"%d %d" % (n, sizes[n - 1]) for n in left]
    assert list(drop.unique_id_listing()) == [f"{n} {drop.unique_id(n)}".encode() for n in left]
    assert drop.fault(len(uids) + 1) is not None
    drop.unmark_all()
    assert drop.count == len(uids)
