"""The trace fields a server puts on top: Received and Return-Path; and counting hops.

What a peer said (its greeting, a name from DNS) is written only where it cannot end a comment,
a line or the field. Lines fold at 78 octets.
Source: RFC 5321 §4.4 (syntax), §6.3 (loops), RFC 3848 (with), RFC 6531 §4.3 (UTF8 forms),
RFC 8314 §4.3 (tls), RFC 5322 §2.1.1, §3.6.7.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime

from postroad.message.dates import render_date
from postroad.message.header import Header

LINE_OCTETS_MAX = 78
_HELO_CHARACTERS_MAX = 255
_DOMAIN = re.compile(r"[A-Za-z0-9\u0080-\U0010ffff](?:[A-Za-z0-9._\-\u0080-\U0010ffff]*)\Z")
_LITERAL = re.compile(r"\[[0-9A-Za-z.:\-]{1,60}\]\Z")
_ATOM_UNSAFE = re.compile(r"[^A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-]")
_COMMENT_UNSAFE = re.compile(
    r"[^A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-:@,; \u00a1-\ud7ff\ue000-\U0010ffff]"
)
_PATH_UNSAFE = re.compile(r"[\x00-\x1f\x7f<>\ud800-\udfff]")
_REGISTERED = re.compile(r"TLS_[A-Z0-9_]{1,60}\Z")
_REGISTERED_NAMES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "DHE-RSA-AES128-GCM-SHA256": "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
    "DHE-RSA-AES256-GCM-SHA384": "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
    "DHE-RSA-CHACHA20-POLY1305": "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}
"""What OpenSSL calls the suites of TLS 1.2 that it still offers, and what IANA does."""
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_RECEIVED = b"received"


def fold(name: str, clauses: list[str]) -> bytes:
    """`name: clause clause...` with CRLF, folded between clauses at LINE_OCTETS_MAX octets.

    A clause longer than a line is cut at its own spaces; what has none stays whole.
    """
    lines: list[bytes] = []
    line = name.encode("ascii") + b":"
    for clause in clauses:
        octets = clause.encode("utf-8", "replace")
        pieces = [octets]
        if len(octets) + 1 > LINE_OCTETS_MAX:
            pieces = octets.split(b" ")
        for piece in pieces:
            if len(line) + 1 + len(piece) > LINE_OCTETS_MAX and line.strip():
                lines.append(line)
                line = b"\t" + piece
            else:
                line += b" " + piece
    lines.append(line)
    return b"\r\n".join(lines) + b"\r\n"


def protocol_name(*, esmtp: bool, tls: bool, authenticated: bool, smtputf8: bool) -> str:
    """The word after `with`: SMTP, ESMTPSA, UTF8SMTPS, ... (RFC 3848 §2, RFC 6531 §4.3)."""
    if not esmtp:
        return "SMTP"
    return ("UTF8SMTP" if smtputf8 else "ESMTP") + "S" * tls + "A" * authenticated


def _greeting(helo: str) -> str:
    """The peer's own name for itself as Extended-Domain; what is none becomes one."""
    known = _DOMAIN.match(helo) or _LITERAL.match(helo)
    if known and len(helo) <= _HELO_CHARACTERS_MAX and helo.isprintable():
        return helo
    clean = _ATOM_UNSAFE.sub("?", helo)[:_HELO_CHARACTERS_MAX].strip(".")
    return clean or "unknown"


def _literal(address: str) -> str:
    """`192.0.2.1` or `IPv6:2001:db8::1` (RFC 5321 §4.1.3); without brackets."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if parsed.version == 6:
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped is not None else f"IPv6:{parsed}"
    return str(parsed)


def _comment(text: str) -> str:
    return _COMMENT_UNSAFE.sub("?", text)[:_HELO_CHARACTERS_MAX]


def _registered_suite(tls: str) -> str | None:
    """The registered name of the cipher suite, as the tls clause wants it (RFC 8314 §4.3)."""
    cipher = tls.rpartition(" ")[2]
    return cipher if _REGISTERED.match(cipher) else _REGISTERED_NAMES.get(cipher)


def render_received(
    *,
    helo: str,
    peer_address: str,
    peer_name: str | None,
    hostname: str,
    protocol: str,
    message: str,
    tls: str | None,
    recipient: str | None,
    now: datetime,
) -> bytes:
    """One Received field with CRLF.

    helo: what the peer said in EHLO/HELO, as it said it. peer_name: its name by confirmed
    reverse DNS, or None. tls: `TLS1.3 TLS_AES_256_GCM_SHA384`, or None. recipient: only when
    there is a single one, so that none learns of the others (RFC 5321 §7.6).
    """
    literal = _literal(peer_address)
    tcp = " ".join(
        piece for piece in (_comment(peer_name) if peer_name else "", f"[{literal}]") if piece
    )
    clauses = [f"from {_greeting(helo)}"]
    if literal:
        clauses.append(f"({tcp})")
    clauses.append(f"by {_greeting(hostname)}")
    clauses.append(f"with {_ATOM_UNSAFE.sub('?', protocol) or 'SMTP'}")
    if tls:
        clauses.append(f"({_comment(tls)})")
    clauses.append(f"id {_ATOM_UNSAFE.sub('?', message) or 'none'}")
    if recipient is not None:
        clauses.append(f"for <{_PATH_UNSAFE.sub('?', recipient)}>")
    suite = _registered_suite(tls) if tls else None
    if suite is not None:
        clauses.append(f"tls {suite}")
    clauses[-1] += ";"
    if not protocol.startswith("UTF8"):  # RFC 6531 §3.7.3: UTF-8 in trace fields only then
        clauses = [_NOT_ASCII.sub("?", clause) for clause in clauses]
    clauses.append(render_date(now).decode("ascii"))
    return fold("Received", clauses)


def render_return_path(reverse_path: str) -> bytes:
    """`Return-Path: <...>` with CRLF; "" is the null reverse-path."""
    return b"Return-Path: <" + _PATH_UNSAFE.sub("?", reverse_path).encode("utf-8") + b">\r\n"


def count_received(header: Header) -> int:
    """Hops so far (RFC 5321 §6.3)."""
    return len(header.all(_RECEIVED))
