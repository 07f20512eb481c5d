"""postroad queue list | show | retry | remove"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from postroad.app.terminal import (
    config_option,
    example,
    json_option,
    neutral,
    print_json,
    print_table,
    run,
)

if TYPE_CHECKING:
    from postroad.admin.mail import QueueEntry, QueueFilter


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--deferred", is_flag=True, help="Only what was tried and put off."),
        click.option("--recipient", help="Only mail to this address."),
        click.option("--sender", help='Only mail of this sender; "" for bounces.'),
        click.option("--domain", help="Only mail to this domain."),
    ):
        command = option(command)
    return command


def _filter(
    domain: str | None, sender: str | None, recipient: str | None, deferred: bool
) -> QueueFilter:
    from postroad.admin.mail import QueueFilter

    return QueueFilter(domain=domain, sender=sender, recipient=recipient, deferred=deferred)


@click.group(name="queue")
def command() -> None:
    """Mail on its way to other servers."""


@command.command(name="list", epilog=example("postroad queue list --domain two.example --deferred"))
@filter_options
@json_option
@config_option
def list_(
    domain: str | None,
    sender: str | None,
    recipient: str | None,
    deferred: bool,
    as_json: bool,
    config_file: str | None,
) -> None:
    """List the messages in the queue, oldest first."""
    from postroad.admin import mail
    from postroad.app.connect import books_of, configured

    chosen = _filter(domain, sender, recipient, deferred)

    async def work() -> list[QueueEntry]:
        async with books_of(configured(config_file)) as books:
            return list(mail.list_queue(books, chosen))

    found = run(work())
    if as_json:
        print_json(found)
        return
    rows = [
        (
            entry.message if first else "",
            entry.accepted if first else "",
            entry.size if first else "",
            (entry.reverse_path or "<>") if first else "",
            recipient.path,
            recipient.state,
            recipient.next_attempt,
            recipient.last_reply,
        )
        for entry in found
        for first, recipient in zip(
            (True, *(False for _ in entry.recipients)), entry.recipients, strict=False
        )
    ]
    columns = ("ID", "ACCEPTED", "OCTETS", "SENDER", "RECIPIENT", "STATE", "NEXT", "LAST REPLY")
    print_table(columns, rows, "The queue is empty.")


@command.command(epilog=example("postroad queue show 1j2p3x9k4m5n6q7r"))
@click.argument("message")
@json_option
@config_option
def show(message: str, as_json: bool, config_file: str | None) -> None:
    """Show one message of the queue with every recipient."""
    from postroad.admin import mail
    from postroad.app.connect import books_of, configured

    async def work() -> QueueEntry:
        async with books_of(configured(config_file)) as books:
            return mail.find_queued(books, message)

    entry = run(work())
    if as_json:
        print_json(entry)
        return
    click.echo(f"Message    {entry.message}")
    click.echo(f"Sender     {neutral(entry.reverse_path) or '<>'}")
    click.echo(f"Octets     {entry.size}")
    click.echo(f"Accepted   {entry.accepted}")
    click.echo(f"Goes back  {entry.expires} if it cannot be delivered")
    for recipient in entry.recipients:
        path = neutral(recipient.path)
        click.echo(f"\nRecipient  {path}: {recipient.state}, tries: {recipient.tries}")
        click.echo(f"  next     {recipient.next_attempt or 'now'}")
        if recipient.last_attempt:
            click.echo(f"  last     {recipient.last_attempt} {neutral(recipient.last_remote)}")
            click.echo(f"  reply    {neutral(recipient.last_reply)}")


@command.command(epilog=example("postroad queue retry --domain two.example"))
@click.argument("messages", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every message of the queue.")
@filter_options
@json_option
@config_option
def retry(
    messages: tuple[str, ...],
    everything: bool,
    domain: str | None,
    sender: str | None,
    recipient: str | None,
    deferred: bool,
    as_json: bool,
    config_file: str | None,
) -> None:
    """Try messages again now: those named, or those the options choose."""
    from postroad.admin import mail
    from postroad.app.connect import books_of, configured

    chosen = _filter(domain, sender, recipient, deferred)
    _check_choice(messages, everything, chosen)

    async def work() -> int:
        async with books_of(configured(config_file)) as books:
            named = list(messages) or None
            return await mail.retry_queued(books, named, chosen, now=datetime.now(UTC))

    count = run(work())
    if as_json:
        print_json({"recipients": count})
    else:
        click.echo(f"{count} recipients are tried again.", err=True)


@command.command(epilog=example("postroad queue remove 1j2p3x9k4m5n6q7r"))
@click.argument("messages", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every message of the queue.")
@filter_options
@json_option
@config_option
def remove(
    messages: tuple[str, ...],
    everything: bool,
    domain: str | None,
    sender: str | None,
    recipient: str | None,
    deferred: bool,
    as_json: bool,
    config_file: str | None,
) -> None:
    """Drop messages from the queue. They are lost: nobody gets a bounce."""
    from postroad.admin import mail
    from postroad.app.connect import books_of, configured

    chosen = _filter(domain, sender, recipient, deferred)
    _check_choice(messages, everything, chosen)

    async def work() -> int:
        async with books_of(configured(config_file)) as books:
            return await mail.remove_queued(books, list(messages) or None, chosen)

    count = run(work())
    if as_json:
        print_json({"recipients": count})
    else:
        click.echo(f"{count} recipients were dropped.", err=True)


def _check_choice(messages: tuple[str, ...], everything: bool, chosen: QueueFilter) -> None:
    """Exactly one way to choose: a forgotten argument must not mean everything."""
    from postroad.admin.mail import QueueFilter

    filtered = chosen != QueueFilter()
    if sum((bool(messages), everything, filtered)) != 1:
        raise click.UsageError("Name messages, or choose them by options, or say --all.")
