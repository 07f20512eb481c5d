"""postroad alias add | list | remove"""

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
    from postroad.directory.values import Alias


@click.group(name="alias")
def command() -> None:
    """Addresses that lead to others, here or elsewhere."""


@command.command(
    epilog=example("postroad alias add sales@one.example ann@one.example bob@two.example")
)
@click.argument("address")
@click.argument("targets", nargs=-1, required=True)
@json_option
@config_option
def add(address: str, targets: tuple[str, ...], as_json: bool, config_file: str | None) -> None:
    """Add an alias. An account it leads to may send as it."""
    from postroad.admin import operations
    from postroad.app.connect import books_of, configured

    async def work() -> Alias:
        async with books_of(configured(config_file)) as books:
            return await operations.add_alias(books, address, targets)

    alias = run(work())
    if as_json:
        print_json(alias)
    else:
        click.echo(f"Added {alias.address} -> {', '.join(alias.targets)}.", err=True)


@command.command(name="list", epilog=example("postroad alias list --domain one.example"))
@click.option("--domain", help="Only of this domain.")
@json_option
@config_option
def list_(domain: str | None, as_json: bool, config_file: str | None) -> None:
    """List the aliases."""
    from postroad.admin import operations
    from postroad.app.connect import books_of, configured

    async def work() -> list[Alias]:
        async with books_of(configured(config_file)) as books:
            return operations.list_aliases(books, domain)

    found = run(work())
    if as_json:
        print_json(found)
        return
    print_table(
        ("ALIAS", "LEADS TO"),
        [(alias.address, ", ".join(alias.targets)) for alias in found],
        "No alias yet. Add one: postroad alias add sales@example.org ann@example.org",
    )


@command.command(epilog=example("postroad alias remove sales@one.example"))
@click.argument("address")
@config_option
def remove(address: str, config_file: str | None) -> None:
    """Remove an alias."""
    from postroad.admin import operations
    from postroad.app.connect import books_of, configured

    async def work() -> None:
        async with books_of(configured(config_file)) as books:
            await operations.remove_alias(books, address)

    run(work())
    click.echo(f"Removed {address}.", err=True)
