"""What a delivery report says to people: what happened to a recipient, and what to do now.

Chosen by the enhanced status alone; the other server's own words are quoted beside it.
Source: RFC 3463 §3 (subjects and details), RFC 7372 §3, RFC 7505 §4.
"""

from __future__ import annotations

from datetime import timedelta

_UNKNOWN_USER = (
    "There is no such mailbox.",
    "Check the address for a typing mistake, or ask the recipient for the right one.",
)
_NO_DOMAIN = (
    "The domain of this address does not exist or takes no mail.",
    "Check the part after the @ for a typing mistake.",
)
_FULL = (
    "The recipient's mailbox is full.",
    "Try again later, or tell the recipient in another way.",
)
_TOO_LARGE = (
    "The message is larger than the recipient's server takes.",
    "Send it in smaller pieces, or send a link to the attachment.",
)
_DISABLED = (
    "The recipient's mailbox takes no mail now.",
    "Reach the recipient in another way.",
)
_UNREACHABLE = (
    "The recipient's server could not be reached.",
    "The fault is most often temporary: try again later. If it stays, tell the recipient.",
)
_EXPIRED = (
    "The message could not be delivered for so long that we gave up.",
    "Try again later, or reach the recipient in another way.",
)
_LOOP = (
    "The message went round in a circle between mail servers.",
    "Tell the administrator of the recipient's domain.",
)
_POLICY = (
    "The recipient's server refused the message by its own rules.",
    "Its answer below says why. Your administrator can help when it names your server.",
)
_AUTHENTICATION = (
    "The recipient's server found that the message's origin could not be verified.",
    "Forward this report to your administrator (SPF, DKIM or DMARC of your domain).",
)
_SENDER = (
    "The recipient's server does not accept your sender address.",
    "Check the address you send from, or forward this report to your administrator.",
)
_CONTENT = (
    "The recipient's server cannot take the message's contents or format.",
    "Send it again as plain text, without attachments, and see whether that goes through.",
)
_SECURITY = (
    "The message could not be sent over a connection as secure as it must be.",
    "Forward this report to your administrator.",
)
_UTF8 = (
    "The recipient's server does not support international (UTF-8) addresses.",
    "Send from, and to, addresses of plain ASCII letters.",
)
_PROTOCOL = (
    "The recipient's server and ours did not understand each other.",
    "Forward this report to your administrator.",
)
_SYSTEM = (
    "The recipient's server has a fault.",
    "Try again later.",
)
_OTHER = (
    "The recipient's server refused the message.",
    "Its answer below says why.",
)

_BY_DETAIL: dict[tuple[int, int], tuple[str, str]] = {
    (1, 1): _UNKNOWN_USER,
    (1, 2): _NO_DOMAIN,
    (1, 3): _UNKNOWN_USER,
    (1, 4): _UNKNOWN_USER,
    (1, 6): _UNKNOWN_USER,
    (1, 7): _SENDER,
    (1, 8): _SENDER,
    (1, 10): _NO_DOMAIN,
    (2, 1): _DISABLED,
    (2, 2): _FULL,
    (2, 3): _TOO_LARGE,
    (3, 1): _FULL,
    (3, 4): _TOO_LARGE,
    (4, 6): _LOOP,
    (4, 7): _EXPIRED,
    (6, 7): _UTF8,
    (6, 8): _UTF8,
    (6, 9): _UTF8,
    (7, 10): _SECURITY,
    (7, 11): _SECURITY,
    (7, 27): _NO_DOMAIN,
    (7, 30): _SECURITY,
}
_BY_SUBJECT: dict[int, tuple[str, str]] = {
    1: _UNKNOWN_USER,
    2: _DISABLED,
    3: _SYSTEM,
    4: _UNREACHABLE,
    5: _PROTOCOL,
    6: _CONTENT,
    7: _POLICY,
}
_DELIVERED = {
    "delivered": "The message was put into the recipient's mailbox.",
    "relayed": "The message was handed to a server that sends no reports of success.",
    "expanded": "The message was handed to a list or to several recipients.",
}


def explain(
    action: str, subject: int, detail: int, waited: timedelta | None = None
) -> tuple[str, str]:
    """(what happened, what to do; "" when nothing) for one recipient.

    waited: how long it was tried before we gave up.
    """
    done = _DELIVERED.get(action)
    if done is not None:
        return done, ""
    if subject == 7 and 20 <= detail <= 26:  # RFC 7372 §3: DKIM, SPF, reverse DNS
        what, todo = _AUTHENTICATION
    else:
        what, todo = _BY_DETAIL.get((subject, detail)) or _BY_SUBJECT.get(subject) or _OTHER
    if action == "delayed":
        if (subject, detail) == (4, 7):
            what = _UNREACHABLE[0]
        return what, "You need not send it again: we keep trying."
    if waited is not None and (subject, detail) == (4, 7):
        what = f"The message could not be delivered for {_time(waited)}, so we gave up."
    return what, todo


def _time(waited: timedelta) -> str:
    hours = round(waited.total_seconds() / 3600)
    if hours >= 48:
        return f"{round(hours / 24)} days"
    return f"{hours} hours" if hours > 1 else "an hour" if hours else "less than an hour"
