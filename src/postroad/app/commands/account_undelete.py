"""postroad account undelete"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from postroad.app.terminal import (
    NOT_FOUND,
    Failure,
    config_option,
    date_text,
    example,
    json_option,
    print_json,
    print_table,
    run,
)

if TYPE_CHECKING:
    from postroad.admin.undelete import Choice, RemovedMail
    from postroad.store.undelete import RemovedMailbox, Restored

SUBJECT_LETTERS = 40


@click.command(
    name="undelete",
    epilog=example(
        "postroad account undelete ann@one.example\n"
        "postroad account undelete ann@one.example --mailbox INBOX --since 2d\n"
        "postroad account undelete ann@one.example --at 2026-11-24T10:00 --into Rescued"
    ),
)
@click.argument("address")
@click.option("--mailbox", default="", metavar="NAME", help="Only what was removed from there.")
@click.option(
    "--message",
    default="",
    metavar="UID|ID",
    help="One message: its UID (with --mailbox), or its Message-ID.",
)
@click.option("--since", default="", metavar="TIME", help="Only what was removed since then.")
@click.option(
    "--at",
    default="",
    metavar="TIME",
    help="Back to a point in time: what was there then and has been removed since.",
)
@click.option("--all", "everything", is_flag=True, help="Everything that is still kept.")
@click.option("--into", default="", metavar="NAME", help="Into this mailbox, made if need be.")
@click.option("--dry-run", is_flag=True, help="Only list what would be brought back.")
@json_option
@config_option
def command(
    address: str,
    mailbox: str,
    message: str,
    since: str,
    at: str,
    everything: bool,
    into: str,
    dry_run: bool,
    as_json: bool,
    config_file: str | None,
) -> None:
    """List what an account has removed, or bring it back.

    Without a choice (--mailbox, --message, --since, --at, --all) everything that can be brought
    back is listed and nothing done. Messages come back under new UIDs, deleted mailboxes are made
    again. TIME is a date, a date with a time (UTC), or so long ago: 90m, 12h, 3d, 2w.
    """
    from postroad.admin.undelete import Choice, parse_moment

    now = datetime.now(UTC)
    choice = Choice(
        mailbox=mailbox,
        message=message,
        since=parse_moment(since, now) if since else 0,
        at=parse_moment(at, now) if at else 0,
    )
    if everything and not choice.is_everything:
        raise click.UsageError("--all and another choice exclude each other.")
    only_list = dry_run or (choice.is_everything and not everything)
    mail, mailboxes, restored = run(
        _work(address, choice, into, only_list=only_list, now=now, config_file=config_file)
    )
    if as_json:
        print_json(
            {
                "messages": mail,
                "mailboxes": mailboxes,
                "restored": None if only_list else restored,
            }
        )
    elif only_list:
        _print_list(mail, mailboxes, wanted=not choice.is_everything)
    else:
        _print_restored(restored)
    if not mail and not mailboxes and not only_list:
        raise Failure("nothing of that is kept any more", NOT_FOUND)


async def _work(
    address: str,
    choice: Choice,
    into: str,
    *,
    only_list: bool,
    now: datetime,
    config_file: str | None,
) -> tuple[list[RemovedMail], list[RemovedMailbox], list[Restored]]:
    from postroad.admin import undelete
    from postroad.app.connect import books_of, configured

    async with books_of(configured(config_file)) as books:
        chosen = undelete.choose(books, address, choice)
        mail = list(undelete.describe(books, chosen))
        restored: list[Restored] = []
        if not only_list:
            restored = await undelete.undelete(books, chosen, into=into, now=now)
        return mail, chosen.mailboxes, restored


def _print_list(mail: list[RemovedMail], mailboxes: list[RemovedMailbox], *, wanted: bool) -> None:
    for box in mailboxes:
        click.echo(f"mailbox {box.name}, deleted {date_text(box.removed_at)}", err=True)
    nothing = "Nothing of that is kept." if wanted else "Nothing that was removed is kept."
    print_table(
        ("MAILBOX", "UID", "REMOVED", "DATE", "SIZE", "FROM", "SUBJECT", "MESSAGE-ID"),
        [
            (
                item.mailbox,
                item.uid,
                date_text(item.removed_at),
                date_text(item.internal_date),
                item.size,
                item.sender[:SUBJECT_LETTERS],
                item.subject[:SUBJECT_LETTERS],
                item.message_id,
            )
            for item in mail
        ],
        nothing,
    )


def _print_restored(restored: list[Restored]) -> None:
    counts: dict[str, int] = {}
    made: set[str] = set()
    for item in restored:
        count = sum(high - low + 1 for low, high in item.uids)
        counts[item.name] = counts.get(item.name, 0) + count
        if item.created:
            made.add(item.name)
    for name, count in counts.items():
        again = " (made again)" if name in made else ""
        click.echo(f"{name}{again}: {count} messages brought back")
