"""The words of SMTP command lines: paths, parameters, xtext; parsed and rendered, both ends alike.

Knows no session. Input: hostile text of bounded length; every refusal is a ValueError that names
the fault, every regular expression is free of backtracking.
Source: RFC 5321 §4.1.2 (paths), §4.1.1.11 (parameters), RFC 3461 §4 (xtext), RFC 6531 §3.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from postroad.mail.address import Address, is_domain, parse_address

_PATH = re.compile(
    r'<(?P<route>@[^:<>"\s]+:)?'
    r'(?P<mailbox>(?:[^"<>\\\s\x00-\x1f\x7f]|"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*")*)>'
)
_ROUTE = re.compile(r"@[^,@:]+(?:,@[^,@:]+)*:\Z")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^= \x00-\x1f\x7f]+))?\Z")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")
_HEX = re.compile(rb"\+([0-9A-F]{2})")
_HELO = re.compile(r"[A-Za-z0-9\-._]{1,255}\Z")
_LITERAL = re.compile(r"\[[\x21-\x5a\x5e-\x7e]{1,253}\]\Z")
_ADDR_TYPE = re.compile(r"[A-Za-z0-9-]+\Z")
_UTF8_ADDR = re.compile(
    r"(?:[!-*,-<>-\[\]-~\u0080-\U0010ffff]|\\x\{[0-9A-F]{1,6}\}|\+[0-9A-F]{2})*\Z"
)

POSTMASTER = "postmaster"
"""The one forward-path without a domain (RFC 5321 §4.1.1.3)."""


def _split_path(text: str) -> tuple[str, str]:
    """The mailbox inside the angle brackets, and what stands behind them."""
    match = _PATH.match(text)
    if match is None:
        raise ValueError("a path is <local@domain>")
    route, mailbox = match["route"], match["mailbox"]
    if route is not None and (not mailbox or _ROUTE.match(route) is None):
        raise ValueError("the source route is malformed")  # else ignored: RFC 5321 §4.1.1.3
    rest = text[match.end() :]
    if rest and not rest.startswith(" "):
        raise ValueError("a space separates the path from its parameters")
    return mailbox, rest.strip(" ")


def parse_reverse_path(text: str) -> tuple[Address | None, str]:
    """From `<local@domain> PARAMETERS`: the address (None for `<>`) and the parameters' text.

    Raises: ValueError.
    """
    mailbox, rest = _split_path(text)
    return (parse_address(mailbox) if mailbox else None), rest


def parse_forward_path(text: str, hostname: str) -> tuple[Address, str]:
    """As `parse_reverse_path`; `<Postmaster>` is completed with `hostname`.

    Raises: ValueError, also for the null path.
    Source: RFC 5321 §4.1.1.3, §4.5.1.
    """
    mailbox, rest = _split_path(text)
    if not mailbox:
        raise ValueError("a forward-path is not empty")
    if mailbox.lower() == POSTMASTER:
        return Address(mailbox, hostname), rest
    return parse_address(mailbox), rest


def render_path(address: Address | None) -> str:
    """`<local@domain>`, or `<>` for the null reverse-path."""
    return f"<{address}>" if address is not None else "<>"


def parse_parameters(text: str) -> dict[str, str | None]:
    """From `KEY=value KEY ...`; keys in upper case.

    Raises: ValueError for bad syntax or a key given twice.
    Source: RFC 5321 §4.1.2 (esmtp-param).
    """
    found: dict[str, str | None] = {}
    for word in text.split():
        match = _PARAMETER.match(word)
        if match is None:
            raise ValueError(f"the parameter {word[:40]!r} is malformed")
        key = match[1].upper()
        if key in found:
            raise ValueError(f"the parameter {key} is given twice")
        found[key] = match[2]
    return found


def render_parameters(parameters: Iterable[tuple[str, str | None]]) -> str:
    """With a leading space before each, to stand behind a path."""
    return "".join(f" {key}" if value is None else f" {key}={value}" for key, value in parameters)


def parse_xtext(text: str) -> bytes:
    """The octets that xtext stands for. Raises: ValueError. Source: RFC 3461 §4."""
    if _XTEXT.match(text) is None:
        raise ValueError("not xtext")
    return _HEX.sub(lambda match: bytes((int(match[1], 16),)), text.encode("ascii"))


def render_xtext(octets: bytes) -> str:
    """Source: RFC 3461 §4."""
    return "".join(
        chr(octet) if 0x21 <= octet <= 0x7E and octet not in b"+=" else f"+{octet:02X}"
        for octet in octets
    )


def check_orcpt(value: str) -> None:
    """Raises: ValueError unless `value` is an `addr-type;encoded-address`.

    Source: RFC 3461 §4.2; RFC 6533 §3 (utf-8 addresses).
    """
    kind, semicolon, address = value.partition(";")
    if not semicolon or not address or _ADDR_TYPE.match(kind) is None:
        raise ValueError("ORCPT is addr-type;xtext")
    if kind.lower() == "utf-8":
        if _UTF8_ADDR.match(address) is None:
            raise ValueError("ORCPT holds no utf-8 address")
    else:
        parse_xtext(address)


def is_helo_name(text: str) -> bool:
    """Whether `text` may stand behind HELO or EHLO. U-labels must be such as IDNA carries: else
    control and direction characters would stand in trace fields.

    Departs: RFC 5321 §4.1.1.1 wants a domain or an address literal; underscores and bare names are
    let through, as real clients send them.
    """
    if text.startswith("["):
        return _LITERAL.match(text) is not None
    return _HELO.match(text) is not None or is_domain(text)
