"""Header fields taken out of a message: the one case in which its octets are not kept.

Copies everything else byte for byte into a new draft.
"""

from __future__ import annotations

from collections.abc import Callable

from postroad.message.header import Field, Header
from postroad.store.contract import Blobs, Draft

_SLICE_OCTETS = 1 << 20


def without_fields(
    blobs: Blobs, octets: memoryview, header: Header, drop: Callable[[Field], bool]
) -> Draft | None:
    """A new draft without the fields that `drop` names; None when it names none.

    octets: the message that `header` was parsed from. Raises: Unavailable when the disk is full.
    """
    cuts: list[tuple[int, int]] = []
    at = 0
    for field in header.fields:
        end = at + len(field.raw)
        if drop(field):
            cuts.append((at, end))
        at = end
    if not cuts:
        return None
    draft = blobs.draft()
    try:
        at = 0
        for start, end in [*cuts, (len(octets), len(octets))]:
            for begin in range(at, start, _SLICE_OCTETS):
                draft.write(octets[begin : min(begin + _SLICE_OCTETS, start)])
            at = end
    except BaseException:
        draft.discard()
        raise
    return draft
