"""postroad restore"""

from __future__ import annotations

import tempfile
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
    json_option,
    print_json,
    run,
)

if TYPE_CHECKING:
    from postroad.admin.backup.repository import Backup, Repository
    from postroad.admin.backup.source import Shelf, Wanted
    from postroad.admin.transfer.report import Report
    from postroad.app.config import Config


@click.command(
    name="restore",
    epilog=example(
        "postroad restore /backup/mail --to /var/lib/postroad/again\n"
        "postroad restore /backup/mail --account ann@one.example -c mail/postroad.toml\n"
        "postroad restore /backup/mail --account ann@one.example --at 2026-11-20T12:00 --into Then"
    ),
)
@click.argument("repository", type=click.Path(exists=True, path_type=Path, file_okay=False))
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="The whole server, into this new directory.",
)
@click.option("--account", default="", metavar="ADDRESS", help="One account, into the server here.")
@click.option("--mailbox", default="", metavar="NAME", help="Only this mailbox of it.")
@click.option(
    "--message", default="", metavar="UID|ID", help="One message: UID (with --mailbox) or its ID."
)
@click.option("--into", default="", metavar="NAME", help="Copies of all, below this mailbox.")
@click.option("--create", is_flag=True, help="Make the account again if it was removed.")
@click.option("--at", default="", metavar="TIME", help="As it was then.")
@click.option("--backup", "name", default="", metavar="NAME", help="From this backup.")
@click.option(
    "--exact",
    is_flag=True,
    help="With --to: nothing came after the backup, so keep UIDs as they are.",
)
@click.option(
    "--queue",
    type=click.Choice(["hold", "drop", "keep"]),
    default="hold",
    help="With --to: mail that waited for other servers.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would come.")
@json_option
@config_option
def command(repository: Path, config_file: str | None, **options: Any) -> None:
    """Give back a whole server, an account, a mailbox or a message from a backup.

    A whole server (--to) comes into a new directory. Queued mail is held, since it may have been
    sent after the backup: `postroad queue retry` sends it, `postroad queue remove` drops it.
    An account (--account) comes back into the server here, running or not: messages that are not
    there any more come under new UIDs, nothing that is there is touched. TIME is a date, a date
    with a time (UTC), or so long ago: 90m, 12h, 3d, 2w.
    """
    from postroad.admin.backup.repository import Repository

    if bool(options["directory"]) == bool(options["account"]):
        raise click.UsageError("say --to DIRECTORY, or --account ADDRESS")
    if options["message"].isdigit() and not options["mailbox"]:
        raise click.UsageError("a UID belongs to a mailbox: name it with --mailbox")
    opened = Repository.open(repository)
    if options["directory"]:
        _whole(opened, options)
    else:
        _account(opened, config_file, options)


def _chosen(
    repository: Repository, options: dict[str, Any], *, covering: bool
) -> tuple[Backup, int]:
    """(the backup, the moment wanted or 0)"""
    from postroad.admin.undelete import parse_moment

    if not options["at"]:
        return repository.find(options["name"]), 0
    moment = parse_moment(options["at"], datetime.now(UTC))
    if options["name"]:
        return repository.find(options["name"]), moment
    return (repository.covering if covering else repository.until)(moment), moment


# -- a whole server -----------------------------------------------------------------------------


def _whole(repository: Repository, options: dict[str, Any]) -> None:
    from postroad.admin.backup.restoring import restore
    from postroad.app.progress import Bar

    backup, _ = _chosen(repository, options, covering=False)
    as_json = options["as_json"]
    if options["dry_run"]:
        _tell_dry(backup, as_json)
        return
    with Bar(wanted=not as_json) as bar:
        done = restore(
            repository,
            backup,
            options["directory"],
            now=time.time(),
            exact=options["exact"],
            queue=options["queue"],
            progress=bar.show,
        )
    if as_json:
        print_json(
            {
                "directory": str(done.directory),
                "backup": done.backup,
                "messages": done.messages,
                "queued": done.queued,
                "findings": done.findings,
            }
        )
    else:
        click.echo(
            f"{done.directory}: the server as of {date_text(int(backup.manifest.made))} UTC,"
            f" {done.messages} messages."
        )
        if done.queued:
            verb = {"hold": "are held", "drop": "were dropped", "keep": "wait"}[options["queue"]]
            click.echo(f"{done.queued} recipients of queued mail {verb}.")
        for finding in done.findings:
            click.echo(f"{finding.kind}: {finding.where}: {finding.text}", err=True)
    if done.findings:
        raise Failure(f"{len(done.findings)} things are not whole, in the backup too", FAILED)


def _tell_dry(backup: Backup, as_json: bool) -> None:
    manifest = backup.manifest
    if as_json:
        print_json({"backup": backup.name, "messages": manifest.messages, "dry_run": True})
    else:
        click.echo(
            f"Backup {backup.name} of {date_text(int(manifest.made))} UTC would come:"
            f" {manifest.messages} messages of {manifest.accounts} accounts."
        )


# -- one account --------------------------------------------------------------------------------


def _account(repository: Repository, config_file: str | None, options: dict[str, Any]) -> None:
    from postroad.admin.backup.repository import view_of
    from postroad.admin.backup.source import Wanted, opened
    from postroad.app.connect import configured
    from postroad.app.master_key import master_key
    from postroad.app.transfer_report import tell

    config = configured(config_file)
    backup, moment = _chosen(repository, options, covering=True)
    wanted = Wanted(
        at=moment,
        mailbox=options["mailbox"],
        message=options["message"],
        copies=bool(options["into"]),
    )
    with (
        repository.locked(shared=True),
        tempfile.TemporaryDirectory(prefix=".check-", dir=repository.path) as scratch,
        view_of(repository, backup, Path(scratch)) as view,
        opened(view, master_key(config.storage.master_key)) as shelf,
    ):
        report = run(_restore(config, backup, shelf, wanted, options))
    tell(report, as_json=options["as_json"], verb="come")


async def _restore(
    config: Config, backup: Backup, shelf: Shelf, wanted: Wanted, options: dict[str, Any]
) -> Report:
    from postroad.admin.backup.revive_account import revive_account
    from postroad.admin.backup.source import BackupSource
    from postroad.admin.transfer.access import access_to
    from postroad.admin.transfer.importing import Choice, Importer
    from postroad.app.connect import books_of
    from postroad.app.progress import Bar

    address = options["account"]
    choice = Choice(into=options["into"], dry=options["dry_run"], again=True, octets_max=1 << 40)
    learnt = config.storage.dictionary
    async with books_of(config) as books:
        if options["create"] and not options["dry_run"]:
            await revive_account(books, shelf, address, now=int(time.time()))
        with (
            access_to(books, config.data_dir, address, learnt=learnt) as access,
            Bar(wanted=not options["as_json"], unit="messages") as bar,
        ):
            importer = Importer(
                access.database, access.blobs, access.account, choice, progress=bar.show
            )
            source = BackupSource(
                shelf, backup, access.address, wanted, books.database, access.account
            )
            return await importer.run(source)
