"""What came of a transfer, folder by folder, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass, field

FAULTS_MAX = 10_000
"""Listed one by one; past it they are only counted."""


@dataclass(slots=True)
class FolderReport:
    """added: new in this run. known: went before. changed: of those, how many got other flags.
    failed: could not be taken."""

    folder: str
    mailbox: str
    added: int = 0
    known: int = 0
    changed: int = 0
    failed: int = 0

    @property
    def found(self) -> int:
        return self.added + self.known + self.failed


@dataclass(frozen=True, slots=True)
class Fault:
    where: str
    reason: str


@dataclass(slots=True)
class Report:
    """remarks: of messages that went, but not as they were. verified: read back, and the same."""

    dry: bool = False
    folders: list[FolderReport] = field(default_factory=list)
    failed: list[Fault] = field(default_factory=list)
    remarks: list[Fault] = field(default_factory=list)
    verified: int = 0
    differ: list[Fault] = field(default_factory=list)
    octets: int = 0
    seconds: float = 0.0

    @property
    def added(self) -> int:
        return sum(item.added for item in self.folders)

    @property
    def failures(self) -> int:
        return sum(item.failed for item in self.folders)

    @property
    def is_whole(self) -> bool:
        return not self.failures and not self.differ

    def fail(self, folder: FolderReport, where: str, reason: str) -> None:
        folder.failed += 1
        if len(self.failed) < FAULTS_MAX:
            self.failed.append(Fault(where, reason))

    def remark(self, where: str, text: str) -> None:
        if len(self.remarks) < FAULTS_MAX:
            self.remarks.append(Fault(where, text))
