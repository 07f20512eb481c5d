"""LOGIN.

Source: RFC 3501 §6.2.3, RFC 5530 §3 (AUTHENTICATIONFAILED, PRIVACYREQUIRED).
"""

from __future__ import annotations

from postroad.directory.values import Account
from postroad.mail import limits
from postroad.protocol.imap.commands import Login
from postroad.service.authenticate import check_password, login_allowed
from postroad.service.imapd.capability import capabilities
from postroad.service.imapd.session import Answer, Farewell, Session, no


async def login(session: Session, command: Login) -> Answer:
    if not login_allowed(session.site, session.stream):
        return no("Passwords travel inside TLS only", b"PRIVACYREQUIRED")
    try:
        user = command.user.decode()
    except UnicodeDecodeError:
        return refused(session)
    account = await check_password(session.site, session.stream, user, command.password, session.id)
    return refused(session) if account is None else accepted(session, account)


def refused(session: Session) -> Answer:
    """Counts the failure. Raises: Farewell after too many."""
    session.failures += 1
    if session.failures >= limits.LOGIN_FAILURES_MAX:
        raise Farewell("Too many failed logins", "too many failed logins")
    return no("User name or password is wrong", b"AUTHENTICATIONFAILED")


def accepted(session: Session, account: Account) -> Answer:
    session.authenticated(account)
    return Answer("Logged in", b"CAPABILITY " + b" ".join(capabilities(session)))
