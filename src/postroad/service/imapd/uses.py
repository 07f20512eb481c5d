"""Special uses that a mailbox here may have.

Source: RFC 6154 §2.
"""

from __future__ import annotations

_USES = {
    use.lower(): use
    for use in ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash")
}
_VIRTUAL = ("\\All", "\\Flagged")
"""Uses that would be a view over other mailboxes; none of ours is one."""


def known_use(written: str) -> str | None:
    """A use that a mailbox may have, as it is spelt; None: no mailbox can."""
    use = _USES.get(written.lower())
    return None if use in _VIRTUAL else use
