"""kill -9 within every operation on the store, at every statement: all of a unit or none of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.killing import WORKS

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("name", WORKS)
def test_killed_at_every_statement(tmp_path: Path, name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "support.killing", name, tmp_path],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert int(ended.stdout) >= 3, "it was hardly killed at all"
