"""What every service is handed: the server it belongs to."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import Protocol

from postroad.database.contract import Database
from postroad.directory.contract import Directory
from postroad.dns.resolver import Resolver
from postroad.mail import limits
from postroad.mail.secret import Secret
from postroad.net.contract import Clock, Dialer
from postroad.queue.contract import Queue
from postroad.service.remembered import Remembered
from postroad.store.contract import Store
from postroad.trace import Trace


class Tokens(Protocol):
    """Judges bearer tokens of the configured issuer. `net.oidc.Issuer` is it."""

    @property
    def configuration(self) -> str:
        """URL of the issuer's description."""
        ...

    async def login_of(self, token: Secret) -> str | None:
        """The login name the token was issued for; None: it is not good.

        Raises: Unavailable when the issuer cannot be asked.
        """
        ...


class TLSContexts:
    """The server's contexts; replaced whole when certificates are reloaded, so that every new
    handshake takes the newest and running sessions keep theirs.

    server: for other mail servers. clients: for people's programs, the same unless these may show
    certificates of their own.
    """

    __slots__ = ("clients", "server")

    def __init__(self, server: SSLContext | None, clients: SSLContext | None = None) -> None:
        self.server = server
        self.clients = clients or server


@dataclass(slots=True, kw_only=True)
class Site:
    """hostname: our name in greetings, Received and Authentication-Results."""

    hostname: str
    database: Database
    directory: Directory
    store: Store
    queue: Queue
    resolver: Resolver
    dialer: Dialer
    clock: Clock
    trace: Trace
    tls: TLSContexts
    message_octets_max: int = limits.MESSAGE_OCTETS_MAX_DEFAULT
    recipients_max: int = limits.SMTP_RECIPIENTS_MAX
    secret: Secret = field(default_factory=lambda: Secret(secrets.token_bytes(32)))
    """The server's own key, the same in all its processes: made-up salts come from it."""
    remembered: Remembered = field(default_factory=Remembered)
    """Orders and threads of messages that this process has worked out."""
    run_dir: Path | None = None
    """Where locks between our processes live; None: there is only this process."""
    plaintext_on_loopback: bool = False
    """Clients on loopback may log in without TLS (test tools)."""
    url_submitters: frozenset[str] = frozenset()
    """Addresses, in lower case, of accounts that submit mail for others: the URLs that users make
    for submission are for them (RFC 4467 §3)."""
    scram_plus: bool = False
    """Offer SCRAM with channel binding."""
    tokens: Tokens | None = None
    """Who judges OAuth tokens; None: none are taken."""
    message_lifetime_s: int = 5 * 86400
    bounce_lifetime_s: int = 86400
    delivery_port: int = 25
    """Port of MX targets; anything but 25 is for the lab."""
    retry_schedule_s: tuple[int, ...] = field(default=(60, 300, 900, 1800, 3600, 7200))
    """Waits after the first, second... failed attempt; the last one repeats."""
