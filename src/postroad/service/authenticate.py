"""Login for every service: which mechanisms a connection may use, one exchange, one password.

The mechanisms are `protocol.sasl`, the verifiers the directory's. Trusts nothing of the client.
A stranger meets the same exchange as an account: a made-up salt that stays the same, the same
hashing, the same delay. Hashing runs on a few threads with a bounded line in front of them; right
passwords are remembered for some minutes under a keyed digest of verifier and password, so that
a changed password is forgotten at once.
Source: RFC 4422 §6 (security), RFC 4954 §4, RFC 5802 §9 (strangers), RFC 5929 §4.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import assert_never

from postroad.directory.operations import AddVerifier
from postroad.directory.passwords import (
    DECOY_ARGON2,
    SALT_OCTETS,
    decoy_scram,
    derive_scram_sha_1,
    verify_password,
)
from postroad.directory.values import Account, Credentials
from postroad.mail.errors import ProtocolError, Unavailable
from postroad.mail.reply import Reply
from postroad.mail.secret import Secret
from postroad.net.contract import Stream
from postroad.net.tls import addresses_of
from postroad.protocol.sasl import (
    Challenge,
    ExternalServer,
    Fault,
    IdentityClaim,
    LoginServer,
    OAuthBearerServer,
    PasswordClaim,
    PlainServer,
    Proven,
    ScramServer,
    ScramVerifier,
    ServerMechanism,
    TokenClaim,
    VerifierWanted,
    XOAuth2Server,
)
from postroad.service.site import Site
from postroad.trace import Event

FAILURE_DELAY_S = 1.0
"""Before a refusal is answered: slows guessing within a session, unnoticed by a person."""
NONCE_OCTETS = 18
HASHES_AT_ONCE = min(4, os.cpu_count() or 1)
HASHES_WAITING_MAX = 200
"""At 20 ms each, four seconds of waiting; past it the login is deferred."""
REMEMBERED_MAX = 10_000
REMEMBERED_FOR_S = 300.0

_SCRAM = {
    "SCRAM-SHA-256-PLUS": "sha256",
    "SCRAM-SHA-1-PLUS": "sha1",
    "SCRAM-SHA-256": "sha256",
    "SCRAM-SHA-1": "sha1",
}
"""Strongest first, with the hash function of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginSucceeded(Event):
    login: str
    mechanism: str
    peer: str
    tls: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFailed(Event):
    """login: as the client gave it, "" when it gave none."""

    login: str
    mechanism: str
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Authenticated:
    """octets: data for the client with the success; always None here, since SMTP, IMAP and POP3
    carry the server's proof as a last challenge (RFC 4954 §4, RFC 3501 §6.2.2, RFC 5034 §4)."""

    account: Account
    octets: bytes | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """No. Why is not the client's business."""


def login_allowed(site: Site, stream: Stream) -> bool:
    """Whether credentials may travel here: inside TLS, or on loopback where that is configured."""
    if stream.tls is not None:
        return True
    return site.plaintext_on_loopback and _is_loopback(stream.peer[0])


def mechanisms(site: Site, stream: Stream) -> tuple[str, ...]:
    """What to offer, strongest first; () where login is not allowed.

    EXTERNAL where the client has shown a certificate; bearer tokens inside TLS where an issuer is
    configured. SCRAM with -PLUS only where it is asked for: clients built on GNU SASL choose it
    whenever it is offered and then fail on TLS 1.3 for want of tls-exporter data (RFC 9266), which
    Python's ssl module can not give.
    """
    if not login_allowed(site, stream):
        return ()
    offered = ["EXTERNAL"] if stream.peer_certificate() is not None else []
    bound = site.scram_plus and stream.channel_binding() is not None
    offered += [name for name in _SCRAM if bound or not name.endswith("-PLUS")]
    if site.tokens is not None and stream.tls is not None:
        offered += ["OAUTHBEARER", "XOAUTH2"]
    return (*offered, "PLAIN", "LOGIN")


class Exchange:
    """One SASL exchange on one connection.

    mechanism: any case. Raises: ProtocolError (504 5.5.4) for one that `mechanisms` does not offer.
    """

    def __init__(self, site: Site, stream: Stream, mechanism: str, session: str) -> None:
        self.mechanism = mechanism.upper()
        self._site = site
        self._stream = stream
        self._session = session
        self._account: Account | None = None
        self._proven: Account | None = None
        offered = mechanisms(site, stream)
        if self.mechanism not in offered:
            raise ProtocolError(
                f"SASL mechanism {mechanism[:32]!r} is not offered",
                Reply.of(504, "5.5.4", "Unrecognized authentication mechanism"),
            )
        self._server = self._begin(offered)

    def _begin(self, offered: tuple[str, ...]) -> ServerMechanism:
        match self.mechanism:
            case "PLAIN":
                return PlainServer()
            case "LOGIN":
                return LoginServer()
            case "EXTERNAL":
                return ExternalServer()
            case "OAUTHBEARER":
                return OAuthBearerServer()
            case "XOAUTH2":
                return XOAuth2Server()
            case _:
                return ScramServer(
                    nonce=base64.urlsafe_b64encode(secrets.token_bytes(NONCE_OCTETS)),
                    digest=_SCRAM[self.mechanism],
                    plus=self.mechanism.endswith("-PLUS"),
                    plus_offered=f"{self.mechanism.removesuffix('-PLUS')}-PLUS" in offered,
                    channel_binding=self._stream.channel_binding(),
                )

    async def respond(self, data: bytes | None) -> Challenge | Authenticated | Rejected:
        """The client's next message, base64 decoded; None: it began without an initial response.

        A refusal comes after FAILURE_DELAY_S. After Authenticated or Rejected the exchange is over.
        Raises: Unavailable (say 454, NO [UNAVAILABLE], -ERR [SYS/TEMP]).
        """
        if self._proven is not None:
            if data:
                return await self._reject(self._proven.address, "SCRAM: the last answer holds data")
            return self._succeed(self._proven)
        step = self._server.respond(data)
        match step:
            case Challenge():
                return step
            case PasswordClaim(login, authzid, password):
                account = await _verify(self._site, login, authzid, password)
                if account is None:
                    return await self._reject(login, "wrong login or password")
                return self._succeed(account)
            case TokenClaim(login, token):
                return await self._token(login, token)
            case IdentityClaim(authzid):
                return await self._certificate(authzid)
            case VerifierWanted(login, authzid):
                return self._provide(login, authzid)
            case Proven(login, octets):
                if self._account is None:
                    return await self._reject(login, "SCRAM: no such account, or another's")
                self._proven = self._account
                return Challenge(octets)
            case Fault(reason):
                login = self._account.address if self._account else ""
                return await self._reject(login, reason)
            case _:
                assert_never(step)

    def _provide(self, login: str, authzid: str) -> Challenge:
        digest = _SCRAM[self.mechanism]
        account = self._site.directory.account(login)
        verifier: ScramVerifier | None = None
        if account is not None and _may_act_as(account, authzid, self._site):
            credentials = self._site.directory.credentials(account.account)
            kept = _scram_of(credentials, digest)
            if kept:
                verifier = ScramVerifier.parse(kept, digest)
                self._account = account
        if verifier is None:
            verifier = decoy_scram(_decoy_salt(self._site.secret, login), digest)
        assert isinstance(self._server, ScramServer)
        return self._server.provide(verifier)

    async def _token(self, login: str, token: Secret) -> Challenge | Authenticated | Rejected:
        """A token that is not good is answered by a challenge first (RFC 7628 §3.2.2)."""
        tokens = self._site.tokens
        assert tokens is not None, "the mechanism is offered where there is an issuer"
        assert isinstance(self._server, OAuthBearerServer)
        named = await tokens.login_of(token)
        account = self._site.directory.account(named) if named else None
        if account is None or not _may_act_as(account, login, self._site):
            return self._server.refuse(tokens.configuration)
        return self._succeed(account)

    async def _certificate(self, authzid: str) -> Authenticated | Rejected:
        """Of the accounts that the certificate's addresses name, the one asked for; or the only."""
        shown = self._stream.peer_certificate()
        found: dict[int, Account] = {}
        for address in addresses_of(shown) if shown is not None else ():
            account = self._site.directory.account(address)
            if account is not None and _may_act_as(account, authzid, self._site):
                found[account.account] = account
        if len(found) != 1:
            reason = "the certificate is nobody's here, or several accounts'"
            return await self._reject(authzid, reason)
        return self._succeed(found.popitem()[1])

    def _succeed(self, account: Account) -> Authenticated:
        _trace_success(self._site, self._stream, self._session, account, self.mechanism)
        return Authenticated(account)

    async def _reject(self, login: str, reason: str) -> Rejected:
        await _refuse(self._site, self._stream, self._session, login, self.mechanism, reason)
        return Rejected()


async def check_password(
    site: Site, stream: Stream, login: str, password: Secret, session: str
) -> Account | None:
    """IMAP's LOGIN, POP3's USER and PASS: the account, or None after FAILURE_DELAY_S.

    Raises: Unavailable.
    """
    if not login_allowed(site, stream):
        await _refuse(site, stream, session, login, "password", "login is not allowed here")
        return None
    account = await _verify(site, login, "", password)
    if account is None:
        await _refuse(site, stream, session, login, "password", "wrong login or password")
    else:
        _trace_success(site, stream, session, account, "password")
    return account


async def _verify(site: Site, login: str, authzid: str, password: Secret) -> Account | None:
    account = site.directory.account(login)
    credentials = site.directory.credentials(account.account) if account is not None else None
    argon2 = credentials.argon2 if credentials is not None else DECOY_ARGON2
    right = await _hashing.verify(argon2, password, site.clock.monotonic())
    if not right or account is None or not _may_act_as(account, authzid, site):
        return None
    if credentials is not None and not credentials.scram_sha_1.reveal():
        await _complete(site, credentials, password)
    return account


async def _complete(site: Site, credentials: Credentials, password: Secret) -> None:
    """Keeps the verifier that was not kept when the password was set."""
    salt = secrets.token_bytes(SALT_OCTETS)
    verifier = await asyncio.to_thread(derive_scram_sha_1, password, salt)
    argon2 = credentials.argon2.reveal().decode()
    await site.database.submit(
        AddVerifier(account=credentials.account, argon2=argon2, scram_sha_1=verifier)
    )


def _scram_of(credentials: Credentials | None, digest: str) -> str:
    if credentials is None:
        return ""
    kept = credentials.scram_sha_256 if digest == "sha256" else credentials.scram_sha_1
    return kept.reveal().decode()


def _may_act_as(account: Account, authzid: str, site: Site) -> bool:
    """An account acts as itself only."""
    if not authzid:
        return True
    other = site.directory.account(authzid)
    return other is not None and other.account == account.account


class _Hashing:
    """The threads passwords are checked on, and what was found right lately. One per process."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, float] = {}

    async def verify(self, argon2: Secret, password: Secret, now: float) -> bool:
        """now: monotonic seconds. Raises: Unavailable when too many wait."""
        digest = self._digest(argon2, password)
        if self._right.get(digest, 0.0) > now:
            return True
        if self._waiting >= HASHES_WAITING_MAX:
            raise Unavailable("login: too many passwords are being checked")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(HASHES_AT_ONCE, thread_name_prefix="password")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._threads, verify_password, argon2, password)
        finally:
            self._waiting -= 1
        if right:
            self._remember(digest, now)
        return right

    def _digest(self, argon2: Secret, password: Secret) -> bytes:
        return hmac.digest(self._key, argon2.reveal() + b"\0" + password.reveal(), "sha256")

    def _remember(self, digest: bytes, now: float) -> None:
        if len(self._right) >= REMEMBERED_MAX:
            self._right = {key: end for key, end in self._right.items() if end > now}
            if len(self._right) >= REMEMBERED_MAX:
                self._right.clear()
        self._right[digest] = now + REMEMBERED_FOR_S


_hashing = _Hashing()


def _decoy_salt(secret: Secret, login: str) -> bytes:
    return hmac.digest(secret.reveal(), b"scram salt\0" + login.casefold().encode(), "sha256")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _trace_success(
    site: Site, stream: Stream, session: str, account: Account, mechanism: str
) -> None:
    site.trace(
        LoginSucceeded(
            session=session,
            login=account.address,
            mechanism=mechanism,
            peer=stream.peer[0],
            tls=stream.tls.version if stream.tls else "",
        )
    )


async def _refuse(
    site: Site, stream: Stream, session: str, login: str, mechanism: str, reason: str
) -> None:
    site.trace(
        LoginFailed(
            session=session,
            login=login[:320],
            mechanism=mechanism,
            peer=stream.peer[0],
            reason=reason,
        )
    )
    await site.clock.sleep(FAILURE_DELAY_S)
