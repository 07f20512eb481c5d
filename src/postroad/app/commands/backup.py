"""postroad backup take | list | verify | prune"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from postroad.app.terminal import (
    FAILED,
    Failure,
    config_option,
    date_text,
    example,
    failures,
    json_option,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from postroad.admin.backup.repository import Backup
    from postroad.admin.backup.taking import Belongings
    from postroad.app.config import Config

_REPOSITORY = click.argument("repository", type=click.Path(path_type=Path, file_okay=False))


@click.group(name="backup")
def command() -> None:
    """Copies of everything, taken while the server runs; see also: postroad restore."""


@command.command(epilog=example("postroad backup take /backup/mail -c mail/postroad.toml"))
@_REPOSITORY
@click.option("--link", is_flag=True, help="Big messages by hard link, on the same file system.")
@click.option(
    "--master-key",
    "with_master_key",
    is_flag=True,
    help="The master key too: whoever gets the backup can then read encrypted accounts.",
)
@json_option
@config_option
def take(
    repository: Path, link: bool, with_master_key: bool, as_json: bool, config_file: str | None
) -> None:
    """Take a backup into REPOSITORY, a directory that holds nothing else and is made if need be.

    Each backup holds the whole server as of one moment; octets of messages are kept once for all of
    them, so that only new ones are copied. Works beside the running server and without it. Killed
    at any instant, there is one more backup or none. The master key of encrypted accounts is not in
    it: keep a copy apart.
    """
    from postroad.admin.backup.repository import Repository
    from postroad.admin.backup.taking import take as take_backup
    from postroad.app.config import locate
    from postroad.app.connect import configured, demand_data
    from postroad.app.progress import Bar

    config = configured(config_file)
    demand_data(config.data_dir)
    belongings = _belongings(config, locate(config_file), with_master_key)
    with Bar(wanted=not as_json) as bar:
        made = take_backup(
            Repository.open(repository, create=True),
            config.data_dir,
            belongings,
            link=link,
            progress=bar.show,
        )
    if as_json:
        print_json(_values(made))
        return
    manifest = made.manifest
    click.echo(
        f"Backup {made.name}: {manifest.messages} messages of {manifest.accounts} accounts,"
        f" {manifest.queued} in the queue; {manifest.new_octets >> 20} MB are new."
    )
    if config.storage.master_key and not with_master_key:
        click.echo(
            "The master key is not in it: without that the mail of encrypted accounts is lost.",
            err=True,
        )


def _belongings(config: Config, file: Path, with_master_key: bool) -> Belongings:
    """Raises: UsageError when the master key is in no file."""
    from postroad.admin.backup.taking import Belongings

    key = None
    if with_master_key:
        key = Path(config.storage.master_key)
        if not config.storage.master_key or not key.is_file():
            raise click.UsageError("[storage] master_key names no file that could be copied")
    return Belongings(
        config=file,
        certificate=Path(config.tls.certificate),
        key=Path(config.tls.key),
        master_key=key,
        hostname=config.server.hostname,
    )


@command.command(name="list", epilog=example("postroad backup list /backup/mail"))
@_REPOSITORY
@json_option
def list_(repository: Path, as_json: bool) -> None:
    """List the backups in REPOSITORY, oldest first."""
    from postroad.admin.backup.repository import Repository

    with failures():
        found = Repository.open(repository).backups()
    if as_json:
        print_json([_values(backup) for backup in found])
        return
    print_table(
        ("NAME", "MADE (UTC)", "HOST", "ACCOUNTS", "MESSAGES", "QUEUED", "NEW MB"),
        [
            (
                backup.name,
                date_text(int(backup.manifest.made)),
                backup.manifest.hostname,
                backup.manifest.accounts,
                backup.manifest.messages,
                backup.manifest.queued,
                f"{backup.manifest.new_octets / (1 << 20):.1f}",
            )
            for backup in found
        ],
        "There is no backup yet.",
    )


def _values(backup: Backup) -> dict[str, Any]:
    manifest = backup.manifest
    return {
        "name": backup.name,
        "made": datetime.fromtimestamp(manifest.made, UTC).isoformat(),
        "hostname": manifest.hostname,
        "version": manifest.version,
        "tables": manifest.tables,
        "accounts": manifest.accounts,
        "messages": manifest.messages,
        "queued": manifest.queued,
        "new_octets": manifest.new_octets,
        "has_master_key": manifest.has_master_key,
    }


@command.command(epilog=example("postroad backup verify /backup/mail"))
@_REPOSITORY
@click.option("--backup", "name", default="", metavar="NAME", help="This one; else the newest.")
@click.option("--all", "everything", is_flag=True, help="Every backup.")
@json_option
def verify(repository: Path, name: str, everything: bool, as_json: bool) -> None:
    """Read a backup to its last octet, and check every checksum, reference and counter of it.

    Exit code 1 when something is wrong. Needs room for a copy of its database.
    """
    from postroad.admin.backup.checking import verify as check
    from postroad.admin.backup.repository import Repository
    from postroad.app.progress import Bar

    told: dict[str, Any] = {}
    with failures():
        opened = Repository.open(repository)
        chosen = opened.backups() if everything and not name else [opened.find(name)]
        with opened.locked(shared=True), Bar(wanted=not as_json) as bar:
            for backup in chosen:
                total = backup.manifest.messages + backup.manifest.queued

                def show(step: str, count: int, name: str = backup.name, most: int = total) -> None:
                    bar.show(f"{name}: {step}", count, most if step == "blobs" else -1)

                told[backup.name] = list(check(opened, backup, show))
    if as_json:
        print_json(told)
    for found, findings in told.items():
        if not as_json:
            for finding in findings:
                click.echo(f"{found}: {finding.kind}: {finding.where}: {finding.text}")
            if not findings:
                click.echo(f"{found}: all is whole.")
    count = sum(map(len, told.values()))
    if count:
        raise Failure(f"{count} things are not as they must be", FAILED)


@command.command(epilog=example("postroad backup prune /backup/mail --keep 14"))
@_REPOSITORY
@click.option("--keep", type=click.IntRange(min=1), required=True, help="How many of the newest.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def prune(repository: Path, keep: int, yes: bool, as_json: bool) -> None:
    """Remove old backups, and the octets that only they named."""
    from postroad.admin.backup.repository import Repository

    with failures():
        opened = Repository.open(repository)
        gone = max(len(opened.backups()) - keep, 0)
        if gone and not yes and sys.stdin.isatty():
            click.confirm(f"Remove {gone} backups?", abort=True, err=True)
        with opened.locked():
            names, freed = opened.prune(keep)
    if as_json:
        print_json({"removed": names, "freed": freed, "at": int(time.time())})
    else:
        click.echo(f"{len(names)} backups removed, {freed >> 20} MB are free again.")
