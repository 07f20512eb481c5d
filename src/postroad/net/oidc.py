"""Bearer tokens of one OpenID Connect issuer: signed ones are checked here, others are asked about.

The issuer's description and keys are fetched when first needed and kept for a while. A token whose
key is not known makes them be fetched again, at most once a minute. Trusts the configured issuer
over HTTPS, and nothing a token says before its signature holds.
Source: OpenID Connect Discovery 1.0 §4, RFC 7519 §4.1, RFC 7515 §10.7 (algorithms), RFC 7662 §2,
RFC 8725 §3.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from postroad.mail.errors import Unavailable
from postroad.mail.secret import Secret
from postroad.net.contract import Clock

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512") + (
    "EdDSA",
)
"""Signatures that only the issuer can make: no shared secrets, no "none" (RFC 8725 §3.1)."""
REPLY_OCTETS_MAX = 1 << 20
"""Of a description, key set or introspection; real ones have some KB."""
TIMEOUT_S = 10.0
DESCRIPTION_KEPT_S = 3600.0
KEYS_ASKED_AGAIN_S = 60.0
LEEWAY_S = 60
ACCEPTED_KEPT_S = 300.0
ACCEPTED_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerSettings:
    """audience: what a token must be for; "" takes any (only right for an issuer of one's own).

    claim: which claim is the login name. client_id, client_secret: for introspection; "" none.
    """

    url: str
    audience: str = ""
    claim: str = "email"
    client_id: str = ""
    client_secret: Secret | None = None


def check_url(url: str) -> None:
    """Raises: ValueError unless it is HTTPS, or HTTP to this machine (tests, a local proxy)."""
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise ValueError(f"{url!r} is not an https:// URL")


class Issuer:
    """Implements `service.site.Tokens`. Used on one loop."""

    def __init__(self, settings: IssuerSettings, clock: Clock) -> None:
        """Raises: ValueError for an issuer that is not asked over HTTPS."""
        check_url(settings.url)
        self._settings = settings
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._description: dict[str, Any] = {}
        self._keys: KeySet | None = None
        self._fetched = -DESCRIPTION_KEPT_S
        self._accepted: dict[bytes, tuple[str, float]] = {}

    @property
    def configuration(self) -> str:
        return self._settings.url.rstrip("/") + "/.well-known/openid-configuration"

    async def login_of(self, token: Secret) -> str | None:
        digest = hashlib.sha256(token.reveal()).digest()
        now = self._clock.now().timestamp()
        known = self._accepted.get(digest)
        if known is not None and known[1] > now:
            return known[0]
        text = token.reveal().decode("ascii")
        claims = await (self._signed(text) if text.count(".") == 2 else self._asked(text))
        login = self._login(claims) if claims is not None else None
        if claims is not None and login is not None:
            self._remember(digest, login, min(now + ACCEPTED_KEPT_S, _moment(claims, "exp", now)))
        return login

    def _remember(self, digest: bytes, login: str, until: float) -> None:
        if len(self._accepted) >= ACCEPTED_MAX:
            self._accepted.clear()
        self._accepted[digest] = (login, until)

    def _login(self, claims: Mapping[str, Any]) -> str | None:
        """None: the claims are not for us, not now, or name nobody."""
        settings = self._settings
        now = self._clock.now().timestamp()
        if _moment(claims, "exp", now + 1) + LEEWAY_S < now:
            return None
        if _moment(claims, "nbf", now) - LEEWAY_S > now:
            return None
        audience = claims.get("aud", [])
        audiences = [audience] if isinstance(audience, str) else audience
        if settings.audience and settings.audience not in audiences:
            return None
        login = claims.get(settings.claim)
        if settings.claim == "email" and claims.get("email_verified") is False:
            return None
        return login if isinstance(login, str) and login else None

    async def _signed(self, token: str) -> Mapping[str, Any] | None:
        """The claims of a JWT whose signature holds. Raises: Unavailable."""
        for anew in (False, True):
            keys = await self._known_keys(anew)
            try:
                claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
            except (JoseError, ValueError, KeyError, TypeError):
                continue  # perhaps by a key that is newer than what is known
            issuer = str(self._description.get("issuer", self._settings.url))
            if claims.get("iss") != issuer or "exp" not in claims:
                return None
            return claims
        return None

    async def _known_keys(self, anew: bool) -> KeySet:
        async with self._fetching:
            age = self._clock.monotonic() - self._fetched
            if self._keys is None or age > (KEYS_ASKED_AGAIN_S if anew else DESCRIPTION_KEPT_S):
                await self._fetch()
            assert self._keys is not None, "_fetch raises or sets it"
            return self._keys

    async def _fetch(self) -> None:
        async with _session() as http:
            description = await _json(http, "GET", self.configuration)
            if str(description.get("issuer", "")).rstrip("/") != self._settings.url.rstrip("/"):
                raise Unavailable("oidc: the description names another issuer")
            place = str(description.get("jwks_uri", ""))
            try:
                check_url(place)
                keys = KeySet.import_key_set(await _json(http, "GET", place))  # type: ignore[arg-type]  # checked by the library
            except (JoseError, ValueError, KeyError, TypeError) as error:
                raise Unavailable(f"oidc: the issuer's keys cannot be used: {error}") from error
        self._description, self._keys = description, keys
        self._fetched = self._clock.monotonic()

    async def _asked(self, token: str) -> Mapping[str, Any] | None:
        """What the issuer says of an opaque token (RFC 7662); None when it is not active."""
        settings = self._settings
        if not settings.client_id or settings.client_secret is None:
            return None
        await self._known_keys(False)
        place = str(self._description.get("introspection_endpoint", ""))
        try:
            check_url(place)
        except ValueError:
            return None  # this issuer does not say anything about tokens
        name = quote(settings.client_id, safe="").encode()
        secret = quote(settings.client_secret.reveal(), safe="").encode()
        headers = {"Authorization": "Basic " + b64encode(name + b":" + secret).decode()}
        async with _session() as http:
            told = await _json(http, "POST", place, data={"token": token}, headers=headers)
        return told if told.get("active") is True else None


def _moment(claims: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = claims.get(name, otherwise)
    return float(value) if isinstance(value, int | float) else 0.0


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), trust_env=False)


async def _json(
    http: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    data: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Raises: Unavailable unless it is a JSON object of bounded size."""
    try:
        async with http.request(
            method, url, data=data, headers=headers, allow_redirects=False
        ) as reply:
            if reply.status != 200:
                raise Unavailable(f"oidc: {urlsplit(url).netloc} answers {reply.status}")
            octets = b""
            async for piece in reply.content.iter_any():
                octets += piece
                if len(octets) > REPLY_OCTETS_MAX:
                    raise Unavailable(f"oidc: the answer of {urlsplit(url).netloc} is too long")
        found = json.loads(octets)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
        raise Unavailable(f"oidc: {urlsplit(url).netloc}: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise Unavailable(f"oidc: {urlsplit(url).netloc} did not answer with an object")
    return found
