"""postroad index status | rebuild | drop"""

from __future__ import annotations

import sys
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
    from postroad.admin.search import IndexStatus


@click.group(name="index")
def command() -> None:
    """The search index: without it every answer is the same, later."""


@command.command(epilog=example("postroad index status\npostroad index status ann@one.example"))
@click.argument("address", required=False)
@json_option
@config_option
def status(address: str | None, as_json: bool, config_file: str | None) -> None:
    """Show how much of each account is indexed.

    WAITING are messages that came since; the server takes them in soon, or when somebody
    searches. Copies are indexed once.
    """
    from postroad.admin.search import index_status
    from postroad.app.connect import books_of, configured

    async def work() -> list[IndexStatus]:
        async with books_of(configured(config_file)) as books:
            return index_status(books, address)

    found = run(work())
    if as_json:
        print_json(found)
        return
    print_table(
        ("ADDRESS", "MESSAGES", "INDEXED", "WAITING", "BLOCKS", "OCTETS"),
        [
            (item.address, item.messages, item.indexed, item.waiting, item.blocks, item.octets)
            for item in found
        ],
        "No accounts yet.",
    )


@command.command(epilog=example("postroad index rebuild ann@one.example"))
@click.argument("address", required=False)
@config_option
def rebuild(address: str | None, config_file: str | None) -> None:
    """Remove the index of an account, or of all, and build it anew.

    May be broken off: the server builds what is missing. Beside a running server, searches are
    answered meanwhile, slower.
    """
    from postroad.admin.search import rebuild_indexes
    from postroad.app.connect import books_of, configured
    from postroad.app.master_key import keys_of
    from postroad.store.blobs import BlobStore
    from postroad.store.mailboxes import MailStore

    config = configured(config_file)

    def progress(name: str, done: int, all_of_them: int) -> None:
        if sys.stderr.isatty():
            percent = done * 100 // max(all_of_them, 1)
            click.echo(f"\r\x1b[K{name} {percent} %", nl=False, err=True)

    async def work() -> int:
        async with books_of(config) as books:
            keys = keys_of(config.storage.master_key, books.database)
            blobs = BlobStore.open(config.data_dir, keys=keys)
            try:
                index = MailStore(books.database, blobs, keys).index
                return await rebuild_indexes(books, index, address, progress)
            finally:
                blobs.close()

    count = run(work())
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    click.echo(f"Indexed {count} messages.", err=True)


@command.command(epilog=example("postroad index drop ann@one.example"))
@click.argument("address", required=False)
@config_option
def drop(address: str | None, config_file: str | None) -> None:
    """Remove the index of an account, or of all.

    The server builds it anew, unless [search] index is false.
    """
    from postroad.admin.search import drop_indexes
    from postroad.app.connect import books_of, configured

    async def work() -> int:
        async with books_of(configured(config_file)) as books:
            return await drop_indexes(books, address)

    count = run(work())
    click.echo(f"Removed the index of {count} account{'s' if count != 1 else ''}.", err=True)
