"""`python -m bench.imap`: fills mailboxes on each side, runs the rows, prints the table.

Each side runs alone, one after the other, on the same messages in the same order.
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
from rich.table import Table as RichTable

from bench.imap import load, rows
from bench.imap.rows import Figure, Table
from bench.imap.sides import fill, sides
from bench.sections import Ground

SIDES = ("postroad", "dovecot-maildir", "dovecot-mdbox")
PARTS = ("read", "change", "qresync", "pop3", "mixed", "idle")


def shown(figure: Figure | None) -> str:
    """Milliseconds (or the row's own unit), and CPU seconds behind a slash."""
    if figure is None or not figure.milliseconds:
        return figure.note if figure is not None else "-"
    value = statistics.median(figure.milliseconds)
    text = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    cpu = statistics.median(figure.cpu)
    return f"{text} / {cpu:.2f}" if cpu else text


def ratio(figures: dict[str, Figure]) -> str:
    """How many times better than the better of the others."""
    mine = figures.get("postroad")
    others = [
        statistics.median(figure.milliseconds)
        for name, figure in figures.items()
        if name != "postroad" and figure.milliseconds
    ]
    if mine is None or not mine.milliseconds or not others:
        return "-"
    own = statistics.median(mine.milliseconds)
    return f"{min(others) / own:.1f}x" if own else "-"


def markdown(title: str, table: Table, names: list[str]) -> str:
    lines = [
        f"### {title}",
        "",
        f"| what | {' | '.join(names)} | ratio |",
        f"| --- |{' --: |' * (len(names) + 1)}",
    ]
    for row, figures in table.items():
        cells = " | ".join(shown(figures.get(name)) for name in names)
        lines.append(f"| {row} | {cells} | {ratio(figures)} |")
    return "\n".join(lines) + "\n"


def measure(
    ground: Ground, options: argparse.Namespace, count: int, parts: list[str], console: Console
) -> Table:
    table: Table = {}

    def say(text: str) -> None:
        console.print(f"[dim]{text}[/dim]")

    for side in sides(ground, options.sides):
        say(f"{side.name}: filling a mailbox of {count:,}")
        if {"read", "change", "qresync"} & set(parts):
            fill(side, count)
        if "read" in parts:
            rows.read(table, side, count, options.runs, say)
        if "change" in parts:
            rows.change(table, side, say, min(count, 10_000))
        if "qresync" in parts:
            rows.resynchronise(table, side, count, say)
        if "pop3" in parts:
            rows.pop(table, side, say, 2000)
        if "mixed" in parts:
            load.mixed(table, side, say, options.sessions, options.seconds)
        if "idle" in parts:
            for connections in options.idle:
                load.idle(table, side, say, connections, tls=True)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.imap", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--messages", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--runs", type=int, default=5, help="of each warm row")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--idle", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--workers", type=int, default=2, help="of postroad; 0: all in one process")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file, too")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    console = Console(stderr=True)
    directory = Path(tempfile.mkdtemp(prefix="postroad-bench-"))
    directory.chmod(0o755)
    ground = Ground(directory, options.workers)
    if not ground.has_peers:
        console.print("dovecot and postfix are not installed, or this is not root: no peer")
    tables: dict[str, Table] = {}
    try:
        for number, count in enumerate(options.messages):
            # What does not depend on the mailbox's size is measured once.
            parts = options.parts or list(PARTS[: len(PARTS) if number == 0 else 3])
            tables[f"{count:,} messages"] = measure(ground, options, count, parts, console)
    finally:
        ground.dns.close()
        shutil.rmtree(directory, ignore_errors=True)
    texts = []
    for title, table in tables.items():
        printed = RichTable("what", *options.sides, "ratio", title=title)
        names = [name.replace("-", " ") for name in options.sides]
        for row, figures in table.items():
            printed.add_row(row, *(shown(figures.get(name)) for name in names), ratio(figures))
        Console(width=140).print(printed)
        texts.append(markdown(title, table, names))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    print(f"ms / CPU s; {now}, Python {platform.python_version()}, {options.workers} workers")
    if options.markdown:
        options.markdown.write_text("\n".join(texts), encoding="utf-8")
    if options.json:
        figures = {
            title: {
                row: {name: asdict(figure) for name, figure in by_side.items()}
                for row, by_side in table.items()
            }
            for title, table in tables.items()
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
