"""Telling systemd (or whoever set NOTIFY_SOCKET) how the server is.

Source: sd_notify(3): one datagram of `NAME=value` lines; `@` begins an abstract socket's name.
"""

from __future__ import annotations

import os
import socket
import time


def notify(*lines: str) -> None:
    """`notify("READY=1")`. Without NOTIFY_SOCKET, or when it is gone, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(address)
            sock.send("\n".join(lines).encode())
    except OSError:
        return  # the service manager went away: not a reason to stop serving mail


def notify_reloading() -> None:
    """Type=notify-reload wants the monotonic moment beside it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
