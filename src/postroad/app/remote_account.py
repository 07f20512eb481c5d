"""An IMAP account elsewhere, as the command line names it: a URL, options, a password."""

from __future__ import annotations

import ipaddress
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click

if TYPE_CHECKING:
    from postroad.admin.transfer.remote import Account
    from postroad.admin.transfer.remote_source import RemoteSource

PORTS = {"imaps": 993, "imap": 143}


def account_of(url: str, options: dict[str, Any]) -> Account:
    """imaps://USER@HOST:PORT (TLS), imap://USER@HOST (STARTTLS; none on loopback with --insecure).

    Raises: UsageError, OSError.
    """
    from postroad.admin.transfer.remote import Account
    from postroad.mail.secret import Secret
    from postroad.net.tls import opportunistic_context, verifying_context

    parts = urlsplit(url if "://" in url else f"imaps://{url}")
    try:
        port = parts.port
    except ValueError as error:
        raise click.UsageError(f"{url}: {error}") from error
    if parts.scheme not in PORTS or not parts.hostname:
        raise click.UsageError(f"{url}: say imaps://USER@HOST or imap://USER@HOST")
    if parts.password:
        raise click.UsageError("no passwords in URLs: others would see it. Use --password-stdin")
    login = options["user"] or unquote(parts.username or "")
    if not login:
        raise click.UsageError(f"{url}: say who: imaps://USER@HOST, or --user")
    insecure = options["insecure"]
    context = opportunistic_context() if insecure else verifying_context(options["ca"])
    return Account(
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        login=login,
        password=Secret(_password(login, parts.hostname, options)),
        tls=None if insecure and parts.scheme == "imap" and _is_here(parts.hostname) else context,
        starttls=parts.scheme == "imap",
        act_as=options["act_as"],
    )


def remote_of(url: str, options: dict[str, Any]) -> RemoteSource:
    """Raises: UsageError, OSError."""
    from postroad.admin.transfer.remote_source import RemoteSource
    from postroad.net.dialer import NetDialer

    return RemoteSource(account_of(url, options), NetDialer(), virtual=options["virtual"])


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _password(login: str, host: str, options: dict[str, Any]) -> bytes:
    if options["password_file"] is not None:
        octets: bytes = options["password_file"].read_bytes()
        return octets.split(b"\n", 1)[0].rstrip(b"\r")
    if options["password_stdin"]:
        return sys.stdin.readline().rstrip("\r\n").encode()
    text: str = click.prompt(f"Password of {login} at {host}", hide_input=True, err=True)
    return text.encode()
