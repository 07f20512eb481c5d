"""Real programs that tests drive: found, or the test is skipped by the program's name."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Skips by name where the program is not installed."""
    return pytest.mark.skipif(
        shutil.which(program, path=SBIN) is None,
        reason=f"{program} is not installed (Debian: {package})",
    )


def run(
    arguments: Sequence[str | Path],
    *,
    stdin: bytes | None = None,
    timeout_s: float = 60,
    env: dict[str, str] | None = None,
    expect: int | None = 0,
) -> subprocess.CompletedProcess[bytes]:
    """Runs a program; fails the test with what it printed when the exit code is another."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        input=stdin,
        capture_output=True,
        timeout=timeout_s,
        env={**os.environ, "PATH": SBIN, "LC_ALL": "C.UTF-8", **(env or {})},
    )
    if expect is not None:
        assert done.returncode == expect, (
            f"{arguments[0]} exited {done.returncode}\n"
            f"{done.stdout.decode(errors='replace')}\n{done.stderr.decode(errors='replace')}"
        )
    return done
