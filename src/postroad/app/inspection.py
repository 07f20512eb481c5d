"""What only a look at the machine can tell of a configuration: files, users, permissions."""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime
from pathlib import Path

from postroad.app.config import Config
from postroad.mail.errors import Unavailable

_RENEW_DAYS = 21
_ROOT_PORTS_BELOW = 1024


def findings(config: Config) -> tuple[list[str], list[str]]:
    """(problems: the server would not start, remarks: worth knowing)."""
    problems: list[str] = []
    remarks: list[str] = []
    _certificate(config, problems, remarks)
    _user(config, problems, remarks)
    _data(config, problems)
    if config.server.uvloop:
        from importlib.util import find_spec

        if find_spec("uvloop") is None:
            problems.append("[server] uvloop: not installed: pip install postroad[uvloop]")
    if config.delivery.port != 25:
        remarks.append(f"[delivery] port is {config.delivery.port}: mail leaves for the lab only")
    if config.auth.plaintext_on_loopback:
        remarks.append("[auth] plaintext_on_loopback: passwords travel in the clear on loopback")
    return problems, remarks


def _data(config: Config, problems: list[str]) -> None:
    from postroad.app.connect import demand_data

    try:
        demand_data(config.data_dir)
    except Unavailable as error:
        problems.append(f"[server] data_dir: {error.what}")
        return
    except OSError:
        pass  # not even looked into: the same answer
    if not os.access(config.data_dir, os.R_OK | os.W_OK | os.X_OK):
        problems.append(f"[server] data_dir: {config.data_dir} cannot be written by this user")


def _certificate(config: Config, problems: list[str], remarks: list[str]) -> None:
    from postroad.net.tls import server_context

    try:
        context = server_context(Path(config.tls.certificate), Path(config.tls.key))
    except OSError as error:
        problems.append(f"[tls] {error.filename}: {error.strerror}")
        return
    except ValueError as error:
        problems.append(f"[tls] {error}")
        return
    if context.not_after is None:
        return
    left = context.not_after - datetime.now(UTC)
    if left.total_seconds() < 0:
        problems.append(f"[tls] certificate: it ended on {context.not_after:%Y-%m-%d}")
    elif left.days < _RENEW_DAYS:
        remarks.append(f"[tls] certificate: it ends on {context.not_after:%Y-%m-%d}")


def _user(config: Config, problems: list[str], remarks: list[str]) -> None:
    privileged = any(port < _ROOT_PORTS_BELOW for port in config.ports().values())
    if config.server.user:
        try:
            pwd.getpwnam(config.server.user)
        except KeyError:
            problems.append(
                f"[server] user: there is no user {config.server.user!r}: "
                f"useradd --system {config.server.user}"
            )
    elif privileged and os.geteuid() == 0:
        problems.append(
            "[server] user: not set. Started as root, the server wants to become another user"
        )
    if privileged and os.geteuid() != 0:
        remarks.append(
            "ports below 1024 need root, or CAP_NET_BIND_SERVICE (AmbientCapabilities "
            "in a systemd unit)"
        )
