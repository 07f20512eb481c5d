"""What a user may do in the mailbox he has selected, when it is another's and that may change.

Rights are read anew before each command and with each piece of news, so that what was taken away
cannot be done any more; whoever may not read the mailbox any more is told * BYE.
Source: RFC 4314 §5.1.1 (FLAGS and PERMANENTFLAGS tell the rights; BYE when `r` is gone).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroad.mail.flags import Flag
from postroad.mail.rights import flags_allowed
from postroad.protocol.imap import render
from postroad.service.imapd.view import View, flags_response

if TYPE_CHECKING:
    from postroad.service.imapd.session import Session


def permanent_flags(view: View) -> bytes:
    """The flags that stay when they are set, for PERMANENTFLAGS."""
    words = sorted(view.keywords) if view.may("w") else []
    told = render.flags(Flag(flags_allowed(view.rights)), words)
    return b" ".join([*([told] if told else []), *([b"\\*"] if view.may("w") else [])])


def still_readable(session: Session, view: View) -> bool:
    """Takes in what may be done now, and tells it when it is not what it was."""
    if view.account == session.user:
        return True
    rights = session.site.store.rights(view.account, view.mailbox, session.user)
    if rights == view.rights:
        return True
    view.rights = rights
    if "r" not in rights:
        return session.site.store.mailbox_by_id(view.account, view.mailbox) is None
    if not view.read_only:
        session.put(
            flags_response(view.keywords),
            b"* OK [PERMANENTFLAGS (%b)] Flags that are kept now\r\n" % permanent_flags(view),
        )
    return True
