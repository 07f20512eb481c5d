"""What SEARCH, SORT, THREAD, ESEARCH and CANCELUPDATE are read as."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.mail.flags import Flag
from postroad.protocol.imap import search_keys as keys
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.context import CancelUpdate
from postroad.protocol.imap.events import Bad
from postroad.protocol.imap.multisearch import ESearch, Scope, Source
from postroad.protocol.imap.search import Search
from postroad.protocol.imap.search_program import Partial, Returns, walk
from postroad.protocol.imap.sequence import SequenceSet
from postroad.protocol.imap.server import ServerConnection, State
from postroad.protocol.imap.sort import Criterion, Sort, SortKey
from postroad.protocol.imap.thread import Algorithm, Thread


def parse(text: bytes, *enabled: bytes) -> Command | Bad:
    core = ServerConnection()
    core.state = State.SELECTED
    core.enabled.update(enabled)
    core.receive_data(b"t " + text + b"\r\n")
    event = core.next_event()
    assert isinstance(event, Command | Bad), event
    return event


def key(text: bytes) -> keys.Key:
    found = parse(b"SEARCH " + text)
    assert isinstance(found, Search), found
    return found.criteria.key


def test_search_keys() -> None:
    assert key(b"ALL") == keys.All()
    assert key(b"UNSEEN") == keys.Not(keys.HasFlag(Flag.SEEN))
    assert key(b"ANSWERED DRAFT") == keys.And(
        (keys.HasFlag(Flag.ANSWERED), keys.HasFlag(Flag.DRAFT))
    )
    assert key(b"KEYWORD $Junk") == keys.HasKeyword(b"$junk")
    assert key(b"SINCE 1-Feb-1994") == keys.Arrived(keys.When.SINCE, date(1994, 2, 1))
    assert key(b'SENTON "01-Feb-1994"') == keys.Sent(keys.When.ON, date(1994, 2, 1))
    assert key(b"SAVEDBEFORE 1-Feb-2024") == keys.Saved(keys.When.BEFORE, date(2024, 2, 1))
    assert key(b"NOT FROM Smith") == keys.Not(keys.InHeader(b"from", "Smith"))
    assert key(b'HEADER X-Spam ""') == keys.InHeader(b"x-spam", "")
    assert key(b"OR (SEEN) UID 4:*") == keys.Or(
        keys.HasFlag(Flag.SEEN), keys.InSet(True, SequenceSet(((4, 0),)))
    )
    assert key(b"MODSEQ 620162338") == keys.ChangedSince(620162338)
    assert key(b'MODSEQ "/flags/\\\\draft" all 620162338') == keys.ChangedSince(620162338)
    assert key(b"YOUNGER 3600") == keys.Within(True, 3600)
    assert key(b"LARGER 99999999999") == keys.Larger(99999999999)
    assert key("CHARSET UTF-8 TEXT {4+}\r\nпа".encode()) == keys.InText("па", True)
    assert key(b"CHARSET KOI8-R BODY {2+}\r\n\xd0\xc1") == keys.InText("па", False)
    assert key(b"$") == keys.InSet(False, SequenceSet((), is_saved=True))
    assert key(b"UID $") == keys.InSet(True, SequenceSet((), is_saved=True))
    assert key(b"EMAILID M-1_a") == keys.EmailId(b"M-1_a")
    assert key(b"THREADID T64b478a75b7ea9") == keys.ThreadId(b"T64b478a75b7ea9")
    assert key(b"FUZZY (SUBJECT x SEEN)") == keys.Fuzzy(
        keys.And((keys.InHeader(b"subject", "x"), keys.HasFlag(Flag.SEEN)))
    )
    assert key(b"FILTER on-the-road") == keys.Filter("on-the-road")


@pytest.mark.parametrize(
    "text",
    [
        b"SEARCH", b"SEARCH ", b"SEARCH BOGUS", b"SEARCH (", b"SEARCH ()", b"SEARCH OR SEEN",
        b"SEARCH SINCE 32-Feb-1994", b"SEARCH LARGER x", b"SEARCH YOUNGER 0",
        b"SEARCH RETURN (BOGUS) ALL", b"SEARCH HEADER x", b"SEARCH MODSEQ", b"SEARCH SEEN)",
        b"SEARCH CHARSET US-ASCII TEXT {1+}\r\n\xff", b"SEARCH RETURN ALL", b"SEARCH RETURN (ALL)",
        b"SEARCH RETURN (ALL PARTIAL 1:2) ALL", b"SEARCH RETURN (PARTIAL 2) ALL",
        b"SEARCH RETURN (PARTIAL 1:-2) ALL", b"SEARCH RETURN (PARTIAL 1:99999999999) ALL",
        b"SEARCH RETURN (RELEVANCY) ALL", b"SEARCH FUZZY", b"SEARCH FILTER a/b",
        b"SEARCH EMAILID a.b", b"SEARCH EMAILID " + b"x" * 256, b"SEARCH $,1", b"SEARCH 1,$",
        b"SORT", b"SORT () UTF-8 ALL", b"SORT (DATE REVERSE) UTF-8 ALL", b"SORT (DATE) UTF-8",
        b"SORT (REVERSE REVERSE DATE) UTF-8 ALL", b"SORT DATE UTF-8 ALL",
        b"SORT (" + b"DATE " * 30 + b"DATE) UTF-8 ALL", b"SORT (RELEVANCY) UTF-8 ALL",
        b"THREAD", b"THREAD REFS UTF-8", b"THREAD BOGUS UTF-8 ALL",
        b"ESEARCH", b"ESEARCH IN ALL", b"ESEARCH IN () ALL", b"ESEARCH IN (subtree) ALL",
        b"ESEARCH IN (selected-delayed) ALL", b"ESEARCH IN (mailboxes ()) ALL",
        b"ESEARCH IN (personal) RETURN (SAVE) ALL", b"ESEARCH IN (inboxes (x)) ALL",
        b"CANCELUPDATE", b"CANCELUPDATE a", b'CANCELUPDATE "a" b',
    ],
)  # fmt: skip
def test_searches_that_are_none(text: bytes) -> None:
    assert isinstance(parse(text), Bad)


@pytest.mark.parametrize(
    ("text", "returns"),
    [
        (b"SEARCH ALL", None),
        (b"SEARCH RETURN () ALL", Returns(frozenset((b"ALL",)))),
        (b"SEARCH return (min COUNT) ALL", Returns(frozenset((b"MIN", b"COUNT")))),
        (b"SEARCH RETURN (SAVE) ALL", Returns(frozenset((b"SAVE",)))),
        (
            b"SEARCH RETURN (PARTIAL 9:2 COUNT) ALL",
            Returns(frozenset((b"COUNT",)), Partial(b"9:2", 2, 9, False)),
        ),
        (b"SEARCH RETURN (PARTIAL -1:-5) ALL", Returns(frozenset(), Partial(b"-1:-5", 1, 5, True))),
    ],
)
def test_return_options(text: bytes, returns: Returns | None) -> None:
    found = parse(text)
    assert isinstance(found, Search)
    assert found.returns == returns


@given(st.integers(1, 12), st.integers(1, 12), st.booleans(), st.integers(0, 10))
def test_a_window_is_what_counting_gives(one: int, other: int, from_end: bool, count: int) -> None:
    partial = Partial(b"", min(one, other), max(one, other), from_end)
    results = list(range(1, count + 1))
    ranks = {uid: (count + 1 - uid if from_end else uid) for uid in results}
    start, stop = partial.span(count)
    assert results[start:stop] == [
        uid for uid in results if partial.first <= ranks[uid] <= partial.last
    ]


def test_sort_and_thread() -> None:
    found = parse(b"UID SORT RETURN (COUNT) (REVERSE date SUBJECT) UTF-8 SEEN")
    assert isinstance(found, Sort)
    assert found.uid
    assert found.by == (Criterion(SortKey.DATE, True), Criterion(SortKey.SUBJECT))
    assert found.returns == Returns(frozenset((b"COUNT",)))
    threads = parse(b'THREAD references "US-ASCII" ALL')
    assert isinstance(threads, Thread)
    assert threads.algorithm is Algorithm.REFERENCES


def test_esearch() -> None:
    found = parse(b'ESEARCH IN (mailboxes (a "b c") subtree-one INBOX personal) SEEN')
    assert isinstance(found, ESearch)
    assert found.sources == (
        Source(Scope.MAILBOXES, ("a", "b c")),
        Source(Scope.SUBTREE_ONE, ("INBOX",)),
        Source(Scope.PERSONAL),
    )
    assert found.returns == Returns(frozenset((b"ALL",)))
    alone = parse(b"ESEARCH SEEN")
    assert isinstance(alone, ESearch)
    assert alone.only_selected


def test_cancelupdate() -> None:
    assert parse(b'CANCELUPDATE "a" "b"') == CancelUpdate(b"t", (b"a", b"b"))


def test_an_unknown_charset_is_no_fault_of_grammar() -> None:
    """The command is answered NO, and empties `$` if it was to be saved."""
    found = parse(b"SEARCH CHARSET X-NONE TEXT {1+}\r\n\xff")
    assert isinstance(found, Search)
    assert not found.criteria.is_readable


def test_uid_only() -> None:
    """RFC 9586 §3: no sequence numbers among the keys."""
    refused = parse(b"UID SEARCH 1:4", b"UIDONLY")
    assert isinstance(refused, Bad)
    assert refused.code == b"UIDREQUIRED"
    assert isinstance(parse(b"UID SEARCH UID 1:4", b"UIDONLY"), Search)
    assert isinstance(parse(b"UID SEARCH $", b"UIDONLY"), Search)


def test_a_charset_conflicts_with_utf8_accept() -> None:
    """RFC 6855 §3, RFC 9755 §3."""
    assert isinstance(parse(b"SEARCH CHARSET UTF-8 ALL", b"UTF8=ACCEPT"), Bad)
    assert isinstance(parse(b"SORT (DATE) KOI8-R ALL", b"UTF8=ACCEPT"), Bad)
    assert isinstance(parse(b"SORT (DATE) UTF-8 ALL", b"UTF8=ACCEPT"), Sort)
    assert isinstance(parse(b"SEARCH CHARSET UTF-8 ALL", b"UTF8=ACCEPT", b"IMAP4REV2"), Search)


# -- any tree -------------------------------------------------------------------------------------

LEAVES: list[tuple[bytes, keys.Key]] = [
    (b"ALL", keys.All()),
    (b"DELETED", keys.HasFlag(Flag.DELETED)),
    (b'SUBJECT "a ) b"', keys.InHeader(b"subject", "a ) b")),
    (b"BODY {3+}\r\n) (", keys.InText(") (", False)),
    (b"2:*,7", keys.InSet(False, SequenceSet(((2, 0), (7, 7))))),
    (b"SMALLER 10", keys.Smaller(10)),
    (b"KEYWORD x", keys.HasKeyword(b"x")),
    (b"$", keys.InSet(False, SequenceSet((), is_saved=True))),
]


def _extend(
    inner: st.SearchStrategy[tuple[bytes, keys.Key]],
) -> st.SearchStrategy[tuple[bytes, keys.Key]]:
    return st.one_of(
        inner.map(lambda one: (b"NOT " + one[0], keys.Not(one[1]))),
        inner.map(lambda one: (b"FUZZY " + one[0], keys.Fuzzy(one[1]))),
        st.tuples(inner, inner).map(
            lambda two: (b"OR %b %b" % (two[0][0], two[1][0]), keys.Or(two[0][1], two[1][1]))
        ),
        st.lists(inner, min_size=2, max_size=4).map(
            lambda some: (
                b"(" + b" ".join(text for text, _ in some) + b")",
                keys.And(tuple(item for _, item in some)),
            )
        ),
    )


@given(st.recursive(st.sampled_from(LEAVES), _extend, max_leaves=12))
def test_any_tree_is_read_as_it_is_written(written: tuple[bytes, keys.Key]) -> None:
    text, expected = written
    found = key(text)
    assert found == expected
    assert sum(1 for _ in walk(found)) >= 1


@given(st.lists(st.sampled_from([
    b"OR", b"NOT", b"(", b")", b" ", b"SEEN", b"1:*", b"$", b'"x"', b"{1+}\r\nx", b"FUZZY", b"TEXT",
    b"RETURN", b"CHARSET", b"UTF-8", b"PARTIAL", b"-1:-2", b"FILTER", b"MODSEQ", b"UID", b"\xff",
]), max_size=12))  # fmt: skip
def test_any_words_are_answered(words: list[bytes]) -> None:
    for verb in (
        b"SEARCH ",
        b"SORT ",
        b"SORT (DATE) ",
        b"THREAD REFS ",
        b"ESEARCH ",
        b"ESEARCH IN ",
    ):
        assert isinstance(parse(verb + b" ".join(words)), Command | Bad)


@pytest.mark.parametrize(
    "text",
    [
        b"NOT " * 16_000 + b"ALL", b"(" * 60_000, b"(" * 40 + b"ALL" + b")" * 60, b"OR " * 20_000,
        b"SEEN " * 12_000 + b"SEEN", b"FUZZY " * 10_000 + b"ALL", b"(SEEN) " * 9000 + b"ALL",
    ],
)  # fmt: skip
def test_deep_and_long_searches_are_refused(text: bytes) -> None:
    assert isinstance(parse(b"SEARCH " + text), Bad)


def test_sixty_kilobytes_of_keys_that_are_legal() -> None:
    text = b" ".join(b'SUBJECT "%s"' % (b"%d" % number * 12) for number in range(900))
    found = key(text[:60_000].rpartition(b" SUBJECT")[0])
    assert isinstance(found, keys.And)
