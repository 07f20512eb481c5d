"""Logging in: who may, who may not, and that a stranger cannot tell which."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from postroad.directory.operations import RemoveAccount, SetPassword
from postroad.directory.passwords import hash_password
from postroad.mail.errors import ProtocolError, Unavailable
from postroad.mail.secret import Secret
from postroad.net.memory import PLAYED_TLS, MemoryStream, pipe
from postroad.protocol.sasl import Challenge, PlainClient, ScramClient
from postroad.service import authenticate
from postroad.service.authenticate import (
    Authenticated,
    Exchange,
    LoginFailed,
    LoginSucceeded,
    Rejected,
    check_password,
    login_allowed,
    mechanisms,
)
from support.sites import PASSWORD, TestSite, make_site

ANN = "ann@one.example"


def stream(
    *, peer: str = "192.0.2.9", tls: bool = True, binding: bytes | None = None
) -> MemoryStream:
    _, server = pipe(client=(peer, 4000))
    server._tls = PLAYED_TLS if tls else None
    server.binding = binding
    return server


@contextlib.asynccontextmanager
async def site(tmp_path: Path, **settings: Any) -> AsyncIterator[TestSite]:
    async with make_site(tmp_path, **settings) as made:
        yield made


@pytest.mark.parametrize(
    ("peer", "tls", "configured", "allowed"),
    [
        ("192.0.2.9", True, False, True),
        ("192.0.2.9", False, True, False),
        ("127.0.0.1", False, False, False),
        ("127.0.0.1", False, True, True),
        ("127.8.9.10", False, True, True),
        ("::1", False, True, True),
        ("fe80::1%lo", False, True, False),
        ("?", False, True, False),
    ],
)
def test_where_login_is_allowed(
    tmp_path: Path, peer: str, tls: bool, configured: bool, allowed: bool
) -> None:
    async def run() -> None:
        async with site(tmp_path, plaintext_on_loopback=configured) as made:
            place = stream(peer=peer, tls=tls)
            assert login_allowed(made.site, place) is allowed
            assert bool(mechanisms(made.site, place)) is allowed
            found = await check_password(made.site, place, ANN, Secret(PASSWORD), "s")
            assert (found is not None) is allowed
            if not allowed:
                with pytest.raises(ProtocolError):
                    Exchange(made.site, place, "PLAIN", "s")

    asyncio.run(run())


def test_what_is_offered(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path, scram_plus=True) as made:
            plain = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN")
            assert mechanisms(made.site, stream()) == plain
            bound = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS")
            assert mechanisms(made.site, stream(binding=b"x")) == (*bound, *plain)
            for name in ("SCRAM-SHA-256-PLUS", "CRAM-MD5", ""):
                with pytest.raises(ProtocolError) as caught:
                    Exchange(made.site, stream(), name, "s")
                assert str(caught.value.reply).startswith("504 5.5.4")

    asyncio.run(run())


@pytest.mark.parametrize("login", [ANN, "Ann@One.Example"])
def test_passwords(tmp_path: Path, login: str) -> None:
    async def run() -> None:
        async with site(tmp_path) as made:
            good = await check_password(made.site, stream(), login, Secret(PASSWORD), "s1")
            assert good is not None and good.address == ANN
            assert made.clock.slept == []
            for wrong in ("", "wrong", PASSWORD + " ", "\udcff".encode("utf-8", "surrogatepass")):
                bad = await check_password(made.site, stream(), login, Secret(wrong), "s2")
                assert bad is None
            assert made.clock.slept == [authenticate.FAILURE_DELAY_S] * 4
            assert [event.session for event in made.traced(LoginSucceeded)] == ["s1"]
            assert len(made.traced(LoginFailed)) == 4
            assert PASSWORD not in repr(made.events)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("login", "authzid", "password", "ends"),
    [
        (ANN, "", PASSWORD, Authenticated),
        (ANN, "ANN@one.example", PASSWORD, Authenticated),
        (ANN, "bob@one.example", PASSWORD, Rejected),
        (ANN, "nobody@one.example", PASSWORD, Rejected),
        (ANN, "", "wrong", Rejected),
        ("nobody@one.example", "", PASSWORD, Rejected),
        ("nobody", "", PASSWORD, Rejected),
    ],
)
def test_plain_and_scram_agree_on_who_may(
    tmp_path: Path, login: str, authzid: str, password: str, ends: type
) -> None:
    async def run() -> None:
        async with site(tmp_path) as made:
            plain = PlainClient(login, Secret(password), authzid)
            step = await Exchange(made.site, stream(), "plain", "s").respond(plain.initial())
            assert isinstance(step, ends)
            client = ScramClient(login, Secret(password), nonce=b"abc")
            first = client.initial()
            if authzid:
                client._binding = client._gs2 = b"n,a=" + authzid.encode() + b","
                first = client.initial()
            exchange = Exchange(made.site, stream(), "SCRAM-SHA-256", "s")
            step = await exchange.respond(first)
            assert isinstance(step, Challenge), "strangers get a challenge too"
            step = await exchange.respond(client.respond(step.octets))
            if isinstance(step, Challenge):
                client.respond(step.octets)
                assert client.server_proven
                step = await exchange.respond(b"")
            assert isinstance(step, ends)
            assert len(made.clock.slept) == (0 if ends is Authenticated else 2)

    asyncio.run(run())


def test_a_stranger_meets_the_same_exchange(tmp_path: Path) -> None:
    """RFC 5802 §9: same shape, and the same salt each time; another server gives another."""

    async def challenge(made: TestSite, login: str) -> tuple[bytes, bytes]:
        exchange = Exchange(made.site, stream(), "SCRAM-SHA-256", "s")
        step = await exchange.respond(b"n,,n=" + login.encode() + b",r=abc")
        assert isinstance(step, Challenge)
        _, salt, count = step.octets.split(b",")
        return salt, count

    async def run() -> None:
        async with site(tmp_path / "a") as made, site(tmp_path / "b") as other:
            real = await challenge(made, ANN)
            fake = await challenge(made, "nobody@one.example")
            assert (len(real[0]), real[1]) == (len(fake[0]), fake[1])
            assert await challenge(made, "Nobody@one.example") == fake
            assert await challenge(made, "else@one.example") != fake
            assert await challenge(other, "nobody@one.example") != fake

    asyncio.run(run())


def test_the_last_answer_of_scram_is_empty(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as made:
            client = ScramClient(ANN, Secret(PASSWORD), nonce=b"abc")
            exchange = Exchange(made.site, stream(), "SCRAM-SHA-256", "s")
            step = await exchange.respond(None)
            while isinstance(step, Challenge) and not client.server_proven:
                answer = client.respond(step.octets)
                if not client.server_proven:
                    step = await exchange.respond(answer)
            assert isinstance(await exchange.respond(b"something"), Rejected)

    asyncio.run(run())


def test_right_passwords_are_remembered_until_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[bytes] = []
    real = authenticate.verify_password

    def counting(argon2: Secret, password: Secret) -> bool:
        hashed.append(password.reveal())
        return real(argon2, password)

    monkeypatch.setattr(authenticate, "verify_password", counting)
    monkeypatch.setattr(authenticate, "_hashing", authenticate._Hashing())

    async def run() -> None:
        async with site(tmp_path) as made:

            async def good(password: str = PASSWORD) -> bool:
                found = await check_password(made.site, stream(), ANN, Secret(password), "s")
                return found is not None

            assert await good() and await good() and await good()
            assert len(hashed) == 1
            assert not await good("wrong") and not await good("wrong")
            assert len(hashed) == 3, "wrong ones are never remembered"
            made.clock.advance(authenticate.REMEMBERED_FOR_S + 1)
            assert await good()
            assert len(hashed) == 4
            new = hash_password(Secret("new one"), argon2_salt=b"n" * 16, scram_salt=b"m" * 16)
            await made.site.database.submit(
                SetPassword(
                    account=made.accounts[ANN],
                    argon2=new.argon2,
                    scram_sha_256=new.scram_sha_256,
                )
            )
            assert not await good()
            assert await good("new one")
            await made.site.database.submit(RemoveAccount(account=made.accounts[ANN]))
            assert not await good("new one")

    asyncio.run(run())


def test_too_many_at_once_are_deferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authenticate, "_hashing", authenticate._Hashing())
    monkeypatch.setattr(authenticate, "HASHES_WAITING_MAX", 3)

    async def run() -> None:
        async with site(tmp_path) as made:
            tries = [
                check_password(made.site, stream(), ANN, Secret(f"wrong {n}"), "s")
                for n in range(6)
            ]
            ends = await asyncio.gather(*tries, return_exceptions=True)
            assert [type(end) for end in ends].count(Unavailable) == 3
            assert ends.count(None) == 3
            assert await check_password(made.site, stream(), ANN, Secret(PASSWORD), "s")

    asyncio.run(run())


def test_a_password_of_before_gets_the_verifier_that_was_not_kept_then(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as made:
            account = made.site.directory.account(ANN)
            assert account is not None
            kept = made.site.directory.credentials(account.account)
            assert kept is not None
            await made.site.database.submit(
                SetPassword(
                    account=account.account,
                    argon2=kept.argon2.reveal().decode(),
                    scram_sha_256=kept.scram_sha_256.reveal().decode(),
                )
            )
            assert await _scram(made, "SCRAM-SHA-1") is False
            assert await check_password(made.site, stream(), ANN, Secret(PASSWORD), "s")
            assert await _scram(made, "SCRAM-SHA-1") is True
            assert await _scram(made, "SCRAM-SHA-256") is True

    asyncio.run(run())


async def _scram(made: TestSite, mechanism: str) -> bool:
    exchange = Exchange(made.site, stream(), mechanism, "s")
    digest = "sha1" if mechanism.endswith("-1") else "sha256"
    client = ScramClient(ANN, Secret(PASSWORD), nonce=b"abc", digest=digest)
    step = await exchange.respond(client.initial())
    while isinstance(step, Challenge):
        step = await exchange.respond(client.respond(step.octets))
    return isinstance(step, Authenticated)
