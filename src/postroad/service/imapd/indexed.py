"""The search index as searches see it; without one, nothing is covered and all is read.

Source: RFC 5256 §3 (what is sorted by), RFC 6203 §3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from postroad.mail.uidset import UIDSet
from postroad.store.contract import Store
from postroad.store.search.contract import Digest, Digests, Facet, Found, Index, Needle
from postroad.store.search.digesting import keys_of
from postroad.store.values import Want


def index_of(store: Store) -> Index | None:
    return cast("Index | None", getattr(store, "index", None))


def find(
    store: Store, account: int, mailbox: int, needles: Sequence[Needle], among: UIDSet
) -> list[Found]:
    index = index_of(store)
    if index is None:
        return [Found(UIDSet(), UIDSet()) for _ in needles]
    return index.find(account, mailbox, needles, among)


def digests(
    store: Store, account: int, mailbox: int, uids: UIDSet, facets: Facet
) -> Iterator[list[Digest]]:
    known = cast("Digests | None", getattr(store, "sort_digests", None))
    if known is not None:
        yield from known(account, mailbox, uids, facets)
        return
    for rows in store.messages(account, mailbox, uids, Want.HEADER | Want.SENT):
        out = []
        for row in rows:
            keys = keys_of(row.header or b"", row.sent or 0)
            sent = keys.sent or row.internal_date
            out.append(Digest(row.uid, row.internal_date, row.size, row.heap, sent, *keys[1:]))
        yield out
