"""postroad account encrypt on | off | status | key | rekey"""

from __future__ import annotations

import sys
import time
from pathlib import Path
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
    from postroad.admin.packs import Encryption
    from postroad.store.recoding import Converted


@click.group(name="encrypt")
def command() -> None:
    """Sealing an account's mail at rest, under a key of its own."""


@command.command(epilog=example("postroad account encrypt on ann@one.example"))
@click.argument("address")
@config_option
def on(address: str, config_file: str | None) -> None:
    """Seal the mail of an account: what is there, and what comes.

    May be stopped and said again. Old octets stay in the packs as garbage until those are
    rewritten: `postroad packs compact --below 100` does it, an hour after the server last added
    to them.
    """
    done = _convert(address, True, config_file)
    click.echo(f"Sealed {address}: {done.rows} messages.", err=True)
    _tell_unreadable(done)


@command.command(epilog=example("postroad account encrypt off ann@one.example"))
@click.argument("address")
@config_option
def off(address: str, config_file: str | None) -> None:
    """Open the mail of an account again."""
    done = _convert(address, False, config_file)
    click.echo(f"Opened {address}: {done.rows} messages.", err=True)
    _tell_unreadable(done)


def _convert(address: str, sealed: bool, config_file: str | None) -> Converted:
    from postroad.admin import packs
    from postroad.app.connect import books_of, configured
    from postroad.app.master_key import demand_keys, demand_served_key

    config = configured(config_file)

    def progress(at: int, end: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{at * 100 // max(end, 1)} %", nl=False, err=True)

    async def work() -> Converted:
        async with books_of(config) as books:
            if not sealed:
                packs.demand_encrypted(books, address)
            keys = demand_keys(config.storage.master_key, books.database)
            if books.served:
                demand_served_key(config.data_dir, config.storage.master_key)
            return await packs.encrypt_account(
                books,
                config.data_dir,
                keys,
                address,
                sealed=sealed,
                now=int(time.time()),
                progress=progress,
            )

    done = run(work())
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    return done


def _tell_unreadable(done: Converted) -> None:
    if done.unreadable:
        lines = [f"content {heap} stays as it is: {why}" for heap, why in done.unreadable]
        raise Failure("\n".join(lines))


@command.command(epilog=example("postroad account encrypt status"))
@json_option
@config_option
def status(as_json: bool, config_file: str | None) -> None:
    """List accounts that are, or once were, encrypted."""
    from postroad.admin import packs
    from postroad.app.connect import books_of, configured

    async def work() -> list[Encryption]:
        async with books_of(configured(config_file)) as books:
            return packs.list_encrypted(books)

    found = run(work())
    if as_json:
        print_json(found)
        return
    print_table(
        ("ADDRESS", "STATE"),
        [(item.address, item.state) for item in found],
        "No account is encrypted.",
    )


@command.command(epilog=example("postroad account encrypt key /etc/postroad/master.key"))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def key(file: Path) -> None:
    """Make a master key in FILE, for its owner alone. Overwrites nothing.

    Name it as [storage] master_key. Keep a copy in a safe place, apart from backups of the mail:
    without it the mail of encrypted accounts is lost.
    """
    from postroad.app.master_key import make_master_key
    from postroad.app.terminal import CONFLICT, failures

    with failures():
        try:
            make_master_key(file)
        except FileExistsError as error:
            raise Failure(f"{file} exists already, and was not changed", CONFLICT) from error
    click.echo(f"Made {file}. Now set in the configuration:\n", err=True)
    click.echo(f'[storage]\nmaster_key = "{file.resolve()}"')


@command.command(epilog=example("postroad account encrypt rekey /etc/postroad/new.key"))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@config_option
def rekey(file: Path, config_file: str | None) -> None:
    """Put the accounts' keys under the master key in FILE, while the server is stopped.

    The configured key is the old one. Mail stays as it is; backups made before need the old key.
    """
    from postroad.admin import packs
    from postroad.app.connect import books_of, configured
    from postroad.app.master_key import demand_master_key

    config = configured(config_file)
    old = demand_master_key(config.storage.master_key)
    new = demand_master_key(str(file))

    async def work() -> int:
        async with books_of(config) as books:
            return await packs.change_master_key(books, old, new)

    count = run(work())
    click.echo(f"{count} accounts are under the new key. Now set in the configuration:\n", err=True)
    click.echo(f'[storage]\nmaster_key = "{file.resolve()}"')
