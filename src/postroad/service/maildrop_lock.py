"""The exclusive lock of a maildrop, held across all our processes.

An advisory lock on a file of the run directory: the system lets go of it when the process
that holds it dies, however it dies. Without a run directory there is one process, and a set does.
Source: RFC 1939 §4 (exclusive access), RFC 2449 §8.1.2 (IN-USE).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postroad.mail.errors import Unavailable

_held_here: set[tuple[int, int]] = set()
"""(id of the owner, account), where there is no run directory."""


class InUse(Exception):
    """Another session has the maildrop."""


@contextmanager
def maildrop_lock(run_dir: Path | None, owner: object, account: int) -> Iterator[int | None]:
    """Gives the descriptor of the lock file, where there is one: its octets are the holder's.

    owner: distinguishes servers that share this process (tests).

    Raises: InUse, Unavailable (the disk).
    """
    if run_dir is None:
        key = (id(owner), account)
        if key in _held_here:
            raise InUse
        _held_here.add(key)
        try:
            yield None
        finally:
            _held_here.discard(key)
        return
    descriptor = _open(run_dir / "pop3", f"{account:010x}")
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse from error
        yield descriptor
    finally:
        os.close(descriptor)


def _open(folder: Path, name: str) -> int:
    """The file stays when the lock goes: removing it would let two sessions lock two files."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"{folder / name}: {error.strerror}") from error
