"""postroad export"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from postroad.app.terminal import config_option, example, json_option, run

if TYPE_CHECKING:
    from postroad.admin.transfer.exporting import Target
    from postroad.app.config import Config


@click.command(
    name="export",
    epilog=example(
        "postroad export ann@one.example /home/ann/Maildir\n"
        "postroad export ann@one.example /home/ann/mail --format mbox\n"
        "postroad export ann@one.example imaps://ann@imap.example.org --password-stdin"
    ),
)
@click.argument("address")
@click.argument("target")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["auto", "maildir", "mbox", "imap"]),
    default="auto",
    help="What TARGET becomes: a Maildir, unless it is a URL.",
)
@click.option("--into", default="", metavar="NAME", help="Everything below this folder there.")
@click.option("--mailbox", "only", multiple=True, metavar="NAME", help="Only this and those below.")
@click.option("--dry-run", is_flag=True, help="Only count what would go.")
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
@config_option
def command(address: str, target: str, config_file: str | None, **options: Any) -> None:
    """Bring the mail of ADDRESS into a Maildir, mbox files or an IMAP account elsewhere.

    TARGET is a directory, or imaps://USER@HOST[:PORT], imap://USER@HOST (STARTTLS). Mailboxes,
    flags, keywords and dates are kept. Say it again, also after it was cut short: only what is new
    goes. Nothing is changed here. Works beside the running server.
    """
    from postroad.app.connect import configured

    config = configured(config_file)
    run(_export(config, address, _target(target, options), options))


def _target(target: str, options: dict[str, Any]) -> Target:
    """Raises: UsageError, OSError."""
    kind = options["kind"]
    if kind == "imap" or "://" in target:
        from postroad.admin.transfer.remote_target import RemoteTarget
        from postroad.app.remote_account import account_of
        from postroad.net.dialer import NetDialer

        return RemoteTarget(account_of(target, options), NetDialer())
    from postroad.admin.transfer.maildir_target import MaildirTarget
    from postroad.admin.transfer.mbox_target import MboxTarget

    return MboxTarget(Path(target)) if kind == "mbox" else MaildirTarget(Path(target))


async def _export(config: Config, address: str, target: Target, options: dict[str, Any]) -> None:
    from postroad.admin.transfer.access import access_to
    from postroad.admin.transfer.exporting import Selection, export
    from postroad.app.connect import books_of
    from postroad.app.progress import Bar
    from postroad.app.transfer_report import tell

    selection = Selection(
        only=frozenset(options["only"]), into=options["into"], dry=options["dry_run"]
    )
    try:
        async with books_of(config) as books:
            with (
                access_to(books, config.data_dir, address) as access,
                Bar(wanted=not options["as_json"], unit="messages") as bar,
            ):
                report = await export(access, target, selection, bar.show)
    finally:
        await target.close()
    tell(report, as_json=options["as_json"], verb="gone")
