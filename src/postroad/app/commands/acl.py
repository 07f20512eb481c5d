"""postroad acl list | set | remove"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from postroad.app.terminal import (
    config_option,
    example,
    json_option,
    print_json,
    print_table,
    run,
)

if TYPE_CHECKING:
    from postroad.admin.sharing import AccessEntry

RIGHTS_HELP = """\b
Rights (RFC 4314):
  l  see the mailbox            i  put messages into it
  r  read it                    t  mark messages as deleted
  s  mark messages as seen      e  expunge them
  w  set other flags            k  make mailboxes below it
  p  have mail delivered there  x  delete or rename it
  a  change who may do what"""

negative_option = click.option(
    "--negative", is_flag=True, help="The entry that takes rights away instead."
)


@click.group(name="acl", epilog=RIGHTS_HELP)
def command() -> None:
    """Who else may use a mailbox."""


@command.command(name="list", epilog=example("postroad acl list ann@one.example"))
@click.argument("owner")
@click.argument("mailbox", required=False)
@json_option
@config_option
def list_(owner: str, mailbox: str | None, as_json: bool, config_file: str | None) -> None:
    """List who may use OWNER's mailboxes, or one of them. The owner has every right."""
    from postroad.admin import sharing
    from postroad.app.connect import books_of, configured

    async def work() -> list[AccessEntry]:
        async with books_of(configured(config_file)) as books:
            return sharing.list_access(books, owner, mailbox)

    found = run(work())
    if as_json:
        print_json(found)
        return
    print_table(
        ("MAILBOX", "WHO", "RIGHTS"),
        [
            (entry.mailbox, entry.who, f"not {entry.rights}" if entry.negative else entry.rights)
            for entry in found
        ],
        "Nothing is shared. Share: postroad acl set ann@example.org INBOX bob@example.org lrs",
    )


@command.command(
    name="set",
    epilog=example(
        "postroad acl set ann@one.example Projects bob@one.example lrswit\n"
        "postroad acl set ann@one.example Projects anyone lr\n"
        "postroad acl set ann@one.example Projects bob@one.example p --add"
    )
    + "\n\n"
    + RIGHTS_HELP,
)
@click.argument("owner")
@click.argument("mailbox")
@click.argument("who")
@click.argument("rights")
@click.option("--add", is_flag=True, help="Add to the rights that there are.")
@click.option("--take", is_flag=True, help="Take from the rights that there are.")
@negative_option
@config_option
def set_(
    owner: str,
    mailbox: str,
    who: str,
    rights: str,
    add: bool,
    take: bool,
    negative: bool,
    config_file: str | None,
) -> None:
    """Set what WHO may do in OWNER's MAILBOX: an address, or `anyone` for all of the tenant."""
    from postroad.admin import sharing
    from postroad.app.connect import books_of, configured
    from postroad.store.values import FlagMode

    if add and take:
        raise click.UsageError("--add and --take exclude each other.")
    mode = FlagMode.ADD if add else FlagMode.REMOVE if take else FlagMode.REPLACE

    async def work() -> None:
        async with books_of(configured(config_file)) as books:
            await sharing.set_access(
                books, owner, mailbox, who, rights, mode=mode, negative=negative
            )

    run(work())
    click.echo(f"Set the rights of {who} on {mailbox} of {owner}.", err=True)


@command.command(epilog=example("postroad acl remove ann@one.example Projects bob@one.example"))
@click.argument("owner")
@click.argument("mailbox")
@click.argument("who")
@negative_option
@config_option
def remove(owner: str, mailbox: str, who: str, negative: bool, config_file: str | None) -> None:
    """Remove the entry of WHO from OWNER's MAILBOX."""
    from postroad.admin import sharing
    from postroad.app.connect import books_of, configured

    async def work() -> None:
        async with books_of(configured(config_file)) as books:
            await sharing.set_access(books, owner, mailbox, who, "", negative=negative)

    run(work())
    click.echo(f"Removed {who} from {mailbox} of {owner}.", err=True)
