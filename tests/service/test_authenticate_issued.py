"""Logging in with what others issued: bearer tokens of an issuer, and client certificates."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from postroad.mail.errors import Unavailable
from postroad.mail.secret import Secret
from postroad.net.contract import Clock
from postroad.net.memory import PLAYED_TLS, MemoryStream, pipe
from postroad.net.oidc import Issuer, IssuerSettings
from postroad.protocol.sasl import Challenge, Fault, OAuthBearerServer, TokenClaim, XOAuth2Server
from postroad.service.authenticate import Authenticated, Exchange, Rejected, mechanisms
from support.sites import make_site

ANN = "ann@one.example"
KEY = ECKey.generate_key("P-256", {"kid": "one"})
NOW = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)


class FixedClock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


class PlayedIssuer:
    """An issuer on loopback: what it serves may be changed by the test."""

    def __init__(self) -> None:
        self.keys: list[Any] = [KEY.as_dict(private=False)]
        self.asked: list[str] = []
        self.opaque: dict[str, dict[str, Any]] = {}
        self.url = ""

    async def _describe(self, request: web.Request) -> web.Response:
        self.asked.append("description")
        return web.json_response(
            {"issuer": self.url, "jwks_uri": f"{self.url}/keys",
             "introspection_endpoint": f"{self.url}/ask"}
        )  # fmt: skip

    async def _keys(self, request: web.Request) -> web.Response:
        self.asked.append("keys")
        return web.json_response({"keys": self.keys})

    async def _ask(self, request: web.Request) -> web.Response:
        self.asked.append("token")
        if request.headers.get("Authorization") != "Basic cG9zdHJvYWQ6czNjcmV0":
            return web.Response(status=401)
        told = await request.post()
        return web.json_response(self.opaque.get(str(told["token"]), {"active": False}))

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[PlayedIssuer]:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._describe)
        app.router.add_get("/keys", self._keys)
        app.router.add_post("/ask", self._ask)
        runner = web.AppRunner(app)
        await runner.setup()
        place = web.TCPSite(runner, "127.0.0.1", 0)
        await place.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def token(self, key: Any = KEY, algorithm: str = "ES256", **changes: Any) -> Secret:
        claims = {
            "iss": self.url, "aud": "postroad", "email": ANN, "exp": int(NOW.timestamp()) + 600,
        } | changes  # fmt: skip
        kept = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": algorithm, "kid": key.kid}
        return Secret(jwt.encode(header, kept, key, algorithms=[algorithm]))

    def issuer(self, clock: Clock, **settings: Any) -> Issuer:
        given: dict[str, Any] = {"url": self.url, "audience": "postroad"} | settings
        return Issuer(IssuerSettings(**given), clock)


def secret_of(text: str) -> Secret:
    return Secret(text.encode())


def test_signed_tokens() -> None:
    async def run() -> None:
        async with PlayedIssuer().serve() as played:
            clock: Any = FixedClock()
            issuer = played.issuer(clock)
            good = played.token()
            assert await issuer.login_of(good) == ANN
            assert await issuer.login_of(good) == ANN
            assert played.asked == ["description", "keys"]
            late = int(NOW.timestamp()) - 120
            for wrong in (
                played.token(aud="elsewhere"),
                played.token(aud=None),
                played.token(iss="https://evil.example"),
                played.token(exp=late),
                played.token(exp=None),
                played.token(nbf=int(NOW.timestamp()) + 3600),
                played.token(email=None),
                played.token(email=["x"]),
                played.token(email_verified=False),
                Secret(good.reveal()[:-6] + b"AAAAAA"),
                secret_of("a.b.c"),
                secret_of(".."),
            ):
                assert await issuer.login_of(wrong) is None
            assert await issuer.login_of(played.token(aud=["other", "postroad"])) == ANN

    asyncio.run(run())


def test_a_token_is_good_no_longer_than_it_says() -> None:
    async def run() -> None:
        async with PlayedIssuer().serve() as played:
            clock: Any = FixedClock()
            issuer = played.issuer(clock)
            token = played.token(exp=int(NOW.timestamp()) + 30)
            assert await issuer.login_of(token) == ANN
            clock.at += timedelta(seconds=120)
            assert await issuer.login_of(token) is None

    asyncio.run(run())


def test_keys_that_are_not_the_issuers() -> None:
    """A stranger's key, a shared secret made of the public key, and no signature at all."""

    async def run() -> None:
        async with PlayedIssuer().serve() as played:
            clock: Any = FixedClock()
            issuer = played.issuer(clock)
            stranger = ECKey.generate_key("P-256", {"kid": "one"})
            assert await issuer.login_of(played.token(stranger)) is None
            public = OctKey.import_key(json.dumps(KEY.as_dict(private=False)), {"kid": "one"})
            assert await issuer.login_of(played.token(public, "HS256")) is None
            head = "eyJhbGciOiJub25lIn0"
            body = played.token().reveal().split(b".")[1].decode()
            assert await issuer.login_of(secret_of(f"{head}.{body}.")) is None

    asyncio.run(run())


def test_new_keys_are_fetched_when_a_token_needs_them_but_not_more_than_once_a_minute() -> None:
    async def run() -> None:
        async with PlayedIssuer().serve() as played:
            clock: Any = FixedClock()
            issuer = played.issuer(clock)
            assert await issuer.login_of(played.token()) == ANN
            newer = ECKey.generate_key("P-256", {"kid": "two"})
            assert await issuer.login_of(played.token(newer)) is None
            assert played.asked.count("keys") == 1
            played.keys.append(newer.as_dict(private=False))
            clock.at += timedelta(seconds=61)
            assert await issuer.login_of(played.token(newer)) == ANN
            assert played.asked.count("keys") == 2

    asyncio.run(run())


def test_opaque_tokens_are_asked_about() -> None:
    async def run() -> None:
        async with PlayedIssuer().serve() as played:
            played.opaque["abc"] = {"active": True, "email": ANN, "aud": "postroad"}
            clock: Any = FixedClock()
            assert await played.issuer(clock).login_of(secret_of("abc")) is None
            asks: dict[str, Any] = {"client_id": "postroad", "client_secret": secret_of("s3cret")}
            assert await played.issuer(clock, **asks).login_of(secret_of("abc")) == ANN
            assert await played.issuer(clock, **asks).login_of(secret_of("abd")) is None
            with pytest.raises(Unavailable):
                wrong = asks | {"client_secret": secret_of("other")}
                await played.issuer(clock, **wrong).login_of(secret_of("abc"))

    asyncio.run(run())


def test_an_issuer_that_cannot_be_asked() -> None:
    async def run() -> None:
        clock: Any = FixedClock()
        with pytest.raises(Unavailable):
            await Issuer(IssuerSettings(url="http://127.0.0.1:9"), clock).login_of(
                secret_of("a.b.c")
            )
        async with PlayedIssuer().serve() as played:
            other = played.issuer(clock, url=played.url + "/tenant")
            with pytest.raises(Unavailable):
                await other.login_of(played.token())
        with pytest.raises(ValueError, match="https"):
            Issuer(IssuerSettings(url="http://issuer.example"), clock)

    asyncio.run(run())


def bearer(login: str, token: str) -> bytes:
    return f"n,a={login},\x01host=mx\x01auth=Bearer {token}\x01\x01".encode()


@pytest.mark.parametrize(
    ("message", "login", "token"),
    [
        (b"n,a=ann@one.example,\x01auth=Bearer abc\x01\x01", ANN, b"abc"),
        (b"n,,\x01host=x\x01port=143\x01auth=bearer a.b-c_~+/==\x01\x01", "", b"a.b-c_~+/=="),
        (b"n,a=a=2Cb=3D@x,\x01auth=Bearer t\x01\x01", "a,b=@x", b"t"),
    ],
)
def test_bearer_messages(message: bytes, login: str, token: bytes) -> None:
    step = OAuthBearerServer().respond(message)
    assert isinstance(step, TokenClaim)
    assert (step.login, step.token.reveal()) == (login, token)
    assert token.decode() not in repr(step) or token == b"t"


@pytest.mark.parametrize(
    "message",
    [b"", b"\x01", b"n,,\x01\x01", b"n,,\x01auth=Bearer \x01\x01", b"n,,\x01auth=Basic x\x01\x01"]
    + [b"n,,\x01auth=Bearer x\x01", b"n,a=\xff,\x01auth=Bearer x\x01\x01"]
    + [b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01", b"q,,\x01auth=Bearer x\x01\x01"]
    + [b"n,,\x01auth=Bearer " + b"x" * 9000 + b"\x01\x01"],
)  # fmt: skip
def test_bearer_messages_that_are_none(message: bytes) -> None:
    assert isinstance(OAuthBearerServer().respond(message), Fault)
    assert isinstance(XOAuth2Server().respond(message), Fault)


class PlayedTokens:
    configuration = "https://issuer.example/.well-known/openid-configuration"

    async def login_of(self, token: Secret) -> str | None:
        return {b"anns": ANN, b"nobodys": "nobody@one.example"}.get(token.reveal())


def stream(*, certificate: bytes | None = None) -> MemoryStream:
    _, server = pipe(client=("192.0.2.9", 4000))
    server._tls = PLAYED_TLS
    server.certificate = certificate
    return server


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
@pytest.mark.parametrize(
    ("login", "token", "good"),
    [(ANN, "anns", True), ("", "anns", True), ("bob@one.example", "anns", False),
     (ANN, "nobodys", False), (ANN, "wrong", False)],
)  # fmt: skip
def test_tokens_log_in(tmp_path: Path, mechanism: str, login: str, token: str, good: bool) -> None:
    async def run() -> None:
        async with make_site(tmp_path) as made:
            made.site.tokens = PlayedTokens()
            assert mechanism in mechanisms(made.site, stream())
            exchange = Exchange(made.site, stream(), mechanism, "s")
            first = await exchange.respond(None)
            assert first == Challenge(b"")
            message = bearer(login, token)
            if mechanism == "XOAUTH2":
                message = f"user={login}\x01auth=Bearer {token}\x01\x01".encode()
            outcome = await exchange.respond(message)
            if good:
                assert isinstance(outcome, Authenticated) and outcome.account.address == ANN
                return
            assert isinstance(outcome, Challenge)
            told = json.loads(outcome.octets)
            assert told["status"] == "invalid_token"
            assert told["openid-configuration"] == PlayedTokens.configuration
            assert await exchange.respond(b"\x01") == Rejected()

    asyncio.run(run())


def certificate_for(*addresses: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
    names = x509.SubjectAlternativeName([x509.RFC822Name(address) for address in addresses])
    built = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(7).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return built.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("addresses", "authzid", "good"),
    [
        ((ANN,), "", True),
        ((ANN,), ANN, True),
        (("ANN@one.example",), "", True),
        ((ANN,), "bob@one.example", False),
        (("nobody@one.example",), "", False),
        ((), "", False),
        ((ANN, "bob@one.example"), "", False),
        ((ANN, "bob@one.example"), ANN, True),
    ],
)
def test_certificates_log_in(
    tmp_path: Path, addresses: tuple[str, ...], authzid: str, good: bool
) -> None:
    async def run() -> None:
        async with make_site(tmp_path) as made:
            assert "EXTERNAL" not in mechanisms(made.site, stream())
            place = stream(certificate=certificate_for(*addresses))
            assert mechanisms(made.site, place)[0] == "EXTERNAL"
            exchange = Exchange(made.site, place, "EXTERNAL", "s")
            outcome = await exchange.respond(authzid.encode())
            assert isinstance(outcome, Authenticated) is good
            if isinstance(outcome, Authenticated):
                assert outcome.account.address == ANN

    asyncio.run(run())
