"""A connection to an IMAP account elsewhere: greeting, TLS, login, commands, coming back.

Passwords go out only inside TLS, or where the caller says otherwise; SCRAM before PLAIN before
LOGIN. A connection that broke is made anew by whoever has work left.
Source: RFC 3501 §6.1, §6.2, RFC 9051 §6.2, RFC 4959 §3 (SASL-IR), RFC 8314 §3, RFC 2971 §3.1.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

from postroad.mail.errors import Disconnected, ProtocolError, TimedOut, TLSFailed, Unavailable
from postroad.mail.secret import Secret
from postroad.net.contract import Dialer, Stream
from postroad.protocol.imap.client import (
    Condition,
    Continuation,
    Data,
    IMAPClient,
    Response,
    render_string,
)
from postroad.protocol.sasl import PlainClient, ScramClient

TIMEOUT_S = 300.0
"""Of one read: a server may search a million messages before it answers."""
CONNECT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """tls: None where there is none. starttls: begins in the clear. act_as: SASL's authzid."""

    host: str
    port: int
    login: str
    password: Secret
    tls: SSLContext | None
    starttls: bool = False
    act_as: str = ""

    @property
    def name(self) -> str:
        who = f"{self.act_as}*{self.login}" if self.act_as else self.login
        return f"imap:{who}@{self.host}:{self.port}"


class Refused(Exception):
    """NO or BAD. Its text is the server's."""

    def __init__(self, condition: Condition) -> None:
        super().__init__(condition.text or condition.code.decode("ascii", "replace"))
        self.condition = condition


class Broken(Exception):
    """The connection is of no use any more: make it anew."""


class Mechanism(Protocol):
    name: str

    def initial(self) -> bytes: ...
    def respond(self, challenge: bytes) -> bytes: ...


class Remote:
    """One connection, used by one task."""

    def __init__(self, account: Account, dialer: Dialer) -> None:
        self.account = account
        self._dialer = dialer
        self._stream: Stream | None = None
        self._core = IMAPClient()
        self.capabilities: frozenset[bytes] = frozenset()

    async def connect(self) -> None:
        """Raises: Unavailable (login refused, TLS), Broken."""
        await self.close()
        self._core = IMAPClient()
        stream = self._stream = await self._dial()
        account = self.account
        try:
            if account.tls is not None and not account.starttls:
                await stream.start_tls_client(account.tls, account.host)
            greeting = await self._next()
            if not isinstance(greeting, Condition) or greeting.state == b"BYE":
                raise Broken("the server does not greet")
            self._learn(greeting)
            if account.starttls and account.tls is not None:
                await self._start_tls(stream, account.tls)
            if not self.capabilities:
                await self._ask_capabilities()
            if greeting.state != b"PREAUTH":
                await self._log_in()
            await self._ask_capabilities()
        except TLSFailed as error:
            raise Unavailable(f"TLS with {account.host}: {error}") from error
        except (Disconnected, TimedOut) as error:
            raise Broken(str(error) or "no answer") from error

    async def _dial(self) -> Stream:
        account = self.account
        try:
            found = await asyncio.get_running_loop().getaddrinfo(account.host, account.port, type=1)
        except OSError as error:
            raise Broken(f"{account.host}: {error.strerror}") from error
        last: Exception | None = None
        for *_, place in found:
            try:
                return await self._dialer.dial(
                    str(place[0]), account.port, timeout_s=CONNECT_TIMEOUT_S
                )
            except (Disconnected, TimedOut) as error:
                last = error
        raise Broken(f"{account.host} port {account.port}: {last}") from last

    async def _start_tls(self, stream: Stream, context: SSLContext) -> None:
        await self.command(b"STARTTLS")
        if not self._core.is_idle:
            raise Unavailable(f"{self.account.host} sent octets in the clear behind STARTTLS")
        await stream.start_tls_client(context, self.account.host)
        self.capabilities = frozenset()

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def log_out(self) -> None:
        """Politely; what goes wrong now does not matter."""
        if self._stream is not None:
            try:
                await self.command(b"LOGOUT", timeout_s=5.0)
            except (Broken, Refused, ProtocolError):
                pass
        await self.close()

    # -- login --------------------------------------------------------------------------------

    async def _log_in(self) -> None:
        """Raises: Unavailable."""
        known = self.capabilities
        try:
            for mechanism in self._mechanisms():
                if b"AUTH=" + mechanism.name.encode() in known:
                    await self._authenticate(mechanism)
                    return
            if self.account.act_as:
                raise Unavailable(f"{self.account.host} does not offer AUTH=PLAIN")
            if b"LOGINDISABLED" in known:
                raise Unavailable(f"{self.account.host} takes no login without TLS")
            name = render_string(self.account.login.encode(), known)
            word = render_string(self.account.password.reveal(), known)
            await self.command(*_joined([b"LOGIN "], name, [b" "], word))
        except Refused as error:
            raise Unavailable(f"{self.account.host} refuses the login: {error}") from error
        except ValueError as error:
            raise Unavailable(f"{self.account.host}: {error}") from error

    def _mechanisms(self) -> list[Mechanism]:
        account = self.account
        plain = PlainClient(account.login, account.password, account.act_as)
        if account.act_as:
            return [plain]
        made: list[Mechanism] = []
        assert self._stream is not None
        binding = self._stream.channel_binding()
        for digest in ("sha256", "sha1"):
            for bound in (binding, None) if binding else (None,):
                nonce = secrets.token_urlsafe(18).encode()
                made.append(
                    ScramClient(
                        account.login,
                        account.password,
                        nonce=nonce,
                        channel_binding=bound,
                        digest=digest,
                    )
                )
        return [*made, plain]

    async def _authenticate(self, mechanism: Mechanism) -> None:
        """Raises: Refused, Broken, ValueError."""
        line = b"AUTHENTICATE " + mechanism.name.encode()
        sent_initial = b"SASL-IR" in self.capabilities
        if sent_initial:
            line += b" " + (base64.b64encode(mechanism.initial()) or b"=")
        tag = await self._send(line)
        while True:
            event = await self._next()
            if isinstance(event, Continuation):
                try:
                    challenge = base64.b64decode(event.text, validate=True)
                except binascii.Error as error:
                    raise ValueError("the server's challenge is no base64") from error
                answer = mechanism.respond(challenge)
                await self._write(base64.b64encode(answer) + b"\r\n")
            elif isinstance(event, Condition) and event.tag == tag:
                if event.state != b"OK":
                    raise Refused(event)
                if isinstance(mechanism, ScramClient) and not mechanism.server_proven:
                    raise ValueError("the server did not prove that it knows the password")
                self._learn(event)
                return

    def _learn(self, condition: Condition) -> None:
        if condition.code == b"CAPABILITY":
            self.capabilities = frozenset(condition.arguments.upper().split())

    async def _ask_capabilities(self) -> None:
        for data in await self.gather(b"CAPABILITY"):
            if data.name == b"CAPABILITY":
                words = [value for value in data.values if isinstance(value, bytes)]
                self.capabilities = frozenset(b" ".join(words).upper().split())

    # -- commands -----------------------------------------------------------------------------

    async def gather(self, *pieces: bytes) -> list[Data]:
        """One command and its untagged data, which is small. Raises: Refused, Broken."""
        found = []
        async for event in self.stream(*pieces):
            if isinstance(event, Data):
                found.append(event)
        return found

    async def command(self, *pieces: bytes, timeout_s: float = TIMEOUT_S) -> Condition:
        """One command; what comes besides is dropped. Returns how it ended, which is OK.

        Raises: Refused, Broken.
        """
        last: Condition | None = None
        async for event in self.stream(*pieces, timeout_s=timeout_s):
            if isinstance(event, Condition) and event.tag != b"*":
                last = event
        assert last is not None
        return last

    async def stream(self, *pieces: bytes, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Response]:
        """One command and all that comes until its end, which comes too. The pieces but the first
        each wait for `+`. Raises: Refused, Broken."""
        tag = await self._send(pieces[0], end=len(pieces) == 1)
        rest: Sequence[bytes] = pieces[1:]
        while True:
            event = await self._next(timeout_s)
            if isinstance(event, Continuation) and rest:
                last = len(rest) == 1
                await self._write(rest[0] + (b"\r\n" if last else b""))
                rest = rest[1:]
                continue
            if isinstance(event, Condition):
                if event.tag == b"*" and event.state == b"BYE" and pieces[0] != b"LOGOUT":
                    raise Broken(f"the server says goodbye: {event.text}")
                if event.tag == tag:
                    if event.state != b"OK":
                        raise Refused(event)
                    yield event
                    return
            yield event

    async def begin(self, piece: bytes) -> bytes:
        """The begin of a command whose end the caller writes. Returns its tag."""
        return await self._send(piece, end=False)

    async def write(self, octets: bytes) -> None:
        await self._write(octets)

    async def next(self) -> Response:
        return await self._next()

    async def _send(self, piece: bytes, *, end: bool = True) -> bytes:
        tag = self._core.tag()
        await self._write(tag + b" " + piece + (b"\r\n" if end else b""))
        return tag

    async def _write(self, octets: bytes) -> None:
        if self._stream is None:
            raise Broken("not connected")
        try:
            await self._stream.write(octets)
        except (Disconnected, TimedOut) as error:
            raise Broken(str(error) or "no answer") from error

    async def _next(self, timeout_s: float = TIMEOUT_S) -> Response:
        while True:
            try:
                event = self._core.next_event()
            except ProtocolError as error:
                await self.close()
                raise Broken(str(error)) from error
            if event is not None:
                return event
            if self._stream is None:
                raise Broken("not connected")
            try:
                octets = await self._stream.read(timeout_s)
            except (Disconnected, TimedOut) as error:
                raise Broken(str(error) or "no answer in time") from error
            if not octets:
                raise Broken("the server closed the connection")
            self._core.receive_data(octets)


def _joined(*lists: list[bytes]) -> list[bytes]:
    """Pieces one after the other; a border is only where the server is waited for."""
    out = [b""]
    for pieces in lists:
        out[-1] += pieces[0]
        out += pieces[1:]
    return out
