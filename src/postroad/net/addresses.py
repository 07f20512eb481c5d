"""Socket addresses as the rest of the house sees them: plain text and a port.

Source: RFC 4291 §2.5.5.2 (IPv4-mapped), RFC 4007 §11 (scopes).
"""

from __future__ import annotations

import ipaddress


def endpoint(name: object) -> tuple[str, int]:
    """(address, port) of what getpeername gave: no scope, IPv4-mapped as IPv4."""
    if not isinstance(name, tuple) or len(name) < 2:
        return ("", 0)
    address, port = str(name[0]), int(name[1])
    if ":" in address:
        address = address.partition("%")[0]
        if address.startswith("::ffff:") and "." in address:
            address = address[7:]
    return (address, port)


def is_loopback(address: str) -> bool:
    """Whether it is this machine's own; False for what is no IP address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
