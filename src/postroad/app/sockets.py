"""Binding every port before anything else, and giving up root afterwards."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from postroad.app.config import Config
from postroad.net.listener import bind

Sockets = list[tuple[str, socket.socket]]
"""Service name and its listening socket; several per service where there are several addresses."""


class CannotStart(Exception):
    """The server does not start; the text says what to do."""


def bind_all(config: Config, sets: int) -> list[Sockets]:
    """`sets` sets of sockets on the same ports, one for each worker: connections are dealt out by
    the kernel (SO_REUSEPORT), and wait in their backlog while a worker is started again.

    Raises: CannotStart.
    """
    made: list[Sockets] = [[] for _ in range(sets)]
    try:
        addresses = _present(config.listen.addresses)
        for name, port in config.ports().items():
            for address in addresses:
                _probe(name, address, port)
                for sockets in made:
                    sockets.append((name, bind(address, port, reuse_port=sets > 1)))
    except OSError as error:
        close_all(made)
        raise CannotStart(_advice(error, config)) from error
    except CannotStart:
        close_all(made)
        raise
    return made


def _present(addresses: Sequence[str]) -> list[str]:
    """Without "::" where the system has no IPv6: all of none. Other addresses must be there."""
    others = [address for address in addresses if address != "::"]
    if len(others) == len(addresses) or not others or _has_ipv6():
        return list(addresses)
    return others


def _has_ipv6() -> bool:
    try:
        bind("::", 0).close()
    except OSError:
        return False
    return True


def _probe(name: str, address: str, port: int) -> None:
    """Two servers of the same user may share a port by SO_REUSEPORT without noticing: ask first
    without it."""
    try:
        bind(address, port).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"{name}: port {port} on {address} is in use. Which program has it: "
                f"ss -ltnp 'sport = :{port}'. Stop that one, or set another [listen] {name} or "
                "port_offset"
            ) from error
        raise


def _advice(error: OSError, config: Config) -> str:
    text = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{text}. Ports below 1024 need root or CAP_NET_BIND_SERVICE; or set [listen] "
            "port_offset = 10000"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{text}. [listen] addresses names an address that this machine does not have"
    if error.errno == errno.EAFNOSUPPORT:
        return f'{text}. This machine has no IPv6: take "::" out of [listen] addresses'
    return text


def close_all(sets: Iterable[Sockets]) -> None:
    for sockets in sets:
        for _, sock in sockets:
            sock.close()


def drop_privileges(config: Config, prepare: Callable[[], None] | None = None) -> None:
    """As root, becomes [server] user for good; otherwise does nothing.

    prepare: called just before, for what that user may not read.
    Raises: CannotStart.
    """
    if os.geteuid() != 0:
        return
    name = config.server.user
    if not name:
        raise CannotStart(
            "started as root, and [server] user is not set. Make a user and give it the data: "
            f"useradd --system postroad && chown -R postroad {config.data_dir}, then set "
            '[server] user = "postroad" (or "root", if it really shall stay root)'
        )
    try:
        user = pwd.getpwnam(name)
        group = grp.getgrnam(config.server.group).gr_gid if config.server.group else user.pw_gid
    except KeyError as error:
        raise CannotStart(f"[server] user or group: {error.args[0]}") from error
    if user.pw_uid == 0:
        return
    _demand_owner(config.data_dir, user)
    if prepare is not None:
        prepare()
    os.initgroups(name, group)
    os.setgid(group)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = user.pw_dir
    if os.geteuid() == 0 or os.getuid() == 0:
        raise CannotStart(f"could not become {name}")
    if config.workers:
        _demand_program(name)


def _demand_owner(data_dir: Path, user: pwd.struct_passwd) -> None:
    owner = data_dir.stat().st_uid
    if owner != user.pw_uid:
        raise CannotStart(
            f"{data_dir} does not belong to {user.pw_name}: chown -R {user.pw_name} {data_dir}"
        )


def _demand_program(user: str) -> None:
    """A worker that dies is replaced by a process of its own: who serves must be able to run us.

    Raises: CannotStart.
    """
    for path in (sys.executable, os.__file__, __file__):
        if not os.access(path, os.R_OK | (os.X_OK if path == sys.executable else 0)):
            raise CannotStart(
                f"{user} cannot read {path}, and could not start a new worker when one dies. "
                "Install Postroad where that user can read it (a virtual environment in /opt, made "
                "by a Python of the system), or set [server] workers = 0"
            )
