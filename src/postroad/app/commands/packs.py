"""postroad packs status | compact | train"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from postroad.app.terminal import (
    Failure,
    config_option,
    example,
    json_option,
    print_json,
    print_table,
    run,
)

if TYPE_CHECKING:
    from postroad.admin.packs import KnownDictionary
    from postroad.store.compaction import Compacted, PackStatus
    from postroad.store.dictionary import Trained


@click.group(name="packs")
def command() -> None:
    """The files that hold the octets of messages."""


@command.command(epilog=example("postroad packs status"))
@json_option
@config_option
def status(as_json: bool, config_file: str | None) -> None:
    """List packs, how much of each is live, and the dictionaries.

    LIVE is what messages or the queue name; the rest is what was deleted. Mail that can still be
    brought back counts as live.
    """
    from postroad.admin import packs
    from postroad.app.connect import books_of, configured

    config = configured(config_file)

    async def work() -> tuple[list[PackStatus], list[KnownDictionary]]:
        async with books_of(config) as books:
            found = list(packs.list_packs(books, config.data_dir, time.time()))
            return found, packs.list_dictionaries(config.data_dir)

    found, dictionaries = run(work())
    if as_json:
        print_json({"packs": found, "dictionaries": dictionaries})
        return
    print_table(
        ("PACK", "OCTETS", "LIVE", "SHARE", "RECORDS", ""),
        [
            (
                item.pack,
                item.octets,
                item.live,
                f"{item.live * 100 // item.octets} %" if item.octets else "-",
                item.records,
                "in use" if item.in_use else "",
            )
            for item in found
        ],
        "No packs yet: no mail.",
    )
    if dictionaries:
        click.echo()
        print_table(
            ("DICTIONARY", "ID", "OCTETS", ""),
            [
                (item.number, item.id, item.octets, "newest" if item.in_use else "")
                for item in dictionaries
            ],
            "",
        )


@command.command(epilog=example("postroad packs compact\npostroad packs compact --below 100"))
@click.option(
    "--below",
    type=click.IntRange(1, 100),
    help="Rewrite packs of which less than so many percent are live; else as configured.",
)
@click.option(
    "--age", type=click.IntRange(60), metavar="SECONDS", help="Leave packs that changed since."
)
@json_option
@config_option
def compact(below: int | None, age: int | None, as_json: bool, config_file: str | None) -> None:
    """Rewrite packs of much garbage now, beside the running server.

    Space is free once the server has removed the old files, some ten minutes later. Exit code 1
    when a record was found damaged: it stays where it is.
    """
    import msgspec

    from postroad.admin import packs
    from postroad.app.connect import books_of, configured
    from postroad.app.pack_keeping import rules_of

    config = configured(config_file)
    storage = config.storage
    if below is not None or not storage.compact_below_percent:
        storage = msgspec.structs.replace(storage, compact_below_percent=below or 60)
    if age is not None:
        storage = msgspec.structs.replace(storage, compact_age_s=age)

    async def work() -> Compacted:
        async with books_of(config) as books:
            return await packs.compact(books, config.data_dir, rules_of(storage), time.time())

    done = run(work())
    if as_json:
        print_json(done)
    else:
        click.echo(
            f"Rewrote {done.packs} packs ({done.records} records, {done.copied} octets); removed "
            f"{done.removed} ({done.freed} octets).",
            err=True,
        )
    if done.held:
        raise Failure(
            "nothing was done: a copy of the database from before an upgrade needs the packs as "
            "they are. It goes by itself after some days; see postroad database"
        )
    if done.damaged:
        raise Failure("\n".join(f"{blob}: {fault}" for blob, fault in done.damaged))


@command.command(epilog=example("postroad packs train"))
@json_option
@config_option
def train(as_json: bool, config_file: str | None) -> None:
    """Learn a compression dictionary from the mail here; new small messages use it.

    The server does so once by itself; a new one is worth it when the kind of mail has changed.
    Older ones are kept, since what was compressed with them needs them.
    """
    from postroad.admin import packs
    from postroad.app.connect import books_of, configured

    config = configured(config_file)

    async def work() -> Trained:
        async with books_of(config) as books:
            return await packs.train_dictionary(books, config.data_dir)

    made = run(work())
    if as_json:
        print_json(made)
        return
    click.echo(
        f"On messages it had not seen: ratio {made.ratio:.2f}, without it {made.plain:.2f}.",
        err=True,
    )
    if made.number:
        click.echo(f"Dictionary {made.number} is in use.", err=True)
    else:
        click.echo("It is not worth keeping: everything stays as it was.", err=True)
