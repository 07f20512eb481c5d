"""postroad domain add | list | remove | dns"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from postroad.app.terminal import (
    config_option,
    date_text,
    example,
    json_option,
    print_json,
    print_table,
    run,
)

if TYPE_CHECKING:
    from postroad.dns.records import Record


@click.group(name="domain")
def command() -> None:
    """The domains whose mail is kept here."""


@command.command(epilog=example("postroad domain add two.example -c mail/postroad.toml"))
@click.argument("name")
@json_option
@config_option
def add(name: str, as_json: bool, config_file: str | None) -> None:
    """Add a domain with fresh DKIM keys, and print the DNS records to publish."""
    from postroad.admin import operations
    from postroad.app.connect import books_of, configured
    from postroad.app.publish import print_records, records_of

    config = configured(config_file)

    async def work() -> list[Record]:
        async with books_of(config) as books:
            domain = await operations.add_domain(books, name, now=datetime.now(UTC))
            return records_of(books.directory, config, domain.name)

    records = run(work())
    if not as_json:
        click.echo(f"Added {name}. Publish these records:\n", err=True)
    print_records(records, as_json)


@command.command(name="list", epilog=example("postroad domain list --json"))
@json_option
@config_option
def list_(as_json: bool, config_file: str | None) -> None:
    """List the domains."""
    from postroad.admin import operations
    from postroad.app.connect import books_of, configured

    async def work() -> list[operations.DomainSummary]:
        async with books_of(configured(config_file)) as books:
            return operations.list_domains(books)

    found = run(work())
    if as_json:
        print_json(found)
        return
    print_table(
        ("DOMAIN", "ACCOUNTS", "ALIASES", "DKIM SELECTORS", "ADDED"),
        [
            (d.name, d.accounts, d.aliases, " ".join(d.selectors), date_text(d.created))
            for d in found
        ],
        "No domain yet. Add one: postroad domain add example.org",
    )


@command.command(epilog=example("postroad domain remove two.example"))
@click.argument("name")
@config_option
def remove(name: str, config_file: str | None) -> None:
    """Remove a domain that has no account and no alias left. Its DKIM keys go too."""
    from postroad.admin import operations
    from postroad.app.connect import books_of, configured

    async def work() -> str:
        async with books_of(configured(config_file)) as books:
            return (await operations.remove_domain(books, name)).name

    click.echo(f"Removed {run(work())}.", err=True)


@command.command(epilog=example("postroad domain dns one.example > one.example.zone"))
@click.argument("name")
@click.option("--table", is_flag=True, help="A table for people instead.")
@json_option
@config_option
def dns(name: str, table: bool, as_json: bool, config_file: str | None) -> None:
    """Print the DNS records that a domain needs, as a piece of a zone file (or a table)."""
    from postroad.admin import operations
    from postroad.app.connect import books_of, configured
    from postroad.app.publish import print_records, records_of

    config = configured(config_file)

    async def work() -> list[Record]:
        async with books_of(config) as books:
            domain = operations.find_domain(books, name)
            return records_of(books.directory, config, domain.name)

    print_records(run(work()), as_json, zone=not table, table=table)
