"""postroad public add | list | remove"""

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
    from postroad.admin.sharing import PublicAccount


@click.group(name="public")
def command() -> None:
    """Accounts whose mailboxes everybody finds below `Shared/`."""


@command.command(
    epilog=example(
        "postroad public add team@one.example\n"
        "postroad public add lists@one.example --name Lists --rights lrsp"
    )
)
@click.argument("address")
@click.option("--name", help="Its level below Shared/; else what stands before the @.")
@click.option("--rights", default="lrs", show_default=True, help="What everybody may do there.")
@json_option
@config_option
def add(
    address: str, name: str | None, rights: str, as_json: bool, config_file: str | None
) -> None:
    """Make an account public, or change its name and rights. It must be there already.

    All of its tenant get the rights on every mailbox it has, and on those made later. For the
    rights see `postroad acl --help`.
    """
    from postroad.admin import sharing
    from postroad.app.connect import books_of, configured

    async def work() -> PublicAccount:
        async with books_of(configured(config_file)) as books:
            return await sharing.add_public(books, address, name=name, rights=rights)

    public = run(work())
    if as_json:
        print_json(public)
    else:
        click.echo(f"{public.address} is public as Shared/{public.name}.", err=True)


@command.command(name="list", epilog=example("postroad public list"))
@json_option
@config_option
def list_(as_json: bool, config_file: str | None) -> None:
    """List the public accounts."""
    from postroad.admin import sharing
    from postroad.app.connect import books_of, configured

    async def work() -> list[PublicAccount]:
        async with books_of(configured(config_file)) as books:
            return sharing.list_public(books)

    found = run(work())
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "ACCOUNT", "RIGHTS"),
        [(f"Shared/{public.name}", public.address, public.rights) for public in found],
        "No account is public. Make one so: postroad public add team@example.org",
    )


@command.command(epilog=example("postroad public remove team@one.example"))
@click.argument("address")
@config_option
def remove(address: str, config_file: str | None) -> None:
    """Make an account a person's again. What everybody could do there ends; its mail stays."""
    from postroad.admin import sharing
    from postroad.app.connect import books_of, configured

    async def work() -> str:
        async with books_of(configured(config_file)) as books:
            return (await sharing.remove_public(books, address)).address

    click.echo(f"{run(work())} is not public any more.", err=True)
