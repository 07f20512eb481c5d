"""What an administrative verb works on: the database and the three ways to read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroad.database.contract import Database
from postroad.directory.contract import Directory
from postroad.queue.contract import Queue

if TYPE_CHECKING:
    from postroad.store.keys import Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """served: a running server does the writing. keys: of encrypted accounts, if there is a master
    key that can be read."""

    database: Database
    directory: Directory
    queue: Queue
    served: bool = False
    keys: Keys | None = None
