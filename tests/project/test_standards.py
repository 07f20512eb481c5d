"""docs/standards.toml and the code agree: what is cited has a row, what is done is cited."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import postroad

ROOT = Path(__file__).parents[2]
STANDARDS = ROOT / "docs" / "standards.toml"
CITED = re.compile(r"RFC (\d{3,4})")


def cited() -> dict[str, set[str]]:
    """RFC number → files that cite it."""
    found: dict[str, set[str]] = {}
    for path in Path(postroad.__file__).parent.rglob("*.py"):
        for number in CITED.findall(path.read_text(encoding="utf-8")):
            found.setdefault(number, set()).add(path.name)
    return found


def rows() -> dict[str, dict[str, str]]:
    with STANDARDS.open("rb") as file:
        return {key.removeprefix("rfc"): row for key, row in tomllib.load(file).items()}


def test_every_cited_rfc_has_a_row() -> None:
    missing = {number: files for number, files in cited().items() if number not in rows()}
    assert not missing


def test_every_row_has_a_known_status() -> None:
    for number, row in rows().items():
        assert row["status"] in {"done", "partly", "later", "declined"}, number
        assert row["title"]
        if row["status"] == "declined":
            assert row.get("note"), f"RFC {number} is declined without a reason"


@pytest.mark.parametrize("status", ["done"])
def test_what_is_done_is_cited_somewhere(status: str) -> None:
    known = cited()
    silent = [number for number, row in rows().items() if row["status"] == status]
    silent = [number for number in silent if number not in known]
    assert not silent, "done, but no line of code says where"
