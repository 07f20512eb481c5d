"""Threads (RFC 5256 §3, §4): the examples of the RFC, its rules one by one, and a naive twin."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.message import threading
from postroad.message.threading import Forest, render_threads


@dataclass(frozen=True, slots=True)
class Mail:
    message_id: bytes = b""
    references: tuple[bytes, ...] = ()
    subject: bytes = b""
    is_reply: bool = False
    sent: int = 0
    arrival: int = 0


def show(forest: Forest) -> str:
    numbers = range(1, forest.count + 1)
    return b"".join(render_threads(forest, numbers)).decode()


def mails(*items: tuple[str, str] | tuple[str, str, str] | tuple[str, str, str, int]) -> list[Mail]:
    """(id, references, subject, sent): sent counts up when it is not given."""
    out = []
    for place, item in enumerate(items):
        name, above, subject, sent = (*item, *("", place)[len(item) - 2 :])
        is_reply = subject.startswith("Re: ")
        out.append(
            Mail(
                name.encode(), tuple(above.encode().split()),
                subject.removeprefix("Re: ").encode(), is_reply, sent, place,
            )
        )  # fmt: skip
    return out


REFERENCES = [
    ([], ""),
    ([("a", "")], "(1)"),
    ([("a", ""), ("b", "a"), ("c", "a b")], "(1 2 3)"),
    ([("a", ""), ("b", "a"), ("c", "a")], "(1 (2)(3))"),
    # the picture of §4: 3 6 (4 23)(44 7 96)
    ([("a", ""), ("b", "a"), ("c", "a b"), ("d", "a b c"), ("e", "a b"), ("f", "a b e")],
     "(1 2 (3 4)(5 6))"),
    # siblings of a parent that is not there (§4)
    ([("b", "a"), ("c", "a")], "((1)(2))"),
    # a dummy with one child is replaced by it
    ([("b", "a")], "(1)"),
    ([("c", "x a"), ("d", "x a y")], "((1)(2))"),
    # a child before its parent
    ([("b", "a"), ("a", "")], "(2 1)"),
    # truncated references: the own last reference wins (1.B)
    ([("a", ""), ("d", "a c"), ("b", "a"), ("c", "b")], "(1 3 4 2)"),
    # no loop
    ([("a", "b"), ("b", "a")], "(2 1)"),
    ([("a", "a")], "(1)"),
    ([("a", "c"), ("b", "a"), ("c", "b")], "(3 1 2)"),
    # the second of equal ids is a message of its own
    ([("a", ""), ("a", ""), ("b", "a")], "(1 3)(2)"),
    # no message id
    ([("", ""), ("", "")], "(1)(2)"),
    # siblings by date, then by number; threads by the date of their first
    ([("a", "", "", 50), ("b", "a", "", 9), ("c", "a", "", 8), ("d", "", "", 10)],
     "(4)(1 (3)(2))"),
    ([("a", "", "", 5), ("b", "", "", 5)], "(1)(2)"),
    # subjects: reply below the original, wherever it stands
    ([("a", "", "x"), ("b", "", "Re: x")], "(1 2)"),
    ([("a", "", "Re: x"), ("b", "", "x")], "(2 1)"),
    # two of the same kind: below a new dummy
    ([("a", "", "x"), ("b", "", "x")], "((1)(2))"),
    ([("a", "", "Re: x"), ("b", "", "Re: x")], "((1)(2))"),
    ([("a", "", "x"), ("b", "", "x"), ("c", "", "x")], "((1)(2)(3))"),
    ([("a", "", "x"), ("b", "", "x"), ("c", "", "Re: x")], "((1)(2)(3))"),
    # a dummy takes the others in
    ([("b", "a", "x"), ("c", "a", "y"), ("d", "", "x")], "((1)(2)(3))"),
    ([("d", "", "x"), ("b", "a", "x"), ("c", "a", "y")], "((1)(2)(3))"),
    ([("b", "a", "x"), ("c", "a", "y"), ("e", "q", "x"), ("f", "q", "z")], "((1)(2)(3)(4))"),
    # no subject is no reason
    ([("a", "", ""), ("b", "", "Re: ")], "(1)(2)"),
]  # fmt: skip


@pytest.mark.parametrize(("items", "expected"), REFERENCES)
def test_references(items: list[tuple[str, str, str, int]], expected: str) -> None:
    assert show(threading.references(mails(*items))) == expected


def test_ordered_subject() -> None:
    """RFC 5256 §3: no grandchildren; threads by their first message's date."""
    found = mails(
        ("", "", "b", 7), ("", "", "a", 1), ("", "", "b", 3), ("", "", "a", 1), ("", "", "b", 5),
        ("", "", "c", 4),
    )  # fmt: skip
    assert show(threading.ordered_subject(found)) == "(2 4)(3 (5)(1))(6)"
    assert show(threading.ordered_subject([])) == ""


def test_refs_ignores_subjects_and_puts_the_latest_last() -> None:
    found = mails(("a", "", "x"), ("b", "", "x"), ("c", "a", "Re: x"))
    assert show(threading.refs(found)) == "(2)(1 3)"
    assert show(threading.refs(mails(("b", "a"), ("c", "z"), ("d", "a")))) == "(2)((1)(3))"


IDS = st.sampled_from([b"", *(b"%c" % letter for letter in b"abcdefg")])
MAILS = st.lists(
    st.builds(
        Mail,
        message_id=IDS,
        references=st.lists(IDS.filter(bool), max_size=4).map(tuple),
        subject=st.sampled_from([b"", b"x", b"y"]),
        is_reply=st.booleans(),
        sent=st.integers(0, 3),
        arrival=st.integers(0, 3),
    ),
    max_size=9,
)


class Container:
    def __init__(self, place: int = -1) -> None:
        self.place = place
        self.parent: Container | None = None
        self.children: list[Container] = []

    def adopt(self, child: Container) -> None:
        child.parent = self
        self.children.append(child)

    def is_below(self, other: Container) -> bool:
        return self is other or (self.parent is not None and self.parent.is_below(other))


def naive(found: list[Mail]) -> str:
    """REFERENCES as the six steps stand in RFC 5256 §3, one object for each message."""
    table: dict[object, Container] = {}
    own: list[Container] = []
    for place, mail in enumerate(found):
        key: object = mail.message_id
        if not key or key in table:
            key = (place,)
        table[key] = Container(place)
        own.append(table[key])
    for mail, mine in zip(found, own, strict=True):
        before: Container | None = None
        for name in mail.references:
            this = table.setdefault(name, Container())
            if before is not None and this.parent is None and not before.is_below(this):
                before.adopt(this)
            before = this
        if mine.parent is not None:
            mine.parent.children.remove(mine)
            mine.parent = None
        if before is not None and not before.is_below(mine):
            before.adopt(mine)
    roots = [item for item in table.values() if item.parent is None]

    def prune(level: list[Container], top: bool) -> list[Container]:
        out: list[Container] = []
        for item in level:
            item.children = prune(item.children, False)
            if item.place >= 0:
                out.append(item)
            elif item.children and (not top or len(item.children) == 1):
                out += item.children
            elif item.children:
                out.append(item)
        return out

    def key(item: Container) -> tuple[int, int]:
        if item.place < 0:
            return key(item.children[0])
        return found[item.place].sent, item.place

    def sort(level: list[Container]) -> None:
        for item in level:
            sort(item.children)
        level.sort(key=key)

    roots = prune(roots, True)
    for item in roots:
        if item.place < 0:
            item.children.sort(key=key)
    roots.sort(key=key)
    subjects: dict[bytes, Container] = {}

    def mail_of(item: Container) -> Mail:
        return found[item.place if item.place >= 0 else item.children[0].place]

    for item in roots:
        subject = mail_of(item).subject
        if not subject:
            continue
        known = subjects.get(subject)
        if known is None or (
            known.place >= 0
            and (item.place < 0 or (mail_of(known).is_reply and not mail_of(item).is_reply))
        ):
            subjects[subject] = item
    for item in list(roots):
        subject = mail_of(item).subject
        if item not in roots or not subject or subjects[subject] is item:
            continue
        known = subjects[subject]
        roots.remove(item)
        if known.place < 0 and item.place < 0:
            known.children += item.children
        elif known.place < 0 or (mail_of(item).is_reply and not mail_of(known).is_reply):
            known.children.append(item)
        else:
            dummy = Container()
            dummy.children = [known, item]
            roots[roots.index(known)] = dummy
            subjects[subject] = dummy
    sort(roots)

    def write(item: Container) -> str:
        line = []
        while True:
            if item.place >= 0:
                line.append(str(item.place + 1))
            if len(item.children) != 1:
                break
            item = item.children[0]
        lists = "".join(f"({write(child)})" for child in item.children)
        return " ".join([*line, lists] if lists else line)

    return "".join(f"({write(item)})" for item in roots)


@given(MAILS)
def test_as_the_steps_say(found: list[Mail]) -> None:
    assert show(threading.references(found)) == naive(found)


@given(MAILS)
def test_every_message_is_told_once(found: list[Mail]) -> None:
    everything = [str(number) for number in range(1, len(found) + 1)]
    for algorithm in (threading.references, threading.refs, threading.ordered_subject):
        text = show(algorithm(found))
        assert sorted(re.findall(r"\d+", text), key=int) == everything
        assert text.count("(") == text.count(")")


@pytest.mark.parametrize("reverse", [False, True])
def test_a_thread_as_deep_as_the_mailbox(reverse: bool) -> None:
    count = 50_000
    chain = [
        Mail(b"%d" % number, (b"%d" % (number - 1),), b"s", True, number)
        for number in range(1, count + 1)
    ]
    began = time.process_time()
    text = show(threading.references(chain[::-1] if reverse else chain))
    assert time.process_time() - began < 5
    assert text.count("(") == 1 and len(text.split()) == count


def test_loops_are_looked_for_with_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long chain below which thousands of small ones are hung: each looks up all of it."""
    monkeypatch.setattr(threading, "LOOP_STEPS_MAX", 100_000)
    chain = [Mail(b"c%d" % n, (b"c%d" % (n - 1),) if n else ()) for n in range(2000)]
    small = [
        mail
        for n in range(2000)
        for mail in (Mail(b"y%d" % n, (b"x%d" % n,)), Mail(b"x%d" % n, (b"c1999",)))
    ]
    forest = threading.references(chain + small)
    assert sorted(re.findall(r"\d+", show(forest)), key=int) == [
        str(number) for number in range(1, 6001)
    ]
