"""AUTH within an SMTP session: one exchange after the other, until one succeeds.

Passwords are `service.authenticate`'s; here is what SMTP says to each step.
Source: RFC 4954 §4, §6.
"""

from __future__ import annotations

from postroad.directory.values import Account
from postroad.mail import limits
from postroad.mail.errors import ProtocolError, Unavailable
from postroad.mail.reply import Reply
from postroad.net.contract import Stream
from postroad.protocol.sasl import Challenge, decode_initial, decode_response, encode_challenge
from postroad.protocol.smtp import replies
from postroad.protocol.smtp.commands import Auth
from postroad.protocol.smtp.server import Response
from postroad.service.authenticate import Authenticated, Exchange, Rejected, mechanisms
from postroad.service.site import Site
from postroad.service.smtp_events import SessionFailed


class Login:
    """The login of one session. account: who it is, once an exchange succeeded."""

    def __init__(self, site: Site, stream: Stream, session: str) -> None:
        self._site = site
        self._stream = stream
        self._session = session
        self._exchange: Exchange | None = None
        self._failures = 0
        self.account: Account | None = None

    def offered(self) -> tuple[str, ...]:
        """Mechanisms to name in EHLO; none where login is not allowed or no longer needed."""
        return () if self.account is not None else mechanisms(self._site, self._stream)

    def forget(self) -> None:
        """After STARTTLS: nothing that was said in the clear counts (RFC 3207 §4.2)."""
        self._exchange = None
        self.account = None

    async def begin(self, command: Auth) -> Reply:
        """The answer to AUTH."""
        if not mechanisms(self._site, self._stream):
            return replies.AUTH_NEEDS_TLS
        try:
            exchange = Exchange(self._site, self._stream, command.mechanism, self._session)
            return await self._step(exchange, decode_initial(command.initial))
        except ProtocolError as error:
            return error.reply or replies.AUTH_CANCELLED
        except Unavailable as error:
            return self._unavailable(error)

    async def go_on(self, response: Response) -> Reply:
        """The answer to one line of an exchange."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None, "the core knows when an exchange runs"
        if response.line is None:
            return replies.AUTH_CANCELLED
        try:
            return await self._step(exchange, decode_response(response.line))
        except ProtocolError as error:
            return error.reply or replies.AUTH_CANCELLED
        except Unavailable as error:
            return self._unavailable(error)

    def abandon(self) -> None:
        """A line ended the exchange that was none of its."""
        self._exchange = None

    async def _step(self, exchange: Exchange, data: bytes | None) -> Reply:
        match await exchange.respond(data):
            case Challenge(octets):
                self._exchange = exchange
                return Reply(334, None, (encode_challenge(octets).decode("ascii"),))
            case Authenticated(account):
                self.account = account
                return replies.AUTH_OK
            case Rejected():
                self._failures += 1
                if self._failures >= limits.LOGIN_FAILURES_MAX:
                    return replies.TOO_MANY_ERRORS
                return replies.AUTH_REJECTED

    def _unavailable(self, error: Unavailable) -> Reply:
        self._site.trace(SessionFailed(session=self._session, doing="auth", error=error.what))
        return replies.AUTH_UNAVAILABLE
