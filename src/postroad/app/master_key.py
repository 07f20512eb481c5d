"""Where the master key comes from: a file, a credential of systemd's, an environment variable.

It is in no table and no backup of ours. Each process reads it for itself, as the user who serves.
Source: systemd.exec(5), CREDENTIALS.
"""

from __future__ import annotations

import os
from pathlib import Path

from postroad.database.contract import Database
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.mail.secret import Secret
from postroad.store.keys import (
    Keys,
    check_master_key,
    fingerprint,
    new_master_key,
    read_master_key,
)

KEY_FILE_OCTETS_MAX = 4096
NOTE = "run/master-key"


def master_key(source: str) -> Secret | None:
    """The key that `[storage] master_key` names; None when it is empty.

    Raises: Unavailable in words for the operator.
    """
    if not source:
        return None
    try:
        return read_master_key(_octets(source))
    except OSError as error:
        raise Unavailable(
            f"[storage] master_key: {error.filename}: {error.strerror}. Nothing is lost: put the "
            "key back, readable by the server's user"
        ) from error
    except ValueError as error:
        raise Unavailable(f"[storage] master_key: {error}") from error


def _octets(source: str) -> bytes:
    """Raises: OSError, ValueError."""
    kind, colon, name = source.partition(":")
    if colon and kind == "env":
        text = os.environ.get(name, "")
        if not text:
            raise ValueError(f"the environment variable {name} is not set")
        return text.encode()
    path = Path(source)
    if colon and kind == "credential":
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            raise ValueError("systemd hands over no credentials: LoadCredential= in the unit")
        path = Path(folder) / name
    with path.open("rb") as file:
        return file.read(KEY_FILE_OCTETS_MAX)


def keys_of(source: str, database: Database) -> Keys | None:
    """The keys of this process. Raises: Unavailable."""
    master = master_key(source)
    return None if master is None else Keys(master, database)


def demand_master_key(source: str) -> Secret:
    """Raises: StateError(CANNOT), Unavailable."""
    master = master_key(source)
    if master is None:
        raise StateError(
            Fault.CANNOT,
            "there is no master key. Make one: postroad account encrypt key FILE; then name the "
            "file as [storage] master_key, and start the server anew",
        )
    return master


def demand_keys(source: str, database: Database) -> Keys:
    """For a command that seals or opens. Raises: StateError(CANNOT), Unavailable."""
    return Keys(demand_master_key(source), database)


def check_keys(source: str, database: Database) -> None:
    """At start: a key that is missing or another one stops it, before any mail is touched.

    Raises: StateError(CANNOT), Unavailable.
    """
    check_master_key(database, master_key(source))


def note_key(data_dir: Path, source: str) -> None:
    """Leaves word, for commands, of the key that this server was started with.

    Raises: Unavailable, OSError.
    """
    master = master_key(source)
    note = data_dir / NOTE
    if master is None:
        note.unlink(missing_ok=True)
    else:
        note.parent.mkdir(mode=0o700, exist_ok=True)
        note.write_text(fingerprint(master), "ascii")


def demand_served_key(data_dir: Path, source: str) -> None:
    """Before an account is encrypted beside a running server: its processes could not read what
    they have no key for. Raises: StateError(CONFLICT), Unavailable."""
    master = master_key(source)
    try:
        noted = (data_dir / NOTE).read_text("ascii")
    except FileNotFoundError:
        noted = ""
    if master is None or noted != fingerprint(master):
        raise StateError(
            Fault.CONFLICT,
            "the running server was started without this master key: start it anew, then say "
            "this again",
        )


def make_master_key(path: Path) -> None:
    """A new key file, for its owner alone, durable. Raises: FileExistsError, OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(new_master_key())
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
