"""postroad import"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from postroad.app.terminal import config_option, example, json_option, run

if TYPE_CHECKING:
    from postroad.admin.transfer.places import Source
    from postroad.admin.transfer.report import Report
    from postroad.app.config import Config


@click.command(
    name="import",
    epilog=example(
        "postroad import ann@one.example /home/ann/Maildir\n"
        "postroad import ann@one.example old.mbox --into Old\n"
        "postroad import ann@one.example imaps://ann@imap.example.org --password-stdin"
    ),
)
@click.argument("address")
@click.argument("source")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["auto", "maildir", "mbox", "imap"]),
    default="auto",
    help="What SOURCE is, where it cannot be seen.",
)
@click.option("--into", default="", metavar="NAME", help="Everything below this mailbox.")
@click.option(
    "--map", "mapped", multiple=True, metavar="THERE=HERE", help="Another name for a folder."
)
@click.option("--folder", "only", multiple=True, metavar="NAME", help="Only this folder.")
@click.option(
    "--dates",
    type=click.Choice(["mtime", "name", "header"]),
    default="mtime",
    help="Where a Maildir has its dates: files' times, their names, or the Date: fields.",
)
@click.option("--dry-run", is_flag=True, help="Only count what would come.")
@json_option
@click.option("--password-stdin", is_flag=True, help="The IMAP password is the first line.")
@click.option(
    "--password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE"
)
@click.option("--user", default="", help="The IMAP login, where it is not in the URL.")
@click.option("--as", "act_as", default="", metavar="USER", help="Act as this user (SASL PLAIN).")
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Trust certificates of these authorities (PEM).",
)
@click.option("--insecure", is_flag=True, help="Do not check the certificate.")
@click.option("--virtual", is_flag=True, help="Also folders that only show others' mail (\\All).")
@config_option
def command(address: str, source: str, config_file: str | None, **options: Any) -> None:
    """Bring mail from a Maildir, mbox files or an IMAP account into the mailboxes of ADDRESS.

    SOURCE is a directory, a file, or imaps://USER@HOST[:PORT], imap://USER@HOST (STARTTLS).
    Folders, flags, keywords and dates are kept. Say it again, also after it was cut short: only
    what is new comes, nothing comes twice, and flags that were changed over there are changed here.
    Works beside the running server. Messages that cannot be taken are listed, with exit code 1.
    """
    from postroad.app.connect import configured

    config = configured(config_file)
    place = _place(source, options)
    run(_import(config, address, place, options))


def _place(source: str, options: dict[str, Any]) -> Source:
    """Raises: UsageError, OSError."""
    kind = options["kind"]
    if kind == "imap" or "://" in source:
        from postroad.app.remote_account import remote_of

        return remote_of(source, options)
    from postroad.admin.transfer.maildir import MaildirSource
    from postroad.admin.transfer.mbox import MboxSource

    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(2, "there is nothing", source)
    if kind == "auto":
        kind = "maildir" if path.is_dir() and next(path.rglob("cur"), None) else "mbox"
    return MaildirSource(path, dates=options["dates"]) if kind == "maildir" else MboxSource(path)


async def _import(config: Config, address: str, source: Source, options: dict[str, Any]) -> None:
    from postroad.admin.transfer.access import access_to
    from postroad.admin.transfer.importing import Choice, Importer
    from postroad.app.connect import books_of
    from postroad.app.progress import Bar
    from postroad.app.transfer_report import mapping, tell

    choice = Choice(
        into=options["into"],
        mapped=mapping(options["mapped"]),
        only=frozenset(options["only"]),
        octets_max=config.limits.message_octets,
        dry=options["dry_run"],
    )
    learnt = config.storage.dictionary
    report: Report
    try:
        async with books_of(config) as books:
            with (
                access_to(books, config.data_dir, address, learnt=learnt) as access,
                Bar(wanted=not options["as_json"], unit="messages") as bar,
            ):
                importer = Importer(
                    access.database, access.blobs, access.account, choice, progress=bar.show
                )
                report = await importer.run(source)
    finally:
        await source.close()
    tell(report, as_json=options["as_json"], verb="come")
