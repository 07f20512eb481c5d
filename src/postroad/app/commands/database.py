"""postroad database status | rollback"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from postroad.app.terminal import (
    config_option,
    date_text,
    example,
    json_option,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from pathlib import Path

    from postroad.database.snapshots import RolledBack


@click.group(name="database")
def command() -> None:
    """The tables: their version, copies from before upgrades, the way back."""


@command.command(epilog=example("postroad database status"))
@json_option
@config_option
def status(as_json: bool, config_file: str | None) -> None:
    """Show the version of the tables, and the copies that were made before upgrades.

    Tables are upgraded when a newer Postroad opens them for the first time, each step wholly or
    not at all; a copy is made before and kept for a week.
    """
    from postroad.app.connect import configured, demand_data
    from postroad.database.reading import Reader
    from postroad.database.schema import migrations
    from postroad.database.snapshots import snapshots

    data_dir = configured(config_file).data_dir
    demand_data(data_dir)
    reader = Reader(data_dir)
    try:
        ((version,),) = reader.execute("PRAGMA user_version")
        has = reader.first("SELECT 1 FROM sqlite_master WHERE name = 'backfill'") is not None
        rows = reader.execute("SELECT migration FROM backfill ORDER BY 1") if has else iter(())
        unfinished = [number for (number,) in rows]
    finally:
        reader.close()
    found = snapshots(data_dir)
    if as_json:
        print_json(
            {
                "version": version,
                "known": len(migrations()),
                "unfinished": unfinished,
                "snapshots": [
                    {
                        "path": str(item.path),
                        "version": item.version,
                        "octets": item.octets,
                        "made": int(item.made),
                    }
                    for item in found
                ],
            }
        )
        return
    click.echo(f"The tables have version {version}; this program knows {len(migrations())}.")
    if unfinished:
        click.echo(f"The running server is still at work on: {', '.join(map(str, unfinished))}.")
    print_table(
        ("SNAPSHOT", "VERSION", "OCTETS", "MADE"),
        [(item.path.name, item.version, item.octets, date_text(int(item.made))) for item in found],
        "There is no copy from before an upgrade.",
    )


@command.command(epilog=example("postroad database rollback --yes"))
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@config_option
def rollback(yes: bool, as_json: bool, config_file: str | None) -> None:
    """Go back to the tables as they were before the last upgrade. The server must be stopped.

    What has come since then is not in them: the newer database is put aside, not removed. Run
    the older program afterwards; this one would upgrade the tables again.
    """
    from postroad.app.connect import configured, demand_data

    data_dir = configured(config_file).data_dir
    demand_data(data_dir)
    if not yes:
        click.confirm(
            "Go back? Mail and changes since the upgrade stay only in the database put aside.",
            abort=True,
            err=True,
        )
    done = _roll_back(data_dir)
    if as_json:
        print_json({"version": done.version, "kept": str(done.kept), "lost": done.lost})
        return
    click.echo(f"The tables have version {done.version} again. Run the program that made them.")
    click.echo(f"The newer ones are in {done.kept}, with {done.lost} messages that came since.")


def _roll_back(data_dir: Path) -> RolledBack:
    """Raises: StateError, Unavailable."""
    import apsw

    from postroad.database.local import take_lock
    from postroad.database.snapshots import roll_back
    from postroad.mail.errors import Unavailable

    lock = take_lock(data_dir)
    try:
        return roll_back(data_dir)
    except apsw.Error as error:
        raise Unavailable(f"database in {data_dir}: {error}") from error
    finally:
        os.close(lock)
