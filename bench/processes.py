"""What a tree of server processes has cost: CPU seconds, and memory as its fair share (PSS)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import psutil

TICK = os.sysconf("SC_CLK_TCK")


def tree(*pids: int) -> list[int]:
    """The processes and all their descendants that live."""
    found: list[int] = []
    for pid in pids:
        try:
            parent = psutil.Process(pid)
            found.append(pid)
            found += [child.pid for child in parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of the processes and of their children that have ended."""
    total = 0
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(stat[field]) for field in (11, 12, 13, 14))
    return total / TICK


def anonymous_octets(pids: Iterable[int]) -> int:
    """The share of the proportional set size that is no file's.

    Pages of libraries are shared with all that runs on the machine, so their share grows when
    something else ends: by megabytes while sessions are being opened.
    """
    return _proportional(pids, ("Pss_Anon:", "Pss_Shmem:"))


def pss_octets(pids: Iterable[int]) -> int:
    """Proportional set size: shared pages are counted once among those who share them."""
    return _proportional(pids, ("Pss:",))


def _proportional(pids: Iterable[int], fields: tuple[str, ...]) -> int:
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(fields):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total
