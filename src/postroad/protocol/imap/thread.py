"""THREAD and UID THREAD.

Source: RFC 5256 §3, §5; draft-ietf-morg-inthread-01 (REFS).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.commands import Command
from postroad.protocol.imap.scanner import Scanner
from postroad.protocol.imap.search_program import Criteria, parse_sorted_program


class Algorithm(Enum):
    ORDEREDSUBJECT = b"ORDEREDSUBJECT"
    REFERENCES = b"REFERENCES"
    REFS = b"REFS"


@dataclass(frozen=True, slots=True)
class Thread(Command):
    uid: bool
    algorithm: Algorithm
    criteria: Criteria


def parse_thread(tag: bytes, scan: Scanner, uid: bool) -> Thread:
    scan.space()
    try:
        algorithm = Algorithm(scan.word("A threading algorithm"))
    except ValueError as error:
        raise ProtocolError("The threading algorithm is not known") from error
    scan.space()
    return Thread(tag, uid, algorithm, parse_sorted_program(scan))
