"""postroad annotation list | set | remove"""

from __future__ import annotations

import click

from postroad.app.terminal import (
    config_option,
    example,
    json_option,
    print_json,
    print_table,
    run,
)


@click.group(name="annotation")
def command() -> None:
    """What mail programs are told of the server (IMAP METADATA)."""


@command.command(name="list", epilog=example("postroad annotation list"))
@json_option
@config_option
def list_(as_json: bool, config_file: str | None) -> None:
    """List what is noted of the server."""
    from postroad.admin import sharing
    from postroad.app.connect import books_of, configured

    async def work() -> dict[str, str]:
        async with books_of(configured(config_file)) as books:
            return sharing.list_annotations(books)

    found = run(work())
    if as_json:
        print_json(found)
        return
    print_table(
        ("ENTRY", "VALUE"),
        list(found.items()),
        'Nothing is noted. Note: postroad annotation set /shared/comment "Closed on Sunday"',
    )


@command.command(
    name="set",
    epilog=example(
        'postroad annotation set /shared/comment "Closed on Sunday"\n'
        "postroad annotation set /shared/admin mailto:help@one.example"
    ),
)
@click.argument("entry")
@click.argument("value")
@config_option
def set_(entry: str, value: str, config_file: str | None) -> None:
    """Set an entry. /shared/admin says how to reach you; else it is postmaster of each domain."""
    _change(entry, value, config_file)
    click.echo(f"Set {entry}.", err=True)


@command.command(epilog=example("postroad annotation remove /shared/comment"))
@click.argument("entry")
@config_option
def remove(entry: str, config_file: str | None) -> None:
    """Remove an entry."""
    _change(entry, None, config_file)
    click.echo(f"Removed {entry}.", err=True)


def _change(entry: str, value: str | None, config_file: str | None) -> None:
    from postroad.admin import sharing
    from postroad.app.connect import books_of, configured

    async def work() -> None:
        async with books_of(configured(config_file)) as books:
            await sharing.set_annotation(books, entry, value)

    run(work())
