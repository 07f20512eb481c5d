"""What an administrative verb works on: the database and the three ways to read it."""

from __future__ import annotations

from dataclasses import dataclass

from postroad.database.contract import Database
from postroad.directory.contract import Directory
from postroad.queue.contract import Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """served: a running server does the writing."""

    database: Database
    directory: Directory
    queue: Queue
    served: bool = False
