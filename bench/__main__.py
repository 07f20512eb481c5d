"""`python -m bench`: runs the sections, prints the table, keeps the figures as JSON.

Both sides run in turn in the same run; figures are medians with their spread (least to most).
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import sections
from bench.sections import Ground, Row

SECTIONS = ("startup", "accept", "outbound", "imap", "idle")


def figure(values: list[float]) -> str:
    """The median; with three runs or more its spread, too."""
    if not values:
        return "-"
    digits = 0 if statistics.median(values) >= 100 else 2
    text = f"{statistics.median(values):,.{digits}f}"
    if len(values) > 1:
        text += f" ({min(values):,.{digits}f}-{max(values):,.{digits}f})"
    return text


def markdown(rows: list[Row]) -> str:
    lines = [
        "| what | unit | postroad | postfix + dovecot | ratio |",
        "| --- | --- | --: | --: | --: |",
    ]
    for row in rows:
        ratio = row.ratio()
        shown = f"{ratio:.1f}x" if ratio is not None else "-"
        lines.append(
            f"| {row.what} | {row.unit} | {figure(row.ours)} | {figure(row.theirs)} | {shown} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3, help="of each side, in turn")
    parser.add_argument("--envelopes", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2, help="0: all in one process")
    parser.add_argument("--markdown", type=Path, help="write the table to this file, too")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown section {', '.join(sorted(unknown))}; there are: {SECTIONS}")
    chosen = options.sections or list(SECTIONS)
    console = Console(stderr=True)
    say = lambda text: console.print(f"[dim]{text}[/dim]")  # noqa: E731
    directory = Path(tempfile.mkdtemp(prefix="postroad-bench-"))
    directory.chmod(0o755)
    ground = Ground(directory, options.workers)
    if not ground.has_peers:
        console.print("postfix and dovecot are not installed, or this is not root: no peer")
    rows: list[Row] = []
    try:
        if "startup" in chosen:
            rows += sections.startup(ground, say, runs=options.runs)
        if "accept" in chosen:
            rows += sections.accept(ground, say, messages=options.messages, runs=options.runs)
        if "outbound" in chosen:
            rows += sections.outbound(ground, say, messages=options.messages, runs=options.runs)
        if "imap" in chosen:
            rows += sections.imap(ground, say, messages=options.envelopes, runs=options.runs)
        if "idle" in chosen:
            rows += sections.idle(ground, say, connections=options.connections)
    finally:
        ground.dns.close()
        shutil.rmtree(directory, ignore_errors=True)
    table = Table("what", "unit", "postroad", "postfix + dovecot", "ratio")
    for row in rows:
        ratio = row.ratio()
        shown = f"{ratio:.1f}x" if ratio is not None else "-"
        table.add_row(row.what, row.unit, figure(row.ours), figure(row.theirs), shown)
    Console(width=120).print(table)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    print(f"{now}, Python {platform.python_version()}, {options.workers} workers")
    if options.markdown:
        options.markdown.write_text(markdown(rows) + "\n", encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
