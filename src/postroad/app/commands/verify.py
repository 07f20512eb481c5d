"""postroad verify"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from postroad.app.terminal import FAILED, Failure, config_option, example, json_option, print_json

if TYPE_CHECKING:
    from pathlib import Path

    from postroad.store.checks import Finding
    from postroad.store.repair import Repair

BAR_CELLS = 30


@click.command(
    name="verify",
    epilog=example("postroad verify -c mail/postroad.toml\npostroad verify --repair"),
)
@click.option("--repair", is_flag=True, help="Mend what can be mended. The server must be stopped.")
@json_option
@config_option
def command(repair: bool, as_json: bool, config_file: str | None) -> None:
    """Check every checksum, reference, counter and index of the stored mail and the queue.

    Reads beside the running server. Exit code 1 when something is wrong. --repair copies the
    database first, then mends: counters are counted anew, indexes made again, messages that had
    lost their mailbox come into Recovered. Messages whose octets are gone are taken out; what is
    left of them, and a report, lie beside the copy in DATA/repairs.
    """
    from postroad.app.connect import configured, demand_data

    data_dir = configured(config_file).data_dir
    demand_data(data_dir)
    shown = _Shown(data_dir, sys.stderr.isatty() and not as_json)
    if repair:
        from postroad.store.repair import repair as mend

        made = mend(data_dir, int(datetime.now(UTC).timestamp()), shown.progress)
        shown.end()
        _tell_repair(made, as_json)
        return
    from postroad.store.verify import verify

    found = list(verify(data_dir, shown.progress))
    shown.end()
    if as_json:
        print_json({"checked": shown.steps, "findings": found})
    else:
        _tell(found)
    if found:
        raise Failure(f"{len(found)} things are not as they must be", FAILED)
    if not as_json:
        click.echo(f"All is whole: {', '.join(shown.steps)}.")


class _Shown:
    """How far it has come, on a terminal."""

    def __init__(self, data_dir: Path, on_terminal: bool) -> None:
        self.steps: list[str] = []
        self._on_terminal = on_terminal
        self._blobs = _count_blobs(data_dir) if on_terminal else 0

    def progress(self, step: str, count: int) -> None:
        if step not in self.steps:
            self.steps.append(step)
        if not self._on_terminal:
            return
        text = f"{step} {count or ''}"
        if step == "blobs" and self._blobs:
            share = min(count / self._blobs, 1)
            bar = "#" * round(share * BAR_CELLS)
            text = f"blobs [{bar:<{BAR_CELLS}}] {share:4.0%} {count} of {self._blobs}"
        click.echo(f"\r\x1b[K{text}", nl=False, err=True)

    def end(self) -> None:
        if self._on_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


def _count_blobs(data_dir: Path) -> int:
    from postroad.database.reading import Reader

    reader = Reader(data_dir)
    try:
        row = reader.first(
            "SELECT (SELECT count(*) FROM content) + (SELECT count(*) FROM queue_message)"
        )
        return int(row[0]) if row else 0
    finally:
        reader.close()


def _tell(found: list[Finding]) -> None:
    for finding in found:
        click.echo(f"{finding.kind}: {finding.where}: {finding.text}")


def _tell_repair(made: Repair, as_json: bool) -> None:
    if as_json:
        told: dict[str, Any] = {
            "found": made.found,
            "done": made.done,
            "taken": made.taken,
            "left": made.left,
            "folder": str(made.folder) if made.folder else None,
        }
        print_json(told)
    elif not made.found:
        click.echo("All is whole; nothing was changed.")
    else:
        _tell(made.found)
        for text in made.done:
            click.echo(f"mended: {text}")
        for item in made.left:
            click.echo(f"left: {item.kind}: {item.where}: {item.text}")
        click.echo(f"The database as it was, and a report: {made.folder}", err=True)
    if made.left:
        raise Failure(f"{len(made.left)} things could not be mended", FAILED)
