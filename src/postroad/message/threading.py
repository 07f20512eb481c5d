"""Threads: which message answers which, and how THREAD writes it down.

Pure: takes what digests say of messages in mailbox order, gives trees of their places. No
recursion, for threads may be as deep as a mailbox is long.
Source: RFC 5256 §3 (ORDEREDSUBJECT, REFERENCES), §4 (the response);
draft-ietf-morg-inthread-01 (REFS: REFERENCES without subjects, latest thread last).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

LOOP_STEPS_MAX = 20_000_000
"""Steps up the tree in search of loops, for a whole mailbox: real mail takes one or two a message.
Past it a link that might close a loop is left out: the threads are still trees."""


class Threaded(Protocol):
    """What must be known of a message. message_id and references: without angle brackets and
    quotes. subject: comparable base subject. sent, arrival: unix seconds."""

    @property
    def message_id(self) -> bytes: ...
    @property
    def references(self) -> Sequence[bytes]: ...
    @property
    def subject(self) -> bytes: ...
    @property
    def is_reply(self) -> bool: ...
    @property
    def sent(self) -> int: ...
    @property
    def arrival(self) -> int: ...


@dataclass(slots=True)
class Forest:
    """Messages are their places in mailbox order; what is >= `count` is a dummy.

    children: by parent; missing where there are none. roots: the top level, in order.
    """

    count: int
    roots: list[int] = field(default_factory=list)
    children: dict[int, list[int]] = field(default_factory=dict)


def ordered_subject(messages: Sequence[Threaded]) -> Forest:
    """Threads of one base subject, each by sent date, in the order of their first message."""
    forest = Forest(len(messages))
    groups: dict[bytes, list[int]] = {}
    for place in sorted(range(len(messages)), key=lambda place: messages[place].sent):
        groups.setdefault(messages[place].subject, []).append(place)
    for group in groups.values():  # a dict keeps the order of first messages
        forest.roots.append(group[0])
        if len(group) > 1:
            forest.children[group[0]] = group[1:]
    return forest


def references(messages: Sequence[Threaded]) -> Forest:
    """REFERENCES: by References and In-Reply-To, then by subject."""
    forest = _linked(messages)
    order = _Order(messages, forest)
    order.sort_dummies()
    order.sort_roots()
    _merge_subjects(messages, forest)
    order.sort_all()
    return forest


def refs(messages: Sequence[Threaded]) -> Forest:
    """REFS: by References and In-Reply-To alone; the thread with the latest arrival last."""
    forest = _linked(messages)
    _Order(messages, forest).sort_all()
    count, children = forest.count, forest.children
    arrivals = [(message.arrival << 32) + place for place, message in enumerate(messages)]
    latest: dict[int, int] = {}
    for root in forest.roots:
        if root in children:
            latest[root] = max(arrivals[place] for place in _walk(forest, root) if place < count)
        else:
            latest[root] = arrivals[root]
    forest.roots.sort(key=latest.__getitem__)
    return forest


# -- steps 1 to 3: links, and dummies gone --------------------------------------------------------


class _Links:
    """Parents while links are made; numbers past the messages are ids that no message has."""

    def __init__(self, count: int) -> None:
        self.parent: list[int] = [-1] * count
        self.degree: list[int] = [0] * count
        self.steps = LOOP_STEPS_MAX

    def dummy(self) -> int:
        self.parent.append(-1)
        self.degree.append(0)
        return len(self.parent) - 1

    def link(self, parent: int, child: int) -> None:
        if self.makes_loop(parent, child):
            return
        self.parent[child] = parent
        self.degree[parent] += 1

    def cut(self, child: int) -> None:
        above = self.parent[child]
        if above >= 0:
            self.degree[above] -= 1
            self.parent[child] = -1

    def makes_loop(self, parent: int, child: int) -> bool:
        """Whether the child is the parent, or above it."""
        if parent == child:
            return True
        if not self.degree[child]:
            return False
        above, up = parent, self.parent
        while above >= 0:
            if above == child or not self.steps:
                return True
            self.steps -= 1
            above = up[above]
        return False


def _linked(messages: Sequence[Threaded]) -> Forest:
    """Steps 1 to 3 of RFC 5256 §3, REFERENCES."""
    links = _Links(len(messages))
    owners: dict[bytes, int] = {}
    for place, message in enumerate(messages):
        if message.message_id:
            owners.setdefault(message.message_id, place)  # of equal ids the first counts
    parent = links.parent
    for place, message in enumerate(messages):
        before = -1
        for name in message.references:
            owner = owners.get(name, -1)
            if owner < 0:
                owner = owners[name] = links.dummy()
            if before >= 0 and parent[owner] < 0:
                links.link(before, owner)
            before = owner
        if parent[place] != before:
            links.cut(place)
            if before >= 0:
                links.link(before, place)
    return _pruned(len(messages), parent)


def _pruned(count: int, parent: list[int]) -> Forest:
    """Step 3: dummies stay only at the top, and there only with two children or more."""
    forest = Forest(count)
    top: dict[int, int] = {}
    groups: dict[int, list[int]] = {}
    for place in range(count):
        above = parent[place]
        passed = []
        while above >= count and parent[above] >= 0 and above not in top:
            passed.append(above)
            above = parent[above]
        above = top.get(above, above)
        for dummy in passed:
            top[dummy] = above
        if above < 0:
            forest.roots.append(place)
        elif above < count:
            forest.children.setdefault(above, []).append(place)
        else:
            groups.setdefault(above, []).append(place)
    for dummy, members in groups.items():
        if len(members) == 1:
            forest.roots.append(members[0])
        else:
            forest.roots.append(dummy)
            forest.children[dummy] = members
    return forest


# -- steps 4 and 6: order -------------------------------------------------------------------------


class _Order:
    """Siblings by sent date, then by place; a dummy goes by its first child."""

    def __init__(self, messages: Sequence[Threaded], forest: Forest) -> None:
        self.forest = forest
        sent = [message.sent for message in messages]
        self.rank = [0] * len(sent)
        for rank, place in enumerate(sorted(range(len(sent)), key=sent.__getitem__)):
            self.rank[place] = rank

    def sort_roots(self) -> None:
        """Dummies stand at the top only, and their children are in order."""
        forest, rank = self.forest, self.rank
        heads = {
            root: rank[forest.children[root][0]] for root in forest.roots if root >= forest.count
        }
        if heads:
            forest.roots.sort(key=lambda root: heads[root] if root in heads else rank[root])
        else:
            forest.roots.sort(key=rank.__getitem__)

    def sort_dummies(self) -> None:
        for root in self.forest.roots:
            if root >= self.forest.count:
                self.forest.children[root].sort(key=self.rank.__getitem__)

    def sort_all(self) -> None:
        for siblings in self.forest.children.values():
            if len(siblings) > 1:
                siblings.sort(key=self.rank.__getitem__)
        self.sort_roots()


# -- step 5: subjects -----------------------------------------------------------------------------


def _merge_subjects(messages: Sequence[Threaded], forest: Forest) -> None:
    """Step 5 of RFC 5256 §3, REFERENCES: threads of one subject become one."""
    count, children = forest.count, forest.children

    def head(root: int) -> Threaded:
        return messages[root if root < count else children[root][0]]

    subjects = [head(root).subject for root in forest.roots]
    table: dict[bytes, int] = {}
    for root, subject in zip(forest.roots, subjects, strict=True):
        if not subject:
            continue
        known = table.get(subject, -1)
        if known < 0 or (
            known < count
            and (root >= count or (messages[known].is_reply and not messages[root].is_reply))
        ):
            table[subject] = root
    merged: set[int] = set()
    made: dict[int, int] = {}
    """New dummies, by the root whose place they take."""
    last = max([count - 1, *(root for root in forest.roots if root >= count)])
    for root, subject in zip(forest.roots, subjects, strict=True):
        if not subject or table[subject] == root or root in made:
            continue
        known = table[subject]
        if known >= count:
            members = children[known]
            members += children.pop(root) if root >= count else [root]
        elif messages[root].is_reply and not messages[known].is_reply:
            children.setdefault(known, []).append(root)
        else:
            last += 1
            children[last] = [known, root]
            made[known] = last
            table[subject] = last
        merged.add(root)
    forest.roots = [made.get(root, root) for root in forest.roots if root not in merged]


# -- writing --------------------------------------------------------------------------------------


def _walk(forest: Forest, root: int) -> Iterable[int]:
    waiting = [root]
    while waiting:
        place = waiting.pop()
        yield place
        waiting += forest.children.get(place, ())


def render_threads(forest: Forest, numbers: Sequence[int]) -> list[bytes]:
    """One thread-list for each thread; numbers: what messages are called, by their place."""
    return [_thread(forest, root, numbers) for root in forest.roots]


def _thread(forest: Forest, root: int, numbers: Sequence[int]) -> bytes:
    """`(2 3 (4)(5 6))`: a line of only children goes on, from two on each is a list."""
    children, count = forest.children, forest.count
    if root < count and root not in children:
        return b"(%d)" % numbers[root]
    out: list[bytes] = []
    waiting: list[int] = [root]
    while waiting:
        place = waiting.pop()
        if place < 0:
            out.append(b")")
            continue
        out.append(b"(")
        waiting.append(-1)
        line: list[bytes] = []
        while place < count:
            line.append(b"%d" % numbers[place])
            below = children.get(place, ())
            if len(below) != 1:
                break
            place = below[0]
        else:
            below = children[place]
        out.append(b" ".join(line))
        if below:
            if line:
                out.append(b" ")
            waiting += reversed(below)
    return b"".join(out)
