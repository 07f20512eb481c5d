"""IMAPService: what the listener hands its streams to.

Source: RFC 3501 §7.1 (greeting), RFC 8314 §3 (implicit TLS).
"""

from __future__ import annotations

from postroad.net.contract import Disconnected, Stream, TimedOut, TLSFailed
from postroad.service.imapd.capability import capabilities
from postroad.service.imapd.commands import HANDLERS
from postroad.service.imapd.events import IMAPSessionClosed, IMAPSessionOpened
from postroad.service.imapd.session import Session
from postroad.service.site import Site


class IMAPService:
    """implicit_tls: TLS begins at once (port 993); else STARTTLS is offered (port 143)."""

    def __init__(self, site: Site, implicit_tls: bool) -> None:
        self._site = site
        self._implicit_tls = implicit_tls
        self._sessions: set[Session] = set()
        self._draining = False

    async def handle(self, stream: Stream) -> None:
        """Serves one connection to its end, and closes it."""
        site = self._site
        session = Session(site, stream, f"{site.clock.random_bits(48):012x}", HANDLERS)
        site.trace(
            IMAPSessionOpened(
                session=session.id, peer=stream.peer[0], implicit_tls=self._implicit_tls
            )
        )
        self._sessions.add(session)
        try:
            if self._implicit_tls and stream.tls is None:
                assert site.tls.clients is not None, "implicit TLS needs a certificate"
                await stream.start_tls_server(site.tls.clients)
            if self._draining:
                session.end("The server is stopping", "drained")
            offered = b" ".join(capabilities(session))
            host = site.hostname.encode()
            await session.run(b"* OK [CAPABILITY %b] %b Postroad is ready\r\n" % (offered, host))
        except (TLSFailed, TimedOut, Disconnected) as error:
            session.reason = f"{type(error).__name__}: {error}"
        finally:
            self._sessions.discard(session)
            await stream.close()
            site.trace(
                IMAPSessionClosed(
                    session=session.id,
                    peer=stream.peer[0],
                    login=session.account.address if session.account is not None else "",
                    reason=session.reason,
                )
            )

    def drain(self) -> None:
        """Idle sessions get * BYE at once, busy ones after their command; new ones too."""
        self._draining = True
        for session in list(self._sessions):
            session.end("The server is stopping", "drained")
