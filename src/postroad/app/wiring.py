"""Putting one process's server together: the site, the services, their listeners.

Knows every service by name and nothing of what they do.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from postroad.app.config import Config, parse_nameserver
from postroad.app.master_key import keys_of
from postroad.app.sockets import Sockets
from postroad.database.contract import Database
from postroad.directory.reading import MailDirectory
from postroad.mail.errors import Unavailable
from postroad.mail.secret import Secret
from postroad.net.clock import SystemClock
from postroad.net.contract import Clock, Stream
from postroad.net.dialer import NetDialer
from postroad.net.listener import Listener
from postroad.net.resolver import NetResolver
from postroad.net.tls import ServerContext, client_service_context, server_context
from postroad.queue.reading import MailQueue
from postroad.service.imapd import IMAPService
from postroad.service.imapd.recent import share as share_recent
from postroad.service.pop3d import POP3Service
from postroad.service.site import Site, TLSContexts, Tokens
from postroad.service.smtpd import SMTPService
from postroad.service.submission import SubmissionService
from postroad.store.blobs import BlobStore
from postroad.store.gate import Gate
from postroad.store.mailboxes import MailStore
from postroad.store.quota import NO_LIMIT, SetQuotaDefaults
from postroad.trace import Event, Trace

SECRET_FILE = "secret.key"
SECRET_OCTETS = 32
IMPLICIT_TLS = frozenset({"submissions", "imaps", "pop3s"})


class Service(Protocol):
    async def handle(self, stream: Stream) -> None: ...

    def drain(self) -> Awaitable[None] | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationReloaded(Event):
    """needs_restart: what changed in the file and takes effect only at the next start."""

    needs_restart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadFailed(Event):
    """The old settings stay."""

    why: str


def certificate_of(config: Config) -> TLSContexts:
    """Raises: OSError, ValueError."""
    certificate, key = Path(config.tls.certificate), Path(config.tls.key)
    server = server_context(certificate, key)
    if not config.tls.client_authorities:
        return TLSContexts(server)
    authorities = Path(config.tls.client_authorities)
    return TLSContexts(server, client_service_context(certificate, key, authorities))


def tokens_of(config: Config, clock: Clock) -> Tokens | None:
    """Raises: OSError (the secret's file), ValueError (the issuer's URL)."""
    oauth = config.oauth
    if not oauth.issuer:
        return None
    from postroad.net.oidc import Issuer, IssuerSettings  # 0.2 s of imports, for those who need it

    secret = None
    if oauth.client_secret_file:
        secret = Secret(Path(oauth.client_secret_file).read_bytes().strip())
    return Issuer(
        IssuerSettings(
            url=oauth.issuer,
            audience=oauth.audience,
            claim=oauth.claim,
            client_id=oauth.client_id,
            client_secret=secret,
        ),
        clock,
    )


def resolver_of(config: Config) -> NetResolver:
    servers = [parse_nameserver(text) for text in config.dns.nameservers]
    return NetResolver(servers or None, timeout_s=config.dns.timeout_s)


def sources_of(config: Config) -> list[str]:
    """Where mail to others is sent from: the address listened on, where that is one of a kind.

    With several, or all, of the machine's addresses the system's choice stands.
    """
    chosen = []
    for version in (4, 6):
        listed = [a for a in config.listen.addresses if ip_address(a).version == version]
        if len(listed) == 1 and not ip_address(listed[0]).is_unspecified:
            chosen += listed
    return chosen


def server_secret(data_dir: Path) -> Secret:
    """The server's own key, made at the first start; the same for all its processes.

    Raises: Unavailable.
    """
    path = data_dir / SECRET_FILE
    try:
        if not path.exists():
            fresh = path.with_suffix(".new")
            fresh.touch(0o600)
            fresh.write_bytes(secrets.token_bytes(SECRET_OCTETS))
            fresh.rename(path)
        octets = path.read_bytes()
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error
    if len(octets) < SECRET_OCTETS:
        raise Unavailable(f"{path} is cut off: remove it, a new one is made at the next start")
    return Secret(octets)


def build_site(config: Config, database: Database, secret: Secret, trace: Trace) -> Site:
    """Raises: OSError, ValueError (certificate), Unavailable (disk, master key)."""
    keys = keys_of(config.storage.master_key, database)
    blobs = BlobStore.open(
        config.data_dir, keys=keys, learnt=config.storage.dictionary, remembers=True
    )
    site = Site(
        hostname=config.server.hostname,
        database=Gate(database, blobs, keys),
        directory=MailDirectory(database, config.server.hostname),
        store=MailStore(database, blobs, keys),
        queue=MailQueue(database),
        resolver=resolver_of(config),
        dialer=NetDialer(sources_of(config)),
        clock=SystemClock(),
        trace=trace,
        tls=certificate_of(config),
        secret=secret,
        run_dir=config.data_dir / "run",
    )
    if config.workers:
        share_recent(site.store, config.data_dir / "run" / "recent")
    site.tokens = tokens_of(config, site.clock)
    apply_settings(site, config)
    return site


def quota_defaults(config: Config) -> SetQuotaDefaults:
    """What holds for accounts without limits of their own, for the database to know."""
    accounts = config.accounts
    return SetQuotaDefaults(
        octets_max=accounts.storage_octets or NO_LIMIT,
        messages_max=accounts.messages or NO_LIMIT,
        mailboxes_max=accounts.mailboxes or NO_LIMIT,
    )


def apply_settings(site: Site, config: Config) -> None:
    """The settings that may change while the server runs; sessions see them at once."""
    site.message_octets_max = config.limits.message_octets
    site.recipients_max = config.limits.recipients
    site.plaintext_on_loopback = config.auth.plaintext_on_loopback
    site.url_submitters = frozenset(item.lower() for item in config.auth.url_submitters)
    site.scram_plus = config.auth.scram_plus
    site.message_lifetime_s = config.delivery.lifetime_s
    site.bounce_lifetime_s = config.delivery.bounce_lifetime_s
    site.delivery_port = config.delivery.port
    site.retry_schedule_s = config.delivery.retry_schedule_s


def reload_site(site: Site, old: Config, new: Config) -> None:
    """Certificate first: if that fails nothing has changed. Raises: OSError, ValueError."""
    contexts = certificate_of(new)
    tokens = tokens_of(new, site.clock)
    site.tls.server, site.tls.clients, site.tokens = contexts.server, contexts.clients, tokens
    if new.dns != old.dns:
        site.resolver = resolver_of(new)  # questions under way end with the old one
    apply_settings(site, new)


def needs_restart(old: Config, new: Config) -> tuple[str, ...]:
    return tuple(
        name for name in ("server", "listen", "storage") if getattr(old, name) != getattr(new, name)
    )


def _build_service(name: str, site: Site) -> Service:
    match name:
        case "smtp":
            return SMTPService(site)
        case "submission" | "submissions":
            return SubmissionService(site, implicit_tls=name in IMPLICIT_TLS)
        case "imap" | "imaps":
            return IMAPService(site, implicit_tls=name in IMPLICIT_TLS)
        case "pop3" | "pop3s":
            return POP3Service(site, implicit_tls=name in IMPLICIT_TLS)
        case _:
            raise AssertionError(f"no service {name}")


class Front:
    """Every service of one process behind its listeners."""

    def __init__(self, site: Site, config: Config, sockets: Sockets) -> None:
        self._services: dict[str, Service] = {}
        self._listeners: list[Listener] = []

        def current() -> ServerContext:
            """Implicit TLS is for people's programs only."""
            context = site.tls.clients
            assert isinstance(context, ServerContext)
            return context

        for name, sock in sockets:
            if name not in self._services:
                self._services[name] = _build_service(name, site)
            handle: Callable[[Stream], Awaitable[None]] = self._services[name].handle
            self._listeners.append(
                Listener(
                    sock,
                    handle,
                    name=name,
                    trace=site.trace,
                    implicit_tls=current if name in IMPLICIT_TLS else None,
                    sessions_max=config.limits.connections,
                    sessions_per_address_max=config.limits.connections_per_address,
                )
            )

    def start(self) -> None:
        for listener in self._listeners:
            listener.start()

    async def drain(self, grace_s: float) -> None:
        """No new sessions; idle ones end, busy ones after their command, the rest is cancelled."""
        for listener in self._listeners:
            listener.close()
        for service in self._services.values():
            drained = service.drain()
            if drained is not None:
                await drained
        await asyncio.gather(*(listener.drain(grace_s) for listener in self._listeners))
